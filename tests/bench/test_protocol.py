"""What is timed, what is kept, and when it is called unstable; the clock is ours."""

from __future__ import annotations

import gc
from collections.abc import Sequence

import pytest

from edgekit.bench import protocol
from edgekit.bench.protocol import Latency, Protocol, measure


class Clock:
    """A clock that only moves when a run takes time."""

    def __init__(self, costs: Sequence[int]) -> None:
        self.nanoseconds = 0
        self.costs = list(costs)
        self.fed: list[str] = []

    def __call__(self) -> int:
        return self.nanoseconds

    def run(self, value: str) -> None:
        self.nanoseconds += self.costs[min(len(self.fed), len(self.costs) - 1)]
        self.fed.append(value)


def test_first_run_apart_and_warm_up_outside() -> None:
    """Nine milliseconds once, seven to warm up, then the figures."""
    clock = Clock([9_000_000, 7_000_000, 7_000_000, 1_000_000, 2_000_000, 3_000_000])
    latency = measure(clock.run, ["x"], Protocol(2, 3, 0), clock=clock)
    assert latency.first == 9
    assert latency.samples == (1, 2, 3)
    assert (latency.p50, latency.minimum, latency.maximum, latency.mean) == (2, 1, 3, 2)
    assert latency.provenance == "measured"


def test_real_inputs_are_cycled() -> None:
    """The first run takes the first, and the order goes on through warm-up and figures."""
    clock = Clock([1])
    measure(clock.run, ["a", "b", "c"], Protocol(1, 5, 0), clock=clock)
    assert "".join(clock.fed) == "abcabca"


def test_enough_runs_and_enough_time() -> None:
    """Ten runs of a millisecond are no half second; the time counts from after the warm-up."""
    clock = Clock([1_000_000])
    latency = measure(clock.run, ["x"], Protocol(100, 10, 0.5), clock=clock)
    assert len(latency.samples) == 500
    assert len(measure(clock.run, ["x"], Protocol(0, 700, 0.5), clock=clock).samples) == 700


def test_a_network_of_nanoseconds_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """The least time is not waited for beyond so many samples."""
    monkeypatch.setattr(protocol, "MAX_SAMPLES", 60)
    clock = Clock([1])
    assert len(measure(clock.run, ["x"], Protocol(0, 50, 1), clock=clock).samples) == 60


def test_percentiles() -> None:
    """The usual ones always, others where they are asked for."""
    clock = Clock([0, *(i * 1_000_000 for i in range(1, 102))])
    latency = measure(clock.run, ["x"], Protocol(0, 101, 0, (25.0, 99.9)), clock=clock)
    assert (latency.p50, latency.p90, latency.p99) == (51, 91, 100)
    assert [(p.percent, round(p.value, 6)) for p in latency.percentiles] == [
        (25, 26),
        (99.9, 100.9),
    ]


def test_stable_samples_are_not_warned_of() -> None:
    """Two per cent of variation is what TensorRT's tools let pass; there is no drift."""
    assert Latency.of_samples([1.0, 1.02, 1.0, 1.02]).warnings == ()


def test_variation_is_warned_of() -> None:
    """More than 2.5 %, with the figure."""
    (words,) = Latency.of_samples([1.0, 1.1, 1.0, 1.1]).warnings
    assert words == "unstable: the samples vary by 4.8% (CoV)"


def test_drift_is_warned_of() -> None:
    """A clock that sinks: the second half is slower, with its sign."""
    latency = Latency.of_samples([1.0] * 50 + [1.2] * 50)
    assert latency.drift == pytest.approx(0.2 / 1.1)
    assert any("the median moved by +18.2%" in words for words in latency.warnings)


def test_a_modelled_figure_has_no_spread() -> None:
    """One number; nothing was run."""
    latency = Latency.modelled(2.5)
    assert (latency.p50, latency.p99, latency.cov, latency.first, latency.samples) == (
        2.5,
        2.5,
        None,
        None,
        (),
    )


def test_the_collector_is_off_while_timing_and_on_afterwards() -> None:
    """Also when a run fails."""
    states = []

    def fails(value: str) -> None:
        states.append(gc.isenabled())
        raise RuntimeError(value)

    assert gc.isenabled()
    with pytest.raises(RuntimeError):
        measure(fails, ["x"], Protocol())
    assert states == [False]
    assert gc.isenabled()


def test_no_inputs() -> None:
    """There is nothing to time."""
    with pytest.raises(ValueError, match="no inputs"):
        measure(lambda value: None, [], Protocol())


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"iterations": 0}, "iterations is 0"),
        ({"iterations": 10**9}, "iterations"),
        ({"warmup": -1}, "warmup is -1"),
        ({"min_seconds": float("nan")}, "min_seconds is nan"),
        ({"percentiles": (101.0,)}, "percentiles"),
        ({"threads": 0}, "threads is 0"),
    ],
)
def test_impossible_protocols(fields: dict[str, float], words: str) -> None:
    """Refused by name."""
    with pytest.raises(ValueError, match=words):
        Protocol(**fields)  # type: ignore[arg-type]

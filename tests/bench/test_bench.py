"""What is run in which order, and which figures belong together; the runners are ours."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from edgekit.bench.bench import MismatchError, Way, bench
from edgekit.bench.boundary import BoundaryError
from edgekit.bench.dataset import spread
from edgekit.bench.protocol import Latency, Protocol
from edgekit.bench.report import Report
from edgekit.bench.runners.base import Array, Cost, Inputs, Runner
from edgekit.bench.samples import Samples
from edgekit.bench.subject import Port
from tests.bench.test_subject import SUBJECT

X = Port("x", "int8", (1,), None, 0, 1, 1.0, 0)
Y = Port("y", "int8", (2,), None, 1, 2, 1.0, 0)
NETWORK = replace(SUBJECT, inputs=(X,), outputs=(Y,))
VECTORS = {"input/x": np.array([[7]], np.int8), "output/y": np.array([[1, 0]], np.int8)}
PROTOCOL = Protocol(warmup=1, iterations=2, min_seconds=0)
COUNT = 150


class Ours(Runner):
    """Answers class 0 for inputs below a bound, else class 1.

    Args:
        log: what was done, in order.
        bound: of the inputs.
        precision: that it is in.
        simulated: whether it is an emulator.
    """

    name, version, kernels, is_exact = "c", "1", "none", True

    def __init__(
        self, log: list[str], bound: int, *, precision: str = "int8", simulated: bool = False
    ) -> None:
        super().__init__([X], [Y], precision=precision)
        self.log, self.bound, self.is_simulated = log, bound, simulated
        self.log.append("open")

    def prepare(self, inputs: Inputs) -> int:
        return int(inputs["x"][0])

    def invoke(self, prepared: int) -> Array:
        self.log.append(f"run {prepared}")
        return np.array([1, 0] if prepared < self.bound else [0, 1], np.int8)

    def results(self, raw: Array) -> dict[str, Array]:
        return {"y": raw}

    def cost(self, samples: Any, protocol: Protocol) -> Cost:
        if not self.is_simulated:
            return super().cost(samples, protocol)
        return Cost(Latency.modelled(1.0), 1)


def samples() -> Samples:
    """Inputs 0…, of which all belong to class 0."""
    inputs = [{"x": np.array([number % 100], np.int8)} for number in range(COUNT)]
    return Samples(inputs, inputs, np.zeros(COUNT, np.int64), "data.npz")


def report(*runners: Any, vectors: Mapping[str, Array] = VECTORS) -> Report:
    """Of ways that open these runners."""
    ways = [Way(opened) for opened in runners]
    return bench(NETWORK, ways, samples(), PROTOCOL, command="mine", vectors=vectors)


def test_nothing_runs_before_the_first_run() -> None:
    """Opened once; the first sample, which is timed, is the first of anything."""
    log: list[str] = []
    run = report(lambda: Ours(log, 100)).subject
    assert log[:5] == ["open", "run 0", "run 1", "run 2", "run 3"]
    assert log.index("run 7") == 5
    assert log.count("open") == 1
    assert run.agreement is not None
    assert (run.agreement.samples, run.agreement.mismatches) == (1, 0)


def test_an_emulator_is_opened_once() -> None:
    """Its test vectors were run at export."""
    log: list[str] = []
    run = report(lambda: Ours(log, 100, simulated=True)).subject
    assert (log[0], log.count("open"), run.agreement) == ("open", 1, None)


def test_wrong_bits_are_no_report() -> None:
    """However quick they were."""
    with pytest.raises(MismatchError, match="2 of 2 elements"):
        report(lambda: Ours([], 0))


def test_float_accuracy_is_of_the_same_samples() -> None:
    """An emulator is asked for 100 samples only: so is what stands beside it.

    Input i is i modulo 100, so that the float network, with a bound of 40, has 80 of all 150 right.
    """
    asked = spread(COUNT, 100)
    beside = float(np.mean(asked % 100 < 40))
    assert beside not in (40 / 100, 80 / COUNT)
    emulated, measured, baseline = report(
        lambda: Ours([], 100, simulated=True),
        lambda: Ours([], 50),
        lambda: Ours([], 40, precision="float32"),
    ).runs
    found = [run.accuracy for run in (emulated, measured, baseline)]
    assert [a and (a.samples, a.value, a.float_value) for a in found] == [
        (100, 1.0, beside),
        (COUNT, 100 / COUNT, 80 / COUNT),
        (COUNT, 80 / COUNT, None),
    ]


def test_a_sorted_file_is_asked_all_over() -> None:
    """Right on its first hundred samples and on few others: what counts is the whole file."""
    sorted_inputs = [{"x": np.array([number // 60], np.int8)} for number in range(6000)]
    data = Samples(sorted_inputs, sorted_inputs, np.zeros(6000, np.int64), "data.npz")
    log: list[str] = []
    way = Way(lambda: Ours(log, 25, simulated=True))
    made = bench(NETWORK, [way], data, PROTOCOL, command="mine", vectors=VECTORS)
    accuracy = made.subject.accuracy
    assert accuracy is not None
    assert (accuracy.value, accuracy.samples) == (0.25, 100)
    assert accuracy.data == "6,000 in data.npz, evenly spread"
    asked = [int(line.removeprefix("run ")) for line in log if line.startswith("run")]
    assert asked == list(range(100))


def test_a_float_network_that_saw_less_says_nothing() -> None:
    """An emulated baseline has no answer for the other samples."""
    measured, baseline = report(
        lambda: Ours([], 50), lambda: Ours([], 40, precision="float32", simulated=True)
    ).runs
    assert measured.accuracy is not None
    assert measured.accuracy.float_value is None
    assert baseline.accuracy is not None
    assert baseline.accuracy.samples == 100


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"input/x": None}, "lack 'input/x', they have"),
        ({"input/x": np.zeros((1, 1), np.int16)}, r"'input/x' are int16\[1, 1\], must be int8"),
        ({"output/y": np.zeros((1, 3), np.int8)}, r"'output/y' are int8\[1, 3\], must be int8\[N"),
        ({"output/y": np.zeros((), np.int8)}, "'output/y' are int8"),
        ({"output/y": np.zeros((2, 2), np.int8)}, r"\[1, 2\] test vectors"),
        (
            {"input/x": np.zeros((0, 1), np.int8), "output/y": np.zeros((0, 2), np.int8)},
            r"\[0\] test vectors",
        ),
    ],
)
def test_vectors_that_do_not_fit(changes: dict[str, Array | None], words: str) -> None:
    """Refused before anything is opened."""
    vectors = {k: v for k, v in {**VECTORS, **changes}.items() if v is not None}
    log: list[str] = []
    with pytest.raises(BoundaryError, match=words):
        report(lambda: Ours(log, 100), vectors=vectors)
    assert log == []


def test_without_outputs_nothing_is_compared() -> None:
    """As where no reference computed them."""
    run = report(lambda: Ours([], 100), vectors={"input/x": VECTORS["input/x"]}).subject
    assert run.agreement is None

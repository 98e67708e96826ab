"""The proof of a membrane's range, against every input that could break it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgekit.errors import UnsupportedError
from edgekit.program.lowering.spiking_bounds import (
    LARGEST,
    NEVER,
    Dynamics,
    Interval,
    decay_codes,
    decayed,
)
from edgekit.program.lowering.spiking_format import (
    STEPS_TO_LIMIT,
    Fixed,
    Population,
    choose,
)
from edgekit.program.operators.spiking_neurons import Leaky, Synaptic

QUICK = settings(deadline=None, derandomize=True)
RESETS = ("subtract", "zero", "none")


def population(
    *,
    low: int = -1000,
    high: int = 1000,
    unit: float = 0.01,
    bias: float = 0.0,
    threshold: float = 1.0,
    beta: float = 0.9,
    alpha: float | None = None,
    reset: str = "subtract",
) -> Population:
    """One neuron."""
    one = np.ones(1)
    return Population(
        "lif",
        unit * one,
        np.array([low]),
        np.array([high]),
        bias * one,
        threshold * one,
        decay_codes(np.float32([beta])),
        None if alpha is None else decay_codes(np.float32([alpha])),
        reset,
    )


def run(asked: Population, fixed: Fixed, inputs: np.ndarray) -> np.ndarray:
    """Membranes and synaptic currents of one neuron in the Program's operator.

    Args:
        asked: the neuron.
        fixed: in integers.
        inputs: [T,L], L sequences at once; every sum on the way is checked for int32.

    Returns:
        int32[T,2,L].
    """
    form = fixed.format
    threshold = None if asked.threshold[0] == np.inf else fixed.threshold
    membrane = current = np.zeros((1, inputs.shape[1]), np.int32)
    fields = {"reset": asked.reset, "fraction": form.fraction, "limit": form.limit}
    beta, seen = asked.beta.astype(np.int32), []
    for row in inputs:
        x = row[np.newaxis].astype(np.int32)
        total = np.abs(row << form.fraction) + np.abs(fixed.bias.astype(np.int64))
        if asked.alpha is None:
            _, after = Leaky(**fields).reference(x, membrane, beta, threshold, fixed.bias)
        else:
            total += np.abs(decayed(asked.alpha, current[0].astype(np.int64)))
            assert total.max() <= LARGEST
            alpha = asked.alpha.astype(np.int32)
            _, after, current = Synaptic(**fields).reference(
                x, membrane, current, alpha, beta, threshold, fixed.bias
            )
            total = np.abs(current[0].astype(np.int64))
        total += np.abs(decayed(asked.beta, membrane[0].astype(np.int64)))
        if threshold is not None and asked.reset == "subtract":
            total += (membrane[0] > threshold) * np.abs(threshold.astype(np.int64))
        assert total.max() <= LARGEST
        membrane = after
        seen.append(np.concatenate([membrane, current]))
    return np.stack(seen)


def constant(value: int, steps: int) -> np.ndarray:
    """One sequence of one number."""
    return np.full((steps, 1), value, np.int64)


def adversaries(asked: Population, steps: int, seed: int) -> np.ndarray:
    """Sequences [T,L]: constant extremes, switches between them, and random extremes."""
    low, high = int(asked.low[0]), int(asked.high[0])
    rng = np.random.default_rng(seed)
    times = np.arange(steps)
    found = [np.full(steps, value) for value in (low, high)]
    found += [np.where(times // n % 2, low, high) for n in (1, 3, 40)]
    found += [np.where(times < steps // 2, a, b) for a, b in ((low, high), (high, low))]
    found += [rng.choice([low, high], steps) for _ in range(3)]
    return np.stack(found, axis=1).astype(np.int64)


neurons = st.builds(
    population,
    low=st.integers(-(2**25), 0),
    high=st.integers(0, 2**25),
    unit=st.floats(1e-6, 1.0),
    bias=st.floats(-2, 2),
    threshold=st.floats(-0.5, 5),
    beta=st.floats(0, 1, width=32),
    alpha=st.one_of(st.none(), st.floats(0, 1, width=32)),
    reset=st.sampled_from(RESETS),
)
integrators = st.builds(
    population,
    low=st.integers(-(2**25), 0),
    threshold=st.just(np.inf),
    beta=st.floats(0, 1, width=32),
    reset=st.just("none"),
)


@settings(QUICK, max_examples=40)
@given(st.one_of(neurons, integrators), st.integers(0, 99))
def test_no_input_leaves_the_proved_range(asked: Population, seed: int) -> None:
    """Membranes stay inside the bound (or limit), and no sum on the way leaves int32."""
    fixed = choose(asked)
    form = fixed.format
    assert (form.bound is None) != (form.limit is None)
    largest = form.bound if form.limit is None else form.limit
    assert np.abs(run(asked, fixed, adversaries(asked, 120, seed))).max() <= largest


@pytest.mark.parametrize("beta", [0.0, 0.5, 0.9, 0.99])
@pytest.mark.parametrize("sign", [1, -1])
def test_a_constant_current_reaches_the_bound(beta: float, sign: int) -> None:
    """The bound is no guess: the worst constant current comes within a thousandth."""
    low, high = (-100, 1000) if sign > 0 else (-1000, 100)
    asked = population(low=low, high=high, beta=beta, reset="none", bias=0.05 * sign)
    fixed = choose(asked)
    seen = run(asked, fixed, constant(sign * 1000, 1500))
    assert 0.999 * fixed.format.bound <= np.abs(seen).max() <= fixed.format.bound


def test_a_synaptic_current_reaches_the_bound() -> None:
    """Both decays in a row: current over (1 - alpha), membrane over (1 - beta)."""
    asked = population(low=-500, high=1000, beta=0.9, alpha=0.8, reset="none")
    fixed = choose(asked)
    seen = run(asked, fixed, constant(1000, 600))
    assert fixed.format.bound == pytest.approx(1000 * 2**fixed.format.fraction * 50, rel=1e-3)
    assert np.abs(seen).max() >= 0.999 * fixed.format.bound


@settings(QUICK, max_examples=50)
@given(
    st.sampled_from(["subtract", "zero", "clear", "none"]),
    st.integers(0, 32768),
    st.integers(-6, 0),
    st.integers(0, 6),
    st.integers(-4, 12),
)
def test_interval_holds_exactly_what_can_happen(
    reset: str, decay: int, low: int, high: int, threshold: int
) -> None:
    """Every membrane that any sequence of inputs can give is inside, found by trying them all."""
    one = np.ones(1, np.int64)
    dynamics = Dynamics(decay * one, Interval(low * one, high * one), threshold * one, reset)
    interval, proved = dynamics.bounds()
    reached, fresh = {0}, {0}
    while fresh and len(reached) < 3000:
        after = set()
        for u in fresh:
            fired = u > threshold
            held = 0 if fired and reset == "zero" else u
            for x in range(low, high + 1):
                new = (decay * held + 2**14 >> 15) + x
                new -= threshold if fired and reset == "subtract" else 0
                after.add(0 if fired and reset == "clear" else new)
        fresh = after - reached
        reached |= fresh
    if not proved[0]:
        # Nothing that decays is left without a proof.
        assert decay > 32768 * 0.99
        return
    assert interval.low[0] <= min(reached)
    assert max(reached) <= interval.high[0]


def test_a_threshold_bounds_what_does_not_decay() -> None:
    """Beta = 1 with currents of one sign and a reset: the threshold and one current more."""
    fixed = choose(population(low=0, high=50, unit=0.01, beta=1.0))
    assert fixed.format.limit is None
    assert fixed.format.bound == pytest.approx((100 + 50) * 2**14, rel=1e-3)


def test_without_a_bound_a_limit_is_stated() -> None:
    """Beta = 1 without a reset: membranes saturate, after thousands of the worst steps."""
    asked = population(low=-50, high=50, beta=1.0, reset="none")
    fixed = choose(asked)
    form = fixed.format
    assert form.bound is None
    assert form.limit >= STEPS_TO_LIMIT * form.current
    assert fixed.unbounded.tolist() == [True]
    seen = run(asked, fixed, constant(50, 6000))
    assert seen[-1, 0, 0] == form.limit
    # As late as it says: one step more of the largest current reaches the limit.
    assert form.steps is not None
    first = int(np.argmax(seen[:, 0, 0] == form.limit)) + 1
    assert first in (form.steps, form.steps + 1)
    proof = replace(form, unbounded=1).proof
    assert "no bound exists, as 1 of 1 neurons add up currents without decay" in proof
    assert f"saturate at ±{form.limit}, not before step {form.steps + 1}" in proof


def test_a_limit_without_a_number_of_steps() -> None:
    """Synaptic currents add up as well; a bound that is only too large is no bound that lacks."""
    synaptic = choose(population(low=-50, high=50, beta=1.0, alpha=0.5, reset="none"))
    assert synaptic.format.steps is None
    assert "where they differ from the network in real numbers" in synaptic.format.proof
    slow = choose(population(low=-(2**22), high=2**22, beta=1 - 2**-15, reset="none"))
    assert slow.format.limit is not None
    assert slow.unbounded.tolist() == [False]
    assert slow.format.proof.startswith("currents decay so slowly that int32")


def test_the_format_has_as_many_bits_as_fit() -> None:
    """Twice the current costs one bit, as soon as bits are scarce."""
    fractions = [choose(population(low=-c, high=c)).format.fraction for c in (2**8, 2**18, 2**19)]
    assert fractions[0] == 14
    assert fractions[1] - fractions[2] == 1


def test_constants_are_in_steps_of_the_membrane() -> None:
    """Threshold and bias are reals divided by the step, to nearest."""
    asked = population(bias=-0.3, threshold=0.7, unit=0.01)
    fixed = choose(asked)
    step = fixed.format.step[0]
    assert step == 0.01 * 2.0**-fixed.format.fraction
    assert fixed.threshold.tolist() == [round(0.7 / step)]
    assert fixed.bias.tolist() == [round(-0.3 / step)]


def test_unreachable_thresholds_are_never_crossed() -> None:
    """A threshold beyond int32 becomes the one that no membrane is above."""
    fixed = choose(population(unit=1e-7, threshold=1e6, low=-10, high=10))
    assert fixed.threshold.tolist() == [NEVER]


def test_currents_beyond_int32_are_refused() -> None:
    """The message says whose they are and what would help."""
    with pytest.raises(UnsupportedError, match=r"'lif'.*do not fit int32.*fewer inputs"):
        choose(population(low=-(2**31), high=2**31))

"""The comparison of two runs: where they part first, and how far from the threshold that is."""

from __future__ import annotations

import json

import numpy as np
import pytest

from edgekit.errors import VerificationError
from edgekit.spiking.drift import Trace, compare_traces

THRESHOLDS = {"first": np.float32([1.0]), "second": np.float32([0.5, 0.25])}


def traces(**changes: float) -> dict[str, Trace]:
    """Two populations, 3 windows of 4 steps; a change is ``population_window_step_neuron``."""
    membranes = {"first": np.full((3, 4, 2, 1), 0.9, np.float32), "second": np.zeros((3, 4, 2))}
    membranes["second"][...] = 0.2
    for place, value in changes.items():
        name, window, step, neuron = place.split("_")
        membranes[name].reshape(3, 4, 2)[int(window), int(step), int(neuron)] = value
    return {
        name: Trace(values, values > THRESHOLDS[name].reshape(-1, *[1] * (values.ndim - 3)))
        for name, values in membranes.items()
    }


def test_equal_runs_do_not_drift() -> None:
    drift = compare_traces(traces(first_1_2_0=1.5), traces(first_1_2_0=1.5), THRESHOLDS)
    assert (drift.windows, drift.steps, drift.neurons, drift.spikes) == (3, 4, 4, 1)
    assert (drift.differing, drift.differing_windows, drift.first) == (0, 0, None)
    drift.raise_if(farther=0.0, rounding=0.0)


def test_the_first_difference_is_found() -> None:
    reference = traces(first_1_2_0=1.000004, second_1_2_1=9.0, first_1_3_0=7.0)
    drift = compare_traces(reference, traces(), THRESHOLDS)
    assert drift.first is not None
    # Behind it, and in the populations that see it, everything may differ.
    assert (drift.first.population, drift.first.window, drift.first.step) == ("first", 1, 2)
    assert drift.first.neuron == 0
    assert drift.first.distance == pytest.approx(4e-6, rel=0.05)
    assert (drift.differing, drift.differing_windows) == (3, 1)
    assert drift.membrane_difference == 0.0
    drift.raise_if()
    with pytest.raises(VerificationError, match="neuron 0 of first .* step 2 of window 1"):
        drift.raise_if(farther=1e-6)


def test_every_window_counts() -> None:
    reference = traces(first_0_0_1=1.000001, second_2_3_1=0.26)
    drift = compare_traces(reference, traces(), THRESHOLDS)
    assert drift.differing_windows == 2
    assert drift.first is not None
    assert (drift.first.window, drift.first.population) == (2, "second")
    assert drift.first.threshold == 0.25
    with pytest.raises(VerificationError, match="second"):
        drift.raise_if()


def test_of_neurons_that_differ_at_once_the_farthest_is_told() -> None:
    drift = compare_traces(traces(second_0_1_0=0.500001, second_0_1_1=0.3), traces(), THRESHOLDS)
    assert drift.first is not None
    assert drift.first.neuron == 1


def test_membranes_before_the_first_difference() -> None:
    reference = traces(first_0_1_0=0.8, first_0_2_0=1.1, second_0_3_0=-50.0)
    drift = compare_traces(reference, traces(), THRESHOLDS)
    assert drift.membrane_difference == pytest.approx(0.1)
    assert drift.largest_membrane == pytest.approx(0.9)
    with pytest.raises(VerificationError, match=r"up to 0\.1 apart"):
        drift.raise_if(farther=1.0)


def test_unknown_membranes_are_left_out_and_ours_are_not() -> None:
    reference, ours = traces(first_0_1_0=np.nan), traces()
    assert compare_traces(reference, ours, THRESHOLDS).membrane_difference == 0.0
    with pytest.raises(VerificationError, match="inf apart"):
        compare_traces(ours, reference, THRESHOLDS).raise_if()


def test_json_has_plain_values() -> None:
    drift = compare_traces(traces(first_0_1_0=1.2), traces(first_0_1_0=np.nan), THRESHOLDS)
    found = json.loads(json.dumps(drift.to_json(), allow_nan=False))
    assert found["first"]["population"] == "first"
    assert found["first"]["distance"] == pytest.approx(0.2)
    assert found["differing"] == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop("second"), "'second' is in the reference only"),
        (lambda t: t.update(first=Trace(t["first"].membrane)), "without spikes"),
        (lambda t: t.update(first=Trace(np.zeros((3, 5, 2, 1)), t["first"].spikes)), "5 steps"),
        (
            lambda t: t.update(first=Trace(t["first"].membrane, t["second"].spikes)),
            r"ours has membranes \[3, 4, 2, 1\] and spikes \[3, 4, 2\]",
        ),
    ],
)
def test_runs_that_cannot_be_compared(change: object, message: str) -> None:
    ours = traces()
    change(ours)  # type: ignore[operator]
    with pytest.raises(VerificationError, match=message):
        compare_traces(traces(), ours, THRESHOLDS)
    with pytest.raises(VerificationError, match="no population"):
        compare_traces({}, ours, THRESHOLDS)
    with pytest.raises(VerificationError, match="no threshold is given for second"):
        compare_traces(traces(), traces(), {"first": THRESHOLDS["first"]})

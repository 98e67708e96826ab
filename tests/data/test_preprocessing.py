"""Preprocessing: what it computes, and what its JSON refuses."""

from __future__ import annotations

import json

import numpy as np
import pytest

from edgekit.data import Clip, Preprocessing, Scale, Standardize, Window
from edgekit.errors import InvalidDataError

EXAMPLE = Preprocessing(
    (Standardize((1.0, -2.0), (0.5, 4.0)), Scale(0.25, 1.0), Clip(-3.0, 3.0)),
    Window(length=40, stride=20, sampling_hz=20.0),
)


def test_fitted_standardisation_has_mean_0_and_deviation_1() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal([[5.0], [-3.0]], [[2.0], [0.1]], (200, 2, 30)).astype(np.float32)
    done = Standardize.fitted(x).apply(x)
    assert done.dtype == np.float32
    np.testing.assert_allclose(done.mean((0, 2)), 0, atol=1e-5)
    np.testing.assert_allclose(done.std((0, 2)), 1, atol=1e-5)


def test_a_constant_channel_is_not_divided_by_zero() -> None:
    done = Standardize.fitted(np.full((4, 1, 3), 7.0)).apply(np.full((4, 1, 3), 7.0))
    assert (done == 0).all()


def test_steps_apply_in_order() -> None:
    x = np.array([[[2.0], [2.0]]])
    want = [[[(2 - 1) / 0.5 * 0.25 + 1], [(2 + 2) / 4 * 0.25 + 1]]]
    assert EXAMPLE.apply(x).tolist() == want
    assert EXAMPLE.apply(np.full((1, 2, 1), 1e6)).max() == 3.0


def test_round_trip() -> None:
    assert Preprocessing.from_json(EXAMPLE.to_json()) == EXAMPLE
    assert Preprocessing.from_json(Preprocessing().to_json()) == Preprocessing()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schema": 2}, "schema is 2"),
        ({"schema": True}, "schema is True"),
        ({"steps": {}}, "steps must be a list"),
        ({"steps": [{"kind": "exec"}]}, "kind 'exec' must be one of"),
        ({"steps": [{"kind": ["scale"]}]}, "must be one of"),
        ({"steps": [{"kind": "clip", "low": 0}]}, "must have the keys"),
        ({"steps": [{"kind": "clip", "low": 1, "high": 0}]}, "low < high"),
        ({"steps": [{"kind": "clip", "low": 0, "high": "1"}]}, "must be a number"),
        ({"steps": [{"kind": "scale", "factor": 0, "offset": 0}]}, "not 0"),
        ({"steps": [{"kind": "standardize", "mean": [0], "std": [0]}]}, "positive"),
        ({"steps": [{"kind": "standardize", "mean": [0], "std": [1, 2]}]}, "equally many"),
        ({"steps": [{"kind": "standardize", "mean": [True], "std": [1]}]}, "must be numbers"),
        ({"steps": [{"kind": "scale", "factor": 10**400, "offset": 0}]}, "must be a number"),
        ({"steps": [{"kind": "standardize", "mean": [10**400], "std": [1]}]}, "must be numbers"),
        ({"window": {"length": 1, "stride": 1, "sampling_hz": 10**400}}, "must be a number"),
        ({"window": {"length": 0, "stride": 1, "sampling_hz": 1}}, "must be positive"),
        ({"window": {"length": 1.5, "stride": 1, "sampling_hz": 1}}, "must be positive"),
        ({"more": 1}, "must have the keys schema, window and steps"),
    ],
)
def test_hostile_json_is_refused(change: dict[str, object], message: str) -> None:
    text = json.dumps(json.loads(EXAMPLE.to_json()) | change)
    with pytest.raises(InvalidDataError, match=message):
        Preprocessing.from_json(text)


@pytest.mark.parametrize("text", ["", "[1]", "{", "[" * 100_000, '{"schema": NaN}'])
def test_what_is_no_preprocessing_is_refused(text: str) -> None:
    with pytest.raises(InvalidDataError):
        Preprocessing.from_json(text)


def test_wrong_number_of_channels() -> None:
    with pytest.raises(InvalidDataError, match=r"must be \[N, 2, ...\]"):
        EXAMPLE.apply(np.zeros((1, 3, 4)))

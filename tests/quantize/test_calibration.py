"""Calibration data is checked and described."""

from __future__ import annotations

import numpy as np
import pytest

from edgekit.errors import InvalidDataError, UsageError
from edgekit.model import Model, load
from edgekit.quantize.static import calibration_record, quantize_static
from tests.support.onnx_models import OnnxBuilder

RNG = np.random.default_rng(1)


@pytest.fixture(scope="module")
def model() -> Model:
    b = OnnxBuilder()
    image, more = b.input("image", (1, 2, 4, 4)), b.input("more", (3,))
    y = b.node("Conv", image, b.constant(np.ones((3, 2, 1, 1), np.float32)))
    y = b.node("Flatten", b.node("GlobalAveragePool", y))
    b.output(b.node("Add", y, more))
    return load(b.build())


def data(samples: int = 4) -> dict[str, np.ndarray]:
    return {
        "image": RNG.standard_normal((samples, 1, 2, 4, 4)).astype(np.float32),
        "more": RNG.standard_normal((samples, 3)).astype(np.float32),
    }


def test_the_batch_axis_may_be_left_out_and_any_number_will_do(model: Model) -> None:
    samples = {"image": RNG.integers(0, 256, (4, 1, 2, 4, 4)), "more": RNG.integers(0, 9, (4, 3))}
    full = quantize_static(model, samples)
    bare = {"image": samples["image"][:, 0].astype(np.uint8), "more": samples["more"].astype(float)}
    assert quantize_static(model, bare).to_bytes() == full.to_bytes()


def with_nan(array: np.ndarray) -> np.ndarray:
    array = array.copy()
    array[2].flat[5] = np.nan
    return array


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda d: d.pop("more"), r"has \['image'\], must have the model's inputs"),
        (lambda d: d.update(extra=d["more"]), "must have the model's inputs"),
        (lambda d: d.update(image=d["image"][..., :3]), r"must be \[samples, 1, 2, 4, 4\]"),
        (lambda d: d.update(image=np.float32(3)), "must be"),
        (
            lambda d: d.update(image=with_nan(d["image"])),
            "'image' holds NaN or infinity in sample 2",
        ),
        (lambda d: d.update(image=d["image"].astype(complex)), "is complex128, must be real"),
        (lambda d: d.update(image=d["image"].astype(object)), "is object, must be real numbers"),
        (
            lambda d: d.update(image=d["image"] * np.float64(1e300)),
            "values that float32 cannot hold",
        ),
        (lambda d: d.update(more=d["more"][:3]), "different numbers of samples"),
        (lambda d: d.update({k: v[:0] for k, v in d.items()}), "holds no samples"),
        (lambda d: d.clear(), r"has \[\], must have"),
    ],
)
def test_bad_data(model: Model, change: object, said: str) -> None:
    samples = data()
    change(samples)  # type: ignore[operator]
    with pytest.raises(InvalidDataError, match=said):
        quantize_static(model, samples)


def test_overflow_inside_the_model_is_said(model: Model) -> None:
    samples = data()
    samples["image"][1] = 3e38
    with pytest.raises(InvalidDataError, match=r"calibration sample 1 makes .* infinite or NaN"):
        quantize_static(model, samples)


def test_limit_draws_with_the_seed(model: Model) -> None:
    samples = data(30)
    one = quantize_static(model, samples, seed=1, limit=5).to_bytes()
    assert quantize_static(model, samples, seed=1, limit=5).to_bytes() == one
    assert quantize_static(model, samples, seed=2, limit=5).to_bytes() != one
    everything = quantize_static(model, samples).to_bytes()
    assert quantize_static(model, samples, seed=7, limit=30).to_bytes() == everything
    with pytest.raises(UsageError, match="limit of calibration samples is 0"):
        quantize_static(model, samples, limit=0)


def test_the_record_follows_the_data_that_is_used() -> None:
    samples = data(10)
    record = calibration_record(samples, observer="mse", seed=3)
    assert (record.observer, record.seed, record.samples) == ("mse", 3, 10)
    assert len(record.sha256) == 64
    assert calibration_record(dict(reversed(samples.items()))).sha256 == record.sha256
    changed = {**samples, "more": samples["more"] + np.float32(1e-3)}
    assert calibration_record(changed).sha256 != record.sha256
    few = calibration_record(samples, limit=4)
    assert few.samples == 4
    assert few.sha256 != record.sha256
    with pytest.raises(InvalidDataError, match="no samples"):
        calibration_record({})

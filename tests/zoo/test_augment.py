"""Augmentation: what it keeps, and that it is drawn from the generator alone."""

from __future__ import annotations

import numpy as np
import pytest

from edgekit.errors import UsageError
from edgekit.zoo.augment import augmented, check_augmentation, rotations, shifted, stretched
from edgekit.zoo.recipe import Augmentation

RNG = np.random.default_rng


def test_rotations_are_rotations() -> None:
    turn = rotations(1.0, 50, RNG(0)).astype(np.float64)
    eye = np.broadcast_to(np.eye(3), turn.shape)
    np.testing.assert_allclose(turn @ turn.transpose(0, 2, 1), eye, atol=1e-5)
    np.testing.assert_allclose(np.linalg.det(turn), 1, atol=1e-5)
    angles = np.arccos(np.clip((np.trace(turn, axis1=1, axis2=2) - 1) / 2, -1, 1))
    assert 0.3 < angles.mean() < 1.2


def test_both_sensors_turn_alike() -> None:
    x = RNG(0).normal(size=(5, 3, 40)).astype(np.float32)
    done = augmented(np.concatenate([x, 2 * x], 1), Augmentation(rotate_degrees=20), RNG(1))
    np.testing.assert_allclose(done[:, 3:], 2 * done[:, :3], rtol=1e-5, atol=1e-5)
    assert np.abs(done[:, :3] - x).max() > 0.1
    lengths = [np.linalg.norm(v[:, :3], axis=1) for v in (done, x)]
    np.testing.assert_allclose(lengths[0], lengths[1], rtol=1e-4)


def test_stretching_by_one_changes_nothing() -> None:
    x = RNG(0).normal(size=(3, 2, 40)).astype(np.float32)
    np.testing.assert_allclose(stretched(x, np.ones(3, np.float32)), x, atol=1e-6)


def test_stretching_half_and_twice() -> None:
    line = np.arange(5, dtype=np.float32)[None, None]
    assert stretched(line, np.array([0.5]))[0, 0].tolist() == [1, 1.5, 2, 2.5, 3]
    assert stretched(line, np.array([2.0]))[0, 0].tolist() == [0, 0, 2, 4, 4]


def test_shifting_each_image_by_its_own() -> None:
    x = np.arange(18).reshape(2, 1, 3, 3)
    done = shifted(x, np.array([[1, 0], [0, -1]]))
    assert done[0, 0].tolist() == [[0, 1, 2], [0, 1, 2], [3, 4, 5]]
    assert done[1, 0].tolist() == [[10, 11, 11], [13, 14, 14], [16, 17, 17]]


def test_flip_and_gain() -> None:
    x = RNG(0).normal(size=(4, 3, 5, 5)).astype(np.float32)
    np.testing.assert_array_equal(augmented(x, Augmentation(flip=1.0), RNG(0)), x[..., ::-1])
    ratio = augmented(x, Augmentation(gain=0.2), RNG(0)) / x
    np.testing.assert_allclose(ratio.std(axis=(1, 2, 3)), 0, atol=1e-5)
    assert ratio.std() > 0.05


def test_nothing_wanted_draws_nothing() -> None:
    x, rng = np.ones((2, 6, 40), np.float32), RNG(0)
    state = rng.bit_generator.state
    assert augmented(x, Augmentation(), rng) is x
    assert rng.bit_generator.state == state


@pytest.mark.parametrize(
    ("augmentation", "shape"),
    [
        (Augmentation(rotate_degrees=1), (3, 40)),
        (Augmentation(rotate_degrees=1), (1, 8, 8)),
        (Augmentation(stretch=0.1), (1, 8, 8)),
        (Augmentation(shift=1), (6, 40)),
        (Augmentation(flip=0.5), (6, 40)),
    ],
)
def test_what_samples_cannot_have(augmentation: Augmentation, shape: tuple[int, ...]) -> None:
    with pytest.raises(UsageError, match="samples are"):
        check_augmentation(augmentation, shape)

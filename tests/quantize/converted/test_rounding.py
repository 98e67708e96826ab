"""Requantisation in torch against the exact NumPy one, at every end of every range."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgekit.program.fixed_point import MULTIPLIER_BITS, SHIFTS, Requant, Rounding

pytestmark = [pytest.mark.torch, pytest.mark.needs("torch")]

ROUNDINGS = tuple(SHIFTS)

ACCUMULATORS = {"double": 2**31 - 1, "single": 2**31 - 1, "wide": 2**47 - 1, "float64": 2**62}
"""Largest magnitude that each rounding is given; ``float64`` saturates at 2⁵³."""


@st.composite
def factors(draw: Any, rounding: Rounding) -> Requant:
    """Factors of every size, ends of their ranges and powers of two among them."""
    low, high = SHIFTS[rounding]
    most = 2 ** MULTIPLIER_BITS[rounding] - 1
    few = st.sampled_from([0, 1, most // 2 + 1, most])
    multipliers = draw(st.lists(few | st.integers(0, most), min_size=1, max_size=6))
    shifts = st.sampled_from([low, -1, 0, 1, high]) | st.integers(low, high)
    count = len(multipliers)
    return Requant(tuple(multipliers), tuple(draw(shifts) for _ in range(count)), rounding)


def accumulators(rounding: Rounding, seed: int, columns: int) -> np.ndarray:
    """Small and large ones, ties of powers of two, and the ends."""
    rng, most = np.random.default_rng(seed), ACCUMULATORS[rounding]
    bits = rng.integers(0, int(math.log2(most)) + 1, (40, columns))
    wild = rng.integers(-(2**62), 2**62, (40, columns)) >> (62 - bits)
    ends = np.array([0, 1, -1, 2, -2, most, -most, -most - 1])
    powers = 1 << rng.integers(0, 31, (12, columns))
    parts = [wild, np.repeat(ends[:, None], columns, 1), powers, -powers, powers + 1, 1 - powers]
    return np.clip(np.concatenate(parts), -most - 1, most).astype(np.int64)


@pytest.mark.parametrize("rounding", ROUNDINGS)
def test_equal_to_the_bit(rounding: Rounding) -> None:
    """Every rounding, per tensor and per channel."""
    import torch

    from edgekit.quantize.converted.rounding import requantized

    @given(factors(rounding), st.integers(0, 2**32 - 1))
    @settings(max_examples=80, deadline=None)
    def check(requant: Requant, seed: int) -> None:
        count = len(requant.multiplier)
        for columns in {count, 3 if count == 1 else count}:
            acc = accumulators(rounding, seed, columns)
            got = requantized(requant, torch.from_numpy(acc)).numpy()
            assert got.dtype == np.int64
            assert np.array_equal(got, requant.apply(acc))

    check()


def test_a_division_is_one() -> None:
    """No product with an inverse: quotients of float32 are those of NumPy."""
    import torch

    from edgekit.quantize.converted.rounding import divided

    rng = np.random.default_rng(0)
    x = rng.standard_normal(20_000).astype(np.float32)
    for divisor in (3.0, 0.1, 7e-5, 1.2e30):
        exact = x / np.float32(divisor)
        assert divided(torch.from_numpy(x), divisor).numpy().tobytes() == exact.tobytes()
        wide = x.astype(np.float64)
        got = divided(torch.from_numpy(wide), divisor).numpy()
        assert got.tobytes() == (wide / divisor).tobytes()

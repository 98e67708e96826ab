"""The C twins of the requantisations, on more accumulators than any layer would bring."""

from __future__ import annotations

import ctypes
import shutil
import subprocess

import numpy as np
import pytest

from edgekit.program.fixed_point import (
    SHIFTS,
    Rounding,
    float64_multiplier,
    multiply_by_quantized_multiplier,
    quantize_multiplier,
    reduced_multiplier,
)
from edgekit.program.ir import Array
from edgekit.targets.c.kernel import KERNEL_FOLDER

SHIM = """\
#include "ek_requantize_float64.h"

#define MANY(rounding, acc_type)                                                               \\
    void many_##rounding(                                                                      \\
        int32_t count, const int64_t *acc, const int64_t *multiplier, const int32_t *shift,    \\
        int32_t *result)                                                                       \\
    {                                                                                          \\
        for (int32_t i = 0; i < count; ++i) {                                                  \\
            result[i] = ek_requantize_##rounding((acc_type)acc[i], MULTIPLIER, shift[i]);      \\
        }                                                                                      \\
    }

#define MULTIPLIER (int32_t)multiplier[i]
MANY(double, int32_t)
MANY(single, int32_t)
MANY(wide, int64_t)
#undef MULTIPLIER
#define MULTIPLIER multiplier[i]
MANY(float64, int64_t)
"""


@pytest.fixture(scope="module")
def twins(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    """The requantisations, each over arrays; undefined behaviour traps."""
    folder = tmp_path_factory.mktemp("twins")
    (folder / "ek_config.h").write_text("#define EK_PREFIX test_\n")
    (folder / "shim.c").write_text(SHIM)
    compiler = shutil.which("cc") or "cc"
    command = [compiler, "-std=c99", "-O2", "-Wall", "-Wextra", "-Werror", "-Wconversion"]
    command += ["-fsanitize=undefined", "-fsanitize-undefined-trap-on-error", "-fPIC", "-shared"]
    command += [f"-I{folder}", f"-I{KERNEL_FOLDER}", "-o", "twins.so", "shim.c"]
    subprocess.run(command, cwd=folder, check=True)
    return ctypes.CDLL(str(folder / "twins.so"))


def accumulators(rng: np.random.Generator, factors: Array, limit: int) -> Array:
    """Half of them of every magnitude, half near k + 1/2 of the factor."""
    magnitudes = rng.integers(-limit, limit, factors.size) >> rng.integers(0, 62, factors.size)
    middles = (rng.integers(-(2**31), 2**31, factors.size) >> rng.integers(0, 31)) + 0.5
    near = np.rint(np.clip(middles / factors, -limit, limit)).astype(np.int64)
    near += rng.integers(-1, 2, factors.size)
    chosen = np.where(rng.random(factors.size) < 0.5, magnitudes, near)
    return np.clip(chosen, -limit, limit - 1).astype(np.int64)


@pytest.mark.parametrize("rounding", SHIFTS)
@pytest.mark.needs("cc")
def test_twins(twins: ctypes.CDLL, rounding: Rounding) -> None:
    """Random factors, and ratios of small numbers, whose products come next to ties."""
    rng = np.random.default_rng(7)
    count = 60000
    low, high = SHIFTS[rounding]
    ratios = rng.integers(1, 50, count) / rng.integers(1, 50, count)
    exponents = rng.integers(low + 7, high - 6, count)
    exact = rng.random(count) < 0.5
    factors = np.where(exact, ratios, 1.0) * np.exp2(exponents - np.where(exact, 0.0, rng.random()))
    # n · (k + 1/2)/n for small k: ties but for the last digit of the quotient.
    odd = rng.integers(1, 4001, count // 4)
    small = rng.integers(0, 4, odd.size) + 0.5
    factors[: odd.size] = small / odd
    split = float64_multiplier if rounding == "float64" else quantize_multiplier
    multiplier, shift = np.array([split(f) for f in factors.tolist()]).T
    wide = rounding in ("wide", "float64")
    acc = accumulators(rng, factors, 2**62 if wide else 2**31)
    acc[: odd.size] = rng.choice([-1, 1], odd.size) * odd
    want = multiply_by_quantized_multiplier(acc, multiplier, shift, rounding)
    if rounding == "wide":
        multiplier = reduced_multiplier(multiplier)
    got = np.empty(count, np.int32)
    arrays = (acc, np.ascontiguousarray(multiplier), shift.astype(np.int32), got)
    pointers = [array.ctypes.data_as(ctypes.c_void_p) for array in arrays]
    twins[f"many_{rounding}"](count, *pointers)
    np.testing.assert_array_equal(got, want)

"""The float32 functions: their errors against wide arithmetic, and their C twins bit for bit."""

from __future__ import annotations

import ctypes
import math
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from edgekit.program import float_math
from edgekit.targets.c.kernel import KERNEL_FOLDER

Wide = np.longdouble
SAMPLES = 300_000
FUNCTIONS = ("exp", "sigmoid", "tanh", "rsqrt")

LARGEST_ULP = {"exp": 1.0, "sigmoid": 2.5, "tanh": 1.5, "rsqrt": 1.5}
"""As the module's docstring has them."""

EXACT: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "exp": np.exp,
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "tanh": np.tanh,
    "rsqrt": lambda x: 1 / np.sqrt(x),
}

SPECIAL = np.float32(
    [0.0, -0.0, 1.0, -1.0, 1e-30, -1e-30, 1e-42, 3e38, -3e38, math.inf, -math.inf, 0.625, -0.625]
)


def samples(function: str) -> np.ndarray:
    """Arguments over the documented domain, dense where the work is done."""
    rng = np.random.default_rng(1)
    if function == "rsqrt":
        values = np.exp2(rng.uniform(-100, 100, SAMPLES))
    else:
        low = {"exp": -87.33654, "sigmoid": -87.0, "tanh": -12.0}[function]
        wide = rng.uniform(low, 88.72283 if function == "exp" else 20, SAMPLES)
        values = np.concatenate([wide, rng.uniform(-1.5, 1.5, SAMPLES)])
    return values.astype(np.float32)


@pytest.mark.parametrize("function", FUNCTIONS)
def test_error_is_as_documented(function: str) -> None:
    x = samples(function)
    exact = EXACT[function](x.astype(Wide))
    got = getattr(float_math, function)(x)
    assert got.dtype == np.float32
    error = np.abs(got.astype(Wide) - exact) / np.spacing(np.abs(exact).astype(np.float32))
    assert error.max() <= LARGEST_ULP[function]
    # The documented bound is no more than half an ulp above what happens.
    assert error.max() > LARGEST_ULP[function] - 0.5


def test_values_outside_the_domain() -> None:
    x = np.float32([-math.inf, -1e30, -87.4, 88.8, 1e30, math.inf, math.nan])
    exp = float_math.exp(x)
    assert exp[:6].tolist() == [0, 0, 0, math.inf, math.inf, math.inf]
    assert math.isnan(exp[6])
    sigmoid = float_math.sigmoid(x)
    assert sigmoid[[0, 1, 4, 5]].tolist() == [0, 0, 1, 1]
    tanh = float_math.tanh(x)
    assert tanh[:6].tolist() == [-1, -1, -1, 1, 1, 1]
    assert math.isnan(tanh[6])


def test_exp_has_no_subnormal_results() -> None:
    edge = np.nextafter(float_math.EXP_LOW, np.float32([-math.inf, math.inf]))
    below, above = float_math.exp(edge)
    assert below == 0
    assert above >= np.finfo(np.float32).smallest_normal
    assert float_math.exp(np.array([float_math.EXP_HIGH]))[0] < math.inf


def test_monotonic_near_the_joints() -> None:
    # Neighbouring floats about the border between tanh's polynomial and its quotient.
    x = np.float32(0.625) + np.arange(-2000, 2000, dtype=np.float32) * np.float32(2.0**-24)
    steps = np.diff(float_math.tanh(x).astype(np.float64))
    assert steps.min() > -2 * np.spacing(np.float32(0.55))


def test_exact_functions_are_the_nearest_float64() -> None:
    """Against the 64 bits of x87, whose own error is allowed for."""
    rng = np.random.default_rng(3)
    x = np.concatenate([rng.uniform(-700, 700, 2000), rng.standard_normal(2000)])
    for exact, wide in ((float_math.exact_exp, np.exp), (float_math.exact_tanh, np.tanh)):
        got = np.array([exact(v) for v in x.tolist()])
        error = np.abs(got.astype(Wide) - wide(x.astype(Wide))) / np.spacing(np.abs(got))
        assert error.max() < 0.502
    assert [float_math.exact_exp(v) for v in (0.0, 1e300, -1e300)] == [1, math.inf, 0]
    assert [float_math.exact_tanh(v) for v in (0.0, 1e-300, 1e300)] == [0, 1e-300, 1]
    joint = np.nextafter(1e-9, [0, 1])
    assert [float_math.exact_tanh(v) for v in joint.tolist()] == np.tanh(joint).tolist()


@pytest.fixture(scope="module")
def twins(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    """``ek_math_f32.h`` as a shared library with loops over arrays."""
    folder: Path = tmp_path_factory.mktemp("float_math")
    (folder / "ek_config.h").write_text("#define EK_PREFIX test_\n")
    loops = "".join(
        f"void map_{name}(const float *x, float *y, int n)\n"
        f"{{ for (int i = 0; i < n; ++i) y[i] = ek_{name}_f32(x[i]); }}\n"
        for name in FUNCTIONS
    )
    (folder / "twins.c").write_text(f'#include "ek_math_f32.h"\n{loops}')
    library = folder / "twins.so"
    flags = ["-std=c99", "-O2", "-ffp-contract=off", "-shared", "-fPIC", "-Wall", "-Werror"]
    include = ["-I", str(folder), "-I", str(KERNEL_FOLDER)]
    command = ["cc", *flags, *include, str(folder / "twins.c"), "-o", str(library)]
    subprocess.run(command, check=True, timeout=60)
    return ctypes.CDLL(str(library))


@pytest.mark.needs("cc")
@pytest.mark.parametrize("function", FUNCTIONS)
def test_c_gives_the_same_bits(twins: ctypes.CDLL, function: str) -> None:
    edges = np.concatenate(
        [
            np.float32(edge) + np.arange(-50, 50, dtype=np.float32) * np.spacing(np.float32(edge))
            for edge in (float_math.EXP_LOW, float_math.EXP_HIGH, 0.625, -0.625)
        ]
    )
    x = samples(function)
    if function != "rsqrt":
        x = np.concatenate([x, edges, -edges, SPECIAL, np.float32([math.nan])])
    got = np.empty_like(x)
    pointer = ctypes.POINTER(ctypes.c_float)
    loop = getattr(twins, f"map_{function}")
    loop(x.ctypes.data_as(pointer), got.ctypes.data_as(pointer), ctypes.c_int(x.size))
    want = getattr(float_math, function)(x)
    same = (got.view(np.int32) == want.view(np.int32)) | (np.isnan(got) & np.isnan(want))
    assert same.all(), f"{function}({x[~same][:5]}): C {got[~same][:5]}, NumPy {want[~same][:5]}"

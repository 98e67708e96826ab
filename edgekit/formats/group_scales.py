"""Scales of groups as integer factors of one scale a row: two functions for every kind of factors.

``choose`` finds the steps of all groups from weights, ``encode`` turns steps into factors and a
scale. Groups that are all zero have the step 0 and the factor 0.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgekit.formats.element import Element
from edgekit.formats.elements import ELEMENTS
from edgekit.formats.factors import FACTORS, SHIFT_REACH
from edgekit.formats.groups import reduce_groups
from edgekit.formats.scales import RULES, SMALLEST_SCALE

Float32 = NDArray[np.float32]
Int32 = NDArray[np.int32]

Encoded = tuple[Float32, Int32]
"""Scale float32[R] or float32[1], factors int32[R, G]."""

_E8M0_LEAST = -127
"""The smallest exponent of E8M0, OCP's format of scales. Its largest, 127, is float32's too."""


def encode_uint8(steps: Float32) -> Encoded:
    """Steps as multiples 1 to 255 of a row's scale.

    ``scale = max(steps) / 255`` and ``g = max(1, rint(steps / scale))``, each one float32
    operation.

    >>> scale, factors = encode_uint8(np.float32([[0.51, 0.1, 0, 1e-6]]))
    >>> scale.tolist(), factors.tolist()
    ([0.001999999862164259], [[255, 50, 0, 1]])
    """
    largest = FACTORS["uint8"].maximum
    row = steps.max(axis=1, initial=0)
    scale = np.where(row > 0, np.maximum(row / np.float32(largest), SMALLEST_SCALE), np.float32(1))
    factors = np.clip(np.rint(steps / scale[:, None]), 1, largest)
    return scale.astype(np.float32), np.where(steps > 0, factors, 0).astype(np.int32)


def encode_shift(steps: Float32) -> Encoded:
    """Steps, rounded down to powers of two, relative to a row's largest.

    With ``e`` the exponent of a group and ``e_max`` the largest of its row, ``g = 2**(reach -
    (e_max - e))`` and the scale of the row is ``2**(e_max - reach)``. The reach is the row's
    largest ``e_max - e``, at most 15; groups further down get 0 and vanish.

    >>> scale, factors = encode_shift(np.float32([[4, 0.5, 0], [0.3, 0.25, 1e-9]]))
    >>> scale.tolist(), factors.tolist()
    ([0.5, 0.25], [[8, 1, 0], [1, 1, 0]])
    """
    present = steps > 0
    exponent = np.frexp(steps)[1] - 1
    top = exponent.max(axis=1, initial=-1000, where=present)
    deficit = np.where(present, top[:, None] - exponent, SHIFT_REACH + 1)
    kept = deficit <= SHIFT_REACH
    reach = deficit.max(axis=1, initial=0, where=kept)
    shift = np.where(kept, reach[:, None] - deficit, 0)
    factors = np.where(kept, 1 << shift, 0).astype(np.int32)
    nothing = ~present.any(axis=1)
    scale = np.ldexp(np.float32(1), np.where(nothing, 0, top - reach))
    return scale.astype(np.float32), factors


def encode_e4m3(steps: Float32, scale: np.float32 | None = None) -> Encoded:
    """Steps as FP8 E4M3 numbers times one scale of the tensor.

    ``g = steps / scale`` (float32) rounded to E4M3, which counts in units of 1/512, at least 1
    and at most 448 * 512; the scale, if not given, is ``max(steps) / (448 * 512)``.

    >>> scale, factors = encode_e4m3(np.float32([[448, 1], [0.9, 0]]))
    >>> scale.tolist(), factors.tolist()
    ([0.001953125], [[229376, 512], [448, 0]])
    """
    code = ELEMENTS["fp8-e4m3"]
    if scale is None:
        scale = _positive(steps.max(initial=np.float32(0)) / np.float32(code.maximum))
    factors = np.maximum(code.nearest_integers(steps / scale), 1)
    return np.full(1, scale, np.float32), np.where(steps > 0, factors, 0).astype(np.int32)


def choose_uint8(w: Float32, *, group: int, element: Element, rule: str) -> Encoded:
    """Scales of groups by one of `RULES`, as `encode_uint8` has them."""
    return encode_uint8(_steps(w, group, lambda part: RULES[rule](part, element)))


def choose_shift(w: Float32, *, group: int, element: Element, rule: str) -> Encoded:
    """OCP's scales: ``2**(floor(log2(absmax)) - floor(log2(largest level)))``.

    In the specification's numbers the exponent is at least -127, E8M0's smallest. What exceeds the
    largest level afterwards, by less than a factor of two, saturates.

    Source: OCP Microscaling Formats (MX) Specification 1.0, section 6.3.

    >>> w = np.float32([[7.9, 1, 0.5, -0.4]])
    >>> choose_shift(w, group=2, element=ELEMENTS["fp4-e2m1"], rule="absmax")[1].tolist()
    [[8, 1]]
    """
    unit = np.frexp(element.unit)[1] - 1
    top = np.frexp(element.maximum)[1] - 1 + unit

    def step(part: Float32) -> Float32:
        exponent = np.frexp(np.abs(part).max(axis=-1, initial=0))[1] - 1 - top
        exponent = np.maximum(exponent, _E8M0_LEAST)
        return np.asarray(np.ldexp(np.float32(1), exponent + unit), np.float32)

    return encode_shift(_steps(w, group, step))


def choose_e4m3(w: Float32, *, group: int, element: Element, rule: str) -> Encoded:
    """NVFP4's two levels: ``g = amax / (448 * 6)``, ``s_b = e4m3(amax_b / 6 / g)`` for FP4 E2M1.

    In units of the integers: ``scale = amax / (448 * 512 * largest)`` and groups have the step
    ``amax_b / largest``; each one float32 operation. The smallest E4M3 number, 1/512, stands for
    all below it.

    Source: NVIDIA, "Introducing NVFP4 for efficient and accurate low-precision inference", 2025.

    >>> w = np.float32([[6, 1, 3, -0.4]])
    >>> choose_e4m3(w, group=2, element=ELEMENTS["fp4-e2m1"], rule="absmax")[1].tolist()
    [[229376, 114688]]
    """
    largest = np.float32(element.maximum)
    steps = _steps(w, group, lambda part: np.abs(part).max(axis=-1, initial=0) / largest)
    reach = np.float32(ELEMENTS["fp8-e4m3"].maximum * element.maximum)
    return encode_e4m3(steps, _positive(np.abs(w).max(initial=np.float32(0)) / reach))


def _positive(scale: Any) -> np.float32:
    """A scale that can divide: 1 instead of 0, and no subnormal."""
    return np.float32(max(scale, SMALLEST_SCALE)) if scale > 0 else np.float32(1)


def _steps(w: Float32, group: int, rule: Callable[[Float32], Float32]) -> Float32:
    """float32[R, G] by a rule; 0 for groups that are all zero."""
    return reduce_groups(
        w, group, lambda part: np.where(part.any(axis=-1), rule(part), np.float32(0))
    )


@dataclass(frozen=True)
class GroupScales:
    """What is done for one kind of factors.

    Attributes:
        choose: weights float32[R, K] with ``group``, ``element``, ``rule`` to `Encoded`.
        encode: steps float32[R, G] to `Encoded`.
        rules: names of the rules that `choose` follows.
    """

    choose: Callable[..., Encoded]
    encode: Callable[[Float32], Encoded]
    rules: tuple[str, ...]


GROUP_SCALES: dict[str, GroupScales] = {
    "uint8": GroupScales(choose_uint8, encode_uint8, tuple(RULES)),
    "shift": GroupScales(choose_shift, encode_shift, ("absmax",)),
    "e4m3": GroupScales(choose_e4m3, encode_e4m3, ("absmax",)),
}
"""Every kind of factors by name."""

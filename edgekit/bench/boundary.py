"""Values at the boundary of a network: dtypes, layouts, and what integers mean."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgekit.bench.subject import Port

Array = NDArray[Any]


class BoundaryError(ValueError):
    """Values that do not fit the network's inputs or outputs."""


def check_inputs(ports: Sequence[Port], inputs: Mapping[str, Array]) -> None:
    """Refuse missing and unknown names, and shapes that do not fit.

    Raises:
        BoundaryError: names what does not fit and what would.
    """
    names = [port.name for port in ports]
    if sorted(inputs) != sorted(names):
        raise BoundaryError(f"inputs are {sorted(inputs)}, the network's are {names}")
    for port in ports:
        shape = inputs[port.name].shape
        if shape != port.source_shape:
            raise BoundaryError(
                f"input {port.name!r} has shape {list(shape)}, must be {list(port.source_shape)}"
            )


def convert(port: Port, values: Array, dtype: str) -> Array:
    """The port's values in the element type that a runtime wants.

    Args:
        port: says what its integers mean.
        values: in the port's dtype, or real numbers.
        dtype: the port's own, or ``float32``.

    Raises:
        BoundaryError: a dtype that is neither, NaN for an integer, or integers without a scale.

    >>> port = Port("x", "int8", (2,), None, None, 2, 0.5, 1)
    >>> convert(port, np.array([1.0, -9.0]), "int8")
    array([  3, -17], dtype=int8)
    >>> convert(port, np.array([3, 1], np.int8), "float32")
    array([1., 0.], dtype=float32)
    """
    real = values.dtype.kind == "f"
    if not real and values.dtype != np.dtype(port.dtype):
        raise BoundaryError(f"{port.name!r} is {values.dtype}, must be {port.dtype} or float32")
    if real and not np.isfinite(values).all():
        raise BoundaryError(f"{port.name!r} holds NaN or infinity")
    if dtype not in (port.dtype, "float32"):
        raise BoundaryError(f"{port.name!r} is {port.dtype}; the runtime's file wants {dtype}")
    if dtype == "float32":
        return values.astype(np.float32) if real else dequantise(port, values).astype(np.float32)
    return quantise(port, values) if real else values


def quantise(port: Port, real: Array) -> Array:
    """Real numbers as the port's integers: to nearest, ties away from zero, saturated.

    Raises:
        BoundaryError: the port has no scale.
    """
    if port.scale is None or port.zero_point is None:
        raise BoundaryError(f"{port.name!r} is {port.dtype} without a scale; give {port.dtype}")
    scaled = real.astype(np.float64) / port.scale
    rounded = np.trunc(scaled + np.copysign(0.5, scaled)) + port.zero_point
    limits = np.iinfo(port.dtype)
    quantised: Array = np.clip(rounded, limits.min, limits.max).astype(port.dtype)
    return quantised


def dequantise(port: Port, values: Array) -> Array:
    """What a port's values mean, float64; integers without a scale mean themselves."""
    real = values.astype(np.float64)
    if not port.is_integer or port.scale is None or port.zero_point is None:
        return real
    return (real - port.zero_point) * port.scale


def to_program(port: Port, values: Array) -> Array:
    """From the source's layout to the program's, contiguous and little-endian."""
    if port.permutation is not None:
        values = values.transpose(port.permutation)
    return np.ascontiguousarray(values, values.dtype.newbyteorder("<"))


def from_program(port: Port, values: Array) -> Array:
    """From the program's layout to the source's; a copy."""
    values = values.reshape(port.program_shape)
    if port.permutation is not None:
        values = values.transpose(np.argsort(port.permutation))
    return values.astype(values.dtype.newbyteorder("="), order="C", copy=True)

"""Samples for verification and calibration, from ``.npz`` files or arrays.

How arrays are found and what they mean says :mod:`edgekit.bench.dataset`, which boards use as well.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from edgekit.bench import dataset
from edgekit.bench.boundary import BoundaryError
from edgekit.deploy.ondevice import ports_of
from edgekit.errors import InvalidDataError
from edgekit.program.ir import Array, Program, Tensor

Samples = dataset.Dataset


def read_arrays(source: Path | str | Mapping[str, Array] | Array) -> dict[str, Array]:
    """Arrays by key, from an ``.npz`` or ``.npy`` file (never unpickled), a mapping or one array.

    Raises:
        InvalidDataError: unreadable, not an array file, or holding pickled objects.
    """
    if isinstance(source, Mapping):
        return {str(k): np.asarray(v) for k, v in source.items()}
    if isinstance(source, np.ndarray):
        return {"x": source}
    if not isinstance(source, str | Path):
        raise InvalidDataError(
            f"data is a {type(source).__name__}, must be a path, an array or arrays by input name"
        )
    try:
        return dataset.read_arrays(Path(source))
    except BoundaryError as error:
        raise InvalidDataError(str(error)) from error


def samples_for(
    program: Program, source: Path | str | Mapping[str, Array] | Array, *, raw: bool = False
) -> Samples:
    """The data set as the program's inputs.

    Args:
        program: whose inputs to match; with state it also takes sequences. A sequence of one step
            is an input like any other.
        source: see :func:`read_arrays`.
        raw: refuse anything that is not in the input's dtype already; there are no labels.

    Raises:
        InvalidDataError: keys, shapes or counts of samples or steps do not fit, none of them, NaN.
    """
    arrays = read_arrays(source)
    try:
        return dataset.match(ports_of(program)[0], arrays, sequences=bool(program.state), raw=raw)
    except BoundaryError as error:
        raise InvalidDataError(str(error)) from error


def dequantize(values: Array, tensor: Tensor) -> Array:
    """What a tensor's values mean, in float64; integers without a scale mean themselves."""
    real = values.astype(np.float64)
    q = tensor.quantization
    if not tensor.dtype.is_integer or q is None or q.axis is not None:
        return real
    return (real - q.scalar_zero_point) * q.scalar_scale

"""Samples for verification and calibration, from ``.npz`` files or arrays.

A data set is arrays whose first axis counts samples. Inputs are found by the model's input names;
a model with one input also takes ``x``, ``X``, ``inputs`` or ``x_test``. Labels are ``y``,
``labels`` or ``y_test``. Values in the input's own dtype are taken as they are; others are real
numbers, which an integer input quantises with its scale and zero point. A file of integers that
carries scalar ``scale`` and ``zero_point`` describes real numbers, unless they are the input's own.

For a Program with state an array may have a further axis behind the first, which counts the steps
of a sequence: [N, T, ...]. Every input then has as many, and a label belongs to a whole sequence.
"""

from __future__ import annotations

import struct
import tokenize
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from edgekit.errors import InvalidDataError
from edgekit.program.ir import Array, Boundary, Program, Tensor

INPUT_KEYS = ("x", "X", "inputs", "x_test")
LABEL_KEYS = ("y", "labels", "y_test")

MAX_UNPACKED_BYTES = 4 << 30
"""Most bytes that a compressed data file may unpack to."""

_UNREADABLE = (
    OSError,
    ValueError,
    EOFError,
    KeyError,
    TypeError,
    SyntaxError,
    MemoryError,
    OverflowError,
    NotImplementedError,
    RuntimeError,
    struct.error,
    tokenize.TokenError,
    zipfile.BadZipFile,
    zlib.error,
)
"""What NumPy and the standard library raise on corrupt array files."""


@dataclass(frozen=True)
class Samples:
    """Inputs by name, first axis counts, and labels where there are any.

    Attributes:
        inputs: array[N, ...] by input name, in the program's dtype and source shape; [N, T, ...]
            where samples are sequences.
        real: the same before any quantisation, float32: what the float model is given.
        labels: int64[N] or None.
        steps: T where samples are sequences, each from reset; None where each is one input.
    """

    inputs: Mapping[str, Array]
    real: Mapping[str, Array]
    labels: Array | None
    steps: int | None = None

    def __len__(self) -> int:
        return len(next(iter(self.inputs.values())))

    def __iter__(self) -> Iterator[dict[str, Array]]:
        return (self[i] for i in range(len(self)))

    def __getitem__(self, index: int) -> dict[str, Array]:
        return {name: values[index] for name, values in self.inputs.items()}

    def first(self, count: int) -> Samples:
        """At most `count` samples from the front."""
        return replace(
            self,
            inputs={n: v[:count] for n, v in self.inputs.items()},
            real={n: v[:count] for n, v in self.real.items()},
            labels=None if self.labels is None else self.labels[:count],
        )


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
    path = Path(source)
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                unpacked = sum(member.file_size for member in archive.infolist())
            if unpacked > MAX_UNPACKED_BYTES:
                raise InvalidDataError(
                    f"{path}: unpacks to {unpacked:,} bytes, more than {MAX_UNPACKED_BYTES:,}"
                )
        loaded = np.load(path, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            return {"x": loaded}
        with loaded:
            arrays = {key: loaded[key] for key in loaded.files}
    except FileNotFoundError as error:
        raise InvalidDataError(f"{path}: no such file") from error
    except _UNREADABLE as error:
        reason = "it holds pickled objects" if "pickle" in str(error).lower() else str(error)
        raise InvalidDataError(
            f"{path}: not a NumPy array file (.npz or .npy without pickles): {reason}"
        ) from error
    foreign = sorted(key for key, value in arrays.items() if not isinstance(value, np.ndarray))
    if foreign:
        raise InvalidDataError(f"{path}: holds files that are no arrays: {foreign}")
    return arrays


def samples_for(
    program: Program, source: Path | str | Mapping[str, Array] | Array, *, raw: bool = False
) -> Samples:
    """The data set as the program's inputs.

    Args:
        program: whose inputs to match; with state it also takes sequences. A sequence of one step
            is an input like any other.
        source: see :func:`read_arrays`.
        raw: refuse anything that is not in the input's dtype already.

    Raises:
        InvalidDataError: keys, shapes or counts of samples or steps do not fit, none of them, NaN.
    """
    arrays = read_arrays(source)
    found: dict[str, Array] = {}
    real: dict[str, Array] = {}
    used: set[str] = set()
    steps: dict[str, int | None] = {}
    for boundary in program.inputs:
        key = _input_key(program, boundary, arrays)
        used.add(key)
        tensor = program.tensors[boundary.tensor]
        steps[boundary.name] = _steps(arrays[key], boundary, key, sequences=bool(program.state))
        values = _shaped(arrays[key], boundary, steps[boundary.name])
        found[boundary.name], real[boundary.name] = _typed(values, tensor, key, arrays, raw=raw)
    counts = {name: len(values) for name, values in found.items()}
    if len(set(counts.values())) != 1:
        raise InvalidDataError(f"inputs have different numbers of samples: {counts}")
    count = next(iter(counts.values()))
    if count == 0:
        raise InvalidDataError("there are no samples")
    if len(set(steps.values())) != 1:
        counts = {name: number or 1 for name, number in steps.items()}
        raise InvalidDataError(f"inputs have different numbers of steps: {counts}")
    rest = {key: values for key, values in arrays.items() if key not in used}
    labels = None if raw else _labels(rest, count)
    return Samples(found, real, labels, next(iter(steps.values())))


def _input_key(program: Program, boundary: Boundary, arrays: Mapping[str, Array]) -> str:
    if boundary.name in arrays:
        return boundary.name
    if len(program.inputs) == 1:
        for key in INPUT_KEYS:
            if key in arrays:
                return key
        numeric = [k for k, v in arrays.items() if k not in LABEL_KEYS and v.ndim > 1]
        if len(numeric) == 1:
            return numeric[0]
    raise InvalidDataError(
        f"no data for input {boundary.name!r}: the file has {sorted(arrays)}; name the array "
        f"{boundary.name!r}"
        + (" or 'x'" if len(program.inputs) == 1 and boundary.name != "x" else "")
    )


def _steps(values: Array, boundary: Boundary, key: str, *, sequences: bool) -> int | None:
    """The number of steps of each sample, None where it is one input.

    Samples and steps may lack axes of extent 1, such as batch and channel.

    Raises:
        InvalidDataError: neither [N, *source_shape] nor, where there may be sequences,
            [N, T, *source_shape], or T is 0.
    """
    shape = boundary.source_shape
    if values.ndim > 0 and _without_ones(values.shape[1:]) == _without_ones(shape):
        return None
    if sequences and values.ndim > 1 and _without_ones(values.shape[2:]) == _without_ones(shape):
        steps: int = values.shape[1]
        if steps == 0:
            raise InvalidDataError(f"array {key!r} has shape {list(values.shape)}: no steps")
        return steps
    wanted = ", ".join(map(str, shape[1:] if shape[:1] == (1,) else shape))
    raise InvalidDataError(
        f"array {key!r} has shape {list(values.shape)}, must be [N, {wanted}]"
        + f" or, as sequences, [N, T, {wanted}]" * sequences
    )


def _without_ones(shape: Sequence[int]) -> list[int]:
    return [extent for extent in shape if extent != 1]


def _shaped(values: Array, boundary: Boundary, steps: int | None) -> Array:
    """[N, *source_shape], or [N, T, *source_shape]."""
    time = () if steps is None else (steps,)
    return values.reshape(len(values), *time, *boundary.source_shape)


def _typed(
    values: Array, tensor: Tensor, key: str, arrays: Mapping[str, Array], *, raw: bool
) -> tuple[Array, Array]:
    """Values in the input's dtype, and the real numbers that they stand for (float32)."""
    dtype = np.dtype(tensor.dtype.value)
    if values.dtype.kind not in "iufb" or (raw and values.dtype != dtype):
        raise InvalidDataError(f"array {key!r} is {values.dtype}, must be {dtype}")
    meaning = _described(arrays) if values.dtype.kind in "iu" else None
    if values.dtype == dtype and (raw or meaning is None or _same(meaning, tensor)):
        if not tensor.dtype.is_integer and not np.isfinite(values).all():
            raise InvalidDataError(f"array {key!r} holds NaN or infinity")
        return values, dequantize(values, tensor).astype(np.float32)
    real = values.astype(np.float64)
    if meaning is not None:
        real = (real - meaning[1]) * meaning[0]
    if not np.isfinite(real).all():
        raise InvalidDataError(f"array {key!r} holds NaN or infinity")
    if not tensor.dtype.is_integer:
        return real.astype(np.float32), real.astype(np.float32)
    if tensor.quantization is None:
        raise InvalidDataError(
            f"array {key!r} is {values.dtype}, must be {dtype}: the input has no scale"
        )
    return quantize_real(real, tensor), real.astype(np.float32)


def _described(arrays: Mapping[str, Array]) -> tuple[float, float] | None:
    """Scale and zero point that a file of integers carries, where it does."""
    scale, zero_point = arrays.get("scale"), arrays.get("zero_point")
    if scale is None or zero_point is None or not scale.ndim == zero_point.ndim == 0:
        return None
    return float(scale), float(zero_point)


def _same(meaning: tuple[float, float], tensor: Tensor) -> bool:
    """Whether a file's integers mean what the tensor's do, scales compared as float32."""
    q = tensor.quantization
    if q is None or q.axis is not None:
        return True
    return (float(np.float32(meaning[0])), meaning[1]) == (q.scalar_scale, q.scalar_zero_point)


def quantize_real(real: Array, tensor: Tensor) -> Array:
    """Real numbers as the tensor's integers, rounded to nearest, ties away from zero, saturated."""
    assert tensor.quantization is not None
    scaled = real / tensor.quantization.scalar_scale
    rounded = np.trunc(scaled + np.copysign(0.5, scaled))
    low, high = tensor.dtype.limits
    shifted = rounded + tensor.quantization.scalar_zero_point
    quantised: Array = np.clip(shifted, low, high).astype(tensor.dtype.value)
    return quantised


def dequantize(values: Array, tensor: Tensor) -> Array:
    """What a tensor's values mean, in float64; integers without a scale mean themselves."""
    real = values.astype(np.float64)
    q = tensor.quantization
    if not tensor.dtype.is_integer or q is None or q.axis is not None:
        return real
    return (real - q.scalar_zero_point) * q.scalar_scale


def _labels(arrays: Mapping[str, Array], count: int) -> Array | None:
    for key in LABEL_KEYS:
        values = arrays.get(key)
        if values is None:
            continue
        if values.shape != (count,) or values.dtype.kind not in "iu":
            raise InvalidDataError(
                f"labels {key!r} are {values.dtype}{list(values.shape)}, must be integers [{count}]"
            )
        return values.astype(np.int64)
    return None

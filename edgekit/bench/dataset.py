"""Data sets: array files read, and matched to the inputs of a network. Boards and hosts read alike.

A data set is arrays whose first axis counts samples. Inputs are found by the network's input names;
a network with one input also takes ``x``, ``X``, ``inputs`` or ``x_test``, or the only array of
several axes that is no label. Labels are ``y``, ``labels`` or ``y_test``. Values in the input's own
dtype are taken as they are; others are real numbers, which an integer input quantises with its
scale and zero point. A file of integers that carries scalar ``scale`` and ``zero_point`` describes
real numbers, unless they are the input's own.

For a network with state an array may have a further axis behind the first, which counts the steps
of a sequence: [N, T, ...]. Every input then has as many, and a label belongs to a whole sequence.
"""

from __future__ import annotations

import lzma
import math
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgekit.bench.boundary import BoundaryError, dequantise, quantise
from edgekit.bench.fields import shortened
from edgekit.bench.subject import Port

Array = NDArray[Any]

INPUT_KEYS = ("x", "X", "inputs", "x_test")
"""Names that also stand for the only input."""

LABEL_KEYS = ("y", "labels", "y_test")

GOLDEN = (math.sqrt(5) - 1) / 2
"""Whose multiples, without their whole parts, fill the interval from 0 to 1 most evenly."""

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
    lzma.LZMAError,
)
"""What NumPy and the standard library raise on corrupt array files."""


@dataclass(frozen=True)
class Dataset:
    """Inputs by name, first axis counts, and labels where there are any.

    Attributes:
        inputs: array[N, ...] by input name, in the port's dtype and source shape; [N, T, ...]
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

    def first(self, count: int) -> Dataset:
        """At most `count` samples from the front."""
        return self._at(slice(count))

    def spread(self, count: int) -> Dataset:
        """At most `count` samples from all over; see :func:`spread`."""
        return self._at(spread(len(self), count))

    def _at(self, chosen: slice | Array) -> Dataset:
        return replace(
            self,
            inputs={name: values[chosen] for name, values in self.inputs.items()},
            real={name: values[chosen] for name, values in self.real.items()},
            labels=None if self.labels is None else self.labels[chosen],
        )


def spread(available: int, count: int) -> Array:
    """Indices of at most `count` samples, evenly spread over those there are.

    Files are often sorted, by class or by person, and samples from the front stand for nobody else.
    One is taken from each of `count` parts of equal size, at a place in it that moves on by the
    golden ratio: at equal distances a file that takes its classes in turn can show one class only.

    Args:
        available: samples that there are.
        count: at most so many.

    Returns:
        int64, ascending; all of them where there are no more than `count`.

    >>> spread(12, 4).tolist(), spread(3, 100).tolist()
    ([0, 4, 6, 11], [0, 1, 2])
    """
    if available <= count:
        return np.arange(available)
    borders = np.arange(count + 1) * available // count
    places = np.arange(count) * GOLDEN % 1
    chosen: Array = borders[:-1] + (places * np.diff(borders)).astype(np.int64)
    return chosen


def spread_source(source: str, available: int, count: int) -> str:
    """Where samples are from, for a sentence that begins with how many there are of them.

    >>> spread_source("test.npz", 5747, 100), spread_source("test.npz", 64, 64)
    ('5,747 in test.npz, evenly spread', 'test.npz')
    """
    return source if available <= count else f"{available:,} in {source}, evenly spread"


def read_arrays(path: Path) -> dict[str, Array]:
    """Arrays by key from an ``.npz`` file, or ``x`` from an ``.npy`` file; never unpickled.

    Raises:
        BoundaryError: unreadable, not an array file, or holding pickled objects.
    """
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                unpacked = sum(member.file_size for member in archive.infolist())
            if unpacked > MAX_UNPACKED_BYTES:
                raise BoundaryError(
                    f"{path}: unpacks to {unpacked:,} bytes, more than {MAX_UNPACKED_BYTES:,}"
                )
        loaded = np.load(path, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            return {"x": loaded}
        with loaded:
            arrays = {key: loaded[key] for key in loaded.files}
    except BoundaryError:
        raise
    except FileNotFoundError as error:
        raise BoundaryError(f"{path}: no such file") from error
    except _UNREADABLE as error:
        reason = "it holds pickled objects" if "pickle" in str(error).lower() else str(error)
        raise BoundaryError(
            f"{path}: not a NumPy array file (.npz or .npy without pickles): {reason}"
        ) from error
    foreign = sorted(key for key, value in arrays.items() if not isinstance(value, np.ndarray))
    if foreign:
        raise BoundaryError(f"{path}: holds files that are no arrays: {foreign}")
    return arrays


def match(
    ports: Sequence[Port],
    arrays: Mapping[str, Array],
    *,
    sequences: bool = False,
    raw: bool = False,
    window: int | None = None,
) -> Dataset:
    """The arrays of a data set as a network's inputs.

    Args:
        ports: inputs of the network.
        arrays: by key; see the module.
        sequences: the network has state, so that samples may be sequences. A sequence of one step
            is an input like any other.
        raw: refuse anything that is not in the input's dtype already; there are no labels.
        window: steps that every sample must have; None for any number, and for single inputs.

    Raises:
        BoundaryError: keys, shapes, dtypes or counts of samples or steps do not fit, none of
            them, NaN, or a scale that is none.
    """
    keys = {port.name: _input_key(ports, port, arrays) for port in ports}
    rest = {key: values for key, values in arrays.items() if key not in keys.values()}
    found: dict[str, Array] = {}
    real: dict[str, Array] = {}
    steps: dict[str, int | None] = {}
    for port in ports:
        key = keys[port.name]
        steps[port.name] = _steps(port, arrays[key], key, sequences=sequences, window=window)
        values = _shaped(port, arrays[key], steps[port.name])
        found[port.name], real[port.name] = _typed(port, values, key, rest, raw=raw)
    counts = {name: len(values) for name, values in found.items()}
    if len(set(counts.values())) != 1:
        raise BoundaryError(f"inputs have different numbers of samples: {counts}")
    count = next(iter(counts.values()))
    if count == 0:
        raise BoundaryError("there are no samples")
    if len(set(steps.values())) != 1:
        numbers = {name: number or 1 for name, number in steps.items()}
        raise BoundaryError(f"inputs have different numbers of steps: {numbers}")
    labels = None if raw else _labels(rest, count)
    return Dataset(found, real, labels, next(iter(steps.values())))


def _input_key(ports: Sequence[Port], port: Port, arrays: Mapping[str, Array]) -> str:
    if port.name in arrays:
        return port.name
    if len(ports) == 1:
        for key in INPUT_KEYS:
            if key in arrays:
                return key
        numeric = [k for k, v in arrays.items() if k not in LABEL_KEYS and v.ndim > 1]
        if len(numeric) == 1:
            return numeric[0]
    raise BoundaryError(
        f"no data for input {port.name!r}: the file has {sorted(arrays)}; name the array "
        f"{port.name!r}" + (" or 'x'" if len(ports) == 1 and port.name != "x" else "")
    )


def _steps(
    port: Port, values: Array, key: str, *, sequences: bool, window: int | None
) -> int | None:
    """The number of steps of each sample, None where it is one input.

    Samples and steps may lack axes of extent 1, such as batch and channel.

    Raises:
        BoundaryError: neither [N, *source_shape] nor, where there may be sequences,
            [N, T, *source_shape], or T is 0 or not the window's.
    """
    shape = port.source_shape
    if window is not None:
        return _window(port, values, key, window)
    if values.ndim > 0 and _without_ones(values.shape[1:]) == _without_ones(shape):
        return None
    if sequences and values.ndim > 1 and _without_ones(values.shape[2:]) == _without_ones(shape):
        steps: int = values.shape[1]
        if steps == 0:
            raise BoundaryError(f"array {key!r} has shape {list(values.shape)}: no steps")
        return steps
    wanted = ", ".join(map(str, shape[1:] if shape[:1] == (1,) else shape))
    raise BoundaryError(
        f"array {key!r} has shape {list(values.shape)}, must be [N, {wanted}]"
        + f" or, as sequences, [N, T, {wanted}]" * sequences
    )


def _window(port: Port, values: Array, key: str, window: int) -> int:
    """The steps of windows [N, T, *source_shape], axes of extent 1 apart.

    Raises:
        BoundaryError: another shape; says where the time axis lies where it lies elsewhere.
    """
    wanted, axes = _without_ones(port.source_shape), values.shape[1:]
    if values.ndim > 1 and axes[0] == window and _without_ones(axes[1:]) == wanted:
        return window
    shape = ", ".join(map(str, (window, *wanted)))
    hint = ""
    if sorted(_without_ones(axes)) == sorted(_without_ones((window, *wanted))):
        hint = "; its time axis lies in another place, and must be the first of a window"
    elif values.ndim > 1 and _without_ones(axes[1:]) == wanted:
        hint = f"; these have {axes[0]} steps"
    elif _without_ones(axes) == wanted:
        hint = "; these are single samples"
    raise BoundaryError(
        f"array {key!r} has shape {list(values.shape)}, must be windows [N, {shape}]{hint}"
    )


def _without_ones(shape: Sequence[int]) -> list[int]:
    return [extent for extent in shape if extent != 1]


def _shaped(port: Port, values: Array, steps: int | None) -> Array:
    """[N, *source_shape], or [N, T, *source_shape]."""
    time = () if steps is None else (steps,)
    return values.reshape(len(values), *time, *port.source_shape)


def _typed(
    port: Port, values: Array, key: str, rest: Mapping[str, Array], *, raw: bool
) -> tuple[Array, Array]:
    """Values in the input's dtype, and the real numbers that they stand for (float32)."""
    dtype = np.dtype(port.dtype)
    if values.dtype.kind not in "iufb" or (raw and values.dtype != dtype):
        raise BoundaryError(f"array {key!r} is {values.dtype}, must be {dtype}")
    meaning = _described(rest) if values.dtype.kind in "iu" and not raw else None
    if values.dtype == dtype and (meaning is None or _same(port, meaning)):
        if not port.is_integer:
            _require_finite(values, key)
        return values, dequantise(port, values).astype(np.float32)
    # In float64 until it is rounded: halves must not move.
    real = values.astype(np.float64)
    if meaning is not None:
        real = (real - meaning[1]) * meaning[0]
    with np.errstate(over="ignore"):
        single = real.astype(np.float32)
    _require_finite(single, key)
    if not port.is_integer:
        return single, single
    if port.scale is None:
        raise BoundaryError(
            f"array {key!r} is {values.dtype}, must be {dtype}: the input has no scale"
        )
    return quantise(port, real), single


def _require_finite(values: Array, key: str) -> None:
    if not np.isfinite(values).all():
        raise BoundaryError(f"array {key!r} holds NaN or infinity as float32")


def _described(rest: Mapping[str, Array]) -> tuple[float, float] | None:
    """Scale and zero point that a file of integers carries, where it does.

    Raises:
        BoundaryError: one of them is no finite number, or the scale is not positive.
    """
    scale, zero_point = rest.get("scale"), rest.get("zero_point")
    if scale is None or zero_point is None or not scale.ndim == zero_point.ndim == 0:
        return None
    for key, value in (("scale", scale), ("zero_point", zero_point)):
        if value.dtype.kind not in "iuf" or not math.isfinite(value):
            raise BoundaryError(
                f"{key!r} of the data is {shortened(value)}, must be a finite number"
            )
    if scale <= 0:
        raise BoundaryError(f"'scale' of the data is {float(scale)}, must be positive")
    return float(scale), float(zero_point)


def _same(port: Port, meaning: tuple[float, float]) -> bool:
    """Whether a file's integers mean what the port's do, scales compared as float32."""
    if port.scale is None:
        return True
    return np.float32(meaning[0]) == np.float32(port.scale) and meaning[1] == port.zero_point


def _labels(rest: Mapping[str, Array], count: int) -> Array | None:
    for key in LABEL_KEYS:
        values = rest.get(key)
        if values is None:
            continue
        if values.shape != (count,) or values.dtype.kind not in "iu":
            raise BoundaryError(
                f"labels {key!r} are {values.dtype}{list(values.shape)}, must be integers [{count}]"
            )
        return values.astype(np.int64)
    return None

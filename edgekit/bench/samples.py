"""What is run: real samples where there are some, else seeded random ones."""

from __future__ import annotations

import struct
import tokenize
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgekit.bench.boundary import BoundaryError, dequantise, quantise
from edgekit.bench.subject import Port

Array = NDArray[Any]

INPUT_KEYS = ("x", "X", "inputs", "x_test")
"""Names that also stand for the only input."""

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
    """Inputs that are cycled, and labels where there are any.

    Attributes:
        inputs: array by input name for each sample, in the ports' dtypes and the source's layout.
        real: the same before any quantisation, float32, for runtimes that take real numbers.
        labels: int64[N], of sequences one for each; None without.
        source: where they came from, in words.
        steps: successive inputs that make up a sequence; None where each is a sample by itself.
    """

    inputs: Sequence[Mapping[str, Array]]
    real: Sequence[Mapping[str, Array]]
    labels: Array | None
    source: str
    steps: int | None = None

    def __len__(self) -> int:
        return len(self.inputs) // (self.steps or 1)

    @property
    def origin(self) -> str:
        """What the inputs are, in words."""
        if self.steps is None:
            return self.source
        return f"the steps of {len(self)} sequences of {self.source}"

    def first(self, count: int | None) -> Samples:
        """At most `count` samples or sequences from the front; None for all."""
        if count is None:
            return self
        inputs = count * (self.steps or 1)
        return replace(
            self,
            inputs=self.inputs[:inputs],
            real=self.real[:inputs],
            labels=None if self.labels is None else self.labels[:count],
        )


def seeded(ports: Sequence[Port], seed: int) -> Samples:
    """One input drawn at random: integers over their whole range, floats of standard normal."""
    rng = np.random.default_rng(seed)
    drawn: dict[str, Array] = {}
    for port in ports:
        if port.is_integer:
            limits = np.iinfo(port.dtype)
            values: Array = rng.integers(limits.min, limits.max, port.source_shape, endpoint=True)
        else:
            values = rng.standard_normal(port.source_shape)
        drawn[port.name] = values.astype(port.dtype)
    real = {p.name: dequantise(p, drawn[p.name]).astype(np.float32) for p in ports}
    return Samples([drawn], [real], None, f"random, seed {seed}")


def read_npz(path: Path) -> dict[str, Array]:
    """The arrays of an ``.npz`` file, never unpickled.

    Raises:
        BoundaryError: unreadable, or not such a file.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            unpacked = sum(member.file_size for member in archive.infolist())
        if unpacked > MAX_UNPACKED_BYTES:
            raise BoundaryError(f"{path}: unpacks to {unpacked:,} bytes")
        with np.load(path, allow_pickle=False) as loaded:
            arrays = {key: loaded[key] for key in loaded.files}
    except BoundaryError:
        raise
    except _UNREADABLE as error:
        raise BoundaryError(
            f"{path}: no NumPy array file (.npz without pickles): {error}"
        ) from error
    foreign = sorted(key for key, value in arrays.items() if not isinstance(value, np.ndarray))
    if foreign:
        raise BoundaryError(f"{path}: holds files that are no arrays: {foreign}")
    return arrays


def read_samples(ports: Sequence[Port], path: Path) -> Samples:
    """A data set as the network's inputs; the first axis of every array counts samples.

    Inputs are found by name; a network with one input also takes ``x``, ``X``, ``inputs`` or
    ``x_test``. Values in the input's dtype are taken as they are; others are real numbers.

    Raises:
        BoundaryError: keys, shapes, dtypes or counts do not fit, or there are no samples.
    """
    arrays = read_npz(path)
    found, real = {}, {}
    for port in ports:
        values = _shaped(port, _values_of(ports, port, arrays))
        found[port.name], real[port.name] = _typed(port, values)
    counts = {len(values) for values in found.values()}
    if len(counts) != 1 or counts == {0}:
        raise BoundaryError(f"{path}: inputs have {sorted(counts)} samples")
    (count,) = counts
    return Samples(
        [{name: values[i] for name, values in found.items()} for i in range(count)],
        [{name: values[i] for name, values in real.items()} for i in range(count)],
        _labels(arrays, count),
        path.name,
    )


def _values_of(ports: Sequence[Port], port: Port, arrays: Mapping[str, Array]) -> Array:
    keys = (port.name, *(INPUT_KEYS if len(ports) == 1 else ()))
    for key in keys:
        if key in arrays:
            return arrays[key]
    raise BoundaryError(f"no data for input {port.name!r}: the file has {sorted(arrays)}")


def _shaped(port: Port, values: Array) -> Array:
    """[N, *source_shape]; samples may lack axes of extent 1, such as batch and channel."""
    wanted = [d for d in port.source_shape if d != 1]
    if values.ndim == 0 or [d for d in values.shape[1:] if d != 1] != wanted:
        raise BoundaryError(
            f"array for {port.name!r} has shape {list(values.shape)}, "
            f"must be [N, {', '.join(map(str, port.source_shape))}]"
        )
    return values.reshape(len(values), *port.source_shape)


def _typed(port: Port, values: Array) -> tuple[Array, Array]:
    """Values in the port's dtype, and the real numbers that they stand for (float32)."""
    if values.dtype == np.dtype(port.dtype):
        if not port.is_integer and not np.isfinite(values).all():
            raise BoundaryError(f"array for {port.name!r} holds NaN or infinity")
        return values, dequantise(port, values).astype(np.float32)
    if values.dtype.kind not in "iufb":
        raise BoundaryError(f"array for {port.name!r} is {values.dtype}, must be {port.dtype}")
    real = values.astype(np.float32)
    if not np.isfinite(real).all():
        raise BoundaryError(f"array for {port.name!r} holds NaN or infinity")
    return (quantise(port, real) if port.is_integer else real), real


def _labels(arrays: Mapping[str, Array], count: int) -> Array | None:
    for key in LABEL_KEYS:
        values = arrays.get(key)
        if values is None:
            continue
        if values.shape != (count,) or values.dtype.kind not in "iu":
            raise BoundaryError(f"labels {key!r} must be integers [{count}]")
        return values.astype(np.int64)
    return None

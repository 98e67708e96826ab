"""Calibration data: checked, brought to one form, and described for the manifest."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from edgekit.errors import InvalidDataError, UsageError
from edgekit.program.ir import Array, Boundary, DType, Program


@dataclass(frozen=True)
class CalibrationRecord:
    """What a quantisation was calibrated with.

    Attributes:
        observer: name of the observer.
        seed: of the choice of samples.
        samples: how many were used.
        sha256: of the data that was used: names, dtypes, shapes and bytes.
    """

    observer: str
    seed: int
    samples: int
    sha256: str


def calibration_record(
    calibration: Mapping[str, Array],
    *,
    observer: str = "minmax",
    seed: int = 0,
    limit: int | None = None,
) -> CalibrationRecord:
    """Describe calibration data; arguments as for :func:`edgekit.quantize.static.quantize_static`.

    Raises:
        InvalidDataError: no samples, or arrays of different lengths.
    """
    arrays = {name: np.asarray(array) for name, array in calibration.items()}
    chosen = choose_samples(arrays, seed=seed, limit=limit)
    digest = hashlib.sha256()
    for name in sorted(arrays):
        array = arrays[name][chosen]
        array = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
        header = f"{name}\0{array.dtype.str}\0{array.shape}\0"
        digest.update(header.encode())
        digest.update(array.tobytes())
    return CalibrationRecord(observer, seed, len(chosen), digest.hexdigest())


def choose_samples(arrays: Mapping[str, Array], *, seed: int, limit: int | None) -> Sequence[int]:
    """Indices of the samples to use, ascending: all, or `limit` of them drawn with `seed`.

    Raises:
        InvalidDataError: no arrays, no samples, or arrays of different lengths.
        UsageError: the limit is not positive.
    """
    if limit is not None and limit < 1:
        raise UsageError(f"the limit of calibration samples is {limit}, must be at least 1")
    lengths = {name: a.shape[0] if a.ndim else 0 for name, a in arrays.items()}
    if not lengths or 0 in lengths.values():
        raise InvalidDataError("calibration data holds no samples; give a few hundred")
    if len(set(lengths.values())) > 1:
        raise InvalidDataError(f"calibration data has different numbers of samples: {lengths}")
    count = next(iter(lengths.values()))
    if limit is None or limit >= count:
        return range(count)
    drawn = np.random.Generator(np.random.PCG64(seed)).permutation(count)[:limit]
    return sorted(int(i) for i in drawn)


def samples_of(
    program: Program, calibration: Mapping[str, Array], *, seed: int, limit: int | None
) -> Iterator[Sequence[dict[str, Array]]]:
    """Samples in the Program's input dtypes and source shapes, each as the steps it consists of.

    Every sample starts from reset. Without a time axis it is one step.

    Args:
        program: the float Program.
        calibration: array by input name; the first axis counts samples, the rest is the input's
            shape, of which a batch axis of 1 may be left out. For a Program with state, a further
            axis behind the first may count steps; all inputs then have it, with the same extent.
        seed: of the choice of samples.
        limit: how many to use, None for all.

    Raises:
        InvalidDataError: inputs are missing or unknown, shapes or dtypes do not fit, or values are
            not finite; nothing is run before everything has been checked.
    """
    names = [b.name for b in program.inputs]
    missing = [n for n in names if n not in calibration]
    unknown = [n for n in calibration if n not in names]
    if missing or unknown:
        raise InvalidDataError(
            f"calibration data has {sorted(calibration)}, must have the model's inputs {names}"
        )
    arrays = {
        b.name: _checked(
            b,
            program.tensors[b.tensor].dtype,
            np.asarray(calibration[b.name]),
            sequences=bool(program.state),
        )
        for b in program.inputs
    }
    chosen = choose_samples(arrays, seed=seed, limit=limit)
    counts = {name: array.shape[1] for name, array in arrays.items()}
    steps = next(iter(counts.values()), 0)
    if set(counts.values()) != {steps} or steps == 0:
        raise InvalidDataError(
            f"calibration data has different numbers of steps, or none: {counts}"
        )
    return (
        [{name: array[i, t] for name, array in arrays.items()} for t in range(steps)]
        for i in chosen
    )


def _checked(boundary: Boundary, dtype: DType, array: Array, *, sequences: bool) -> Array:
    """The data as [samples, steps, ...]."""
    shape = boundary.source_shape
    bare = shape[1:] if shape[:1] == (1,) else shape
    single = array.ndim > 0 and array.shape[1:] in (shape, bare)
    if not single and not (sequences and array.ndim > 1 and array.shape[2:] in (shape, bare)):
        wanted = ", ".join(str(d) for d in shape)
        raise InvalidDataError(
            f"calibration data for {boundary.name!r} has shape {list(array.shape)}, "
            f"must be [samples, {wanted}]" + f" or [samples, steps, {wanted}]" * sequences
        )
    if array.dtype.kind not in "fiu":
        raise InvalidDataError(
            f"calibration data for {boundary.name!r} is {array.dtype}, must be real numbers"
        )
    if not np.isfinite(array).all():
        bad = int(np.argwhere(~np.isfinite(array))[0][0])
        raise InvalidDataError(
            f"calibration data for {boundary.name!r} holds NaN or infinity in sample {bad}"
        )
    with np.errstate(over="ignore"):
        converted = array.astype(dtype.numpy)
    if not np.isfinite(converted).all() or (dtype.is_integer and (converted != array).any()):
        raise InvalidDataError(
            f"calibration data for {boundary.name!r} has values that {dtype} cannot hold"
        )
    return converted.reshape(array.shape[0], 1 if single else array.shape[1], *shape)

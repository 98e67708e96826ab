"""Samples for verification and calibration, from ``.npz`` files or arrays.

How arrays are found and what they mean says :mod:`edgekit.bench.dataset`, which boards use as well.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from edgekit.bench import dataset
from edgekit.bench.boundary import BoundaryError
from edgekit.data.preprocessing import Preprocessing
from edgekit.data.streams import windows_of_stream
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
    program: Program,
    source: Path | str | Mapping[str, Array] | Array,
    *,
    raw: bool = False,
    window: int | None = None,
) -> Samples:
    """The data set as the program's inputs.

    Args:
        program: whose inputs to match; with state it also takes sequences. A sequence of one step
            is an input like any other.
        source: see :func:`read_arrays`.
        raw: refuse anything that is not in the input's dtype already; there are no labels.
        window: steps that every sample must have, of a network that decides over windows.

    Raises:
        InvalidDataError: keys, shapes or counts of samples or steps do not fit, none of them, NaN.
    """
    arrays, sequences = read_arrays(source), bool(program.state)
    try:
        ports = ports_of(program)[0]
        return dataset.match(ports, arrays, sequences=sequences, raw=raw, window=window)
    except BoundaryError as error:
        raise InvalidDataError(str(error)) from error


def read_preprocessing(path: Path) -> Preprocessing:
    """What a file declares to happen before the network.

    Raises:
        InvalidDataError: it cannot be read, or declares something else.
    """
    try:
        return Preprocessing.from_json(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidDataError(f"{path}: cannot be read: {error}") from error
    except InvalidDataError as error:
        raise InvalidDataError(f"{path}: {error}") from error


TIMES = "seconds"
"""Key of the times of a recording's samples, float[time]: what tells it from windows."""


def is_recording(arrays: Mapping[str, Array]) -> bool:
    """Whether arrays are a recording with the times of its samples."""
    return TIMES in arrays


def cut_recording(
    arrays: Mapping[str, Array], preprocessing: Preprocessing, where: str
) -> dict[str, Array]:
    """A raw recording as windows of the network's input.

    It is checked, cut as the network's windows were, and goes through the declared steps, which
    have channels in front of time. The label of a window is that of its last sample.

    Args:
        arrays: ``seconds`` float[time], an array [time, channels] and labels int[time], optional.
        preprocessing: with the window, as the artifact carries it.
        where: what the recording is, for messages.

    Returns:
        ``x`` float32[N, T, channels], and ``labels`` where there are any.

    Raises:
        InvalidDataError: NaN, a gap, times that do not ascend, another rate or shape, or an
            artifact that does not declare how recordings are cut.
    """
    window = preprocessing.window
    if window is None:
        raise InvalidDataError(
            f"{where}: holds the times of a recording, and the artifact declares no window to cut "
            "it by; export with --preprocessing, or give windows [N, T, ...]"
        )
    labels = next((arrays[key] for key in dataset.LABEL_KEYS if key in arrays), None)
    others = [key for key in arrays if key != TIMES and key not in dataset.LABEL_KEYS]
    if len(others) != 1:
        raise InvalidDataError(f"{where}: a recording has one array of values, there are {others}")
    seconds, values = arrays[TIMES], arrays[others[0]]
    windows = windows_of_stream(seconds, values, window, where=where)
    x = preprocessing.apply(windows.transpose(0, 2, 1)).transpose(0, 2, 1)
    if labels is None:
        return {"x": x}
    if labels.shape != seconds.shape:
        raise InvalidDataError(
            f"{where}: labels have shape {list(labels.shape)}, a recording has one for each of "
            f"{len(seconds)} samples"
        )
    last = np.arange(len(windows)) * window.stride + window.length - 1
    return {"x": x, "labels": labels[last]}


def dequantize(values: Array, tensor: Tensor) -> Array:
    """What a tensor's values mean, in float64; integers without a scale mean themselves."""
    real = values.astype(np.float64)
    q = tensor.quantization
    if not tensor.dtype.is_integer or q is None or q.axis is not None:
        return real
    return (real - q.scalar_zero_point) * q.scalar_scale

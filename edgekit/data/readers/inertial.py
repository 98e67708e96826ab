"""What recordings of wrists and waists have in common: the prepared file of windows.

An ``.npz`` of windows holds

===============  =========================================================================
``X``            int16[N, time, channels]; times ``scale`` it is in physical units
``scale``        float[channels]
``y``            integers [N], index into ``class_names``
``class_names``  text [classes]
``subject``      integers [N]
``split``        integers [N]: 0 train, 1 validation, 2 test
``random_split`` likewise, optional: drawn over windows
===============  =========================================================================
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgekit.data.files import (
    check_class_names,
    check_labels,
    check_partition,
    check_scale,
    read_npz,
)
from edgekit.errors import InvalidDataError

Array = NDArray[Any]

CHANNELS = 6
"""Acceleration x, y, z, then angular rate x, y, z."""


@dataclass(frozen=True, eq=False)
class Windows:
    """A prepared file.

    Attributes:
        x: float32[N, 6, time] in physical units.
        y: int64[N].
        classes: names.
        subject: int64[N].
        split: int8[N] of 0, 1 and 2.
        random_split: likewise, None where the file has none.
    """

    x: Array
    y: Array
    classes: tuple[str, ...]
    subject: Array
    split: Array
    random_split: Array | None


def read_windows(path: Path, *, length: int) -> Windows:
    """Read a prepared file.

    Raises:
        InvalidDataError: unreadable, arrays missing, or of other shapes than the layout says.
    """
    keys = ("X", "scale", "y", "class_names", "subject", "split")
    arrays = read_npz(path, keys, ("random_split",))
    x, subject = arrays["X"], arrays["subject"]
    if x.dtype != np.int16 or x.ndim != 3 or x.shape[1:] != (length, CHANNELS):
        raise InvalidDataError(
            f"{path}: X is {x.dtype}{list(x.shape)}, must be int16[N, {length}, {CHANNELS}]"
        )
    scale = check_scale(arrays["scale"], (CHANNELS,), path)
    names = check_class_names(arrays["class_names"], path)
    if subject.shape != (len(x),) or subject.dtype.kind not in "iu":
        raise InvalidDataError(f"{path}: subject must be integers [{len(x)}]")
    with np.errstate(over="ignore"):
        values = x * scale
    if not np.isfinite(values).all():
        raise InvalidDataError(f"{path}: X times scale is more than float32 holds")
    drawn = arrays.get("random_split")
    return Windows(
        x=np.ascontiguousarray(values.transpose(0, 2, 1), np.float32),
        y=check_labels(arrays["y"], len(x), len(names), path),
        classes=names,
        subject=subject.astype(np.int64),
        split=check_partition(arrays["split"], len(x), "split", path),
        random_split=(
            None if drawn is None else check_partition(drawn, len(x), "random_split", path)
        ),
    )

"""Spoken keywords as features: cepstral coefficients of one-second clips.

Computing features from recordings is not done here: the front end decides what they are, and a
device has to have the very same one. The accepted file holds what MLPerf Tiny's front end gives.
"""

from __future__ import annotations

from pathlib import Path
from types import MappingProxyType

import numpy as np

from edgekit.data.dataset import Samples, dataset
from edgekit.data.files import (
    check_class_names,
    check_labels,
    check_scale,
    file_sha256,
    read_npz,
)
from edgekit.data.splits import drawn_groups, random_partition
from edgekit.errors import InvalidDataError

_SHAPE = (49, 10)
_CODES = range(-128, 128)


@dataset(
    name="speech-commands-mfcc",
    description="spoken keywords, 49 frames of 10 cepstral coefficients, 12 classes",
    source="Warden 2018, Speech Commands, arXiv 1804.03209",
    license="CC BY 4.0",
    splits=("subject", "random"),
    formats="an .npz with X int8 or float32[N, 49, 10], y, class_names, and speaker for the split "
    "by subject; int8 means scale * (X - zero_point)",
    caveats=MappingProxyType({"random": "clips of one speaker lie on several sides"}),
)
def read(path: Path | None) -> tuple[Samples, str]:
    """Features float32[N, 1, 49, 10]; 60/20/20 of the speakers, or of the clips."""
    assert path is not None
    found = [path] if path.is_file() else sorted(path.glob("*.npz"))
    if len(found) != 1:
        raise InvalidDataError(f"{path}: must be one .npz file, or a folder with one")
    file = found[0]
    arrays = read_npz(file, ("X", "y", "class_names"), ("scale", "zero_point", "speaker"))
    x, names = arrays["X"], check_class_names(arrays["class_names"], file)
    if x.shape[1:] != _SHAPE or x.dtype not in (np.int8, np.float32):
        raise InvalidDataError(
            f"{file}: X is {x.dtype}{list(x.shape)}, must be int8 or float32[N, 49, 10]"
        )
    values = x.astype(np.float32)
    if x.dtype == np.int8:
        if not {"scale", "zero_point"} <= arrays.keys():
            raise InvalidDataError(f"{file}: X is int8 and lacks scalar scale and zero_point")
        scale, zero_point = check_scale(arrays["scale"], (), file), arrays["zero_point"]
        if zero_point.shape or zero_point.dtype.kind not in "iu" or zero_point not in _CODES:
            raise InvalidDataError(f"{file}: zero_point must be an integer from -128 to 127")
        with np.errstate(over="ignore"):
            values = scale * (values - zero_point.astype(np.float32))
    if not np.isfinite(values).all():
        raise InvalidDataError(f"{file}: X holds NaN or infinity")
    y = check_labels(arrays["y"], len(x), len(names), file)
    partitions = {"random": random_partition(len(x), validation=0.2, test=0.2)}
    speaker = arrays.get("speaker")
    if speaker is not None:
        if speaker.shape != (len(x),) or speaker.dtype.kind not in "iu":
            raise InvalidDataError(f"{file}: speaker must be integers [{len(x)}]")
        partitions["subject"] = drawn_groups(speaker, validation=0.2, test=0.2)
    samples = Samples(
        x=values[:, None],
        y=y,
        classes=names,
        partitions=partitions,
        groups=None if speaker is None else speaker.astype(np.int64),
    )
    return samples, file_sha256(file)

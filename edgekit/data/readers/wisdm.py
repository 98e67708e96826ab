"""WISDM 2019: 51 people, a smartwatch and a phone, 18 activities of three minutes each.

The watch alone is read, and of the activities the seven that are of the hand. A raw file holds one
sensor of one person, ``data_1600_accel_watch.txt``, in lines
``subject,code,nanoseconds,x,y,z;`` with m/s² or rad/s. How lines become windows:

1. An activity whose two sensors are not both recorded is dropped.
2. A recording at 20 Hz (by 2 % at most, both sensors) is taken as it is, one at 24.81 Hz (by 1 %)
   is interpolated to 20 Hz; any other rate means gaps or a broken clock, and is dropped.
3. The sensors have clocks of their own: they are aligned by their first samples, and end with the
   shorter one.
4. Windows of 40 samples (2 s) follow each other without overlap.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import numpy as np

from edgekit.data.dataset import Array, RemoteFile, Samples, dataset
from edgekit.data.files import file_sha256, files_sha256
from edgekit.data.preprocessing import Window
from edgekit.data.readers.inertial import read_windows
from edgekit.data.splits import group_partition, random_partition
from edgekit.data.windows import resampled, sampling_rate, sliding_windows
from edgekit.errors import InvalidDataError

ACTIVITIES = MappingProxyType(
    {
        "P": "dribbling",
        "O": "catch",
        "F": "typing",
        "Q": "writing",
        "R": "clapping",
        "G": "teeth",
        "S": "folding",
    }
)
"""The activities of the hand by their codes in the raw files."""

WINDOW = Window(length=40, stride=40, sampling_hz=20.0)

OTHER_RATE_HZ = 24.81
"""What some watches sampled at."""

_FILE = re.compile(r"data_(\d{4})_(accel|gyro)_watch\.txt")

Recording = tuple[Array, Array]
"""Ascending seconds float64[time], values float64[time, 3]."""


@dataset(
    name="wisdm-watch",
    description="inertial windows of a smartwatch, 6 channels x 40 samples at 20 Hz, 7 activities",
    source="Weiss 2019, WISDM Smartphone and Smartwatch Activity and Biometrics Dataset, "
    "UCI 10.24432/C5HK59",
    license="CC BY 4.0",
    splits=("subject", "random"),
    formats="the published .zip, its unpacked folder (.../raw/watch/{accel,gyro}/*.txt), or an "
    ".npz of windows (X int16[N, 40, 6], scale, y, class_names, subject, split, random_split)",
    caveats=MappingProxyType({"random": "windows of one person lie on several sides"}),
    files=(
        RemoteFile(
            "wisdm.zip",
            "https://archive.ics.uci.edu/static/public/507/"
            "wisdm+smartphone+and+smartwatch+activity+and+biometrics+dataset.zip",
            None,
            limit_bytes=1 << 30,
            archive=True,
        ),
    ),
    wanted=("*data_*_accel_watch.txt", "*data_*_gyro_watch.txt"),
)
def read(path: Path | None) -> tuple[Samples, str]:
    """Windows float32[N, 6, 40] in m/s² and rad/s; by subject, or drawn over windows."""
    assert path is not None
    prepared = [path] if path.is_file() else sorted(path.glob("*.npz"))
    if len(prepared) == 1:
        return _read_prepared(prepared[0]), file_sha256(prepared[0])
    files = {
        (int(match[1]), match[2]): found
        for found in sorted(path.rglob("data_*_watch.txt"))
        if (match := _FILE.fullmatch(found.name)) is not None
    }
    if not files:
        raise InvalidDataError(
            f"{path}: has neither data_*_accel_watch.txt and data_*_gyro_watch.txt nor one .npz"
        )
    return _read_raw(files, path), files_sha256(files.values(), path)


def subject_partition(subject: Array) -> Array:
    """int8[N]: of every five people in a row three train, one validates and one tests.

    >>> subject_partition(np.arange(1600, 1605)).tolist()
    [0, 0, 0, 1, 2]
    """
    return group_partition(
        subject,
        validation=[int(s) for s in np.unique(subject) if s % 5 == 3],
        test=[int(s) for s in np.unique(subject) if s % 5 == 4],
    )


def _read_prepared(path: Path) -> Samples:
    windows = read_windows(path, length=WINDOW.length)
    partitions = {"subject": windows.split}
    if windows.random_split is not None:
        partitions["random"] = windows.random_split
    return Samples(
        x=windows.x,
        y=windows.y,
        classes=windows.classes,
        partitions=partitions,
        groups=windows.subject,
        window=WINDOW,
    )


def _read_raw(files: Mapping[tuple[int, str], Path], folder: Path) -> Samples:
    pieces, labels, people = [], [], []
    dropped: Counter[str] = Counter()
    interpolated = 0
    for subject in sorted({subject for subject, _ in files}):
        sensors = [
            read_recordings(files[subject, sensor]) if (subject, sensor) in files else {}
            for sensor in ("accel", "gyro")
        ]
        for label, code in enumerate(ACTIVITIES):
            if not all(code in sensor for sensor in sensors):
                dropped["a sensor or the activity is missing"] += 1
                continue
            joined = aligned(sensors[0][code], sensors[1][code])
            if joined is None:
                dropped["neither 20 nor 24.81 Hz"] += 1
                continue
            recording, changed = joined
            interpolated += changed
            windows = sliding_windows(recording, length=WINDOW.length, stride=WINDOW.stride)
            pieces.append(windows)
            labels += [label] * len(windows)
            people += [subject] * len(windows)
    if not labels:
        raise InvalidDataError(f"{folder}: holds no whole window of {', '.join(ACTIVITIES)}")
    subject_of = np.array(people, np.int64)
    notes = [f"{count} recordings dropped: {why}" for why, count in sorted(dropped.items())]
    if interpolated:
        notes.append(f"{interpolated} recordings interpolated from 24.81 to 20 Hz")
    return Samples(
        x=np.ascontiguousarray(np.concatenate(pieces).transpose(0, 2, 1), np.float32),
        y=np.array(labels, np.int64),
        classes=tuple(ACTIVITIES.values()),
        partitions={
            "subject": subject_partition(subject_of),
            "random": random_partition(len(labels), validation=0.2, test=0.2),
        },
        groups=subject_of,
        window=WINDOW,
        notes=tuple(notes),
    )


def aligned(acceleration: Recording, rotation: Recording) -> tuple[Array, bool] | None:
    """Both sensors as one recording at 20 Hz, by their first samples.

    Returns:
        (float64[time, 6], whether it was interpolated), or None for a rate that is refused.
    """
    rates = [sampling_rate(seconds) for seconds, _ in (acceleration, rotation)]
    wanted = WINDOW.sampling_hz
    if all(math.isclose(rate, wanted, rel_tol=0.02) for rate in rates):
        values, changed = [v for _, v in (acceleration, rotation)], False
    elif all(math.isclose(rate, OTHER_RATE_HZ, rel_tol=0.01) for rate in rates):
        values, changed = [resampled(s, v, rate=wanted) for s, v in (acceleration, rotation)], True
    else:
        return None
    count = min(map(len, values))
    return np.concatenate([v[:count] for v in values], axis=1), changed


def read_recordings(path: Path) -> dict[str, Recording]:
    """The activities of the hand in a raw file, by code; samples in the order of their times.

    Raises:
        InvalidDataError: unreadable, or a line that is not six fields with finite numbers.
    """
    rows: dict[str, list[tuple[float, ...]]] = {}
    try:
        with path.open(encoding="ascii") as lines:
            for number, line in enumerate(lines, 1):
                fields = line.strip().removesuffix(";").split(",")
                if fields == [""]:
                    continue
                if len(fields) != 6:
                    raise InvalidDataError(
                        f"{path}:{number}: has {len(fields)} fields, must be "
                        "subject,code,nanoseconds,x,y,z;"
                    )
                if fields[1] in ACTIVITIES:
                    rows.setdefault(fields[1], []).append(tuple(map(float, fields[2:])))
    except OSError as error:
        raise InvalidDataError(f"{path}: cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise InvalidDataError(f"{path}: is not WISDM text: {error}") from error
    recordings = {}
    for code, values in rows.items():
        table = np.array(values, np.float64)
        if not np.isfinite(table).all():
            raise InvalidDataError(f"{path}: activity {code} holds NaN or infinity")
        table = table[np.argsort(table[:, 0], kind="stable")]
        recordings[code] = ((table[:, 0] - table[0, 0]) * 1e-9, table[:, 1:])
    return recordings

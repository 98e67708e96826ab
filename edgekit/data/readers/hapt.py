"""HAPT: 30 people with a phone at the waist, six activities and the transitions between postures.

``RawData/labels.txt`` says in lines ``experiment user activity start end`` which samples (from 1,
both included) of ``acc_expEE_userUU.txt`` (in g) and ``gyro_expEE_userUU.txt`` (in rad/s) are of
which activity. Windows of 128 samples at 50 Hz start every 64 inside such a stretch. The signals
are raw: figures do not compare with those on the filtered signals that the publisher also made.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from edgekit.data.dataset import Array, RemoteFile, Samples, dataset
from edgekit.data.files import file_sha256, files_sha256
from edgekit.data.preprocessing import Window
from edgekit.data.readers.inertial import read_windows
from edgekit.data.splits import group_partition
from edgekit.data.windows import sliding_windows
from edgekit.errors import InvalidDataError

CLASSES = (
    *("WALKING", "WALKING_UPSTAIRS", "WALKING_DOWNSTAIRS", "SITTING", "STANDING", "LAYING"),
    *("STAND_TO_SIT", "SIT_TO_STAND", "SIT_TO_LIE", "LIE_TO_SIT", "STAND_TO_LIE", "LIE_TO_STAND"),
)
"""In the order of their numbers, from 1, in the raw files."""

WINDOW = Window(length=128, stride=64, sampling_hz=50.0)

TEST_SUBJECTS = (2, 4, 9, 10, 12, 13, 18, 20, 24)
"""The publisher's choice."""

VALIDATION_SUBJECTS = (5, 14, 21, 27)
"""Of the publisher's 21 training subjects; ours."""

_LARGEST_BYTES = 1 << 26


@dataset(
    name="hapt",
    description="inertial windows of a phone, 6 channels x 128 samples at 50 Hz, 12 activities",
    source="Reyes-Ortiz et al. 2015, Smartphone-Based Recognition of Human Activities and Postural "
    "Transitions, UCI 10.24432/C54G7M",
    license="its page states CC BY 4.0, its README asks for citation and forbids commercial use",
    splits=("official",),
    formats="the published .zip, its unpacked folder (.../RawData/*.txt), or an .npz of windows "
    "(X int16[N, 128, 6], scale, y, class_names, subject, split)",
    files=(
        RemoteFile(
            "hapt.zip",
            "https://archive.ics.uci.edu/static/public/341/"
            "smartphone+based+recognition+of+human+activities+and+postural+transitions.zip",
            None,
            limit_bytes=1 << 28,
            archive=True,
        ),
    ),
    wanted=("*RawData/*.txt",),
)
def read(path: Path | None) -> tuple[Samples, str]:
    """Windows float32[N, 6, 128] in g and rad/s; the publisher's subjects test, four validate."""
    assert path is not None
    prepared = [path] if path.is_file() else sorted(path.glob("*.npz"))
    if len(prepared) == 1:
        windows = read_windows(prepared[0], length=WINDOW.length)
        digest = file_sha256(prepared[0])
        return _samples(windows.x, windows.y, windows.subject, windows.classes), digest
    labels = sorted(path.rglob("labels.txt"))
    if not labels:
        raise InvalidDataError(f"{path}: has neither RawData/labels.txt nor one .npz")
    return _read_raw(labels[0])


def _samples(x: Array, y: Array, subject: Array, classes: tuple[str, ...]) -> Samples:
    return Samples(
        x=x,
        y=y,
        classes=classes,
        partitions={
            "official": group_partition(subject, validation=VALIDATION_SUBJECTS, test=TEST_SUBJECTS)
        },
        groups=subject,
        window=WINDOW,
    )


def _read_raw(labels: Path) -> tuple[Samples, str]:
    stretches = _table(labels, 5)
    if len(stretches) == 0 or (stretches != np.floor(stretches)).any():
        raise InvalidDataError(f"{labels}: must hold whole numbers")
    signals: dict[tuple[int, int], Array] = {}
    used = [labels]
    pieces, y, people = [], [], []
    for experiment, user, activity, start, end in stretches.astype(np.int64).tolist():
        if (experiment, user) not in signals:
            paths = [
                labels.parent / f"{sensor}_exp{experiment:02d}_user{user:02d}.txt"
                for sensor in ("acc", "gyro")
            ]
            used += paths
            signals[experiment, user] = _joined(paths)
        signal = signals[experiment, user]
        if not 1 <= activity <= len(CLASSES) or not 1 <= start <= end <= len(signal):
            raise InvalidDataError(
                f"{labels}: activity {activity} from {start} to {end} of experiment {experiment} "
                f"is not in 1 to {len(CLASSES)} or not in its {len(signal)} samples"
            )
        windows = sliding_windows(
            signal[start - 1 : end], length=WINDOW.length, stride=WINDOW.stride
        )
        pieces.append(windows)
        y += [activity - 1] * len(windows)
        people += [user] * len(windows)
    if not y:
        raise InvalidDataError(f"{labels}: no stretch is as long as a window")
    x = np.ascontiguousarray(np.concatenate(pieces).transpose(0, 2, 1), np.float32)
    samples = _samples(x, np.array(y, np.int64), np.array(people, np.int64), CLASSES)
    return samples, files_sha256(used, labels.parent)


def _joined(paths: list[Path]) -> Array:
    """Acceleration and rotation side by side: float64[time, 6]."""
    tables = [_table(path, 3) for path in paths]
    if len(tables[0]) != len(tables[1]):
        raise InvalidDataError(
            f"{paths[0].name} has {len(tables[0])} samples and {paths[1].name} {len(tables[1])}, "
            "must be equally many"
        )
    return np.concatenate(tables, axis=1)


def _table(path: Path, columns: int) -> Array:
    """Numbers in lines: float64[lines, columns].

    Raises:
        InvalidDataError: unreadable, too large, another number of columns, not finite.
    """
    try:
        with path.open(encoding="ascii") as stream:
            text = stream.read(_LARGEST_BYTES + 1)
        if len(text) > _LARGEST_BYTES:
            raise InvalidDataError(f"{path}: has more than {_LARGEST_BYTES:,} bytes")
        lines = [line.split() for line in text.splitlines() if line.strip()]
        wrong = [number for number, line in enumerate(lines, 1) if len(line) != columns]
        if wrong:
            raise InvalidDataError(f"{path}:{wrong[0]}: must have {columns} columns")
        table = np.array([[float(field) for field in line] for line in lines], np.float64)
    except OSError as error:
        raise InvalidDataError(f"{path}: cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise InvalidDataError(f"{path}: must hold numbers: {error}") from error
    if not np.isfinite(table).all():
        raise InvalidDataError(f"{path}: holds NaN or infinity")
    return table.reshape(-1, columns)

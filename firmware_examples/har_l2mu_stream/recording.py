"""Recordings for the image, and what it must find in them.

::

    python recording.py prepare wisdm.zip build/recording.bin
    python recording.py check build/recording.bin --artifact FOLDER --output FILE

A recording is a header and samples, laid out as ``stream.h`` says. The activity of each of its
windows lies beside it, a name a line in ``recording.labels``: the image does not see them.
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import edgekit
from edgekit.cli.render import Format, facts_as, show
from edgekit.data import Dataset, load
from edgekit.data.readers.wisdm import ACTIVITIES
from edgekit.deploy.artifact import Artifact
from edgekit.deploy.frontend import frontend
from edgekit.deploy.session import Session
from edgekit.errors import (
    EdgekitError,
    InvalidDataError,
    OutputError,
    UsageError,
    VerificationError,
)
from edgekit.program.interpret import Interpreter

Array = NDArray[Any]

MAGIC = int.from_bytes(b"EKS1", "little")
CHANNELS, HERTZ = 6, 20
CLASSES = tuple(ACTIVITIES.values())
HEADER = np.dtype(
    [
        *(("magic", "<u4"), ("channels", "<u4"), ("millihertz", "<u4"), ("samples", "<u4")),
        ("scale", "<f4", CHANNELS),
    ]
)
RECORD = np.dtype([("counter", "<u4"), ("counts", "<i2", CHANNELS)])

SCALE = np.array([0.0025] * 3 + [0.0011] * 3, np.float32)
"""m/s² and rad/s of one count: a sensor whose int16 reaches ±82 m/s² and ±36 rad/s."""

PAUSE_S = 1
"""Seconds between one activity and the next in which nothing is recorded."""

_WINDOW = re.compile(r" *[\d.]+ s  (\w+) +window +(\d+)  scores((?: +\d+)+)")


def recording_of(data: Dataset, subject: int | None, seconds: int | None) -> tuple[Array, Array]:
    """What a watch sends of one person's activities, one behind the other, and their labels.

    Windows of a data set follow each other without overlap, so together they are the recording. It
    pauses between activities, and its counter tells.

    Args:
        data: windows of people.
        subject: whose; None for the first of the test part.
        seconds: of each activity at most; None for all.

    Returns:
        Samples as :data:`RECORD`, and the label of every window.

    Raises:
        UsageError: the data set does not say whose its windows are, or has none of `subject`;
            `seconds` shorter than a window.
        InvalidDataError: other activities than the image knows, or values beyond what the sensor
            delivers.
    """
    if data.groups is None or data.window is None:
        raise UsageError(f"{data.name}: its windows are not parts of people's recordings")
    if data.classes != CLASSES:
        raise InvalidDataError(f"{data.name}: has {data.classes}, the image knows {CLASSES}")
    chosen = int(data.groups[data.test[0]]) if subject is None else subject
    length = data.window.length
    limit = None if seconds is None else seconds * HERTZ // length
    if limit is not None and limit < 1:
        raise UsageError(f"{seconds} s of each activity is less than a window of {length} samples")
    records, labels, counter = [], [], 0
    for label in range(len(data.classes)):
        found = np.flatnonzero((data.groups == chosen) & (data.y == label))[:limit]
        counts = np.rint(data.x[found].transpose(0, 2, 1).reshape(-1, CHANNELS) / SCALE)
        if (np.abs(counts) > np.iinfo(np.int16).max).any():
            raise InvalidDataError(f"{data.name}: values of subject {chosen} do not fit int16")
        part = np.zeros(len(counts), RECORD)
        part["counter"] = counter + np.arange(len(part))
        part["counts"] = counts
        counter += len(part) + PAUSE_S * HERTZ
        records.append(part)
        labels.append(np.full(len(found), label))
    if not sum(map(len, labels)):
        people = ", ".join(map(str, np.unique(data.groups)))
        raise UsageError(f"no windows of subject {chosen}; there are {people}")
    return np.concatenate(records), np.concatenate(labels)


def write(path: Path, records: Array) -> None:
    """A recording with its header."""
    head = np.zeros((), HEADER)
    head["magic"], head["channels"], head["scale"] = MAGIC, CHANNELS, SCALE
    head["millihertz"], head["samples"] = 1000 * HERTZ, len(records)
    path.write_bytes(head.tobytes() + records.tobytes())


def read(path: Path) -> list[Array]:
    """The pieces between gaps of a recording, in physical units, as the image computes them.

    Returns:
        Of each piece float32[time, channels].

    Raises:
        InvalidDataError: it is none; the image refuses it too, and says more.
    """
    data = path.read_bytes()
    if len(data) < HEADER.itemsize or (len(data) - HEADER.itemsize) % RECORD.itemsize:
        raise InvalidDataError(f"{path}: has {len(data)} bytes, which is no recording")
    head = np.frombuffer(data, HEADER, 1)[0]
    records = np.frombuffer(data, RECORD, offset=HEADER.itemsize)
    asked = (MAGIC, CHANNELS, 1000 * HERTZ, len(records))
    if tuple(map(int, list(head)[:4])) != asked:
        raise InvalidDataError(f"{path}: its header is not that of {len(records)} samples")
    # In uint32, as the counter wraps around.
    gaps = np.flatnonzero(np.diff(records["counter"]) != 1) + 1
    return np.split(records["counts"] * head["scale"], gaps)


def host_scores(artifact: Artifact, pieces: list[Array]) -> Array:
    """Scores [windows, classes] by the same pre-processing and the network's C, on this machine."""
    made = frontend(artifact.program, artifact.preprocessing)
    if made is None or artifact.manifest.steps is None:
        raise UsageError(f"{artifact.folder}: is no network with pre-processing that takes windows")
    steps, codes = artifact.manifest.steps, Interpreter(made)
    name = made.outputs[0].name
    scores = []
    with artifact.open("local") as session:
        assert isinstance(session, Session)
        for piece in pieces:
            for begin in range(0, len(piece) - steps + 1, steps):
                samples = [codes.run({"raw": x[None]})[name] for x in piece[begin : begin + steps]]
                scores.append(session.run(np.stack(samples)).ravel())
    return np.array(scores)


def image_windows(text: str) -> tuple[list[str], Array]:
    """The activity and the scores of every window that an image printed.

    Raises:
        InvalidDataError: no windows, or not all of them.
    """
    found = [match.groups() for match in map(_WINDOW.fullmatch, text.splitlines()) if match]
    if [int(number) for _, number, _ in found] != list(range(len(found))) or not found:
        raise InvalidDataError(f"the output has {len(found)} windows that are not numbered from 0")
    return [name for name, _, _ in found], np.array([scores.split() for *_, scores in found], int)


def prepare(arguments: argparse.Namespace) -> dict[str, Any]:
    """Write a recording and its labels; says what is in it."""
    data = load("wisdm-watch", path=arguments.data, split="subject")
    records, labels = recording_of(data, arguments.subject, arguments.seconds)
    write(arguments.recording, records)
    names = [data.classes[label] for label in labels]
    labels_of(arguments.recording).write_text("\n".join(names) + "\n", encoding="utf-8")
    return {
        "recording": str(arguments.recording),
        "samples": len(records),
        "minutes": round(len(records) / HERTZ / 60, 1),
        "windows": len(labels),
    }


def check(arguments: argparse.Namespace) -> dict[str, Any]:
    """Hold what an image printed against the host; says how often they are right.

    Raises:
        VerificationError: a window differs.
    """
    names, scores = image_windows(arguments.output.read_text(encoding="utf-8"))
    labels = labels_of(arguments.recording).read_text(encoding="utf-8").splitlines()
    want = host_scores(edgekit.load(arguments.artifact), read(arguments.recording))
    if scores.shape != want.shape or len(labels) != len(want):
        raise VerificationError(
            f"the image decided {len(scores)} windows, the host {len(want)}; labels: {len(labels)}"
        )
    given = [CLASSES[best] for best in want.argmax(axis=1)]
    same = (scores == want).all(axis=1) & (np.array(names) == given)
    image, host = (float(np.mean(np.array(side) == labels)) for side in (names, given))
    if not same.all():
        first = int(same.argmin())
        raise VerificationError(
            f"{(~same).sum()} of {len(same)} windows differ; first window {first}: the image has "
            f"{names[first]} {scores[first].tolist()}, the host {given[first]} "
            f"{want[first].tolist()}"
        )
    return {
        "windows": len(want),
        "identical": "all, class and scores",
        "accuracy_image": round(image, 4),
        "accuracy_host": round(host, 4),
    }


def labels_of(recording: Path) -> Path:
    """The labels beside a recording."""
    return recording.with_suffix(".labels")


def main() -> int:
    """Run a command; whatever a user can cause is one message."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(required=True)
    prepared = commands.add_parser("prepare", help="write a recording of one person")
    prepared.add_argument("data", type=Path, help="WISDM, as `edgekit train --data` takes it")
    prepared.add_argument("recording", type=Path, help="file to write")
    prepared.add_argument("--subject", type=int, help="person; default the first of the test part")
    prepared.add_argument("--seconds", type=int, help="of each activity; default all")
    prepared.set_defaults(command=prepare)
    checked = commands.add_parser("check", help="hold an image's output against the host")
    checked.add_argument("recording", type=Path, help="what the image read")
    checked.add_argument("--artifact", type=Path, required=True, help="what is in the image")
    checked.add_argument("--output", type=Path, required=True, help="what the image printed")
    checked.set_defaults(command=check)
    arguments = parser.parse_args()
    try:
        show(facts_as(arguments.command(arguments), Format.TABLE))
    except EdgekitError as error:
        sys.stderr.write(f"error: {error}\n")
        return error.exit_code
    except OSError as error:
        sys.stderr.write(f"error: {error.filename}: {error.strerror}\n")
        return OutputError.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""CIFAR-10 in its binary version: records of one label byte and 3 x 32 x 32 pixel bytes.

The version for Python is made of pickles, which are never loaded.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from edgekit.data.dataset import RemoteFile, Samples, dataset
from edgekit.data.files import check_labels, files_sha256
from edgekit.data.splits import held_out
from edgekit.errors import InvalidDataError

CLASSES = (
    *("airplane", "automobile", "bird", "cat", "deer"),
    *("dog", "frog", "horse", "ship", "truck"),
)

_TRAIN = tuple(f"data_batch_{number}.bin" for number in range(1, 6))
_TEST = "test_batch.bin"
_RECORD = 1 + 3 * 32 * 32
_LARGEST_BYTES = 1 << 28


@dataset(
    name="cifar10",
    description="photographs, 32x32 colour pixels, 10 classes",
    source="Krizhevsky 2009, Learning Multiple Layers of Features from Tiny Images",
    license="none is stated",
    splits=("official",),
    formats="the binary version: its .tar.gz, or the folder with data_batch_{1..5}.bin and "
    "test_batch.bin",
    files=(
        RemoteFile(
            "cifar-10-binary.tar.gz",
            "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
            "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
            limit_bytes=1 << 28,
            archive=True,
        ),
    ),
    wanted=("*data_batch_*.bin", "*test_batch.bin"),
)
def read(path: Path | None) -> tuple[Samples, str]:
    """Images float32[N, 3, 32, 32] from 0 to 255; a tenth of the training images validates."""
    assert path is not None
    found = sorted(path.rglob(_TEST)) if path.is_dir() else []
    if not found:
        raise InvalidDataError(f"{path}: lacks {_TEST} (the binary version; pickles are not read)")
    folder = found[0].parent
    paths = [folder / name for name in (*_TRAIN, _TEST)]
    records = []
    for file in paths:
        try:
            with file.open("rb") as stream:
                data = stream.read(_LARGEST_BYTES)
        except OSError as error:
            raise InvalidDataError(f"{file}: cannot be read: {error.strerror}") from error
        if not data or len(data) % _RECORD:
            raise InvalidDataError(
                f"{file}: has {len(data):,} bytes, must be records of {_RECORD} bytes"
            )
        records.append(np.frombuffer(data, np.uint8).reshape(-1, _RECORD))
    rows = np.concatenate(records)
    official = np.zeros(len(rows), np.int8)
    official[len(rows) - len(records[-1]) :] = 2
    samples = Samples(
        x=rows[:, 1:].reshape(-1, 3, 32, 32).astype(np.float32),
        y=check_labels(rows[:, 0], len(rows), len(CLASSES), folder),
        classes=CLASSES,
        partitions={"official": held_out(official, share=0.1)},
    )
    return samples, files_sha256(paths, folder)

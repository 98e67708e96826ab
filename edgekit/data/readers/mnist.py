"""MNIST: 70,000 handwritten digits of 28x28 pixels.

An IDX file is big-endian: two zero bytes, one for the element type (8 is uint8), one for the number
of axes, an int32 for each axis, then the elements.
"""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from pathlib import Path

import numpy as np

from edgekit.data.dataset import Array, RemoteFile, Samples, dataset
from edgekit.data.files import check_labels, file_sha256, files_sha256, read_npz
from edgekit.data.splits import held_out
from edgekit.errors import InvalidDataError

_BASE = "https://storage.googleapis.com/cvdf-datasets/mnist/"

PARTS = ("train", "t10k")
"""How the publisher calls training and test."""

_PREPARED = ("x_train", "y_train", "x_test", "y_test")
_LARGEST_BYTES = 1 << 30


@dataset(
    name="mnist",
    description="handwritten digits, 28x28 grey pixels, 10 classes",
    source="LeCun, Cortes, Burges, The MNIST database of handwritten digits",
    license="none is stated",
    splits=("official",),
    formats="a folder with the four IDX files ({train,t10k}-{images-idx3,labels-idx1}-ubyte[.gz]), "
    "or an .npz with x_train uint8[N, 28, 28], y_train, x_test and y_test",
    files=tuple(
        RemoteFile(f"{name}.gz", f"{_BASE}{name}.gz", sha256, limit_bytes=1 << 24)
        for name, sha256 in (
            (
                "train-images-idx3-ubyte",
                "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
            ),
            (
                "train-labels-idx1-ubyte",
                "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
            ),
            (
                "t10k-images-idx3-ubyte",
                "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
            ),
            (
                "t10k-labels-idx1-ubyte",
                "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
            ),
        )
    ),
)
def read(path: Path | None) -> tuple[Samples, str]:
    """Images float32[N, 1, 28, 28] from 0 to 255; a twelfth of the training images validates."""
    assert path is not None
    if path.is_dir():
        arrays, digest = _read_idx_folder(path)
    else:
        arrays, digest = read_npz(path, _PREPARED), file_sha256(path)
    images = [arrays["x_train"], arrays["x_test"]]
    for key, array in zip(("x_train", "x_test"), images, strict=True):
        if array.dtype != np.uint8 or array.ndim != 3 or array.shape[1:] != (28, 28):
            raise InvalidDataError(
                f"{path}: {key} is {array.dtype}{list(array.shape)}, must be uint8[N, 28, 28]"
            )
    labels = [
        check_labels(arrays[key], len(array), 10, f"{path}: {key}")
        for key, array in zip(("y_train", "y_test"), images, strict=True)
    ]
    official = np.repeat(np.array([0, 2], np.int8), [len(part) for part in labels])
    samples = Samples(
        x=np.concatenate(images)[:, None].astype(np.float32),
        y=np.concatenate(labels),
        classes=tuple(str(digit) for digit in range(10)),
        partitions={"official": held_out(official, share=1 / 12)},
    )
    return samples, digest


def _read_idx_folder(folder: Path) -> tuple[dict[str, Array], str]:
    arrays, paths = {}, []
    for part, suffix in zip(PARTS, ("train", "test"), strict=True):
        for letter, kind in (("x", "images-idx3"), ("y", "labels-idx1")):
            name = f"{part}-{kind}-ubyte"
            found = [p for p in (folder / f"{name}.gz", folder / name) if p.is_file()]
            if not found:
                raise InvalidDataError(f"{folder}: lacks {name}.gz")
            paths.append(found[0])
            arrays[f"{letter}_{suffix}"] = read_idx(found[0])
    return arrays, files_sha256(paths, folder)


def read_idx(path: Path) -> Array:
    """An IDX file of uint8, compressed or not.

    Raises:
        InvalidDataError: unreadable, no IDX file of bytes, cut short or with something behind.
    """
    try:
        if path.suffix == ".gz":
            with gzip.open(path) as stream:
                data = stream.read(_LARGEST_BYTES + 1)
        else:
            with path.open("rb") as raw:
                data = raw.read(_LARGEST_BYTES + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise InvalidDataError(f"{path}: cannot be read: {error}") from error
    if len(data) > _LARGEST_BYTES:
        raise InvalidDataError(f"{path}: unpacks to more than {_LARGEST_BYTES:,} bytes")
    if len(data) < 4 or data[:3] != b"\0\0\x08" or not 1 <= data[3] <= 3:
        raise InvalidDataError(f"{path}: is no IDX file of bytes with up to 3 axes")
    axes, header = data[3], 4 + 4 * data[3]
    shape = struct.unpack(f">{axes}I", data[4:header]) if len(data) >= header else ()
    if not shape or len(data) != header + math.prod(shape):
        raise InvalidDataError(f"{path}: has {len(data):,} bytes, which its header does not say")
    return np.frombuffer(data, np.uint8, offset=header).reshape(shape)

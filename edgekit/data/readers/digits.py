"""scikit-learn's handwritten digits: 1,797 images of 8x8 pixels, real and tiny."""

from __future__ import annotations

import hashlib
from pathlib import Path
from types import MappingProxyType

import numpy as np

from edgekit.data.dataset import Samples, dataset
from edgekit.data.splits import random_partition
from edgekit.errors import ToolchainMissingError


@dataset(
    name="digits",
    description="handwritten digits, 8x8 grey pixels, 10 classes",
    source="Alpaydin, Kaynak 1998, Optical Recognition of Handwritten Digits, UCI 10.24432/C50P49",
    license="CC BY 4.0",
    splits=("random",),
    formats="the installed package scikit-learn",
    caveats=MappingProxyType({"random": "writers are not recorded and may lie on several sides"}),
    needs_path=False,
)
def read(path: Path | None) -> tuple[Samples, str]:
    """Images float32[1797, 1, 8, 8] from 0 to 16 as counted ink; 60/20/20 drawn."""
    assert path is None
    try:
        from sklearn.datasets import load_digits
    except ModuleNotFoundError as error:
        raise ToolchainMissingError(
            "digits: the data comes with scikit-learn: pip install scikit-learn"
        ) from error
    found = load_digits()
    images = np.ascontiguousarray(found.images, np.float32)
    labels = np.ascontiguousarray(found.target, np.int64)
    digest = hashlib.sha256(images.tobytes() + labels.tobytes()).hexdigest()
    samples = Samples(
        x=images[:, None],
        y=labels,
        classes=tuple(str(digit) for digit in range(10)),
        partitions={"random": random_partition(len(labels), validation=0.2, test=0.2)},
    )
    return samples, digest

"""What a declared chain of pre-processing costs, apart from the network."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgekit.bench.fields import ReportError, parse
from edgekit.bench.protocol import Protocol, measure
from edgekit.bench.report import Preprocessing
from edgekit.bench.samples import Samples
from edgekit.bench.subject import Subject

Array = NDArray[Any]

FILE_NAME = "preprocessing.json"


def timed(
    folder: Path, subject: Subject, samples: Samples, protocol: Protocol | None
) -> Preprocessing | None:
    """The chain that an artifact declares, run on one sample at a time.

    Steps keep the shape of a sample and their cost does not depend on its values, so that the
    network's own inputs, as real numbers, stand for the raw ones.

    Args:
        folder: of the artifact.
        subject: what it says of itself.
        samples: of the network.
        protocol: of measurement; None where this machine's time says nothing about the target:
            then the chain is named only.

    Returns:
        None where the artifact declares no chain.

    Raises:
        ReportError: the file is not a chain.
    """
    if subject.preprocessing is None:
        return None
    path = folder / subject.preprocessing
    try:
        document = parse(path.read_bytes(), str(path))
    except OSError as error:
        raise ReportError(f"{path}: {error.strerror}") from error
    chain, specification = _chain(document, path), json.dumps(document, sort_keys=True)
    if protocol is None:
        return Preprocessing(specification, None)
    name = subject.inputs[0].name
    raw = [np.asarray(real[name]) for real in samples.real]
    return measured(chain, specification, raw, protocol)


def measured(
    chain: Callable[[Array], Array], specification: str, raw: Sequence[Array], protocol: Protocol
) -> Preprocessing:
    """Time a chain on samples (float32[1, ...], the first axis counts)."""
    return Preprocessing(specification, measure(chain, raw, protocol))


def _chain(document: Any, path: Path) -> Callable[[Array], Array]:
    """The declared steps as one function.

    Raises:
        ReportError: not such a declaration; says what is wrong.
    """
    # Only boards whose artifact declares a chain hold this module.
    from edgekit.data.preprocessing import Preprocessing as Steps
    from edgekit.errors import InvalidDataError

    try:
        return Steps.from_json(json.dumps(document)).apply
    except InvalidDataError as error:
        raise ReportError(f"{path}: {error}") from error

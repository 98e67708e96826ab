"""What a training gave."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from edgekit.errors import InvalidDataError

SCHEMA = 1
"""Version of ``metrics.json``."""


@dataclass(frozen=True)
class Score:
    """How well one part of a data set is classified.

    Attributes:
        accuracy: share of samples whose largest score is the right one.
        loss: mean cross-entropy in nats, without label smoothing.
        n: samples.
    """

    accuracy: float
    loss: float
    n: int


@dataclass(frozen=True)
class ClassScore:
    """How well one class is recognised in the test part.

    Attributes:
        name: of the class.
        recall: share of its samples that are recognised; None where there are none.
        precision: share of the samples given its name that are of it; None where none is.
        n: its samples.
    """

    name: str
    recall: float | None
    precision: float | None
    n: int


@dataclass(frozen=True)
class TrainResult:
    """A finished training; ``metrics.json`` in the run folder.

    Attributes:
        network: name.
        dataset: name.
        split: name.
        precision: of the weights; empty for float.
        caveat: what figures on this split do not tell; empty where nothing.
        dataset_sha256: of what was read.
        folder: the run folder.
        epochs: that were trained.
        best_epoch: whose weights were kept, from 1, chosen by validation.
        parameters: trainable values.
        train: on training samples without augmentation.
        validation: what the choice was made by.
        test: what to report.
        classes: of the test part.
        seconds: spent in epochs, interrupted ones not counted.
        threads: that torch computed with.
        versions: of the packages that computed.
    """

    network: str
    dataset: str
    split: str
    precision: str
    caveat: str
    dataset_sha256: str
    folder: str
    epochs: int
    best_epoch: int
    parameters: int
    train: Score
    validation: Score
    test: Score
    classes: tuple[ClassScore, ...]
    seconds: float
    threads: int
    versions: Mapping[str, str]

    def to_json(self) -> str:
        """As JSON text."""
        return json.dumps({"schema": SCHEMA, **asdict(self)}, indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str) -> TrainResult:
        """Read what :meth:`to_json` wrote.

        Raises:
            InvalidDataError: it is something else.
        """
        try:
            data: dict[str, Any] = json.loads(text)
            schema = data.pop("schema")
            data.setdefault("precision", "")
            data |= {part: Score(**data[part]) for part in ("train", "validation", "test")}
            data["classes"] = tuple(ClassScore(**row) for row in data["classes"])
            result = cls(**data)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise InvalidDataError(f"metrics: are none of a training: {error}") from error
        if schema != SCHEMA:
            raise InvalidDataError(f"metrics: schema is {schema!r}, this version reads {SCHEMA}")
        return result

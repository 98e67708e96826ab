"""What a family is given, and what it adds to an artifact."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgekit.deploy.manifest import (
    BuildRecord,
    CodedLayer,
    Configuration,
    Interface,
    MemoryRecord,
    ModelFile,
    VectorCheck,
)
from edgekit.deploy.ondevice import OnDevice
from edgekit.deploy.source import Source
from edgekit.targets.c.emit import LayerInfo
from edgekit.targets.target import Target


@dataclass(frozen=True, eq=False)
class Job:
    """One export, as a family sees it.

    Attributes:
        stage: folder to fill; it becomes the artifact when everything is in it.
        source: the model, read and quantised.
        configuration: resolved options.
        target: what to build for.
        tools: what the family's `find_tools` found.
    """

    stage: Path
    source: Source
    configuration: Configuration
    target: Target
    tools: Any


@dataclass(frozen=True)
class Parts:
    """What a family says of the artifact that it filled: fields of the manifest, and the kit.

    Attributes:
        check: outcome of the test vectors.
        memory: what the generated library needs.
        interface: of the generated library.
        layers: of the generated library.
        coded: layers with packed weights.
        build: the compiler.
        models: the network for other runtimes.
        notes: what the user should hear of.
        ondevice: what a board needs; None where a board runs images.
    """

    check: VectorCheck
    memory: MemoryRecord | None = None
    interface: Interface | None = None
    layers: tuple[LayerInfo, ...] = ()
    coded: tuple[CodedLayer, ...] = ()
    build: BuildRecord | None = None
    models: tuple[ModelFile, ...] = ()
    notes: tuple[str, ...] = ()
    ondevice: OnDevice | None = None


@dataclass(frozen=True)
class Family:
    """How artifacts of a family are made.

    Attributes:
        find_tools: what building needs, looked for before any work is done.
        build: fills the stage.
    """

    find_tools: Callable[[Target, Configuration], Any]
    build: Callable[[Job], Parts]

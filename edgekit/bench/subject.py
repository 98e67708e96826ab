"""``ondevice.json``: what a board must know of an artifact to run and measure it.

It lies in the artifact's folder; its paths are relative to that folder and stay inside it.
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from edgekit.bench.fields import Count, Integer, Quantity, ReportError, decode, encode, parse
from edgekit.bench.memory import Memory
from edgekit.bench.report import FileSize, Identity, check_schema

SCHEMA = 2
FILE_NAME = "ondevice.json"

Array = NDArray[Any]
ElementType = Literal["int8", "int16", "int32", "int64", "float32"]

MAX_ARENA_BYTES = 1 << 32
"""No target has more memory."""


@dataclass(frozen=True)
class Port:
    """An input or output of the network.

    Attributes:
        name: what users call it; any text.
        dtype: of its elements.
        source_shape: in the source model's layout.
        permutation: from the source's axes to the program's; null where they are the same.
        offset: first byte in the arena of the generated library; null without one.
        bytes: size.
        scale: of integers that stand for real numbers, else null.
        zero_point: likewise.
    """

    name: str
    dtype: ElementType
    source_shape: tuple[Count, ...]
    permutation: tuple[Count, ...] | None
    offset: Count | None
    bytes: Count
    scale: Quantity | None
    zero_point: Integer | None

    def __post_init__(self) -> None:
        axes = len(self.source_shape)
        if self.permutation is not None and sorted(self.permutation) != list(range(axes)):
            raise ValueError(f"permutation {list(self.permutation)} does not order {axes} axes")
        wanted = math.prod(self.source_shape) * np.dtype(self.dtype).itemsize
        if self.bytes != wanted:
            raise ValueError(f"bytes is {self.bytes}, its shape and dtype take {wanted}")
        if (self.scale is None) != (self.zero_point is None):
            raise ValueError("scale and zero_point stand together")
        if self.scale is not None and self.scale <= 0:
            raise ValueError(f"scale is {self.scale}, must be positive")

    @property
    def is_integer(self) -> bool:
        """Whether elements are integers."""
        return self.dtype != "float32"

    @property
    def program_shape(self) -> tuple[int, ...]:
        """Shape in the program's layout, as many axes as the source's."""
        if self.permutation is None:
            return self.source_shape
        return tuple(self.source_shape[axis] for axis in self.permutation)


@dataclass(frozen=True)
class LayerFact:
    """A layer: C function, names of operation and operator, multiply-accumulates."""

    symbol: str
    operation: str
    operator: str
    macs: Count


@dataclass(frozen=True)
class LibraryFile:
    """The generated library as a shared object.

    Attributes:
        file: the shared object.
        prefix: begins every external symbol.
        arena_bytes: activations and scratch.
        arena_alignment: power of two; state is aligned alike.
        state_bytes: state between steps.
        weights_file: blob of weights; null where they are built in.
    """

    file: str
    prefix: str
    arena_bytes: Count
    arena_alignment: Count
    state_bytes: Count
    weights_file: str | None = None

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[a-z][a-z0-9_]*_", self.prefix):
            raise ValueError(f"{self.prefix!r} is no prefix")
        if self.arena_alignment not in (1, 2, 4, 8, 16, 32, 64):
            raise ValueError(f"arena_alignment {self.arena_alignment} is impossible")
        if max(self.arena_bytes, self.state_bytes) > MAX_ARENA_BYTES:
            raise ValueError("arena_bytes or state_bytes is more memory than any target has")


@dataclass(frozen=True)
class ModelFile:
    """The network as a file for another runtime.

    Attributes:
        runtime: ``onnxruntime``, ``litert`` or ``tensorrt``.
        file: the model; ONNX in the source's layout, TFLite in the program's.
        precision: that it runs in.
    """

    runtime: str
    file: str
    precision: str


@dataclass(frozen=True)
class Subject:
    """Everything that a board must know.

    Attributes:
        schema: version of this structure.
        edgekit: version that wrote it.
        identity: of the artifact.
        memory: of the generated library; null without one.
        layers: in execution order; empty without a library.
        inputs: in the model's order.
        outputs: in the model's order.
        library: null where the family has no generated C.
        models: files for other runtimes.
        vectors: test vectors, ``input/NAME`` and ``output/NAME``.
        preprocessing: declared chain; null where there is none.
        toolchain: compiler of the library; null without one.
        toolchain_version: first line of what it says about itself.
        flags: that it was given.
        files: sizes of what is deployed.
        steps: of a window, where an inference is one: a reset, then a step for each of its samples;
            null where it is a single input.
    """

    schema: Count
    edgekit: str
    identity: Identity
    memory: Memory | None
    layers: tuple[LayerFact, ...]
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    library: LibraryFile | None
    models: tuple[ModelFile, ...]
    vectors: str
    preprocessing: str | None = None
    toolchain: str | None = None
    toolchain_version: str | None = None
    flags: tuple[str, ...] = ()
    files: tuple[FileSize, ...] = ()
    steps: Count | None = None

    def __post_init__(self) -> None:
        if self.steps == 0:
            raise ValueError("steps is 0, a window has at least one")
        if not self.inputs or not self.outputs:
            raise ValueError("a network has inputs and outputs")
        for ports in (self.inputs, self.outputs):
            if len({p.name for p in ports}) != len(ports):
                raise ValueError("two inputs or two outputs have the same name")
        for path in self.paths:
            check_inside(path)
        if self.library is not None:
            self._check_library(self.library)

    @property
    def paths(self) -> tuple[str, ...]:
        """Everything that may be read to run it."""
        library = self.library
        built = () if library is None else (library.file, library.weights_file)
        named = (self.vectors, self.preprocessing, *built, *(m.file for m in self.models))
        return tuple(path for path in named if path is not None)

    @property
    def has_state(self) -> bool:
        """Whether its library carries state from step to step."""
        return self.library is not None and self.library.state_bytes > 0

    def _check_library(self, library: LibraryFile) -> None:
        for port in (*self.inputs, *self.outputs):
            if port.offset is None or port.offset + port.bytes > library.arena_bytes:
                raise ValueError(f"{port.name!r} lies outside the arena")
        for index, layer in enumerate(self.layers):
            if layer.symbol != f"{library.prefix}layer_{index}":
                raise ValueError(f"{layer.symbol!r} is not the symbol of layer {index}")

    @property
    def macs(self) -> int | None:
        """Multiply-accumulates of one inference; None where the layers are not known."""
        return sum(layer.macs for layer in self.layers) if self.layers else None

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        plain: dict[str, Any] = encode(self)
        return plain

    @classmethod
    def from_json(cls, document: Any, where: str = FILE_NAME) -> Subject:
        """The inverse of :meth:`to_json`, of hostile data.

        Raises:
            ReportError: another version, or a field that is wrong; says which.
        """
        check_schema(document, SCHEMA, where)
        return decode(cls, document, where)

    def write(self, folder: Path) -> None:
        """Write ``ondevice.json`` into an artifact's folder."""
        text = json.dumps(self.to_json(), indent=1, sort_keys=True, allow_nan=False) + "\n"
        (folder / FILE_NAME).write_text(text, encoding="utf-8", newline="\n")


def check_inside(path: str) -> None:
    """Refuse a path that may lead out of an artifact's folder.

    Raises:
        ValueError: it is absolute, climbs, or is not written as POSIX does.
    """
    parts = PurePosixPath(path).parts
    inside = parts and not path.startswith("/") and ".." not in parts and "\\" not in path
    if not inside or not path.isprintable():
        raise ValueError(f"{path!r} is no path inside an artifact")


def read_subject(folder: Path) -> Subject:
    """What an artifact's folder says.

    Raises:
        ReportError: no artifact, or a file that is not what it should be.
    """
    path = folder / FILE_NAME
    try:
        text = path.read_bytes()
    except OSError as error:
        raise ReportError(
            f"{folder} is no artifact for a board: {error.strerror}: {path}"
        ) from error
    return Subject.from_json(parse(text, str(path)), str(path))

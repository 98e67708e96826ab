"""From a ``.tflite`` file to a Program."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from edgekit.errors import InvalidModelError, UnsupportedError
from edgekit.program.ir import Boundary, Operation, Program, Tensor
from edgekit.program.tflite.flatbuffer import File, Table, Tables
from edgekit.program.tflite.node import Node
from edgekit.program.tflite.registry import READERS, Builtin
from edgekit.program.tflite.schema import (
    BUILTINS,
    CUSTOM,
    IDENTIFIER,
    MODEL,
    VERSION,
)
from edgekit.program.tflite.tensors import TensorReader
from edgekit.program.verify import verify

LISTED = 20
"""Most places that a message lists."""

MOST_BOUNDARIES = 1024
"""Most inputs, and most outputs."""

NO_TENSOR = -1
"""Tensor index that stands for an absent optional input."""


def read(
    source: bytes | Path,
    *,
    name: str | None = None,
    allow_int16: bool = False,
    dequantize_weights: bool = False,
) -> Program:
    """Read a ``.tflite`` model of one subgraph, int8 or float32.

    Args:
        source: the file's bytes, or its path.
        name: of the Program; default is the file's name, or ``model``.
        allow_int16: read models with int16 activations (the 16x8 scheme) instead of refusing them.
        dequantize_weights: read hybrid models (float32 activations with int8 weights) as float32
            ones, each weight multiplied by its scale, instead of refusing them. The reference
            kernels round the activations of such models, so they agree only roughly.

    Returns:
        A verified Program. Inputs and outputs carry the tensor names of the file. Tensors that
        nothing reads and operators without effect are dropped.

    Raises:
        InvalidModelError: no such file, no ``.tflite`` file, or one that contradicts itself.
        UnsupportedError: a sound file with something that a Program has not; unsupported operators
            are listed all at once.
    """
    data, label = _load(source)
    program = name if name is not None else _identifier(label)
    model = File(data, label).root(MODEL, IDENTIFIER)
    graph = _Graph(model, label, allow_int16=allow_int16, dequantize_weights=dequantize_weights)
    digest = hashlib.sha256(data).hexdigest()
    return verify(graph.program(program, f"{label}, sha256 {digest}"), stage=f"reading {label}")


def _load(source: bytes | Path) -> tuple[bytes, str]:
    if isinstance(source, bytes):
        return source, "model"
    try:
        return Path(source).read_bytes(), Path(source).name
    except OSError as error:
        raise InvalidModelError(f"{source}: cannot be read: {error.strerror or error}") from error


def _identifier(label: str) -> str:
    """A file name as an identifier.

    >>> _identifier("kws-v2.tflite"), _identifier("2b.tflite")
    ('kws_v2', '_2b')
    """
    stem = re.sub(r"[^0-9A-Za-z_]", "_", label.removesuffix(".tflite")) or "model"
    return f"_{stem}" if stem[0].isdigit() else stem


class _Graph:
    """The only subgraph while it is being read."""

    def __init__(
        self, model: Table, label: str, *, allow_int16: bool, dequantize_weights: bool
    ) -> None:
        self._label = label
        self._dequantize_weights = dequantize_weights
        if model["version"] != VERSION:
            raise UnsupportedError(
                f"{label}: schema version {model['version']}, supported is {VERSION}"
            )
        subgraphs, codes, buffers = (
            _present(model[key], label, key) for key in ("subgraphs", "operator_codes", "buffers")
        )
        if len(subgraphs) != 1:
            raise UnsupportedError(f"{label}: has {len(subgraphs)} subgraphs, supported is one")
        self._codes = codes
        self._subgraph = subgraphs[0]
        self._nodes = _present(self._subgraph["operators"], label, "operators")
        self._tensors = TensorReader(
            _present(self._subgraph["tensors"], label, "tensors"),
            buffers,
            label,
            allow_int16=allow_int16,
        )
        self._operations: list[Operation] = []

    def declare(self, tensor: Tensor) -> Tensor:
        """Add a tensor of a reader's own; see :class:`Sink`."""
        return self._tensors.declare(tensor)

    def append(self, operation: Operation) -> None:
        """Add an operation; see :class:`Sink`."""
        self._operations.append(operation)

    def program(self, name: str, source: str) -> Program:
        """Read every operator and put the Program together."""
        builtins = self._builtins()
        inputs = self._boundary_indices("inputs")
        outputs = self._boundary_indices("outputs")
        for index in inputs:
            self._tensors.require_static(index)
        for index, (builtin, operator) in enumerate(builtins):
            self._read(index, builtin, operator)
        fed = tuple(self._boundary(index) for index in inputs)
        returned = tuple(self._boundary(index) for index in outputs)
        operations = live(self._operations, {b.tensor for b in returned})
        used = {b.tensor for b in (*fed, *returned)}
        for operation in operations:
            used.update(operation.present_inputs, operation.outputs)
        tensors = {key: t for key, t in self._tensors.opened.items() if key in used}
        return Program(name, tensors, operations, fed, returned, source=source)

    def _builtins(self) -> list[tuple[str, Table]]:
        """Builtin name and table of every operator.

        Raises:
            UnsupportedError: lists all operators that cannot be read.
        """
        known: list[tuple[str, Table]] = []
        unsupported: list[str] = []
        counts: Counter[str] = Counter()
        kinds: dict[int, str] = {}
        for index in range(len(self._nodes)):
            operator = self._nodes[index]
            code = operator["opcode_index"]
            if code not in kinds:
                kinds[code] = self._kind(code, index)
            kind = kinds[code]
            if kind in READERS:
                known.append((kind, operator))
                continue
            counts[kind] += 1
            if len(unsupported) < LISTED:
                written = [self._tensors.source_name(i) for i in self._indices(operator, "outputs")]
                unsupported.append(f"operator {index}: {kind}, writes {written}")
        if counts:
            total = sum(counts.values())
            if total > len(unsupported):
                unsupported.append(f"and {total - len(unsupported)} more")
            kinds_text = ", ".join(f"{kind} ({count})" for kind, count in counts.items())
            raise UnsupportedError(
                f"{self._label}: unsupported operators: {kinds_text}\n  "
                + "\n  ".join(unsupported)
                + f"\nsupported are {', '.join(sorted(READERS))}"
            )
        return known

    def _kind(self, code: int, index: int) -> str:
        """Name of a builtin operator, or ``CUSTOM`` with its author's name."""
        if code >= len(self._codes):
            raise InvalidModelError(
                f"{self._label}: operator {index}: operator code {code} is outside "
                f"0…{len(self._codes) - 1}"
            )
        table = self._codes[code]
        number = max(table["builtin_code"], table["deprecated_builtin_code"])
        if number == CUSTOM:
            return f"CUSTOM {table['custom_code'] or ''!r}"
        return BUILTINS[number] if 0 <= number < len(BUILTINS) else f"builtin {number}"

    def _read(self, index: int, kind: str, operator: Table) -> None:
        where = f"{self._label}: operator {index} ({kind})"
        builtin = READERS[kind]
        inputs = self._indices(operator, "inputs")
        outputs = self._indices(operator, "outputs")
        for label, given, (fewest, most) in (
            ("inputs", inputs, builtin.inputs),
            ("outputs", outputs, builtin.outputs),
        ):
            if not fewest <= len(given) <= most:
                raise InvalidModelError(
                    f"{where}: has {len(given)} {label}, must have "
                    + (f"{fewest}" if fewest == most else f"{fewest} to {most}")
                )
        builtin.read(
            Node(
                where=where,
                inputs=tuple(None if i == NO_TENSOR else self._tensors[i] for i in inputs),
                outputs=tuple(self._tensors[i] for i in outputs),
                options=_options(operator, builtin, where),
                fields=builtin.options,
                sink=self,
                dequantize_weights=self._dequantize_weights,
            )
        )

    def _indices(self, table: Table, key: str) -> list[int]:
        values = table[key]
        return [] if values is None else [int(v) for v in values]

    def _boundary_indices(self, key: str) -> list[int]:
        """Tensors that are fed or returned."""
        indices = self._indices(self._subgraph, key)
        if len(indices) > MOST_BOUNDARIES:
            raise UnsupportedError(
                f"{self._label}: has {len(indices)} {key}, at most {MOST_BOUNDARIES} are supported"
            )
        for index, count in Counter(indices).items():
            if count > 1:
                raise UnsupportedError(
                    f"{self._label}: tensor {index} {self._tensors.source_name(index)!r} is "
                    f"{count} times among the {key}, supported is once"
                )
        return indices

    def _boundary(self, index: int) -> Boundary:
        tensor = self._tensors[index]
        return Boundary(tensor.name, tensor.name, tensor.shape)


def _present(value: Tables | None, label: str, key: str) -> Tables:
    if value is None:
        raise InvalidModelError(f"{label}: the file has no {key}")
    return value


def _options(operator: Table, builtin: Builtin, where: str) -> Table | None:
    """The option table, checked to be of the declared type."""
    kind = operator["builtin_options_type"]
    if builtin.options_type == 0 or kind == 0:
        return None
    if kind != builtin.options_type:
        raise InvalidModelError(
            f"{where}: options are of type {kind}, must be {builtin.options_type}"
        )
    return operator.union("builtin_options", builtin.options)


def live(operations: Sequence[Operation], needed: set[str]) -> tuple[Operation, ...]:
    """The operations that `needed` tensors depend on, in order."""
    kept: list[Operation] = []
    wanted = set(needed)
    for operation in reversed(operations):
        if wanted.intersection(operation.outputs):
            kept.append(operation)
            wanted.update(operation.present_inputs)
    return tuple(reversed(kept))

"""Programs on disk: ``program.json`` for the structure, ``program.bin`` for the constants.

The JSON is derived from the dataclasses' fields. Loading runs no code: fields are checked against
their declared types, constants against the size of the blob, and the result against the verifier.
"""

from __future__ import annotations

import dataclasses
import json
import math
import sys
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from edgekit.errors import InvalidModelError
from edgekit.program.ir import Boundary, DType, Operation, Program, Quantization, State, Tensor
from edgekit.program.operators.base import OPERATORS, Operator
from edgekit.program.verify import verify

SCHEMA = 2
ALIGNMENT = 16


class FieldError(ValueError):
    """A JSON value that does not fit the declared type of its field."""


def encode(value: Any) -> Any:
    """A field's value as JSON: nested dataclasses become objects, tuples lists, ±inf strings."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: encode(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, tuple):
        return [encode(v) for v in value]
    if isinstance(value, float) and math.isinf(value):
        return "inf" if value > 0 else "-inf"
    return value


def decode(kind: Any, value: Any, where: str) -> Any:
    """The inverse of :func:`encode` for a declared type.

    Raises:
        FieldError: the value does not fit; says where.
    """
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        if value is None and type(None) in arguments:
            return None
        options = [a for a in arguments if a is not type(None)]
        for option in options[:-1]:
            try:
                return decode(option, value, where)
            except FieldError:
                continue
        return decode(options[-1], value, where)
    if origin is typing.Literal:
        return _expect(value in arguments, value, where, f"one of {list(arguments)}")
    if origin is tuple:
        _expect(isinstance(value, list), value, where, "a list")
        if len(arguments) == 2 and arguments[1] is Ellipsis:
            return tuple(decode(arguments[0], v, f"{where}[{i}]") for i, v in enumerate(value))
        _expect(len(value) == len(arguments), value, where, f"{len(arguments)} values")
        pairs = zip(arguments, value, strict=True)
        return tuple(decode(a, v, f"{where}[{i}]") for i, (a, v) in enumerate(pairs))
    if isinstance(kind, type) and dataclasses.is_dataclass(kind):
        return decode_dataclass(kind, value, where)
    if isinstance(kind, type) and issubclass(kind, DType):
        _expect(value in list(DType), value, where, f"one of {[str(d) for d in DType]}")
        return DType(value)
    return _scalar(kind, value, where)


def _scalar(kind: Any, value: Any, where: str) -> Any:
    if kind is float:
        if value in ("inf", "-inf"):
            return float(value)
        number = isinstance(value, int | float) and not isinstance(value, bool)
        finite = number and abs(value) <= sys.float_info.max
        return float(_expect(finite, value, where, "a finite number"))
    fits = isinstance(value, kind) and not (kind is int and isinstance(value, bool))
    return _expect(fits, value, where, kind.__name__)


def _expect(condition: bool, value: Any, where: str, wanted: str) -> Any:
    if not condition:
        raise FieldError(f"{where} is {value!r}, must be {wanted}")
    return value


def decode_dataclass(kind: type[Any], value: Any, where: str) -> Any:
    """Build a dataclass from an object with exactly its fields."""
    _expect(isinstance(value, dict), value, where, "an object")
    hints = typing.get_type_hints(kind)
    names = [f.name for f in dataclasses.fields(kind)]
    wrong = sorted(value.keys() ^ set(names))
    _expect(not wrong, wrong, f"{where}: present or absent", f"an object with exactly {names}")
    decoded = {n: decode(hints[n], value[n], f"{where}.{n}") for n in names}
    try:
        return kind(**decoded)
    except (AssertionError, ValueError) as error:
        raise FieldError(f"{where} holds impossible values for {kind.__name__}: {error}") from error


def dump(program: Program) -> tuple[str, bytes]:
    """The JSON text and the blob of constants."""
    blob = bytearray()
    tensors = []
    for tensor in program.tensors.values():
        entry: dict[str, Any] = {
            "name": tensor.name,
            "shape": list(tensor.shape),
            "dtype": str(tensor.dtype),
            "quantization": encode(tensor.quantization),
        }
        if tensor.data is not None:
            blob.extend(bytes(-len(blob) % ALIGNMENT))
            entry["offset"] = len(blob)
            blob.extend(tensor.data.tobytes())
        tensors.append(entry)
    document = {
        "schema": SCHEMA,
        "name": program.name,
        "source": program.source,
        "inputs": encode(program.inputs),
        "outputs": encode(program.outputs),
        "state": encode(program.state),
        "operations": [
            {
                "name": op.name,
                "operator": op.operator.name,
                "fields": encode(op.operator),
                "inputs": list(op.inputs),
                "outputs": list(op.outputs),
            }
            for op in program.operations
        ],
        "tensors": tensors,
    }
    return json.dumps(document, indent=1, sort_keys=True) + "\n", bytes(blob)


def load(text: str | bytes, blob: bytes) -> Program:
    """Rebuild a Program from :func:`dump`'s results.

    Raises:
        InvalidModelError: not JSON, another schema version, fields or constants that do not fit, or
            a Program that the verifier refuses.
    """
    try:
        document = json.loads(text)
        _expect(isinstance(document, dict), type(document).__name__, "program", "an object")
        if document.get("schema") != SCHEMA:
            raise FieldError(f"schema is {document.get('schema')!r}, must be {SCHEMA}")
        program = Program(
            name=decode(str, document["name"], "name"),
            tensors={
                t.name: t
                for t in (_tensor(e, blob, f"tensors[{i}]") for i, e in _items(document, "tensors"))
            },
            operations=tuple(
                _operation(entry, f"operations[{i}]") for i, entry in _items(document, "operations")
            ),
            inputs=decode(tuple[Boundary, ...], document["inputs"], "inputs"),
            outputs=decode(tuple[Boundary, ...], document["outputs"], "outputs"),
            state=decode(tuple[State, ...], document["state"], "state"),
            source=decode(str, document["source"], "source"),
        )
    except (LookupError, RecursionError, ValueError) as error:
        raise InvalidModelError(f"not a serialised Program: {error}") from error
    try:
        return verify(program, stage="load")
    except (ArithmeticError, AssertionError, LookupError, TypeError, ValueError) as error:
        # A shape rule met fields that no reader or lowering would produce.
        raise InvalidModelError(f"{program.name}: fields make no sense: {error}") from error


def _items(document: Mapping[str, Any], key: str) -> enumerate[Any]:
    return enumerate(_expect(isinstance(document[key], list), document[key], key, "a list"))


def _tensor(entry: Any, blob: bytes, where: str) -> Tensor:
    _expect(isinstance(entry, dict), entry, where, "an object")
    name = decode(str, entry["name"], f"{where}.name")
    shape = decode(tuple[int, ...], entry["shape"], f"{where}.shape")
    dtype = decode(DType, entry["dtype"], f"{where}.dtype")
    quantization = decode(Quantization | None, entry["quantization"], f"{where}.quantization")
    _expect(all(d >= 0 for d in shape), shape, f"{where}.shape", "non-negative")
    if "offset" not in entry:
        return Tensor(name, shape, dtype, quantization)
    offset = decode(int, entry["offset"], f"{where}.offset")
    size = math.prod(shape)
    room = 0 <= offset and offset + size * dtype.bytes <= len(blob)
    _expect(room, offset, f"{where}.offset", f"inside the blob of {len(blob)} bytes")
    data = np.frombuffer(blob, dtype.numpy, size, offset).reshape(shape)
    return Tensor.constant(name, data, quantization)


def _operation(entry: Any, where: str) -> Operation:
    _expect(isinstance(entry, dict), entry, where, "an object")
    name = decode(str, entry["name"], f"{where}.name")
    key = entry["operator"]
    known = isinstance(key, str) and key in OPERATORS
    _expect(known, key, f"{where}.operator", "a registered operator")
    operator: Operator = decode_dataclass(OPERATORS[key], entry["fields"], f"{where}.fields")
    return Operation(
        name,
        operator,
        decode(tuple[str | None, ...], entry["inputs"], f"{where}.inputs"),
        decode(tuple[str, ...], entry["outputs"], f"{where}.outputs"),
    )


def save(program: Program, folder: Path) -> None:
    """Write ``program.json`` and ``program.bin`` into `folder`."""
    text, blob = dump(program)
    (folder / "program.json").write_text(text, encoding="utf-8", newline="\n")
    (folder / "program.bin").write_bytes(blob)


def read(folder: Path) -> Program:
    """Read what :func:`save` wrote.

    Raises:
        InvalidModelError: see :func:`load`, or a file is missing.
    """
    try:
        text = (folder / "program.json").read_bytes()
        blob = (folder / "program.bin").read_bytes()
    except OSError as error:
        raise InvalidModelError(f"{folder}: {error.strerror}: {error.filename}") from error
    return load(text, blob)

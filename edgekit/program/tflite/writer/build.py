"""Flatbuffer tables from plain values, by the declarations of the schema."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import flatbuffers
import numpy as np

from edgekit.program.tflite.flatbuffer import Child, Children, Fields, Scalar, Text, Vector

Values = Mapping[str, Any]
"""Fields of a table by name: numbers, arrays, text, `Values` of a child or a list of them; a child
whose type is in a union is a :class:`Union`. What is None or missing is left out."""

_SCALARS = {
    "<b": flatbuffers.Builder.PrependInt8Slot,
    "<B": flatbuffers.Builder.PrependUint8Slot,
    "<?": flatbuffers.Builder.PrependBoolSlot,
    "<i": flatbuffers.Builder.PrependInt32Slot,
    "<I": flatbuffers.Builder.PrependUint32Slot,
    "<Q": flatbuffers.Builder.PrependUint64Slot,
    "<f": flatbuffers.Builder.PrependFloat32Slot,
}


@dataclass(frozen=True)
class Union:
    """A child with the declaration that its neighbouring type field stands for."""

    fields: Fields
    values: Values


def build(fields: Fields, values: Values, identifier: bytes) -> bytes:
    """A whole file; the same values give the same bytes.

    Args:
        fields: declaration of the root.
        values: of the root; every name must be declared.
        identifier: four bytes that mark the format.

    >>> from edgekit.program.tflite.flatbuffer import File
    >>> declared = {"size": Scalar(0, "<i", 7), "name": Text(1), "codes": Vector(2, "<i4")}
    >>> data = build(declared, {"name": "net", "codes": [3, 1]}, b"TEST")
    >>> root = File(data, "test").root(declared, b"TEST")
    >>> root["size"], root["name"], root["codes"].tolist()
    (7, 'net', [3, 1])
    """
    builder = flatbuffers.Builder(1024)
    builder.Finish(_table(builder, fields, values), identifier)
    return bytes(builder.Output())


def _table(builder: flatbuffers.Builder, fields: Fields, values: Values) -> int:
    """Write a table behind everything it refers to; returns where it lies."""
    given = {name: value for name, value in values.items() if value is not None}
    assert given.keys() <= fields.keys(), given.keys() - fields.keys()
    offsets = {
        name: _reference(builder, field, value)
        for name, value in given.items()
        if not isinstance(field := fields[name], Scalar)
    }
    builder.StartObject(1 + max((fields[name].slot for name in given), default=-1))
    for name, value in given.items():
        field = fields[name]
        if isinstance(field, Scalar):
            _SCALARS[field.code](builder, field.slot, value, field.default)
        else:
            builder.PrependUOffsetTRelativeSlot(field.slot, offsets[name], 0)
    return int(builder.EndObject())


def _reference(
    builder: flatbuffers.Builder, field: Text | Vector | Child | Children, value: Any
) -> int:
    """Write what a table only refers to; returns where it lies."""
    if isinstance(field, Text):
        return int(builder.CreateString(value))
    if isinstance(field, Vector):
        array = np.asarray(value, field.dtype)
        # The length, four bytes, comes in front and does not disturb the alignment behind it.
        builder.Prep(field.alignment, array.nbytes)
        return int(builder.CreateNumpyVector(array))
    if isinstance(field, Child):
        if field.fields is None:
            return _table(builder, value.fields, value.values)
        return _table(builder, field.fields, value)
    tables = [_table(builder, field.fields, child) for child in value]
    builder.StartVector(4, len(tables), 4)
    for table in reversed(tables):
        builder.PrependUOffsetTRelative(table)
    return int(builder.EndVector())

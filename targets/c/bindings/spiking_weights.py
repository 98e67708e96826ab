"""How the weights of event-driven sums lie in flash: fields of 8, 4 or 2 bits, block by block.

``ek_spike_sum.h`` says what the words mean, ``ek_spike_f32.h`` how floats lie.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np

from edgekit.formats.elements import ELEMENTS
from edgekit.program.ir import Array

WORD_BITS = 32

ROOM = 64
"""Most inputs in a list: ``EK_SPIKE_ROOM``."""

FLOAT_BLOCK = 8
FLOAT_EDGE = 4
"""Outputs of a block of floats, and of a last one that needs no more."""


class Field(IntEnum):
    """Kinds of fields: ``EK_SPIKE_FIELD_8`` and its like."""

    FIELD_8 = 0
    FIELD_4 = 1
    FIELD_4_CARRY = 2
    FIELD_2 = 3

    @property
    def bits(self) -> int:
        """Width of a field."""
        return {Field.FIELD_8: 8, Field.FIELD_2: 2}.get(self, 4)

    @property
    def mask(self) -> int:
        """The lowest field of every lane; lanes have 16 bits for fields of 8, else 8."""
        return {8: 0x00FF00FF, 4: 0x0F0F0F0F, 2: 0x03030303}[self.bits]

    @property
    def largest_block(self) -> int:
        """Words of the largest block."""
        return 4 if self in (Field.FIELD_8, Field.FIELD_4) else 2


@dataclass(frozen=True)
class FieldFormat:
    """How the levels of an element are stored.

    Attributes:
        field: kind.
        offset: a field holds level + offset.
        room: inputs whose fields a lane can add up, 64 at most.

    >>> FieldFormat.of("int8")
    FieldFormat(field=<Field.FIELD_8: 0>, offset=128, room=64)
    >>> FieldFormat.of("shift3").field.name, FieldFormat.of("ternary").field.name
    ('FIELD_4_CARRY', 'FIELD_2')
    """

    field: Field
    offset: int
    room: int

    @classmethod
    def of(cls, element: str) -> FieldFormat:
        """The narrowest fields that hold an element's levels, which int8 can hold."""
        levels = ELEMENTS[element].levels
        span = levels[-1] - levels[0]
        assert span <= 255, f"{element} needs fields wider than 8 bits"
        offset = -levels[0]
        if span <= 3:
            return cls(Field.FIELD_2, offset, min(255 // span, ROOM))
        if span <= 15:
            return cls(Field.FIELD_4, offset, min(255 // span, ROOM))
        if span == 16 and 15 - offset not in levels:
            return cls(Field.FIELD_4_CARRY, offset, 15)
        return cls(Field.FIELD_8, offset, ROOM)

    def words(self, outputs: int) -> int:
        """Words of one input."""
        return -(-outputs * self.field.bits // WORD_BITS)

    def _full_words(self, outputs: int) -> int:
        """Words of one input all of whose fields belong to outputs."""
        return outputs * self.field.bits // WORD_BITS

    def packed(self, rows: Array, groups: int) -> Array:
        """The words of weights [O,K]: int32, group by group.

        >>> words = FieldFormat.of("ternary").packed(np.int8([[1, 0], [-1, 1]]), 1)
        >>> [f"{word:08x}" for word in words.tolist()]
        ['55555552', '55555559']
        """
        outputs, inputs = rows.shape[0] // groups, rows.shape[1]
        words = self.words(outputs)
        columns = words * (WORD_BITS // self.field.bits)
        fields = np.full((groups, inputs, columns), self.offset, np.int64)
        levels = rows.astype(np.int64).reshape(groups, outputs, inputs)
        fields[:, :, :outputs] = levels.swapaxes(1, 2) + self.offset
        if self.field is Field.FIELD_4_CARRY:
            fields = np.minimum(fields, 15)
        places = np.arange(WORD_BITS // self.field.bits) * self.field.bits
        values = (fields.reshape(groups, inputs, words, -1) << places).sum(axis=-1)
        blocks = [
            values[:, :, first : first + width].reshape(groups, -1)
            for first, width in _blocks(words, self._full_words(outputs), self.field.largest_block)
        ]
        return np.concatenate(blocks, axis=1).ravel().astype(np.uint32).view(np.int32)


def _blocks(words: int, full: int, most: int) -> list[tuple[int, int]]:
    """First word and width of every block: the largest ones, then of two, then of one.

    Args:
        words: all of them.
        full: those that outputs fill to the last field.
        most: width of the largest block.

    >>> _blocks(11, 10, 4), _blocks(8, 7, 4)
    ([(0, 4), (4, 4), (8, 2), (10, 1)], [(0, 4), (4, 2), (6, 2)])
    """
    blocks, first = [], 0
    while first < words:
        width = most if full - first >= most else min(2, words - first)
        blocks.append((first, width))
        first += width
    return blocks


def float_columns(outputs: int) -> int:
    """Floats of one input: outputs, up to a multiple of four."""
    return -(-outputs // FLOAT_EDGE) * FLOAT_EDGE


def packed_floats(rows: Array, groups: int) -> Array:
    """The blocks of weights [O,K]: float32, group by group.

    >>> packed_floats(np.float32([[1, 2], [3, 4]]), 1).tolist()
    [1.0, 3.0, 0.0, 0.0, 2.0, 4.0, 0.0, 0.0]
    """
    outputs, inputs = rows.shape[0] // groups, rows.shape[1]
    columns = float_columns(outputs)
    weights = np.zeros((groups, inputs, columns), np.float32)
    weights[:, :, :outputs] = rows.reshape(groups, outputs, inputs).swapaxes(1, 2)
    blocks = [
        weights[:, :, first : first + FLOAT_BLOCK].reshape(groups, -1)
        for first in range(0, columns, FLOAT_BLOCK)
    ]
    return np.concatenate(blocks, axis=1).ravel()

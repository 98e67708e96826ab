"""Hostile files: only typed errors come out, soon, and without much memory."""

from __future__ import annotations

import functools
import math
import struct
import time
import tracemalloc

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from edgekit.errors import InvalidModelError, UnsupportedError
from edgekit.program.ir import Program
from edgekit.program.tflite import read
from edgekit.program.tflite.flatbuffer import File, Scalar, Vector
from edgekit.program.tflite.schema import BUILTINS, IDENTIFIER, OPTIONS, TENSOR_TYPES
from tests.support.litert import TFLiteBuilder
from tests.support.tflite_models import options, small_network

needs_litert = pytest.mark.needs("litert")

EVIL = (0, 1, 2, 0x7F, 0xFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 0x7F800000, 0x7FC00000)
"""Words that break lengths, offsets, indices, scales."""


@functools.cache
def seed_model() -> bytes:
    """What the mutations start from."""
    return small_network()


def attempt(data: bytes) -> Program | None:
    """Read; anything but the two typed errors fails the test."""
    try:
        return read(data, allow_int16=True, dequantize_weights=True)
    except (InvalidModelError, UnsupportedError) as error:
        message = str(error)
    assert 0 < len(message) < 20_000
    return None


@needs_litert
def test_every_truncation() -> None:
    """All prefixes; only the whole file is a model."""
    model = seed_model()
    for length in range(len(model)):
        assert attempt(model[:length]) is None, length
    assert attempt(model) is not None


@needs_litert
def test_every_byte_changed() -> None:
    """Each byte, inverted or with its lowest bit flipped in turn."""
    model = bytearray(seed_model())
    for at in range(len(model)):
        mask = 0xFF if at % 2 else 0x01
        model[at] ^= mask
        attempt(bytes(model))
        model[at] ^= mask


@needs_litert
def test_every_word_replaced() -> None:
    """Each aligned word by values that break offsets, lengths and scales."""
    model = seed_model()
    for at in range(0, len(model) - 3, 4):
        for word in EVIL[at // 4 % 2 :: 2]:
            attempt(model[:at] + struct.pack("<I", word) + model[at + 4 :])


@needs_litert
@settings(max_examples=300, deadline=None, derandomize=True)
@given(
    edits=st.lists(
        st.tuples(
            st.floats(0, 1, exclude_max=True),
            st.one_of(st.sampled_from(EVIL), st.integers(0, 2**32 - 1), st.integers(0, 8000)),
        ),
        min_size=1,
        max_size=40,
    )
)
def test_many_words_replaced(edits: list[tuple[float, int]]) -> None:
    """Several words at once, anywhere."""
    model = bytearray(seed_model())
    for place, word in edits:
        at = int(place * (len(model) - 4))
        model[at : at + 4] = struct.pack("<I", word)
    attempt(bytes(model))


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.binary(max_size=400))
@example(b"")
@example(b"\x08\0\0\0TFL3")
@example(b"\0\0\0\0TFL3")
@example(b"\xff\xff\xff\xffTFL3" + b"\xff" * 40)
def test_arbitrary_bytes(data: bytes) -> None:
    """As they are, and behind a sound beginning."""
    assert attempt(data) is None
    assert attempt(b"\x0c\0\0\0TFL3" + data) is None


@needs_litert
@settings(max_examples=300, deadline=None, derandomize=True)
@given(data=st.data())
def test_sound_flatbuffers_of_nonsense(data: st.DataObject) -> None:
    """Every builtin operator with drawn tensors, constants, quantisation and options."""
    b = TFLiteBuilder()
    extents = st.lists(st.sampled_from([0, 1, 2, 3, 5, 2**31 - 1]), max_size=5)
    small = st.lists(st.integers(1, 4), max_size=4)
    tensors = []
    for i in range(data.draw(st.integers(1, 6))):
        kind = data.draw(st.sampled_from(["int8", "float32", "int32", "int16", "int64"]))
        shape = tuple(data.draw(st.one_of(small, extents)))
        content = None
        if data.draw(st.booleans()) and math.prod(max(d, 1) for d in shape) < 300:
            size = math.prod(shape) * np.dtype(kind).itemsize
            drawn = data.draw(st.binary(min_size=size, max_size=size))
            content = np.frombuffer(drawn, kind).reshape(shape)
        scale = data.draw(st.sampled_from([None, 0.5, 2.0**-99, 2.0**99, 1e-45]))
        zero_point = data.draw(st.integers(-9, 9))
        made = b.tensor(f"t{i}", shape, kind, scale=scale, zero_point=zero_point, data=content)
        tensors.append(made)
    picks = st.lists(st.sampled_from([*tensors, -1]), max_size=4)
    builtin, fields = data.draw(st.sampled_from(NONSENSE))
    given_options = None
    if fields is not None:
        numbers = st.one_of(st.integers(0, 3), st.integers(-(2**31), 2**31 - 1))
        values = {name: data.draw(numbers) for name in fields[1]}
        given_options = options(fields[0], **values)
    b.operator(builtin, data.draw(picks), data.draw(picks), given_options)
    program = attempt(b.build(tensors[:1], tensors[-1:]))
    if program is not None:
        assert all(t.bytes < 2**31 for t in program.tensors.values())


NONSENSE: list[tuple[str, tuple[str, list[str]] | None]] = [
    ("ADD", ("Add", [])),
    ("MUL", None),
    ("RELU", None),
    ("LEAKY_RELU", ("LeakyRelu", ["alpha"])),
    ("HARD_SWISH", None),
    ("LOGISTIC", None),
    ("SOFTMAX", ("Softmax", ["beta"])),
    ("QUANTIZE", None),
    ("DEQUANTIZE", None),
    ("MEAN", ("Reducer", [])),
    ("ARG_MAX", None),
    ("RESHAPE", None),
    ("SQUEEZE", None),
    ("EXPAND_DIMS", None),
    ("TRANSPOSE", None),
    ("SLICE", None),
    ("STRIDED_SLICE", ("StridedSlice", ["beginMask", "endMask", "shrinkAxisMask"])),
    ("PAD", None),
    ("PADV2", None),
    ("SPLIT", ("Split", ["numSplits"])),
    ("SPLIT_V", None),
    ("CONCATENATION", ("Concatenation", ["axis"])),
    ("RESIZE_NEAREST_NEIGHBOR", None),
    ("AVERAGE_POOL_2D", ("Pool2D", ["strideH", "strideW", "filterHeight", "filterWidth"])),
    ("CONV_2D", ("Conv2D", ["strideH", "strideW", "dilationHFactor", "dilationWFactor"])),
    ("DEPTHWISE_CONV_2D", ("DepthwiseConv2D", ["strideH", "strideW"])),
    ("TRANSPOSE_CONV", ("TransposeConv", ["strideH", "strideW"])),
    ("FULLY_CONNECTED", ("FullyConnected", [])),
    ("BATCH_MATMUL", ("BatchMatMul", [])),
]
"""Builtin operators, and options whose integers are drawn."""


class Layout:
    """Writes flatbuffers that no library would write: tables and vectors by label, in any order."""

    def __init__(self) -> None:
        self._bytes = bytearray(b"\0\0\0\0" + IDENTIFIER)
        self._labels: dict[str, int] = {}
        self._offsets: list[tuple[int, str]] = [(0, "model")]

    def word(self, value: int | str) -> None:
        """A number, or the offset to a label."""
        if isinstance(value, str):
            self._offsets.append((len(self._bytes), value))
            value = 0
        self._bytes += struct.pack("<I", value)

    def table(self, label: str, slots: dict[int, int | str]) -> None:
        """A table of 4-byte fields: numbers, or labels of what they refer to."""
        entries = [0] * (max(slots) + 1)
        for position, slot in enumerate(sorted(slots)):
            entries[slot] = 4 + 4 * position
        vtable = struct.pack("<HH", 4 + 2 * len(entries), 4 + 4 * len(slots))
        vtable += struct.pack(f"<{len(entries)}H", *entries)
        self._bytes += vtable + bytes(-len(vtable) % 4)
        self._labels[label] = len(self._bytes)
        self.word(len(vtable) + -len(vtable) % 4)
        for slot in sorted(slots):
            self.word(slots[slot])

    def vector(self, label: str, items: list[int] | list[str]) -> None:
        """A vector of words."""
        self._labels[label] = len(self._bytes)
        self.word(len(items))
        for item in items:
            self.word(item)

    def finish(self) -> bytearray:
        """The file, with every offset filled in."""
        for place, label in self._offsets:
            struct.pack_into("<I", self._bytes, place, self._labels[label] - place)
        return self._bytes


def test_root_that_is_its_own_vtable() -> None:
    """A table whose vtable overlaps it."""
    for shift in range(-8, 9):
        attempt(struct.pack("<I", 8) + IDENTIFIER + struct.pack("<i", shift) + b"\x08\0" * 20)


@pytest.mark.parametrize("length", [1, 2**20, 2**31 - 1, 2**32 - 1])
def test_vector_longer_than_the_file(length: int) -> None:
    """Its length is checked before anything of that length is made."""
    layout = Layout()
    layout.table("model", {0: 3, 2: "subgraphs"})
    layout.vector("subgraphs", [])
    data = layout.finish()
    struct.pack_into("<I", data, len(data) - 4, length)
    with pytest.raises(InvalidModelError, match=f"a vector of {length} elements"):
        read(bytes(data))


def shared_tables(count: int) -> bytes:
    """An operator that stands `count` times in its vector, with `count` inputs and outputs.

    The tree has ``count ** 2`` leaves, the file some ``8 * count`` bytes.
    """
    layout = Layout()
    layout.table("model", {0: 3, 1: "codes", 2: "subgraphs", 4: "none"})
    layout.vector("subgraphs", ["subgraph"])
    layout.table("subgraph", {0: "none", 1: "none", 2: "none", 3: "operators"})
    layout.vector("operators", ["operator"] * count)
    layout.table("operator", {0: 0, 1: "numbers", 2: "numbers"})
    layout.vector("codes", ["code"])
    layout.table("code", {3: BUILTINS.index("FLOOR")})
    layout.vector("none", [])
    layout.vector("numbers", [0] * count)
    return bytes(layout.finish())


def test_shared_parts_do_not_multiply() -> None:
    """Time and memory follow the size of the file, not of the tree it spells."""
    data = shared_tables(50_000)
    tracemalloc.start()
    begin = time.perf_counter()
    try:
        with pytest.raises((InvalidModelError, UnsupportedError)):
            read(data)
        seconds = time.perf_counter() - begin
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert seconds < 20
    assert peak < 40 * len(data) + 2**22


@needs_litert
def test_equal_names_do_not_slow_down() -> None:
    """Thousands of tensors of one name are renamed in one pass."""
    b = TFLiteBuilder()
    tensors = [b.tensor("x", (1, 4), "int8", scale=0.5) for _ in range(4001)]
    for made, given_tensor in zip(tensors[1:], tensors[:-1], strict=True):
        b.operator("RELU", [given_tensor], [made])
        b.operators[-1].opcodeIndex = 0
    model = b.build(tensors[:1], tensors[-1:])
    begin = time.perf_counter()
    program = read(model)
    assert time.perf_counter() - begin < 10
    assert len(program.tensors) == 4001
    assert "x:4000" in program.tensors


def test_budget_stops_repeated_reading() -> None:
    """A vector that is decoded again and again."""
    layout = Layout()
    layout.table("model", {0: "v"})
    layout.vector("v", [0] * 1000)
    table = File(bytes(layout.finish()), "x").root({"v": Vector(0, "<u4")}, IDENTIFIER)

    def read_often() -> None:
        for _ in range(1000):
            assert table["v"].size == 1000

    with pytest.raises(InvalidModelError, match="used over and over"):
        read_often()


def test_fields_stay_inside_their_table() -> None:
    """A vtable that points a field behind the table."""
    layout = Layout()
    layout.table("model", {0: 1})
    data = layout.finish()
    fields = {"n": Scalar(0, "<I")}
    assert File(bytes(data), "x").root(fields, IDENTIFIER)["n"] == 1
    struct.pack_into("<H", data, 12, 5)
    table = File(bytes(data), "x").root(fields, IDENTIFIER)
    with pytest.raises(InvalidModelError, match=r"model\.n: field offset 5 leads out of its table"):
        table["n"]


def test_absent_fields_have_their_defaults() -> None:
    """Slots behind the vtable's end, and empty ones."""
    layout = Layout()
    layout.table("model", {1: 2})
    fields = {"first": Scalar(0, "<I", 7), "second": Scalar(1, "<I"), "later": Scalar(9, "<I", 8)}
    table = File(bytes(layout.finish()), "x").root(fields, IDENTIFIER)
    assert [table[name] for name in fields] == [7, 2, 8]
    assert not table.has("later")
    assert table.has("second")


@needs_litert
def test_schema_agrees_with_litert() -> None:
    """Names and numbers of operators, element types and option tables."""
    from ai_edge_litert import schema_py_generated as schema

    for number, name in enumerate(BUILTINS):
        assert getattr(schema.BuiltinOperator, name) == number
    for number, name in enumerate(TENSOR_TYPES):
        assert getattr(schema.TensorType, name.upper()) == number
    for name, (number, _) in OPTIONS.items():
        assert getattr(schema.BuiltinOptions, name) == number

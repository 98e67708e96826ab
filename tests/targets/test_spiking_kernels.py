"""Kernels of spiking networks: packed weights, full lanes, decay over the whole of int32."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from edgekit.formats.elements import ELEMENTS
from edgekit.program.ir import Array, DType, Program, TensorType
from edgekit.program.operators.coding import Coding
from edgekit.program.operators.spiking_bits import bit_set
from edgekit.program.operators.spiking_neurons import Leaky, Synaptic
from edgekit.program.operators.spiking_rescale import Rescale
from edgekit.program.operators.spiking_weighted import Schedule, SpikeDense
from edgekit.targets.c.bindings.spiking_weights import ROOM, Field, FieldFormat
from edgekit.targets.c.emit import emit
from edgekit.targets.image import build_image
from edgekit.targets.target import target
from tests.cases.case import Case, one_operator
from tests.support.chain import check, check_host, combine, emulate

NARROW = [name for name, element in ELEMENTS.items() if element.dtype == np.int8]
"""Elements whose levels int8 holds."""


def unpacked(words: Array, form: FieldFormat, *, inputs: int, outputs: int) -> Array:
    """Weights [outputs, inputs] of one group, read field by field as ``ek_spike_sum.h`` says."""
    per_word = 32 // form.field.bits
    rows = np.zeros((outputs, inputs), np.int64)
    place, first = 0, 0
    while first < outputs:
        width = form.field.largest_block
        if outputs - first < width * per_word:
            width = min(2, -(-(outputs - first) // per_word))
        block = words[place : place + width * inputs].reshape(inputs, width)
        for k in range(inputs):
            for column in range(min(width * per_word, outputs - first)):
                word = int(block[k, column // per_word]) & 0xFFFFFFFF
                field = word >> column % per_word * form.field.bits & (1 << form.field.bits) - 1
                if form.field is Field.FIELD_4_CARRY and field == 15:
                    field = 16
                rows[first + column, k] = field - form.offset
        place += width * inputs
        first += width * per_word
    assert place == words.size
    return rows


@pytest.mark.parametrize("element", NARROW)
@pytest.mark.parametrize("outputs", [1, 15, 16, 36, 63])
def test_packing(element: str, outputs: int) -> None:
    """What is packed is what is read, and takes the bits of its fields."""
    form = FieldFormat.of(element)
    levels = ELEMENTS[element].levels
    rows = np.random.default_rng(0).choice(levels, (outputs, 5)).astype(np.int8)
    words = form.packed(rows, 1)
    assert (unpacked(words, form, inputs=5, outputs=outputs) == rows).all()
    assert words.nbytes == 5 * 4 * -(-outputs * form.field.bits // 32)


def test_fields() -> None:
    """Which elements share fields of how many bits."""
    fields = {name: FieldFormat.of(name).field for name in NARROW}
    two = {"int2", "ternary", "ternary-p5", "binary"}
    four = {"int3", "int4", "shift2", "fp4-e1m2"}
    assert {n for n, f in fields.items() if f is Field.FIELD_2} == two
    assert {n for n, f in fields.items() if f is Field.FIELD_4} == four
    assert {n for n, f in fields.items() if f is Field.FIELD_4_CARRY} == {"shift3"}


def spike_sum(element: str, inputs: int, level: int, schedule: Schedule = "event") -> Program:
    """A sum whose every weight is one level."""
    coding = None if element == "int8" else Coding(element)
    w = np.full((37, inputs), level, np.int8)
    operator = SpikeDense(neurons=(inputs,), coding=coding, schedule=schedule)
    return one_operator(operator, ("const", w), None, bit_set(1, inputs), name="sums")


def full_lanes() -> Iterator[Case]:
    """Sums of nothing but the largest and of nothing but the smallest level, as long as lists."""
    for element in ("int8", "int4", "int2", "ternary", "shift2", "shift3"):
        levels = ELEMENTS[element].levels
        room = FieldFormat.of(element).room
        assert room <= ROOM
        for inputs in (room - 1, room, room + 1, 3 * room):
            for level in (levels[0], levels[-1]):
                yield Case(f"{element}-{inputs}-{level}", spike_sum(element, inputs, level))


def sets(program: Program) -> list[dict[str, Array]]:
    """Everything spikes; nothing does."""
    kinds = {b.name: t.type for b, t in zip(program.inputs, program.input_tensors, strict=True)}
    return [
        {name: np.full(kind.shape, value, np.int32) for name, kind in kinds.items()}
        for value in (-1, 0)
    ]


@pytest.mark.needs("cc")
def test_lanes_do_not_overflow() -> None:
    """Every input active, with the largest weights, around the lengths of lists."""
    program, _ = combine(list(full_lanes()))
    check_host(program, sets(program))


EDGES = (0, 1, -1, 2**14, 2**15, -(2**15), 2**16 - 1, 2**30, -(2**30), 2**31 - 1, -(2**31))
SHIFTS = (0, 1, 15, 30, 31, 32, 46, 61)
FACTORS = (0, 1, 2**14 - 1, 2**14, 2**14 + 1, 29491, 2**15 - 1, 2**15)


def decays() -> Program:
    """Neurons with one factor for all and with one each, of both orders; membranes rescaled."""
    cases = []
    n = 16 * len(EDGES)
    x = TensorType((1, n), DType.INT32)
    threshold = ("const", np.full(n, 5000, np.int32))
    for factor in FACTORS:
        for beta in (np.int32([factor]), np.int32([factor] * (n - 1) + [3])):
            given = ("const", beta)
            leaky = one_operator(Leaky(fraction=2), x, x, given, threshold)
            synaptic = one_operator(Synaptic(fraction=2), x, x, x, given, given, threshold)
            cases += [Case(f"leaky-{factor}-{beta.size}", leaky)]
            cases += [Case(f"synaptic-{factor}-{beta.size}", synaptic)]
    for shift in SHIFTS:
        scaling = ("const", np.int32([2**31 - 1, 1 << 30, 1, 0] * (n // 4)))
        one, each = Rescale(shift=shift), one_operator(Rescale(shift=shift), x, scaling)
        added = one_operator(one, x, ("const", np.int32([1 << 30])), x)
        cases += [Case(f"rescale-{shift}", each), Case(f"rescale-{shift}-added", added)]
    return combine(cases, "decays")[0]


def membranes(program: Program) -> list[dict[str, Array]]:
    """The edges of int32 and their neighbours, everywhere."""
    rng = np.random.default_rng(1)
    sample = {}
    for boundary, tensor in zip(program.inputs, program.input_tensors, strict=True):
        values = np.tile(np.array(EDGES, np.int64), 16) + rng.integers(-2, 3, tensor.type.size)
        sample[boundary.name] = values.astype(np.int32).reshape(tensor.shape)
    return [sample]


@pytest.mark.needs("cc")
def test_decay_is_exact_on_the_host() -> None:
    """Every factor on every edge."""
    program = decays()
    check_host(program, membranes(program))


@pytest.mark.needs("cortex-m compiler")
@pytest.mark.parametrize("core", ["cortex-m0plus", "cortex-m4"])
def test_decay_is_exact(core: str, tmp_path: Path) -> None:
    """By halves where there is no long multiplication, by its upper word where there is one."""
    emission = emit(decays(), version="test")
    machine = emulate(build_image(emission.library, target(core), folder=tmp_path))
    check(machine, emission, membranes(emission.program))
    machine.close()


def test_kernels_by_schedule_and_weights() -> None:
    """The binding finds the fields that the levels need."""
    wanted = {
        ("int8", "event"): "spike_dense_event_b8",
        ("int4", "event"): "spike_dense_event_b4",
        ("shift3", "event"): "spike_dense_event_b4c",
        ("ternary", "event"): "spike_dense_event_b2",
        ("ternary", "dense"): "spike_dense_full_s8",
    }
    for (element, schedule), kernel in wanted.items():
        level = ELEMENTS[element].levels[-1]
        emission = emit(spike_sum(element, 40, level, schedule), version="test")
        assert [layer.kernel for layer in emission.layers] == [kernel]


def test_weights_are_packed_in_flash() -> None:
    """A ternary layer takes a quarter of an int8 one."""
    sizes = {}
    for element, level in (("int8", 127), ("int4", 7), ("ternary", 1)):
        coding = None if element == "int8" else Coding(element)
        operator = SpikeDense(neurons=(100,), coding=coding)
        w = np.full((64, 100), level, np.int8)
        program = one_operator(operator, ("const", w), None, bit_set(1, 100))
        members = emit(program, version="test").weights.members
        sizes[element] = max(member.data.nbytes for member in members)
    assert sizes == {"int8": 6400, "int4": 3200, "ternary": 1600}

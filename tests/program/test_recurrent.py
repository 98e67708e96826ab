"""LSTM and GRU: the equations, and one step at a time against the whole sequence at once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgekit.program import serialize
from edgekit.program.fixed_point import Requant
from edgekit.program.interpret import Interpreter
from edgekit.program.ir import Array, DType, Quantization, TensorType
from edgekit.program.operators import recurrent
from edgekit.program.operators.base import Operator, OperatorError
from edgekit.program.operators.recurrent import (
    UNIT,
    Gru,
    Lstm,
    cell_exponent,
    cell_quantization,
)
from edgekit.targets.c.emit import Emission, emit
from edgekit.targets.host import HostMachine
from edgekit.targets.image import build_image
from edgekit.targets.machine import Machine
from edgekit.targets.target import target
from tests.cases.case import random_array
from tests.cases.recurrent import Layer
from tests.support import gemmlowp16
from tests.support.chain import STRICT, assert_identical, emulate, run_machine
from tests.support.litert_lstm import litert_lstm
from tests.support.recurrent import real_recurrence, stateful

KINDS = ("lstm", "gru", "gru-after")
EXTENTS = st.tuples(*(st.integers(1, 6) for _ in range(4)))
GATES = {"lstm": 4, "gru": 3, "gru-after": 3}
WINDOW = 7


def drawn(kind: str, extents: tuple[int, ...], rng: np.random.Generator) -> list[Array]:
    """x, w, r, bias, r_bias and states in float32."""
    steps, batch, inputs, units = extents
    rows = GATES[kind] * units
    shapes = [(steps, batch, inputs), (rows, inputs), (rows, units), (rows,), (units,)]
    shapes += [(batch, units)] * (2 if kind == "lstm" else 1)
    return [rng.uniform(-0.9, 0.9, shape).astype(np.float32) for shape in shapes]


def ran(kind: str, operator: Operator, arrays: list[Array]) -> tuple[Array, ...]:
    """The operator on what `drawn` gives."""
    x, w, r, bias, r_bias, *states = arrays
    if kind == "lstm":
        return operator.reference(x, w, r, bias, *states)
    return operator.reference(x, w, r, bias, r_bias if kind == "gru-after" else None, *states)


def float_operator(kind: str, *, reverse: bool = False) -> Lstm | Gru:
    if kind == "lstm":
        return Lstm(reverse=reverse)
    return Gru(reverse=reverse, reset_after=kind == "gru-after")


@settings(deadline=None, max_examples=25)
@given(kind=st.sampled_from(KINDS), extents=EXTENTS, seed=st.integers(0, 2**32 - 1))
def test_float_is_the_equations(kind: str, extents: tuple[int, ...], seed: int) -> None:
    x, w, r, bias, r_bias, *states = drawn(kind, extents, np.random.default_rng(seed))
    got = ran(kind, float_operator(kind), [x, w, r, bias, r_bias, *states])
    want = real_recurrence(kind, x, w, r, bias, r_bias, states)
    np.testing.assert_allclose(got[0], want, atol=5e-6)
    np.testing.assert_array_equal(got[1], got[0][-1])


@settings(deadline=None, max_examples=25)
@given(kind=st.sampled_from(KINDS), extents=EXTENTS, seed=st.integers(0, 2**32 - 1))
def test_integers_are_near_the_equations(kind: str, extents: tuple[int, ...], seed: int) -> None:
    """Of the reals that the integers mean: only the arithmetic differs, not the weights."""
    rng = np.random.default_rng(seed)
    arrays = drawn(kind, extents, rng)
    units, rows = extents[3], arrays[1].shape[0]
    x = Quantization.per_tensor(0.01, int(rng.integers(-128, 128)))
    y = Quantization.per_tensor(1 / 120, int(rng.integers(-5, 6)))
    w, r = (
        Quantization(tuple(rng.uniform(0.004, 0.008, rows).tolist()), (0,) * rows, 0)
        for _ in range(2)
    )
    states = [(y, np.int8), (cell_quantization(-13), np.int16)]
    states = states if kind == "lstm" else [(UNIT, np.int16)]
    w_steps, r_steps = (np.array(q.scale)[:, np.newaxis] for q in (w, r))
    integers = [
        np.clip(np.rint(arrays[0] / x.scalar_scale) + x.scalar_zero_point, -128, 127),
        np.rint(np.clip(arrays[1] / w_steps, -127, 127)),
        np.rint(np.clip(arrays[2] / r_steps, -127, 127)),
        np.rint(arrays[3] / (x.scalar_scale * w_steps[:, 0])),
        np.rint(arrays[4] / (y.scalar_scale * r_steps[-units:, 0])),
        *(
            np.clip(np.rint(a / q.scalar_scale) + q.scalar_zero_point, *limits(dtype))
            for a, (q, dtype) in zip(arrays[5:], states, strict=True)
        ),
    ]
    dtypes = [np.int8, np.int8, np.int8, np.int32, np.int32, *(dtype for _, dtype in states)]
    typed = [a.astype(dtype) for a, dtype in zip(integers, dtypes, strict=True)]
    operator: Lstm | Gru
    if kind == "lstm":
        operator = Lstm.quantized(x=x, w=w, r=r, y=y, cell_exponent=-13)
    else:
        operator = Gru.quantized(x=x, w=w, r=r, y=y, reset_after=kind == "gru-after")
    got = ran(kind, operator, typed)[0].astype(np.float64)
    meant = [
        (integers[0] - x.scalar_zero_point) * x.scalar_scale,
        integers[1] * w_steps,
        integers[2] * r_steps,
        integers[3] * x.scalar_scale * w_steps[:, 0],
        integers[4] * y.scalar_scale * r_steps[-units:, 0],
    ]
    starts = [
        (a - q.scalar_zero_point) * q.scalar_scale
        for a, (q, _) in zip(integers[5:], states, strict=True)
    ]
    want = real_recurrence(kind, *meant, starts)
    # A step of int8 per step of the recurrence, which this network does not amplify much.
    real = (got - y.scalar_zero_point) * y.scalar_scale
    assert np.abs(real - want).max() <= 3.5 * y.scalar_scale


def limits(dtype: type) -> tuple[int, int]:
    info = np.iinfo(dtype)
    return int(info.min), int(info.max)


@settings(deadline=None, max_examples=12)
@given(kind=st.sampled_from(KINDS), extents=EXTENTS, seed=st.integers(0, 2**32 - 1))
def test_reverse_is_the_reversed_sequence(kind: str, extents: tuple[int, ...], seed: int) -> None:
    x, *rest = drawn(kind, extents, np.random.default_rng(seed))
    forward = ran(kind, float_operator(kind), [x[::-1].copy(), *rest])
    backward = ran(kind, float_operator(kind, reverse=True), [x, *rest])
    np.testing.assert_array_equal(backward[0], forward[0][::-1])
    for got, want in zip(backward[1:], forward[1:], strict=True):
        np.testing.assert_array_equal(got, want)


LITERT_CASES = 30


def litert_case(rng: np.random.Generator) -> tuple[Array, Array, Lstm, list[Array]]:
    """LiteRT's result and the input, operator and weights that it came from."""
    shape = tuple(int(n) for n in rng.integers(1, [14, 3, 9]))
    units, exponent = int(rng.integers(1, 9)), int(rng.integers(-15, -8))
    x = Quantization.per_tensor(float(np.exp(rng.uniform(-6, -2))), int(rng.integers(-128, 128)))
    y = Quantization.per_tensor(float(np.exp(rng.uniform(-6, -3))), int(rng.integers(-128, 128)))
    w, r = (Quantization.per_tensor(float(np.exp(rng.uniform(-8, -2)))) for _ in range(2))
    weights = [
        rng.integers(-127, 128, (4 * units, shape[2])).astype(np.int8),
        rng.integers(-127, 128, (4 * units, units)).astype(np.int8),
        rng.integers(-9000, 9000, 4 * units).astype(np.int32),
    ]
    values = random_array(rng, TensorType(shape, DType.INT8))
    oracle = litert_lstm((shape[0], shape[1], shape[2]), x, w, r, y, exponent, (*weights,))
    operator = Lstm.quantized(x=x, w=w, r=r, y=y, cell_exponent=exponent)
    return oracle(values)[0], values, operator, weights


@pytest.mark.needs("litert")
def test_equals_litert_but_for_the_curves(monkeypatch: pytest.MonkeyPatch) -> None:
    """LiteRT computes sigmoid and tanh otherwise than its own int16 kernels of these names do.

    With its way of doing so in the place of the tables, which TFLite Micro has there, every bit is
    the same. With the tables the first step, before differences are fed back, is within a step.
    """
    rng = np.random.default_rng(12)
    cases = [litert_case(rng) for _ in range(LITERT_CASES)]
    for want, x, operator, weights in cases:
        tables = operator.reference(x[:1], *weights, None, None)[0]
        assert np.abs(tables.astype(int) - want[:1]).max() <= 1
    for want, x, operator, weights in cases:
        bits = 15 + operator.cell_exponent

        def tanh(argument: Array, curve: object = None, bits: int = bits) -> Array:
            return gemmlowp16.tanh(argument, 3 if curve is None else bits)

        monkeypatch.setattr(recurrent, "_sigmoid", gemmlowp16.sigmoid)
        monkeypatch.setattr(recurrent, "_tanh", tanh)
        got = operator.reference(x, *weights, None, None)[0]
        np.testing.assert_array_equal(got, want, f"{operator}")


LAYERS = [
    Layer(name="stepped", kind=kind, dtype=dtype, x=(WINDOW, 1, 5), units=6, w_scale=scale)
    for kind in KINDS
    for dtype, scale in ((DType.INT8, (0.004,)), (DType.FLOAT32, None))
]
IDS = [f"{layer.kind}-{layer.dtype}" for layer in LAYERS]


def stepped(machine: Machine, emission: Emission, xs: Array) -> Array:
    """Every step's result of a machine whose library takes one step at a time."""
    machine.reset()
    results = [run_machine(machine, emission, {"x": x[np.newaxis]}, step=True) for x in xs]
    return np.concatenate([r["y"] for r in results])


@pytest.mark.parametrize("layer", LAYERS, ids=IDS)
def test_steps_equal_the_sequence(layer: Layer) -> None:
    """A Program of one step, stepped, gives the bits of a Program of all of them, run."""
    whole, single = stateful(layer, WINDOW), stateful(layer, 1)
    xs = random_array(np.random.default_rng(3), whole.input_tensors[0].type)
    interpreter = Interpreter(single)
    want = Interpreter(whole).run({"x": xs})["y"]
    for _ in range(2):  # The second time shows that reset takes everything back.
        got = interpreter.run_sequence({"x": xs[:, np.newaxis]})["y"][:, 0]
        assert_identical({"y": want}, {"y": got})
    first = interpreter.run({"x": xs[:1]})["y"]
    assert_identical({"y": want[:1]}, {"y": first})
    again = interpreter.step({"x": xs[:1]})["y"]
    assert (again != first).any(), "the state has no influence, so the test shows nothing"


@pytest.mark.parametrize("layer", LAYERS, ids=IDS)
@pytest.mark.needs("cc")
def test_steps_equal_the_sequence_on_host(layer: Layer) -> None:
    check_machines(layer, lambda e: HostMachine(e.library, flags=STRICT))


@pytest.mark.parametrize("core", ["cortex-m0plus", "cortex-m4"])
@pytest.mark.parametrize("layer", LAYERS, ids=IDS)
@pytest.mark.needs("cortex-m compiler")
def test_steps_equal_the_sequence_emulated(layer: Layer, core: str, tmp_path: Path) -> None:
    check_machines(
        layer,
        lambda e: emulate(build_image(e.library, target(core), folder=tmp_path)),
    )


def check_machines(layer: Layer, start: Callable[[Emission], Machine]) -> None:
    """The library of one step, stepped, equals the interpreter on the whole sequence.

    What libraries of whole sequences compute is in the grid of cases.
    """
    whole = stateful(layer, WINDOW)
    xs = random_array(np.random.default_rng(4), whole.input_tensors[0].type)
    emission = emit(stateful(layer, 1), version="test")
    machine = start(emission)
    want = Interpreter(whole).run({"x": xs})
    for _ in range(2):
        assert_identical(want, {"y": stepped(machine, emission, xs)})
    machine.close()


@pytest.mark.parametrize("layer", LAYERS, ids=IDS)
def test_serialises(layer: Layer) -> None:
    program = stateful(layer, 2)
    again = serialize.load(*serialize.dump(program))
    assert again.operations == program.operations
    assert again.state == program.state


def test_a_slow_unit_of_int8_moves() -> None:
    """An update gate near 1 moves h by less than a step of int8, and still gets there."""
    one = Quantization.per_tensor(1 / 128)
    gru = Gru.quantized(x=one, w=one, r=one, y=one)
    w = np.zeros((3, 1), np.int8)
    # Biases are steps of 2**-14: the candidate is tanh(4), and 1 / 150 of the way is taken a step.
    # A state of int8 would stop where that rounds to nothing, at half of the way.
    bias = np.int32([5 << 14, 0, 4 << 14])
    y, _ = gru.reference(np.zeros((2000, 1, 1), np.int8), w, w, bias, None, None)
    assert y[[0, -1], 0, 0].tolist() == [1, 127]


def test_cells_saturate() -> None:
    """A cell that grows without end stops at the end of int16."""
    one = Quantization.per_tensor(1 / 128)
    lstm = Lstm.quantized(x=one, w=one, r=one, y=one, cell_exponent=-14)
    w = np.zeros((4, 1), np.int8)
    bias = np.int32([7 << 14, 7 << 14, 7 << 14, 7 << 14])
    _, h, c = lstm.reference(np.zeros((9, 1, 1), np.int8), w, w, bias, None, None)
    assert c.tolist() == [[32767]]
    assert h.tolist() == [[123]]  # tanh(2) in steps of 1/128


@given(st.floats(0, 1e6))
def test_the_cell_exponent_is_the_finest_that_fits(largest: float) -> None:
    exponent = cell_exponent(largest)
    assert -15 <= exponent <= 0
    assert exponent == 0 or largest <= 32767 * 2.0**exponent
    assert exponent == -15 or largest > 32767 * 2.0 ** (exponent - 1)


def test_counts_products() -> None:
    x, w, r = (TensorType(s, DType.FLOAT32) for s in ((5, 2, 3), (16, 3), (16, 4)))
    assert Lstm().macs(x, w, r) == 5 * 2 * 4 * 4 * (3 + 4)


ONE = Quantization.per_tensor(1.0)
INTEGER = Lstm.quantized(x=ONE, w=ONE, r=ONE, y=ONE)
INTEGER_GRU = Gru.quantized(x=ONE, w=ONE, r=ONE, y=ONE)


def types(gates: int, dtype: DType, **changes: TensorType | None) -> list[TensorType | None]:
    """x, w, r and what else is given, for 3 steps, a batch of 1, 2 inputs and 5 units."""
    found: dict[str, TensorType | None] = {
        "x": TensorType((3, 1, 2), dtype),
        "w": TensorType((gates * 5, 2), dtype),
        "r": TensorType((gates * 5, 5), dtype),
    }
    return list((found | changes).values())


F, I8 = DType.FLOAT32, DType.INT8


@pytest.mark.parametrize(
    ("operator", "inputs", "message"),
    [
        (Lstm(), types(4, F, x=TensorType((3, 2), F)), "x has shape .*, must have rank 3"),
        (Lstm(), types(4, DType.INT16), "x is int16, must be int8 or float32"),
        (Lstm(), types(4, F, w=TensorType((20, 2), I8)), "w is int8, must be float32"),
        (Lstm(), types(4, F, x=TensorType((0, 1, 2), F)), "x is empty"),
        (Lstm(), types(3, F), r"r has shape \[15, 5\], must be \[20, 5\]"),
        (Lstm(), types(4, F, w=TensorType((20, 3), F)), r"w has shape .*, must be \[20, 2\]"),
        (Lstm(), types(4, F, bias=TensorType((5,), F)), r"bias has shape \[5\], must be \[20\]"),
        (Lstm(), types(4, F, bias=TensorType((20,), DType.INT32)), "bias is int32"),
        (Lstm(), types(4, I8), "x_requant is for int8"),
        (INTEGER, types(4, F), "x_requant is for int8, x is float32"),
        (replace(INTEGER, hidden_requant=None), types(4, I8), "hidden_requant is for int8"),
        (replace(INTEGER, cell_exponent=1), types(4, I8), r"cell_exponent 1 is not -15…0"),
        (replace(INTEGER, x_zero_point=128), types(4, I8), "x_zero_point 128 does not fit"),
        (replace(INTEGER, h_zero_point=-129), types(4, I8), "h_zero_point -129 does not fit"),
        (
            replace(INTEGER, h_requant=Requant.from_real([1.0], "single")),
            types(4, I8),
            "h_requant rounds 'single', must be 'double'",
        ),
        (
            replace(INTEGER, x_requant=Requant.from_real([1.0, 2.0], "double")),
            types(4, I8),
            "x_requant has 2 factors, must have 1 or 20",
        ),
        (
            INTEGER,
            types(4, I8, bias=None, h=None, c=TensorType((1, 5), I8)),
            r"c is int8\[1, 5\], must be int16\[1, 5\]",
        ),
        (
            INTEGER,
            types(4, I8, bias=None, h=TensorType((1, 4), I8)),
            r"h is int8\[1, 4\], must be int8\[1, 5\]",
        ),
        (
            INTEGER,
            types(4, I8, x=TensorType((1, 1, 65794), I8), w=TensorType((20, 65794), I8)),
            "65794 products may overflow int32",
        ),
        (
            Gru(),
            types(3, F, bias=None, r_bias=TensorType((5,), F)),
            "r_bias is only for reset_after",
        ),
        (
            Gru(reset_after=True),
            types(3, F, bias=None, r_bias=TensorType((15,), F)),
            r"r_bias has shape \[15\], must be \[5\]",
        ),
        (Gru(y_requant=Requant.from_real([1.0], "double")), types(3, F), "y_requant is for int8"),
        (
            INTEGER_GRU,
            types(3, I8, bias=None, r_bias=None, h=TensorType((1, 5), I8)),
            r"h is int8\[1, 5\], must be int16\[1, 5\]",
        ),
    ],
)
def test_refuses(operator: Operator, inputs: list[TensorType | None], message: str) -> None:
    with pytest.raises(OperatorError, match=message):
        operator.infer(*inputs)


def test_refuses_weights_with_zero_points() -> None:
    with pytest.raises(OperatorError, match="zero points of w and r"):
        Lstm.quantized(x=ONE, w=Quantization.per_tensor(1.0, 3), r=ONE, y=ONE)

"""LSTM and GRU nodes, and declared state, against ONNX Runtime."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgekit.errors import EdgekitError, InvalidModelError, UnsupportedError, UsageError
from edgekit.model import load
from edgekit.program.interpret import Interpreter
from edgekit.program.ir import Array, DType, Program
from edgekit.program.lowering import lower
from edgekit.program.verify import verify
from tests.support.chain import check_host
from tests.support.onnx_models import OnnxBuilder, run_onnx
from tests.support.recurrent_onnx import (
    GATES,
    MODULES,
    build,
    carried_by_hand,
    declared,
    exported,
    exported_module,
)

TOLERANCE = 3e-6
"""Between our exp and tanh and ONNX Runtime's, over a few steps."""


def random_inputs(program: Program, seed: int = 1) -> dict[str, Array]:
    rng = np.random.default_rng(seed)
    return {b.name: rng.uniform(-1, 1, b.source_shape).astype(np.float32) for b in program.inputs}


@settings(deadline=None, max_examples=25)
@given(
    kind=st.sampled_from(["LSTM", "GRU"]),
    extents=st.tuples(*(st.integers(1, 5) for _ in range(4))),
    direction=st.sampled_from(["forward", "reverse", "bidirectional"]),
    bias=st.booleans(),
    after=st.integers(0, 1),
    fed=st.booleans(),
    seed=st.integers(0, 2**16),
)
@pytest.mark.needs("onnxruntime")
def test_nodes_equal_onnx_runtime(
    kind: str,
    extents: tuple[int, int, int, int],
    direction: str,
    bias: bool,
    after: int,
    fed: bool,
    seed: int,
) -> None:
    attributes = {"linear_before_reset": after} if kind == "GRU" else {}
    data = build(kind, extents, bias=bias, fed=fed, seed=seed, direction=direction, **attributes)
    program = lower(load(data))
    assert bool(program.state) == (direction == "forward" and not fed)
    inputs = random_inputs(program, seed)
    want, got = run_onnx(data, inputs), Interpreter(program).run(inputs)
    assert want.keys() == got.keys()
    for name, value in want.items():
        np.testing.assert_allclose(got[name], value, atol=TOLERANCE, err_msg=name)


@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize("kind", ["LSTM", "GRU"])
@pytest.mark.parametrize("fed", [False, True])
def test_the_other_layout_is_the_same_transposed(kind: str, direction: str, fed: bool) -> None:
    """ONNX Runtime does not run layout 1."""
    programs = [
        lower(load(build(kind, (3, 2, 4, 5), layout=layout, fed=fed, direction=direction)))
        for layout in (0, 1)
    ]
    inputs = random_inputs(programs[0])
    swapped = {name: value.swapaxes(0, 1) for name, value in inputs.items()}
    want, got = Interpreter(programs[0]).run(inputs), Interpreter(programs[1]).run(swapped)
    for name, value in want.items():
        axes = (2, 0, 1, 3) if value.ndim == 4 else (1, 0, 2)
        np.testing.assert_array_equal(got[name], value.transpose(axes))


@pytest.mark.parametrize("kind", ["LSTM", "GRU"])
@pytest.mark.needs("onnxruntime", "cc")
def test_one_number_starts_the_state(kind: str) -> None:
    initial = (0.25, -0.5)[: GATES[kind] - 2]
    data = build(kind, initial=initial)
    program = lower(load(data))
    assert tuple(s.initial for s in program.state) == initial
    inputs = random_inputs(program)
    got = Interpreter(program).run(inputs)
    for name, value in run_onnx(data, inputs).items():
        np.testing.assert_allclose(got[name], value, atol=TOLERANCE)
    check_host(program, [inputs])


@pytest.mark.needs("onnxruntime")
def test_constants_start_a_reversed_layer() -> None:
    start = np.linspace(-1, 1, 5)
    data = build("GRU", initial=(start,), direction="reverse")
    program = lower(load(data))
    assert not program.state
    inputs = random_inputs(program)
    got = Interpreter(program).run(inputs)
    for name, value in run_onnx(data, inputs).items():
        np.testing.assert_allclose(got[name], value, atol=TOLERANCE)


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        ({"activations": ["Relu", "Tanh", "Tanh"]}, "activations are .*, supported: .*'Sigmoid'"),
        ({"activation_alpha": [0.5]}, "activation_alpha is set"),
        ({"activation_beta": [0.5]}, "activation_beta is set"),
        ({"clip": 1.0}, "clip is set"),
        ({"input_forget": 1}, "input_forget is set"),
        ({"initial": (np.arange(5),)}, "initial_h holds different numbers"),
        ({"direction": "sideways"}, "direction is 'sideways', must be one of"),
        ({"layout": 2}, "layout is 2, must be 0 or 1"),
    ],
)
def test_refuses(attributes: dict[str, Any], message: str) -> None:
    with pytest.raises(EdgekitError, match=message) as caught:
        lower(load(build("LSTM", **attributes)))
    assert "LSTM node 'rnn'" in str(caught.value)


def node_model(kind: str, *operands: Any, **attributes: Any) -> bytes:
    """One node on x[4,1,3] with any constants, "x" for the input again and "" for none."""
    b = OnnxBuilder()
    names = [b.input("x", (4, 1, 3))]
    for operand in operands:
        plain = isinstance(operand, str)
        names.append(operand if plain else b.constant(np.zeros(operand, np.float32)))
    b.output(b.node(kind, *names, name="rnn", **attributes))
    return b.build()


LENGTHS = np.ones(1)


@pytest.mark.parametrize(
    ("kind", "operands", "attributes", "error", "message"),
    [
        ("LSTM", [(1, 20, 3), (1, 16, 5)], {}, InvalidModelError, r"R has shape \[1, 16, 5\]"),
        ("LSTM", [(1, 20, 4), (1, 20, 5)], {}, InvalidModelError, r"W has shape \[1, 20, 4\]"),
        ("GRU", [(1, 20, 3), (1, 20, 5)], {}, InvalidModelError, r"must have \[1, 15, 3\]"),
        ("GRU", [(20, 3), (1, 20, 5)], {}, InvalidModelError, "must have three axes"),
        (
            "GRU",
            [(1, 15, 3), (1, 15, 5)],
            {"hidden_size": 4},
            InvalidModelError,
            "hidden_size is 4, R has 5 columns",
        ),
        (
            "GRU",
            [(1, 15, 3), (1, 15, 5), (1, 15)],
            {},
            InvalidModelError,
            r"B has shape \[1, 15\], must have \[1, 30\]",
        ),
        (
            "GRU",
            [(1, 15, 3), (1, 15, 5), "", "", (1, 1, 4)],
            {},
            InvalidModelError,
            r"initial_h has shape \[1, 1, 4\], must have \[1, 1, 5\]",
        ),
        (
            "GRU",
            [(1, 3, 3), (1, 3, 1), "", "", "x"],
            {},
            InvalidModelError,
            r"initial_h has shape \[4, 1, 3\], must have \[1, 1, 1\]",
        ),
        (
            "GRU",
            [(1, 15, 3), (1, 15, 5), "", (1,)],
            {},
            UnsupportedError,
            "sequence_lens is given",
        ),
        (
            "LSTM",
            [(1, 20, 3), (1, 20, 5), "", "", "", "", (1, 15)],
            {},
            UnsupportedError,
            r"it has peepholes \(P\)",
        ),
        ("GRU", ["x", (1, 15, 5)], {}, EdgekitError, "W has shape|must be constant"),
        (
            "GRU",
            [(1, 15, 3), (1, 15, 5)],
            {"activations": 3},
            InvalidModelError,
            "attribute 'activations' is INT, must be STRINGS",
        ),
    ],
)
def test_refuses_operands(
    kind: str,
    operands: list[Any],
    attributes: dict[str, Any],
    error: type[Exception],
    message: str,
) -> None:
    with pytest.raises(error, match=message):
        lower(load(node_model(kind, *operands, **attributes)))


def test_computed_weights_are_refused() -> None:
    b = OnnxBuilder()
    x = b.input("x", (1, 3, 1))
    w = b.input("w", (1, 3, 1))
    b.output(b.node("GRU", x, w, w, name="rnn"))
    with pytest.raises(UnsupportedError, match="W, R and B must be constant"):
        lower(load(b.build()))


# Declared state


def delay_line() -> bytes:
    """Adds up: y = older + x, older becomes last, last becomes x."""
    b = OnnxBuilder()
    x, last, older = (b.input(name, (1, 2)) for name in ("x", "last", "older"))
    b.output(b.node("Add", older, x, name="y"))
    b.output(b.node("Identity", x, name="last_next"))
    b.output(b.node("Identity", last, name="older_next"))
    return b.build()


@pytest.mark.needs("cc")
def test_state_may_become_an_input_or_another_state() -> None:
    program = lower(load(delay_line()), state={"last": "last_next", "older": "older_next"})
    assert [b.name for b in program.inputs] == ["x"]
    assert [b.name for b in program.outputs] == ["y"]
    xs = np.arange(10, dtype=np.float32).reshape(5, 1, 2)
    got = Interpreter(verify(program)).run_sequence({"x": xs})["y"]
    want = xs.copy()
    want[2:] += xs[:-2]
    np.testing.assert_array_equal(got, want)
    check_host(program, [{"x": x} for x in xs])


def test_an_output_may_be_state() -> None:
    b = OnnxBuilder()
    x, h = b.input("x", (1, 2)), b.input("h", (1, 2))
    b.output(b.node("Add", h, x, name="sum"))
    b.output(b.node("Identity", h, name="before"))
    program = lower(load(b.build()), state={"h": "sum"})
    xs = np.ones((3, 1, 2), np.float32)
    got = Interpreter(program).run_sequence({"x": xs})["before"]
    assert got[:, 0, 0].tolist() == [0, 1, 2]


def test_state_of_an_image_lies_channels_last() -> None:
    b = OnnxBuilder()
    x, h = b.input("x", (1, 2, 3, 4)), b.input("h", (1, 2, 3, 4))
    w = b.constant(np.random.default_rng(0).standard_normal((2, 2, 1, 1)).astype(np.float32))
    b.output(b.node("Conv", b.node("Add", h, x), w, name="next"))
    b.output(b.node("Relu", "next", name="y"))
    program = lower(load(b.build()), state={"h": "next"})
    assert program.tensors[program.state[0].read].shape == (1, 3, 4, 2)
    assert not any(op.operator.name == "transpose" for op in program.operations)


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({"z": "y"}, r"has no input 'z'; its inputs are \['last', 'older', 'x'\]"),
        ({"last": "z"}, r"has no output 'z'; its outputs are \['last_next', 'older_next', 'y'\]"),
        ({"last": "y", "older": "y"}, "output 'y' is the next value of another state"),
        ({"last": "last_next", "older": "older_next", "x": "y"}, "one must be left"),
    ],
)
def test_refuses_state(state: dict[str, str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        lower(load(delay_line()), state=state)


def test_refuses_state_of_another_shape() -> None:
    b = OnnxBuilder()
    x, h = b.input("x", (1, 2)), b.input("h", (2, 1))
    b.output(b.node("Relu", x, name="y"))
    b.output(b.node("Add", x, x, name="next"))
    b.output(b.node("Relu", h, name="other"))
    with pytest.raises(UsageError, match=r"state 'h' is FLOAT\[2, 1\], its next value 'next' FL"):
        lower(load(b.build()), state={"h": "next"})


def network(kind: str, layers: int, *, bidirectional: bool = False) -> Any:
    """A classifier of sequences [1, T, 3] that reads the last step."""
    import torch
    from torch import nn

    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rnn = getattr(nn, kind)(
                3, 6, num_layers=layers, batch_first=True, bidirectional=bidirectional
            )
            self.head = nn.Linear(12 if bidirectional else 6, 4)

        def forward(self, x: Any) -> Any:
            y, _ = self.rnn(x)
            return self.head(y[:, -1])

    torch.manual_seed(layers)
    return Network()


@pytest.mark.torch
@pytest.mark.needs("torch", "onnxruntime", "cc")
@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("kind", ["LSTM", "GRU"])
def test_torch_networks(kind: str, layers: int) -> None:
    import torch

    module = network(kind, layers)
    data = exported(module, torch.zeros(1, 7, 3))
    program = lower(load(data))
    assert [op.operator.name for op in program.operations].count(kind.lower()) == layers
    assert len(program.state) == layers * (2 if kind == "LSTM" else 1)
    assert not any(op.operator.name == "transpose" for op in program.operations)
    inputs = random_inputs(program)
    (name,) = inputs
    (got,) = Interpreter(program).run(inputs).values()
    (want,) = run_onnx(data, inputs).values()
    np.testing.assert_allclose(got, want, atol=TOLERANCE)
    with torch.no_grad():
        real = module(torch.from_numpy(inputs[name])).numpy()
    np.testing.assert_allclose(got, real, atol=TOLERANCE)
    check_host(program, [inputs])


@pytest.mark.torch
@pytest.mark.needs("torch", "onnxruntime")
def test_torch_network_in_both_directions() -> None:
    import torch

    data = exported(network("GRU", 1, bidirectional=True), torch.zeros(1, 7, 3))
    program = lower(load(data))
    assert not program.state
    inputs = random_inputs(program)
    (got,) = Interpreter(program).run(inputs).values()
    (want,) = run_onnx(data, inputs).values()
    np.testing.assert_allclose(got, want, atol=TOLERANCE)


@pytest.mark.torch
@pytest.mark.needs("torch", "onnxruntime", "cc")
@pytest.mark.parametrize("name", MODULES)
def test_declared_state(name: str) -> None:
    data, x_shape = exported_module(name)
    states = declared(data)
    program = lower(load(data), state=states)
    assert len(program.inputs) == len(program.outputs) == 1
    assert {s.read.partition("[")[0] for s in program.state} == set(states)
    if "cell" not in name:
        # The layers keep their states themselves: nothing slices or joins them.
        assert {op.operator.name for op in program.operations} <= {
            *("lstm", "gru", "reshape", "fully_connected"),
        }
    xs = np.random.default_rng(2).uniform(-1, 1, (6, *x_shape)).astype(np.float32)
    (got,) = Interpreter(program).run_sequence({program.inputs[0].name: xs}).values()
    np.testing.assert_allclose(got, carried_by_hand(data, xs, states), atol=TOLERANCE)
    check_host(program, [{program.inputs[0].name: x} for x in xs])


@pytest.mark.torch
@pytest.mark.needs("torch")
def test_state_that_is_used_otherwise_too() -> None:
    """A recurrent layer's state that also is an operand is a tensor like any other."""
    import torch
    from torch import nn

    class Peeking(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rnn = nn.GRU(3, 6, batch_first=True)

        def forward(self, x: Any, h: Any) -> Any:
            y, after = self.rnn(x, h)
            return y + h, after

    torch.manual_seed(1)
    data = exported(Peeking(), torch.zeros(1, 1, 3), torch.zeros(1, 1, 6))
    states = declared(data)
    program = lower(load(data), state=states)
    assert {s.read for s in program.state} == set(states)
    xs = np.random.default_rng(2).uniform(-1, 1, (4, 1, 1, 3)).astype(np.float32)
    (got,) = Interpreter(program).run_sequence({program.inputs[0].name: xs}).values()
    np.testing.assert_allclose(got, carried_by_hand(data, xs, states), atol=TOLERANCE)


def test_the_float_form_has_float_state() -> None:
    program = lower(load(build("LSTM")))
    assert {program.tensors[s.read].dtype for s in program.state} == {DType.FLOAT32}

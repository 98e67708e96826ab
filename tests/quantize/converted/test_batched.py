"""Converted programs against the interpreter and host C, to the bit."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgekit.program.fuse import fuse_residual
from edgekit.program.interpret import Interpreter, from_program, to_program
from edgekit.program.ir import Array, Boundary, DType, Operation, Program, State, Tensor
from edgekit.program.operators.base import OPERATORS
from edgekit.program.operators.movement import Concat, Slice
from edgekit.program.verify import verify
from edgekit.targets.c.emit import emit
from edgekit.targets.host import HostMachine
from tests.cases.case import Case
from tests.support.chain import run_machine
from tests.support.coded_network import FORMATS, coded_network, dynamic_network
from tests.support.random_network import random_network

pytestmark = [pytest.mark.torch, pytest.mark.needs("torch")]

CASES = Path(__file__).parents[2] / "cases"
MODULES = sorted(p.stem for p in CASES.glob("*.py") if p.stem not in ("__init__", "case"))

Sample = dict[str, Array]

DELAY = verify(
    Program(
        "delay",
        {
            "x": Tensor("x", (1, 4), DType.INT8),
            "held": Tensor("held", (1, 4), DType.INT8),
            "both": Tensor("both", (1, 8), DType.INT8),
            "y": Tensor("y", (1, 4), DType.INT8),
        },
        (
            Operation("join", Concat(axis=1), ("held", "x"), ("both",)),
            Operation("cut", Slice((0, 2), (1, 6), (1, 1)), ("both",), ("y",)),
        ),
        (Boundary("x", "x", (1, 4)),),
        (Boundary("y", "y", (1, 4)),),
        (State("held", "y", 7),),
    )
)
"""Half of each output is the input's, half the output before."""


def converted(program: Program, samples: Sequence[Sample]) -> list[Sample]:
    """What the torch form of a Program makes of all samples at once."""
    import torch

    from edgekit.quantize.converted import BatchedProgram

    tensors = program.tensors
    inputs = {
        b.tensor: torch.from_numpy(
            np.stack([to_program(b, tensors[b.tensor], s[b.name]) for s in samples])
        )
        for b in program.inputs
    }
    outputs, _ = BatchedProgram(program)(inputs)
    arrays = {name: value.numpy() for name, value in outputs.items()}
    return [
        {b.name: from_program(b, arrays[b.tensor][i]) for b in program.outputs}
        for i in range(len(samples))
    ]


def assert_same(got: Sample, want: Sample, context: str) -> None:
    """Equal dtypes, shapes and bits."""
    for name, value in want.items():
        other = got[name]
        assert (other.dtype, other.shape) == (value.dtype.newbyteorder("="), value.shape), context
        native = np.ascontiguousarray(value, other.dtype)
        assert other.tobytes() == native.tobytes(), f"{context}: {name}"


@pytest.mark.parametrize("name", MODULES)
def test_every_case(name: str) -> None:
    """Every operator of the grid, several samples at once."""
    for case in importlib.import_module(f"tests.cases.{name}").cases():
        samples = [*case.inputs(), *Case("more", case.program, case.seed + 99).inputs()]
        if not case.program.inputs:
            samples = samples[:1]
        interpreter = Interpreter(case.program)
        got = converted(case.program, samples)
        for number, sample in enumerate(samples):
            assert_same(got[number], interpreter.run(sample), f"{case.id} {number}")


@pytest.mark.parametrize("weights", FORMATS)
def test_every_format(weights: str) -> None:
    """Coded convolutions, depthwise and dense layers, static and dynamic."""
    for program in (coded_network(weights, 3), dynamic_network(weights, 4)):
        samples = Case("coded", program, 5, samples=4).inputs()
        interpreter = Interpreter(program)
        for got, sample in zip(converted(program, samples), samples, strict=True):
            assert_same(got, interpreter.run(sample), weights)


@given(st.integers(0, 2**32 - 1), st.integers(1, 6), st.booleans())
@settings(max_examples=25, deadline=None)
def test_random_networks(seed: int, layers: int, fused: bool) -> None:
    """Branches, residuals fused or not, pools, movement."""
    program = random_network(seed, layers)
    program = fuse_residual(program)[0] if fused else program
    samples = Case("net", program, seed, samples=3).inputs()
    interpreter = Interpreter(program)
    for got, sample in zip(converted(program, samples), samples, strict=True):
        assert_same(got, interpreter.run(sample), f"seed {seed}")


@pytest.mark.needs("cc")
def test_host() -> None:
    """The generated C gives the same bits."""
    for seed in range(2):
        program, _ = fuse_residual(random_network(500 + seed, 5))
        samples = Case("net", program, seed, samples=5).inputs()
        emission = emit(program, version="test")
        machine = HostMachine(emission.library)
        for got, sample in zip(converted(program, samples), samples, strict=True):
            assert_same(got, run_machine(machine, emission, sample), f"seed {seed}")
        machine.close()


def test_state_is_carried() -> None:
    """Every sample has a state of its own, which starts from the Program's initial value."""
    import torch

    from edgekit.quantize.converted import BatchedProgram

    module, interpreters = BatchedProgram(DELAY), [Interpreter(DELAY) for _ in range(3)]
    rng = np.random.default_rng(0)
    state = None
    for _ in range(4):
        x = rng.integers(-128, 128, (3, 1, 4)).astype(np.int8)
        outputs, state = module({"x": torch.from_numpy(x)}, state)
        for index, interpreter in enumerate(interpreters):
            want = interpreter.step({"x": x[index]})["y"]
            assert outputs["y"][index].numpy().tobytes() == want.tobytes()


def test_constants_are_frozen() -> None:
    """They keep dtypes and values; another network's state is refused, its own is loaded."""
    from edgekit.quantize.converted import BatchedProgram

    module, other = BatchedProgram(coded_network("nvfp4", 1)), coded_network("nvfp4", 2)
    before = {name: t.clone() for name, t in module.state_dict().items()}
    module.half().double().train()
    assert not module.training
    after = module.state_dict()
    assert all(after[n].dtype == t.dtype and after[n].equal(t) for n, t in before.items())
    assert str(module.load_state_dict(before)) == "<All keys matched successfully>"
    with pytest.raises(RuntimeError, match="constant 'k1' of coded.*is frozen"):
        module.load_state_dict(BatchedProgram(other).state_dict())
    with pytest.raises(RuntimeError, match="Missing key"):
        module.load_state_dict({n: t for n, t in before.items() if n != "constant_0"})
    assert all(module.state_dict()[n].equal(t) for n, t in before.items())


def test_every_operator_runs_in_torch() -> None:
    """Integer operators have a torch form, except those that are named here."""
    from edgekit.quantize.converted.table import EXECUTORS

    numpy_only = {"gru", "hard_swish", "layernorm", "lstm", "softmax"}
    numpy_only |= {"current_conv_2d", "current_dense", "current_pool_2d"}
    numpy_only |= {"leaky", "rescale", "synaptic"}
    numpy_only |= {name for name in OPERATORS if name.startswith("spike_")}
    assert set(OPERATORS) - {cls.name for cls in EXECUTORS} == numpy_only

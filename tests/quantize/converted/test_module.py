"""Converted modules as users have them: samples in, what the artifact answers out."""

from __future__ import annotations

import copy
import io
import pickle
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from edgekit.bench.boundary import dequantise, quantise
from edgekit.deploy.ondevice import ports_of
from edgekit.errors import InvalidDataError, OutputError
from edgekit.model import Model
from edgekit.program.interpret import Interpreter
from edgekit.program.ir import Array, DType, Program, TensorType
from edgekit.program.lowering import lower
from edgekit.program.operators.normalization import ArgMax
from tests.cases.case import one_operator
from tests.support.coded_network import coded_model
from tests.support.programs import recurrent_network
from tests.support.random_network import random_network

if TYPE_CHECKING:
    from torch import Tensor

    from edgekit.quantize.converted import ConvertedModule

pytestmark = [pytest.mark.torch, pytest.mark.needs("torch")]


def converted(model: Model, program: Program | None = None) -> ConvertedModule:
    """A module of a Model, and of another Program than its own where one is given."""
    from edgekit.quantize.converted import ConvertedModule

    return ConvertedModule(model, lower(model) if program is None else program)


def tensor(array: Array) -> Tensor:
    """The array as torch has it."""
    import torch

    return torch.from_numpy(array)


@pytest.fixture(scope="module")
def module() -> ConvertedModule:
    """A network with MX weights."""
    return converted(coded_model("mxfp4"))


def images(count: int, seed: int = 3) -> Array:
    """Real inputs, some of them far outside of the calibrated range."""
    rng = np.random.default_rng(seed)
    return (rng.standard_normal((count, 2, 6, 6)) * 2).astype(np.float32)


def answers(module: ConvertedModule, x: Array) -> tuple[Array, Array]:
    """Codes and reals that the interpreter gives for one sample after the other."""
    inputs, outputs = ports_of(module.program)
    interpreter = Interpreter(module.program)
    codes = np.concatenate(
        [interpreter.run({"x": quantise(inputs[0], s[np.newaxis])})["y"] for s in x]
    )
    return codes, dequantise(outputs[0], codes).astype(np.float32)


@pytest.mark.parametrize("weights", ["int4", "ternary-p5", "nvfp4", "fp8-e4m3", "binary"])
def test_real_inputs_and_outputs(weights: str) -> None:
    """Of any batch: quantised and dequantised as an artifact's user does it."""
    module = converted(coded_model(weights))
    x = images(9)
    # On the borders between two codes too.
    scale = module.program.input_tensors[0].quantization.scalar_scale
    x[0] = (np.arange(72).reshape(2, 6, 6) - 36.5) * np.float32(scale)
    codes, reals = answers(module, x)
    got = module(tensor(x))
    assert got.numpy().tobytes() == reals.tobytes()
    assert module.codes(tensor(x)).numpy().tobytes() == codes.tobytes()
    assert module(tensor(x[:1])).shape == (1, 3)
    assert len(np.unique(codes)) > 4


def test_codes_go_in_as_they_are(module: ConvertedModule) -> None:
    """Inputs in the Program's dtype are not quantised again."""
    x = images(3)
    port = ports_of(module.program)[0][0]
    want = module(tensor(x))
    assert module(tensor(quantise(port, x))).equal(want)
    assert module(tensor(x).double()).equal(want)


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ([], r"0 inputs, must be 1: \['x'\]"),
        ([np.zeros((4, 2, 6, 5), np.float32)], r"\[4, 2, 6, 5\], must be \[N, 2, 6, 6\]"),
        ([np.zeros((0, 2, 6, 6), np.float32)], "N at least 1"),
        ([np.zeros((2, 6, 6), np.float32)], r"must be \[N, 2, 6, 6\]"),
        ([np.full((1, 2, 6, 6), np.nan, np.float32)], "NaN or infinity"),
        ([np.full((1, 2, 6, 6), np.inf, np.float32)], "NaN or infinity"),
        ([np.zeros((1, 2, 6, 6), np.int32)], "is int32, must be int8 or float32"),
    ],
)
def test_refused(module: ConvertedModule, inputs: list[Array], message: str) -> None:
    """What does not fit is said."""
    with pytest.raises(InvalidDataError, match=message):
        module(*map(tensor, inputs))


def test_arrays_are_refused(module: ConvertedModule) -> None:
    """It is a torch module, for tensors."""
    with pytest.raises(InvalidDataError, match="is a ndarray, must be a tensor"):
        module(images(1))


def test_it_is_a_module_like_others(module: ConvertedModule) -> None:
    """Within a larger one, in train mode, under autocast, copied and pickled."""
    import torch

    x = tensor(images(4))
    want = module(x)
    outer = torch.nn.Sequential(module, torch.nn.Linear(3, 2)).train()
    assert outer.training
    assert not module.training
    assert list(outer.parameters()) == list(outer[1].parameters())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(module(x), want)
    assert not module(x.clone().requires_grad_()).requires_grad
    stream = io.BytesIO()
    torch.save(module, stream)
    stream.seek(0)
    copies = [
        copy.deepcopy(outer)[0],
        pickle.loads(pickle.dumps(module)),
        torch.load(stream, weights_only=False),
    ]
    for other in copies:
        assert torch.equal(other(x), want)
        assert lower(other.model).operations == module.program.operations
        other.load_state_dict(module.state_dict())
    stranger = converted(coded_model("mxfp4", seed=5))
    with pytest.raises(RuntimeError, match="frozen"):
        module.load_state_dict(stranger.state_dict())


def test_save_and_load(module: ConvertedModule, tmp_path: Path) -> None:
    """The file makes the same module again; other places are refused."""
    from edgekit.quantize.converted import ConvertedModule

    module.save(tmp_path / "net.q.onnx")
    again = ConvertedModule.load(tmp_path / "net.q.onnx")
    x = tensor(images(4))
    assert again(x).equal(module(x))
    assert again.program.operations == module.program.operations
    with pytest.raises(OutputError):
        module.save(tmp_path / "net.q.onnx" / "below.onnx")


def test_several_outputs(module: ConvertedModule) -> None:
    """A tuple in the Program's order, each in the source's shape."""
    program = random_network(11, 5)
    both = converted(module.model, program)
    (fed,) = program.input_tensors
    rng = np.random.default_rng(0)
    x = rng.integers(-128, 128, (3, *fed.shape[1:])).astype(np.int8)
    codes = both.codes(tensor(x))
    for index in range(3):
        want = Interpreter(program).run({"x": x[index : index + 1]})
        for boundary, got in zip(program.outputs, codes, strict=True):
            assert got[index : index + 1].numpy().tobytes() == want[boundary.name].tobytes()


def test_indices_come_as_they_are(module: ConvertedModule) -> None:
    """Integers that mean themselves are not scaled."""
    program = one_operator(ArgMax(axis=1, dtype=DType.INT64), TensorType((1, 5), DType.INT8))
    chosen = converted(module.model, program)
    x = np.array([[1, 7, 7, 0, 0], [3, 2, 1, 0, -1]], np.int8)
    assert chosen(tensor(x)).tolist() == [1, 0]


def test_streaming() -> None:
    """`step` carries the state of every sample; `forward` starts anew, and leaves it alone."""
    program = recurrent_network()
    stream = converted(coded_model("int4"), program)
    shape = program.inputs[0].source_shape[1:]
    frames = np.random.default_rng(2).standard_normal((4, 3, *shape)).astype(np.float32)
    interpreters = [Interpreter(program) for _ in range(3)]
    name, result = program.inputs[0].name, program.outputs[0].name
    stream.step(tensor(frames[0]))
    stream.reset()
    for frame in frames:
        fresh, got = stream(tensor(frame)), stream.step(tensor(frame))
        for index, interpreter in enumerate(interpreters):
            here = slice(index, index + 1)
            sample = {name: frame[here]}
            want = interpreter.step(sample)[result]
            anew = Interpreter(program).run(sample)[result]
            assert got[here].numpy().tobytes() == want.tobytes()
            assert fresh[here].numpy().tobytes() == anew.tobytes()
    assert not got.equal(fresh)
    with pytest.raises(InvalidDataError, match="the state is that of 3; reset"):
        stream.step(tensor(frames[0, :2]))

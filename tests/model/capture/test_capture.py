"""Modules become Models that compute the same, with names and errors that a user understands."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from edgekit.errors import EdgekitError, UnsupportedError, UsageError
from edgekit.model import load
from edgekit.model.capture import capture, capture_exported
from edgekit.program.interpret import run
from edgekit.program.lowering import lower
from tests.support import torch_networks as networks
from tests.support.onnx_models import run_onnx

pytestmark = [pytest.mark.torch, pytest.mark.needs("torch", "onnxruntime")]

BOUND = 1e-5
"""Largest difference from torch over the largest output: other orders of summation."""


def leaves(result: object) -> list[np.ndarray]:
    return [leaf.detach().numpy() for leaf in torch.utils._pytree.tree_leaves(result)]


def trained(module: nn.Module) -> nn.Module:
    """The module with seeded parameters and statistics of its own."""
    generator = torch.Generator().manual_seed(3)
    for tensor in (*module.parameters(), *module.buffers()):
        if tensor.is_floating_point():
            values = torch.randn(tensor.shape, generator=generator) * 0.4
            tensor.data = values.abs() + 0.3 if tensor.requires_grad is False else values
    return module


@pytest.mark.parametrize(
    ("make", "inputs", "outputs"),
    [
        (networks.mlp, {"input": (1, 6)}, ["output"]),
        (networks.Residual, {"image": (1, 1, 8, 8)}, ["output"]),
        (
            networks.ManyEnds,
            {"input": (1, 4), "extra": (1, 5)},
            ["sum", "pair_scores", "pair_features", "list_0", "list_1", "same"],
        ),
    ],
)
def test_computes_what_the_module_does(
    make: Callable[[], nn.Module], inputs: dict[str, tuple[int, ...]], outputs: list[str]
) -> None:
    """ONNX Runtime and the float Program agree with torch; names are the arguments'."""
    module = trained(make()).eval()
    rng = np.random.default_rng(1)
    feeds = {name: rng.standard_normal(s, dtype=np.float32) for name, s in inputs.items()}
    model = capture(module, feeds)
    assert [v.name for v in model.ir.graph.inputs] == list(inputs)
    assert [v.name for v in model.ir.graph.outputs] == outputs
    assert model.notes == ()
    with torch.no_grad():
        tensors = {name: torch.from_numpy(value) for name, value in feeds.items()}
        want = leaves(module(**tensors))
    data = model.to_bytes()
    load(data)
    for got in (run_onnx(data, feeds), run(lower(model), feeds)):
        assert list(got) == outputs
        for value, expected in zip(got.values(), want, strict=True):
            assert value.shape == expected.shape
            assert np.abs(value - expected).max() <= BOUND * np.abs(expected).max()


def test_leaves_no_trace(capfd: pytest.CaptureFixture[str]) -> None:
    """Modes and parameters stay, nothing is printed, nothing of this machine is in the bytes."""
    module = trained(networks.Residual())
    module.train()
    module.body.eval()
    modes = {name: part.training for name, part in module.named_modules()}
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    first = capture(module, torch.zeros(1, 1, 8, 8)).to_bytes()
    assert {name: part.training for name, part in module.named_modules()} == modes
    for name, tensor in module.state_dict().items():
        assert torch.equal(tensor, before[name]), name
    assert capfd.readouterr() == ("", "")
    assert first == capture(module, torch.zeros(1, 1, 8, 8)).to_bytes()
    for trace in (str(Path(__file__).parents[2]), "torch_networks", "site-packages", "stack_trace"):
        assert trace.encode() not in first


def test_batch_becomes_one() -> None:
    """A batch is cut to its first sample, with a note, where samples are independent."""
    model = capture(trained(networks.mlp()), torch.randn(7, 6))
    assert model.ir.graph.inputs[0].shape.numpy() == (1, 6)
    assert model.notes == ("the batch of the example, 7, is fixed to 1",)


class Weighted(nn.Module):
    """One vector of weights for all samples."""

    def forward(self, x: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        return x * weights


class Scaled(nn.Module):
    """A number for each sample."""

    def forward(self, x: torch.Tensor, factor: torch.Tensor) -> torch.Tensor:
        return x * factor[:, None]


def test_only_samples_are_cut() -> None:
    """A vector that is no batch stays whole, and the Model computes what the module does."""
    x, weights = torch.randn(4, 8), torch.randn(8)
    model = capture(Weighted(), (x, weights))
    assert [tuple(v.shape.numpy()) for v in model.ir.graph.inputs] == [(1, 8), (8,)]
    assert model.notes == (
        "the batch of the example, 4, is fixed to 1; whole as in the example: weights",
    )
    feeds = {"x": x[:1].numpy(), "weights": weights.numpy()}
    assert np.array_equal(run(lower(model), feeds)["output"], (x[:1] * weights).numpy())
    model = capture(Scaled(), (x, torch.randn(4)))
    assert [tuple(v.shape.numpy()) for v in model.ir.graph.inputs] == [(1, 8), (1,)]


class Rows(nn.Module):
    """A function of the whole example."""

    def __init__(self, function: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.function(x)


SAME = [torch.zeros(4, 8), torch.ones(4, 8), torch.full((4, 8), 3), torch.ones(4, 8) > 0]


@pytest.mark.parametrize("example", SAME, ids=["zeros", "ones", "integers", "booleans"])
@pytest.mark.parametrize(
    "mixing",
    [
        lambda x: x.float() - x.float().mean(0),
        lambda x: x.float().cumsum(0),
        lambda x: x.float().flip(0).cumsum(0).flip(0),
        lambda x: x.float().roll(1, 0),
        lambda x: x.float() + 1e-6 * x.float()[:1],
        lambda x: x.float() * x.float()[-1],
    ],
    ids=["mean", "causal", "anti-causal", "roll", "faint", "last"],
)
def test_mixing_is_seen_in_equal_samples(
    mixing: Callable[[torch.Tensor], torch.Tensor], example: torch.Tensor
) -> None:
    """An example whose samples are all the same hides no dependence between them."""
    model = capture(Rows(mixing), example)
    assert model.ir.graph.inputs[0].shape.numpy() == (4, 8)
    assert "axis 0 of the example, 4, is not taken as a batch" in model.notes[0]


@pytest.mark.parametrize("example", SAME, ids=["zeros", "ones", "integers", "booleans"])
def test_equal_samples_may_be_independent(example: torch.Tensor) -> None:
    model = capture(Rows(lambda x: x.float().sum(1)), example)
    assert model.ir.graph.inputs[0].shape.numpy() == (1, 8)


def test_values_stay_where_a_module_is_defined() -> None:
    """Roots, logarithms and tables see the kind of values that the example has."""

    def narrow(x: torch.Tensor) -> torch.Tensor:
        return torch.log(x) + torch.sqrt(1 - x)

    assert capture(Rows(narrow), torch.rand(4, 8) * 0.9 + 0.05).notes == (
        "the batch of the example, 4, is fixed to 1",
    )
    tokens = torch.full((4, 5), 9)
    assert capture(nn.Embedding(10, 3), tokens).ir.graph.inputs[0].shape.numpy() == (1, 5)


def test_time_is_no_batch() -> None:
    """An axis 0 along which results depend on each other stays; an LSTM stays one node."""
    model = capture(trained(networks.Recurrent()), torch.randn(4, 1, 3))
    assert model.ir.graph.inputs[0].shape.numpy() == (4, 1, 3)
    assert "axis 0 of the example, 4, is not taken as a batch" in model.notes[0]
    assert [node.op_type for node in model.ir.graph].count("LSTM") == 1


def test_dynamic_batch_of_an_exported_program() -> None:
    """A dynamic batch axis becomes 1, or what the user says."""
    batch = torch.export.Dim("batch", min=1, max=64)
    module = trained(networks.mlp()).eval()
    program = torch.export.export(
        module, (torch.randn(4, 6),), dynamic_shapes={"input": {0: batch}}
    )
    model = capture_exported(program, name="net")
    assert model.notes == ("input 'input': the open batch axis is set to 1",)
    feeds = {"input": np.ones((1, 6), np.float32)}
    want = module(torch.ones(1, 6)).detach().numpy()
    assert np.allclose(run(lower(model), feeds)["output"], want, rtol=1e-5, atol=1e-6)


def half(module: nn.Module) -> nn.Module:
    module[2] = module[2].to(torch.float16)
    return module


def line_of(function: object, text: str) -> int:
    """Number of the line of source that holds `text`."""
    lines, start = inspect.getsourcelines(function)
    return start + next(i for i, line in enumerate(lines) if text in line)


BRANCH = line_of(networks.Branching.forward, "if x.sum()")
FAIL = line_of(networks.Failing.forward, "raise")
EIGEN = line_of(networks.Symmetric.forward, "eigvalsh")

X = np.ones((1, 6), np.float32)
SQUARE = torch.ones(3, 3)


@pytest.mark.parametrize(
    ("make", "example", "error", "message"),
    [
        (
            lambda: half(networks.mlp()),
            X,
            UsageError,
            r"module\.float\(\).*\n  2\.weight is float16, must be float32\n  2\.bias is float16",
        ),
        (networks.mlp, X.astype(np.float64), UsageError, "'input' is float64, must be float32"),
        (
            networks.mlp,
            torch.ones(1, 6, dtype=torch.complex64),
            UsageError,
            "'input' is complex64, must be float32; split real and imaginary parts",
        ),
        (networks.mlp, {"inputs": X}, UsageError, "has no argument 'inputs'; did you mean 'input'"),
        (networks.mlp, (X, X), UsageError, "do not fit Sequential.forward.*too many positional"),
        (networks.mlp, {}, UsageError, "missing a required argument: 'input'"),
        (networks.mlp, "x", UsageError, "hold no tensor"),
        (networks.mlp, [object()], UsageError, "'input' is a object, must be a tensor or a NumPy"),
        (networks.mlp, np.array(["a"]), UsageError, "is a NumPy array of <U1"),
        (networks.mlp, torch.ones(0, 6), UsageError, r"'input' has shape \[0, 6\], must not be em"),
        (networks.mlp, torch.ones(1, 5), UsageError, "forward fails on the example inputs"),
        (
            networks.Failing,
            X,
            UsageError,
            rf"torch_networks\.py:{FAIL}: `raise ValueError\(.*ValueError: no such luck",
        ),
        (
            networks.Branching,
            SQUARE,
            UnsupportedError,
            rf"depends on the data at .*torch_networks\.py:{BRANCH}: `if x\.sum\(\) > 0:`",
        ),
        (
            networks.Eigenvalues,
            SQUARE,
            UnsupportedError,
            r"operator aten\._linalg_eigh has no ONNX form, in module inner\.1 \(Symmetric\) at "
            rf".*torch_networks\.py:{EIGEN}: `return torch",
        ),
        (networks.Counting, X, UnsupportedError, "forward changes its buffer 'count'"),
        (lambda: len, X, UsageError, "is no torch.nn.Module"),
    ],
)
def test_what_cannot_be_captured(
    make: Callable[[], nn.Module], example: object, error: type[EdgekitError], message: str
) -> None:
    with pytest.raises(error, match=f"(?s){message}"):
        capture(make(), example)


def test_types_of_an_exported_program() -> None:
    """Programs are checked as modules are."""
    module = networks.mlp().double()
    program = torch.export.export(module, (torch.ones(1, 6, dtype=torch.float64),))
    with pytest.raises(UsageError, match=r"0\.weight is float64, must be float32"):
        capture_exported(program, name="net")

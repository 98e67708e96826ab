"""Cross-layer equalisation keeps the function and balances the ranges."""

from __future__ import annotations

import numpy as np
import pytest

from edgekit.model import Model, load
from edgekit.model.nodes import const, get_input, is_op
from edgekit.program.interpret import run
from edgekit.program.lowering import lower
from edgekit.quantize.posttraining.equalize import equalize_layers
from tests.support.onnx_models import OnnxBuilder
from tests.support.posttraining import network, samples


def outputs(model: Model, x: np.ndarray) -> np.ndarray:
    (result,) = run(lower(model), {"x": x}).values()
    return np.asarray(result)


def ranges(model: Model, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Largest magnitudes per output channel, and per input channel of a group."""
    (node,) = (n for n in model.ir.graph if n.name == f"node_{name}")
    weights = np.abs(const(get_input(node, 1)))
    axes = tuple(range(2, weights.ndim))
    return weights.max(axis=(1, *axes)), weights.max(axis=(0, *axes))


@pytest.mark.parametrize("dead", [False, True])
def test_the_function_is_the_same(dead: bool) -> None:
    model = load(network(dead=dead))
    before = model.to_bytes()
    equalised, pairs = equalize_layers(model)
    assert [p.first for p in pairs] == [f"node_{n}" for n in ("stem", "depthwise", "grouped")] + [
        "node_pointwise"
    ]
    for x in samples(4)["x"]:
        want, got = outputs(model, x), outputs(equalised, x)
        np.testing.assert_allclose(got, want, rtol=2e-5, atol=2e-6 * np.abs(want).max())
    assert model.to_bytes() == before


def test_ranges_meet() -> None:
    """Where only two layers are involved, both ranges become the geometric mean."""
    rng = np.random.default_rng(2)
    b = OnnxBuilder()
    spread = 2.0 ** rng.integers(-6, 6, 8)
    first = (rng.standard_normal((8, 4)) * spread[:, None]).astype(np.float32)
    second = rng.standard_normal((3, 8)).astype(np.float32)
    x = b.input("x", (1, 4))
    y = b.node(
        "Gemm", x, b.constant(first), b.constant(spread.astype(np.float32)), name="node_a", transB=1
    )
    b.output(
        b.node(
            "Gemm", b.node("LeakyRelu", y, alpha=0.2), b.constant(second), name="node_b", transB=1
        )
    )
    model, pairs = equalize_layers(load(b.build()))
    assert len(pairs) == 1
    own, _ = ranges(model, "a")
    (node,) = (n for n in model.ir.graph if n.name == "node_b")
    columns = np.abs(const(get_input(node, 1))).max(axis=0)
    wanted = np.sqrt(np.abs(first).max(axis=1) * np.abs(second).max(axis=0))
    np.testing.assert_allclose(own, wanted, rtol=1e-5)
    np.testing.assert_allclose(columns, wanted, rtol=1e-5)


def test_spread_channels_are_balanced() -> None:
    model = load(network())
    equalised, _ = equalize_layers(model)

    def imbalance(m: Model) -> float:
        own, _ = ranges(m, "stem")
        (node,) = (n for n in m.ir.graph if n.name == "node_depthwise")
        after = np.abs(const(get_input(node, 1))).max(axis=(1, 2, 3))
        return float(np.abs(np.log(own / after)).max())

    # The depthwise layer stands between two partners and settles between both.
    assert imbalance(equalised) < 0.01 < imbalance(model)


@pytest.mark.parametrize("between", ["Clip", "Add", "Sigmoid", "two readers"])
def test_what_ends_a_pair(between: str) -> None:
    b = OnnxBuilder()
    rng = np.random.default_rng(3)
    x = b.input("x", (1, 4, 5))
    weights = [b.constant(rng.standard_normal((4, 4, 1)).astype(np.float32)) for _ in range(2)]
    y = b.node("Conv", x, weights[0], name="node_a")
    if between == "Clip":
        y = b.node("Clip", y, b.constant(np.float32(0)), b.constant(np.float32(6)))
    elif between == "Add":
        y = b.node("Add", y, x)
    elif between == "Sigmoid":
        y = b.node("Sigmoid", y)
    else:
        b.output(b.node("Relu", y))
    b.output(b.node("Conv", y, weights[1], name="node_b"))
    model, pairs = equalize_layers(load(b.build()))
    assert pairs == ()
    assert all(
        np.array_equal(const(get_input(n, 1)), const(get_input(m, 1)))
        for n, m in zip(model.ir.graph, load(b.build()).ir.graph, strict=True)
        if is_op(n, "Conv")
    )

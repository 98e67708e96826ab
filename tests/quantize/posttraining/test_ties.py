"""Layers that share a weight: agreed recipes, one code, bytes that count once."""

from __future__ import annotations

import logging

import numpy as np
import pytest

from edgekit.errors import UsageError
from edgekit.model import Model, load
from edgekit.model.nodes import get_input, is_op
from edgekit.program.interpret import run
from edgekit.program.lowering import lower
from edgekit.quantize.posttraining import (
    Options,
    PostTraining,
    RoundingSettings,
    post_training,
    quantize_model,
    sensitivity,
)
from edgekit.quantize.posttraining.layers import find_layers
from edgekit.quantize.recipe import Recipe
from edgekit.targets.c.emit import emit
from tests.support.onnx_models import OnnxBuilder, run_onnx
from tests.support.quantized import program_feeds

SIZE = 8

DATA = {"x": np.random.default_rng(6).standard_normal((20, SIZE)).astype(np.float32)}

QUICK = RoundingSettings(iterations=60)


def network(*layers: str, biases: bool = True) -> Model:
    """Products with one weight between them, in front of ReLU.

    Args:
        layers: ``gemm``, ``half`` (a Gemm whose alpha is one half), ``matmul``.
        biases: layers have one each, and so names of their own: ``layer0``, ``layer1``, …; the
            first is called as the weight is.
    """
    rng = np.random.default_rng(5)
    b = OnnxBuilder()
    matrix = rng.standard_normal((SIZE, SIZE)) / np.sqrt(SIZE)
    weight = b.constant(matrix.astype(np.float32), "shared.weight")
    y = b.input("x", (1, SIZE))
    for number, layer in enumerate(layers):
        bias = rng.uniform(-1, 1, SIZE).astype(np.float32)
        added = (b.constant(bias, f"layer{number}.bias"),) if biases else ()
        if layer == "matmul":
            y = b.node("MatMul", y, weight)
            y = b.node("Add", y, *added) if biases else y
        else:
            alpha = {"alpha": 0.5} if layer == "half" else {}
            y = b.node("Gemm", y, weight, *added, transB=1, **alpha)
        y = b.node("Relu", y)
    b.output(y)
    return load(b.build())


def weights_of(result: PostTraining) -> list[str | None]:
    """Tensors of the Program that its products read, in execution order."""
    program = lower(result.model)
    return [op.inputs[1] for op in program.operations if op.operator.name == "fully_connected"]


@pytest.mark.parametrize("method", ["rtn", "adaround"])
@pytest.mark.parametrize("recipe", ["w158a8", "w4a8-g4", "w8a8"])
def test_one_code_for_all(recipe: str, method: str) -> None:
    """Every layer reads the same constant, in the Model, in the Program and in C."""
    stated = Recipe.parse(recipe, keep_ends=False)
    alone = post_training(network("gemm"), stated, DATA, Options(method="rtn"))
    options = Options(method=method, rounding=QUICK, measure=True)
    result = post_training(network("gemm", "gemm", "gemm"), stated, DATA, options)
    products = [node for node in result.model.ir.graph if is_op(node, "Gemm")]
    assert len({get_input(node, 1) for node in products}) == 1
    assert [layer.tied_to for layer in result.layers] == [None, "shared", "shared"]
    assert all(layer.error is not None for layer in result.layers)
    assert "shares the weights of shared" in result.layers[1].notes
    assert (result.bytes, result.effective_bits) == (alone.bytes, alone.effective_bits)
    assert len(set(weights_of(result))) == 1
    emission = emit(lower(result.model), features=frozenset(), version="1")
    packed = [m for m in emission.weights.members if m.name.endswith(("_weights", "_w"))]
    assert len(packed) == 1


@pytest.mark.needs("onnxruntime")
@pytest.mark.parametrize(
    "layers",
    [
        ("gemm", "gemm"),
        ("gemm", "gemm", "gemm"),
        ("gemm", "matmul"),
        ("matmul", "gemm", "gemm"),
        ("matmul", "gemm", "matmul"),
        ("gemm", "half", "gemm"),
    ],
)
@pytest.mark.parametrize(
    ("recipe", "method"),
    [("w4a8", "rtn"), ("w4a8-g4", "gptq"), ("w158a8", "mse"), ("w8a8", "rtn"), ("w8a8", "gptq")],
)
def test_the_default_setting_lowers_and_runs(
    layers: tuple[str, ...], recipe: str, method: str
) -> None:
    """Ends are kept wider, whoever shares their weight; however it is read, results are right."""
    model = network(*layers)
    result = post_training(model, recipe, DATA, Options(method=method))
    program = lower(result.model)
    (boundary,) = program.outputs
    quantization = program.tensors[boundary.tensor].quantization
    assert quantization is not None
    step, errors, reals = quantization.scalar_scale, list[float](), list[float]()
    for x in DATA["x"][:4]:
        feeds = {"x": x[np.newaxis]}
        (codes,) = run(program, program_feeds(program, feeds)).values()
        got = (codes.astype(np.float64) - quantization.scalar_zero_point) * step
        (want,) = run_onnx(result.model.to_bytes(), feeds).values()
        assert np.abs(got - want).max() <= 4.01 * step
        (real,) = run_onnx(model.to_bytes(), feeds).values()
        errors.append(np.abs(want - real).max())
        reals.append(np.abs(real).max())
    if recipe == "w8a8":
        # Close to the float network too: nobody reads another one's rows.
        assert max(errors) <= 0.05 * max(reals)


def test_the_widest_wins_and_it_is_said(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "edgekit"):
        result = post_training(network("gemm", "gemm", "gemm"), "w4a8-g4", DATA)
    assert [layer.recipe for layer in result.layers] == ["w8a8"] * 3
    assert result.layers[1].reason == "shares weights with shared: the first layer is kept wider"
    assert "layer1: w8a8 instead of w4a8-g4, shares weights with shared" in caplog.text
    # A rule that gives more than the ends' recipe is the widest.
    wide = post_training(network("gemm", "gemm", "gemm"), {"layer1": "fp32", "*": "w4a8"}, DATA)
    assert [layer.recipe for layer in wide.layers] == ["fp32"] * 3
    assert wide.bytes == 4 * SIZE * SIZE


def test_rules_that_split_a_weight_are_refused() -> None:
    rules = {"shared": "w4a8", "layer1": "w3a8", "*": "w8a8"}
    with pytest.raises(UsageError, match=r"shared and layer1 share one weight .*w4a8, w3a8"):
        quantize_model(network("gemm", "gemm"), rules, DATA)


def test_other_rows_are_stored_anew() -> None:
    """A transposed matrix has other rows, a scaled one other scales: said, and counted."""
    stated = Recipe.parse("w4a8", keep_ends=False)
    one = post_training(network("gemm"), stated, DATA).bytes
    for other in ("matmul", "half"):
        result = post_training(network("gemm", other, "gemm"), stated, DATA)
        notes = [layer.notes for layer in result.layers]
        said = "reads the weights of shared transposed or scaled: they are coded and stored anew"
        assert (notes[0], notes[1]) == ((), (said,))
        assert result.bytes == 2 * one
        first, second, third = weights_of(result)
        assert first == third
        assert second != first or other == "half"


def test_a_module_that_runs_twice_has_one_name() -> None:
    model = network("gemm", "gemm", biases=False)
    layers = find_layers(model.ir.graph, model.ir.graph)
    assert [layer.name for layer in layers] == ["shared", "shared"]
    result = post_training(model, Recipe.parse("w4a8", keep_ends=False), DATA)
    assert result.layers[1].notes == ("shares the weights of another call of shared",)


def test_room_for_every_bias() -> None:
    """Of a row of zeros, whose scale comes from a bias, the largest of all biases decides."""
    b = OnnxBuilder()
    matrix = np.eye(SIZE, dtype=np.float32)
    matrix[3] = 0
    weight = b.constant(matrix, "shared.weight")
    y = b.input("x", (1, SIZE))
    for size in (1e-3, 1e3):
        bias = b.constant(np.full(SIZE, size, np.float32), f"bias{size}.bias")
        y = b.node("Gemm", y, weight, bias, transB=1)
    b.output(y)
    model = load(b.build())
    for recipe in ("w8a8", "w4a8", "w4a8-g4"):
        result = quantize_model(model, Recipe.parse(recipe, keep_ends=False), DATA)
        program = lower(result)
        (boundary,) = program.outputs
        quantization = program.tensors[boundary.tensor].quantization
        assert quantization is not None
        feeds = program_feeds(program, {"x": DATA["x"][:1]})
        (codes,) = run(program, feeds).values()
        got = (codes.astype(np.float64) - quantization.scalar_zero_point) * (
            quantization.scalar_scale
        )
        assert got.reshape(-1)[3] == pytest.approx(1e3, rel=0.01)


def test_sensitivity_takes_them_as_one() -> None:
    """The bytes count once, and the proposal gives all of them one recipe."""
    model, candidates = network("gemm", "gemm", "gemm"), ["w8a8", "w4a8"]
    found = sensitivity(model, DATA, recipes=candidates, budget_bytes=64)
    assert [(cost.layer, cost.tied, cost.bytes) for cost in found.costs] == [
        ("shared", ("layer1", "layer2"), SIZE * (SIZE + 4)),
        ("shared", ("layer1", "layer2"), SIZE * (SIZE // 2 + 4)),
    ]
    assert found.proposal == dict.fromkeys(("shared", "layer1", "layer2"), "w4a8")
    assert found.recipe is not None
    result = post_training(model, found.recipe, DATA)
    assert result.bytes == found.proposal_bytes == SIZE * (SIZE // 2 + 4)
    # Alone the same: what is measured is the change of all at once.
    for cost in found.costs:
        (own,) = sensitivity(model, DATA, recipes=[cost.recipe]).costs
        assert own.mse == cost.mse
        assert own.mse > 0

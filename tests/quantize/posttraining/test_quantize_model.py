"""Whole Models by recipes: what they become, and that they lower and run."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from edgekit.errors import InvalidDataError, UnsupportedError, UsageError
from edgekit.formats import Format
from edgekit.model import Model, load
from edgekit.model.nodes import const, get_input, is_op
from edgekit.program.interpret import Interpreter, run
from edgekit.program.lowering import lower
from edgekit.quantize.posttraining import Options, RoundingSettings, post_training, quantize_model
from edgekit.quantize.posttraining.objective import MAX_COLUMNS
from edgekit.quantize.posttraining.simulate import walk
from edgekit.quantize.recipe import WEIGHTS, Recipe
from edgekit.quantize.static import observe, quantize_static
from tests.support.onnx_models import OnnxBuilder, run_onnx
from tests.support.posttraining import LAYERS, SHAPE, network, samples
from tests.support.quantized import program_feeds

QUICK = RoundingSettings(iterations=60)

RECIPES = [f"{name}a8" for name in WEIGHTS] + [
    *("w4a8-g8", "w4a8-t", "w158a8-mean", "w158a8-p5", "w158a8-c", "w158a8-p5-c"),
    *("fp4-e2m1-g16a8", "fp4-e3m0-g8a8", "fp4-e1m2-g32a8", "w2a8-g4"),
]


def codings(model: Model) -> dict[str, str | None]:
    """Number format of the weights in the Program, by operation; None for plain int8."""
    found = {}
    for operation in lower(model).operations:
        if hasattr(operation.operator, "coding"):
            coding = operation.operator.coding
            found[operation.name] = None if coding is None else coding.element
    return found


@pytest.mark.needs("onnxruntime")
@pytest.mark.parametrize("recipe", RECIPES)
def test_every_recipe_lowers_and_runs(recipe: str) -> None:
    """Integers to the last layer, as ONNX Runtime computes them up to a step or two."""
    model, data = load(network(dead=True)), samples()
    result = post_training(model, Recipe.parse(recipe, keep_ends=False), data)
    assert [layer.name for layer in result.layers] == list(LAYERS)
    fmt = Format.parse(WEIGHTS[recipe.partition("a8")[0].partition("-g")[0]])
    assert {layer.recipe for layer in result.layers} == {str(Recipe.parse(recipe))}
    assert result.effective_bits < 32 / 2
    program = lower(result.model)
    assert all(program.tensors[b.tensor].dtype == "int8" for b in program.outputs)
    elements = set(codings(result.model).values())
    assert elements == ({None} if fmt.element.name == "int8" else {fmt.element.name}) or (
        recipe.startswith("w158") and elements <= {"ternary", "ternary-p5"}
    )
    (boundary,) = program.outputs
    quantization = program.tensors[boundary.tensor].quantization
    assert quantization is not None
    for x in data["x"][:3]:
        (want,) = run_onnx(result.model.to_bytes(), {"x": x}).values()
        (codes,) = run(program, program_feeds(program, {"x": x})).values()
        got = (codes.astype(np.float64) - quantization.scalar_zero_point) * np.float64(
            quantization.scalar_scale
        )
        assert np.abs(got - want).max() <= 4.01 * quantization.scalar_scale


def test_w8a8_is_static_quantisation() -> None:
    model, data = load(network()), samples()
    wanted, found = quantize_static(model, data), quantize_model(model, "w8a8", data)
    a, b = lower(wanted), lower(found)
    assert a.operations == b.operations
    for name, tensor in a.tensors.items():
        assert tensor.quantization == b.tensors[name].quantization
        if tensor.data is not None:
            np.testing.assert_array_equal(tensor.data, b.tensors[name].data)


@pytest.mark.parametrize("method", ["mse", "percentile:99", "gptq", "adaround", "mse+adaround"])
def test_methods_make_layers_better(method: str) -> None:
    model, data = load(network()), samples()
    options = Options(method=method, measure=True, rounding=QUICK)
    result = post_training(model, Recipe.parse("w4a8-g8", keep_ends=False), data, options)
    for layer in result.layers:
        assert layer.error is not None
        assert layer.error_rounded is not None
        assert layer.error <= layer.error_rounded * (1 + 1e-6)
    if "+" in method or method in ("gptq", "adaround"):
        assert sum(x.error for x in result.layers) < 0.8 * sum(
            x.error_rounded for x in result.layers
        )
    lower(result.model)


def test_methods_make_the_network_better() -> None:
    """What counts: the outputs of the integer network against those of the float network."""
    model, data, fresh = load(network()), samples(64), samples(32, seed=9)["x"]
    float_program = lower(model)
    wanted = np.stack([next(iter(run(float_program, {"x": x}).values())) for x in fresh])
    errors = {}
    for method in ("rtn", "gptq", "adaround"):
        found = quantize_model(model, Recipe.parse("w3a8", keep_ends=False), data, method=method)
        program = lower(found)
        (boundary,) = program.outputs
        q = program.tensors[boundary.tensor].quantization
        assert q is not None
        interpreter = Interpreter(program)
        got = [
            next(iter(interpreter.run(program_feeds(program, {"x": x})).values())) for x in fresh
        ]
        real = (np.stack(got) - np.float64(q.scalar_zero_point)) * q.scalar_scale
        errors[method] = float(np.square(real - wanted).mean())
    assert errors["adaround"] < 0.7 * errors["rtn"]
    assert errors["gptq"] < 0.9 * errors["rtn"]


def test_seeded() -> None:
    model, data = load(network()), samples()
    made = [
        quantize_model(model, "w4a8", data, method="adaround", limit=8, seed=seed).to_bytes()
        for seed in (1, 1, 2)
    ]
    assert made[0] == made[1] != made[2]


@pytest.mark.parametrize("method", ["adaround", "mse+gptq"])
def test_a_second_process_gives_the_same_bytes(method: str, tmp_path: Path) -> None:
    """Nothing depends on hashes, addresses, or what a process did before."""
    (tmp_path / "net.onnx").write_bytes(network())
    np.save(tmp_path / "x.npy", samples()["x"])
    model = load(tmp_path / "net.onnx")
    made = quantize_model(model, "fp4-e2m1-g8a8", samples(), method=method, limit=16, seed=3)
    code = (
        "import sys, numpy as np\n"
        "from edgekit.model import load\n"
        "from edgekit.quantize.posttraining import quantize_model\n"
        "data = {'x': np.load('x.npy')}\n"
        "made = quantize_model(load('net.onnx'), 'fp4-e2m1-g8a8', data, "
        "method=sys.argv[1], limit=16, seed=3)\n"
        "open('made.onnx', 'wb').write(made.to_bytes())"
    )
    # The same libraries and threads: BLAS's last bits are theirs.
    environment = os.environ | {"PYTHONHASHSEED": "1"}
    command = [sys.executable, "-P", "-c", code, method]
    subprocess.run(command, cwd=tmp_path, env=environment, check=True)
    assert (tmp_path / "made.onnx").read_bytes() == made.to_bytes()


def test_rows_that_are_too_long_for_statistics() -> None:
    """Methods that need none go on without, and say so; the others name the layer and these."""
    rng = np.random.default_rng(7)
    b = OnnxBuilder()
    columns = MAX_COLUMNS + 8
    weights = rng.standard_normal((columns, 2)).astype(np.float32)
    product = b.node("MatMul", b.input("x", (1, columns)), b.constant(weights, "wide.weight"))
    b.output(b.node("Relu", product))
    model, data = load(b.build()), {"x": rng.standard_normal((16, columns)).astype(np.float32)}
    recipe = Recipe.parse("w4a8-g32", keep_ends=False)
    for method in ("adaround", "gptq"):
        with pytest.raises(InvalidDataError, match=r"wide: .*8192 .*method rtn, mse or perc"):
            quantize_model(model, recipe, data, method=method)
    for method in ("rtn", "mse", "percentile"):
        options = Options(method=method, measure=True, bias_correction=True)
        (layer,) = post_training(model, recipe, data, options).layers
        assert layer.error is None
        assert f"has rows of {columns}: no error is measured, no bias corrected" in layer.notes


def test_layers_by_name_and_type() -> None:
    """Names are those of the torch module; ends that are not named stay wider, and it is said."""
    rules = {"depthwise": "w4a8", "Linear": "w158a8", "*": "shift3a8"}
    result = post_training(load(network()), rules, samples())
    found = {layer.name: (layer.recipe, layer.reason) for layer in result.layers}
    assert found == {
        "stem": ("w8a8", "the first layer is kept wider"),
        "depthwise": ("w4a8", "rule depthwise"),
        "grouped": ("shift3a8", "the rest"),
        "pointwise": ("shift3a8", "the rest"),
        "head": ("w158a8", "rule Linear"),
    }
    with pytest.raises(UsageError, match="did you mean stem"):
        quantize_model(load(network()), {"stme": "w4a8", "*": "w8a8"}, samples())


def test_bytes_are_those_of_the_packed_format() -> None:
    result = post_training(load(network()), {"stem": "w4a8-g32", "*": "w8a8"}, samples())
    stem = result.layers[0]
    # 8 rows of 27 four-bit codes in 14 bytes, a factor and a scale each.
    assert (stem.bytes, stem.float_bytes, stem.weights) == (8 * (14 + 1 + 4), 864, 216)
    assert stem.effective_bits == pytest.approx(8 * 152 / 216)
    assert stem.notes == ("has rows of 27: one group holds each",)
    assert json.loads(result.to_json())["bytes"] == result.bytes


@pytest.mark.needs("onnxruntime")
@pytest.mark.parametrize("last", ["Gemm", "MatMul"])
def test_bias_correction_has_zero_mean(last: str) -> None:
    """Over the calibration data the last layer's sums err by nothing on average."""
    model, data = load(network(last=last)), samples(32)
    rules = Recipe.parse({"head": "w3a8", "*": "w8a8"})
    means = []
    for corrected in (False, True):
        options = Options(bias_correction=corrected)
        found = post_training(model, rules, data, options).model
        # Weights alone: the activations stay real.
        for node in list(found.ir.graph):
            if is_op(node, "QuantizeLinear"):
                (dequantize,) = (use.node for use in node.outputs[0].uses())
                result = dequantize.outputs[0]
                if not result.is_graph_output():
                    result.replace_all_uses_with(get_input(node, 0))
        difference = []
        for x in data["x"]:
            (want,) = run_onnx(model.to_bytes(), {"x": x}).values()
            (got,) = run_onnx(found.to_bytes(), {"x": x}).values()
            difference.append(got - want)
        means.append(np.abs(np.mean(difference, axis=0)).max())
    # What is left is the step of the output.
    assert means[1] < 0.35 * means[0]


def test_equalised_networks_lower() -> None:
    options = Options(method="mse", equalize=True, bias_correction=True)
    result = post_training(load(network()), "w4a8", samples(), options)
    assert "4 pairs of layers are equalised" in result.notes
    assert [layer.name for layer in result.layers] == list(LAYERS)
    lower(result.model)


def test_the_walk_is_the_network() -> None:
    """Without quantisers both sides give what the interpreter gives."""
    model, data = load(network()), samples(4)
    observed = observe(model, data)
    program = observed.lowered.program
    seen: list[np.ndarray] = []
    walk(program, observed.samples, {}, lambda meeting: seen.append(meeting.quantised))
    assert len(seen) == len(LAYERS)
    for number, sample in enumerate(observed.samples):
        values: dict[str, np.ndarray] = {}
        Interpreter(program).run(sample[0], lambda n, v, values=values: values.update({n: v}))
        layers = [
            op
            for op in program.operations
            if hasattr(op.operator, "clamp") and len(op.present_inputs) == 3
        ]
        for operation, found in zip(layers, seen, strict=True):
            wanted = values[operation.inputs[0]]
            np.testing.assert_allclose(found[number], wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.needs("onnxruntime")
@pytest.mark.parametrize("recipe", ["w8a8-token", "w4a8-g8-token", "w158a8-token", "mxfp4a8-token"])
def test_per_token_activations(recipe: str) -> None:
    """Products read a scale of every token's own; nothing is static between them."""
    rng = np.random.default_rng(4)
    b = OnnxBuilder()
    y = b.input("x", (1, 6, 16))
    for name, (inputs, outputs) in {"a": (16, 24), "b": (24, 8)}.items():
        weights = (rng.standard_normal((inputs, outputs)) / 4).astype(np.float32)
        y = b.node("MatMul", y, b.constant(weights, f"{name}.weight"))
        y = b.node("Add", y, b.constant(np.float32(rng.uniform(-1, 1, outputs)), f"{name}.bias"))
        y = b.node("Relu", y)
    b.output(y)
    data = {"x": rng.standard_normal((20, 1, 6, 16)).astype(np.float32)}
    options = Options(method="gptq", bias_correction=True)
    model = load(b.build())
    result = post_training(model, Recipe.parse(recipe, keep_ends=False), data, options)
    assert not any(is_op(node, "QuantizeLinear") for node in result.model.ir.graph)
    program = lower(result.model)
    assert [op.operator.name for op in program.operations].count("dynamic_fully_connected") == 2
    for x in data["x"][:3]:
        (got,) = run(program, {"x": x}).values()
        (want,) = run_onnx(result.model.to_bytes(), {"x": x}).values()
        (real,) = run_onnx(model.to_bytes(), {"x": x}).values()
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-4)
        assert np.abs(got - real).mean() < 0.7 * np.abs(real).mean()


def test_convolutions_have_no_tokens() -> None:
    result = post_training(load(network()), "w8a8-token", samples())
    notes = {layer.name: layer.notes for layer in result.layers}
    assert notes["stem"] == ("reads int8 with a constant scale: only products scale per token",)
    assert notes["head"] == ()


def test_models_with_state_are_stepped_through() -> None:
    """A GRU that carries its state, and a head: only the head has a recipe's weights."""
    rng = np.random.default_rng(6)
    b = OnnxBuilder()
    x, h = b.input("x", (1, 1, 2)), b.input("h", (1, 1, 4))
    w, r, bias = (
        b.constant((rng.standard_normal(shape) / 2).astype(np.float32))
        for shape in ((1, 12, 2), (1, 12, 4), (1, 24))
    )
    y, last = b.node_all("GRU", x, w, r, bias, "", h, outputs=2, hidden_size=4, name="rnn")
    flat = b.node("Reshape", y, b.constant(np.array([1, 4])))
    head = b.constant(rng.standard_normal((3, 4)).astype(np.float32), "head.weight")
    b.output(b.node("Gemm", flat, head, transB=1))
    b.output(last)
    data = {"x": rng.uniform(-1, 1, (8, 5, 1, 1, 2)).astype(np.float32)}
    model, state = load(b.build()), {"h": last}
    result = post_training(
        model,
        Recipe.parse("w3a8", keep_ends=False),
        data,
        Options(method="gptq", measure=True),
        state=state,
    )
    (layer,) = result.layers
    assert layer.name == "head"
    assert layer.error is not None
    assert 0 < layer.error <= layer.error_rounded
    assert "weights of GRU are int8, whatever the recipe says" in result.notes
    assert lower(result.model, state=state).state


def test_float_layers() -> None:
    rules = {"pointwise": "fp32", "*": "w8a8"}
    result = post_training(load(network()), rules, samples())
    (layer,) = (x for x in result.layers if x.name == "pointwise")
    assert (layer.recipe, layer.bytes, layer.effective_bits) == ("fp32", layer.float_bytes, 32.0)
    (node,) = (n for n in result.model.ir.graph if n.name == "node_pointwise")
    assert const(get_input(node, 1)) is not None
    with pytest.raises(UnsupportedError, match="stay in float32"):
        lower(result.model)
    lower(result.model, allow_fallback=True)


def test_all_zero_channels_and_constant_inputs(caplog: pytest.LogCaptureFixture) -> None:
    data = samples()
    data["x"][:, :, 1] = 0.5
    with caplog.at_level(logging.INFO, "edgekit"):
        result = post_training(
            load(network(dead=True)), "fp4-e2m1-g8a8", data, Options(method="adaround")
        )
    assert "grouped: 1 of its 12 output channels are all zero" in caplog.text
    program = lower(result.model)
    for x in data["x"][:2]:
        run(program, program_feeds(program, {"x": x}))


def test_one_sample_is_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    result = post_training(load(network()), "w4a8", samples(1), Options(method="gptq"))
    assert "1 calibration samples may miss" in caplog.text
    assert any("1 calibration samples" in note for note in result.model.notes)
    lower(result.model)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_calibration_that_is_not_finite(value: float) -> None:
    data = samples()
    data["x"][3, 0, 0, 2, 2] = value
    with pytest.raises(InvalidDataError, match="NaN or infinity in sample 3"):
        quantize_model(load(network()), "w4a8", data, method="adaround")


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        ("w1a1", "needs training"),
        ("w4a8-lsq", "is a method of training"),
    ],
)
def test_what_needs_training(recipe: str, message: str) -> None:
    with pytest.raises(UnsupportedError, match=message):
        quantize_model(load(network()), Recipe.parse(recipe, keep_ends=False), samples())


def test_progress_is_told() -> None:
    told: list[tuple[str, int, int]] = []
    options = Options(method="adaround", rounding=QUICK)
    post_training(load(network()), "w4a8", samples(), options, progress=lambda *a: told.append(a))
    assert list(dict.fromkeys(name for name, _, _ in told)) == list(LAYERS)
    assert told[-1] == ("head", 60, 60)


def test_the_source_is_not_changed() -> None:
    model = load(network())
    before = model.to_bytes()
    quantize_model(model, "w4a8", samples(), method="adaround", equalize=True)
    assert model.to_bytes() == before
    assert model.ir.graph.inputs[0].shape == list(SHAPE)

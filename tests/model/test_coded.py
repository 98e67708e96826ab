"""Coded weights in a Model: exact in any runtime, kept by the passes, checked when read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir
import pytest
from onnx import helper

from edgekit.errors import InvalidModelError, OutputError
from edgekit.formats import ELEMENTS, FACTORS, Coded, Element, Format
from edgekit.model import Model, load, save
from edgekit.model.coded import (
    DEQUANTIZERS,
    coded_attributes,
    initializers,
    is_dequantizer,
    operator_of,
    read_coded,
    replace_weights,
    weight_rows,
)
from edgekit.model.constants import moved, moves_behind, stored_behind
from edgekit.model.domain import attach_functions
from edgekit.model.passes import optimize
from edgekit.model.passes.standard_weights import standard_weights
from edgekit.program.operators.quantization import DynamicQuantize
from tests.support.coded_models import KERNELS, layer, node_called, with_coded
from tests.support.onnx_models import OnnxBuilder, run_onnx

RNG = np.random.default_rng(8)

runs = pytest.mark.needs("onnxruntime")


def random_coded(element: Element, factors: str, rows: int, columns: int, group: int) -> Coded:
    """Any levels, any factors, any scales."""
    integers = RNG.choice(np.array(element.levels, element.dtype), (rows, columns))
    numbers = None
    if factors != "none":
        known = [i for i in FACTORS[factors].integers if i is not None]
        numbers = RNG.choice(np.array(known, np.int32), (rows, -(-columns // group)))
    return Coded(integers, RNG.uniform(1e-3, 1, rows).astype(np.float32), numbers)


def with_functions(b: OnnxBuilder) -> Model:
    model = load(b.build())
    ir, _ = attach_functions(model.ir)
    return model.with_ir(ir)


def coded_node(
    b: OnnxBuilder,
    coded: Coded,
    element: Element,
    factors: str,
    group: int,
    changes: Mapping[str, Any] | None = None,
) -> str:
    """A dequantising node; `changes` replaces arrays and attributes by name."""
    arrays = initializers(coded, element, factors)  # type: ignore[arg-type]
    attributes = coded_attributes(element, factors, coded.integers.shape[1], group)
    for name, value in (changes or {}).items():
        (arrays if name in arrays else attributes)[name] = value
    inputs = [b.constant(array, name) for name, array in arrays.items()]
    return b.node(operator_of(element), *inputs, domain="edgekit", name="w", **attributes)


# The functions, in ONNX Runtime


@runs
@pytest.mark.parametrize("opset", [18, 21, 25])
@pytest.mark.parametrize("element", ELEMENTS.values(), ids=lambda e: e.name)
def test_weights_are_the_formats_own(element: Element, opset: int) -> None:
    """Every element, with and without factors, the last group cut: equal to the bit."""
    for factors, group in (("none", 0), ("uint8", 8), ("shift", 7), ("e4m3", 16)):
        coded = random_coded(element, factors, 3, 37, group)
        b = OnnxBuilder(opset)
        b.output(b.node("Identity", coded_node(b, coded, element, factors, group)))
        (got,) = run_onnx(with_functions(b).to_bytes(), {}).values()
        values = coded.integers.astype(np.float32)
        if coded.factors is not None:
            values = values * np.repeat(coded.factors.astype(np.float32), group, 1)[:, :37]
        assert np.array_equal(got, values * coded.scale[:, np.newaxis])


@runs
@pytest.mark.parametrize("kind", list(KERNELS))
@pytest.mark.parametrize("name", ["ternary", "int4-g8", "nvfp4", "ternary-p5"])
def test_replaced_weights_have_the_shape_of_the_old_ones(name: str, kind: str) -> None:
    """What the node reads now is what the format makes of the rows, moved back."""
    fmt = Format.parse(name)
    model, (coded,) = with_coded(layer(kind), fmt)
    node = node_called(model, "layer")
    value = node.inputs[1]
    model.ir.graph.outputs[:] = [value]
    model.ir.graph.inputs.clear()
    model.ir.graph.remove([n for n in model.ir.graph if n.name not in _needed(value)], safe=False)
    (got,) = run_onnx(model.to_bytes(), {}).values()
    assert got.shape == KERNELS[kind]
    assert np.array_equal(weight_rows(node, got), fmt.dequantize(coded))


def _needed(value: onnx_ir.Value) -> set[str]:
    names, pending = set(), [value]
    while pending:
        producer = pending.pop().producer()
        if producer is not None:
            names.add(producer.name)
            pending += [i for i in producer.inputs if i is not None]
    return names


@runs
@pytest.mark.parametrize("opset", [18, 21])
def test_dynamic_quantisation_is_the_programs(opset: int) -> None:
    x = RNG.normal(0, 1, (5, 33)).astype(np.float32)
    x[1] = 0
    x[2] *= 1e-7
    b = OnnxBuilder(opset)
    b.output(b.node("DynamicQuantizeDequantize", b.input("x", x.shape), domain="edgekit"))
    (got,) = run_onnx(with_functions(b).to_bytes(), {"x": x}).values()
    codes, scale = DynamicQuantize().reference(x)
    assert np.array_equal(got, codes.astype(np.float32) * scale)


@runs
@pytest.mark.parametrize("scale", [np.float32(0.5), np.float32([0.5])])
def test_binarize(scale: np.ndarray) -> None:
    x = np.float32([[-1, -0.0, 0, 1e-30, -1e-30]])
    b = OnnxBuilder()
    b.output(b.node("Binarize", b.input("x", x.shape), b.constant(scale), domain="edgekit"))
    (got,) = run_onnx(with_functions(b).to_bytes(), {"x": x}).values()
    assert got.tolist() == [[-0.5, 0.5, 0.5, 0.5, -0.5]]


# Reading


@pytest.mark.parametrize("element", ELEMENTS.values(), ids=lambda e: e.name)
def test_read_back(element: Element) -> None:
    """What is written is read, for every kind of factors."""
    for factors, group in (("none", 0), ("uint8", 8), ("shift", 37), ("e4m3", 5)):
        coded = random_coded(element, factors, 2, 37, group)
        b = OnnxBuilder()
        b.output(b.node("Identity", coded_node(b, coded, element, factors, group)))
        found = read_coded(load(b.build()).ir.graph.node(0))
        assert (found.element, found.factors, found.group) == (element, factors, group)
        assert np.array_equal(found.coded.integers, coded.integers)
        assert np.array_equal(found.coded.scale, coded.scale)
        assert (found.coded.factors is None) == (coded.factors is None)
        if coded.factors is not None:
            assert np.array_equal(found.coded.factors, coded.factors)


def bytes_of(*values: int, rows: int = 2) -> np.ndarray:
    return np.array([values] * rows, np.uint8)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"element": "int9"}, r"element 'int9' is unknown, must be one of int2, int3"),
        ({"element": "ternary-p5"}, r"element ternary-p5 is unpacked by DequantizeTrits"),
        ({"bits": 3}, r"bits is 3, element ternary has 2"),
        ({"factors": "uint9"}, r"factors 'uint9' are unknown, must be one of none, uint8"),
        ({"columns": 0}, r"columns 0 in groups of 4, must be at least 1"),
        ({"columns": 2**40}, r"packed is uint8\[2, 2\], must be uint8\[2, 274877906944\]"),
        ({"group": 0}, r"columns 8 in groups of 0"),
        ({"group": 9}, r"columns 8 in groups of 9"),
        ({"factors": "none"}, r"groups of 4 without factors, must be the 8 columns"),
        ({"packed": bytes_of(1)}, r"packed is uint8\[2, 1\], must be uint8\[2, 2\]"),
        ({"packed": np.zeros((2, 2), np.int8)}, r"packed is int8\[2, 2\], must be uint8"),
        ({"packed": np.zeros((0, 2), np.uint8)}, r"packed has no rows"),
        ({"packed": np.uint8(3)}, r"packed has no rows"),
        ({"packed": bytes_of(2, 0)}, r"ternary: code 2 at \[0, 0\] means nothing"),
        ({"levels": np.float32([0, 1, 0, -2])}, r"levels are not those of ternary"),
        ({"levels": np.float32([0, 1])}, r"levels is float32\[2\], must be float32\[4\]"),
        ({"scale": np.float32([1, -1])}, r"scales must be positive and finite"),
        ({"scale": np.ones(3, np.float32)}, r"scale is float32\[3\], must be float32\[2\]"),
        ({"scale": np.ones(2, np.float64)}, r"scale is float64\[2\]"),
        ({"factor_codes": bytes_of(1)}, r"factor_codes is uint8\[2, 1\], must be uint8\[2, 2\]"),
        ({"factor_codes": bytes_of(16, 0)}, r"code 16 at \[0, 0\] is no shift factor"),
        ({"factor_levels": np.ones(256, np.float32)}, r"factor_levels are not those of"),
        ({"factor_levels": np.ones(2, np.float32)}, r"factor_levels is float32\[2\]"),
    ],
)
def test_hostile_nodes(changes: dict[str, Any], message: str) -> None:
    """Nothing that a file says is believed, and every error says what is wrong."""
    coded = Coded(np.ones((2, 8), np.int8), np.ones(2, np.float32), np.ones((2, 2), np.int32))
    b = OnnxBuilder()
    w = coded_node(b, coded, ELEMENTS["ternary"], "shift", 4, changes)
    b.output(b.node("Identity", w))
    with pytest.raises(InvalidModelError, match=message):
        read_coded(load(b.build()).ir.graph.node(0))


def test_bits_behind_the_last_column() -> None:
    coded = Coded(np.ones((2, 3), np.int8), np.ones(1, np.float32))
    b = OnnxBuilder()
    w = coded_node(b, coded, ELEMENTS["ternary"], "none", 0, {"packed": bytes_of(0xFF)})
    b.output(b.node("Identity", w))
    with pytest.raises(InvalidModelError, match="bits after the last code of row 0"):
        read_coded(load(b.build()).ir.graph.node(0))


@pytest.mark.parametrize("drop", [0, 4])
def test_missing_and_computed_inputs(drop: int) -> None:
    coded = Coded(np.ones((2, 8), np.int8), np.ones(2, np.float32))
    b = OnnxBuilder()
    b.output(b.node("Identity", coded_node(b, coded, ELEMENTS["int4"], "none", 0)))
    proto = b.proto()
    del proto.graph.node[0].input[drop:]
    with pytest.raises(InvalidModelError, match=f"has {drop} inputs, must have 5"):
        read_coded(load(proto.SerializeToString()).ir.graph.node(0))
    b.inputs.append(helper.make_tensor_value_info("scale", 1, [2]))
    del b.initializers[2]
    with pytest.raises(InvalidModelError, match="scale must be a constant"):
        read_coded(load(b.build()).ir.graph.node(0))


def test_weights_that_do_not_fit_are_refused() -> None:
    model = load(layer("conv2d").build())
    fmt = Format.parse("int4")
    with pytest.raises(InvalidModelError, match=r"coded rows \[8, 26\] do not fit weights \[8, 3,"):
        replace_weights(
            node_called(model, "layer"), fmt.quantize(np.ones((8, 26), np.float32)), fmt
        )


def test_a_broken_definition_is_replaced() -> None:
    """A file's own body counts for nothing, even one that cannot be written again."""
    model, _ = with_coded(layer("dense"), Format.parse("ternary"))
    (function,) = model.ir.functions.values()
    node = next(n for n in function if n.op_type == "Constant")
    (name,) = node.attributes
    node.attributes[name] = onnx_ir.Attr(name, onnx_ir.AttributeType.UNDEFINED, None)
    (mended,) = optimize(model).ir.functions.values()
    assert all(a.type for n in mended for a in n.attributes.values())


# Passes


@pytest.mark.parametrize("name", ["ternary", "mxfp4", "ternary-p5", "int8-g8", "int2"])
def test_optimisation_keeps_coded_weights(name: str) -> None:
    """Neither expanded nor written out, and their definitions follow the opset."""
    model, _ = with_coded(layer("conv2d", opset=18), Format.parse(name))
    optimised = optimize(model)
    calls = [node.op_type for node in optimised.ir.graph if is_dequantizer(node)]
    assert calls in [[name] for name in DEQUANTIZERS]
    assert all(
        v.const_value.dtype != onnx_ir.DataType.FLOAT or v.const_value.size <= 256
        for v in optimised.ir.graph.initializers.values()
    )
    assert {f.opset_imports[""] for f in optimised.ir.functions.values()} == {21}


@runs
@pytest.mark.parametrize("kind", list(KERNELS))
@pytest.mark.parametrize(
    ("name", "dtype", "opset"),
    [("int8", "INT8", 21), ("int4", "INT4", 21), ("int4-t", "INT4", 21), ("int2", "INT2", 25)],
)
def test_standard_types(name: str, dtype: str, opset: int, kind: str) -> None:
    """Rules 1 and 2: one constant of ONNX's own type in the weights' shape; the same results."""
    b = layer(kind, opset=opset)
    model, _ = with_coded(b, Format.parse(name))
    if opset == 25:
        model.ir.ir_version = 13
    optimised = optimize(model)
    weights = node_called(optimised, "layer").inputs[1]
    assert weights is not None
    producer = weights.producer()
    assert producer is not None and producer.op_type == "DequantizeLinear"
    stored = producer.inputs[0]
    assert stored is not None and stored.dtype is not None
    assert (stored.dtype.name, tuple(stored.shape or ())) == (dtype, KERNELS[kind])
    rng = np.random.default_rng(0)
    shape = tuple(int(d) for d in optimised.ir.graph.inputs[0].shape or ())
    feeds = {"x": rng.normal(0, 1, shape).astype(np.float32)}
    want, got = (run_onnx(m.to_bytes(), feeds) for m in (model, optimised))
    assert all(np.array_equal(want[name], got[name]) for name in want)


def test_an_older_opset_keeps_the_function() -> None:
    """Rule 1: a type that the opset lacks is not used; a second run changes nothing."""
    for name, opset, changes in (("int4", 18, False), ("int4", 21, True), ("int2", 21, False)):
        model, _ = with_coded(layer("dense", opset=opset), Format.parse(name))
        ir, modified = standard_weights(model.ir)
        assert modified is changes
        assert standard_weights(ir)[1] is False


def scaled_reshape(scale: Any, axis: int, shape: list[int]) -> Model:
    b = OnnxBuilder()
    integers = np.arange(24, dtype=np.int8).reshape(4, 6)
    w = b.dequantized(integers, scale, axis=axis)
    w = b.node("Reshape", w, b.constant(np.array(shape)), name="moved")
    b.output(b.node("Add", w, b.input("x", (1,))))
    return load(b.build())


@runs
@pytest.mark.parametrize(
    ("axis", "shape", "moves"),
    [(0, [4, 2, 3], True), (0, [2, 2, 6], False), (1, [2, 2, 6], True), (1, [24], False)],
)
def test_reshape_keeps_the_axis_of_scales_or_stays(
    axis: int, shape: list[int], moves: bool
) -> None:
    """Rule 2: a Reshape that joins or splits that axis stays."""
    model = scaled_reshape(np.linspace(0.1, 1, (4, 6)[axis]), axis, shape)
    optimised = optimize(model)
    assert ("Reshape" not in {node.op_type for node in optimised.ir.graph}) is moves
    feeds = {"x": np.float32([1])}
    want, got = (next(iter(run_onnx(m.to_bytes(), feeds).values())) for m in (model, optimised))
    assert np.array_equal(want, got)


def test_stored_constants_are_found_behind_movement() -> None:
    """The node that holds the integers, and what moves them; a computed value has none."""
    model = scaled_reshape(np.linspace(0.1, 1, 4), 0, [2, 2, 6])
    add = model.ir.graph.node(-1)
    value, x = add.inputs
    assert value is not None and x is not None
    stored = stored_behind(value)
    assert stored is not None and stored.op_type == "DequantizeLinear"
    (move,) = moves_behind(value)
    value.shape = onnx_ir.Shape([2, 2, 6])
    assert moved(move, np.zeros((4, 6))).shape == (2, 2, 6)
    assert stored_behind(x) is None


# Files


@runs
@pytest.mark.parametrize("name", ["ternary-p5", "nvfp4"])
def test_saved_and_loaded(name: str, tmp_path: Path) -> None:
    """A file has its definitions, appears whole and gives the same results."""
    model = load(layer("conv1d").build())
    node, fmt = node_called(model, "layer"), Format.parse(name)
    weights = node.inputs[1].const_value.numpy()
    replace_weights(node, fmt.quantize(weight_rows(node, weights)), fmt)
    path = save(model, tmp_path / "new" / "net.onnx")
    assert not model.ir.functions
    assert [p.name for p in path.parent.iterdir()] == ["net.onnx"]
    feeds = {"x": RNG.normal(0, 1, (1, 6, 12)).astype(np.float32)}
    want, got = (run_onnx(d, feeds) for d in (path.read_bytes(), load(path).to_bytes()))
    assert all(np.array_equal(want[n], got[n]) for n in want)


def _folder(path: Path) -> Path:
    (path / "net.onnx").mkdir()
    return path / "net.onnx"


@pytest.mark.parametrize(
    ("place", "message"),
    [
        (lambda p: p / "net.bin", "a model is written as an .onnx file"),
        (_folder, "cannot be written"),
        (lambda p: Path("/proc/nowhere/net.onnx"), "cannot be written"),
    ],
)
def test_places_that_cannot_be_written(
    place: Callable[[Path], Path], message: str, tmp_path: Path
) -> None:
    """A typed error, and nothing half-written."""
    model = load(layer("dense").build())
    path = place(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(OutputError, match=message):
        save(model, path)
    assert sorted(tmp_path.rglob("*")) == before

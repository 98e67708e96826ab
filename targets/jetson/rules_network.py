"""Rules for the network as a whole: opset, operators, shapes, types, names."""

from __future__ import annotations

from collections.abc import Iterator

from onnx_ir import DataType

from edgekit.model.nodes import label, name_of, shape_of
from edgekit.targets.jetson.element_types import operand_groups
from edgekit.targets.jetson.operators import OPERATORS, OPSETS, RESTRICTIONS
from edgekit.targets.jetson.rule import QUANTIZING, Finding, Scene, dequantized, named, rule

FLOATS = (DataType.FLOAT, DataType.FLOAT16, DataType.BFLOAT16)

_BOUNDARY = (*FLOATS, DataType.INT32, DataType.INT64, DataType.UINT8, DataType.BOOL)
"""Element types of inputs and outputs."""

_MAX_NAME = 4096
"""Longest name of a tensor, in bytes. Source: TensorRT API, ``ITensor::setName``."""


@rule("opset")
def opset(scene: Scene) -> Iterator[Finding]:
    """The opset is one that this TensorRT reads."""
    oldest, newest = OPSETS[scene.tensorrt]
    if not oldest <= scene.opset <= newest:
        yield (
            f"opset {scene.opset}",
            f"TensorRT {scene.tensorrt} reads opset {oldest} to {newest}",
            f"export with opset {min(max(scene.opset, oldest), newest)}",
        )


@rule("operators")
def operators(scene: Scene) -> Iterator[Finding]:
    """Every operator is one of ONNX that TensorRT's parser reads."""
    known = OPERATORS[scene.tensorrt]
    for node in scene.graph:
        if node.domain != "":
            yield node, "TensorRT has no such operator", "give it a local function of ONNX's own"
        elif node.op_type not in known:
            later = [v for v in OPERATORS if v > scene.tensorrt and node.op_type in OPERATORS[v]]
            remedy = f"TensorRT {later[0]} reads it" if later else "write it in other operators"
            yield node, f"TensorRT {scene.tensorrt}'s parser does not read it", remedy


@rule("operator-restrictions")
def operator_restrictions(scene: Scene) -> Iterator[Finding]:
    """Operators have a form that TensorRT's parser reads."""
    for node in scene.nodes(*RESTRICTIONS):
        problem = RESTRICTIONS[node.op_type](node)
        if problem is not None:
            yield node, "TensorRT does not read this form", problem


@rule("static-shapes")
def static_shapes(scene: Scene) -> Iterator[Finding]:
    """Inputs have static shapes without empty axes."""
    for value in scene.graph.inputs:
        shape = shape_of(value)
        if shape is None or 0 in shape:
            known = "unknown" if value.shape is None else list(value.shape.dims)
            yield named(value), f"its shape is {known}", "give the input a fixed, non-empty shape"


@rule("boundary-types")
def boundary_types(scene: Scene) -> Iterator[Finding]:
    """Inputs and outputs have a type that TensorRT passes in and out without a conversion."""
    allowed = ", ".join(d.name for d in _BOUNDARY)
    for value in (*scene.graph.inputs, *scene.graph.outputs):
        dtype = scene.types.get(value)
        if dtype is not None and dtype not in _BOUNDARY:
            remedy = "end it with DequantizeLinear" if value.is_graph_output() else "feed floats"
            if dtype == DataType.DOUBLE:
                remedy = "use FLOAT: TensorRT would clamp it silently"
            yield named(value), f"it is {dtype.name}, which is none of {allowed}", remedy


@rule("strong-typing")
def strong_typing(scene: Scene) -> Iterator[Finding]:
    """Every tensor's type follows from the graph, and no operator mixes types."""
    for node in scene.graph:
        if node.domain != "":
            continue
        for indices in operand_groups(node, scene.opset).values():
            found = {}
            for index in indices:
                value = node.inputs[index]
                if value is not None and value in scene.types:
                    found[scene.types[value]] = name_of(value)
            if len(found) > 1:
                listed = ", ".join(f"{name!r} is {dtype.name}" for dtype, name in found.items())
                yield node, f"mixes types: {listed}", "cast its inputs to one type"
        unknown = [o for o in node.outputs if o not in scene.types and (o.uses() or o.name)]
        if unknown and node.op_type in OPERATORS[scene.tensorrt]:
            yield node, f"the type of {name_of(unknown[0])!r} is unknown", "cast its inputs"


@rule("quantized-in-pairs")
def quantized_in_pairs(scene: Scene) -> Iterator[Finding]:
    """Integers appear only between QuantizeLinear and DequantizeLinear."""
    for node in scene.nodes("QuantizeLinear"):
        for use in node.outputs[0].uses():
            if use.node.op_type not in QUANTIZING:
                yield use.node, "reads a quantised tensor", "put DequantizeLinear in front of it"
        before = dequantized(node.inputs[0])
        if before is not None:
            yield node, f"quantises again what {label(before)} gives", "quantise every tensor once"
    for node in scene.nodes(*QUANTIZING):
        output = node.outputs[0]
        if not output.uses() and not output.is_graph_output():
            yield node, "nobody reads its result", "remove it"


@rule("tensor-names")
def tensor_names(scene: Scene) -> Iterator[Finding]:
    """Inputs and outputs have names that command lines and file names can carry."""
    for value in (*scene.graph.inputs, *scene.graph.outputs):
        name = name_of(value)
        if not name.isascii() or not name.isprintable() or " " in name:
            yield named(value), "its name is not plain", "use printable ASCII without spaces"
        elif len(name) > _MAX_NAME:
            yield (
                f"tensor {name[:20]!r}…",
                f"its name has {len(name)} characters",
                (f"use at most {_MAX_NAME}"),
            )

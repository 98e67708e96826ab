"""Rules for the parameters of QuantizeLinear and DequantizeLinear."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx_ir
from onnx_ir import DataType

from edgekit.model.nodes import const, find_input, get_int, is_op, shape_of
from edgekit.quantize.operands import PRODUCTS
from edgekit.targets.jetson.modules import FORMATS
from edgekit.targets.jetson.rule import QUANTIZING, Finding, Scene, rule, scale_of, stored

_FORMAT = {DataType.INT8: "int8", DataType.FLOAT8E4M3FN: "fp8", DataType.FLOAT4E2M1: "fp4"}
"""Quantised types of weights and activations with their name in the table of formats."""

_SCALES = (DataType.FLOAT, DataType.FLOAT16, DataType.BFLOAT16)

_BIAS = {"Conv": 2, "ConvTranspose": 2, "Gemm": 2}
"""Index of the bias."""


@rule("symmetric")
def symmetric(scene: Scene) -> Iterator[Finding]:
    """Zero points are 0, constant, and of the quantised type."""
    for node in scene.nodes(*QUANTIZING):
        value = find_input(node, 2)
        if value is None:
            if is_op(node, "QuantizeLinear") and not get_int(node, "output_dtype", 0):
                yield node, "has no zero point, so ONNX makes uint8 of it", "give an int8 zero"
            continue
        point, scale = const(value), scale_of(node)
        if point is None:
            yield node, "its zero point is computed", "store a constant 0"
            continue
        values = np.asarray(point, np.float64)
        if values.any():
            first = values.reshape(-1)[np.flatnonzero(values)[0]]
            yield (
                node,
                f"its zero point is {first:g}",
                "TensorRT quantises symmetrically: derive the model from the float one",
            )
        if scale is not None and scale.size != point.size:
            yield (
                node,
                f"has {point.size} zero points for {scale.size} scales",
                "give as many zero points as scales",
            )


@rule("scales")
def scales(scene: Scene) -> Iterator[Finding]:
    """Scales are positive finite constants of a float type that the other operand has."""
    for node in scene.nodes(*QUANTIZING):
        value, scale = find_input(node, 1), scale_of(node)
        if value is None or scale is None:
            yield node, "its scale is computed", "store it as a constant"
            continue
        if value.dtype not in _SCALES:
            names = ", ".join(d.name for d in _SCALES)
            yield node, f"its scale is {value.dtype}", f"use one of {names}"
            continue
        values = np.asarray(scale, np.float64)
        if not (np.isfinite(values).all() and (values > 0).all()):
            yield node, f"its scale holds {values.min():g}", "scales are positive and finite"
        source = find_input(node, 0)
        given = None if source is None else scene.types.get(source)
        if is_op(node, "QuantizeLinear") and given not in (None, value.dtype):
            assert given is not None
            yield (
                node,
                f"quantises {given.name} with a scale of {value.dtype.name}",
                "use one type for both",
            )


@rule("quantized-types")
def quantized_types(scene: Scene) -> Iterator[Finding]:
    """Quantised types are those of TensorRT, and the module computes in them."""
    for node in scene.nodes(*QUANTIZING):
        value = node.outputs[0] if is_op(node, "QuantizeLinear") else find_input(node, 0)
        dtype = None if value is None else scene.types.get(value)
        if dtype is None or _is_bias(node):
            continue
        if dtype == DataType.INT4:
            yield from _weight_only(node)
        elif dtype not in _FORMAT:
            wanted = ", ".join(d.name for d in (*_FORMAT, DataType.INT4))
            yield node, f"quantises to {dtype.name}", f"TensorRT has {wanted}; use INT8"
        elif scene.module is not None and scene.module.support(_FORMAT[dtype]) != "native":
            capability = ".".join(map(str, scene.module.compute_capability))
            needed = ".".join(map(str, FORMATS[_FORMAT[dtype]]))
            yield (
                node,
                f"{dtype.name} would be emulated on {scene.module.name}: its GPU has compute "
                f"capability {capability}, products in this format need {needed}",
                "use INT8",
            )


def _weight_only(node: onnx_ir.Node) -> Iterator[Finding]:
    """INT4 is for weights in blocks along one axis, two to a byte."""
    if stored(find_input(node, 0)) is None:
        yield node, "quantises an activation to INT4", "INT4 is for weights only; use INT8"
        return
    shape, scale = shape_of(find_input(node, 0)), scale_of(node)
    if shape is not None and shape and shape[-1] % 2:
        yield node, f"INT4 weights {list(shape)}", "the last axis must be even"
    if shape is not None and scale is not None:
        blocked = [i for i, n in enumerate(scale.shape) if i < len(shape) and n != shape[i]]
        if scale.ndim != len(shape) or len(blocked) > 1:
            yield node, "INT4 weights without blocks", "give scales per block along one axis"


@rule("float-bias")
def float_bias(scene: Scene) -> Iterator[Finding]:
    """Biases are float: TensorRT has no int32 form for them."""
    for node in scene.nodes(*QUANTIZING):
        if _is_bias(node):
            yield node, "quantises a bias", "leave biases float, without Q/DQ"


def _is_bias(node: onnx_ir.Node) -> bool:
    """Whether a Q or DQ node is for a bias: int32, or read as one."""
    source = find_input(node, 0)
    if is_op(node, "DequantizeLinear") and source is not None and source.dtype == DataType.INT32:
        return True
    uses = list(node.outputs[0].uses())
    if is_op(node, "QuantizeLinear"):
        uses = [v for u in uses if is_op(u.node, *QUANTIZING) for v in u.node.outputs[0].uses()]
    return bool(uses) and all(_BIAS.get(u.node.op_type) == u.idx for u in uses)


@rule("per-tensor-activations")
def per_tensor_activations(scene: Scene) -> Iterator[Finding]:
    """Activations have one scale."""
    for node in scene.nodes(*QUANTIZING):
        scale = scale_of(node)
        if scale is not None and scale.size > 1 and stored(find_input(node, 0)) is None:
            yield node, f"has {scale.size} scales for an activation", "give it a single scale"


@rule("weight-axis")
def weight_axis(scene: Scene) -> Iterator[Finding]:
    """Scales per channel lie on the axis of the output channels of a convolution or product."""
    for node in scene.nodes("DequantizeLinear"):
        scale, source = scale_of(node), find_input(node, 0)
        shape = shape_of(source)
        per_channel = scale is not None and scale.ndim == 1 and scale.size > 1
        if not per_channel or stored(source) is None or shape is None or _is_bias(node):
            continue
        assert scale is not None
        axis = get_int(node, "axis", 1)
        axis += len(shape) if axis < 0 else 0
        if not 0 <= axis < len(shape) or scale.size != shape[axis]:
            yield (
                node,
                f"{scale.size} scales do not fit axis {axis} of {list(shape)}",
                "give as many scales as channels",
            )
            continue
        for reader, index, moved in _readers(node.outputs[0], axis):
            wanted = _output_axis(reader, index, len(shape))
            if wanted is None:
                yield reader, "reads a tensor with scales per channel", "use a single scale"
            elif wanted != moved:
                yield (
                    node,
                    f"its scales lie on axis {axis}, which is not that of the outputs of "
                    f"{reader.op_type} node {reader.name!r}",
                    f"{reader.op_type} takes scales on axis {wanted}",
                )


def _readers(value: onnx_ir.Value, axis: int) -> Iterator[tuple[onnx_ir.Node, int, int]]:
    """Nodes that read a value, directly or transposed, with the index and where the axis lies."""
    for use in value.uses():
        if is_op(use.node, "Transpose"):
            order = use.node.attributes.get("perm")
            rank = len(shape_of(value) or ()) or axis + 1
            perm = list(order.as_ints()) if order is not None else list(range(rank))[::-1]
            yield from _readers(use.node.outputs[0], perm.index(axis))
        else:
            yield use.node, use.idx, axis


def _output_axis(node: onnx_ir.Node, index: int, rank: int) -> int | None:
    """The axis of the output channels in operand `index`, None for no weights of a product."""
    if not is_op(node, *PRODUCTS) or index != 1:
        return None
    if is_op(node, "Gemm"):
        return 0 if get_int(node, "transB", 0) else 1
    if is_op(node, "MatMul"):
        return rank - 1
    return 1 if is_op(node, "ConvTranspose") else 0

"""The operators that TensorRT's ONNX parser reads, with the restrictions that it documents.

Source: onnx-tensorrt, docs/operators.md of TensorRT 10.0 and 10.15.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

import onnx_ir

from edgekit.model.nodes import const_ints, find_input, find_ints, get_int, get_string, shape_of

_SINCE_10 = frozenset(
    (
        *("Abs", "Acos", "Acosh", "Add", "And", "ArgMax", "ArgMin", "Asin", "Asinh", "Atan"),
        *("Atanh", "AveragePool", "BatchNormalization", "Cast", "CastLike", "Ceil", "Celu"),
        *("Clip", "Concat", "Constant", "ConstantOfShape", "Conv", "ConvTranspose", "Cos", "Cosh"),
        *("CumSum", "DeformConv", "DepthToSpace", "DequantizeLinear", "Div", "Dropout", "Einsum"),
        *("Elu", "Equal", "Erf", "Exp", "Expand", "EyeLike", "Flatten", "Floor", "Gather"),
        *("GatherElements", "GatherND", "Gelu", "Gemm", "GlobalAveragePool", "GlobalLpPool"),
        *("GlobalMaxPool", "Greater", "GreaterOrEqual", "GridSample", "GroupNormalization", "GRU"),
        *("HardSigmoid", "HardSwish", "Hardmax", "Identity", "InstanceNormalization", "IsInf"),
        *("IsNaN", "LRN", "LSTM", "LayerNormalization", "LeakyRelu", "Less", "LessOrEqual"),
        *("Log", "LogSoftmax", "LpNormalization", "LpPool", "MatMul", "Max", "MaxPool", "Mean"),
        *("MeanVarianceNormalization", "Min", "Mish", "Mod", "Mul", "Neg", "NonMaxSuppression"),
        *("NonZero", "Not", "OneHot", "Or", "PRelu", "Pad", "Pow", "QuantizeLinear", "RNN"),
        *("RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Range"),
        *("Reciprocal", "ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMax"),
        *("ReduceMean", "ReduceMin", "ReduceProd", "ReduceSum", "ReduceSumSquare", "Relu"),
        *("Reshape", "Resize", "ReverseSequence", "RoiAlign", "Round", "Scatter"),
        *("ScatterElements", "ScatterND", "Selu", "Shape", "Shrink", "Sigmoid", "Sign", "Sin"),
        *("Sinh", "Size", "Slice", "Softmax", "Softplus", "Softsign", "SpaceToDepth", "Split"),
        *("Sqrt", "Squeeze", "Sub", "Sum", "Tan", "Tanh", "ThresholdedRelu", "Tile", "TopK"),
        *("Transpose", "Trilu", "Unsqueeze", "Upsample", "Where", "Xor"),
    )
)

_SINCE_11 = frozenset(
    (
        *("Attention", "BlackmanWindow", "HammingWindow", "HannWindow", "RMSNormalization"),
        *("RotaryEmbedding", "STFT", "TensorScatter"),
    )
)
"""Added during TensorRT 10: only from 11 on is every release sure to have them."""

OPERATORS: Mapping[int, frozenset[str]] = MappingProxyType(
    {10: _SINCE_10, 11: _SINCE_10 | _SINCE_11}
)
"""Operators of ONNX's own domain by TensorRT's major version.

If, Loop and Scan are not among them: the rules do not look into sub-graphs.
"""

OPSETS: Mapping[int, tuple[int, int]] = MappingProxyType({10: (9, 20), 11: (9, 25)})
"""Oldest and newest opset by TensorRT's major version; of 10 what its first release documents.

Source: operators.md as above; TensorRT documentation, "ONNX Opset Guide" of 11.
"""

Restriction = Callable[[onnx_ir.Node], str | None]
"""What is wrong with a node, None for nothing."""

_RESIZE = {
    "coordinate_transformation_mode": (
        "half_pixel",
        ("half_pixel", "pytorch_half_pixel", "tf_half_pixel_for_nn", "asymmetric", "align_corners"),
    ),
    "mode": ("nearest", ("nearest", "linear")),
    "nearest_mode": (
        "round_prefer_floor",
        ("floor", "ceil", "round_prefer_floor", "round_prefer_ceil"),
    ),
    "keep_aspect_ratio_policy": ("stretch", ("stretch",)),
}
"""Attributes with their default and what is supported."""

_MAX_TOP_K = 3840


def _pool(node: onnx_ir.Node) -> str | None:
    if any(d != 1 for d in find_ints(node, "dilations") or ()):
        return "dilations must be all ones"
    shape = shape_of(find_input(node, 0))
    if shape is not None and len(shape) not in (4, 5):
        return f"its input {list(shape)} must have 2 or 3 spatial axes"
    if len(node.outputs) > 1 and node.outputs[1].uses():
        return "the output Indices must not be used"
    return None


def _lstm(node: onnx_ir.Node) -> str | None:
    wrong = [name for name in ("input_forget", "layout") if get_int(node, name, 0)]
    return f"attribute {wrong[0]!r} must be 0" if wrong else None


def _first_output_only(node: onnx_ir.Node) -> str | None:
    used = any(o.uses() or o.is_graph_output() for o in node.outputs[1:])
    return "only its first output must be used" if used else None


def _resize(node: onnx_ir.Node) -> str | None:
    for name, (default, allowed) in _RESIZE.items():
        value = get_string(node, name, default)
        if value not in allowed:
            return f"{name} is {value!r}, must be one of {', '.join(allowed)}"
    return "antialias must be 0" if get_int(node, "antialias", 0) else None


def _top_k(node: onnx_ir.Node) -> str | None:
    if not get_int(node, "sorted", 1):
        return "sorted must be 1"
    count = const_ints(node, 1)
    if count is not None and count[0] >= _MAX_TOP_K:
        return f"K is {count[0]}, must be less than {_MAX_TOP_K}"
    return None


RESTRICTIONS: Mapping[str, Restriction] = MappingProxyType(
    {
        "AveragePool": _pool,
        "LSTM": _lstm,
        "LayerNormalization": _first_output_only,
        "LpPool": _pool,
        "MaxPool": _pool,
        "Resize": _resize,
        "TopK": _top_k,
    }
)
"""Documented restrictions by operator."""

"""Small quantised ONNX models with coded weights, made without torch."""

from __future__ import annotations

import numpy as np
import onnx_ir

from edgekit.formats import Coded, Format
from edgekit.model import Model, load
from edgekit.model.coded import replace_weights, weight_rows
from edgekit.model.domain import attach_functions
from edgekit.model.nodes import const
from edgekit.program.fixed_point import Requant
from tests.support.onnx_models import OnnxBuilder

SHAPES = {"dense": (3, 40), "conv1d": (1, 6, 12), "conv2d": (1, 6, 7, 5), "depthwise": (1, 6, 8, 7)}
"""Shape of the input, by kind of layer."""

KERNELS = {
    "dense": (9, 40),
    "conv1d": (8, 6, 5),
    "conv2d": (8, 3, 3, 3),
    "depthwise": (12, 1, 3, 5),
}
"""Shape of the weights in ONNX; the 2-d convolution has two groups."""

GROUPS = {"dense": 1, "conv1d": 1, "conv2d": 2, "depthwise": 6}


def layer(
    kind: str, *, bias: bool = True, y_scale: float = 0.25, opset: int = 21, seed: int = 0
) -> OnnxBuilder:
    """One quantised layer with float weights: input ``x``, node ``layer``, output ``y``."""
    rng = np.random.default_rng(seed)
    b = OnnxBuilder(opset)
    x = b.quantize(b.input("x", SHAPES[kind]), 0.03, 7)
    w = rng.normal(0, 0.3, KERNELS[kind]).astype(np.float32)
    operands = [x, b.constant(w, "w")]
    if bias:
        operands.append(b.constant(rng.normal(0, 1, w.shape[0]).astype(np.float32)))
    if kind == "dense":
        y = b.node("Gemm", *operands, name="layer", transB=1)
    else:
        y = b.node("Conv", *operands, name="layer", group=GROUPS[kind], pads=[1] * (2 * w.ndim - 4))
    b.output(b.quantize(b.node("Relu", y), y_scale, -100))
    return b


def with_coded(b: OnnxBuilder, fmt: Format, *names: str) -> tuple[Model, list[Coded]]:
    """The built model with the weights of some nodes coded, and what they became."""
    model = load(b.build())
    coded = []
    for name in names or ("layer",):
        node = node_called(model, name)
        weights = const(node.inputs[1])
        assert weights is not None
        coded.append(fmt.quantize(weight_rows(node, weights)))
        replace_weights(node, coded[-1], fmt)
    ir, _ = attach_functions(model.ir)
    return load(model.with_ir(ir).to_bytes()), coded


def node_called(model: Model, name: str) -> onnx_ir.Node:
    """A node by its name."""
    return next(node for node in model.ir.graph if node.name == name)


def samples(kind: str, count: int = 4, seed: int = 1) -> list[dict[str, np.ndarray]]:
    """Inputs that reach most of the quantised range."""
    rng = np.random.default_rng(seed)
    return [{"x": rng.normal(0, 1.5, SHAPES[kind]).astype(np.float32)} for _ in range(count)]


def differing_rate(requant: Requant) -> float:
    """Most results, as a share, that may be a step from those of one rounding of the real sum.

    Coded operators round once: they differ next to halves only, where float32 sums do not say which
    side is right.
    """
    assert requant.rounding in ("single", "float64")
    return 0.02

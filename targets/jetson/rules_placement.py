"""Rules for where Q/DQ stand: layers that look quantised must run in int8.

Source: TensorRT documentation, "Explicit Quantization", Q/DQ layer-placement recommendations.
"""

from __future__ import annotations

from collections.abc import Iterator

import onnx_ir

from edgekit.model.nodes import const, find_input, is_op, shape_of
from edgekit.quantize.operands import PRODUCTS
from edgekit.targets.jetson.rule import Finding, Scene, dequantized, rule, stored


@rule("both-operands")
def both_operands(scene: Scene) -> Iterator[Finding]:
    """A convolution or product with a quantised operand has both operands quantised."""
    for node in scene.nodes(*PRODUCTS):
        first, second = (_untransposed(find_input(node, index)) for index in (0, 1))
        quantised = [dequantized(value) is not None for value in (first, second)]
        if quantised == [True, False]:
            yield node, "its weights are float, so it runs in float", "quantise its weights"
        elif quantised == [False, True] and stored(second) is None:
            yield node, "one operand is float, so it runs in float", "quantise both operands"


def _untransposed(value: onnx_ir.Value | None) -> onnx_ir.Value | None:
    """What a Transpose gives, as exporters write it in front of a product, is what it reads."""
    producer = None if value is None else value.producer()
    if producer is None or not is_op(producer, "Transpose"):
        return value
    return find_input(producer, 0)


@rule("residual-addition")
def residual_addition(scene: Scene) -> Iterator[Finding]:
    """Both operands of an addition behind quantised layers are quantised, or fused into one.

    An operand that a quantised convolution or product gives, and nobody else reads, may stay
    float: TensorRT fuses the addition into it, if the other operand is quantised.
    """
    for node in scene.nodes("Add"):
        operands = [find_input(node, 0), find_input(node, 1)]
        if any(v is None or const(v) is not None or shape_of(v) == () for v in operands):
            continue
        bare = [v for v in operands if v is not None and dequantized(v) is None]
        fusing = [v for v in bare if _is_quantised_product(v.producer()) and len(v.uses()) == 1]
        if not bare or (len(bare) == 1 and fusing):
            continue
        if len(bare) == 1 or fusing:
            wrong = next((v for v in bare if v not in fusing), bare[-1])
            yield (
                node,
                f"its operand {wrong.name!r} is float, so the addition runs in float",
                "put QuantizeLinear and DequantizeLinear on both operands",
            )


def _is_quantised_product(node: onnx_ir.Node | None) -> bool:
    return (
        node is not None
        and is_op(node, *PRODUCTS)
        and all(dequantized(find_input(node, i)) is not None for i in (0, 1))
    )

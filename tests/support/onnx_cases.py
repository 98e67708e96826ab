"""Small float ONNX models, several per operator: one list for shapes, lowering and quantisation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from tests.support.onnx_models import OnnxBuilder


@dataclass(frozen=True)
class OnnxCase:
    """A model and how its inputs are drawn.

    Attributes:
        id: unique; the operator comes first.
        model: ONNX bytes.
        shapes: of the inputs, by name.
    """

    id: str
    model: bytes
    shapes: dict[str, tuple[int, ...]]

    def feeds(self, seed: int) -> dict[str, np.ndarray]:
        """Standard normal inputs."""
        rng = np.random.default_rng(seed)
        return {n: rng.standard_normal(s).astype(np.float32) for n, s in self.shapes.items()}


class _Cases:
    def __init__(self) -> None:
        self.cases: list[OnnxCase] = []
        self.rng = np.random.default_rng(20)

    def weights(self, *shape: int) -> np.ndarray:
        return (self.rng.standard_normal(shape) * 0.5).astype(np.float32)

    def add(
        self,
        id_: str,
        shapes: dict[str, tuple[int, ...]],
        body: Callable[[OnnxBuilder, list[str]], str | tuple[str, str]],
        opset: int = 21,
    ) -> None:
        builder = OnnxBuilder(opset)
        inputs = [builder.input(name, shape) for name, shape in shapes.items()]
        result = body(builder, inputs)
        if isinstance(result, tuple):
            builder.output(*result)
        else:
            builder.output(result)
        self.cases.append(OnnxCase(id_, builder.build(), shapes))


IMAGE = (1, 6, 7, 9)
SIGNAL = (1, 6, 11)


def float_cases() -> list[OnnxCase]:
    """Every operator that is lowered, in the forms that exporters write."""
    t = _Cases()
    _convolutions(t)
    _linear(t)
    _elementwise(t)
    _activations(t)
    _pools(t)
    _movement(t)
    _recurrent(t)
    _layouts(t)
    ids = [c.id for c in t.cases]
    assert len(set(ids)) == len(ids)
    return t.cases


def _convolutions(t: _Cases) -> None:
    def conv(*weights: int, op: str = "Conv", bias: int = 0, **attributes: object) -> Callable:
        def body(b: OnnxBuilder, x: list[str]) -> str:
            rest = [b.constant(t.weights(*weights))]
            rest += [b.constant(t.weights(bias))] if bias else []
            return b.node(op, x[0], *rest, **attributes)

        return body

    forms = {
        "plain": conv(5, 6, 3, 3),
        "bias-pads": conv(5, 6, 3, 2, bias=5, pads=[1, 0, 2, 1]),
        "stride-same-upper": conv(4, 6, 3, 3, strides=[2, 3], auto_pad="SAME_UPPER"),
        "stride-same-lower": conv(4, 6, 2, 4, strides=[2, 2], auto_pad="SAME_LOWER"),
        "valid": conv(4, 6, 2, 2, auto_pad="VALID"),
        "dilation": conv(4, 6, 3, 2, dilations=[2, 3], pads=[2, 1, 2, 1]),
        "groups": conv(4, 3, 3, 3, group=2, bias=4),
        "depthwise": conv(6, 1, 3, 3, group=6, bias=6, pads=[1, 1, 1, 1]),
        "depthwise-multiplier": conv(12, 1, 2, 3, group=6),
        "pointwise": conv(3, 6, 1, 1),
        "whole": conv(3, 6, 7, 9),
    }
    for id_, body in forms.items():
        t.add(f"Conv-{id_}", {"x": IMAGE}, body)
    t.add("Conv-one-channel", {"x": (1, 1, 5, 5)}, conv(1, 1, 3, 3, bias=1))
    t.add("Conv-batch", {"x": (3, 2, 4, 5)}, conv(2, 2, 3, 3))
    forms = {
        "plain": conv(4, 6, 3, bias=4),
        "stride-pads": conv(4, 6, 3, strides=[2], pads=[2, 1]),
        "dilation": conv(4, 6, 3, dilations=[3]),
        "depthwise": conv(6, 1, 4, group=6, auto_pad="SAME_UPPER"),
    }
    for id_, body in forms.items():
        t.add(f"Conv-1d-{id_}", {"x": SIGNAL}, body)
    forms = {
        "plain": conv(6, 4, 3, 3, op="ConvTranspose", bias=4),
        "stride-pads": conv(
            6, 4, 3, 4, op="ConvTranspose", strides=[2, 3], pads=[1, 2, 0, 1], bias=4
        ),
        "output-padding": conv(
            6, 4, 3, 3, op="ConvTranspose", strides=[2, 2], output_padding=[1, 1]
        ),
        "groups": conv(6, 2, 2, 3, op="ConvTranspose", group=3, strides=[2, 1], bias=6),
        "dilation": conv(6, 4, 2, 2, op="ConvTranspose", dilations=[3, 2]),
        "output-shape": conv(6, 4, 3, 3, op="ConvTranspose", strides=[2, 2], output_shape=[14, 18]),
        "same": conv(6, 4, 3, 3, op="ConvTranspose", strides=[2, 2], auto_pad="SAME_UPPER"),
    }
    for id_, body in forms.items():
        t.add(f"ConvTranspose-{id_}", {"x": IMAGE}, body)
    t.add("ConvTranspose-1d", {"x": SIGNAL}, conv(6, 3, 4, op="ConvTranspose", strides=[2], bias=3))

    def clamped(op: str, *bounds: float | None) -> Callable:
        def body(b: OnnxBuilder, x: list[str]) -> str:
            y = b.node("Conv", x[0], b.constant(t.weights(4, 6, 3, 3)))
            return b.node(op, y, *("" if v is None else b.constant(np.float32(v)) for v in bounds))

        return body

    t.add("Conv-relu", {"x": IMAGE}, clamped("Relu"))
    t.add("Conv-relu6", {"x": IMAGE}, clamped("Clip", 0, 6))
    t.add("Conv-clip-below", {"x": IMAGE}, clamped("Clip", -0.7))
    t.add("Conv-clip-above", {"x": IMAGE}, clamped("Clip", None, 0.9))


def _linear(t: _Cases) -> None:
    def gemm(
        w: tuple[int, int], c: tuple[int, ...] | None = None, **attributes: object
    ) -> Callable:
        def body(b: OnnxBuilder, x: list[str]) -> str:
            rest = [b.constant(t.weights(*w))]
            rest += [] if c is None else [b.constant(t.weights(*c))]
            return b.node("Gemm", x[0], *rest, **attributes)

        return body

    t.add("Gemm-plain", {"x": (1, 7)}, gemm((7, 5)))
    t.add("Gemm-bias", {"x": (3, 7)}, gemm((5, 7), (5,), transB=1))
    t.add("Gemm-scaled", {"x": (2, 7)}, gemm((7, 5), (1, 5), alpha=0.5, beta=-2.0))
    t.add("Gemm-number", {"x": (2, 7)}, gemm((7, 5), (1,), beta=0.3))
    t.add("Gemm-trans-a", {"x": (7, 2)}, gemm((7, 5), transA=1))

    def matmul(*w: int, bias: int = 0, relu: bool = False) -> Callable:
        def body(b: OnnxBuilder, x: list[str]) -> str:
            y = b.node("MatMul", x[0], b.constant(t.weights(*w)))
            y = b.node("Add", b.constant(t.weights(bias)), y) if bias else y
            return b.node("Relu", y) if relu else y

        return body

    t.add("MatMul-constant", {"x": (1, 4, 7)}, matmul(7, 5))
    t.add("MatMul-bias", {"x": (2, 3, 4, 7)}, matmul(7, 5, bias=5, relu=True))
    t.add("MatMul-row", {"x": (7,)}, matmul(7, 5))
    t.add("MatMul-vector", {"x": (2, 4, 7)}, matmul(7))
    t.add("MatMul-stacked", {"x": (2, 4, 7)}, matmul(2, 7, 3))
    pair = {"a": (2, 1, 3, 4), "b": (5, 4, 6)}
    t.add("MatMul-computed", pair, lambda b, x: b.node("MatMul", *x))


def _elementwise(t: _Cases) -> None:
    def binary(op: str, *constant: int) -> Callable:
        def body(b: OnnxBuilder, x: list[str]) -> str:
            second = b.constant(t.weights(*constant) + 2) if len(x) == 1 else x[1]
            return b.node(op, x[0], second)

        return body

    for op in ("Add", "Sub", "Mul"):
        t.add(f"{op}-same", {"x": (1, 3, 4), "z": (1, 3, 4)}, binary(op))
        t.add(f"{op}-broadcast", {"x": (2, 1, 4), "z": (3, 1)}, binary(op))
        t.add(f"{op}-constant", {"x": (1, 3, 4)}, binary(op, 3, 1))
        t.add(f"{op}-wider", {"x": (4,), "z": (1, 3, 4)}, binary(op))
    t.add("Div-constant", {"x": (1, 3, 4)}, binary("Div", 4))
    t.add("Sub-from", {"x": (1, 3)}, lambda b, x: b.node("Sub", b.constant(np.float32(1)), x[0]))
    t.add("Add-relu", {"x": (2, 5), "z": (2, 5)}, lambda b, x: b.node("Relu", b.node("Add", *x)))

    def broadcast_image(b: OnnxBuilder, x: list[str]) -> str:
        # The squeeze-and-excite shape: [N,C,1,1] times [N,C,H,W], both behind convolutions.
        y = b.node("Conv", x[0], b.constant(t.weights(6, 6, 1, 1)))
        gate = b.node("Sigmoid", b.node("GlobalAveragePool", y))
        return b.node("Mul", y, gate)

    t.add("Mul-gate", {"x": IMAGE}, broadcast_image)


def _activations(t: _Cases) -> None:
    shape = {"x": (1, 3, 5)}
    for op in ("Relu", "HardSwish", "Sigmoid", "Tanh", "LeakyRelu"):
        t.add(op, shape, lambda b, x, op=op: b.node(op, x[0]))
    t.add("LeakyRelu-alpha", shape, lambda b, x: b.node("LeakyRelu", x[0], alpha=0.3))
    t.add("PRelu-one", shape, lambda b, x: b.node("PRelu", x[0], b.constant(np.float32([0.2]))))
    t.add("HardSigmoid", shape, lambda b, x: b.node("HardSigmoid", x[0], alpha=0.3, beta=0.4))
    t.add(
        "Clip-both",
        shape,
        lambda b, x: b.node(
            "Clip", x[0], b.constant(np.float32(-0.5)), b.constant(np.float32(1.25))
        ),
    )
    t.add("Clip-none", shape, lambda b, x: b.node("Clip", x[0]))
    t.add("Max-number", shape, lambda b, x: b.node("Max", x[0], b.constant(np.float32([0.1]))))
    t.add("Softmax-last", shape, lambda b, x: b.node("Softmax", x[0]))
    t.add("Softmax-middle", shape, lambda b, x: b.node("Softmax", x[0], axis=1))
    argmax = {"axis": 1, "keepdims": 0}
    t.add("ArgMax", shape, lambda b, x: (b.node("ArgMax", x[0], **argmax), "int64"))
    t.add("ArgMax-keep", shape, lambda b, x: (b.node("ArgMax", x[0], axis=-1), "int64"))

    def layer_norm(axis: int, parameters: int, *shape: int) -> Callable:
        def body(b: OnnxBuilder, x: list[str]) -> str:
            rest = [b.constant(t.weights(*shape)) for _ in range(parameters)]
            return b.node("LayerNormalization", x[0], *rest, axis=axis, epsilon=1e-3)

        return body

    t.add("LayerNormalization", {"x": (2, 3, 8)}, layer_norm(-1, 2, 8))
    t.add("LayerNormalization-axes", {"x": (2, 3, 4)}, layer_norm(1, 1, 3, 4))

    def batch_norm(b: OnnxBuilder, x: list[str]) -> str:
        rest = [t.weights(6), t.weights(6), t.weights(6), np.abs(t.weights(6)) + 0.3]
        return b.node("BatchNormalization", x[0], *(b.constant(v) for v in rest))

    t.add("BatchNormalization-alone", {"x": IMAGE}, batch_norm)


def _pools(t: _Cases) -> None:
    def pool(op: str, **attributes: object) -> Callable:
        return lambda b, x: b.node(op, x[0], **attributes)

    for op in ("MaxPool", "AveragePool"):
        t.add(f"{op}-plain", {"x": IMAGE}, pool(op, kernel_shape=[2, 3]))
        t.add(
            f"{op}-pads",
            {"x": IMAGE},
            pool(op, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 0, 1, 2]),
        )
        t.add(
            f"{op}-ceil",
            {"x": IMAGE},
            pool(op, kernel_shape=[2, 2], strides=[2, 2], ceil_mode=1),
        )
        t.add(
            f"{op}-same",
            {"x": IMAGE},
            pool(op, kernel_shape=[3, 3], strides=[2, 2], auto_pad="SAME_LOWER"),
        )
        t.add(f"{op}-1d", {"x": SIGNAL}, pool(op, kernel_shape=[3], strides=[2], pads=[1, 1]))
    t.add(
        "AveragePool-include",
        {"x": IMAGE},
        pool("AveragePool", kernel_shape=[3, 3], pads=[1, 1, 1, 1], count_include_pad=1),
    )
    for op in ("GlobalAveragePool", "GlobalMaxPool"):
        t.add(op, {"x": IMAGE}, pool(op))
        t.add(f"{op}-1d", {"x": SIGNAL}, pool(op))

    def mean(axes: list[int] | None, **attributes: object) -> Callable:
        def body(b: OnnxBuilder, x: list[str]) -> str:
            rest = [] if axes is None else [b.constant(np.array(axes, np.int64))]
            return b.node("ReduceMean", x[0], *rest, **attributes)

        return body

    t.add("ReduceMean-spatial", {"x": IMAGE}, mean([2, 3]))
    t.add("ReduceMean-drop", {"x": IMAGE}, mean([-1, 1], keepdims=0))
    t.add("ReduceMean-all", {"x": (2, 3, 4)}, mean(None, keepdims=0))


def _movement(t: _Cases) -> None:
    def last_row(b: OnnxBuilder, x: list[str]) -> str:
        return b.node("Gather", x[0], b.constant(np.int64(-1)), axis=2)

    t.add("Gather", {"x": IMAGE}, last_row)
    t.add(
        "Gather-rows",
        {"x": IMAGE},
        lambda b, x: b.node("Gather", x[0], b.constant(np.array([2, 3])), axis=2),
    )

    def ints(b: OnnxBuilder, *values: int) -> str:
        return b.constant(np.array(values, np.int64))

    cube = {"x": (2, 3, 4)}
    pair = {"a": (2, 3, 4), "b": (2, 5, 4)}
    t.add("Concat", pair, lambda b, x: b.node("Concat", *x, axis=1))
    t.add(
        "Concat-constant",
        cube,
        lambda b, x: b.node("Concat", x[0], b.constant(t.weights(2, 3, 2)), axis=-1),
    )
    t.add(
        "Split", cube, lambda b, x: b.node_all("Split", x[0], outputs=2, axis=2, num_outputs=2)[1]
    )
    t.add(
        "Split-sizes",
        cube,
        lambda b, x: b.node_all("Split", x[0], ints(b, 1, 2), outputs=2, axis=1)[1],
    )
    t.add(
        "Slice",
        cube,
        lambda b, x: b.node("Slice", x[0], ints(b, 1, -3), ints(b, 3, 99), ints(b, 1, 2)),
    )
    t.add(
        "Slice-steps",
        cube,
        lambda b, x: b.node(
            "Slice", x[0], ints(b, 9, 0), ints(b, -9, 4), ints(b, 1, -1), ints(b, -2, 3)
        ),
    )
    t.add("Pad", cube, lambda b, x: b.node("Pad", x[0], ints(b, 0, 1, 2, 1, 0, 3)))
    t.add(
        "Pad-axes",
        cube,
        lambda b, x: b.node("Pad", x[0], ints(b, 1, 2), b.constant(np.float32(0)), ints(b, -1)),
    )
    t.add("Reshape", cube, lambda b, x: b.node("Reshape", x[0], ints(b, 0, -1, 2)))
    t.add("Flatten", cube, lambda b, x: b.node("Flatten", x[0], axis=2))
    t.add("Squeeze", {"x": (1, 3, 1)}, lambda b, x: b.node("Squeeze", x[0], ints(b, -1)))
    t.add("Squeeze-all", {"x": (1, 3, 1)}, lambda b, x: b.node("Squeeze", x[0]))
    t.add("Unsqueeze", cube, lambda b, x: b.node("Unsqueeze", x[0], ints(b, 0, -1)))
    t.add("Transpose", cube, lambda b, x: b.node("Transpose", x[0], perm=[2, 0, 1]))
    t.add("Transpose-reverse", cube, lambda b, x: b.node("Transpose", x[0]))
    t.add("Identity", cube, lambda b, x: b.node("Identity", x[0]))
    t.add("Dropout", cube, lambda b, x: b.node("Dropout", b.node("Relu", x[0])))

    def resize(
        scales: tuple[float, ...] | None, sizes: tuple[int, ...], **more: object
    ) -> Callable:
        def body(b: OnnxBuilder, x: list[str]) -> str:
            given = "" if scales is None else b.constant(np.array(scales, np.float32))
            extents = ints(b, *sizes) if sizes else ""
            rest = ["", given, extents] if sizes else ["", given]
            return b.node("Resize", x[0], *rest, mode="nearest", **more)

        return body

    image = {"x": (1, 3, 4, 5)}
    floor = {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    t.add("Resize-double", image, resize((1, 1, 2, 2), ()))
    t.add("Resize-floor", image, resize((1, 1, 3, 1.5), (), **floor))
    t.add("Resize-sizes", image, resize(None, (1, 3, 7, 11), **floor))
    t.add("Resize-half-pixel", image, resize((1, 1, 3, 4), (), nearest_mode="round_prefer_ceil"))
    t.add(
        "Resize-corners",
        image,
        resize(
            None,
            (1, 3, 7, 9),
            coordinate_transformation_mode="align_corners",
            nearest_mode="round_prefer_ceil",
        ),
    )


def _recurrent(t: _Cases) -> None:
    def layer(op: str, *, directions: int = 1, **attributes: object) -> Callable:
        def body(b: OnnxBuilder, x: list[str]) -> str:
            rows = {"LSTM": 4, "GRU": 3}[op] * 6
            shapes = [(rows, 5), (rows, 6), (2 * rows,)]
            weights = [b.constant(t.weights(directions, *shape) * 0.5) for shape in shapes]
            y, *_ = b.node_all(op, x[0], *weights, outputs=2, hidden_size=6, **attributes)
            return y

        return body

    sequence = {"x": (4, 1, 5)}
    t.add("LSTM", sequence, layer("LSTM"))
    t.add("LSTM-reverse", sequence, layer("LSTM", direction="reverse"))
    t.add("LSTM-batch", {"x": (3, 2, 5)}, layer("LSTM"))
    t.add("GRU", sequence, layer("GRU"))
    t.add("GRU-after", sequence, layer("GRU", linear_before_reset=1))
    t.add("GRU-both", sequence, layer("GRU", directions=2, direction="bidirectional"))


def _layouts(t: _Cases) -> None:
    def conv(b: OnnxBuilder, x: str, channels: int = 6, outputs: int = 6) -> str:
        return b.node("Conv", x, b.constant(t.weights(outputs, channels, 1, 1)))

    def flatten_gemm(b: OnnxBuilder, x: list[str]) -> str:
        y = b.node("Flatten", b.node("Sigmoid", conv(b, x[0])))
        return b.node("Gemm", b.node("Relu", y), b.constant(t.weights(378, 4)))

    def reshape_back(b: OnnxBuilder, x: list[str]) -> str:
        y = b.node("Reshape", conv(b, x[0]), b.constant(np.array([1, 6, 63])))
        y = b.node("Reshape", y, b.constant(np.array([1, 2, 3, 7, 9])))
        y = b.node("Reshape", y, b.constant(np.array([1, 6, 7, 9])))
        return conv(b, y)

    def shuffle(b: OnnxBuilder, x: list[str]) -> str:
        # The channel shuffle of ShuffleNet.
        y = b.node("Reshape", conv(b, x[0]), b.constant(np.array([1, 2, 3, 7, 9])))
        y = b.node("Transpose", y, perm=[0, 2, 1, 3, 4])
        return conv(b, b.node("Reshape", y, b.constant(np.array([1, 6, 7, 9]))))

    def awkward_reshape(b: OnnxBuilder, x: list[str]) -> str:
        return b.node("Reshape", conv(b, x[0]), b.constant(np.array([9, 42])))

    def nhwc_source(b: OnnxBuilder, x: list[str]) -> str:
        y = conv(b, b.node("Transpose", x[0], perm=[0, 3, 1, 2]))
        return b.node("Transpose", y, perm=[0, 2, 3, 1])

    def attention(b: OnnxBuilder, x: list[str]) -> str:
        tokens = b.node("Reshape", conv(b, x[0]), b.constant(np.array([1, 6, 63])))
        tokens = b.node("Transpose", tokens, perm=[0, 2, 1])
        scores = b.node("MatMul", tokens, b.node("Transpose", tokens, perm=[0, 2, 1]))
        scores = b.node("Div", scores, b.constant(np.float32(6**0.5)))
        return b.node("MatMul", b.node("Softmax", scores), tokens)

    def two_layouts(b: OnnxBuilder, x: list[str]) -> str:
        return b.node("Add", conv(b, x[0]), b.constant(t.weights(6, 7, 9)))

    def axis_operators(b: OnnxBuilder, x: list[str]) -> str:
        y = conv(b, x[0])
        one, two = b.node_all("Split", y, outputs=2, axis=1, num_outputs=2)
        y = b.node("Concat", two, b.node("Relu", one), axis=1)
        y = b.node("Slice", y, *(b.constant(np.array([v])) for v in (1, 6, 2)))
        y = b.node("Pad", y, b.constant(np.array([0, 1, 0, 0, 0, 0, 0, 2])))
        return b.node("Softmax", y, axis=1)

    def mean_gemm(b: OnnxBuilder, x: list[str]) -> str:
        y = b.node("ReduceMean", conv(b, x[0]), b.constant(np.array([2, 3])), keepdims=0)
        return b.node("Gemm", y, b.constant(t.weights(6, 3)))

    def conv1d_chain(b: OnnxBuilder, x: list[str]) -> str:
        y = b.node("Conv", x[0], b.constant(t.weights(4, 6, 3)))
        y = b.node("MaxPool", b.node("Relu", y), kernel_shape=[2], strides=[2])
        y = b.node("Conv", y, b.constant(t.weights(5, 4, 2)))
        return b.node("Gemm", b.node("Flatten", y), b.constant(t.weights(15, 2)))

    def argmax_channels(b: OnnxBuilder, x: list[str]) -> tuple[str, str]:
        return b.node("ArgMax", conv(b, x[0]), axis=1), "int64"

    for body in (
        flatten_gemm,
        reshape_back,
        shuffle,
        awkward_reshape,
        attention,
        two_layouts,
        axis_operators,
        mean_gemm,
        argmax_channels,
    ):
        t.add(f"layout-{body.__name__}", {"x": IMAGE}, body)
    t.add("layout-nhwc-source", {"x": (1, 7, 9, 6)}, nhwc_source)
    t.add("layout-conv1d-chain", {"x": SIGNAL}, conv1d_chain)

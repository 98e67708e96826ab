"""Random small int8 networks: branches, residual additions, concatenation, pooling."""

from __future__ import annotations

import numpy as np

from edgekit.program.ir import Boundary, DType, Operation, Program, Quantization, Tensor
from edgekit.program.operators.activation import Sigmoid
from edgekit.program.operators.base import Operator
from edgekit.program.operators.convolution import Conv2D, DepthwiseConv2D
from edgekit.program.operators.elementwise import Add, Mul
from edgekit.program.operators.linear import FullyConnected
from edgekit.program.operators.movement import Concat, Pad, Reshape, Transpose
from edgekit.program.operators.pooling import AvgPool2D, MaxPool2D
from edgekit.program.verify import verify

ACTIVATIONS = ("none", "relu", "relu6")


class NetworkBuilder:
    """Grows a Program from a seed; every choice is drawn from it."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.tensors: dict[str, Tensor] = {}
        self.operations: list[Operation] = []

    def quantization(self) -> Quantization:
        """A scale about 0.05 and any zero point, its ends included."""
        zero_point = int(self.rng.choice([-128, 127, int(self.rng.integers(-128, 128))]))
        return Quantization.per_tensor(float(self.rng.uniform(0.01, 0.1)), zero_point)

    def constant(self, values: np.ndarray) -> str:
        """A constant under a new name."""
        name = f"k{len(self.tensors)}"
        self.tensors[name] = Tensor.constant(name, values)
        return name

    def apply(self, operator: Operator, *inputs: str | None, q: Quantization) -> str:
        """Append an operation; returns its output."""
        types = tuple(None if n is None else self.tensors[n].type for n in inputs)
        (kind,) = operator.infer(*types)
        name = f"t{len(self.tensors)}"
        self.tensors[name] = Tensor(name, kind.shape, kind.dtype, q)
        label = f"{operator.name}_{len(self.operations)}"
        self.operations.append(Operation(label, operator, inputs, (name,)))
        return name

    def q(self, name: str) -> Quantization:
        """Quantisation of a tensor."""
        quantization = self.tensors[name].quantization
        assert quantization is not None
        return quantization

    def scales(self, count: int, axis: int = 0) -> Quantization:
        """Per-channel weight scales."""
        values = self.rng.uniform(0.002, 0.02, count)
        return Quantization(tuple(float(np.float32(v)) for v in values), (0,) * count, axis)

    def conv(self, x: str, same: bool = False) -> str:
        """Convolution; `same` keeps the shape."""
        shape, y = self.tensors[x].shape, self.quantization()
        outputs = shape[3] if same else int(self.rng.integers(1, 7))
        kernel = (3, 3) if same else (int(self.rng.integers(1, 3)), int(self.rng.integers(1, 4)))
        w = self.rng.integers(-127, 128, (outputs, *kernel, shape[3])).astype(np.int8)
        b = self.rng.integers(-5000, 5000, outputs).astype(np.int32)
        operator = Conv2D.quantized(
            x=self.q(x),
            w=self.scales(outputs),
            y=y,
            stride=(1, 1) if same else (1, int(self.rng.integers(1, 3))),
            padding=(1, 1, 1, 1) if same else (1, 1, 0, 1),
            activation=str(self.rng.choice(ACTIVATIONS)),
        )
        return self.apply(operator, x, self.constant(w), self.constant(b), q=y)

    def depthwise(self, x: str) -> str:
        """Depthwise convolution that keeps the extents."""
        channels, y = self.tensors[x].shape[3], self.quantization()
        w = self.rng.integers(-127, 128, (3, 3, channels)).astype(np.int8)
        b = self.rng.integers(-5000, 5000, channels).astype(np.int32)
        operator = DepthwiseConv2D.quantized(
            x=self.q(x), w=self.scales(channels, axis=2), y=y, padding=(1, 1, 1, 1)
        )
        return self.apply(operator, x, self.constant(w), self.constant(b), q=y)

    def residual(self, x: str) -> str:
        """Sum of x and conv(conv(x))."""
        branch = self.conv(self.conv(x, same=True), same=True)
        y = self.quantization()
        pair = (x, branch) if self.rng.random() < 0.5 else (branch, x)
        operator = Add.quantized(a=self.q(pair[0]), b=self.q(pair[1]), y=y)
        return self.apply(operator, *pair, q=y)

    def gate(self, x: str) -> str:
        """Product of x and sigmoid(x)."""
        y, s = self.quantization(), Quantization.per_tensor(1 / 256, -128)
        gate = self.apply(Sigmoid.quantized(x=self.q(x), y=s), x, q=s)
        return self.apply(Mul.quantized(a=self.q(x), b=s, y=y), x, gate, q=y)

    def pool(self, x: str) -> str:
        """Maximum or mean over 2×2."""
        kind = MaxPool2D if self.rng.random() < 0.5 else AvgPool2D
        operator = kind(kernel=(2, 2), stride=(1, 2), padding=(0, 0, 1, 1), clamp=(-128, 127))
        return self.apply(operator, x, q=self.q(x))

    def fork(self, x: str) -> str:
        """The input beside its maximum over 3×3, joined along the channels."""
        other = self.apply(
            MaxPool2D(kernel=(3, 3), stride=(1, 1), padding=(1, 1, 1, 1), clamp=(-128, 127)),
            x,
            q=self.q(x),
        )
        return self.apply(Concat(axis=3), x, other, q=self.q(x))

    def shuffle(self, x: str) -> str:
        """Height and width exchanged, one row of padding."""
        turned = self.apply(Transpose(permutation=(0, 2, 1, 3)), x, q=self.q(x))
        padding = ((0, 0), (1, 0), (0, 0), (0, 0))
        value = self.q(x).scalar_zero_point
        return self.apply(Pad(padding=padding, value=value), turned, q=self.q(x))

    def classify(self, x: str) -> str:
        """Flattened into 4 scores."""
        size = self.tensors[x].type.size
        flat = self.apply(Reshape(shape=(1, size)), x, q=self.q(x))
        w = self.rng.integers(-127, 128, (4, size)).astype(np.int8)
        y = self.quantization()
        operator = FullyConnected.quantized(x=self.q(x), w=Quantization.per_tensor(0.003), y=y)
        return self.apply(operator, flat, self.constant(w), None, q=y)


def random_network(seed: int, layers: int = 4, name: str = "net") -> Program:
    """A verified network of `layers` random blocks, with its last feature map as second output."""
    b = NetworkBuilder(seed)
    shape = (1, int(b.rng.integers(3, 8)), int(b.rng.integers(3, 8)), int(b.rng.integers(1, 5)))
    b.tensors["x"] = Tensor("x", shape, DType.INT8, b.quantization())
    blocks = (b.conv, b.depthwise, b.residual, b.gate, b.pool, b.fork, b.shuffle)
    current = "x"
    for _ in range(layers):
        current = blocks[int(b.rng.integers(len(blocks)))](current)
    scores = b.classify(current)
    outputs = [Boundary(scores, "scores", b.tensors[scores].shape)]
    if current != "x":
        outputs.append(Boundary(current, "features", b.tensors[current].shape))
    return verify(
        Program(name, b.tensors, tuple(b.operations), (Boundary("x", "x", shape),), tuple(outputs))
    )

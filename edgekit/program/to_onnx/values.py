"""Where the tensors of a Program are in the ONNX graph, in which form and order of axes."""

from __future__ import annotations

import numpy as np

from edgekit.program.ir import Array, DType, Program, Quantization, Tensor
from edgekit.program.problems import UnwritableError
from edgekit.program.to_onnx.graph import Graph

Order = tuple[int, ...]
"""Axes of the Program's tensor as the ONNX value has them: ``value = tensor.transpose(order)``."""

CHANNELS_FIRST: Order = (0, 3, 1, 2)
"""NCHW, of an NHWC image."""


def plain(rank: int) -> Order:
    """The Program's own order."""
    return tuple(range(rank))


def same_elements(shape: tuple[int, ...], order: Order) -> bool:
    """Whether transposing leaves the elements where they are, since only ones move.

    >>> same_elements((1, 1, 1, 64), CHANNELS_FIRST), same_elements((1, 2, 1, 64), CHANNELS_FIRST)
    (True, False)
    """
    moved = [axis for axis in order if shape[axis] != 1]
    return moved == sorted(moved)


class Values:
    """The ONNX values that stand for a Program's tensors.

    A tensor is there as it is (``raw``: integers or floats), and quantised ones also as the reals
    that they mean, behind DequantizeLinear. Forms and orders are made when they are asked for.

    Args:
        graph: where nodes go.
        program: whose tensors.
    """

    def __init__(self, graph: Graph, program: Program) -> None:
        self.graph = graph
        self._program = program
        self._raw: dict[tuple[str, Order], str] = {}
        self._real: dict[tuple[str, Order], str] = {}
        self._first: dict[str, Order] = {}

    def define(self, tensor: Tensor, value: str, order: Order) -> None:
        """Say that an ONNX value is a tensor in some order."""
        self._raw[tensor.name, order] = value
        self._first.setdefault(tensor.name, order)

    def rename(self, old: str, new: str) -> None:
        """Say that a value is called otherwise now."""
        for known in (self._raw, self._real):
            known.update({key: new for key, value in known.items() if value == old})

    def order(self, tensor: Tensor) -> Order | None:
        """The order that a computed tensor was defined in; None for constants."""
        return self._first.get(tensor.name)

    def known(self) -> dict[str, tuple[str, Order]]:
        """Value and order of every computed tensor, by the tensor's name."""
        return {name: (self._raw[name, order], order) for name, order in self._first.items()}

    def raw(self, tensor: Tensor, order: Order) -> str:
        """The tensor as it is, in an order."""
        key = (tensor.name, order)
        if key in self._raw:
            return self._raw[key]
        if tensor.data is not None:
            data = np.array(tensor.data.transpose(order), order="C")
            self._raw[key] = self.graph.constant(data, tensor.name)
            return self._raw[key]
        have = self._first[tensor.name]
        source = self._raw[tensor.name, have]
        permutation = tuple(have.index(axis) for axis in order)
        shape = tuple(tensor.shape[axis] for axis in have)
        if same_elements(shape, permutation):
            wanted = tuple(tensor.shape[axis] for axis in order)
            self._raw[key] = self.reshaped(source, wanted, tensor.name)
        else:
            self._raw[key] = self.graph.node(
                "Transpose", source, name=f"{tensor.name}.transposed", perm=permutation
            )
        return self._raw[key]

    def real(self, tensor: Tensor, order: Order) -> str:
        """The reals that a tensor means, in an order; a float tensor is raw."""
        if not tensor.dtype.is_integer:
            return self.raw(tensor, order)
        key = (tensor.name, order)
        if key not in self._real:
            raw = self.raw(tensor, order)
            q = per_tensor(tensor)
            self._real[key] = self.dequantized(raw, tensor.dtype, q, f"{tensor.name}.real")
        return self._real[key]

    def flat(self, tensor: Tensor) -> tuple[str, tuple[int, ...]]:
        """A raw value whose elements lie in the Program's row-major order, and its shape."""
        order = self._first.get(tensor.name)
        if order is None or not same_elements(tensor.shape, order):
            order = plain(len(tensor.shape))
        return self.raw(tensor, order), tuple(tensor.shape[axis] for axis in order)

    def reshaped(self, value: str, shape: tuple[int, ...], name: str) -> str:
        """A value under another shape."""
        wanted = self.integers(shape, f"{name}.shape")
        return self.graph.node("Reshape", value, wanted, name=f"{name}.reshaped")

    def integers(self, values: tuple[int, ...] | list[int], name: str) -> str:
        """An int64 initializer."""
        return self.graph.constant(np.array(values, np.int64), name)

    def dequantized(self, value: str, dtype: DType, quantization: Quantization, name: str) -> str:
        """DequantizeLinear of a value.

        Args:
            value: integers.
            dtype: their type.
            quantization: what they mean; along an axis of the value where it has one.
            name: wanted name of the result.
        """
        if dtype is DType.INT64:
            raise UnwritableError("DequantizeLinear takes no int64")
        parameters = self._parameters(quantization, dtype, name)
        axis = {} if quantization.axis is None else {"axis": quantization.axis}
        return self.graph.node("DequantizeLinear", value, *parameters, name=name, **axis)

    def quantized(self, value: str, dtype: DType, quantization: Quantization, name: str) -> str:
        """QuantizeLinear of reals; rounds halves to even and saturates."""
        if dtype not in (DType.INT8, DType.INT16):
            raise UnwritableError(f"QuantizeLinear gives no {dtype}")
        parameters = self._parameters(quantization, dtype, name)
        return self.graph.node("QuantizeLinear", value, *parameters, name=name)

    def _parameters(self, quantization: Quantization, dtype: DType, name: str) -> list[str]:
        """Initializers of scale and zero point; integers of 32 bits have no zero point."""
        scale = np.array(quantization.scale, np.float32)
        point: Array = np.array(quantization.zero_point, dtype.numpy)
        if quantization.axis is None:
            scale, point = scale[0], point[0]
        parameters = [self.graph.constant(np.asarray(scale), f"{name}.scale")]
        if dtype is DType.INT32:
            if any(quantization.zero_point):
                raise UnwritableError("DequantizeLinear takes no zero point for int32")
            return parameters
        return [*parameters, self.graph.constant(np.asarray(point), f"{name}.zero_point")]


def per_tensor(tensor: Tensor) -> Quantization:
    """What the integers of an activation mean: one scale, one zero point."""
    quantization = tensor.quantization
    if quantization is None:
        raise UnwritableError(f"{tensor.name!r} is {tensor.dtype} without scale and zero point")
    if quantization.axis is not None:
        raise UnwritableError(f"{tensor.name!r} has several scales, must have one")
    return quantization

"""Weights of a term of a current, as rows in the order in which a Program adds them up."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import onnx_ir
from numpy.typing import NDArray

from edgekit.errors import UnsupportedError
from edgekit.formats import ELEMENTS
from edgekit.model import geometry
from edgekit.model.geometry import Window, check
from edgekit.model.nodes import Array, get_input, get_int, is_op, label, shape_of
from edgekit.program.ir import DType
from edgekit.program.lowering import affine
from edgekit.program.lowering.arrangement import image_pair
from edgekit.program.lowering.lowerer import Lowerer
from edgekit.program.lowering.value import Weights
from edgekit.program.lowering.weighted import noted_rows, oriented, output_axis
from edgekit.program.operators.coding import Coding


@dataclass(frozen=True, eq=False)
class Rows:
    """Weights of a product or a pool.

    Attributes:
        data: float32 or int8: [O,K/groups], or [O,KH,KW,I/groups] where `window` is there.
        scale: float64[O], what an integer weight of 1 is worth; 1 for float32.
        element: name of the element that needs a coding; None for int8 and float32.
        groups: of inputs and outputs.
        window: of a convolution; None for a product, and for a convolution of one place.
    """

    data: Array
    scale: NDArray[np.float64]
    element: str | None = None
    groups: int = 1
    window: Window | None = None

    @property
    def coding(self) -> Coding | None:
        """Field of the Program's operators."""
        return None if self.element is None else Coding(self.element, 0, "none", DType.INT32)

    @property
    def kind(self) -> str:
        """Name of the weights' element in tables of kernels."""
        return self.element or self.data.dtype.name

    def fields(self) -> dict[str, Any]:
        """Fields of the Program's operators."""
        fields: dict[str, Any] = {"groups": self.groups, "coding": self.coding}
        if self.window is not None:
            window = self.window
            fields["stride"] = image_pair(window.stride, 1)
            fields["dilation"] = image_pair(window.dilation, 1)
            fields["padding"] = (*image_pair(window.before, 0), *image_pair(window.after, 0))
        return fields

    def range(self, lowest: int, highest: int) -> tuple[Array, Array]:
        """Smallest and largest total of each row, int64, where inputs are in a range with 0."""
        matrix = self.data.reshape(len(self.data), -1).astype(np.int64)
        positive, negative = np.maximum(matrix, 0).sum(axis=1), np.minimum(matrix, 0).sum(axis=1)
        return positive * lowest + negative * highest, positive * highest + negative * lowest

    def placed(self, rows: Array, columns: Array) -> Rows:
        """A product's weights with rows and columns in other orders.

        Groups that the orders tear apart become one, with weights of 0 between them, as int8 where
        the element has no 0.
        """
        data, groups = self.data, self.groups
        inner, outer = data.shape[1], len(data) // groups
        first, behind = np.arange(groups).repeat(inner), np.arange(groups).repeat(outer)
        if np.array_equal(columns // inner, first) and np.array_equal(rows // outer, behind):
            # Every group by itself.
            order = (columns % inner).reshape(groups, inner).repeat(outer, axis=0)
            element, data = self.element, np.take_along_axis(data, order, axis=1)[rows]
        else:
            has_zero = self.element is None or 0 in ELEMENTS[self.element].levels
            element = self.element if groups == 1 or has_zero else None
            data, groups = self._whole()[rows][:, columns], 1
        return replace(
            self,
            data=np.ascontiguousarray(data),
            scale=self.scale[rows],
            element=element,
            groups=groups,
        )

    def _whole(self) -> Array:
        """All groups as one [O,K]."""
        outputs, inner = self.data.shape
        whole = np.zeros((self.groups, outputs // self.groups, self.groups, inner), self.data.dtype)
        for group, part in enumerate(np.split(self.data, self.groups)):
            whole[group, :, group] = part
        return whole.reshape(outputs, -1)


def real_rows(low: Lowerer, node: onnx_ir.Node) -> Rows:
    """float32 weights of MatMul, Gemm or Conv."""
    weights = _weights(low, node)
    matrix = affine.real_data(_matrix(node, weights))
    if matrix.dtype != np.float32:
        raise UnsupportedError(f"{label(node)}: weights are {matrix.dtype.name}, must be float32")
    return _shaped(node, matrix, np.ones(len(matrix)), None)


def integer_rows(low: Lowerer, node: onnx_ir.Node) -> Rows:
    """Integer weights of MatMul, Gemm or Conv; those of an AveragePool are all 1.

    Raises:
        UnsupportedError: they have factors for groups, or zero points, or are real numbers.
    """
    if is_op(node, "AveragePool"):
        return _pool_rows(node)
    weights = _weights(low, node)
    if weights.blocks is not None:
        found = noted_rows(low, node, _matrix(node, weights))
        if found.factors is not None:
            raise UnsupportedError(
                f"{label(node)}: its {found.element} weights have factors for groups of "
                f"{found.group}; neurons take one scale per row"
            )
        scale = np.broadcast_to(np.array(found.scale.scale, np.float64), len(found.integers))
        return _shaped(node, found.integers, scale, found.element)
    quantization = weights.quantization
    if quantization is None:
        whole = whole_numbers(weights.data)
        if whole is None or weights.problem:
            problem = weights.problem or "its weights are float32"
            raise UnsupportedError(
                f"{label(node)}: {problem}; must be quantised, one scale per row"
            )
        matrix = _matrix(node, Weights(whole)).data
        return _shaped(node, matrix, np.ones(len(matrix)), None)
    if any(quantization.zero_point) or quantization.axis not in (None, output_axis(node)):
        raise UnsupportedError(
            f"{label(node)}: its weights have zero points or scales along another axis than its "
            "outputs; neurons take one scale per row and no zero points"
        )
    matrix = _matrix(node, weights).data
    scale = np.broadcast_to(np.array(quantization.scale, np.float64), len(matrix))
    return _shaped(node, matrix, scale, None)


def whole_numbers(weights: Array) -> Array | None:
    """float32 weights as int8 where they are integers, as those of a sum over a window are."""
    limits = np.iinfo(np.int8)
    inside = (weights >= limits.min) & (weights <= limits.max) & (weights == np.rint(weights))
    return weights.astype(np.int8) if inside.all() else None


def _weights(low: Lowerer, node: onnx_ir.Node) -> Weights:
    found = low.weights(node, get_input(node, 1), packed=True)
    assert found is not None, label(node)
    return found


def _matrix(node: onnx_ir.Node, weights: Weights) -> Weights:
    """[O,K] in the order of the sum: of a convolution channels last."""
    if not is_op(node, "Conv"):
        return oriented(weights, not (is_op(node, "Gemm") and get_int(node, "transB", 0)))

    def rows(data: Array) -> Array:
        return np.ascontiguousarray(np.moveaxis(data, 1, -1).reshape(data.shape[0], -1))

    if weights.blocks is not None:
        return weights.rearranged(rows)
    return weights.moved(rows(weights.data), axis=0)


def _shaped(
    node: onnx_ir.Node, matrix: Array, scale: NDArray[np.float64], element: str | None
) -> Rows:
    """The rows of a product, or of a convolution with its window."""
    if not is_op(node, "Conv"):
        return Rows(matrix, scale, element)
    groups = get_int(node, "group", 1)
    shape, source = shape_of(get_input(node, 1)), shape_of(get_input(node, 0))
    assert shape is not None
    assert source is not None
    kernel = geometry.conv_kernel(node, shape)
    window = geometry.window(node, source[2:], kernel)
    check(len(window.output) in (1, 2), node, "has more than two spatial axes")
    if {*source[2:], *kernel, *window.output} == {1}:
        # One place: a product of as many groups.
        return Rows(matrix, scale, element, groups)
    data = matrix.reshape(len(matrix), *image_pair(kernel, 1), -1)
    return Rows(data, scale, element, groups, window)


def _pool_rows(node: onnx_ir.Node) -> Rows:
    """A mean of windows as sums of each channel, with the share of one place as their scale."""
    window, channels = pool_window(node)
    data = np.ones((channels, *image_pair(window.kernel, 1), 1), np.int8)
    share = 1 / (data.size // channels)
    return Rows(data, np.full(channels, share), None, channels, window)


def pool_window(node: onnx_ir.Node) -> tuple[Window, int]:
    """The window of an AveragePool of spikes, and its channels.

    Raises:
        UnsupportedError: means that do not divide by every place of a window, or gaps in it.
    """
    source = shape_of(get_input(node, 0))
    assert source is not None
    window = geometry.window(node, source[2:], geometry.kernel_of(node, len(source) - 2))
    padded = any(window.padding) and get_int(node, "count_include_pad", 0) != 1
    if padded or any(window.overhang) or set(window.dilation) != {1}:
        raise UnsupportedError(
            f"{label(node)}: pools spikes in windows that do not all have the same number of "
            "places; count_include_pad = 1 without ceil_mode and dilations would do"
        )
    return window, source[1]

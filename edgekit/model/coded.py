"""Coded weights in a Model: their arrays, their nodes, and reading both back.

A coded weight is a node of the ``edgekit`` domain (:mod:`edgekit.model.domain`) with five constant
inputs, which gives real rows [R,K]. A row is one output channel in the order that kernels stream:
(KH, KW, I/groups) of a convolution, the columns of a matrix. Reshape and Transpose behind the node
bring the rows into ONNX's own shape.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir
from numpy.typing import NDArray

from edgekit.errors import InvalidDataError, InvalidModelError
from edgekit.formats import ELEMENTS, FACTORS, Coded, Element, FactorName, Format
from edgekit.model.domain import DEQUANTIZERS, DOMAIN, FUNCTIONS, NEURONS, VERSION
from edgekit.model.geometry import check
from edgekit.model.nodes import (
    Array,
    Shape,
    add_constant,
    const,
    find_input,
    get_input,
    get_int,
    get_string,
    graph_of,
    insert,
    is_op,
    label,
    name_of,
    shape_of,
    unique_name,
)

INPUTS = ("packed", "levels", "scale", "factor_codes", "factor_levels")
"""Names of the node's inputs, in order."""

_QUANTIZING = ("QuantizeLinear", "DequantizeLinear")
_QUANTIZERS = FUNCTIONS.keys() - set(NEURONS)


@dataclass(frozen=True, eq=False)
class CodedConstant:
    """What a dequantising node holds.

    Attributes:
        coded: integers [R,K], scales, factors.
        element: the number format of the integers.
        factors: kind of factors, ``none`` without.
        group: weights that share a factor; 0 without factors.
    """

    coded: Coded
    element: Element
    factors: FactorName
    group: int


def is_dequantizer(node: onnx_ir.Node | None) -> bool:
    """Whether a node gives coded weights as reals."""
    return node is not None and node.domain == DOMAIN and node.op_type in DEQUANTIZERS


def is_quantized(graph: onnx_ir.Graph) -> bool:
    """Whether any node quantises activations or holds quantised weights."""
    return any(
        is_op(node, *_QUANTIZING) or (node.domain == DOMAIN and node.op_type in _QUANTIZERS)
        for node in graph
    )


# Arrays


def coded_initializers(coded: Coded, fmt: Format) -> dict[str, Array]:
    """The arrays that a dequantising node, or the torch operator, takes.

    Args:
        coded: what the format's ``quantize`` gave.
        fmt: the weight format.

    Returns:
        By input name, in the order of :data:`INPUTS`.

    >>> fmt = Format.parse("int4")
    >>> coded = fmt.quantize(np.float32([[0.5, -3.5, 1.0]]))
    >>> {name: array.tolist() for name, array in coded_initializers(coded, fmt).items()
    ...     if name != "levels"}  # doctest: +NORMALIZE_WHITESPACE
    {'packed': [[145, 2]], 'scale': [0.5], 'factor_codes': [[0]], 'factor_levels': [1.0]}
    """
    return initializers(coded, fmt.element, kind_of_factors(coded, fmt))


def initializers(coded: Coded, element: Element, factors: FactorName) -> dict[str, Array]:
    """What :func:`coded_initializers` gives, without a format.

    Args:
        coded: integers, scales, factors.
        element: number format of the integers.
        factors: kind of factors.
    """
    kind, rows = FACTORS[factors], coded.integers.shape[0]
    numbers = np.ones((rows, 1), np.int32) if coded.factors is None else coded.factors
    return {
        "packed": element.pack(coded.integers),
        "levels": np.array(element.table),
        "scale": np.asarray(coded.scale, np.float32),
        "factor_codes": kind.codes(numbers),
        "factor_levels": np.array(kind.levels),
    }


def kind_of_factors(coded: Coded, fmt: Format) -> FactorName:
    """The kind of factors of weights that a format has made."""
    return "none" if coded.factors is None else fmt.factors


def coded_attributes(element: Element, factors: str, columns: int, group: int) -> dict[str, Any]:
    """The node's attributes.

    Args:
        element: number format of the weights.
        factors: kind of factors.
        columns: weights of a row.
        group: weights that share a factor, 0 without factors.

    >>> coded_attributes(ELEMENTS["ternary-p5"], "none", 10, 0)
    {'element': 'ternary-p5', 'factors': 'none', 'columns': 10, 'group': 10}
    """
    attributes: dict[str, Any] = {"element": element.name, "factors": factors}
    if element.packing == "bits":
        attributes["bits"] = element.bits
    return attributes | {"columns": columns, "group": min(group or columns, columns)}


def operator_of(element: Element) -> str:
    """The function that unpacks an element."""
    return "DequantizeTrits" if element.packing == "trits" else "DequantizeBits"


# Reading


def read_coded(node: onnx_ir.Node) -> CodedConstant:
    """Read a dequantising node, whose every part a file may have made up.

    Raises:
        InvalidModelError: says which part is not what the named element and factors demand.
    """
    element = _element(node)
    factors = get_string(node, "factors", "none")
    check(
        factors in FACTORS,
        node,
        f"factors {factors!r} are unknown, must be one of {', '.join(FACTORS)}",
    )
    columns, group = get_int(node, "columns", 0), get_int(node, "group", 0)
    check(
        columns >= 1 and 1 <= group <= columns,
        node,
        f"columns {columns} in groups of {group}, must be at least 1, a group at most a row",
    )
    check(
        factors != "none" or group == columns,
        node,
        f"groups of {group} without factors, must be the {columns} columns",
    )
    arrays = _arrays(node)
    rows = arrays["packed"].shape[0] if arrays["packed"].ndim else 0
    check(rows >= 1, node, "packed has no rows")
    _check_array(node, arrays, "packed", "uint8", (rows, element.row_bytes(columns)))
    for name, table in (("levels", element.table), ("factor_levels", FACTORS[factors].levels)):
        _check_array(node, arrays, name, "float32", table.shape)
        check(
            np.array_equal(arrays[name], table),
            node,
            f"{name} are not those of {element.name} weights with factors {factors!r}",
        )
    scale = arrays["scale"]
    _check_array(node, arrays, "scale", "float32", (rows,) if scale.shape != (1,) else (1,))
    check(
        bool(np.isfinite(scale).all() and (scale > 0).all()),
        node,
        "scales must be positive and finite",
    )
    _check_array(node, arrays, "factor_codes", "uint8", (rows, -(-columns // group)))
    integers, decoded = _unpacked(node, element, factors, columns, arrays)
    return CodedConstant(
        Coded(integers, scale, decoded),
        element,
        FACTORS[factors].name,
        0 if factors == "none" else group,
    )


def _element(node: onnx_ir.Node) -> Element:
    name = get_string(node, "element", "")
    check(
        name in ELEMENTS,
        node,
        f"element {name!r} is unknown, must be one of {', '.join(ELEMENTS)}",
    )
    element = ELEMENTS[name]
    check(
        node.op_type == operator_of(element),
        node,
        f"element {name} is unpacked by {operator_of(element)}",
    )
    if element.packing == "bits":
        bits = get_int(node, "bits", 0)
        check(bits == element.bits, node, f"bits is {bits}, element {name} has {element.bits}")
    return element


def _arrays(node: onnx_ir.Node) -> dict[str, Array]:
    check(
        len(node.inputs) == len(INPUTS),
        node,
        f"has {len(node.inputs)} inputs, must have {len(INPUTS)}",
    )
    arrays: dict[str, Array] = {}
    for index, name in enumerate(INPUTS):
        array = const(find_input(node, index))
        if array is None:
            raise InvalidModelError(f"{label(node)}: {name} must be a constant")
        arrays[name] = array
    return arrays


def _check_array(
    node: onnx_ir.Node, arrays: Mapping[str, Array], name: str, dtype: str, shape: Shape
) -> None:
    array = arrays[name]
    check(
        array.dtype == np.dtype(dtype) and array.shape == shape,
        node,
        f"{name} is {array.dtype.name}{list(array.shape)}, must be {dtype}{list(shape)}",
    )


def _unpacked(
    node: onnx_ir.Node, element: Element, factors: str, columns: int, arrays: Mapping[str, Array]
) -> tuple[Array, NDArray[np.int32] | None]:
    """Integers [R,K] and factors [R,G], None without."""
    try:
        integers = element.unpack(arrays["packed"], columns)
        decoded = FACTORS[factors].decode(arrays["factor_codes"])
    except InvalidDataError as error:
        raise InvalidModelError(f"{label(node)}: {error}") from error
    return integers, None if factors == "none" else decoded


# Writing


def weight_rows(node: onnx_ir.Node, weights: Array) -> Array:
    """A weight of Conv, Gemm or MatMul as rows [R,K] in the order of coded weights.

    Args:
        node: whose second input the weights are.
        weights: [O,I/groups,KH,KW] or [O,I/groups,K] of Conv, a matrix of the others.

    Raises:
        InvalidModelError: the weights' rank does not fit the operator.

    >>> node = onnx_ir.node("MatMul", [])
    >>> weight_rows(node, np.arange(6).reshape(3, 2)).tolist()
    [[0, 2, 4], [1, 3, 5]]
    """
    moved = weights.transpose(_rows_first(node, weights.ndim))
    return np.ascontiguousarray(moved.reshape(moved.shape[0], -1))


def replace_weights(node: onnx_ir.Node, coded: Coded, fmt: Format) -> None:
    """Let a node read coded weights in place of its constant ones.

    The graph gets the dequantising node and what brings its rows into the weights' shape; the
    caller attaches the functions (:func:`edgekit.model.domain.attach_functions`).

    Args:
        node: Conv, Gemm or MatMul whose second input is constant.
        coded: what the format made of :func:`weight_rows`.
        fmt: the weight format.

    Raises:
        InvalidModelError: the coded rows do not fit the weights' shape.
    """
    old = get_input(node, 1)
    shape = shape_of(old)
    assert shape is not None
    order = _rows_first(node, len(shape))
    moved = tuple(shape[axis] for axis in order)
    check(
        coded.integers.shape == (moved[0], math.prod(moved[1:])),
        node,
        f"coded rows {list(coded.integers.shape)} do not fit weights {list(shape)}",
    )
    value = insert_coded(node, coded, fmt, name=name_of(old))
    graph = graph_of(node)
    if len(moved) > 2:
        target = add_constant(graph, f"{name_of(old)}.shape", np.array(moved, np.int64))
        value = insert(node, "Reshape", [value, target], name=f"{name_of(old)}.kernel")
    if order != tuple(range(len(order))):
        perm = [int(axis) for axis in np.argsort(order)]
        value = insert(node, "Transpose", [value], {"perm": perm}, name=f"{name_of(old)}.moved")
    value.shape, value.type = onnx_ir.Shape(shape), onnx_ir.TensorType(onnx_ir.DataType.FLOAT)
    node.replace_input_with(1, value)


def insert_coded(anchor: onnx_ir.Node, coded: Coded, fmt: Format, *, name: str) -> onnx_ir.Value:
    """Insert a dequantising node before `anchor`; returns its rows, float32[R,K].

    Args:
        anchor: the reader.
        coded: integers, scales, factors.
        fmt: the weight format.
        name: what the node and its constants are named after.
    """
    graph = graph_of(anchor)
    inputs = [
        add_constant(graph, f"{name}.{part}", array)
        for part, array in coded_initializers(coded, fmt).items()
    ]
    columns = coded.integers.shape[1]
    group = 0 if coded.factors is None else fmt.group
    factors = kind_of_factors(coded, fmt)
    attributes = coded_attributes(fmt.element, factors, columns, group)
    free = unique_name(graph, f"{name}.dequantized")
    rows = onnx_ir.Value(
        name=free,
        shape=onnx_ir.Shape(coded.integers.shape),
        type=onnx_ir.TensorType(onnx_ir.DataType.FLOAT),
    )
    node = onnx_ir.node(
        operator_of(fmt.element),
        inputs,
        attributes,
        domain=DOMAIN,
        outputs=[rows],
        name=free,
    )
    graph.insert_before(anchor, node)
    graph.opset_imports[DOMAIN] = VERSION
    return rows


def _rows_first(node: onnx_ir.Node, rank: int) -> Shape:
    """Axes of the weights in the order of coded rows."""
    if is_op(node, "Conv"):
        check(rank >= 3, node, f"its weights have {rank} axes, must have at least 3")
        return (0, *range(2, rank), 1)
    check(rank == 2, node, f"its weights have {rank} axes, must have 2")
    return (0, 1) if is_op(node, "Gemm") and get_int(node, "transB", 0) else (1, 0)

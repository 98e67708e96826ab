"""From a Program to an ONNX model."""

from __future__ import annotations

import numpy as np

from edgekit.program.ir import Boundary, Program, Tensor
from edgekit.program.problems import UnwritableError, named, refuse, require_size, unknown
from edgekit.program.to_onnx.graph import Graph
from edgekit.program.to_onnx.node import Node
from edgekit.program.to_onnx.registry import WRITERS
from edgekit.program.to_onnx.scales import require_scales
from edgekit.program.to_onnx.values import Order, Values, plain

TARGET = "ONNX"
"""How messages call the format."""

INT8_ENTRY = "session.qdqisint8allowed"
"""Entry of ONNX Runtime's session configuration by which x86 too gets integer kernels for int8; it
else turns most tensors into uint8 and leaves nodes beside inputs, outputs and branches in float."""


def to_onnx(program: Program) -> bytes:
    """Write a Program as an ONNX model of standard operators, opset 21.

    Float Programs become float operators. In quantised ones every operator computes on reals
    between DequantizeLinear and QuantizeLinear with the tensors' scales and zero points; ONNX
    Runtime replaces such groups by its integer kernels, on ARM without being asked, on x86 where
    the session's entry :data:`INT8_ENTRY` is "1". These requantise in float32 and round halves to
    even, so that single steps differ from the Program's results.

    Inputs and outputs have the names, shapes and layout of the source model
    (:class:`~edgekit.program.ir.Boundary`), and the Program's dtypes: a quantised input takes the
    same integers as the Program. Images are NCHW inside; where a boundary has another layout, a
    Transpose follows it.

    Args:
        program: a verified Program without state, residual additions not fused.

    Returns:
        A serialised ``ModelProto``; the same Program and version of edgekit give the same bytes.

    Raises:
        UnsupportedError: lists the operations that ONNX cannot say, each with the reason.
    """
    return written(program)[0]


def written(program: Program) -> tuple[bytes, dict[str, tuple[str, Order]]]:
    """The model of :func:`to_onnx`, and where the Program's tensors are in it.

    Returns:
        The model; by tensor the name of its ONNX value and the order of axes,
        ``value = tensor.transpose(order)``.
    """
    if program.state:
        refuse(program, TARGET, [f"state {s.read!r}: models here have none" for s in program.state])
    require_size(program, TARGET)
    both = {b.name for b in program.inputs} & {b.name for b in program.outputs}
    if both:
        refuse(program, TARGET, [f"{n!r} is an input and an output" for n in sorted(both)])
    graph = Graph([b.name for b in (*program.inputs, *program.outputs)])
    values = Values(graph, program)
    for boundary in program.inputs:
        _input(values, boundary, program.tensors[boundary.tensor])
    problems = []
    for operation in program.operations:
        writer = WRITERS.get(type(operation.operator))
        node = Node(program, operation, values)
        try:
            if writer is None:
                raise unknown(WRITERS)
            writer(node)
            require_scales(node)
        except UnwritableError as error:
            problems.append(named(operation, error))
            # What follows is looked at all the same.
            for tensor in node.outputs:
                values.define(tensor, tensor.name, plain(len(tensor.shape)))
    refuse(program, TARGET, problems)
    for boundary in program.outputs:
        _output(values, boundary, program.tensors[boundary.tensor])
    return graph.to_bytes(program.name), values.known()


def _source_order(boundary: Boundary, tensor: Tensor) -> Order | None:
    """The order in which the source has the tensor's axes, None where it has others."""
    permutation = boundary.permutation or plain(len(boundary.source_shape))
    if tuple(boundary.source_shape[axis] for axis in permutation) != tensor.shape:
        return None
    return tuple(int(axis) for axis in np.argsort(permutation))


def _input(values: Values, boundary: Boundary, tensor: Tensor) -> None:
    """Declare an input; in another shape than the tensor's it is transposed and reshaped."""
    value = values.graph.input(boundary.name, tensor.dtype, boundary.source_shape)
    order = _source_order(boundary, tensor)
    if order is None:
        if boundary.permutation is not None:
            value = values.graph.node(
                "Transpose", value, name=f"{tensor.name}.transposed", perm=boundary.permutation
            )
        value = values.reshaped(value, tensor.shape, tensor.name)
        order = plain(len(tensor.shape))
    values.define(tensor, value, order)


def _output(values: Values, boundary: Boundary, tensor: Tensor) -> None:
    """Declare an output; the inverse of :func:`_input`."""
    order = _source_order(boundary, tensor)
    if order is not None:
        value = values.raw(tensor, order)
    else:
        shape = tuple(
            boundary.source_shape[axis]
            for axis in boundary.permutation or plain(len(boundary.source_shape))
        )
        value = values.reshaped(values.flat(tensor)[0], shape, tensor.name)
        if boundary.permutation is not None:
            inverse = [int(axis) for axis in np.argsort(boundary.permutation)]
            value = values.graph.node(
                "Transpose", value, name=f"{tensor.name}.transposed", perm=inverse
            )
    name = values.graph.output(boundary.name, value, tensor.dtype, boundary.source_shape)
    values.rename(value, name)

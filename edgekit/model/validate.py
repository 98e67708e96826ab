"""Structural checks on an untrusted ``ModelProto``.

1. Text is text, and there is a graph with nodes' inputs all defined, values defined once, outputs
   defined. So are the bodies of local functions, in order.
2. The standard opset is imported in a supported version.
3. Inputs are dense tensors.
4. Every stored tensor holds exactly the elements that its shape declares.
5. No stored number is NaN; infinity only as a bound, a padding value, or the threshold of neurons
   that never spike.

The rules hold for the main graph and for the bodies of local functions. Nodes with sub-graphs are
refused later, as unsupported operators.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import onnx
import onnx_ir
from google.protobuf.descriptor import FieldDescriptor  # type: ignore[import-untyped]
from google.protobuf.message import Message  # type: ignore[import-untyped]

from edgekit.errors import InvalidModelError, UnsupportedError
from edgekit.model.domain import NEURONS
from edgekit.model.model import MAX_OPSET, MIN_OPSET
from edgekit.model.third_party import third_party

_MAX_EXPANDED_NODES = 100_000
"""Most nodes that a model may have with its local functions written out."""

_TYPED_FIELDS = ("float_data", "int32_data", "int64_data", "double_data", "uint64_data")

_INFINITY_ALLOWED = frozenset({"Clip", "Pad", "Max", "Min", "Where", *NEURONS})


def check_structure(proto: onnx.ModelProto, where: str) -> None:
    """Rules 1 to 3.

    Raises:
        InvalidModelError: the graph is malformed.
        UnsupportedError: the opset is too old or too new.
    """
    _check_text(proto, where)
    if not proto.HasField("graph") or not proto.graph.output:
        raise InvalidModelError(f"{where} is no ONNX model: it has no graph with an output")
    _check_opset(proto, where)
    _check_graph(proto.graph, where)
    _check_arity(proto.graph.node, proto, where)
    for function in proto.functions:
        _check_function(function, f"{where}: function {function.name!r}")
        _check_arity(function.node, proto, f"{where}: function {function.name!r}")
    _check_expansion(proto, where)
    for info in proto.graph.input:
        if info.type.WhichOneof("value") != "tensor_type":
            raise InvalidModelError(f"{where}: input {info.name!r} is no dense tensor")


def _check_text(proto: onnx.ModelProto, where: str) -> None:
    """Strings are UTF-8; the protobuf library gives others as bytes, without a word."""
    pending: list[Message] = [proto]
    while pending:
        for declared, value in pending.pop().ListFields():
            items = [value] if isinstance(value, (Message, str, bytes)) else value
            if declared.type == FieldDescriptor.TYPE_MESSAGE:
                pending.extend(items)
            elif declared.type == FieldDescriptor.TYPE_STRING:
                for item in items:
                    if not isinstance(item, str):
                        raise InvalidModelError(
                            f"{where} is no valid ONNX model: {declared.full_name} is {item!r}, "
                            "must be UTF-8 text"
                        )


def _check_opset(proto: onnx.ModelProto, where: str) -> None:
    versions = [o.version for o in proto.opset_import if o.domain in ("", "ai.onnx")]
    if not versions:
        raise InvalidModelError(f"{where} imports no version of ONNX's standard operators")
    for version in versions:
        if not MIN_OPSET <= version <= MAX_OPSET:
            raise UnsupportedError(
                f"{where} uses opset {version}, supported: {MIN_OPSET} to {MAX_OPSET}"
            )


def _check_graph(graph: onnx.GraphProto, where: str) -> None:
    fed = [info.name for info in graph.input]
    stored = [tensor.name for tensor in graph.initializer]
    _check_given("input", fed, where)
    _check_given("initializer", stored, where)
    if graph.sparse_initializer:
        raise UnsupportedError(f"{where}: sparse initializers are not supported; store them dense")
    given = {*fed, *stored}
    known = given | _computed(graph.node, given, where)
    for node in graph.node:
        _check_inputs(node, known, where)
    _check_outputs([info.name for info in graph.output], known, where)


def _check_function(function: onnx.FunctionProto, where: str) -> None:
    """Like a graph, but every node must come after those that it reads."""
    given = set(function.input)
    _check_given("input", function.input, where)
    _computed(function.node, given, where)
    for node in function.node:
        _check_inputs(node, given, where)
        given.update(node.output)
    _check_outputs(function.output, given, where)


def _check_given(kind: str, names: Sequence[str], where: str) -> None:
    if "" in names:
        raise InvalidModelError(f"{where}: an {kind} has no name")
    for name, count in Counter(names).items():
        if count > 1:
            raise InvalidModelError(f"{where}: two {kind}s are called {name!r}")


def _computed(nodes: Iterable[onnx.NodeProto], given: set[str], where: str) -> set[str]:
    """Names of what the nodes compute, each of which must be new."""
    computed: set[str] = set()
    for node in nodes:
        for name in node.output:
            if name and (name in computed or name in given):
                raise InvalidModelError(f"{where}: value {name!r} is defined twice")
            computed.add(name)
        if not any(node.output):
            raise InvalidModelError(f"{where}: {node.op_type} node {node.name!r} has no output")
    return computed


def _check_inputs(node: onnx.NodeProto, known: set[str], where: str) -> None:
    for name in node.input:
        if name and name not in known:
            raise InvalidModelError(
                f"{where}: {node.op_type} node {node.name!r} reads {name!r}, which nothing defines"
            )


def _check_outputs(outputs: Sequence[str], known: set[str], where: str) -> None:
    for name in outputs:
        if not name or name not in known:
            raise InvalidModelError(f"{where}: output {name!r} is not computed")
    if len(set(outputs)) != len(outputs):
        raise InvalidModelError(f"{where}: an output is listed twice")


def _check_arity(nodes: Iterable[onnx.NodeProto], proto: onnx.ModelProto, where: str) -> None:
    """Nodes have as many inputs and outputs as their operator, or local function, allows."""
    version = max(o.version for o in proto.opset_import if o.domain in ("", "ai.onnx"))
    functions = {(f.domain, f.name, f.overload): f for f in proto.functions}
    for node in nodes:
        function = functions.get((node.domain, node.op_type, node.overload))
        if function is not None:
            inputs, outputs = (0, len(function.input)), (len(function.output),) * 2
        elif node.domain in ("", "ai.onnx"):
            try:
                schema = onnx.defs.get_schema(node.op_type, version)
            except onnx.defs.SchemaError:
                continue  # No such operator: reported with all others that are not supported.
            inputs = schema.min_input, schema.max_input
            outputs = schema.min_output, schema.max_output
        else:
            continue
        for kind, names, (low, high) in (
            ("inputs", node.input, inputs),
            ("outputs", node.output, outputs),
        ):
            if not low <= len(names) <= high:
                raise InvalidModelError(
                    f"{where}: {node.op_type} node {node.name!r} has {len(names)} {kind}, "
                    f"must have {low if low == high else f'{low} to {high}'}"
                )


def _check_expansion(proto: onnx.ModelProto, where: str) -> None:
    """Local functions must not recurse, nor blow the graph up when they are written out."""
    functions = {(f.domain, f.name, f.overload): f for f in proto.functions}
    sizes: dict[tuple[str, str, str], int] = {}
    pending: set[tuple[str, str, str]] = set()

    def size(nodes: Iterator[onnx.NodeProto], depth: int) -> int:
        if depth > 100:
            raise InvalidModelError(f"{where}: local functions are nested more than 100 deep")
        total = 0
        for node in nodes:
            key = (node.domain, node.op_type, node.overload)
            if key not in functions:
                total += 1
                continue
            if key not in sizes:
                if key in pending:
                    raise InvalidModelError(f"{where}: local function {node.op_type!r} recurses")
                pending.add(key)
                sizes[key] = size(iter(functions[key].node), depth + 1)
            total += sizes[key]
        return total

    total = size(iter(proto.graph.node), 0)
    if total > _MAX_EXPANDED_NODES:
        raise UnsupportedError(
            f"{where} has {total} nodes with its functions written out, "
            f"at most {_MAX_EXPANDED_NODES} are supported"
        )


def stored_tensors(proto: onnx.ModelProto) -> Iterator[tuple[str, onnx.TensorProto]]:
    """Every stored tensor with what messages call it: initializers and tensor attributes."""
    for tensor in proto.graph.initializer:
        yield f"initializer {tensor.name!r}", tensor
    for what, attribute in _attributes(proto):
        if attribute.type == onnx.AttributeProto.TENSOR:
            yield what, attribute.t


def _attributes(proto: onnx.ModelProto) -> Iterator[tuple[str, onnx.AttributeProto]]:
    """Every attribute with what messages call it, in the graph and in local functions.

    Among them are the defaults that functions give to attributes of their own.
    """
    bodies = [("", proto.graph.node)]
    for function in proto.functions:
        owner = f"function {function.name!r}"
        for attribute in function.attribute_proto:
            yield f"attribute {attribute.name!r} of {owner}", attribute
        bodies.append((f" in {owner}", function.node))
    for place, body in bodies:
        for node in body:
            for attribute in node.attribute:
                name = node.name or node.op_type
                yield f"attribute {attribute.name!r} of {name!r}{place}", attribute


def check_constants(proto: onnx.ModelProto, where: str) -> None:
    """Rules 4 and 5; external data must be embedded already.

    Raises:
        InvalidModelError: a tensor is malformed or not finite.
        UnsupportedError: a tensor's element type is unknown.
    """
    infinite = _may_be_infinite(proto.graph)
    not_finite = []
    for what, tensor in stored_tensors(proto):
        array = _decode(tensor, f"{where}: {what}")
        if array.dtype.kind not in "fc":
            continue
        if np.isnan(array).any():
            not_finite.append(f"{what} holds NaN")
        elif np.isinf(array).any() and not (array.size == 1 and tensor.name in infinite):
            not_finite.append(f"{what} holds infinity")
    for what, attribute in _attributes(proto):
        if not all(math.isfinite(v) for v in (attribute.f, *attribute.floats)):
            not_finite.append(f"{what} is not finite")
    if not_finite:
        raise InvalidModelError(
            f"{where} has weights that are not finite:\n  " + "\n  ".join(not_finite)
        )


def _may_be_infinite(graph: onnx.GraphProto) -> set[str]:
    """Names of constants that only bound or pad."""
    readers: dict[str, set[str]] = {}
    for node in graph.node:
        for name in node.input:
            readers.setdefault(name, set()).add(node.op_type)
    return {name for name, operators in readers.items() if operators <= _INFINITY_ALLOWED}


def _decode(tensor: onnx.TensorProto, what: str) -> np.ndarray:
    """The array of a tensor, whose size is compared with its shape before it is allocated."""
    try:
        dtype = onnx_ir.DataType(tensor.data_type)
    except ValueError as error:
        raise UnsupportedError(f"{what} has unknown type {tensor.data_type}") from error
    if dtype in (onnx_ir.DataType.UNDEFINED, onnx_ir.DataType.STRING):
        raise UnsupportedError(f"{what} is {dtype.name}, must hold numbers")
    if any(d < 0 for d in tensor.dims):
        raise InvalidModelError(f"{what} has a negative extent: {list(tensor.dims)}")
    elements = math.prod(tensor.dims)
    fields = [f for f in _TYPED_FIELDS if len(getattr(tensor, f))]
    if tensor.HasField("raw_data"):
        held = f"{len(tensor.raw_data)} bytes"
        fits = len(tensor.raw_data) == -(-elements * dtype.bitwidth // 8) and not fields
    else:
        count = len(getattr(tensor, fields[0])) if fields else 0
        held = f"{count} numbers"
        per_number = max(1, 8 // dtype.bitwidth)
        factor = 2 if dtype.name.startswith("COMPLEX") else 1
        fits = len(fields) <= 1 and count == factor * -(-elements // per_number)
    if not fits:
        raise InvalidModelError(f"{what} is {dtype.name}{list(tensor.dims)} but holds {held}")
    with third_party(f"{what} cannot be decoded"):
        return np.asarray(onnx_ir.serde.deserialize_tensor(tensor).numpy())

"""An exported program as an ONNX protobuf with stable names and nothing of the user's machine."""

from __future__ import annotations

from collections.abc import Sequence

import onnx
import torch
from torch.export import ExportedProgram

from edgekit.errors import UnsupportedError
from edgekit.model.capture import diagnosis
from edgekit.model.capture.quiet import quiet
from edgekit.model.capture.symbolic import with_symbols


def to_proto(
    program: ExportedProgram, *, name: str, inputs: Sequence[str], outputs: Sequence[str]
) -> onnx.ModelProto:
    """Write a program as ONNX.

    Args:
        program: in eval mode, without effects.
        name: of the graph.
        inputs: wanted names of the tensor inputs, in order.
        outputs: wanted names of the tensor outputs, in order.

    Raises:
        UnsupportedError: an operator has no ONNX form; names it, its module and its source.
    """
    try:
        with quiet():
            written = torch.onnx.export(with_symbols(program), dynamo=True, verbose=False)
            assert written is not None
            proto: onnx.ModelProto = written.model_proto
    except Exception as error:
        raise diagnosis.conversion_failure(name, error) from error
    graph = proto.graph
    graph.name = name
    if len(graph.input) != len(inputs) or len(graph.output) != len(outputs):
        raise UnsupportedError(
            f"{name}: {len(inputs)} tensor inputs and {len(outputs)} outputs became "
            f"{len(graph.input)} and {len(graph.output)} in ONNX"
        )
    _strip(proto)
    _rename(graph, inputs, outputs)
    return proto


def _strip(proto: onnx.ModelProto) -> None:
    """Drop stack traces, paths, versions: the same module gives the same bytes anywhere."""
    proto.producer_name = proto.producer_version = proto.doc_string = ""
    holders = [proto, proto.graph, *proto.functions]
    for body in (proto.graph, *proto.functions):
        holders += [*body.node, *body.value_info]
    holders += [*proto.graph.input, *proto.graph.output, *proto.graph.initializer]
    for holder in holders:
        del holder.metadata_props[:]
        holder.doc_string = ""


def _rename(graph: onnx.GraphProto, inputs: Sequence[str], outputs: Sequence[str]) -> None:
    """Give inputs and outputs their names; an Identity stands for an output that has one already.

    That is an output that is an input, a constant, or another output as well.
    """
    old_inputs = [info.name for info in graph.input]
    constants = {tensor.name for tensor in graph.initializer}
    wanted = _unique([*inputs, *outputs])
    names: dict[str, str] = dict(zip(old_inputs, wanted, strict=False))
    copies = []
    for info, new in zip(graph.output, wanted[len(inputs) :], strict=True):
        if info.name in names or info.name in constants:
            copies.append((info.name, new))
        else:
            names[info.name] = new
    taken = set(wanted)
    for other in sorted(_values(graph) - names.keys()):
        if other in taken:
            names[other] = _free(f"{other}_inner", taken | _values(graph))
            taken.add(names[other])
    for node in graph.node:
        node.input[:] = [names.get(n, n) for n in node.input]
        node.output[:] = [names.get(n, n) for n in node.output]
    for holder in (*graph.input, *graph.output, *graph.value_info, *graph.initializer):
        holder.name = names.get(holder.name, holder.name)
    final = iter(wanted[len(inputs) :])
    for info in graph.output:
        info.name = next(final)
    nodes = {node.name for node in graph.node}
    for source, new in copies:
        name = _free(f"node_{new}", nodes)
        nodes.add(name)
        graph.node.append(
            onnx.helper.make_node("Identity", [names.get(source, source)], [new], name=name)
        )


def _values(graph: onnx.GraphProto) -> set[str]:
    found = {name for node in graph.node for name in node.output if name}
    return found | {h.name for h in (*graph.input, *graph.initializer)}


def _unique(names: Sequence[str]) -> list[str]:
    """The names, with a number behind those that repeat.

    >>> _unique(["x", "x", "y"])
    ['x', 'x_2', 'y']
    """
    taken: set[str] = set()
    result = []
    for name in names:
        free = _free(name, taken)
        taken.add(free)
        result.append(free)
    return result


def _free(wanted: str, taken: set[str]) -> str:
    name, count = wanted, 1
    while name in taken:
        count += 1
        name = f"{wanted}_{count}"
    return name

"""What a forward does beyond computing its outputs."""

from __future__ import annotations

import torch
from torch.export import ExportedProgram
from torch.export.graph_signature import InputKind, OutputKind

from edgekit.errors import UnsupportedError

_PARAMETER = "forward changes its parameter {!r}; leave it as it is"
_BUFFER = "forward changes its buffer {!r}; make it an input and an output"
_INPUT = "forward changes its input {!r} in place; clone it first"

_STATISTICS = ("num_batches_tracked", "running_mean", "running_var")
"""Buffers that normalisation layers change in training mode, and only there."""

_TRAINING = "it was exported in training mode; call model.eval() before torch.export.export"

_BY_OUTPUT = {
    OutputKind.BUFFER_MUTATION: _BUFFER,
    OutputKind.PARAMETER_MUTATION: _PARAMETER,
    OutputKind.USER_INPUT_MUTATION: _INPUT,
}

_BY_INPUT = {
    InputKind.BUFFER: _BUFFER,
    InputKind.CONSTANT_TENSOR: _BUFFER,
    InputKind.PARAMETER: _PARAMETER,
    InputKind.USER_INPUT: _INPUT,
}


def check_effects(program: ExportedProgram, name: str) -> None:
    """Refuse what changes its own state or inputs, and objects that are no tensors.

    A program may say so in its signature, or, before it is made functional, by operators that
    write to a placeholder or to a view of one.

    Raises:
        UnsupportedError: names every tensor that is changed.
    """
    signature = program.graph_signature
    problems = {
        _BY_OUTPUT[spec.kind].format(spec.target): None
        for spec in signature.output_specs
        if spec.kind in _BY_OUTPUT
    }
    inputs = {spec.arg.name: spec for spec in signature.input_specs}
    for spec in signature.input_specs:
        if spec.kind in (InputKind.CUSTOM_OBJ, InputKind.TOKEN):
            problems[f"{spec.target!r} is no tensor"] = None
    for node in program.graph.nodes:
        for written in _written(node):
            spec = inputs.get(_origin(written).name)
            if spec is not None and spec.kind in _BY_INPUT:
                problems[_BY_INPUT[spec.kind].format(spec.target or spec.arg.name)] = None
    if any(word in problem for problem in problems for word in _STATISTICS):
        raise UnsupportedError(f"{name}: {_TRAINING} ({next(iter(problems)).partition(';')[0]})")
    if problems:
        raise UnsupportedError(f"{name}: " + "; ".join(problems))


def _written(node: torch.fx.Node) -> list[torch.fx.Node]:
    """Arguments that an operator writes to."""
    if not isinstance(node.target, torch._ops.OpOverload):
        return []
    return [
        value
        for argument, value in zip(node.target._schema.arguments, node.args, strict=False)
        if argument.alias_info is not None
        and argument.alias_info.is_write
        and isinstance(value, torch.fx.Node)
    ]


def _origin(node: torch.fx.Node) -> torch.fx.Node:
    """The tensor that a node is a view of, or that it wrote to; the node itself otherwise."""
    while isinstance(node.target, torch._ops.OpOverload) and node.args:
        source, first = node.args[0], node.target._schema.arguments[0]
        if first.alias_info is None or not isinstance(source, torch.fx.Node):
            break
        node = source
    return node

"""Fusions on the Program that save memory and passes over it, exact by construction."""

from __future__ import annotations

from dataclasses import replace

from edgekit.program.ir import Operation, Program
from edgekit.program.operators.convolution import Conv2D
from edgekit.program.operators.elementwise import Add, Sum


def fuse_residual(program: Program) -> tuple[Program, bool]:
    """Add the other branch of a residual block inside the convolution that ends it.

    The convolution writes over that branch, so that neither its own result nor the sum needs a
    buffer. The composition is the same arithmetic as before.

    Rules:

    1. ``add(conv_2d(x), r)``, where nothing else reads the convolution and all three types agree,
       becomes ``conv_2d(x, residual=r)``.
    2. The same with the operands exchanged, ``add(r, conv_2d(x))``.
    3. Where both operands are convolutions, the later one takes the addition.

    Returns:
        The Program and whether it changed.
    """
    modified = False
    while (found := _find(program)) is not None:
        program = _fuse(program, *found)
        modified = True
    return program, modified


def _find(program: Program) -> tuple[Operation, Operation, str] | None:
    """A convolution, the addition behind it, and the other operand of the addition."""
    position = {op.name: i for i, op in enumerate(program.operations)}
    outputs = {b.tensor for b in program.outputs} | {s.write for s in program.state}
    for add in program.operations:
        if not isinstance(add.operator, Add):
            continue
        a, b = add.inputs
        assert a is not None and b is not None
        candidates = []
        for own, other in ((a, b), (b, a)):
            conv = program.producer(own)
            if (
                conv is not None
                and isinstance(conv.operator, Conv2D)
                and conv.inputs[3:4] in ((), (None,))
                and a != b
                and own not in outputs
                and len(list(program.consumers(own))) == 1
                and program.tensors[own].type == program.tensors[other].type
                and program.tensors[own].type == program.tensors[add.outputs[0]].type
            ):
                candidates.append((position[conv.name], conv, other))
        if candidates:
            _, conv, other = max(candidates, key=lambda c: c[0])
            return conv, add, other
    return None


def _fuse(program: Program, conv: Operation, add: Operation, other: str) -> Program:
    assert isinstance(conv.operator, Conv2D)
    assert isinstance(add.operator, Add)
    own = conv.outputs[0]
    quant = add.operator.quant
    if quant is not None and add.inputs[1] == own:
        quant = _exchanged(quant)
    operator = replace(conv.operator, residual=quant, residual_clamp=add.operator.clamp)
    inputs = (*(*conv.inputs, None)[:3], other, *conv.inputs[4:])
    fused = Operation(add.name, operator, inputs, add.outputs)
    operations = tuple(fused if op is add else op for op in program.operations if op is not conv)
    tensors = {name: t for name, t in program.tensors.items() if name != own}
    return program.replace(tensors=tensors, operations=operations)


def _exchanged(quant: Sum) -> Sum:
    """The same sum with its operands in the other order."""
    return replace(
        quant,
        a_zero_point=quant.b_zero_point,
        b_zero_point=quant.a_zero_point,
        a=quant.b,
        b=quant.a,
    )

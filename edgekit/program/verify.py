"""The specification of a Program, as code; run at every stage border.

Rules:

1. Names of tensors are their keys; names of operations are unique.
2. Constants have their tensor's shape and dtype, are contiguous and finite.
3. Every tensor is constant, or fed, or state, or written exactly once.
4. Every operation reads only what exists before it.
5. Operators are registered, and their input and output counts fit their signature.
6. The shape rule of every operator gives exactly the declared output types.
7. Boundaries name tensors that exist, with a permutation and a source shape that fit; their user
   names are unique; outputs are computed or fed, neither constant nor state.
8. State is read from a tensor nobody writes, and written from a computed one of the same type that
   is no reshape of state (all states change at once, after the step).
9. Coded weights, their factors and their integer bias are constants, hold nothing that their
   formats cannot, and no total can overflow its accumulator or its requantisation.
10. Operators that ask for constant inputs, or for values within bounds, have them.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator

import numpy as np

from edgekit.errors import InvalidModelError
from edgekit.program.ir import Array, Boundary, Operation, Program
from edgekit.program.operators.base import OPERATORS, OperatorError
from edgekit.program.operators.coding import Coding, constants_problem
from edgekit.program.plan import aliases


def verify(program: Program, *, stage: str = "program") -> Program:
    """Check every rule and return the Program itself.

    Args:
        program: what to check.
        stage: named in the message.

    Raises:
        InvalidModelError: lists every violation, one a line.
    """
    problems = [*_tensors(program), *_operations(program), *_boundaries(program), *_state(program)]
    if problems:
        lines = "\n  ".join(problems)
        raise InvalidModelError(f"{program.name}, after {stage}:\n  {lines}")
    return program


def _tensors(program: Program) -> Iterator[str]:
    for key, tensor in program.tensors.items():
        if key != tensor.name:
            yield f"tensor {tensor.name!r} is stored under {key!r}"
        if any(d < 0 for d in tensor.shape):
            yield f"tensor {key!r} has a negative extent: {list(tensor.shape)}"
        data = tensor.data
        if data is None:
            continue
        if data.shape != tensor.shape or data.dtype != tensor.dtype.numpy:
            yield (
                f"constant {key!r} holds {data.dtype}{list(data.shape)}, "
                f"is declared {tensor.dtype}{list(tensor.shape)}"
            )
        elif not data.flags.c_contiguous:
            yield f"constant {key!r} is not contiguous"
        elif not tensor.dtype.is_integer and not np.isfinite(data).all():
            yield f"constant {key!r} holds NaN or infinity"


def _operations(program: Program) -> Iterator[str]:
    known = {n for n, t in program.tensors.items() if t.is_constant}
    known |= {b.tensor for b in program.inputs} | {s.read for s in program.state}
    fed = frozenset(known)
    names: set[str] = set()
    for op in program.operations:
        if op.name in names:
            yield f"two operations are called {op.name!r}"
        names.add(op.name)
        missing = [n for n in (*op.present_inputs, *op.outputs) if n not in program.tensors]
        if missing:
            yield f"{op.name}: no such tensor: {missing}"
            continue
        for name in op.present_inputs:
            if name not in known:
                yield f"{op.name}: reads {name!r} before it is written"
        for name in op.outputs:
            if name in known:
                kind = "a constant or fed" if name in fed else "already written"
                yield f"{op.name}: writes {name!r}, which is {kind}"
        known |= set(op.outputs)
        yield from _operation(program, op)
    for name in sorted(program.tensors.keys() - known):
        yield f"tensor {name!r} is neither constant, fed, state nor written"


def _operation(program: Program, op: Operation) -> Iterator[str]:
    operator = op.operator
    if OPERATORS.get(operator.name) is not type(operator):
        yield f"{op.name}: operator {operator.name!r} is not registered"
        return
    problem = signature_problem(operator.inputs, op.inputs) or signature_problem(
        operator.outputs, op.outputs
    )
    if problem:
        yield f"{op.name}: {operator.name} {problem}"
        return
    try:
        inferred = operator.infer(*program.types(op.inputs))
    except OperatorError as error:
        yield f"{op.name}: {operator.name}: {error}"
        return
    declared = program.types(op.outputs)
    if inferred != declared:
        yield f"{op.name}: {operator.name} gives {inferred}, declared {declared}"
        return
    problem = operator.constants_problem(_constants(program, op))
    coding = getattr(operator, "coding", None)
    if problem is None and isinstance(coding, Coding):
        problem = _coded_problem(program, op, coding)
    if problem:
        yield f"{op.name}: {operator.name}: {problem}"


def _constants(program: Program, op: Operation) -> dict[str, Array]:
    """The constant inputs of an operation, by name of the operator's input."""
    pairs = zip(op.operator.inputs, op.inputs, strict=False)
    tensors = ((port, program.tensors[name]) for port, name in pairs if name is not None)
    return {port.rstrip("?*"): t.data for port, t in tensors if t.data is not None}


def _coded_problem(program: Program, op: Operation, coding: Coding) -> str | None:
    """What rule 9 has against the constants of an operation."""
    data = {
        port.rstrip("?"): program.tensors[name].data
        for port, name in zip(op.operator.inputs, op.inputs, strict=False)
        if name is not None and port in ("w", "bias?", "factors?")
    }
    computed = sorted(port for port, values in data.items() if values is None)
    if computed:
        return f"{', '.join(computed)} computed, must be constant with coded weights"
    w, bias, factors = data["w"], data.get("bias"), data.get("factors")
    assert w is not None
    rows = op.operator.weight_rows(w)
    if bias is not None and bias.dtype.kind == "f":
        bias = None  # added behind the total
    requant = getattr(op.operator, "requant", None)
    return constants_problem(coding, rows, factors=factors, bias=bias, requant=requant)


def signature_problem(ports: tuple[str, ...], given: tuple[str | None, ...]) -> str | None:
    """What is wrong with the number of `given` tensors, or None.

    >>> signature_problem(("x", "w", "bias?"), ("a", "b"))
    >>> signature_problem(("x", "w", "bias?"), ("a", None))
    "needs 'w'"
    >>> signature_problem(("x*",), ())
    "needs at least one 'x'"
    """
    variadic = bool(ports) and ports[-1].endswith("*")
    if variadic and len(given) < len(ports):
        return f"needs at least one {ports[-1][:-1]!r}"
    if not variadic and len(given) > len(ports):
        return f"takes {len(ports)} at most, has {len(given)}"
    for i, port in enumerate(ports):
        if not port.endswith("?") and (i >= len(given) or given[i] is None):
            return f"needs {port.rstrip('*')!r}"
    return None


def _boundaries(program: Program) -> Iterator[str]:
    root = aliases(program)
    state = {s.read for s in program.state}
    for kind, boundaries in (("input", program.inputs), ("output", program.outputs)):
        names = [b.name for b in boundaries]
        for boundary in boundaries:
            source = program.tensors.get(root.get(boundary.tensor, ""))
            if source is not None and source.name in state:
                yield f"{kind} {boundary.name!r} is state; copy it first"
            if source is not None and source.is_constant:
                yield f"{kind} {boundary.name!r} is a constant"
        for name in sorted(n for n, count in Counter(names).items() if count > 1):
            yield f"two {kind}s are called {name!r}"
        for boundary in boundaries:
            yield from _boundary(program, kind, boundary)
    tensors = [b.tensor for b in program.inputs]
    if len(set(tensors)) != len(tensors):
        yield "two inputs feed one tensor"
    if not program.outputs:
        yield "there is no output"


def _boundary(program: Program, kind: str, boundary: Boundary) -> Iterator[str]:
    tensor = program.tensors.get(boundary.tensor)
    if tensor is None:
        yield f"{kind} {boundary.name!r}: no tensor {boundary.tensor!r}"
        return
    shape = boundary.source_shape
    if boundary.permutation is not None:
        if sorted(boundary.permutation) != list(range(len(shape))):
            yield f"{kind} {boundary.name!r}: {boundary.permutation} permutes no {len(shape)} axes"
            return
        shape = tuple(shape[axis] for axis in boundary.permutation)
    if math.prod(shape) != tensor.type.size:
        yield f"{kind} {boundary.name!r}: {list(shape)} does not hold {list(tensor.shape)}"


def _state(program: Program) -> Iterator[str]:
    fed = {b.tensor for b in program.inputs}
    root = aliases(program)
    reads = {s.read for s in program.state}
    for state in program.state:
        if state.read not in program.tensors or state.write not in program.tensors:
            yield f"state: no tensor {state.read!r} or {state.write!r}"
            continue
        read, write = program.tensors[state.read], program.tensors[state.write]
        if read.type != write.type:
            yield f"state {state.read!r} is {read.type}, its update {write.type}"
        if root[state.write] in reads:
            yield f"state {state.read!r} is updated with state; copy it first"
        if read.is_constant or state.read in fed or program.producer(state.read):
            yield f"state {state.read!r} is also constant, fed or written"

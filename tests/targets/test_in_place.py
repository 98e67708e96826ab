"""Kernels of operators that may overwrite an input compute the same when they do."""

from __future__ import annotations

import importlib
import math
from dataclasses import replace

import pytest

from edgekit.program.ir import Boundary, DType, Operation, Program, Tensor
from edgekit.program.operators.activation import Clip
from edgekit.program.operators.base import Operator
from edgekit.program.plan import plan_memory
from edgekit.program.verify import verify
from tests.cases.case import Case
from tests.support.chain import check_host, combine

MODULES = ("activation", "elementwise", "normalization", "quantization")


def identity(dtype: DType) -> Operator:
    """An operator whose result is its input, in memory of its own."""
    if dtype == DType.FLOAT32:
        return Clip((-math.inf, math.inf))
    assert dtype in (DType.INT8, DType.INT16)
    return Clip(dtype.limits)


def behind_identity(case: Case, index: int) -> Case:
    """The case with a copy of its operation's input `index` instead, which nobody else reads."""
    program = case.program
    (operation,) = program.operations
    name = operation.inputs[index]
    assert name is not None
    original = program.tensors[name]
    copy = Tensor("copy", original.shape, original.dtype)
    inputs = tuple("copy" if i == index else n for i, n in enumerate(operation.inputs))
    operations = (
        Operation("copying", identity(original.dtype), (name,), ("copy",)),
        replace(operation, inputs=inputs),
        # The result is copied too: an output of the Program may have a place of its own.
        Operation("delivering", identity(program.tensors["out0"].dtype), ("out0",), ("end",)),
    )
    end = Tensor("end", program.tensors["out0"].shape, program.tensors["out0"].dtype)
    tensors = {**program.tensors, "copy": copy, "end": end}
    longer = Program(
        program.name, tensors, operations, program.inputs, (Boundary("end", "end", end.shape),)
    )
    return replace(case, program=verify(longer))


def in_place(program: Program) -> bool:
    """Whether the planner lets the operation in the middle overwrite one of its inputs."""
    _, plan = plan_memory(program, {})
    operands = [
        n for n in program.operations[1].present_inputs if not program.tensors[n].is_constant
    ]
    return plan.offset("out0") in [plan.offset(name) for name in operands]


@pytest.mark.needs("cc")
@pytest.mark.parametrize("module", MODULES)
def test_in_place(module: str) -> None:
    """One case of each operator, dtype and input that may be overwritten, in place."""
    chosen: dict[tuple[str, str, int], Case] = {}
    for case in importlib.import_module(f"tests.cases.{module}").cases():
        (operation,) = case.program.operations
        for index in operation.operator.in_place:
            given, result = (
                case.program.tensors[str(n)] for n in (operation.inputs[index], "out0")
            )
            if given.type == result.type and not given.is_constant and given.type.size > 20:
                key = (operation.operator.name, given.dtype, index)
                chosen.setdefault(key, behind_identity(case, index))
    assert len(chosen) >= 2
    assert all(in_place(case.program) for case in chosen.values())
    check_host(*combine(list(chosen.values())))

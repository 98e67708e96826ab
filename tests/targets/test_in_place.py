"""Kernels of operators that may overwrite an input compute the same when they do.

Here in the arena; of state and what it becomes, see ``test_state_in_place``.
"""

from __future__ import annotations

import importlib
import math
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest

import edgekit.targets.c.bindings  # noqa: F401  fills the kernel table
from edgekit.program.ir import Boundary, DType, Operation, Program, Tensor
from edgekit.program.operators.activation import Clip
from edgekit.program.operators.base import OPERATORS, Operator
from edgekit.program.operators.movement import Concat
from edgekit.program.operators.quantization import REQUANTIZE
from edgekit.program.operators.spiking_values import SpikeCount
from edgekit.program.plan import plan_memory
from edgekit.program.verify import verify
from edgekit.targets.c.kernel import KERNELS, Bound, select
from tests.cases.case import Case
from tests.support.chain import check_host, combine

CASES = Path(__file__).resolve().parents[1] / "cases"
MODULES = sorted(p.stem for p in CASES.glob("*.py") if p.stem not in ("__init__", "case"))

Key = tuple[str, DType, int]
"""Kernel, dtype of what it reads first, and index of an input that the result may overwrite."""

CASES_OF_KEY = 4


def identity(dtype: DType) -> Operator:
    """An operator whose result is its input, in memory of its own."""
    if dtype == DType.FLOAT32:
        return Clip((-math.inf, math.inf))
    if dtype == DType.INT32:
        return Concat(axis=0)
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


@cache
def overwriting(module: str) -> dict[Key, list[Case]]:
    """Some cases for each kernel, dtype and input, with that input in memory of its own."""
    chosen: dict[Key, list[Case]] = {}
    for case in importlib.import_module(f"tests.cases.{module}").cases():
        (operation,) = case.program.operations
        for index in operation.operator.overwritten(0):
            name = operation.inputs[index] if index < len(operation.inputs) else None
            if name is None or operation.operator.name == SpikeCount.name:
                continue
            given, result = case.program.tensors[name], case.program.tensors["out0"]
            bound = Bound.of(case.program, operation)
            key = (select(bound).name, bound.input(0).dtype, index)
            fits = given.type == result.type and not given.is_constant and given.type.size > 20
            if fits and len(chosen.setdefault(key, [])) < CASES_OF_KEY:
                chosen[key].append(behind_identity(case, index))
    return chosen


def test_every_possibility_is_covered() -> None:
    """All that the operators declare, for every kernel."""
    possible = {
        (k.name, k.dtype, index)
        for k in KERNELS
        for index in OPERATORS[k.operator].overwritten(0)
        if k.operator != SpikeCount.name  # a count is state
    }
    # What gives back another dtype has no room in what it takes.
    possible -= {
        (f"requantize_{given.suffix}_{result.suffix}", given, 0)
        for given, results in REQUANTIZE.items()
        for result in results
        if result != given
    }
    covered = {key for module in MODULES for key in overwriting(module)}
    assert covered == possible


@pytest.mark.needs("cc")
@pytest.mark.parametrize("module", MODULES)
def test_in_place(module: str) -> None:
    """Cases of each kernel, dtype and input that may be overwritten, in place."""
    cases = [case for some in overwriting(module).values() for case in some]
    assert all(in_place(case.program) for case in cases)
    if cases:
        check_host(*combine(cases))

"""Which operator runs in which format on which target; asked before any work is done."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import edgekit.targets.c.bindings  # noqa: F401  fills the kernel table
from edgekit.errors import UnsupportedError
from edgekit.program.ir import DType, Program
from edgekit.program.operators.base import OPERATORS
from edgekit.targets.c.kernel import KERNELS
from edgekit.targets.target import Target

FORMATS = (DType.INT8, DType.INT16, DType.FLOAT32)
"""Activation formats that the table of operators shows."""


@dataclass(frozen=True)
class Legality:
    """One operator on one target.

    Attributes:
        operator: name.
        kernels: format to the kernels that could run it, best last; absent formats cannot.
        emulated: formats that run, but in software floating point.
        alias: the operator is a view and needs no kernel.
    """

    operator: str
    kernels: dict[str, tuple[str, ...]]
    emulated: frozenset[str]
    alias: bool

    def word(self, dtype: DType) -> str:
        """``yes``, ``soft-float``, ``view`` or ``-``."""
        if self.alias:
            return "view"
        if dtype not in self.kernels:
            return "-"
        return "soft-float" if dtype in self.emulated else "yes"


def has_hardware_float(target: Target) -> bool:
    """Whether float32 arithmetic is done by instructions."""
    return target.core is None or target.fpu_unit.is_hardware


def legality(target: Target) -> list[Legality]:
    """Every registered operator on a target.

    Raises:
        UnsupportedError: the target runs no C code of ours.
    """
    if target.module is not None:
        raise UnsupportedError(
            f"{target.name}: TensorRT brings its own kernels; what it can build is checked when a "
            "network is derived for it"
        )
    rows = []
    for name, operator in sorted(OPERATORS.items()):
        kernels: dict[str, tuple[str, ...]] = {}
        for entry in KERNELS:
            if entry.operator == name and entry.features <= target.features:
                kernels[entry.dtype] = (*kernels.get(entry.dtype, ()), entry.name)
        soft = frozenset() if has_hardware_float(target) else frozenset({str(DType.FLOAT32)})
        rows.append(Legality(name, kernels, soft, operator.alias))
    return rows


def check(program: Program, target: Target, dtypes: Iterable[DType] | None = None) -> None:
    """Refuse a Program with operators that the target has no kernel for.

    Where TensorRT builds the network there are no kernels of ours, and nothing is refused here.

    Args:
        program: a verified Program.
        target: what it is for.
        dtypes: formats to accept instead of each operation's own: what a float Program will be
            quantised to.

    Raises:
        UnsupportedError: lists every operation that cannot run, and what its operator can.
    """
    if target.module is not None:
        return
    table = {row.operator: row for row in legality(target)}
    problems = []
    for op in program.operations:
        row = table[op.operator.name]
        own = program.tensors[op.present_inputs[0]].dtype
        if row.alias or any(str(d) in row.kernels for d in (dtypes or (own,))):
            continue
        wanted = " or ".join(str(d) for d in dtypes or (own,))
        able = ", ".join(sorted(row.kernels)) or "nothing"
        problems.append(f"  {op.name}: {row.operator} on {wanted}; it is supported on {able}")
    if problems:
        lines = "\n".join(problems)
        raise UnsupportedError(f"{target.name} cannot run these operations:\n{lines}")

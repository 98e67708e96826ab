"""Costs as every trace is summed up to: causes of cycles, per instruction, block and function.

A figure of a larger thing is the sum of its parts: a call's of its blocks, a block's of its
instructions. What a branch takes beyond one cycle belongs to the branch; what memory makes an
instruction wait belongs to that instruction.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Self, TypeVar

from edgekit.bench.costs import CAUSES, Causes

__all__ = [
    "CAUSES",
    "MODEL_VERSION",
    "BlockCost",
    "Causes",
    "Count",
    "FunctionCount",
    "InstructionCost",
]

MODEL_VERSION = 1
"""Of the cycle model; it changes whenever a figure that it gives could change."""

T = TypeVar("T", float, Causes)


@dataclass(frozen=True)
class InstructionCost:
    """All executions of the instruction at one address.

    Attributes:
        address: of the instruction.
        text: disassembly.
        times: how often it was issued, IT-skipped issues included.
        causes: of all its cycles; None where the model only knows whole blocks.
    """

    address: int
    text: str
    times: int
    causes: Causes | None


@dataclass(frozen=True)
class BlockCost:
    """All executions of one basic block.

    Attributes:
        address: of its first instruction.
        bytes: size.
        times: how often it ran.
        cycles: of all executions; None where there is no model.
        causes: the same by cause; None where the model does not tell.
        instructions: its instructions in order.
        following: address of the next block that ran, and how often.
        function: name of the one that holds it; empty before blocks are summed up.
    """

    address: int
    bytes: int
    times: int
    cycles: float | None
    causes: Causes | None
    instructions: tuple[InstructionCost, ...]
    following: Mapping[int, int]
    function: str = field(default="", compare=False)

    @property
    def issued(self) -> int:
        """Issued instructions of all executions."""
        return self.times * len(self.instructions)


@dataclass(frozen=True)
class FunctionCount:
    """What one function took, without what it calls.

    Attributes:
        name: of the function.
        instructions: issued.
        cycles: None where there is no model.
        causes: None where the model does not tell.
    """

    name: str
    instructions: int
    cycles: float | None
    causes: Causes | None

    def __add__(self, other: FunctionCount) -> FunctionCount:
        assert self.name == other.name
        return FunctionCount(
            self.name,
            self.instructions + other.instructions,
            _sum(self.cycles, other.cycles),
            _sum(self.causes, other.causes),
        )


@dataclass(frozen=True)
class Count:
    """What one or more counted calls took.

    Attributes:
        functions: by name, most expensive first.
        blocks: every executed block by ascending address; those of several calls follow each other.
    """

    functions: Mapping[str, FunctionCount] = field(default_factory=dict)
    blocks: tuple[BlockCost, ...] = ()

    @classmethod
    def of(cls, blocks: Iterable[tuple[str, BlockCost]]) -> Self:
        """Sum up blocks, each with the name of the function that holds it."""
        functions: dict[str, FunctionCount] = {}
        kept = []
        for name, block in blocks:
            cost = FunctionCount(name, block.issued, block.cycles, block.causes)
            functions[name] = functions[name] + cost if name in functions else cost
            kept.append(replace(block, function=name))
        kept.sort(key=lambda block: (block.address, block.bytes))
        return cls(_ordered(functions), tuple(kept))

    @property
    def instructions(self) -> int:
        """Issued instructions, IT-skipped ones included."""
        return sum(f.instructions for f in self.functions.values())

    @property
    def cycles(self) -> float | None:
        """Modelled; None where there is no model."""
        total: float | None = 0
        for function in self.functions.values():
            total = _sum(total, function.cycles)
        return total

    @property
    def causes(self) -> Causes | None:
        """Of all cycles; None where the model does not tell."""
        total: Causes | None = Causes()
        for function in self.functions.values():
            total = _sum(total, function.causes)
        return total

    def __add__(self, other: Count) -> Count:
        functions = dict(self.functions)
        for name, cost in other.functions.items():
            functions[name] = functions[name] + cost if name in functions else cost
        return Count(_ordered(functions), self.blocks + other.blocks)


def _sum(one: T | None, other: T | None) -> T | None:
    return None if one is None or other is None else one + other


def _ordered(functions: Mapping[str, FunctionCount]) -> dict[str, FunctionCount]:
    """Most expensive first: by cycles, by instructions where those of some are not known."""
    spent: dict[str, float] = {n: f.cycles for n, f in functions.items() if f.cycles is not None}
    if len(spent) < len(functions):
        spent = {name: function.instructions for name, function in functions.items()}
    return {name: functions[name] for name in sorted(functions, key=lambda n: (-spent[n], n))}

"""Application processors that have a cycle model: what llvm-mca calls them, and our own tables.

Where llvm-mca is installed its models are used; the tables here stand in for it. Sources:

- A72: LLVM 19.1, AArch64SchedA57.td, which LLVM uses for the Cortex-A72 too; it follows the
  Cortex-A57 Software Optimization Guide (UAN 0015B).
- A76: LLVM 19.1, AArch64SchedNeoverseN1.td, which follows the Arm Neoverse N1 Software Optimization
  Guide; Neoverse N1 and Cortex-A76 are of one microarchitecture.
- A53: AArch64SchedA53.td of LLVM's main branch as of 2026, whose vector latencies were measured on
  the processor, where LLVM 19.1 has 6 cycles for all of them; loads are its LoadLatency. Assumed:
  3 cycles for permutations and for moves between register files, as for other vector arithmetic
  that takes longer than an addition, and that a division occupies its unit until it is done.

A test holds the tables for A72 and A76 against llvm-mca 19. On purpose, they differ where one
accumulation follows another on the A76: Arm's guides print such latencies in brackets, and LLVM's
model of the N1 leaves them out. These figures (`adds_after`) are from memory and not checked
against the guide, but for the 32-bit multiplication.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from edgekit.errors import UnsupportedError
from edgekit.targets.cycles.aarch64.kinds import Kind


@dataclass(frozen=True)
class Use:
    """What instructions of one kind take.

    Attributes:
        latency: cycles until the result can be used.
        units: cycles of every unit that is needed; groups of units and their members both count.
        slots: of those that the processor has per cycle, how many are taken.
        wide: how many times the units are needed for whole 128-bit vectors.
        adds_after: cycles until the next instruction of this kind can add to the result, where that
            is less than the latency.
    """

    latency: int
    units: Mapping[str, int] = field(default_factory=dict)
    slots: int = 1
    wide: int = 1
    adds_after: int | None = None


@dataclass(frozen=True)
class Processor:
    """An application processor.

    Attributes:
        name: as in :data:`edgekit.targets.arm_cpu.cpus.CPUS`.
        mca_cpu: what llvm-mca calls the model.
        mca_units: beginning of the names of the model's units; an older llvm-mca knows the
            processor by name, but gives it the model of another.
        mca_words: which model that is.
        slots: how many instructions, or parts of them, are issued in a cycle.
        decoded: how many instructions are decoded in a cycle.
        in_order: whether an instruction waits for the one before it.
        mispredicted: cycles that a wrongly predicted branch takes.
        spread: cycles by our tables over those by llvm-mca 19, the lowest and the highest ratio of
            the layers of the four int8 networks of MLPerf Tiny. It says what the approximation
            loses against llvm-mca, not how far either is from the processor.
        units: how many there are of each.
        uses: what every kind of instruction takes.
    """

    name: str
    mca_cpu: str
    mca_units: str
    mca_words: str
    slots: int
    decoded: int
    in_order: bool
    mispredicted: int
    spread: tuple[float, float]
    units: Mapping[str, int] = field(hash=False)
    uses: Mapping[Kind, Use] = field(hash=False)

    def __post_init__(self) -> None:
        assert set(self.uses) == set(Kind), f"{self.name}: {set(Kind) - set(self.uses)}"
        assert all(set(use.units) <= set(self.units) for use in self.uses.values())


FORESEEN_ROUNDS = 8
"""Loops of up to so many rounds on average end as expected. Ours: the direction is predicted from
global history (Cortex-A72 TRM, 100095_0002, 6.5), which foresees the end of a short loop; no manual
says of how short a one."""

_A53_UNITS = MappingProxyType(
    {"integer": 2, "multiply": 1, "divide": 1, "memory": 1, "branch": 1, "vector": 1, "float": 1}
)
_A53 = MappingProxyType(
    {
        Kind.NOTHING: Use(1),
        Kind.BRANCH: Use(1, {"branch": 1}),
        Kind.INTEGER: Use(1, {"integer": 1}),
        Kind.SHIFTED_LITTLE: Use(2, {"integer": 1}),
        Kind.SHIFTED: Use(2, {"integer": 1}),
        Kind.MULTIPLY: Use(3, {"multiply": 1}, adds_after=2),
        Kind.MULTIPLY_64: Use(3, {"multiply": 1}, adds_after=2),
        Kind.MULTIPLY_HIGH: Use(3, {"multiply": 1}),
        Kind.DIVIDE: Use(4, {"divide": 4}),
        Kind.DIVIDE_64: Use(4, {"divide": 4}),
        Kind.LOAD: Use(3, {"memory": 1}),
        Kind.LOAD_PAIR: Use(3, {"memory": 2}),
        Kind.STORE: Use(1, {"memory": 1}),
        Kind.STORE_PAIR: Use(1, {"memory": 1}),
        Kind.NEW_ADDRESS: Use(1, slots=0),
        Kind.OFFSET: Use(1, slots=0),
        Kind.VECTOR: Use(2, {"vector": 1}, wide=2),
        Kind.VECTOR_SHIFT: Use(2, {"vector": 1}, wide=2),
        Kind.VECTOR_COMPLEX: Use(3, {"vector": 1}, wide=2),
        Kind.VECTOR_MULTIPLY: Use(4, {"vector": 1}, wide=2),
        Kind.DOT: Use(4, {"vector": 1}, wide=2),
        Kind.REDUCE: Use(3, {"vector": 1}, wide=2),
        Kind.PERMUTE: Use(3, {"vector": 1}, wide=2),
        Kind.TO_VECTOR: Use(3, {"vector": 1}),
        Kind.TO_LANE: Use(3, {"vector": 1}),
        Kind.FROM_VECTOR: Use(3, {"vector": 1}),
        Kind.VECTOR_LOAD: Use(4, {"memory": 1}, wide=2),
        Kind.VECTOR_LOAD_LANE: Use(5, {"memory": 1}),
        Kind.VECTOR_STORE: Use(1, {"memory": 1}, wide=2),
        Kind.FLOAT: Use(4, {"vector": 1}, wide=2),
        Kind.FLOAT_MULTIPLY: Use(4, {"float": 1}, wide=2),
        Kind.FLOAT_MULTIPLY_ADD: Use(8, {"float": 1}, wide=2, adds_after=4),
        Kind.FLOAT_DIVIDE: Use(18, {"float": 14}, wide=2),
        Kind.FLOAT_CONVERT: Use(4, {"vector": 1}),
    }
)

_A72_UNITS = MappingProxyType(
    {"branch": 1, "integer": 2, "multi": 1, "load": 1, "store": 1, "f": 2, "f0": 1, "f1": 1}
)
"""Two integer units, one for what takes several cycles, and two vector units (Cortex-A72
Software Optimization Guide, UAN 0016A, pipeline overview)."""

_A72 = MappingProxyType(
    {
        Kind.NOTHING: Use(1),
        Kind.BRANCH: Use(1, {"branch": 1}),
        Kind.INTEGER: Use(1, {"integer": 1}),
        Kind.SHIFTED_LITTLE: Use(2, {"multi": 1}),
        Kind.SHIFTED: Use(2, {"multi": 1}),
        Kind.MULTIPLY: Use(3, {"multi": 1}, adds_after=1),
        Kind.MULTIPLY_64: Use(5, {"multi": 1}, adds_after=3),
        Kind.MULTIPLY_HIGH: Use(6, {"multi": 1}),
        Kind.DIVIDE: Use(19, {"multi": 19}),
        Kind.DIVIDE_64: Use(35, {"multi": 35}),
        Kind.LOAD: Use(4, {"load": 1}),
        Kind.LOAD_PAIR: Use(4, {"load": 1}, slots=2),
        Kind.STORE: Use(1, {"store": 1}),
        Kind.STORE_PAIR: Use(2, {"store": 2}, slots=2),
        Kind.NEW_ADDRESS: Use(1, {"integer": 1}),
        Kind.OFFSET: Use(1, {"integer": 1}),
        Kind.VECTOR: Use(3, {"f": 1}),
        Kind.VECTOR_SHIFT: Use(3, {"f": 1}),
        Kind.VECTOR_COMPLEX: Use(4, {"f": 1, "f1": 1}, adds_after=1),
        Kind.VECTOR_MULTIPLY: Use(5, {"f": 1, "f0": 1}, wide=2, adds_after=1),
        Kind.DOT: Use(3, {"f": 1}),
        Kind.REDUCE: Use(7, {"f": 2, "f1": 1}, slots=2),
        Kind.PERMUTE: Use(6, {"f": 3}, slots=3),
        Kind.TO_VECTOR: Use(8, {"load": 1, "f": 1}, slots=2),
        Kind.TO_LANE: Use(8, {"load": 1, "f": 1}, slots=2),
        Kind.FROM_VECTOR: Use(5, {"load": 1}),
        Kind.VECTOR_LOAD: Use(5, {"load": 1}),
        Kind.VECTOR_LOAD_LANE: Use(8, {"load": 1, "f": 1}, slots=2),
        Kind.VECTOR_STORE: Use(1, {"store": 1}, wide=2),
        Kind.FLOAT: Use(5, {"f": 1}, wide=2),
        Kind.FLOAT_MULTIPLY: Use(5, {"f": 1}, wide=2),
        Kind.FLOAT_MULTIPLY_ADD: Use(9, {"f": 1}, wide=2, adds_after=4),
        Kind.FLOAT_DIVIDE: Use(17, {"f": 17, "f0": 17}, wide=2),
        Kind.FLOAT_CONVERT: Use(10, {"load": 1, "f": 1}, slots=2),
    }
)

_A76_UNITS = MappingProxyType(
    {"branch": 1, "integer": 3, "multi": 1, "load": 2, "store": 2, "v": 2, "v0": 1, "v1": 1}
)
"""One of the three integer units also does what takes several cycles; loads and stores share two
address units, stores have two more for data."""

_A76 = MappingProxyType(
    {
        Kind.NOTHING: Use(1),
        Kind.BRANCH: Use(1, {"branch": 1}),
        Kind.INTEGER: Use(1, {"integer": 1}),
        Kind.SHIFTED_LITTLE: Use(1, {"integer": 1}),
        Kind.SHIFTED: Use(2, {"integer": 1, "multi": 1}),
        Kind.MULTIPLY: Use(2, {"integer": 1, "multi": 1}, adds_after=1),
        Kind.MULTIPLY_64: Use(4, {"integer": 3, "multi": 3}, adds_after=3),
        Kind.MULTIPLY_HIGH: Use(5, {"integer": 3, "multi": 3}),
        Kind.DIVIDE: Use(12, {"integer": 5, "multi": 5}),
        Kind.DIVIDE_64: Use(20, {"integer": 5, "multi": 5}),
        Kind.LOAD: Use(4, {"load": 1}),
        Kind.LOAD_PAIR: Use(4, {"load": 2}),
        Kind.STORE: Use(1, {"load": 1, "store": 1}),
        Kind.STORE_PAIR: Use(1, {"load": 2, "store": 1}),
        Kind.NEW_ADDRESS: Use(1, {"integer": 1}, slots=0),
        Kind.OFFSET: Use(1, slots=0),
        Kind.VECTOR: Use(2, {"v": 1}),
        Kind.VECTOR_SHIFT: Use(2, {"v": 1, "v1": 1}),
        Kind.VECTOR_COMPLEX: Use(4, {"v": 1, "v1": 1}, adds_after=1),
        Kind.VECTOR_MULTIPLY: Use(4, {"v": 1, "v0": 1}, wide=2, adds_after=1),
        Kind.DOT: Use(2, {"v": 1}, adds_after=1),
        Kind.REDUCE: Use(3, {"v": 1, "v1": 1}),
        Kind.PERMUTE: Use(2, {"v": 1}),
        Kind.TO_VECTOR: Use(3, {"integer": 1, "multi": 1}),
        Kind.TO_LANE: Use(5, {"integer": 1, "multi": 1, "v": 1}),
        Kind.FROM_VECTOR: Use(2, {"v": 1, "v1": 1}),
        Kind.VECTOR_LOAD: Use(5, {"load": 1, "integer": 1}),
        Kind.VECTOR_LOAD_LANE: Use(7, {"load": 1, "v": 1}),
        Kind.VECTOR_STORE: Use(2, {"load": 1, "v": 1}, wide=2),
        Kind.FLOAT: Use(2, {"v": 1}),
        Kind.FLOAT_MULTIPLY: Use(3, {"v": 1}),
        Kind.FLOAT_MULTIPLY_ADD: Use(4, {"v": 1}, adds_after=2),
        Kind.FLOAT_DIVIDE: Use(10, {"v": 7, "v0": 7}),
        Kind.FLOAT_CONVERT: Use(6, {"integer": 1, "multi": 1, "v": 1, "v0": 1}),
    }
)

PROCESSORS: Mapping[str, Processor] = MappingProxyType(
    {
        entry.name: entry
        for entry in (
            Processor(
                "cortex-a53",
                mca_cpu="cortex-a53",
                mca_units="A53Unit",
                mca_words="Cortex-A53",
                slots=2,
                decoded=2,
                in_order=True,
                mispredicted=9,
                spread=(0.60, 1.05),
                units=_A53_UNITS,
                uses=_A53,
            ),
            Processor(
                "cortex-a72",
                mca_cpu="cortex-a72",
                mca_units="A57Unit",
                mca_words="Cortex-A57, which LLVM uses for Cortex-A72",
                slots=3,
                decoded=3,
                in_order=False,
                mispredicted=14,
                spread=(0.93, 1.00),
                units=_A72_UNITS,
                uses=_A72,
            ),
            Processor(
                "cortex-a76",
                mca_cpu="neoverse-n1",
                mca_units="N1Unit",
                mca_words="Neoverse N1, of one microarchitecture with Cortex-A76",
                slots=4,
                decoded=4,
                in_order=False,
                mispredicted=11,
                spread=(0.66, 1.02),
                units=_A76_UNITS,
                uses=_A76,
            ),
        )
    }
)
"""Every processor with a model, by name. Penalties of wrong predictions are MispredictPenalty of
LLVM's models. Widths: two instructions on the A53; three decoded, and three parts issued, on the
A72; four decoded on the A76 (AnandTech, Arm's Cortex-A76 CPU Unveiled, 2018; LLVM's model lets
eight parts through and knows no decoder)."""


def processor_of(name: str) -> Processor:
    """The model of the processor called `name`.

    Raises:
        UnsupportedError: it has none; lists those that have.
    """
    if name not in PROCESSORS:
        raise UnsupportedError(
            f"{name} has no cycle model; there is one for {', '.join(PROCESSORS)}"
        )
    return PROCESSORS[name]

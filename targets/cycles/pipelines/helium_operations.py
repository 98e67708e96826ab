"""What the Cortex-M55's pipeline has to know of an instruction, scalar or vector.

The rules behind it: :mod:`edgekit.targets.cycles.pipelines.helium_issue`.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from edgekit.targets.cycles.pipelines.helium_table import HeliumTable
from edgekit.targets.cycles.thumb.instructions import Branch, Instruction, Kind
from edgekit.targets.cycles.thumb.mve import Helium
from edgekit.targets.cycles.thumb.mve_table import Pipe
from edgekit.targets.cycles.timed import Access

NO_REGISTERS: frozenset[str] = frozenset()

_PARTNER = re.compile(
    r"(nop|it[te]*|b|b[a-z][a-z]|cbn?z|movs?|[us]xt[bh]|(add|sub)s? (r\d, )?r\d, #\S+)( .*)?$"
)
_QUICK_PACKED = re.compile(r"(bf[ic]|[us]xt[bh]|rev(16|sh)?|clz|rbit|sel)\b")
_QUICK_FLOAT = re.compile(r"vcmp|fmstat|vmrs|vmsr")
_CHAINED = re.compile(r"vn?ml[as]")

_PRODUCTS = (
    Kind.MULTIPLY,
    Kind.MULTIPLY_ADD,
    Kind.MULTIPLY_LONG,
    Kind.MULTIPLY_LONG_ADD,
)
_FLOATS = (
    Kind.FLOAT,
    Kind.FLOAT_MOVE,
    Kind.FLOAT_TRANSFER,
    Kind.FLOAT_MULTIPLY_ADD,
    Kind.FLOAT_DIVIDE,
)


@dataclass(frozen=True)
class Operation:
    """An instruction as it is issued.

    Attributes:
        address: of the instruction.
        size: bytes.
        text: disassembly.
        reads: registers whose values it uses; a vector is its four single ones.
        writes: registers that it changes.
        quick: those of them that can be used a cycle later whatever the latency: moved bases, and
            flags.
        latency: cycles until the others can be used.
        stored: registers that a vector store stores, which may come a cycle later.
        gathered: registers that hold a vector of addresses or offsets.
        pipe: that it occupies.
        busy: cycles for which it does.
        duration: cycles until the next instruction can issue.
        access: to memory, None where it makes none.
        conditional: whether an IT instruction can make the core skip it.
        branch: how it jumps, None where it cannot.
        is_vector: whether it works through a vector.
        ends_loop: whether it closes a low-overhead loop.
    """

    address: int
    size: int
    text: str
    reads: frozenset[str]
    writes: frozenset[str]
    quick: frozenset[str] = NO_REGISTERS
    latency: int = 1
    stored: frozenset[str] = NO_REGISTERS
    gathered: frozenset[str] = NO_REGISTERS
    pipe: Pipe = "core"
    busy: int = 1
    duration: int = 1
    access: Access | None = None
    conditional: bool = False
    branch: Branch | None = None
    is_vector: bool = False
    ends_loop: bool = False

    @property
    def is_partner(self) -> bool:
        """Whether it is one of those of which a pair needs one."""
        return self.size == 2 and _PARTNER.match(self.text) is not None


def issued(instruction: Instruction | Helium, table: HeliumTable) -> Operation:
    """What issuing an instruction takes by `table`."""
    if isinstance(instruction, Helium):
        return _added(instruction, table)
    return _known(instruction, table)


def _added(helium: Helium, table: HeliumTable) -> Operation:
    """An instruction that Armv8.1-M added."""
    branch = None
    if helium.target is not None:
        # The form of LE without a count always jumps.
        endless = helium.ends_loop and "lr" not in helium.reads
        branch = Branch("immediate", False, not endless, helium.target)
    is_store = helium.access is not None and helium.access.kind == "store"
    vectors = frozenset(register for register in helium.reads if register[0] == "q")
    return Operation(
        address=helium.address,
        size=helium.size,
        text=helium.text,
        reads=_singles(helium.reads),
        writes=_singles(helium.writes),
        # An access reads and writes the same register only where it moves its base.
        quick=_singles(helium.writes & helium.reads) if helium.access else NO_REGISTERS,
        latency=helium.latency,
        stored=_singles(vectors - helium.vector_address) if is_store else NO_REGISTERS,
        gathered=_singles(helium.vector_address),
        pipe=helium.pipe,
        busy=table.vector if helium.is_vector else 1,
        access=helium.access,
        conditional=helium.conditional,
        branch=branch,
        is_vector=helium.is_vector,
        ends_loop=helium.ends_loop,
    )


def _known(instruction: Instruction, table: HeliumTable) -> Operation:
    """An instruction that earlier cores have too."""
    kind, access = instruction.kind, instruction.access
    latency = _latency(instruction, table)
    pipe: Pipe = "core"
    busy = duration = 1
    if access is not None:
        pipe = "memory"
        busy = duration = math.ceil(access.bytes / table.multiple_bytes)
        latency += duration - 1
    elif kind in _FLOATS:
        pipe = "multiply"
        busy = latency if kind is Kind.FLOAT_DIVIDE else 1
    elif kind is Kind.DIVIDE:
        duration = table.divide
    return Operation(
        address=instruction.address,
        size=instruction.size,
        text=instruction.text,
        reads=instruction.reads,
        writes=instruction.writes,
        quick=instruction.written_back | (instruction.writes & {"apsr"}),
        latency=latency,
        pipe=pipe,
        busy=busy,
        duration=duration,
        access=access,
        conditional=instruction.conditional,
        branch=instruction.branch,
    )


def _latency(instruction: Instruction, table: HeliumTable) -> int:
    """Cycles until another instruction can use the result."""
    kind = instruction.kind
    if kind in _FLOATS:
        return _float_latency(instruction, table)
    if kind is Kind.ARITHMETIC:
        return table.shifted if instruction.early_reads else 1
    if kind is Kind.PACKED:
        return 1 if _QUICK_PACKED.match(instruction.text) else table.packed
    if kind is Kind.DIVIDE:
        return table.divide
    if kind in _PRODUCTS:
        return table.multiply
    return table.load if kind.is_load else 1


def _float_latency(instruction: Instruction, table: HeliumTable) -> int:
    kind, text = instruction.kind, instruction.text
    if _QUICK_FLOAT.match(text):
        return 1
    if ".f64" in text and kind is not Kind.FLOAT_MOVE:
        return next((c for name, c in table.double if text.startswith(name)), table.floating)
    if kind is Kind.FLOAT_DIVIDE:
        return table.float_divide
    if kind is Kind.FLOAT_MULTIPLY_ADD and _CHAINED.match(text):
        return table.float_chained
    to_core = not any(r[0] == "s" and r != "sp" for r in instruction.writes)
    if kind is Kind.FLOAT_MOVE or (kind is Kind.FLOAT_TRANSFER and to_core):
        return 1
    return table.floating


def _singles(registers: frozenset[str]) -> frozenset[str]:
    """Registers with every vector as its four single-precision ones.

    >>> sorted(_singles(frozenset({"q1", "r0"})))
    ['r0', 's4', 's5', 's6', 's7']
    """
    vectors = {register for register in registers if register[0] == "q"}
    return registers - vectors | {f"s{4 * int(q[1:]) + i}" for q in vectors for i in range(4)}

"""A Cortex-M core in this process (unicorn): runs functions of an image, counts, watches memory.

Only the target's memories exist, program memory cannot be written and data memory cannot be
executed: an access outside is an error that names address and program counter. See
:mod:`edgekit.targets.tracing` for how instructions are counted, and :mod:`edgekit.targets.cycles`
for what they cost.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import Any, Self

import unicorn
from unicorn import arm_const as arm

from edgekit.bench.costs import CycleModel
from edgekit.errors import DoesNotFitError, EmulationError, UnsupportedError
from edgekit.targets.cores import Memory
from edgekit.targets.cycles.account import Accountant
from edgekit.targets.cycles.costs import Count
from edgekit.targets.cycles.described import in_order_model
from edgekit.targets.cycles.pipelines.choice import timing_of
from edgekit.targets.cycles.trace.memory import MemoryTiming
from edgekit.targets.elf import Elf
from edgekit.targets.target import Target
from edgekit.targets.tracing import (
    ACCESS,
    INSTRUCTION_LIMIT,
    JUMP,
    NOWHERE,
    READ,
    READ_ONLY,
    STACK_PAINT,
    TIMEOUT_S,
    WRITE,
    BlockTrace,
    Refused,
    kept_memory,
)
from edgekit.targets.watchdog import WATCHDOG

_PAGE = 4096
_ARGUMENTS = (arm.UC_ARM_REG_R0, arm.UC_ARM_REG_R1, arm.UC_ARM_REG_R2, arm.UC_ARM_REG_R3)

_HOOKS = {
    READ: unicorn.UC_HOOK_MEM_READ,
    WRITE: unicorn.UC_HOOK_MEM_WRITE,
    JUMP: unicorn.UC_HOOK_CODE,
}

# Numbers that QEMU gives to exceptions. Without a memory protection unit, alignment is the only
# reason for a data abort in an existing memory.
_EXCEPTIONS = {
    1: "undefined instruction",
    2: "supervisor call",
    4: "unaligned access",
    7: "breakpoint",
    17: "floating-point instruction without a floating-point unit",
    18: "invalid state",
}


class Emulator:
    """An image loaded into an emulated core; its memories start out zeroed.

    Args:
        target: whose core and memories are emulated.
        elf: linked for `target` by :func:`edgekit.targets.image.build_image`.
        timeout_s: wall-clock limit of one call.
        instruction_limit: limit of one counted call, checked now and then.

    Raises:
        UnsupportedError: there is no emulator for the core.
        DoesNotFitError: the image lies outside the target's memories.
    """

    def __init__(
        self,
        target: Target,
        elf: Elf,
        *,
        timeout_s: float = TIMEOUT_S,
        instruction_limit: int = INSTRUCTION_LIMIT,
    ) -> None:
        core = target.cortex
        if core.unicorn_model is None:
            raise UnsupportedError(f"{core.name} has no function-by-function emulator; use QEMU")
        _require_room(target, elf)
        self._target = target
        self._elf = elf
        self._accountant = Accountant(timing_of(core), self._code, elf.function_at)
        self._memory_timing = MemoryTiming.of(target)
        self._memory = kept_memory(self._memory_timing)
        self._timeout_s = timeout_s
        self._instruction_limit = instruction_limit
        self._refused: Refused | None = None
        self._exception: int | None = None
        self._overwritten: list[tuple[int, bytes]] = []

        # Not UC_MODE_MCLASS: under it unicorn takes an M33, whatever model is chosen.
        self._uc = unicorn.Uc(unicorn.UC_ARCH_ARM, unicorn.UC_MODE_THUMB)
        self._uc.ctl_set_cpu_model(core.unicorn_model)
        for begin, end, memories in page_runs(target.memories):
            self._map(begin, end, memories)
        for segment in elf.segments:
            self._uc.mem_write(segment.address, segment.data)
        self._uc.hook_add(
            unicorn.UC_HOOK_MEM_INVALID | unicorn.UC_HOOK_MEM_UNMAPPED, self._on_refused
        )
        self._uc.hook_add(unicorn.UC_HOOK_INTR, self._on_exception)

        # Calls return to an address that no call executes.
        self._return = self.symbol("Fault_Handler") & ~1
        self._stack_limit = self.symbol("ek_stack_limit")
        self._stack_top = self.symbol("ek_stack_top")
        self.call("ek_initialise_memory")

    def symbol(self, name: str) -> int:
        """Address of a symbol of the image; bit 0 is set for functions."""
        return self._elf.symbols[name]

    def read(self, address: int, size: int) -> bytes:
        """Bytes from memory."""
        return bytes(self._uc.mem_read(address, size))

    def write(self, address: int, data: bytes) -> None:
        """Bytes into memory."""
        self._uc.mem_write(address, data)

    def call(self, function: str | int, *arguments: int) -> int:
        """Call a function by name or address with up to four word arguments; returns r0.

        Raises:
            EmulationError: it faulted, left its memories, overflowed the stack or did not return
                in time.
        """
        return self._run(function, arguments)

    def count(self, function: str | int, *arguments: int) -> tuple[int, Count]:
        """Like :meth:`call`, with what it cost; some thirty times slower.

        Buffers and caches of the memories are as the counted call before left them.
        """
        trace = BlockTrace(
            self._uc,
            self._instruction_limit,
            pc_register=arm.UC_ARM_REG_PC,
            it_register=arm.UC_ARM_REG_XPSR,
            costs=self._accountant,
            memory=self._memory,
        )
        with trace:
            result = self._run(function, arguments)
        return result, self._accountant.count(trace.blocks(self._return))

    def empty_caches(self) -> None:
        """Let the next counted call find buffers and caches of the memories empty."""
        self._memory.empty()

    @property
    def cycle_model(self) -> CycleModel:
        """What the cycles of counted calls come from."""
        return in_order_model(self._target, self._memory_timing.words)

    def stack_bytes(self, function: str | int, *arguments: int) -> int:
        """Call a function; returns the bytes of stack that it used at its deepest."""
        size = self._stack_top - self._stack_limit
        self.write(self._stack_limit, bytes([STACK_PAINT]) * size)
        self.call(function, *arguments)
        stack = self.read(self._stack_limit, size)
        return len(stack.lstrip(bytes([STACK_PAINT])))

    def close(self) -> None:
        """Release the emulated memories."""
        self._uc = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _map(self, begin: int, end: int, memories: Sequence[Memory]) -> None:
        """Map pages that memories share; what those do not cover or allow stays out of bounds."""
        program = any(memory.is_program for memory in memories)
        data = any(memory.is_data for memory in memories)
        rights = unicorn.UC_PROT_READ
        rights |= unicorn.UC_PROT_EXEC if program else 0
        rights |= unicorn.UC_PROT_WRITE if data else 0
        self._uc.mem_map(begin, end - begin, rights)
        position = begin
        for memory in sorted(memories, key=lambda memory: memory.origin):
            first, behind = max(begin, memory.origin), min(end, memory.end)
            self._forbid(position, first, READ, WRITE, JUMP, reason=NOWHERE)
            if data and memory.is_program:
                self._forbid(first, behind, WRITE, reason=READ_ONLY)
            if program and memory.is_data:
                self._forbid(first, behind, JUMP)
            position = behind
        self._forbid(position, end, READ, WRITE, JUMP, reason=NOWHERE)

    def _forbid(self, begin: int, end: int, *verbs: str, reason: str = "") -> None:
        """Stop at accesses that the rights of the page allow."""

        def on_code(uc: Any, address: int, size: int, verb: str) -> None:
            if self._refused is None:
                self._refused = Refused(verb, reason, address, uc.reg_read(arm.UC_ARM_REG_PC))
            uc.emu_stop()

        def on_data(uc: Any, access: int, address: int, size: int, value: int, verb: str) -> None:
            if verb == WRITE:
                self._overwritten.append((address, self.read(address, size)))
            on_code(uc, address, size, verb)

        for verb in verbs if begin < end else ():
            function = on_code if verb == JUMP else on_data
            self._uc.hook_add(_HOOKS[verb], function, verb, begin, end - 1)

    def _on_refused(
        self, uc: Any, access: int, address: int, size: int, value: int, _: Any
    ) -> bool:
        verb, reason = ACCESS[access]
        self._refused = Refused(verb, reason, address, uc.reg_read(arm.UC_ARM_REG_PC))
        return False

    def _on_exception(self, uc: Any, number: int, _: Any) -> None:
        self._exception = number
        uc.emu_stop()

    def _run(self, function: str | int, arguments: tuple[int, ...]) -> int:
        assert len(arguments) <= len(_ARGUMENTS)
        entry = self.symbol(function) if isinstance(function, str) else function
        uc = self._uc
        self._refused = self._exception = None
        for register, value in zip(_ARGUMENTS, arguments, strict=False):
            uc.reg_write(register, value)
        uc.reg_write(arm.UC_ARM_REG_SP, self._stack_top)
        uc.reg_write(arm.UC_ARM_REG_LR, self._return | 1)
        failure: unicorn.UcError | None = None
        try:
            with WATCHDOG.limit(self._timeout_s, uc.emu_stop):
                uc.emu_start(entry | 1, self._return)
        except unicorn.UcError as error:
            failure = error
        pc = uc.reg_read(arm.UC_ARM_REG_PC)
        stopped = failure is not None or self._exception is not None or self._refused is not None
        if not stopped and pc == self._return:
            return int(uc.reg_read(arm.UC_ARM_REG_R0))
        self._repair()
        raise self._error(function, failure, pc)

    def _repair(self) -> None:
        """Undo writes that were forbidden: where a page has the right, they happen all the same."""
        for address, data in reversed(self._overwritten):
            self._uc.mem_write(address, data)
        self._overwritten.clear()

    def _error(
        self, function: str | int, failure: unicorn.UcError | None, pc: int
    ) -> EmulationError:
        """What went wrong, with the place in words."""
        name = function if isinstance(function, str) else f"{function:#010x}"
        start = f"{name} on {self._target.name}"
        refused = self._refused
        if refused is not None and refused.verb != JUMP:
            where = f"at pc {refused.pc:#010x} in {self._elf.function_at(refused.pc)}"
            what = f"{refused.verb} of {refused.address:#010x}, {refused.reason}"
            if self._stack_limit - _PAGE <= refused.address < self._stack_limit:
                what = f"the stack of {self._stack_top - self._stack_limit} bytes overflows"
            return EmulationError(f"{start}: {what}, {where}", refused.pc, refused.address)
        if not any(m.is_program and m.origin <= pc < m.end for m in self._target.memories):
            link = self._uc.reg_read(arm.UC_ARM_REG_LR) & ~1
            return EmulationError(
                f"{start}: jump to {pc:#010x}, outside the program memory; "
                f"the link register points into {self._elf.function_at(link)}",
                pc,
                pc,
            )
        where = f"at pc {pc:#010x} in {self._elf.function_at(pc)}"
        if self._exception is not None:
            what = _EXCEPTIONS.get(self._exception, f"exception {self._exception}")
            return EmulationError(f"{start}: {what} {where}", pc)
        if failure is not None:
            return EmulationError(f"{start}: {failure} {where}", pc)
        return EmulationError(f"{start}: no return in time, stopped {where}", pc)

    def _code(self, address: int, size: int) -> bytes:
        """`size` bytes of code.

        Raises:
            EmulationError: they are not all in one memory.
        """
        for memory in self._target.memories:
            if memory.origin <= address and address + size <= memory.end:
                return self.read(address, size)
        raise EmulationError(
            f"{size} bytes of code at {address:#010x} are in no memory of {self._target.name}; "
            "their cycles cannot be counted",
            address,
        )


def page_runs(
    memories: Sequence[Memory],
) -> Iterator[tuple[int, int, tuple[Memory, ...]]]:
    """Cut the pages that memories touch into runs of pages that hold the same memories.

    Returns:
        Begin, end and the memories of every run, by ascending address.

    >>> flash = Memory("flash", "flash", 0, 0x1800), Memory("more", "flash", 0x1800, 0x1800)
    >>> [(hex(b), hex(e), len(inside)) for b, e, inside in page_runs(flash)]
    [('0x0', '0x1000', 1), ('0x1000', '0x2000', 2), ('0x2000', '0x3000', 1)]
    """
    pages = [(m.origin - m.origin % _PAGE, m.end + -m.end % _PAGE, m) for m in memories]
    edges = sorted({edge for first, last, _ in pages for edge in (first, last)})
    for begin, end in itertools.pairwise(edges):
        inside = tuple(m for first, last, m in pages if first <= begin and end <= last)
        if inside:
            yield begin, end, inside


def _require_room(target: Target, elf: Elf) -> None:
    """Refuse an image with sections outside the target's memories."""
    for section in elf.sections:
        end = section.address + section.bytes
        if not any(m.origin <= section.address and end <= m.end for m in target.memories):
            raise DoesNotFitError(
                f"{section.name} ({section.bytes} bytes at {section.address:#010x}) lies outside "
                f"the memories of {target.name}"
            )

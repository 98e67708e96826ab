"""An application processor in this process (unicorn): runs functions of a shared object.

The very file that ships is loaded as a system's loader would do it: its segments with their rights,
its relocations applied, what is constant afterwards write-protected. Beside it there is a stack as
large as a thread's, and what :meth:`SharedEmulator.allocate` was asked for; behind each of these
nothing is mapped, so that a step too far is an error that names address, program counter and
function. Addresses of instructions count from the start of the file, as disassemblers show them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import unicorn
from unicorn import arm64_const as arm64
from unicorn import arm_const as arm

from edgekit.bench.costs import CycleModel
from edgekit.errors import DoesNotFitError, EmulationError, UnsupportedError
from edgekit.targets.arm_cpu.cpus import AARCH64, ARMV7, Cpu
from edgekit.targets.arm_cpu.disassembly import disassemble
from edgekit.targets.arm_cpu.loader import SharedImage
from edgekit.targets.cycles.aarch64.timing import ProcessorTiming
from edgekit.targets.cycles.account import count_instructions
from edgekit.targets.cycles.costs import Count
from edgekit.targets.tracing import (
    ACCESS,
    INSTRUCTION_LIMIT,
    JUMP,
    STACK_PAINT,
    TIMEOUT_S,
    BlockTrace,
    Mark,
    Refused,
)
from edgekit.targets.watchdog import WATCHDOG

STACK_BYTES = 128 << 10
"""The least that a thread has with the usual C libraries (musl)."""

_PAGE = 4096
_RETURN = 0x1_0000
_IMAGE = 0x40_0000
_STACK_TOP = 0x7000_0000
_STACK_LIMIT = _STACK_TOP - STACK_BYTES
_GUARD = _PAGE
# Data lies between image and stack; 32-bit processors see all of it.
_DATA_END = _STACK_LIMIT - 16 * _GUARD

_EXCEPTIONS = {
    1: "undefined instruction",
    2: "system call",
    3: "jump to where there is no code",
    4: "unaligned access",
    7: "breakpoint",
}
"""Numbers that QEMU gives to exceptions."""

_CPSR_THUMB = 5
_CPACR_FULL_FLOAT = 0xF << 20
_FPEXC_ENABLE = 1 << 30


@dataclass(frozen=True)
class _Registers:
    """Registers of an architecture, as unicorn numbers them.

    Attributes:
        mode: unicorn's architecture.
        pc, sp, lr: program counter, stack pointer, return address.
        arguments: of a call, in order; the first takes the result.
    """

    mode: int
    pc: int
    sp: int
    lr: int
    arguments: tuple[int, ...]


_REGISTERS: Mapping[str, _Registers] = {
    AARCH64: _Registers(
        unicorn.UC_ARCH_ARM64,
        arm64.UC_ARM64_REG_PC,
        arm64.UC_ARM64_REG_SP,
        arm64.UC_ARM64_REG_LR,
        tuple(arm64.UC_ARM64_REG_X0 + i for i in range(8)),
    ),
    ARMV7: _Registers(
        unicorn.UC_ARCH_ARM,
        arm.UC_ARM_REG_PC,
        arm.UC_ARM_REG_SP,
        arm.UC_ARM_REG_LR,
        tuple(arm.UC_ARM_REG_R0 + i for i in range(4)),
    ),
}


class SharedEmulator:
    """A shared object loaded into an emulated processor.

    Implements :class:`edgekit.targets.emulated.Caller`.

    Args:
        cpu: what the file was built for.
        image: the file's contents.
        timeout_s: wall-clock limit of one call.
        instruction_limit: limit of one counted call, checked now and then.

    Raises:
        UnsupportedError: there is no emulator for the processor.
    """

    def __init__(
        self,
        cpu: Cpu,
        image: SharedImage,
        *,
        timeout_s: float = TIMEOUT_S,
        instruction_limit: int = INSTRUCTION_LIMIT,
    ) -> None:
        if cpu.unicorn_model is None:
            raise UnsupportedError(f"{cpu.name} has no emulator")
        self._cpu = cpu
        self._image = image
        self._registers = _REGISTERS[cpu.architecture]
        self._timeout_s = timeout_s
        self._instruction_limit = instruction_limit
        self._refused: Refused | None = None
        self._exception: int | None = None

        self._uc = unicorn.Uc(self._registers.mode, unicorn.UC_MODE_ARM)
        self._uc.ctl_set_cpu_model(cpu.unicorn_model)
        if cpu.architecture == ARMV7:
            self._enable_float()
        for segment in image.placed(_IMAGE):
            rights = unicorn.UC_PROT_READ
            rights |= unicorn.UC_PROT_WRITE if segment.is_writable else 0
            rights |= unicorn.UC_PROT_EXEC if segment.is_executable else 0
            begin = segment.address - segment.address % _PAGE
            end = _round_up(segment.address + len(segment.data), _PAGE)
            self._uc.mem_map(begin, end - begin, rights)
            self._uc.mem_write(segment.address, segment.data)
        for address, size in image.constant:
            # The linker ends the range with a page, its own kind; the part that fits is protected.
            begin = _IMAGE + address - address % _PAGE
            end = (_IMAGE + address + size) // _PAGE * _PAGE
            if begin < end:
                self._uc.mem_protect(begin, end - begin, unicorn.UC_PROT_READ)
        self._uc.mem_map(_STACK_LIMIT, STACK_BYTES, unicorn.UC_PROT_READ | unicorn.UC_PROT_WRITE)
        # Calls return to an address that no call executes.
        self._uc.mem_map(_RETURN, _PAGE, unicorn.UC_PROT_READ | unicorn.UC_PROT_EXEC)
        self._next = _IMAGE + _round_up(image.bytes, _PAGE) + _GUARD
        self._uc.hook_add(
            unicorn.UC_HOOK_MEM_INVALID | unicorn.UC_HOOK_MEM_UNMAPPED, self._on_refused
        )
        self._uc.hook_add(unicorn.UC_HOOK_INTR, self._on_exception)

    def symbol(self, name: str) -> int:
        """Address of a symbol of the file; bit 0 is set for Thumb functions."""
        return _IMAGE + self._image.elf.symbols[name]

    def allocate(self, size: int, alignment: int) -> int:
        """Address of `size` zeroed bytes; behind them, rounded up to `alignment`, is nothing.

        Raises:
            DoesNotFitError: more than the emulated processor has left.
        """
        assert 0 < alignment <= _PAGE
        taken = _round_up(size, alignment)
        pages = _round_up(max(taken, 1), _PAGE)
        if self._next + pages > _DATA_END:
            raise DoesNotFitError(f"{size} bytes are more than the emulated {self._cpu.name} has")
        self._uc.mem_map(self._next, pages, unicorn.UC_PROT_READ | unicorn.UC_PROT_WRITE)
        address = self._next + pages - taken
        self._next += pages + _GUARD
        return address

    def read(self, address: int, size: int) -> bytes:
        """Bytes from memory."""
        return bytes(self._uc.mem_read(address, size))

    def write(self, address: int, data: bytes) -> None:
        """Bytes into memory."""
        self._uc.mem_write(address, data)

    def call(self, function: str | int, *arguments: int) -> int:
        """Call a function by name or address with integer arguments; returns its int result.

        Raises:
            EmulationError: it faulted, left its memories, overflowed the stack or did not return
                in time.
        """
        assert len(arguments) <= len(self._registers.arguments)
        entry = self.symbol(function) if isinstance(function, str) else function
        uc, registers = self._uc, self._registers
        self._refused = self._exception = None
        for register, value in zip(registers.arguments, arguments, strict=False):
            uc.reg_write(register, value)
        uc.reg_write(registers.sp, _STACK_TOP)
        uc.reg_write(registers.lr, _RETURN)
        failure: unicorn.UcError | None = None
        try:
            with WATCHDOG.limit(self._timeout_s, uc.emu_stop):
                uc.emu_start(entry, _RETURN)
        except unicorn.UcError as error:
            failure = error
        pc = uc.reg_read(registers.pc)
        stopped = failure is not None or self._exception is not None or self._refused is not None
        if not stopped and pc == _RETURN:
            result = uc.reg_read(registers.arguments[0]) & 0xFFFFFFFF
            return int(result - (1 << 32) if result >> 31 else result)
        raise self._error(function, failure, pc)

    def count(self, function: str | int, *arguments: int) -> tuple[int, Count]:
        """Like :meth:`call`, with the instructions it issued; little slower.

        Cycles are modelled where the processor has a model; llvm-mca looks at every block that is
        new to it, about a second's work for a network.
        """
        # Bit 0 of a Thumb block's address is set.
        mark = Mark(arm.UC_ARM_REG_CPSR, _CPSR_THUMB) if self._cpu.architecture == ARMV7 else None
        trace = BlockTrace(
            self._uc, self._instruction_limit, pc_register=self._registers.pc, mark=mark
        )
        with trace:
            result = self.call(function, *arguments)
        # The start of the file, where no code is, stands for the caller.
        traced = [block.moved(-_IMAGE) for block in trace.blocks(_IMAGE)]
        count = count_instructions(traced, self._texts, self._image.elf.function_at)
        if self._timing is not None:
            count = self._timing.modelled(count)
        return result, count

    @property
    def cycle_model(self) -> CycleModel | None:
        """What the cycles of the counted calls come from; None where they have none."""
        return None if self._timing is None else self._timing.model

    @cached_property
    def _timing(self) -> ProcessorTiming | None:
        """Looked for when it is needed: most calls are not counted."""
        processor = self._cpu.processor
        return None if processor is None else ProcessorTiming.best(processor)

    def stack_bytes(self, function: str | int, *arguments: int) -> int:
        """Call a function; returns the bytes of stack that it used at its deepest."""
        self.write(_STACK_LIMIT, bytes([STACK_PAINT]) * STACK_BYTES)
        self.call(function, *arguments)
        return len(self.read(_STACK_LIMIT, STACK_BYTES).lstrip(bytes([STACK_PAINT])))

    def close(self) -> None:
        """Release the emulated memories."""
        self._uc = None

    def _enable_float(self) -> None:
        """What a 32-bit kernel does before programs may use the floating-point unit."""
        access = self._uc.reg_read(arm.UC_ARM_REG_C1_C0_2)
        self._uc.reg_write(arm.UC_ARM_REG_C1_C0_2, access | _CPACR_FULL_FLOAT)
        self._uc.reg_write(arm.UC_ARM_REG_FPEXC, _FPEXC_ENABLE)

    def _on_refused(
        self, uc: Any, access: int, address: int, size: int, value: int, _: Any
    ) -> bool:
        verb, reason = ACCESS[access]
        self._refused = Refused(verb, reason, address, uc.reg_read(self._registers.pc))
        return False

    def _on_exception(self, uc: Any, number: int, _: Any) -> None:
        self._exception = number
        uc.emu_stop()

    def _error(
        self, function: str | int, failure: unicorn.UcError | None, pc: int
    ) -> EmulationError:
        """What went wrong, with the place in words."""
        name = function if isinstance(function, str) else f"{function:#x}"
        start = f"{name} on {self._cpu.name}"
        refused = self._refused
        if refused is not None and refused.verb != JUMP:
            what = f"{refused.verb} of {refused.address:#x}, {refused.reason}"
            if _STACK_LIMIT - _PAGE <= refused.address < _STACK_LIMIT:
                what = f"the stack of {STACK_BYTES} bytes overflows"
            at, where = self._place(refused.pc)
            return EmulationError(f"{start}: {what}, {where}", at, refused.address)
        if refused is not None or not self._is_code(pc):
            _, where = self._place(self._uc.reg_read(self._registers.lr))
            return EmulationError(
                f"{start}: jump to {pc:#x}, where there is no code; "
                f"the link register points {where}",
                pc,
                pc,
            )
        at, where = self._place(pc)
        if self._exception is not None:
            what = _EXCEPTIONS.get(self._exception, f"exception {self._exception}")
            return EmulationError(f"{start}: {what} {where}", at)
        if failure is not None:
            return EmulationError(f"{start}: {failure} {where}", at)
        return EmulationError(f"{start}: no return in time, stopped {where}", at)

    def _place(self, pc: int) -> tuple[int, str]:
        """Address from the start of the file, and in words."""
        address = pc - _IMAGE if self._is_code(pc) else pc
        return address, f"at pc {address:#x} in {self._image.elf.function_at(address)}"

    def _is_code(self, pc: int) -> bool:
        return any(
            s.is_executable and s.address <= pc - _IMAGE < s.address + len(s.data)
            for s in self._image.segments
        )

    def _texts(self, address: int, size: int) -> Sequence[tuple[int, str]]:
        """Address from the start of the file, and disassembly, of a block's instructions."""
        thumb, address = bool(address & 1), address & ~1
        code = self.read(_IMAGE + address, size)
        return disassemble(code, address, architecture=self._cpu.architecture, thumb=thumb)


def _round_up(value: int, multiple: int) -> int:
    return value + -value % multiple

"""Instructions of an application processor as text: AArch64, and ARM and Thumb of ARMv7-A."""

from __future__ import annotations

from functools import cache

import capstone

from edgekit.targets.arm_cpu.cpus import AARCH64
from edgekit.targets.cycles.thumb.decoder import lengths

_WORD = 4
"""Bytes of every instruction that is not a Thumb one."""


@cache
def _disassembler(architecture: str, thumb: bool) -> capstone.Cs:
    if architecture == AARCH64:
        return capstone.Cs(capstone.CS_ARCH_ARM64, capstone.CS_MODE_LITTLE_ENDIAN)
    mode = capstone.CS_MODE_THUMB if thumb else capstone.CS_MODE_ARM
    return capstone.Cs(capstone.CS_ARCH_ARM, mode | capstone.CS_MODE_V8)


def disassemble(
    code: bytes, address: int, *, architecture: str, thumb: bool = False
) -> tuple[tuple[int, str], ...]:
    """Address and text of every instruction in `code`; the encoding where capstone knows no name.

    Args:
        code: whole instructions.
        address: of the first one.
        architecture: key as :class:`edgekit.targets.arm_cpu.cpus.Cpu` has it.
        thumb: whether they are Thumb instructions, which are two or four bytes wide.

    >>> disassemble(bytes.fromhex("20008052c0035fd6"), 64, architecture=AARCH64)
    ((64, 'mov w0, #1'), (68, 'ret'))
    """
    places = lengths(code) if thumb else ((at, _WORD) for at in range(0, len(code), _WORD))
    return tuple(
        (address + at, _text(code[at : at + size], address + at, architecture, thumb))
        for at, size in places
    )


def _text(code: bytes, address: int, architecture: str, thumb: bool) -> str:
    found = next(_disassembler(architecture, thumb).disasm_lite(code, address), None)
    if found is None:
        return f".inst {int.from_bytes(code, 'little'):#0{2 + 2 * len(code)}x}"
    _, _, name, operands = found
    return f"{name} {operands}".strip()

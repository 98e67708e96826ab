"""Application processors under Linux: what compilers, emulators and kernels must know of them."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from types import MappingProxyType

from unicorn import arm64_const, arm_const

from edgekit.targets.cycles.aarch64.processors import PROCESSORS, Processor

AARCH64 = "aarch64"
ARMV7 = "armv7"
X86_64 = "x86-64"


@dataclass(frozen=True)
class Architecture:
    """What all processors of one architecture have in common.

    Attributes:
        name: ``aarch64``, ``armv7`` or ``x86-64``.
        gcc: name of the cross compiler.
        gcc_package: what provides it, for messages.
        gcc_flags: its flags for every processor of the architecture.
        zig_target: architecture, system and ABI as zig names them.
        qemu: command that runs programs of the architecture under Linux; None where no device
            needs it.
        has_emulator: whether the function-by-function emulator knows it.
    """

    name: str
    gcc: str
    gcc_package: str
    gcc_flags: tuple[str, ...]
    zig_target: str
    qemu: str | None
    has_emulator: bool


ARCHITECTURES: Mapping[str, Architecture] = MappingProxyType(
    {
        entry.name: entry
        for entry in (
            Architecture(
                AARCH64,
                gcc="aarch64-linux-gnu-gcc",
                gcc_package="gcc-aarch64-linux-gnu (Debian, Ubuntu)",
                gcc_flags=("-mbranch-protection=none",),
                zig_target="aarch64-linux-musl",
                qemu="qemu-aarch64",
                has_emulator=True,
            ),
            Architecture(
                ARMV7,
                gcc="arm-linux-gnueabihf-gcc",
                gcc_package="gcc-arm-linux-gnueabihf (Debian, Ubuntu)",
                # Instructions of one width: nothing on such a computer is short of flash.
                gcc_flags=("-marm", "-mfloat-abi=hard"),
                zig_target="arm-linux-musleabihf",
                qemu="qemu-arm",
                has_emulator=True,
            ),
            Architecture(
                X86_64,
                gcc="x86_64-linux-gnu-gcc",
                gcc_package="gcc or gcc-x86-64-linux-gnu (Debian, Ubuntu)",
                gcc_flags=("-fcf-protection=none",),
                zig_target="x86_64-linux-musl",
                qemu=None,
                has_emulator=False,
            ),
        )
    }
)
"""Every architecture by name."""


@dataclass(frozen=True)
class Cpu:
    """An application processor, or what all of one architecture have in common.

    Attributes:
        name: as users write it: every one is a target, without a computer around it.
        architecture: ``aarch64``, ``armv7`` or ``x86-64``.
        description: one line for people.
        gcc_flags: flags that choose it among the architecture's.
        zig_cpu: name and features for zig.
        features: instruction-set features that kernels may demand.
        unicorn_model: CPU model of the emulator that has its instructions and as few others as
            possible, None without an emulator.
        qemu_cpu: the same for QEMU.
        processor: how its cycles are modelled; None where they are not, as they are not the same
            for all of an architecture.
    """

    name: str
    architecture: str
    description: str
    gcc_flags: tuple[str, ...]
    zig_cpu: str
    features: frozenset[str] = field(default=frozenset())
    unicorn_model: int | None = None
    qemu_cpu: str | None = None
    processor: Processor | None = None

    @property
    def platform(self) -> Architecture:
        """What it has in common with others."""
        return ARCHITECTURES[self.architecture]

    @property
    def devices(self) -> tuple[str, ...]:
        """Devices that can run it here, the best first."""
        local = ("local",) if self.runs_here else ()
        emulator = ("emulator",) if self.platform.has_emulator else ()
        qemu = () if self.platform.qemu is None else ("qemu",)
        return local + emulator + qemu

    @property
    def runs_here(self) -> bool:
        """Whether this machine executes its instructions."""
        return self.architecture == this_architecture() and self.features <= these_features()

    def compiler_flags(self) -> tuple[str, ...]:
        """Machine flags of GCC.

        >>> CPUS["cortex-a72"].compiler_flags()
        ('-mcpu=cortex-a72', '-mbranch-protection=none')
        """
        return self.gcc_flags + self.platform.gcc_flags

    def zig_flags(self) -> tuple[str, ...]:
        """Machine flags of ``zig cc``.

        >>> CPUS["cortex-a76"].zig_flags()
        ('-target', 'aarch64-linux-musl', '-mcpu=cortex_a76')
        """
        return ("-target", self.platform.zig_target, f"-mcpu={self.zig_cpu}")


CPUS: Mapping[str, Cpu] = MappingProxyType(
    {
        cpu.name: cpu
        for cpu in (
            Cpu(
                "aarch64",
                AARCH64,
                "any 64-bit ARM processor under Linux",
                gcc_flags=("-march=armv8-a",),
                zig_cpu="generic",
                unicorn_model=arm64_const.UC_CPU_ARM64_A53,
                qemu_cpu="cortex-a53",
            ),
            Cpu(
                "armv7",
                ARMV7,
                "any 32-bit ARMv7-A processor with a floating-point unit under Linux",
                # The least that distributions for armhf ask for: no NEON, no division.
                gcc_flags=("-march=armv7-a+fp",),
                zig_cpu="generic+v7a+vfp3d16",
                unicorn_model=arm_const.UC_CPU_ARM_CORTEX_A9,
                qemu_cpu="cortex-a9",
            ),
            Cpu(
                "x86-64",
                X86_64,
                "the development host's processors, SSE4.2 at least",
                gcc_flags=("-march=x86-64-v2",),
                zig_cpu="x86_64_v2",
            ),
            Cpu(
                "cortex-a53",
                AARCH64,
                "any computer with Cortex-A53 under Linux",
                gcc_flags=("-mcpu=cortex-a53",),
                zig_cpu="cortex_a53",
                unicorn_model=arm64_const.UC_CPU_ARM64_A53,
                qemu_cpu="cortex-a53",
                processor=PROCESSORS["cortex-a53"],
            ),
            Cpu(
                "cortex-a72",
                AARCH64,
                "any computer with Cortex-A72 under Linux",
                gcc_flags=("-mcpu=cortex-a72",),
                zig_cpu="cortex_a72",
                unicorn_model=arm64_const.UC_CPU_ARM64_A72,
                qemu_cpu="cortex-a72",
                processor=PROCESSORS["cortex-a72"],
            ),
            Cpu(
                "cortex-a76",
                AARCH64,
                "any computer with Cortex-A76 under Linux",
                gcc_flags=("-mcpu=cortex-a76",),
                zig_cpu="cortex_a76",
                features=frozenset({"dotprod"}),
                unicorn_model=arm64_const.UC_CPU_ARM64_MAX,
                qemu_cpu="cortex-a76",
                processor=PROCESSORS["cortex-a76"],
            ),
        )
    }
)
"""Every known processor by name."""


def this_architecture() -> str:
    """Architecture of the machine that this runs on, in the words of :class:`Cpu`."""
    machine = platform.machine().lower()
    return {"amd64": X86_64, "x86_64": X86_64, "arm64": AARCH64, "armv7l": ARMV7}.get(
        machine, machine
    )


_LINUX_NAMES = {"dotprod": "asimddp"}
"""What ``/proc/cpuinfo`` calls the features of :class:`Cpu`."""


@cache
def these_features() -> frozenset[str]:
    """Features of the machine that this runs on, in the words of :class:`Cpu`."""
    try:
        words = set(Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace").split())
    except OSError:
        return frozenset()
    return frozenset(name for name, word in _LINUX_NAMES.items() if word in words)

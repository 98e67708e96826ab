"""The Cortex-M cores: compiler flags, emulator and QEMU models, cycle tables.

One entry per core in :data:`CORES`. Adding a core is adding an entry.

A float kernel must never fall back to software floating point where the core has an FPU. Two facts
shape the flags below. For a freestanding Thumb target, zig drops the floating-point features of a
CPU model, even with the hard-float ABI, unless one is named (``cortex_m4`` computes in software,
``cortex_m4+vfp4d16sp`` in hardware). And Helium's vector floating point flushes subnormal numbers
to zero whatever FPSCR says, while GCC 12 vectorises float loops at -O2: the M55 is compiled with
integer Helium and scalar floating point, which rounds like every other core.

Cycles come from the tables in :mod:`edgekit.targets.cycles.pipelines.tables` and, of the M55, in
:mod:`edgekit.targets.cycles.pipelines.helium_table`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import unicorn.arm_const as unicorn

from edgekit.targets.cycles.pipelines import helium_table, tables

MEMORY_KINDS = ("flash", "ram", "itcm", "dtcm")
PROGRAM_KINDS = ("flash", "itcm")
DATA_KINDS = ("dtcm", "ram")

NO_FPU = "none"


@dataclass(frozen=True)
class Memory:
    """One address range of a microcontroller.

    Attributes:
        name: identifier; the linker script and reports use it.
        kind: one of :data:`MEMORY_KINDS`; ``flash`` is everything that a program only reads.
        origin: first address.
        bytes: size.
        wait_states: extra cycles of one access at the board's clock, None where unknown.
        line_bytes: width of one such access, None where unknown.
        prefetch: whether the next line is read while the instructions of this one run.
    """

    name: str
    kind: str
    origin: int
    bytes: int
    wait_states: int | None = None
    line_bytes: int | None = None
    prefetch: bool = False

    @property
    def end(self) -> int:
        """First address behind the range."""
        return self.origin + self.bytes

    @property
    def is_program(self) -> bool:
        """Whether code and constants go here."""
        return self.kind in PROGRAM_KINDS

    @property
    def is_data(self) -> bool:
        """Whether variables go here."""
        return self.kind in DATA_KINDS


@dataclass(frozen=True)
class Fpu:
    """A floating-point unit that a core can be built with.

    Attributes:
        name: GCC's name, or ``none``.
        gcc: flags beside ``-mcpu`` (or replacing it, when they begin with it).
        zig_cpu: suffix of zig's CPU name.
        features: instruction-set features it brings.
    """

    name: str
    gcc: tuple[str, ...]
    zig_cpu: str = ""
    features: frozenset[str] = frozenset()

    @property
    def is_hardware(self) -> bool:
        """Whether float32 arithmetic is done by instructions."""
        return "fp32" in self.features


SOFT = Fpu(NO_FPU, ("-mfloat-abi=soft",))


@dataclass(frozen=True)
class QemuMachine:
    """The QEMU board that boots images for a core.

    Attributes:
        machine: argument of ``-machine``.
        memories: address ranges, program memory first.
        clock_hz: clock of the core and of SysTick.
        cpu: argument of ``-cpu`` where it is not the board's own.
    """

    machine: str
    memories: tuple[Memory, ...]
    clock_hz: int
    cpu: str | None = None


@dataclass(frozen=True)
class Core:
    """A processor core.

    Attributes:
        name: as users and GCC write it.
        zig_cpu: CPU name for zig.
        features: instruction-set features without the FPU's: ``dsp``, ``mve``.
        fpus: units it can have, the default first.
        memories: map of the generic target of this core.
        unicorn_model: CPU model of the emulator, None where it has none.
        qemu: QEMU board, None where there is none.
        cycles: timing of its pipeline, None where there is no table.
    """

    name: str
    zig_cpu: str
    features: frozenset[str]
    fpus: tuple[Fpu, ...]
    memories: tuple[Memory, ...]
    unicorn_model: int | None
    qemu: QemuMachine | None
    cycles: tables.CycleTable | None

    def fpu(self, name: str | None = None) -> Fpu:
        """The unit called `name`, the default for None.

        >>> CORES["cortex-m7"].fpu().name, CORES["cortex-m7"].fpu("fpv5-d16").name
        ('fpv5-sp-d16', 'fpv5-d16')
        """
        return next(unit for unit in self.fpus if name is None or unit.name == name)

    def all_features(self, fpu: str | None = None) -> frozenset[str]:
        """Features of the core with the unit called `fpu`: what kernels may demand.

        >>> sorted(CORES["cortex-m55"].all_features())
        ['dsp', 'fp32', 'mve']
        """
        return self.features | self.fpu(fpu).features

    def gcc_flags(self, fpu: str | None = None) -> tuple[str, ...]:
        """Machine flags of ``arm-none-eabi-gcc``.

        >>> CORES["cortex-m4"].gcc_flags()
        ('-mcpu=cortex-m4', '-mthumb', '-mfpu=fpv4-sp-d16', '-mfloat-abi=hard')
        """
        flags = self.fpu(fpu).gcc
        cpu = () if flags[0].startswith("-mcpu=") else (f"-mcpu={self.name}",)
        return (*cpu, "-mthumb", *flags)

    def zig_flags(self, fpu: str | None = None) -> tuple[str, ...]:
        """Machine flags of ``zig cc``.

        >>> CORES["cortex-m0plus"].zig_flags()
        ('-target', 'thumb-freestanding-eabi', '-mcpu=cortex_m0plus')
        """
        unit = self.fpu(fpu)
        abi = "eabihf" if unit.is_hardware else "eabi"
        return ("-target", f"thumb-freestanding-{abi}", f"-mcpu={self.zig_cpu}{unit.zig_cpu}")


def _fpu(name: str, zig_cpu: str, *features: str) -> Fpu:
    return Fpu(name, (f"-mfpu={name}", "-mfloat-abi=hard"), zig_cpu, frozenset(features))


_FPV4_SP = _fpu("fpv4-sp-d16", "+vfp4d16sp", "fp32")
_FPV5_SP = _fpu("fpv5-sp-d16", "+fp_armv8d16sp", "fp32")
_FPV5_DP = _fpu("fpv5-d16", "+fp_armv8d16", "fp32", "fp64")
_HELIUM = Fpu(
    "mve",
    ("-mcpu=cortex-m55+nomve.fp", "-mfloat-abi=hard"),
    "+fp_armv8d16sp+mve",
    frozenset({"fp32"}),
)


def _mps2(*, program: int, data: int) -> tuple[Memory, ...]:
    """Memories of an MPS2 board, whose code memory takes the place of flash."""
    return (
        Memory("code", "flash", program, 4 << 20),
        Memory("ram", "ram", data, 4 << 20),
    )


_MPS2 = _mps2(program=0, data=0x2000_0000)
_MPS2_SECURE = _mps2(program=0x1000_0000, data=0x3800_0000)
_MPS3_AN547 = (
    Memory("itcm", "itcm", 0x1000_0000, 512 << 10),
    Memory("dtcm", "dtcm", 0x3000_0000, 512 << 10),
    Memory("sram", "ram", 0x3100_0000, 4 << 20),
)
_LM3S6965 = (
    Memory("code", "flash", 0, 256 << 10),
    Memory("ram", "ram", 0x2000_0000, 64 << 10),
)

_DSP = frozenset({"dsp"})

CORES: Mapping[str, Core] = MappingProxyType(
    {
        core.name: core
        for core in (
            Core(
                name="cortex-m0plus",
                zig_cpu="cortex_m0plus",
                features=frozenset(),
                fpus=(SOFT,),
                memories=_MPS2,
                # The same instruction set as the M0, which the emulators model.
                unicorn_model=unicorn.UC_CPU_ARM_CORTEX_M0,
                qemu=QemuMachine("lm3s6965evb", _LM3S6965, 12_500_000, cpu="cortex-m0"),
                cycles=tables.CORTEX_M0PLUS,
            ),
            Core(
                name="cortex-m3",
                zig_cpu="cortex_m3",
                features=frozenset(),
                fpus=(SOFT,),
                memories=_MPS2,
                unicorn_model=unicorn.UC_CPU_ARM_CORTEX_M3,
                qemu=QemuMachine("mps2-an385", _MPS2, 25_000_000),
                cycles=tables.CORTEX_M3,
            ),
            Core(
                name="cortex-m4",
                zig_cpu="cortex_m4",
                features=_DSP,
                fpus=(_FPV4_SP, SOFT),
                memories=_MPS2,
                unicorn_model=unicorn.UC_CPU_ARM_CORTEX_M4,
                qemu=QemuMachine("mps2-an386", _MPS2, 25_000_000),
                cycles=tables.CORTEX_M4,
            ),
            Core(
                name="cortex-m7",
                zig_cpu="cortex_m7",
                features=_DSP,
                fpus=(_FPV5_SP, _FPV5_DP, SOFT),
                memories=_MPS2,
                unicorn_model=unicorn.UC_CPU_ARM_CORTEX_M7,
                qemu=QemuMachine("mps2-an500", _MPS2, 25_000_000),
                cycles=tables.CORTEX_M7,
            ),
            Core(
                name="cortex-m33",
                zig_cpu="cortex_m33",
                features=_DSP,
                fpus=(_FPV5_SP, SOFT),
                memories=_MPS2_SECURE,
                unicorn_model=unicorn.UC_CPU_ARM_CORTEX_M33,
                qemu=QemuMachine("mps2-an505", _MPS2_SECURE, 20_000_000),
                cycles=tables.CORTEX_M33,
            ),
            Core(
                name="cortex-m55",
                zig_cpu="cortex_m55",
                features=_DSP | {"mve"},
                fpus=(_HELIUM,),
                memories=_MPS3_AN547,
                unicorn_model=None,
                qemu=QemuMachine("mps3-an547", _MPS3_AN547, 32_000_000),
                cycles=helium_table.CORTEX_M55,
            ),
        )
    }
)
"""Every known core by name."""

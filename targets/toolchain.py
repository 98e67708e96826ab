"""Compilers for microcontrollers.

Two toolchains build every Cortex-M target: ``arm-none-eabi-gcc``, preferred where it is installed,
and the clang and lld inside the pip package ``ziglang``, which can be had everywhere. See
:mod:`edgekit.targets.compiler` for the discipline that both are given.

``-O2`` is the level, because the kernels' inner loops decide the time and the weights the size.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path

from edgekit.targets.compiler import (
    GCC_DIALECT,
    GCC_LITERAL_LOOPS,
    LINK_FLAGS,
    ZIG,
    ZIG_DIALECT,
    ZIG_LITERAL_LOOPS,
    ZIG_PACKAGE,
    ZIGLANG,
    Compiler,
    find_compiler,
    run_tool,
)
from edgekit.targets.target import Target

GCC = "arm-none-eabi-gcc"

IMAGE_LINK_FLAGS = (*LINK_FLAGS, "--no-check-sections")
"""What fits where is checked by :mod:`edgekit.targets.image`, which can say by how much it does
not."""


class Toolchain(Compiler[Target]):
    """A compiler and linker for Cortex-M."""

    @abstractmethod
    def link(
        self,
        objects: Sequence[str],
        *,
        target: Target,
        folder: Path,
        script: str,
        output: str,
        map_file: str,
        keep: Sequence[str] = (),
    ) -> None:
        """Link `objects` by the linker script into an ELF file.

        Args:
            objects: names relative to `folder`, in link order.
            target: what the objects were compiled for.
            folder: working folder.
            script: linker script.
            output: ELF file.
            map_file: the linker's map.
            keep: symbols that stay although nothing refers to them.
        """


class Gcc(Toolchain):
    """``arm-none-eabi-gcc`` with GNU ld and libgcc."""

    dialect = GCC_DIALECT
    literal_loops = GCC_LITERAL_LOOPS

    def machine_flags(self, target: Target) -> tuple[str, ...]:
        """Flags that choose the core, the floating-point unit and the ABI."""
        return target.cortex.gcc_flags(target.fpu)

    @property
    def compiler(self) -> tuple[str, ...]:
        """The beginning of a compiler's command line."""
        return (GCC,)

    def link(
        self,
        objects: Sequence[str],
        *,
        target: Target,
        folder: Path,
        script: str,
        output: str,
        map_file: str,
        keep: Sequence[str] = (),
    ) -> None:
        """Link `objects` by the linker script into an ELF file; see :meth:`Toolchain.link`."""
        options = (*IMAGE_LINK_FLAGS, f"-Map={map_file}", *(f"--undefined={name}" for name in keep))
        run_tool(
            (
                GCC,
                *self.machine_flags(target),
                *("-nostdlib", "-nostartfiles", "-T", script),
                *(f"-Wl,{option}" for option in options),
                *objects,
                *("-lgcc", "-o", output),
            ),
            folder,
        )


class Zig(Toolchain):
    """The clang, lld and compiler runtime of the pip package ``ziglang``."""

    dialect = ZIG_DIALECT
    literal_loops = ZIG_LITERAL_LOOPS

    def machine_flags(self, target: Target) -> tuple[str, ...]:
        """Flags that choose the core, the floating-point unit and the ABI."""
        return target.cortex.zig_flags(target.fpu)

    def runtime_sources(self, target: Target) -> tuple[str, ...]:
        """``string.c``; for software floating point also our division.

        compiler-rt (LLVM 22, zig 0.17) rounds subnormal quotients towards zero; its other float32
        functions are exact.
        """
        return ("string.c",) if target.fpu_unit.is_hardware else ("string.c", "divide.c")

    @property
    def compiler(self) -> tuple[str, ...]:
        """The beginning of a compiler's command line."""
        return (*ZIG, "cc")

    def link(
        self,
        objects: Sequence[str],
        *,
        target: Target,
        folder: Path,
        script: str,
        output: str,
        map_file: str,
        keep: Sequence[str] = (),
    ) -> None:
        """Link `objects` by the linker script into an ELF file; see :meth:`Toolchain.link`.

        The runtime (software floating point, long division) is compiled by zig for the same core
        and kept in zig's cache.
        """
        runtime = "compiler_rt.o"
        (folder / "empty.c").write_text("extern int ek_empty;\n", encoding="ascii")
        run_tool(
            (
                *(*ZIG, "build-obj", "-fcompiler-rt", *self.machine_flags(target)),
                *("-OReleaseFast", "-fstrip", "-ffunction-sections", "-fno-unwind-tables"),
                *(f"-femit-bin={runtime}", "empty.c"),
            ),
            folder,
        )
        (folder / "empty.c").unlink()
        run_tool(
            (
                *(*ZIG, "ld.lld", "-T", script, *IMAGE_LINK_FLAGS, f"-Map={map_file}"),
                *(f"--undefined={name}" for name in keep),
                *(*objects, runtime, "-o", output),
            ),
            folder,
        )


TOOLCHAINS: dict[str, type[Toolchain]] = {GCC: Gcc, ZIGLANG: Zig}
PACKAGES = {
    GCC: "gcc-arm-none-eabi (Debian, Ubuntu) or arm-none-eabi-gcc (Homebrew, Arch)",
    ZIGLANG: ZIG_PACKAGE,
}
"""What provides each toolchain, for messages."""


def find_toolchain(name: str | None = None) -> Toolchain:
    """The toolchain called `name`, or the first that is installed.

    Raises:
        UsageError: no such name.
        ToolchainMissingError: not installed; names the package that provides it.
    """
    return find_compiler(TOOLCHAINS, name=name, purpose="Cortex-M", packages=PACKAGES)

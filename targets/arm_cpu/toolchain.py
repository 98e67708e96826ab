"""Compilers for application processors under Linux, native and cross.

The distribution's GCC for the architecture is preferred where it is installed; the clang and lld
inside the pip package ``ziglang`` can be had everywhere. See :mod:`edgekit.targets.compiler` for
the discipline that both are given.

What they make is position-independent and asks nothing of the system that loads it: no C library,
hence no version of one. Distributions differ in what their compilers add unasked (stack protectors,
branch protection); here that is switched off, so that every one of them makes the same code.

``-O3``, because it vectorises: of the portable kernels' int8 networks GCC 12 then issues 1.3 to 3.7
instructions per multiply-accumulate on Cortex-A72 and A76 instead of 3.6 to 5.2 at ``-O2`` (counted
in emulation; 1.3 to 3.2 with clang, at either level). On ARMv7 without NEON the level hardly
matters. Float sums keep their order: neither compiler may reorder them without ``-ffast-math``.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path

from edgekit.targets.arm_cpu.cpus import ARMV7, Cpu, this_architecture
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

NATIVE_GCC = "gcc"

_POSITION_INDEPENDENT = ("-fPIC", "-fno-semantic-interposition", "-fno-stack-protector")

SHARED_LINK_FLAGS = (
    *LINK_FLAGS,
    "-shared",
    "-Bsymbolic",
    "--no-undefined",
    "--hash-style=gnu",
    *("-z", "relro", "-z", "now", "-z", "noexecstack"),
)
"""Own functions are bound to themselves, everything is resolved, nothing on the stack is code."""

_PROGRAM_LINK_FLAGS = (*LINK_FLAGS, "--no-undefined", *("-z", "noexecstack"))


class CrossToolchain(Compiler[Cpu]):
    """A compiler and linker for Linux on an application processor."""

    level = "-O3"

    def link_shared(
        self, objects: Sequence[str], *, cpu: Cpu, folder: Path, exports: Sequence[str], output: str
    ) -> None:
        """Link `objects` into a shared object that needs no other.

        Args:
            objects: names relative to `folder`, in link order.
            cpu: what the objects were compiled for.
            folder: working folder.
            exports: functions that can be called from outside; everything else stays inside.
            output: file name of the result.

        Raises:
            EdgekitError: something is undefined; the linker's words.
        """
        script = f"{output}.exports"
        names = "".join(f"        {name};\n" for name in exports)
        text = f"{{\n    global:\n{names}    local:\n        *;\n}};\n"
        (folder / script).write_text(text, encoding="ascii")
        options = (*SHARED_LINK_FLAGS, f"--version-script={script}", f"-soname={output}")
        self._link((*objects,), options, cpu=cpu, folder=folder, output=output)

    def link_program(self, objects: Sequence[str], *, cpu: Cpu, folder: Path, output: str) -> None:
        """Link `objects`, one of which defines ``_start``, into a static program.

        Args:
            objects: names relative to `folder`.
            cpu: what the objects were compiled for.
            folder: working folder.
            output: file name of the result.
        """
        self._link((*objects,), _PROGRAM_LINK_FLAGS, cpu=cpu, folder=folder, output=output)

    @abstractmethod
    def _link(
        self,
        objects: tuple[str, ...],
        options: tuple[str, ...],
        *,
        cpu: Cpu,
        folder: Path,
        output: str,
    ) -> None:
        """Link objects and the compiler's own runtime with the linker's `options`."""


class CrossGcc(CrossToolchain):
    """A GCC for Linux with GNU ld and libgcc; its name is the command."""

    dialect = (
        *_POSITION_INDEPENDENT,
        "-fno-stack-clash-protection",
        *GCC_DIALECT,
    )
    literal_loops = GCC_LITERAL_LOOPS

    def machine_flags(self, target: Cpu) -> tuple[str, ...]:
        """Flags that choose the processor and the ABI."""
        return target.compiler_flags()

    def runtime_sources(self, target: Cpu) -> tuple[str, ...]:
        """``string.c``; on ARMv7 also what libgcc would ask of a C library."""
        return ("string.c", "divide_by_zero.c") if target.architecture == ARMV7 else ("string.c",)

    @property
    def compiler(self) -> tuple[str, ...]:
        """The beginning of a compiler's command line."""
        return (self.name,)

    def _link(
        self,
        objects: tuple[str, ...],
        options: tuple[str, ...],
        *,
        cpu: Cpu,
        folder: Path,
        output: str,
    ) -> None:
        kind = "-shared" if "-shared" in options else "-static"
        run_tool(
            (
                *(self.name, *self.machine_flags(cpu), "-nostdlib", "-nostartfiles", kind),
                *(word for option in options for word in ("-Xlinker", option)),
                *objects,
                *("-lgcc", "-o", output),
            ),
            folder,
        )


class CrossZig(CrossToolchain):
    """The clang, lld and compiler runtime of the pip package ``ziglang``."""

    dialect = (*_POSITION_INDEPENDENT, *ZIG_DIALECT)
    literal_loops = ZIG_LITERAL_LOOPS

    def machine_flags(self, target: Cpu) -> tuple[str, ...]:
        """Flags that choose the processor and the ABI."""
        return target.zig_flags()

    @property
    def compiler(self) -> tuple[str, ...]:
        """The beginning of a compiler's command line."""
        return (*ZIG, "cc")

    def _link(
        self,
        objects: tuple[str, ...],
        options: tuple[str, ...],
        *,
        cpu: Cpu,
        folder: Path,
        output: str,
    ) -> None:
        runtime = "compiler_rt.o"
        (folder / "empty.c").write_text("extern int ek_empty;\n", encoding="ascii")
        run_tool(
            (
                *(*ZIG, "build-obj", "-fcompiler-rt", "-fPIC", *self.machine_flags(cpu)),
                *("-OReleaseFast", "-fstrip", "-ffunction-sections", "-fno-unwind-tables"),
                *(f"-femit-bin={runtime}", "empty.c"),
            ),
            folder,
        )
        (folder / "empty.c").unlink()
        run_tool((*ZIG, "ld.lld", *options, *objects, runtime, "-o", output), folder)


def toolchains(cpu: Cpu) -> dict[str, type[CrossToolchain]]:
    """Every toolchain that can build for `cpu`, by name, the preferred first."""
    native = {NATIVE_GCC: CrossGcc} if cpu.architecture == this_architecture() else {}
    return {cpu.platform.gcc: CrossGcc, **native, ZIGLANG: CrossZig}


def find_cross(cpu: Cpu, name: str | None = None) -> CrossToolchain:
    """The toolchain called `name`, or the first that is installed, for `cpu`.

    Raises:
        UsageError: no such name.
        ToolchainMissingError: not installed; names the package that provides it.
    """
    package = cpu.platform.gcc_package
    return find_compiler(
        toolchains(cpu),
        name=name,
        purpose=f"{cpu.architecture} under Linux",
        packages={cpu.platform.gcc: package, NATIVE_GCC: package, ZIGLANG: ZIG_PACKAGE},
    )

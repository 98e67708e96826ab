"""Compilers for microcontrollers: found, asked for their version, run reproducibly.

Two toolchains build every Cortex-M target: ``arm-none-eabi-gcc``, preferred where it is installed,
and the clang and lld inside the pip package ``ziglang``, which can be had everywhere.

Both are given the same discipline. The working folder is the build folder and every name is
relative to it; no debug information, build identifiers, compiler idents or timestamps; a fixed
locale and time zone; environment variables that change what is compiled are dropped. Equal inputs
give equal bytes, wherever they are built.

``-O2`` is the level, because the kernels' inner loops decide the time and the weights the size.
``-ffp-contract=off`` keeps float results equal to the reference's. Generated code may use
``stdint.h``, ``stddef.h`` and ``string.h``; the last, and the functions behind it, are ours
(``runtime/`` in the build folder), so that no C library has to be there.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path, PurePosixPath
from typing import ClassVar

from edgekit.errors import EdgekitError, ToolchainMissingError, UsageError
from edgekit.targets.machine import Build
from edgekit.targets.target import Target

COMPILE_FLAGS = (
    "-std=c99",
    "-O2",
    "-ffp-contract=off",
    "-ffunction-sections",
    "-fdata-sections",
    "-fno-common",
    "-fno-ident",
    "-fno-unwind-tables",
    "-fno-asynchronous-unwind-tables",
    "-g0",
)
"""Flags that every source gets from every toolchain."""

LINK_FLAGS = ("--gc-sections", "--build-id=none", "--strip-debug", "--no-check-sections")
"""Flags of every link. What fits where is checked by :mod:`edgekit.targets.image`, which can say
by how much it does not."""

TIMEOUT_S = 300

_CHANGES_OUTPUT = (
    "CPATH",
    "C_INCLUDE_PATH",
    "COMPILER_PATH",
    "DEPENDENCIES_OUTPUT",
    "GCC_EXEC_PREFIX",
    "LIBRARY_PATH",
    "SUNPRO_DEPENDENCIES",
)


@dataclass(frozen=True)
class Toolchain(ABC):
    """A compiler and linker for Cortex-M.

    Attributes:
        name: as users choose it.
        version: first line of what it says about itself.
    """

    name: str
    version: str

    dialect: ClassVar[tuple[str, ...]]
    """Flags that make the compiler do without a C library, but know what its functions do."""

    literal_loops: ClassVar[tuple[str, ...]]
    """Flags under which loops that copy or fill memory stay loops: what memcpy itself needs."""

    @abstractmethod
    def machine_flags(self, target: Target) -> tuple[str, ...]:
        """Flags that choose the core, the floating-point unit and the ABI."""

    def runtime_sources(self, target: Target) -> tuple[str, ...]:
        """Our sources that stand in for, or correct, parts of the compiler's runtime."""
        return ("string.c",)

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

    @property
    @abstractmethod
    def compiler(self) -> tuple[str, ...]:
        """The beginning of a compiler's command line."""

    def compile_flags(self, target: Target) -> tuple[str, ...]:
        """Every flag that a source of the model is compiled with, but for folders and names."""
        return self.machine_flags(target) + COMPILE_FLAGS + self.dialect

    def build(self, target: Target) -> Build:
        """What is recorded of a build for `target`."""
        return Build(self.name, self.version, self.compile_flags(target))

    def compile_objects(
        self,
        sources: Sequence[str],
        *,
        target: Target,
        folder: Path,
        flags: Sequence[str] = (),
        include: Sequence[str] = (),
    ) -> list[str]:
        """Compile each source to an object of the same name beside it.

        Args:
            sources: ``.c`` files relative to `folder`.
            target: what to compile for.
            folder: working folder.
            flags: further flags, after the common ones.
            include: include folders relative to `folder`; after them comes our ``string.h``.

        Returns:
            Names of the objects relative to `folder`.

        Raises:
            EdgekitError: a source does not compile; the compiler's words.
        """
        objects = []
        for source in sources:
            output = str(PurePosixPath(source).with_suffix(".o"))
            run_tool(
                (
                    *self.compiler,
                    *self.compile_flags(target),
                    *flags,
                    *(f"-I{name}" for name in include),
                    *("-isystem", "runtime"),
                    *(f"-frandom-seed={source}", f"-ffile-prefix-map={folder.resolve()}=."),
                    *("-c", source, "-o", output),
                ),
                folder,
            )
            objects.append(output)
        return objects


class Gcc(Toolchain):
    """``arm-none-eabi-gcc`` with GNU ld and libgcc."""

    # Freestanding lets stdint.h do without a C library; with built-in functions, memcpy of a few
    # bytes is still compiled to a load or store.
    dialect = ("-ffreestanding", "-fbuiltin")
    literal_loops = ("-fno-builtin", "-fno-tree-loop-distribute-patterns")

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
        options = (*LINK_FLAGS, f"-Map={map_file}", *(f"--undefined={name}" for name in keep))
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

    # zig adds -ffreestanding for such a target, under which memcpy of a few bytes is a call.
    dialect = ("-fhosted", "-fno-sanitize=all")
    literal_loops = ("-fno-builtin",)

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
                *(*ZIG, "ld.lld", "-T", script, *LINK_FLAGS, f"-Map={map_file}"),
                *(f"--undefined={name}" for name in keep),
                *(*objects, runtime, "-o", output),
            ),
            folder,
        )


GCC = "arm-none-eabi-gcc"
ZIG = (sys.executable, "-m", "ziglang")

TOOLCHAINS = {GCC: Gcc, "ziglang": Zig}
PACKAGES = {
    GCC: "gcc-arm-none-eabi (Debian, Ubuntu) or arm-none-eabi-gcc (Homebrew, Arch)",
    "ziglang": "ziglang (pip)",
}
"""What provides each toolchain, for messages."""


def find_toolchain(name: str | None = None) -> Toolchain:
    """The toolchain called `name`, or the first that is installed.

    Raises:
        UsageError: no such name.
        ToolchainMissingError: not installed; names the package that provides it.
    """
    if name is not None and name not in TOOLCHAINS:
        raise UsageError(f"unknown toolchain {name!r}; known: {', '.join(TOOLCHAINS)}")
    for candidate in TOOLCHAINS if name is None else (name,):
        version = _version(candidate)
        if version is not None:
            return TOOLCHAINS[candidate](candidate, version)
    wanted = PACKAGES.values() if name is None else (PACKAGES[name],)
    what = "no compiler for Cortex-M found" if name is None else f"{name} not found"
    raise ToolchainMissingError(f"{what}; install {', or '.join(wanted)}")


@cache
def _version(name: str) -> str | None:
    """First line of a toolchain's version, None where it is not installed."""
    if name == GCC:
        command: tuple[str, ...] = (GCC, "--version")
        found = shutil.which(GCC) is not None
    else:
        command = (*ZIG, "version")
        found = importlib.util.find_spec("ziglang") is not None
    if not found:
        return None
    line = run_tool(command, Path.cwd()).splitlines()[0]
    return line if name == GCC else f"zig {line}"


def run_tool(command: Sequence[str], folder: Path) -> str:
    """Run a compiler or linker in `folder`; returns what it printed.

    Raises:
        EdgekitError: it failed or took longer than five minutes.
        ToolchainMissingError: it is gone.
    """
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            env=clean_environment(),
            capture_output=True,
            text=True,
            errors="replace",
            timeout=TIMEOUT_S,
            check=False,
        )
    except FileNotFoundError as error:
        raise ToolchainMissingError(f"{command[0]}: not found") from error
    except subprocess.TimeoutExpired as error:
        raise EdgekitError(f"{command[0]}: still running after {TIMEOUT_S} s") from error
    if done.returncode != 0:
        words = (done.stderr or done.stdout).strip()
        raise EdgekitError(f"{Path(command[0]).name} failed ({done.returncode}):\n{words}")
    return done.stdout


def clean_environment() -> dict[str, str]:
    """This process's environment without what changes a compiler's output."""
    environment = {k: v for k, v in os.environ.items() if k not in _CHANGES_OUTPUT}
    environment |= {"LC_ALL": "C", "TZ": "UTC", "SOURCE_DATE_EPOCH": "0"}
    # zig wants a cache, and puts a second one into the working folder unless told otherwise.
    home = Path.home() if "HOME" in environment else Path(tempfile.gettempdir())
    cache_folder = environment.get("XDG_CACHE_HOME", str(home / ".cache"))
    environment.setdefault("ZIG_GLOBAL_CACHE_DIR", str(Path(cache_folder) / "zig"))
    environment["ZIG_LOCAL_CACHE_DIR"] = environment["ZIG_GLOBAL_CACHE_DIR"]
    return environment

"""Compilers: found, asked for their version, run reproducibly; shared by every family of targets.

All are given the same discipline. The working folder is the build folder and every name is relative
to it; no debug information, build identifiers, compiler idents or timestamps; a fixed locale and
time zone; environment variables that change what is compiled are dropped. Equal inputs give equal
bytes, wherever they are built.

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
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar, Generic, TypeVar

from edgekit.errors import EdgekitError, ToolchainMissingError, UsageError
from edgekit.targets.machine import Build

ZIGLANG = "ziglang"
ZIG = (sys.executable, "-m", "ziglang")
ZIG_PACKAGE = "ziglang (pip)"

LINK_FLAGS = ("--gc-sections", "--build-id=none", "--strip-debug")
"""Flags of every link."""

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

GCC_DIALECT = ("-ffreestanding", "-fbuiltin")
"""Freestanding lets stdint.h do without a C library; with built-in functions, memcpy of a few bytes
is still compiled to a load or store."""

GCC_LITERAL_LOOPS = ("-fno-builtin", "-fno-tree-loop-distribute-patterns")

ZIG_DIALECT = ("-fhosted", "-fno-sanitize=all")
"""zig adds -ffreestanding for targets without a system, under which memcpy of a few bytes is a
call."""

ZIG_LITERAL_LOOPS = ("-fno-builtin",)

Subject = TypeVar("Subject")
Found = TypeVar("Found", bound="Compiler[Any]")


@dataclass(frozen=True)
class Compiler(ABC, Generic[Subject]):
    """A compiler for one family of targets, whose members are of the type `Subject`.

    Attributes:
        name: as users choose it.
        version: first line of what it says about itself.
    """

    name: str
    version: str

    level: ClassVar[str] = "-O2"
    """How hard the model's sources are optimised."""

    dialect: ClassVar[tuple[str, ...]]
    """Flags that make the compiler do without a C library, but know what its functions do."""

    literal_loops: ClassVar[tuple[str, ...]]
    """Flags under which loops that copy or fill memory stay loops: what memcpy itself needs."""

    @abstractmethod
    def machine_flags(self, target: Subject) -> tuple[str, ...]:
        """Flags that choose the processor, its units and the ABI."""

    def runtime_sources(self, target: Subject) -> tuple[str, ...]:
        """Our sources that stand in for, or correct, parts of the compiler's runtime."""
        return ("string.c",)

    @property
    @abstractmethod
    def compiler(self) -> tuple[str, ...]:
        """The beginning of a compiler's command line."""

    def compile_flags(self, target: Subject) -> tuple[str, ...]:
        """Every flag that a source of the model is compiled with, but for folders and names."""
        return (
            *self.machine_flags(target),
            "-std=c99",
            self.level,
            "-ffp-contract=off",
            "-ffunction-sections",
            "-fdata-sections",
            "-fno-common",
            "-fno-ident",
            "-fno-unwind-tables",
            "-fno-asynchronous-unwind-tables",
            "-g0",
            *self.dialect,
        )

    def build(self, target: Subject) -> Build:
        """What is recorded of a build for `target`."""
        return Build(self.name, self.version, self.compile_flags(target))

    def compile_objects(
        self,
        sources: Sequence[str],
        *,
        target: Subject,
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

        def compile_one(source: str) -> str:
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
            return output

        with ThreadPoolExecutor(os.cpu_count()) as pool:
            return list(pool.map(compile_one, sources))


def find_compiler(
    kinds: Mapping[str, type[Found]],
    *,
    name: str | None,
    purpose: str,
    packages: Mapping[str, str],
) -> Found:
    """The compiler called `name`, or the first that is installed.

    Args:
        kinds: class by name, the preferred first; a name other than ``ziglang`` is a command.
        name: one of `kinds`, None for the first that is installed.
        purpose: what the compilers are for, in messages.
        packages: what provides each, for messages.

    Raises:
        UsageError: no such name.
        ToolchainMissingError: not installed; names the package that provides it.
    """
    if name is not None and name not in kinds:
        raise UsageError(f"unknown toolchain {name!r}; known: {', '.join(kinds)}")
    for candidate in kinds if name is None else (name,):
        version = installed_version(candidate)
        if version is not None:
            return kinds[candidate](candidate, version)
    wanted = [packages[known] for known in kinds] if name is None else [packages[name]]
    what = f"no compiler for {purpose} found" if name is None else f"{name} not found"
    raise ToolchainMissingError(f"{what}; install {', or '.join(wanted)}")


@cache
def installed_version(name: str) -> str | None:
    """First line of a toolchain's version, None where it is not installed."""
    if name == ZIGLANG:
        found = importlib.util.find_spec("ziglang") is not None
        return f"zig {_first_line((*ZIG, 'version'))}" if found else None
    return None if shutil.which(name) is None else _first_line((name, "--version"))


def _first_line(command: Sequence[str]) -> str:
    return run_tool(command, Path.cwd()).splitlines()[0]


class ToolTimeoutError(EdgekitError):
    """A tool did not end in time."""


def finished(
    command: Sequence[str],
    *,
    folder: Path | None = None,
    text: str | None = None,
    timeout_s: float | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run a tool to its end, whatever comes of it.

    Args:
        command: path and arguments.
        folder: that it runs in; None for this process's.
        text: that it reads from standard input; None for what this process has there.
        timeout_s: that it may take; None for five minutes.

    Raises:
        ToolTimeoutError: it took longer.
        ToolchainMissingError: it is gone, or cannot be run.
    """
    limit = TIMEOUT_S if timeout_s is None else timeout_s
    try:
        return subprocess.run(
            command,
            cwd=folder,
            env=clean_environment(),
            input=text,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=limit,
            check=False,
        )
    except OSError as error:
        reason = "not found" if isinstance(error, FileNotFoundError) else error.strerror
        raise ToolchainMissingError(f"{command[0]}: {reason}") from error
    except subprocess.TimeoutExpired as error:
        raise ToolTimeoutError(f"{command[0]}: still running after {limit} s") from error


def run_tool(command: Sequence[str], folder: Path) -> str:
    """Run a compiler or linker in `folder`; returns what it printed.

    Raises:
        EdgekitError: it failed or took longer than five minutes.
        ToolchainMissingError: it is gone.
    """
    done = finished(command, folder=folder)
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

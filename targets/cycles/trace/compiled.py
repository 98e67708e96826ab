"""C for this machine: compiled once, then kept (:mod:`edgekit.targets.cycles.trace.kept`).

What is kept has a name that its sources, its compiler and this machine determine, so that machines
may share a home. Where nothing can be kept every process compiles it anew.
"""

from __future__ import annotations

import ctypes
import hashlib
import logging
import platform
import sysconfig
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from edgekit.targets.compiler import run_tool
from edgekit.targets.cycles.trace import kept
from edgekit.targets.host import HostCompiler

FOLDER = Path(__file__).parent / "native"
FLAGS = ("-std=c99", "-O2", "-fPIC", "-shared", "-fvisibility=hidden")

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Sources:
    """What a library is made of.

    Attributes:
        name: of the library.
        files: that are compiled, in :data:`FOLDER`.
        headers: that those include.
        symbols: functions that it must have to be loaded.
        flags: beside :data:`FLAGS`.
    """

    name: str
    files: tuple[str, ...]
    headers: tuple[str, ...] = ()
    symbols: tuple[str, ...] = ()
    flags: tuple[str, ...] = ()

    @cached_property
    def contents(self) -> Mapping[str, bytes]:
        """Of headers and files, by name; read once, so that what is compiled is what was hashed."""
        return {name: (FOLDER / name).read_bytes() for name in (*self.headers, *self.files)}


def load(sources: Sources, compiler: HostCompiler) -> ctypes.CDLL:
    """A library in this process: what is kept, or, where that is none of it, compiled again.

    Raises:
        EdgekitError: it does not compile; the compiler's words.
        OSError: it compiles, but does not load, or cannot be written anywhere.
    """
    problem = ""
    # Loaded code stays when its file goes.
    with kept.run_folder() as folder:
        for path in provide(sources, compiler, Path(folder)):
            try:
                library = ctypes.CDLL(str(path))
                for symbol in sources.symbols:
                    getattr(library, symbol)
            except (OSError, AttributeError) as error:
                problem = str(error)
            else:
                return library
    raise OSError(f"what {compiler.name} compiles does not load: {problem}")


def provide(sources: Sources, compiler: HostCompiler, folder: Path) -> Iterator[Path]:
    """Files that are the library: a copy of what is kept and, for whoever asks on, a new one.

    Args:
        sources: of the library.
        compiler: for this machine.
        folder: where the files are put; an empty one of this process alone.

    Raises:
        EdgekitError: it does not compile; the compiler's words.
        OSError: the folder cannot be written.
    """
    name = f"{sources.name}-{digest(sources, compiler)}"
    try:
        code = kept.read(name)
    except OSError:
        code = None
    if code is not None:
        path = folder / f"{sources.name}.so"
        path.write_bytes(code)
        yield path
    # The system knows loaded code by its path: another path for other code.
    folder = folder / "compiled"
    folder.mkdir()
    path = compile_library(sources, compiler, folder)
    try:
        kept.write(name, path.read_bytes())
    except OSError as error:
        _log.info("compiled %s is not kept: %s", sources.name, error)
    yield path


def compile_library(sources: Sources, compiler: HostCompiler, folder: Path) -> Path:
    """Compile in a folder, where the sources are written too.

    Raises:
        EdgekitError: it does not compile; the compiler's words.
        OSError: the folder cannot be written.
    """
    for name, content in sources.contents.items():
        (folder / name).write_bytes(content)
    path = folder / f"{sources.name}.so"
    flags = (*FLAGS, *compiler.flags, *sources.flags)
    run_tool((*compiler.command, *flags, "-o", path.name, *sources.files), folder)
    return path


def digest(sources: Sources, compiler: HostCompiler) -> str:
    """Of everything that decides what is compiled, and where it runs."""
    words = [compiler.name, compiler.version, *compiler.command]
    words += [*FLAGS, *compiler.flags, *sources.flags, *sources.contents]
    # Code for another C library does not load.
    words += [platform.system(), platform.machine(), *platform.libc_ver()]
    words += [str(sysconfig.get_config_var("SOABI"))]
    found = hashlib.sha256()
    for part in (*(word.encode() for word in words), *sources.contents.values()):
        found.update(hashlib.sha256(part).digest())
    return found.hexdigest()[:32]

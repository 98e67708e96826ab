"""C that runs in this process: compiled once for this machine, kept and loaded.

A compiled library lies in the user's cache folder under a name that its sources and its compiler
determine. Where that folder cannot be written, it is compiled anew by every process.
"""

from __future__ import annotations

import ctypes
import hashlib
import logging
import os
import platform
import tempfile
from dataclasses import dataclass
from pathlib import Path

from edgekit.targets.compiler import run_tool
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
    """

    name: str
    files: tuple[str, ...]
    headers: tuple[str, ...] = ()


def load(sources: Sources, compiler: HostCompiler) -> ctypes.CDLL:
    """The library from the cache folder; compiled where it is not there, or does not load.

    Raises:
        EdgekitError: it does not compile; the compiler's words.
        OSError: it compiles, but does not load.
    """
    folder = cache_folder()
    path = None if folder is None else folder / f"{sources.name}-{digest(sources, compiler)}.so"
    try:
        if path is not None and path.is_file():
            return ctypes.CDLL(str(path))
    except OSError:
        _log.info("%s does not load and is compiled again", path)
    with tempfile.TemporaryDirectory(prefix="edgekit-") as name:
        built = compile_library(sources, compiler, Path(name))
        try:
            if path is not None:
                put(built, path)
                return ctypes.CDLL(str(path))
        except OSError as error:
            _log.info("%s is not kept: %s", path, error)
        # Loaded code stays when its file goes.
        return ctypes.CDLL(str(built))


def compile_library(sources: Sources, compiler: HostCompiler, folder: Path) -> Path:
    """Compile into a folder.

    Raises:
        EdgekitError: it does not compile; the compiler's words.
    """
    path = folder / f"{sources.name}.so"
    files = (str(FOLDER / name) for name in sources.files)
    run_tool((*compiler.command, *FLAGS, *compiler.flags, "-o", path.name, *files), folder)
    return path


def put(built: Path, path: Path) -> None:
    """Copy a file to its place, at once and whole.

    Raises:
        OSError: the place cannot be written; nothing is there then.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{built.stem}-")
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(built.read_bytes())
        os.replace(name, path)
    except OSError:
        Path(name).unlink(missing_ok=True)
        raise


def digest(sources: Sources, compiler: HostCompiler) -> str:
    """Of everything that decides what is compiled."""
    found = hashlib.sha256()
    words = (compiler.name, compiler.version, *compiler.command, *FLAGS, *compiler.flags)
    for word in (*words, platform.system(), platform.machine()):
        found.update(word.encode() + b"\0")
    for name in (*sources.headers, *sources.files):
        found.update((FOLDER / name).read_bytes() + b"\0")
    return found.hexdigest()[:32]


def cache_folder() -> Path | None:
    """Where compiled code is kept: in the user's cache folder; None for a user without a home."""
    home = os.environ.get("XDG_CACHE_HOME")
    try:
        return Path(home or Path.home() / ".cache") / "edgekit" / "native"
    except RuntimeError:
        return None

"""The machine that edgekit runs on, as a device: the library as a shared object."""

from __future__ import annotations

import ctypes
import shutil
import tempfile
from functools import cache
from pathlib import Path

from edgekit.errors import OutputError, ToolchainMissingError
from edgekit.targets.library import Library
from edgekit.targets.machine import Build
from edgekit.targets.toolchain import run_tool

FLAGS = (
    "-std=c99",
    "-O2",
    "-fPIC",
    "-shared",
    "-ffp-contract=off",
    "-fvisibility=default",
    "-Wl,-Bsymbolic",
)


def write_files(library: Library, folder: Path) -> None:
    """Write a library's files into `folder`, which is created.

    Raises:
        OutputError: a file would lie outside the folder, by its name or through a link; nothing
            was written then.
    """
    root = folder.resolve()
    paths = {name: (root / name).resolve() for name in library.files}
    for name, path in paths.items():
        if path == root or not path.is_relative_to(root):
            raise OutputError(f"{name!r} of {library.name} lies outside {folder}")
    for name, content in library.files.items():
        path = paths[name]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8"))


def compile_shared(library: Library, folder: Path, flags: tuple[str, ...] = ()) -> Path:
    """Compile a library with the system's C compiler into ``<folder>/lib<name>.so``.

    Raises:
        ToolchainMissingError: there is no C compiler.
        EdgekitError: a source does not compile; the compiler's words.
    """
    compiler = host_compiler()
    write_files(library, folder)
    output = folder / f"lib{library.name}.so"
    run_tool((compiler, *FLAGS, *flags, "-o", output.name, *library.sources), folder)
    return output


def host_compiler() -> str:
    """Path of the system's C compiler.

    Raises:
        ToolchainMissingError: there is none.
    """
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        raise ToolchainMissingError("no C compiler on this host; install gcc or clang")
    return compiler


@cache
def _version(compiler: str) -> str:
    """First line of what a compiler says about itself."""
    return run_tool((compiler, "--version"), Path.cwd()).splitlines()[0]


class HostMachine:
    """A library loaded into this process. Implements :class:`edgekit.targets.machine.Machine`.

    Args:
        library: its files are compiled in a temporary folder.
        weights: address the instance takes its weights from instead of the built-in ones: the
            bytes of a blob.
        flags: further compiler flags.

    Raises:
        ToolchainMissingError: there is no C compiler.
        EdgekitError: a source does not compile; the compiler's words.
    """

    def __init__(
        self, library: Library, weights: bytes | None = None, flags: tuple[str, ...] = ()
    ) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="edgekit-")
        path = compile_shared(library, Path(self._folder.name), flags)
        self._code = ctypes.CDLL(str(path))
        self._library = library
        compiler = host_compiler()
        self._build = Build(Path(compiler).name, _version(compiler), FLAGS + flags)
        alignment = library.arena_alignment
        self._arena, self._arena_address = _aligned(library.arena_bytes, alignment)
        self._state, state_address = _aligned(library.state_bytes, alignment)
        self._context = (ctypes.c_void_p * 4)()
        self._weights, weights_address = (None, None)
        if weights is not None:
            self._weights, weights_address = _aligned(len(weights), alignment)
            ctypes.memmove(weights_address, weights, len(weights))
        init = self._function("init")
        init.argtypes = [ctypes.c_void_p] * 4
        code = init(self._context, self._arena_address, state_address, weights_address)
        assert code == 0, f"init answered {code}"
        self._step, self._run, self._reset = map(self._function, ("step", "run", "reset"))
        self._layers = [self._code[layer.symbol] for layer in library.layers]

    def _function(self, name: str) -> ctypes._NamedFuncPointer:
        return self._code[self._library.symbol(name)]

    @property
    def build(self) -> Build:
        """The system's compiler and the flags it was given."""
        return self._build

    def reset(self) -> None:
        """Set the state to its initial values."""
        self._reset(self._context)

    def run(self) -> None:
        """Run once from the initial state."""
        self._run(self._context)

    def step(self) -> None:
        """Run once and carry the state."""
        self._step(self._context)

    def layer(self, index: int) -> None:
        """Run one layer."""
        self._layers[index](self._context)

    def read(self, offset: int, size: int) -> bytes:
        """Bytes from the arena."""
        assert 0 <= offset and offset + size <= self._library.arena_bytes
        return ctypes.string_at(self._arena_address + offset, size)

    def write(self, offset: int, data: bytes) -> None:
        """Bytes into the arena."""
        assert 0 <= offset and offset + len(data) <= self._library.arena_bytes
        ctypes.memmove(self._arena_address + offset, data, len(data))

    def close(self) -> None:
        """Delete the compiled files; the code stays loaded until the process ends."""
        self._folder.cleanup()


def _aligned(size: int, alignment: int) -> tuple[ctypes.Array[ctypes.c_char], int]:
    """A zeroed buffer and an aligned address with `size` bytes behind it."""
    buffer = ctypes.create_string_buffer(size + alignment)
    address = ctypes.addressof(buffer)
    return buffer, address + (-address % alignment)

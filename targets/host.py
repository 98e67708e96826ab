"""The machine that edgekit runs on, as a device: a library as a shared object in this process."""

from __future__ import annotations

import ctypes
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from edgekit.errors import DeviceMissingError, OutputError, ToolchainMissingError
from edgekit.targets.compiler import ZIG, ZIGLANG, installed_version, run_tool
from edgekit.targets.library import Library
from edgekit.targets.machine import Build

FLAGS = (
    "-std=c99",
    "-O3",
    "-march=native",
    "-fPIC",
    "-shared",
    "-ffp-contract=off",
    "-fvisibility=default",
    "-Wl,-Bsymbolic",
)
"""What this machine's own compiler is told. Vector instructions of this very processor make the
portable int8 kernels 1.4 to 3 times as fast as ``-O2`` (GCC 12, AVX-512). Sums of floats keep their
order, which GCC vectorises at a loss of up to a half; ``-O2`` is better for them."""


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


@dataclass(frozen=True)
class HostCompiler:
    """A compiler for this machine.

    Attributes:
        name: ``cc``, ``gcc``, ``clang`` or ``ziglang``.
        version: first line of what it says about itself.
        command: the beginning of its command line.
        flags: what it needs beside :data:`FLAGS`.
    """

    name: str
    version: str
    command: tuple[str, ...]
    flags: tuple[str, ...] = ()


def host_compiler() -> HostCompiler:
    """The system's C compiler; without one, the clang inside the pip package ``ziglang``.

    Raises:
        ToolchainMissingError: there is neither.
    """
    for name in ("cc", "gcc", "clang"):
        path = shutil.which(name)
        if path is not None:
            return HostCompiler(name, installed_version(path) or "", (path,))
    version = installed_version(ZIGLANG)
    if version is None:
        raise ToolchainMissingError("no C compiler on this host; install gcc, clang or ziglang")
    return HostCompiler(ZIGLANG, version, (*ZIG, "cc"), ("-fno-sanitize=all",))


def compile_shared(library: Library, folder: Path, flags: tuple[str, ...] = ()) -> Path:
    """Compile a library for this machine into ``<folder>/lib<name>.so``.

    Raises:
        ToolchainMissingError: there is no C compiler.
        EdgekitError: a source does not compile; the compiler's words.
    """
    compiler = host_compiler()
    write_files(library, folder)
    output = folder / f"lib{library.name}.so"
    run_tool(
        (
            *(*compiler.command, *FLAGS, *compiler.flags, *flags),
            *("-o", output.name, *library.sources),
        ),
        folder,
    )
    return output


class LoadedMachine:
    """A shared object in this process. Implements :class:`edgekit.targets.machine.Machine`.

    Args:
        library: what is in it.
        path: the file; it must have been built for this machine.
        build: how it was compiled.
        weights: the instance takes its weights from a copy of these bytes of a blob instead of the
            built-in ones.

    Raises:
        DeviceMissingError: this machine cannot load it.
    """

    def __init__(
        self,
        library: Library,
        path: Path,
        *,
        build: Build | None = None,
        weights: bytes | None = None,
    ) -> None:
        try:
            self._code = ctypes.CDLL(str(path.resolve()))
        except OSError as error:
            raise DeviceMissingError(f"this machine cannot load {path}: {error}") from error
        self._library = library
        self._build = build
        alignment = library.arena_alignment
        self._arena, self._arena_address = _aligned(library.arena_bytes, alignment)
        self._state, self._state_address = _aligned(library.state_bytes, alignment)
        self._context = (ctypes.c_void_p * 4)()
        self._weights, weights_address = (None, None)
        if weights is not None:
            self._weights, weights_address = _aligned(len(weights), alignment)
            ctypes.memmove(weights_address, weights, len(weights))
        init = self._function("init")
        init.argtypes = [ctypes.c_void_p] * 4
        code = init(self._context, self._arena_address, self._state_address, weights_address)
        assert code == 0, f"init answered {code}"
        self._step, self._run, self._reset = map(self._function, ("step", "run", "reset"))
        self._layers = [self._code[layer.symbol] for layer in library.layers]

    def _function(self, name: str) -> ctypes._NamedFuncPointer:
        return self._code[self._library.symbol(name)]

    @property
    def build(self) -> Build | None:
        """How the file was compiled, None where that is not recorded."""
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
        """Bytes from the arena or the state."""
        return ctypes.string_at(self._address(offset, size), size)

    def write(self, offset: int, data: bytes) -> None:
        """Bytes into the arena or the state."""
        ctypes.memmove(self._address(offset, len(data)), data, len(data))

    def close(self) -> None:
        """Nothing: the code stays loaded until the process ends."""

    def _address(self, offset: int, size: int) -> int:
        arena, state = self._arena_address, self._state_address
        return self._library.address(offset, size, arena=arena, state=state)


class HostMachine(LoadedMachine):
    """A library compiled for this machine, for it alone, and loaded.

    Args:
        library: its files are compiled in a temporary folder.
        weights: see :class:`LoadedMachine`.
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
        compiler = host_compiler()
        build = Build(compiler.name, compiler.version, (*FLAGS, *compiler.flags, *flags))
        super().__init__(library, path, build=build, weights=weights)

    def close(self) -> None:
        """Delete the compiled files; the code stays loaded until the process ends."""
        self._folder.cleanup()


def _aligned(size: int, alignment: int) -> tuple[ctypes.Array[ctypes.c_char], int]:
    """A zeroed buffer and an aligned address with `size` bytes behind it."""
    buffer = ctypes.create_string_buffer(size + alignment)
    address = ctypes.addressof(buffer)
    return buffer, address + (-address % alignment)

"""Shared objects: a library as one file that a program on the computer loads.

The file needs nothing: no C library, hence no particular version of one, and nothing else. It
exports the functions of the library's header and keeps everything else to itself; equal sources
give equal bytes.

Folder of a build::

    model/      the library's files           lib<name>.so
    runtime/    string.h and string.c
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from elftools.elf.constants import SH_FLAGS
from elftools.elf.elffile import ELFFile

from edgekit.targets.arm_cpu.cpus import Cpu
from edgekit.targets.arm_cpu.toolchain import CrossToolchain, find_cross
from edgekit.targets.host import write_files
from edgekit.targets.library import Library
from edgekit.targets.machine import Build

RUNTIME_FOLDER = Path(__file__).parent / "runtime"
STRING_FOLDER = Path(__file__).parents[1] / "microcontroller" / "image"

WEIGHTS_SECTIONS = ".ek_weights"

_STRING = ("string.h", "string.c")


@dataclass(frozen=True)
class SharedSizes:
    """Bytes of a shared object that are loaded, by purpose.

    Attributes:
        code: functions.
        rodata: constants outside the weight sections.
        weights: the ``.ek_weights*`` sections; 0 where the weights are a file of their own.
        data: variables, and constants that hold addresses.
        linkage: what a loader reads: names, hashes, relocations, addresses.
    """

    code: int = 0
    rodata: int = 0
    weights: int = 0
    data: int = 0
    linkage: int = 0


@dataclass(frozen=True)
class SharedObject:
    """A library as a shared object.

    Attributes:
        path: the file.
        build: how it was compiled; None where that is not recorded.
        sizes: bytes by purpose.
    """

    path: Path
    build: Build | None
    sizes: SharedSizes

    @classmethod
    def of(cls, path: Path, build: Build | None = None) -> SharedObject:
        """The file at `path`, measured."""
        return cls(path, build, measure(path))


def shared_name(library: Library) -> str:
    """File name of a library's shared object."""
    return f"lib{library.name}.so"


def build_shared(
    library: Library, cpu: Cpu, *, folder: Path, toolchain: CrossToolchain | None = None
) -> SharedObject:
    """Compile and link a library into ``<folder>/lib<name>.so``.

    Args:
        library: what to build.
        cpu: what it is for.
        folder: build folder, created where missing.
        toolchain: None for the first that is installed.

    Raises:
        ToolchainMissingError: no compiler is installed.
        EdgekitError: a source does not compile.
    """
    toolchain = toolchain or find_cross(cpu)
    write_files(library, folder / "model")
    support = support_objects(toolchain, cpu)
    write_all(folder, {**_support_files(toolchain, cpu), **support})
    objects = toolchain.compile_objects(
        [f"model/{name}" for name in library.sources],
        target=cpu,
        folder=folder,
        include=["model", *(f"model/{name}" for name in library.include_folders if name != ".")],
    )
    output = shared_name(library)
    toolchain.link_shared(
        [*objects, *support], cpu=cpu, folder=folder, exports=exports(library), output=output
    )
    return SharedObject.of(folder / output, toolchain.build(cpu))


def exports(library: Library) -> list[str]:
    """The functions of a library's header."""
    functions: tuple[str, ...] = ("init", "run", "step", "reset", "weights_intact")
    functions += ("carry",) if library.state_bytes else ()
    functions += ("run_window",) if library.steps is not None else ()
    return [*map(library.symbol, functions), *(layer.symbol for layer in library.layers)]


def measure(path: Path) -> SharedSizes:
    """Add the loaded sections of a shared object up by purpose."""
    sizes = dict.fromkeys(SharedSizes.__dataclass_fields__, 0)
    with path.open("rb") as stream:
        for section in ELFFile(stream).iter_sections():
            if section["sh_flags"] & SH_FLAGS.SHF_ALLOC and section.name != _PADDING:
                purpose = _purpose(section.name, section["sh_type"], section["sh_flags"])
                sizes[purpose] += section["sh_size"]
    return SharedSizes(**sizes)


_LINKAGE_SECTIONS = (".got", ".plt", ".dynamic", ".gnu.version", ".ARM.ex", ".eh_frame")
"""Sections for the loader and for unwinding that their types do not tell from constants."""

_PADDING = ".relro_padding"
"""Addresses up to the end of a page, which hold nothing."""


def _purpose(name: str, kind: str, flags: int) -> str:
    """Field of :class:`SharedSizes` that a section counts for."""
    if name.startswith(WEIGHTS_SECTIONS):
        return "weights"
    if kind not in ("SHT_PROGBITS", "SHT_NOBITS") or name.startswith(_LINKAGE_SECTIONS):
        return "linkage"
    if flags & SH_FLAGS.SHF_EXECINSTR:
        return "code"
    return "data" if flags & SH_FLAGS.SHF_WRITE else "rodata"


def _support_files(toolchain: CrossToolchain, cpu: Cpu) -> dict[str, bytes]:
    """What every shared object for `cpu` holds beside the model: contents by name."""
    names = ("string.h", *toolchain.runtime_sources(cpu))
    folders = {name: STRING_FOLDER if name in _STRING else RUNTIME_FOLDER for name in names}
    return {f"runtime/{name}": (folder / name).read_bytes() for name, folder in folders.items()}


@cache
def support_objects(toolchain: CrossToolchain, cpu: Cpu) -> Mapping[str, bytes]:
    """The objects that everything built for `cpu` shares, by name."""
    with TemporaryDirectory(prefix="edgekit-") as temporary:
        folder = Path(temporary)
        files = _support_files(toolchain, cpu)
        write_all(folder, files)
        objects = toolchain.compile_objects(
            [name for name in files if name.endswith(".c")],
            target=cpu,
            folder=folder,
            flags=toolchain.literal_loops,
        )
        return {name: (folder / name).read_bytes() for name in objects}


def write_all(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write files by their names relative to `folder`."""
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)

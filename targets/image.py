"""Complete images: a library, a harness and a linker script make an ELF file with known sizes.

The image boots on the target (or its emulator) and runs the library over a file of inputs; the
same ELF file serves the function-by-function emulator. A build links once, measures, decides
which memory holds what, and links again where that changes something.

Folder of a build::

    model/      the library's files           harness/  startup, semihosting, main
    runtime/    string.h and string.c         link.ld, image.elf, image.map
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from enum import IntEnum
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import jinja2

from edgekit.errors import DoesNotFitError
from edgekit.targets.cores import Memory
from edgekit.targets.elf import Elf
from edgekit.targets.host import write_files
from edgekit.targets.library import Library
from edgekit.targets.machine import Build
from edgekit.targets.target import Target
from edgekit.targets.toolchain import Toolchain, find_toolchain

TEMPLATE_FOLDER = Path(__file__).parent / "microcontroller" / "image"
STACK_BYTES = 4096
STACK_ALIGNMENT = 8
BLOB_SOURCE = "ek_weights_blob.c"
"""File that holds the weights of a library that expects them apart from its code."""

_ADDRESS_SPACE = 1 << 32
_UNLIMITED = 1 << 28

_HARNESS = ("startup.c", "semihosting.c", "semihosting.h")
_RUNTIME_HEADERS = ("string.h",)


class Status(IntEnum):
    """Exit status of an image."""

    DONE = 0
    INIT = 1
    OPEN = 2
    TRUNCATED = 3
    RUN = 4
    WRITE = 5
    FAULT = 70


@dataclass(frozen=True)
class SizeReport:
    """Bytes per purpose, equal to the sections of the linker's map.

    Attributes:
        code: the model's functions.
        rodata: the model's constants outside the weight sections.
        weights: the ``.ek_weights*`` sections.
        runtime: what the compiler and ``string.h`` add: memory functions, long division, software
            floating point.
        harness: startup, vectors, files, main: only in this image.
        data: initialised variables; they take flash and RAM.
        bss: other variables, the model's context among them.
        arena: activations and scratch.
        state: what survives between steps.
        stack: reserved; what is used is measured by the emulator.
    """

    code: int
    rodata: int
    weights: int
    runtime: int
    harness: int
    data: int
    bss: int
    arena: int
    state: int
    stack: int

    @property
    def model_flash_bytes(self) -> int:
        """Program memory that the model costs: code, constants, weights and the runtime."""
        return self.code + self.rodata + self.weights + self.runtime


_PURPOSE = {
    ".vectors": "harness",
    ".harness": "harness",
    ".ek_code": "code",
    ".ek_rodata": "rodata",
    ".ek_weights": "weights",
    ".runtime": "runtime",
    ".data": "data",
    ".bss": "bss",
    ".ek_arena": "arena",
    ".ek_state": "state",
    ".stack": "stack",
}
"""Output sections of the linker script and where they are counted."""


@dataclass(frozen=True)
class Placement:
    """Which memory holds what, by name.

    Attributes:
        program: code, constants and the initial values of variables.
        weights: the weight sections.
        data: stack and variables.
        arena: activations and scratch.
        state: what survives between steps.
    """

    program: str
    weights: str
    data: str
    arena: str
    state: str


_ORDER = (
    *(".vectors", ".harness", ".ek_code", ".ek_rodata", ".runtime", ".ek_weights"),
    *(".stack", ".data", ".ek_state", ".ek_arena", ".bss"),
)
"""Sections as they follow each other in the linker script, in whichever memories they are."""

_ROLES = {
    "program": (".vectors", ".harness", ".ek_code", ".ek_rodata", ".runtime", ".data"),
    "data": (".stack", ".data", ".bss"),
    "arena": (".ek_arena",),
    "state": (".ek_state",),
    "weights": (".ek_weights",),
}
"""Sections that are placed together, in the order of placing: small and fast first."""


@dataclass(frozen=True)
class Usage:
    """What one memory holds.

    Attributes:
        memory: the memory.
        sections: name and size of the sections in it.
        bytes: the room they take, alignment included.
    """

    memory: Memory
    sections: tuple[tuple[str, int], ...]
    bytes: int

    @property
    def excess(self) -> int:
        """Bytes by which the contents are too large, 0 where they fit."""
        return max(0, self.bytes - self.memory.bytes)


@dataclass(frozen=True)
class LinkedImage:
    """An image as it is kept: a file, and how to make it again for other memories.

    Attributes:
        path: the ELF file.
        build: how it was compiled.
        stack_bytes: room reserved for the stack.
    """

    path: Path
    build: Build
    stack_bytes: int


@dataclass(frozen=True)
class Image:
    """A linked image.

    Attributes:
        library: what was built.
        target: what it was built for.
        toolchain: what built it.
        folder: where; see the module's text for the files.
        elf: contents of ``image.elf``.
        sizes: bytes per purpose.
        placement: which memory holds what.
        usage: what every used memory holds.
    """

    library: Library
    target: Target
    toolchain: Toolchain
    folder: Path
    elf: Elf
    sizes: SizeReport
    placement: Placement
    usage: tuple[Usage, ...]

    @property
    def path(self) -> Path:
        """The ELF file."""
        return self.folder / "image.elf"

    @property
    def build(self) -> Build:
        """How the model's sources were compiled."""
        return self.toolchain.build(self.target)

    @property
    def linked(self) -> LinkedImage:
        """What is kept of it."""
        return LinkedImage(self.path, self.build, self.sizes.stack)

    @property
    def fits(self) -> bool:
        """Whether the target's memories hold everything."""
        return not any(usage.excess for usage in self.usage)

    def require_fit(self) -> None:
        """Refuse an image that is too large.

        Raises:
            DoesNotFitError: every memory that overflows, by how many bytes, and what is in it.
        """
        if self.fits:
            return
        lines = [f"{self.library.name} does not fit {self.target.name}"]
        for usage in self.usage:
            if usage.excess:
                contents = ", ".join(f"{name} {size}" for name, size in usage.sections)
                lines.append(
                    f"{usage.memory.name}: {usage.excess} bytes too many "
                    f"({usage.bytes} of {usage.memory.bytes}: {contents})"
                )
        raise DoesNotFitError("\n  ".join(lines))


def build_image(
    library: Library,
    target: Target,
    *,
    folder: Path,
    toolchain: Toolchain | None = None,
    stack_bytes: int = STACK_BYTES,
) -> Image:
    """Compile and link a library into a complete image for `target`.

    An image that does not fit is returned too, with its sizes; :meth:`Image.require_fit` refuses
    it. Its addresses are meaningless.

    Args:
        library: what to build.
        target: a generic core or a board.
        folder: build folder, created where missing.
        toolchain: None for the first that is installed.
        stack_bytes: room reserved for the stack, rounded up to a multiple of 8.

    Raises:
        ToolchainMissingError: no compiler is installed.
        EdgekitError: a source does not compile.
    """
    toolchain = toolchain or find_toolchain()
    folder.mkdir(parents=True, exist_ok=True)
    objects = _compile(library, target, toolchain, folder)
    stack_bytes += -stack_bytes % STACK_ALIGNMENT

    def link(placement: Placement, memories: tuple[Memory, ...]) -> Elf:
        script = _render(
            "image.ld.j2",
            library=library,
            target=target,
            memories=memories,
            place=placement,
            stack_bytes=stack_bytes,
        )
        (folder / "link.ld").write_text(script, encoding="utf-8")
        toolchain.link(
            objects,
            target=target,
            folder=folder,
            script="link.ld",
            output="image.elf",
            map_file="image.map",
            keep=[*map(library.symbol, ("init", "run", "step", "reset")), *_layers(library)],
        )
        return Elf.read(folder / "image.elf")

    unlimited = tuple(
        replace(memory, bytes=min(_UNLIMITED, _ADDRESS_SPACE - memory.origin))
        for memory in target.memories
    )
    guess, _ = place(target, {})
    elf = link(guess, unlimited)
    placement, usage = place(target, {s.name: (s.bytes, s.alignment) for s in elf.sections})
    if not any(u.excess for u in usage):
        elf = link(placement, target.memories)
    return Image(library, target, toolchain, folder, elf, measure(elf), placement, usage)


def measure(elf: Elf) -> SizeReport:
    """Add the sections of an image up by purpose."""
    sizes = dict.fromkeys((field.name for field in fields(SizeReport)), 0)
    for section in elf.sections:
        sizes[_PURPOSE[section.name]] += section.bytes
    return SizeReport(**sizes)


def place(
    target: Target, sections: Mapping[str, tuple[int, int]]
) -> tuple[Placement, tuple[Usage, ...]]:
    """Decide which memory holds what: the first in the board's order with room enough.

    Program and weights go to flash; on boards without it, where a loader fills the memories, to
    tightly coupled memory and then to RAM. What fits nowhere goes to the largest memory of its
    kind, whose usage then shows the excess.

    Args:
        target: the memories.
        sections: size and alignment by name of output section.

    Returns:
        The placement and what every used memory holds, in the target's order.
    """
    flash = [m for m in target.memories if m.kind == "flash"]
    data = [m for m in target.memories if m.is_data]
    program = flash or [m for m in target.memories if m.kind == "itcm"]
    candidates = {"program": program, "weights": flash or [*program, *data]}
    contents: dict[str, list[str]] = {memory.name: [] for memory in target.memories}
    chosen: dict[str, str] = {}
    for role, names in _ROLES.items():
        choices = candidates.get(role, data)
        needed = [name for name in names if name in sections]
        fitting = (
            memory
            for memory in choices
            if _extent(contents[memory.name] + needed, sections) <= memory.bytes
        )
        memory = next(fitting, None) or max(choices, key=lambda m: m.bytes)
        contents[memory.name] += needed
        chosen[role] = memory.name
    usage = tuple(
        Usage(
            memory,
            tuple((name, sections[name][0]) for name in contents[memory.name]),
            _extent(contents[memory.name], sections),
        )
        for memory in target.memories
        if contents[memory.name]
    )
    return Placement(**chosen), usage


def _extent(names: list[str], sections: Mapping[str, tuple[int, int]]) -> int:
    """Bytes that sections take in one memory."""
    end = 0
    for name in sorted(names, key=_ORDER.index):
        size, alignment = sections[name]
        end += -end % alignment + size
    return end


def _compile(library: Library, target: Target, toolchain: Toolchain, folder: Path) -> list[str]:
    """Write all sources and compile them; names of the objects in link order."""
    write_files(library, folder / "model")
    support = _support_objects(toolchain, target)
    for name, content in {**_support_files(toolchain, target), **support}.items():
        _write(folder / name, content)
    main = _render(
        "main.c.j2",
        library=library,
        blob=library.blob is not None,
        status=Status,
        input_bytes=sum(port.bytes for port in library.inputs),
        output_bytes=sum(port.bytes for port in library.outputs),
    )
    _write(folder / "harness" / "main.c", main)
    include = ["model", *(f"model/{name}" for name in library.include_folders if name != ".")]
    sources = ["harness/main.c", *(f"model/{name}" for name in library.sources)]
    if library.blob is not None:
        _write(folder / "model" / BLOB_SOURCE, _blob_source(library.blob, library.arena_alignment))
        sources.append(f"model/{BLOB_SOURCE}")
    objects = toolchain.compile_objects(
        sources,
        target=target,
        folder=folder,
        include=include,
    )
    return [*support, *objects]


def _blob_source(blob: bytes, alignment: int) -> str:
    """C that holds a blob of weights; the assembler's include is no option for every toolchain."""
    lines = (", ".join(map(str, blob[i : i + 20])) for i in range(0, len(blob), 20))
    return (
        "#include <stdint.h>\n\n"
        f"extern const uint8_t ek_weights_blob[{len(blob)}];\n"
        f'__attribute__((section(".ek_weights"), aligned({alignment})))\n'
        f"const uint8_t ek_weights_blob[{len(blob)}] = {{\n" + ",\n".join(lines) + "\n};\n"
    )


def _support_files(toolchain: Toolchain, target: Target) -> dict[str, bytes]:
    """What every image for `target` is made of beside the model: contents by name."""
    folders = {
        "harness": _HARNESS,
        "runtime": _RUNTIME_HEADERS + toolchain.runtime_sources(target),
    }
    return {
        f"{folder}/{name}": (TEMPLATE_FOLDER / name).read_bytes()
        for folder, names in folders.items()
        for name in names
    }


@cache
def _support_objects(toolchain: Toolchain, target: Target) -> Mapping[str, bytes]:
    """The objects that every image for `target` shares, by name."""
    with TemporaryDirectory(prefix="edgekit-") as temporary:
        folder = Path(temporary)
        files = _support_files(toolchain, target)
        for name, content in files.items():
            _write(folder / name, content)
        sources = [name for name in files if name.endswith(".c")]
        objects = toolchain.compile_objects(
            sources, target=target, folder=folder, flags=toolchain.literal_loops
        )
        return {name: (folder / name).read_bytes() for name in objects}


@cache
def _templates() -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATE_FOLDER),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,
    )


def _render(template: str, **values: object) -> str:
    return _templates().get_template(template).render(**values)


def _layers(library: Library) -> list[str]:
    return [layer.symbol for layer in library.layers]


def _write(path: Path, content: str | bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8"))

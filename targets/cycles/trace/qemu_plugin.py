"""The plugin that makes QEMU note what it executes: compiled, told what to note, read back.

``native/qemu_runs.h`` says what it writes: straight runs of code, wherever QEMU cut it. They are
parted behind their branches (:func:`part`), so that a block is what runs from where a jump arrives
to the next branch, as in :mod:`edgekit.targets.cycles.trace.recorder`, and no figure depends on
where a page ends.
"""

from __future__ import annotations

import struct
import tempfile
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import cache, cached_property
from pathlib import Path

from edgekit.errors import EdgekitError, EmulationError, ToolchainMissingError
from edgekit.targets.cycles.thumb.decoder import ThumbDecoder, lengths
from edgekit.targets.cycles.trace.compiled import Sources, provide
from edgekit.targets.cycles.trace.kept import run_folder
from edgekit.targets.cycles.trace.recorder import TracedBlock
from edgekit.targets.host import host_compiler

SOURCES = Sources(
    "qemu_plugin", ("qemu_plugin.c", "qemu_runs.c", "table.c"), headers=("qemu_runs.h", "table.h")
)
MAGIC = b"EKT2"

_WORD_BYTES = 4


@dataclass(frozen=True)
class Ran:
    """A block, or a straight run of code, that ran in one section.

    Attributes:
        address: of its first instruction.
        code: its bytes.
        following: address of what ran next, and how often.
    """

    address: int
    code: bytes
    following: Mapping[int, int]

    @property
    def end(self) -> int:
        """Address behind the last instruction."""
        return self.address + len(self.code)

    @property
    def times(self) -> int:
        """How often it ran."""
        return sum(self.following.values())


@dataclass(frozen=True)
class Trace:
    """What the plugin noted.

    Attributes:
        sections: blocks by section: what calls the layers, then every layer.
        entered: how often a layer was entered, over all layers.
        out_of_order: how many of those were not the layer whose turn it was.
    """

    sections: tuple[tuple[Ran, ...], ...]
    entered: int
    out_of_order: int

    def code(self, address: int, size: int) -> bytes:
        """Up to so many bytes of what ran, from an address; fewer where nothing ran behind it."""
        found = bytearray()
        while len(found) < size and (pair := self._halfwords.get(address + len(found))):
            found += pair
        return bytes(found[:size])

    @cached_property
    def _halfwords(self) -> dict[int, bytes]:
        blocks = (block for section in self.sections for block in section)
        return {b.address + i: b.code[i : i + 2] for b in blocks for i in range(0, len(b.code), 2)}

    def traced(self) -> tuple[tuple[TracedBlock, ...], ...]:
        """The blocks of every section as an accountant takes them; nothing waited for memory."""
        anywhere = _sizes(block for section in self.sections for block in section)
        # Where a layer goes on in what called it, the blocks there stand in.
        return tuple(_traced(section, anywhere | _sizes(section)) for section in self.sections)


def _sizes(blocks: Iterable[Ran]) -> dict[int, int]:
    return {block.address: len(block.code) for block in blocks}


def _traced(section: Iterable[Ran], sizes: Mapping[int, int]) -> tuple[TracedBlock, ...]:
    """Blocks with the sizes of what followed them, 0 for what never began a block."""
    found = []
    for block in section:
        following = {(to, sizes.get(to, 0)): times for to, times in block.following.items()}
        none = (0,) * len(list(lengths(block.code)))
        size = len(block.code)
        found.append(TracedBlock(block.address, size, block.times, following, none, none, none))
    return tuple(found)


def compile_plugin(api: int) -> Path:
    """The plugin for QEMUs that accept version `api` of the interface, until the process ends.

    Raises:
        ToolchainMissingError: there is no compiler for this machine, or it cannot compile it, or
            nowhere to write; says what to install.
    """
    return _compiled(api)[1]


@cache
def _compiled(api: int) -> tuple[tempfile.TemporaryDirectory[str], Path]:
    """A folder that goes with the process, and the plugin in it."""
    try:
        compiler = host_compiler()
    except ToolchainMissingError as error:
        raise ToolchainMissingError(f"counting in QEMU needs a plugin, and {error}") from error
    sources = replace(SOURCES, flags=(f"-DEK_PLUGIN_API={api}",))
    with ExitStack() as stack:
        try:
            folder = run_folder()
            stack.enter_context(folder)
            path = next(provide(sources, compiler, Path(folder.name)))
        except EdgekitError as error:
            raise ToolchainMissingError(
                f"counting in QEMU needs a plugin, which {compiler.name} does not compile; "
                f"install gcc, clang or ziglang: {error}"
            ) from error
        except OSError as error:
            raise ToolchainMissingError(
                f"counting in QEMU needs a plugin, and there is no place for it: {error}"
            ) from error
        stack.pop_all()
    return folder, path


def plugin_options(
    plugin: Path, trace: str, *, layers: Sequence[int], callers: Sequence[tuple[int, int]]
) -> tuple[str, str]:
    """QEMU's arguments that load the plugin.

    Args:
        plugin: from :func:`compile_plugin`.
        trace: file that it writes, relative to QEMU's working folder.
        layers: address of every layer's function, in order; bit 0 clear.
        callers: begin and end of every function that calls layers.

    >>> plugin_options(Path("/a,b.so"), "t.bin", layers=[16], callers=[(32, 40)])
    ('-plugin', '/a,,b.so,trace=t.bin,layer=0x10,caller=0x20-0x28')
    """
    options = (
        str(plugin).replace(",", ",,"),
        f"trace={trace}",
        *(f"layer={address:#x}" for address in layers),
        *(f"caller={begin:#x}-{end:#x}" for begin, end in callers),
    )
    return "-plugin", ",".join(options)


class _Words:
    """A cursor over a file of 32-bit words in this machine's order."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._position = 0

    def take(self, count: int) -> tuple[int, ...]:
        """The next words."""
        return struct.unpack(f"={count}I", self.take_bytes(_WORD_BYTES * count))

    def take_bytes(self, count: int) -> bytes:
        """The next bytes, padded to whole words."""
        begin, padded = self._position, count + -count % _WORD_BYTES
        if begin + padded > len(self._data):
            raise EmulationError(f"QEMU's trace was cut after {len(self._data)} bytes")
        self._position += padded
        return self._data[begin : begin + count]

    @property
    def left(self) -> int:
        """Bytes behind the cursor."""
        return len(self._data) - self._position


def read_trace(data: bytes, layers: int) -> Trace:
    """Read what the plugin wrote.

    Args:
        data: contents of the file.
        layers: how many it was told of.

    Raises:
        EmulationError: the file is no trace, was cut short, or speaks of sections or code that
            there are not; code changed while it ran.
    """
    words = _Words(data)
    if words.take_bytes(len(MAGIC)) != MAGIC:
        raise EmulationError("QEMU's trace does not begin with its mark")
    piece_count, run_count, entered, out_of_order = words.take(4)
    code: dict[int, bytes] = {}
    for _ in range(piece_count):
        address, size = words.take(2)
        piece = words.take_bytes(size)
        for i in range(0, size, 2):
            if code.setdefault(address + i, piece[i : i + 2]) != piece[i : i + 2]:
                raise EmulationError(f"code at {address + i:#010x} changed while it ran")
    runs: list[dict[tuple[int, int], Counter[int]]] = [{} for _ in range(layers + 1)]
    for _ in range(run_count):
        section, address, size, following, low, high = words.take(6)
        if section > layers:
            raise EmulationError(f"QEMU's trace speaks of section {section}")
        runs[section].setdefault((address, size), Counter())[following] += high << 32 | low
    if words.left:
        raise EmulationError(f"QEMU's trace has {words.left} bytes too many")
    sections = (
        part(Ran(address, _joined(code, address, size), f) for (address, size), f in found.items())
        for found in runs
    )
    return Trace(tuple(sections), entered, out_of_order)


def _joined(code: Mapping[int, bytes], address: int, size: int) -> bytes:
    """The bytes of a run, from what QEMU translated."""
    found = bytearray()
    for at in range(address, address + size, 2):
        if at not in code:
            raise EmulationError(f"QEMU's trace speaks of code at {at:#010x} that it has not")
        found += code[at]
    return bytes(found)


def part(runs: Iterable[Ran]) -> tuple[Ran, ...]:
    """Part straight runs behind every branch: all but the last were not taken.

    Args:
        runs: of one section.

    Returns:
        Blocks by ascending address.

    >>> moves, branch = bytes.fromhex("0846 1046"), bytes.fromhex("fcd0")
    >>> part([Ran(8, moves + branch, {8: 4}), Ran(8, moves + branch + moves, {40: 1})]) == (
    ...     Ran(8, moves + branch, {8: 4, 14: 1}),
    ...     Ran(14, moves, {40: 1}),
    ... )
    True
    """
    decoder = ThumbDecoder()
    branches: dict[tuple[int, int], bool] = {}
    blocks: dict[tuple[int, bytes], Counter[int]] = {}
    for run in runs:
        begin, following = 0, Counter(run.following)
        for offset, size in lengths(run.code):
            behind, place = offset + size, (run.address + offset, size)
            if place not in branches:
                branches[place] = decoder.ends_in_branch(place[0], run.code[offset:behind])
            if branches[place] and behind < len(run.code):
                block = (run.address + begin, run.code[begin:behind])
                blocks.setdefault(block, Counter())[run.address + behind] += run.times
                begin = behind
        block = (run.address + begin, run.code[begin:])
        blocks.setdefault(block, Counter()).update(following)
    return tuple(Ran(*block, blocks[block]) for block in sorted(blocks))

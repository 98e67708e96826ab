"""The plugin that makes QEMU note what it executes: compiled, told what to note, read back.

``native/qemu_plugin.c`` says what it writes. QEMU shows its plugins translation blocks: they end at
branches, but also at the border of a page and where QEMU has reason to look at its state. What was
cut without a branch is joined again (:func:`join`), so that no figure depends on where a page ends.
"""

from __future__ import annotations

import struct
import tempfile
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

from edgekit.errors import EdgekitError, EmulationError, ToolchainMissingError
from edgekit.targets.compiler import run_tool
from edgekit.targets.cycles.thumb.decoder import ThumbDecoder, lengths
from edgekit.targets.cycles.trace.recorder import TracedBlock
from edgekit.targets.host import host_compiler

SOURCE = Path(__file__).parent / "native" / "qemu_plugin.c"
MAGIC = b"EKT1"

_FLAGS = ("-std=c99", "-O2", "-fPIC", "-shared", "-fvisibility=hidden")
_WORD_BYTES = 4


@dataclass(frozen=True)
class Ran:
    """A block that ran in one section.

    Attributes:
        address: of its first instruction.
        code: its bytes.
        following: address of the next block that ran, and how often.
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
    """The plugin, compiled once per process, for QEMUs that accept version `api` of the interface.

    Raises:
        ToolchainMissingError: there is no compiler for this machine, or it cannot compile it; says
            what to install.
    """
    return Path(_compiled(api).name) / "plugin.so"


@cache
def _compiled(api: int) -> tempfile.TemporaryDirectory[str]:
    try:
        compiler = host_compiler()
    except ToolchainMissingError as error:
        raise ToolchainMissingError(f"counting in QEMU needs a plugin, and {error}") from error
    folder = tempfile.TemporaryDirectory(prefix="edgekit-")
    flags = (*_FLAGS, *compiler.flags, f"-DEK_PLUGIN_API={api}")
    command = (*compiler.command, *flags, "-o", "plugin.so", str(SOURCE))
    try:
        run_tool(command, Path(folder.name))
    except EdgekitError as error:
        folder.cleanup()
        raise ToolchainMissingError(
            f"counting in QEMU needs a plugin, which {compiler.name} does not compile; "
            f"install gcc, clang or ziglang: {error}"
        ) from error
    return folder


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
        EmulationError: the file is no trace, was cut short, or speaks of sections or blocks that
            there are not; code changed while it ran.
    """
    words = _Words(data)
    if words.take_bytes(len(MAGIC)) != MAGIC:
        raise EmulationError("QEMU's trace does not begin with its mark")
    block_count, edge_count, entered, out_of_order = words.take(4)
    code: list[tuple[int, bytes]] = []
    halfwords: dict[int, bytes] = {}
    for _ in range(block_count):
        address, size = words.take(2)
        code.append((address, words.take_bytes(size)))
        for i in range(0, size, 2):
            halfword = code[-1][1][i : i + 2]
            if halfwords.setdefault(address + i, halfword) != halfword:
                raise EmulationError(f"code at {address + i:#010x} changed while it ran")
    found: list[dict[int, Counter[int]]] = [{} for _ in range(layers + 1)]
    for _ in range(edge_count):
        section, block, following, low, high = words.take(5)
        if section > layers or block >= block_count:
            raise EmulationError(f"QEMU's trace speaks of block {block} in section {section}")
        found[section].setdefault(block, Counter())[following] += high << 32 | low
    if words.left:
        raise EmulationError(f"QEMU's trace has {words.left} bytes too many")
    sections = (
        join(Ran(*code[block], following) for block, following in section.items())
        for section in found
    )
    return Trace(tuple(sections), entered, out_of_order)


def join(blocks: Iterable[Ran]) -> tuple[Ran, ...]:
    """Join blocks that lie and always ran one behind the other, cut without a branch.

    Args:
        blocks: of one section.

    Returns:
        The blocks by ascending address.

    >>> moves, branch = bytes.fromhex("0846 1046"), bytes.fromhex("fce7")
    >>> join([Ran(12, branch, {8: 4, 40: 1}), Ran(8, moves, {12: 5})]) == (
    ...     Ran(8, moves + branch, {8: 4, 40: 1}),
    ... )
    True
    """
    decoder = ThumbDecoder()
    left = {(block.address, block.end): block for block in blocks}
    arrivals: Counter[int] = Counter()
    starting: dict[int, list[Ran]] = {}
    for block in left.values():
        arrivals.update(block.following)
        starting.setdefault(block.address, []).append(block)
    joined = []
    for key in sorted(left):
        if key not in left:
            continue
        block = left.pop(key)
        while (
            len(after := starting.get(block.end, [])) == 1
            and set(block.following) == {block.end}
            and block.times == arrivals[block.end] == after[0].times
            and (after[0].address, after[0].end) in left
            and not decoder.ends_in_branch(block.address, block.code)
        ):
            second = left.pop((after[0].address, after[0].end))
            block = Ran(block.address, block.code + second.code, second.following)
        joined.append(block)
    return tuple(joined)

"""A generated C library: what emission yields and every build consumes.

The C side, guaranteed by emission for a prefix ``kws_``::

    kws.h                                       the only public header
    KWS_ARENA_BYTES, KWS_STATE_BYTES
    KWS_INPUT_<k>_OFFSET, KWS_INPUT_<k>_BYTES   bytes from the arena's start, likewise OUTPUT
    typedef struct kws_context kws_context;     complete type
    int  kws_init(kws_context *ctx, void *arena, void *state, const void *weights);
    int  kws_run(kws_context *ctx);             0 on success
    int  kws_step(kws_context *ctx);
    void kws_reset(kws_context *ctx);
    void kws_layer_<i>(const kws_context *ctx); one per layer, in execution order
    void kws_carry(const kws_context *ctx);     with state: what a step does behind its layers,
                                                copies what they have not written in place
    int  kws_run_window(kws_context *ctx, ...); where windows were asked for; samples of each input
    int  kws_weights_intact(const kws_context *ctx);

``weights`` is NULL for the constants built into the library; ``state`` may be NULL when there is
none.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath


@dataclass(frozen=True)
class Port:
    """An input or output of the network, as bytes in the arena.

    Attributes:
        name: what users call it; any text.
        c_name: identifier in the generated C.
        bytes: size.
        offset: first byte, counted from the start of the arena.
    """

    name: str
    c_name: str
    bytes: int
    offset: int

    def __post_init__(self) -> None:
        assert self.bytes > 0
        assert self.offset >= 0


@dataclass(frozen=True)
class Layer:
    """One callable piece of the network.

    Attributes:
        symbol: C function, ``<prefix>layer_<i>``.
        operation: name of the operation it computes; any text.
        operator: name of its operator.
    """

    symbol: str
    operation: str
    operator: str


@dataclass(frozen=True)
class Library:
    """C sources with what a build and an emulator must know about them.

    Attributes:
        name: name of the network: letters, digits, ``_``, ``-`` and ``.``; it stands in comments.
        prefix: begins every external symbol, ends in an underscore (``kws_``).
        files: relative POSIX path to contents; ``.c`` files are compiled, folders that hold
            ``.h`` files are include folders.
        arena_bytes: activations and scratch.
        arena_alignment: power of two; state is aligned alike.
        state_bytes: state that survives between steps, 0 for none.
        weights_bytes: constants in the ``.ek_weights*`` sections.
        inputs: in the model's order.
        outputs: in the model's order.
        layers: in execution order.
        steps: of a window, where there is a function that runs one; None for none.

    >>> library = Library("sum", "sum_", {"sum.h": "", "sum.c": ""}, 8, 4, 0, 0, (), (), ())
    >>> library.header, library.macro("ARENA_BYTES"), library.sources, library.include_folders
    ('sum.h', 'SUM_ARENA_BYTES', ('sum.c',), ('.',))
    """

    name: str
    prefix: str
    files: Mapping[str, str | bytes]
    arena_bytes: int
    arena_alignment: int
    state_bytes: int
    weights_bytes: int
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    layers: tuple[Layer, ...]
    steps: int | None = None

    def __post_init__(self) -> None:
        assert re.fullmatch(r"[A-Za-z0-9_.-]+", self.name), self.name
        assert re.fullmatch(r"[a-z][a-z0-9_]*_", self.prefix), self.prefix
        assert self.arena_alignment.bit_count() == 1
        assert all(port.offset + port.bytes <= self.arena_bytes for port in self.ports)
        for file in self.files:
            path = PurePosixPath(file)
            assert str(path) == file, file
            assert not path.is_absolute(), file
            assert ".." not in path.parts, file

    @property
    def ports(self) -> tuple[Port, ...]:
        """Inputs, then outputs."""
        return self.inputs + self.outputs

    def address(self, offset: int, size: int, *, arena: int, state: int) -> int:
        """Address of bytes in the memory of an instance: its arena, then its state.

        Args:
            offset: in the arena or, from its size on, in the state.
            size: of the bytes, all in one of them.
            arena: address of the arena.
            state: address of the state.
        """
        assert offset >= 0
        if offset < self.arena_bytes:
            assert offset + size <= self.arena_bytes
            return arena + offset
        within = offset - self.arena_bytes
        assert within + size <= self.state_bytes
        return state + within

    @property
    def header(self) -> str:
        """File name of the public header."""
        return f"{self.prefix.rstrip('_')}.h"

    @property
    def sources(self) -> tuple[str, ...]:
        """The files to compile, sorted."""
        return tuple(sorted(name for name in self.files if name.endswith(".c")))

    @property
    def blob_file(self) -> str:
        """Name of the file that holds the weights where they were left out of the code."""
        return f"{self.name}_weights.bin"

    @property
    def blob(self) -> bytes | None:
        """The weights as one file, where they were left out of the code."""
        content = self.files.get(self.blob_file)
        assert content is None or isinstance(content, bytes)
        return content

    @property
    def include_folders(self) -> tuple[str, ...]:
        """The folders that hold headers, sorted."""
        headers = (name for name in self.files if name.endswith(".h"))
        return tuple(sorted({str(PurePosixPath(name).parent) for name in headers}))

    def symbol(self, function: str) -> str:
        """External name of an API function: ``init``, ``run``, ``step``, ``reset``."""
        return self.prefix + function

    def macro(self, suffix: str) -> str:
        """Name of a macro of the public header."""
        return self.prefix.upper() + suffix

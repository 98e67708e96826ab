"""What a network needs in memory: totals, and where every buffer lies."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from edgekit.bench.fields import Count

BlockKind = Literal["activation", "scratch", "state", "weights", "code", "stack"]


@dataclass(frozen=True)
class Block:
    """Bytes with one purpose.

    Attributes:
        name: tensors or operation they belong to.
        kind: what they hold.
        offset: first byte from the start of the arena; null outside of it.
        bytes: size.
        first_layer: index of the first layer in which they hold something; null for always.
        last_layer: index of the last one, inclusive; null for always.
    """

    name: str
    kind: BlockKind
    offset: Count | None
    bytes: Count
    first_layer: Count | None
    last_layer: Count | None

    def __post_init__(self) -> None:
        if (self.first_layer is None) != (self.last_layer is None):
            raise ValueError("a block has both a first and a last layer, or neither")
        if (
            self.first_layer is not None
            and self.last_layer is not None
            and self.first_layer > self.last_layer
        ):
            raise ValueError(f"layers {self.first_layer}…{self.last_layer} run backwards")


@dataclass(frozen=True)
class Memory:
    """Bytes, counted: in the linked image where there is one, else in the plan.

    Attributes:
        activations_bytes: the arena, scratch included.
        peak_live_bytes: no arena for this order can be smaller.
        state_bytes: survives between steps.
        weights_bytes: constants.
        stack_bytes: high-water mark; null where nothing saw it.
        stack_reserved_bytes: in the image; null without one.
        code_bytes: the model's machine code and read-only data; null where nothing was linked.
        runtime_bytes: compiler support routines; null without an image.
        ram_bytes: activations, state and reserved stack; null without an image.
        flash_bytes: code, runtime and weights; null without an image.
        ram_available_bytes: on the target; null where it has no limit.
        flash_available_bytes: on the target; null where it has no limit.
        blocks: the map behind the totals; empty where it is not known.
    """

    activations_bytes: Count
    peak_live_bytes: Count
    state_bytes: Count
    weights_bytes: Count
    stack_bytes: Count | None = None
    stack_reserved_bytes: Count | None = None
    code_bytes: Count | None = None
    runtime_bytes: Count | None = None
    ram_bytes: Count | None = None
    flash_bytes: Count | None = None
    ram_available_bytes: Count | None = None
    flash_available_bytes: Count | None = None
    blocks: tuple[Block, ...] = ()

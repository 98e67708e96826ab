"""What a NIR file holds, as plain data: nodes with their fields, graphs of nodes and of graphs.

Nothing here interprets a field, so that what was read can be written again to the bit.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal

from edgekit.spiking.arrays import Array

Metadata = Mapping[str, "Array | str | Metadata"]
Path = tuple[str, ...]
"""Names from the outermost graph to a node."""


@dataclass(frozen=True)
class Field:
    """One field of a type of nodes.

    Attributes:
        name: as NIR calls it.
        kind: ``"real"`` numbers, ``"integer"`` numbers, or ``"padding"``: integers, ``"same"`` or
            ``"valid"``.
        required: False where a file may leave it out.
    """

    name: str
    kind: Literal["real", "integer", "padding"] = "real"
    required: bool = True


def _real(*names: str) -> tuple[Field, ...]:
    return tuple(Field(name) for name in names)


_WINDOW = (
    Field("stride", "integer"),
    Field("padding", "padding"),
    Field("dilation", "integer"),
    Field("groups", "integer"),
)
_CONVOLUTION = (*_real("weight", "bias"), *_WINDOW, Field("input_shape", "integer", required=False))
_POOL = tuple(Field(name, "integer") for name in ("kernel_size", "stride", "padding"))
_SHAPE = (Field("shape", "integer"),)
_V_RESET, _W_IN = (Field(name, required=False) for name in ("v_reset", "w_in"))

TYPES: Mapping[str, tuple[Field, ...]] = MappingProxyType(
    {
        "Affine": _real("weight", "bias"),
        "AvgPool2d": _POOL,
        "Conv1d": _CONVOLUTION,
        "Conv2d": _CONVOLUTION,
        "CubaLI": (*_real("tau_syn", "tau_mem", "r", "v_leak"), _W_IN),
        "CubaLIF": (*_real("tau_syn", "tau_mem", "r", "v_leak", "v_threshold"), _W_IN, _V_RESET),
        "Delay": _real("delay"),
        "Flatten": (
            Field("start_dim", "integer"),
            Field("end_dim", "integer"),
            Field("input_type", "integer", required=False),
        ),
        "I": _real("r"),
        "IF": (*_real("r", "v_threshold"), _V_RESET),
        "Input": _SHAPE,
        "LI": _real("tau", "r", "v_leak"),
        "LIF": (*_real("tau", "r", "v_leak", "v_threshold"), _V_RESET),
        "Linear": _real("weight"),
        "Output": _SHAPE,
        "Scale": _real("scale"),
        "SumPool2d": _POOL,
        "Threshold": _real("threshold"),
    }
)
"""Every type of node that is read, with its fields."""

GRAPH = "NIRGraph"
"""The type of a graph within a graph."""


@dataclass(frozen=True, eq=False)
class NirNode:
    """A node as the file states it.

    Attributes:
        type: a key of :data:`TYPES`.
        fields: by name; arrays of the file's own shape and type, read-only.
        metadata: what the writer added; NIR gives it no meaning.
    """

    type: str
    fields: Mapping[str, Array | str]
    metadata: Metadata = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class NirTree:
    """A graph as the file states it.

    Attributes:
        nodes: nodes and graphs by name.
        edges: pairs of names of this graph's nodes; no pair twice.
        metadata: what the writer added.
    """

    nodes: Mapping[str, NirNode | NirTree]
    edges: tuple[tuple[str, str], ...]
    metadata: Metadata = field(default_factory=dict)

    def walk(self, path: Path = ()) -> Iterator[tuple[Path, NirNode]]:
        """Every node with its path; graphs within are entered where they stand."""
        for name, node in self.nodes.items():
            if isinstance(node, NirTree):
                yield from node.walk((*path, name))
            else:
                yield (*path, name), node

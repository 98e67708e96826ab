"""The Model: an ONNX graph with where it came from."""

from __future__ import annotations

from dataclasses import dataclass, replace

import onnx_ir

MIN_OPSET = 7
"""Oldest supported opset of the standard domain: the first with NumPy's broadcasting."""

MAX_OPSET = 26
"""Newest opset of the standard domain whose operators are known."""

MAX_ELEMENTS = 2**26
"""Most elements of a value: 256 MiB of float32. Larger ones come from broken files."""


@dataclass(frozen=True, eq=False)
class Model:
    """A network in ONNX form.

    Attributes:
        ir: the graph. Passes return new ones; nobody changes this one in place.
        source: file name and hash, free text.
        notes: decisions that were taken while loading and that the user should hear of.
    """

    ir: onnx_ir.Model
    source: str = ""
    notes: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Name of the graph, or ``model``."""
        return self.ir.graph.name or "model"

    def with_ir(self, ir: onnx_ir.Model) -> Model:
        """The same provenance with another graph."""
        return replace(self, ir=ir)

    def to_bytes(self) -> bytes:
        """The model as a serialised ``ModelProto``, the same bytes for the same graph."""
        proto = onnx_ir.to_proto(self.ir)
        return bytes(proto.SerializeToString(deterministic=True))

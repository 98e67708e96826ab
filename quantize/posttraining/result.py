"""What post-training quantisation did, layer by layer."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

from edgekit.model.model import Model


@dataclass(frozen=True, kw_only=True)
class LayerResult:
    """One layer.

    Attributes:
        name: as in the source model, without ``.weight``.
        kind: as in torch: ``Conv2d``, ``Linear``.
        recipe: what it got, ``fp32`` for nothing.
        reason: which rule of the recipe decided.
        weights: how many it has.
        float_bytes: of the weights in float32.
        bytes: of packed codes, factors and scales; those of float32 where it stays in float.
        effective_bits: stored bits per weight.
        error_rounded: mean square of the error of its sums over the calibration data, over their
            mean square, with every weight rounded to nearest; None where it was not measured.
        error: the same as it is now.
        tied_to: the layer before it whose weights and bytes these are; None for its own.
        notes: what was decided otherwise than asked for.
    """

    name: str
    kind: str
    recipe: str
    reason: str
    weights: int
    float_bytes: int
    bytes: int
    effective_bits: float
    error_rounded: float | None = None
    error: float | None = None
    tied_to: str | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class PostTraining:
    """A quantised Model and how it came about.

    Attributes:
        model: with QuantizeLinear, DequantizeLinear and coded weights.
        layers: in execution order.
        notes: on the network as a whole, one sentence each.
    """

    model: Model
    layers: tuple[LayerResult, ...]
    notes: tuple[str, ...] = ()

    @property
    def bytes(self) -> int:
        """Of the weights of all layers; those that layers share count once."""
        return sum(layer.bytes for layer in self.layers if layer.tied_to is None)

    @property
    def effective_bits(self) -> float:
        """Stored bits per weight over all layers, those that stay in float included."""
        weights = sum(layer.weights for layer in self.layers if layer.tied_to is None)
        return 8 * self.bytes / weights if weights else 0.0

    def to_dict(self) -> dict[str, Any]:
        """Layers and sums as JSON has them."""
        return {
            "layers": [asdict(layer) for layer in self.layers],
            "bytes": self.bytes,
            "effective_bits": self.effective_bits,
            "notes": list(self.notes),
        }

    def to_json(self) -> str:
        """The same as text."""
        return json.dumps(self.to_dict(), indent=2) + "\n"

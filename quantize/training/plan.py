"""What quantisation-aware training does with every layer of a network, as a value and as text."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from edgekit.quantize.recipe import LayerRecipe


@dataclass(frozen=True)
class LayerPlan:
    """What one layer got.

    Attributes:
        name: dotted path of the module; empty for the network itself.
        module: name of its class.
        tensors: names of the parameters that are quantised.
        recipe: what it got; ``fp32`` for a layer that stays in float.
        kept_wider: whether it is the first or the last layer and got more than the rest.
        notes: what was decided otherwise than the recipe alone says, one sentence each.
    """

    name: str
    module: str
    tensors: tuple[str, ...]
    recipe: LayerRecipe
    kept_wider: bool = False
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        return "; ".join((f"{self.name} ({self.module}): {self.recipe}", *self.notes))


@dataclass(frozen=True)
class Plan:
    """What a network got.

    Attributes:
        layers: those with weights, in the order of the network's definition.
        activations: names of the values that are quantised, in the order of execution; those that
            share a scale are joined by ``+``.
        in_float: what stays in float32 and why, one sentence each.
    """

    layers: tuple[LayerPlan, ...]
    activations: tuple[str, ...]
    in_float: tuple[str, ...] = ()

    def layer(self, name: str) -> LayerPlan:
        """What the layer of that name got.

        Raises:
            KeyError: no layer with weights has that name.
        """
        for layer in self.layers:
            if layer.name == name:
                return layer
        raise KeyError(name)

    def lines(self) -> Iterator[str]:
        """One line per layer and per thing that stays in float."""
        yield from (str(layer) for layer in self.layers)
        yield from (f"in float: {line}" for line in self.in_float)

    def __str__(self) -> str:
        return "\n".join(self.lines())

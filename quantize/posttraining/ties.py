"""Layers that share their weights: one recipe, one code, counted once."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TypeAlias

from edgekit.errors import UsageError
from edgekit.quantize.posttraining.layers import Layer, Tie
from edgekit.quantize.recipe import Choice

log = logging.getLogger("edgekit")

Decided: TypeAlias = tuple[Layer, Choice]
"""A layer and what it gets."""

_FLOAT_BITS = 32.0


def owners_of(layers: Sequence[Layer]) -> dict[Tie, tuple[Layer, ...]]:
    """The layers that have the same rows of one weight, in execution order, by what they share."""
    owners: dict[Tie, tuple[Layer, ...]] = {}
    for layer in layers:
        owners[layer.tied] = (*owners.get(layer.tied, ()), layer)
    return owners


def agree(decided: Sequence[Decided]) -> list[Decided]:
    """Let layers with one weight have one format: the widest where only a default differs.

    Raises:
        UsageError: rules that give the layers of one weight different formats, each tie a line.
    """
    result, problems = list(decided), []
    for owners in owners_of([layer for layer, _ in decided]).values():
        places = [i for i, (layer, _) in enumerate(decided) if layer in owners]
        choices = [decided[i][1] for i in places]
        if len({choice.recipe.weights for choice in choices}) == 1:
            continue
        if len({choice.recipe.weights for choice in choices if not choice.kept_wider}) > 1:
            given = ", ".join(str(choice.recipe) for choice in choices)
            names = " and ".join(layer.name for layer in owners)
            problems.append(
                f"layers {names} share one weight and have different recipes ({given}); "
                "give them the same"
            )
            continue
        widest = max(places, key=lambda i: (_bits(decided[i]), decided[i][1].kept_wider))
        source, chosen = decided[widest]
        for i in places:
            layer, choice = decided[i]
            if choice.recipe.weights == chosen.recipe.weights:
                continue
            reason = f"shares weights with {called(source, layer)}: {chosen.reason}"
            result[i] = layer, Choice(chosen.recipe, reason)
            log.info("%s: %s instead of %s, %s", layer.name, chosen.recipe, choice.recipe, reason)
    if problems:
        raise UsageError("\n  ".join(["recipe:", *problems] if len(problems) > 1 else problems))
    return result


def called(other: Layer, layer: Layer) -> str:
    """How a layer is told of another one: a module that runs twice has one name."""
    return other.name if other.name != layer.name else f"another call of {layer.name}"


def read_otherwise(layer: Layer, layers: Sequence[Layer]) -> Layer | None:
    """The first layer before this one with the same weight in other rows."""
    value, *_ = layer.tied
    for other in layers:
        if other is layer:
            return None
        if other.tied[0] == value and other.tied != layer.tied:
            return other
    return None


def _bits(decided: Decided) -> float:
    """Stored bits per weight."""
    layer, choice = decided
    fmt = choice.recipe.weights
    return _FLOAT_BITS if fmt is None else fmt.effective_bits(*layer.rows.shape)

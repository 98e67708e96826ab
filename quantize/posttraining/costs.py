"""What layers cost alone, and the mixture of recipes that costs least within a size."""

from __future__ import annotations

import glob
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from edgekit.errors import UsageError
from edgekit.quantize.recipe import Recipe

Metric = Literal["mse", "kl", "accuracy"]

MAX_MIXTURES = 2**20
"""Most mixtures that are kept while a proposal is worked out."""


@dataclass(frozen=True, kw_only=True)
class Cost:
    """One layer alone with one recipe's weights, everything else in float.

    Attributes:
        layer: its name; of layers that share a weight, the first.
        recipe: of its weights.
        bytes: of its packed codes, factors and scales.
        mse: mean squared change of the network's outputs, over their mean square.
        kl: mean Kullback-Leibler divergence of the softmax of the outputs from the float
            network's, in nats; None where the network gives no vector of scores.
        accuracy_lost: share of the samples that were right and are wrong now, less the reverse;
            None without labels.
        tied: names of further layers with the same weight, which are quantised along with it.
    """

    layer: str
    recipe: str
    bytes: int
    mse: float
    kl: float | None
    accuracy_lost: float | None
    tied: tuple[str, ...] = ()

    def value(self, metric: Metric) -> float:
        """The cost by one metric; it was checked that there is one."""
        found = {"mse": self.mse, "kl": self.kl, "accuracy": self.accuracy_lost}[metric]
        assert found is not None
        return found


@dataclass(frozen=True)
class Sensitivity:
    """What layers cost alone.

    Attributes:
        costs: for every layer in execution order and every recipe; layers that share a weight are
            one.
        metric: that ranks layers and chooses the proposal.
        samples: that were run.
        accuracy: of the float network; None without labels.
        budget_bytes: what the weights may take; None for no proposal.
        proposal: recipe by layer, None without a budget.
        proposal_bytes: what its weights take.
        proposal_cost: the sum of its layers' costs.
    """

    costs: tuple[Cost, ...]
    metric: Metric
    samples: int
    accuracy: float | None = None
    budget_bytes: int | None = None
    proposal: Mapping[str, str] | None = None
    proposal_bytes: int | None = None
    proposal_cost: float | None = None

    @property
    def recipe(self) -> Recipe | None:
        """The proposal as a recipe; what is none of its layers gets w8a8."""
        if self.proposal is None:
            return None
        rules = {glob.escape(name): text for name, text in self.proposal.items()}
        return Recipe.parse({**rules, "*": "w8a8"})

    def ranking(self, recipe: str | None = None) -> tuple[Cost, ...]:
        """Layers by cost, the most expensive first.

        Args:
            recipe: which of the recipes' costs; default the one that costs most in all.

        Raises:
            UsageError: it was not among the candidates.
        """
        texts = list(dict.fromkeys(cost.recipe for cost in self.costs))
        wanted = recipe
        if wanted is None:
            wanted = max(texts, key=lambda t: sum(c.value(self.metric) for c in self._of(t)))
        if wanted not in texts:
            raise UsageError(f"recipe {wanted!r} was not measured; there are {', '.join(texts)}")
        return tuple(sorted(self._of(wanted), key=lambda c: -c.value(self.metric)))

    def _of(self, recipe: str) -> list[Cost]:
        return [cost for cost in self.costs if cost.recipe == recipe]

    def to_dict(self) -> dict[str, Any]:
        """Everything as JSON has it."""
        return asdict(self)

    def to_json(self) -> str:
        """The same as text."""
        return json.dumps(self.to_dict(), indent=2) + "\n"


def with_proposal(result: Sensitivity, budget: int) -> Sensitivity:
    """The mixture of least cost within a budget.

    Raises:
        UsageError: the smallest mixture exceeds the budget.
    """
    by_layer: dict[str, list[Cost]] = {}
    for cost in result.costs:
        by_layer.setdefault(cost.layer, []).append(cost)
    least = sum(min(c.bytes for c in options) for options in by_layer.values())
    if least > budget:
        raise UsageError(
            f"a budget of {budget} bytes: the narrowest of the candidates take {least} already"
        )
    rest = least
    # Mixtures of the layers so far that no other beats in both bytes and cost.
    kept: list[tuple[int, float, tuple[Cost, ...]]] = [(0, 0.0, ())]
    for options in by_layer.values():
        rest -= min(c.bytes for c in options)
        grown = [
            (size + c.bytes, cost + c.value(result.metric), (*taken, c))
            for size, cost, taken in kept
            for c in options
            if size + c.bytes + rest <= budget
        ]
        grown.sort(key=lambda mixture: mixture[:2])
        kept, best = [], np.inf
        for mixture in grown:
            if mixture[1] < best:
                kept.append(mixture)
                best = mixture[1]
        if len(kept) > MAX_MIXTURES:
            raise UsageError("too many layers and candidates for an exact proposal; give fewer")
    size, total, taken = kept[-1]
    return Sensitivity(
        result.costs,
        result.metric,
        result.samples,
        result.accuracy,
        budget,
        {name: c.recipe for c in taken for name in (c.layer, *c.tied)},
        size,
        total,
    )

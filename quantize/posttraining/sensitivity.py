"""What every layer costs alone, and which mixture of recipes fits a size."""

from __future__ import annotations

import glob
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from edgekit.errors import InvalidDataError, UnsupportedError, UsageError
from edgekit.model.load import load
from edgekit.model.model import Model
from edgekit.model.nodes import Array
from edgekit.model.passes import optimize
from edgekit.program.ir import Operation, Program
from edgekit.program.lowering import LOWERINGS, lower_optimized
from edgekit.quantize.calibration import choose_samples, samples_of
from edgekit.quantize.posttraining.coding import nearest
from edgekit.quantize.posttraining.layers import Layer, find_layers
from edgekit.quantize.posttraining.method import Method
from edgekit.quantize.posttraining.quantize import column_order
from edgekit.quantize.posttraining.simulate import Rows, compute, is_layer, stacked
from edgekit.quantize.recipe import LayerRecipe, Recipe

Metric = Literal["mse", "kl", "accuracy"]

RECIPES = ("w8a8", "w4a8-g32", "w158a8")
"""Candidates unless others are given, wide to narrow."""

MAX_MIXTURES = 2**20
"""Most mixtures that are kept while a proposal is worked out."""

Progress = Callable[[str, int, int], None]
"""Called with a layer's name, and measurements done and in all."""


@dataclass(frozen=True, kw_only=True)
class Cost:
    """One layer alone with one recipe's weights, everything else in float.

    Attributes:
        layer: its name.
        recipe: of its weights.
        bytes: of its packed codes, factors and scales.
        mse: mean squared change of the network's outputs, over their mean square.
        kl: mean Kullback-Leibler divergence of the softmax of the outputs from the float
            network's, in nats; None where the network gives no vector of scores.
        accuracy_lost: share of the samples that were right and are wrong now, less the reverse;
            None without labels.
    """

    layer: str
    recipe: str
    bytes: int
    mse: float
    kl: float | None
    accuracy_lost: float | None

    def value(self, metric: Metric) -> float:
        """The cost by one metric; it was checked that there is one."""
        found = {"mse": self.mse, "kl": self.kl, "accuracy": self.accuracy_lost}[metric]
        assert found is not None
        return found


@dataclass(frozen=True)
class Sensitivity:
    """What layers cost alone.

    Attributes:
        costs: for every layer in execution order and every recipe.
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


def sensitivity(
    model: object,
    data: object,
    *,
    labels: Array | None = None,
    recipes: Sequence[str] = RECIPES,
    budget_bytes: int | None = None,
    metric: Metric = "mse",
    method: str | Method = "rtn",
    seed: int = 0,
    limit: int | None = 256,
    progress: Progress | None = None,
) -> Sensitivity:
    """Measure what every layer costs when it alone is quantised, and propose a mixture.

    Weights only: what activations cost is the same for all candidates. The proposal minimises the
    sum of the layers' costs among all mixtures that fit the budget, exactly, by dynamic
    programming over the layers; that costs add up is an assumption, which later fine tuning or
    :func:`~edgekit.quantize.posttraining.quantize_model` shows true or false.

    Args:
        model: a torch module, which is captured; a Model; or the path of an ONNX file.
        data: array by input name, the first axis counting samples; or one array for a network of
            one input; or a pair of that and labels; or batches of such pairs, as a DataLoader
            gives them.
        labels: the right class of every sample, which makes accuracy known.
        recipes: candidates; their weights count.
        budget_bytes: what codes, factors and scales of all layers may take; None for no proposal.
        metric: ``mse``, ``kl`` or ``accuracy`` (with labels): ranks and chooses.
        method: scales by ``rtn`` (the format's rule), ``mse`` or ``percentile``.
        seed: of the choice of samples where `limit` is smaller than their number.
        limit: how many samples to use at most, None for all.
        progress: told of every measurement.

    Raises:
        InvalidDataError: data that does not fit the model.
        UnsupportedError: a model that cannot be lowered, or one with state.
        UsageError: an unknown metric or recipe, or a budget that nothing fits.
    """
    chosen = _candidates(recipes, metric, method)
    given, own = _arrays(data, limit)
    labels = own if labels is None else np.asarray(labels)
    found, arrays = _model(model, given)
    if labels is None and metric == "accuracy":
        raise UsageError("metric 'accuracy' needs labels")
    network = _Network(found, arrays, labels, seed, limit)
    if metric == "kl" and not network.has_scores:
        raise UsageError("metric 'kl' needs a network with one output of scores; choose 'mse'")
    costs, total = list[Cost](), len(network.layers) * len(chosen)
    for layer, operation in network.layers:
        for text, recipe in chosen.items():
            costs.append(network.cost(layer, operation, text, recipe, Method.parse(method)))
            if progress is not None:
                progress(layer.name, len(costs), total)
    result = Sensitivity(tuple(costs), metric, network.samples, network.accuracy, budget_bytes)
    return result if budget_bytes is None else _with_proposal(result, budget_bytes)


def _candidates(
    recipes: Sequence[str], metric: str, method: str | Method
) -> dict[str, LayerRecipe]:
    if metric not in get_args(Metric):
        raise UsageError(f"metric {metric!r} is unknown; there are {', '.join(get_args(Metric))}")
    if Method.parse(method).needs_inputs:
        raise UsageError(f"method {method}: sensitivity rounds to nearest; choose rtn or mse")
    if isinstance(recipes, str) or not recipes:
        raise UsageError("recipes must be a list of recipe texts, at least one")
    chosen = {text: LayerRecipe.parse(text) for text in recipes}
    return {str(recipe): recipe for recipe in chosen.values()}


def _arrays(data: object, limit: int | None) -> tuple[object, Array | None]:
    """Inputs, by name or alone, and labels that came with them."""
    if isinstance(data, Mapping):
        return data, None
    if isinstance(data, tuple):
        if len(data) != 2:
            raise InvalidDataError(f"data is a tuple of {len(data)}, must be inputs and labels")
        return data[0], np.asarray(data[1])
    if hasattr(data, "__array__"):
        return np.asarray(data), None
    if not isinstance(data, Iterable):
        raise InvalidDataError(
            f"data is {type(data).__name__}, must be arrays by input name, an array, or batches"
        )
    parts: list[tuple[Array, Array | None]] = []
    for batch in data:
        pair = batch if isinstance(batch, tuple | list) else (batch,)
        parts.append((np.asarray(pair[0]), np.asarray(pair[1]) if len(pair) > 1 else None))
        if limit is not None and sum(x.shape[0] for x, _ in parts) >= limit:
            break
    if not parts:
        raise InvalidDataError("data holds no batches")
    labels = [y for _, y in parts if y is not None]
    whole = np.concatenate([x for x, _ in parts])
    return whole, np.concatenate(labels) if len(labels) == len(parts) else None


def _model(model: object, given: object) -> tuple[Model, dict[str, Array]]:
    if isinstance(model, str | Path):
        model = load(model)
    if not isinstance(model, Model):
        from edgekit.model.capture import capture

        if isinstance(given, Mapping):
            example: object = {name: np.asarray(array)[:1] for name, array in given.items()}
        else:
            example = np.asarray(given)[:1]
        model = capture(model, example)  # type: ignore[arg-type]
    if isinstance(given, Mapping):
        return model, {str(name): np.asarray(array) for name, array in given.items()}
    names = [str(value.name) for value in model.ir.graph.inputs]
    if len(names) != 1:
        raise InvalidDataError(f"the model has inputs {names}; give arrays by name")
    return model, {names[0]: np.asarray(given)}


class _Network:
    """A float network whose every value over all samples is known."""

    def __init__(
        self,
        model: Model,
        arrays: Mapping[str, Array],
        labels: Array | None,
        seed: int,
        limit: int | None,
    ) -> None:
        optimized = optimize(model, keep=LOWERINGS)
        self.lowered = lower_optimized(optimized)
        program = self.program = self.lowered.program
        if program.state:
            raise UnsupportedError("sensitivity of a model with state is not measured")
        counted = dict(arrays)
        if labels is not None:
            # Drawn with the inputs, so that they stay together.
            first = next(iter(arrays.values()))
            if labels.ndim != 1 or labels.dtype.kind not in "iu" or first.ndim == 0:
                raise InvalidDataError("labels must be integers, one for every sample")
            if labels.shape[0] != first.shape[0]:
                raise InvalidDataError(f"{first.shape[0]} samples have {labels.shape[0]} labels")
        chosen = list(choose_samples(counted, seed=seed, limit=limit))
        samples = list(samples_of(program, counted, seed=seed, limit=limit))
        self.samples = len(samples)
        self.labels = None if labels is None else labels[chosen]
        self.values = stacked(program, samples)
        for operation in program.operations:
            results = compute(program, operation, self.values)
            self.values.update(zip(operation.outputs, results, strict=True))
        names = [b.tensor for b in program.outputs]
        self.outputs = [self.values[n].reshape(self.samples, -1) for n in names]
        self.has_scores = len(self.outputs) == 1 and self._vectors(program)
        if self.labels is not None and not self.has_scores:
            raise UsageError("labels need a network with one output of scores per sample")
        self.right = None if self.labels is None else self._right(self.outputs[0])
        origins: dict[str, Operation] = {
            self.lowered.origins[op.name]: op for op in program.operations if is_layer(op, program)
        }
        layers = find_layers(optimized.ir.graph, model.ir.graph)
        self.layers = [
            (layer, origins[layer.node.name or ""])
            for layer in layers
            if layer.node.name in origins
        ]
        if not self.layers:
            raise UsageError("the model has no layers with weights")

    @staticmethod
    def _vectors(program: Program) -> bool:
        (boundary,) = program.outputs
        shape = boundary.source_shape
        return len(shape) >= 1 and shape[-1] > 1 and int(np.prod(shape[:-1])) == 1

    @property
    def accuracy(self) -> float | None:
        """Of the float network."""
        return None if self.right is None else float(self.right.mean())

    def _right(self, scores: Array) -> Array:
        return np.asarray(scores.argmax(axis=1) == self.labels)

    def cost(
        self, layer: Layer, operation: Operation, text: str, recipe: LayerRecipe, method: Method
    ) -> Cost:
        """Of one layer alone."""
        fmt = recipe.weights
        rows, size = layer.rows, 4 * layer.rows.size
        if fmt is not None:
            coded = nearest(layer.rows, fmt, method)
            rows, size = fmt.dequantize(coded), fmt.pack(coded).nbytes
        outputs = self._outputs(layer, operation, rows)
        change = sum(
            float(np.square(a.astype(np.float64) - b).sum())
            for a, b in zip(self.outputs, outputs, strict=True)
        )
        whole = sum(float(np.square(b.astype(np.float64)).sum()) for b in self.outputs)
        kl = lost = None
        if self.has_scores:
            kl = _divergence(self.outputs[0], outputs[0])
        if self.right is not None:
            lost = float(self.right.mean() - self._right(outputs[0]).mean())
        mse = change / whole if whole > 0 else change
        return Cost(layer=layer.name, recipe=text, bytes=size, mse=mse, kl=kl, accuracy_lost=lost)

    def _outputs(self, layer: Layer, operation: Operation, rows: Array) -> list[Array]:
        """The network's outputs where one layer has other weights; the rest is not recomputed."""
        program = self.program
        order = column_order(self.lowered, layer, operation)
        name = operation.inputs[2] if len(operation.inputs) > 2 else None
        bias = None if name is None else program.tensors[name].data
        changed: dict[str, Array] = {}
        for op in program.operations:
            own = Rows(rows[:, order], bias) if op is operation else None
            if own is None and changed.keys().isdisjoint(op.present_inputs):
                continue
            values = {n: changed.get(n, self.values.get(n)) for n in op.present_inputs}
            known = {n: v for n, v in values.items() if v is not None}
            results = compute(program, op, known, own)
            changed.update(zip(op.outputs, results, strict=True))
        return [
            changed.get(b.tensor, self.values[b.tensor]).reshape(self.samples, -1)
            for b in program.outputs
        ]


def _divergence(real: Array, changed: Array) -> float:
    """Mean of KL(softmax(real) ‖ softmax(changed)) in nats."""

    def log_softmax(x: Array) -> Array:
        x = x.astype(np.float64)
        x = x - x.max(axis=1, keepdims=True)
        return np.asarray(x - np.log(np.exp(x).sum(axis=1, keepdims=True)))

    p, q = log_softmax(real), log_softmax(changed)
    return max(0.0, float((np.exp(p) * (p - q)).sum(axis=1).mean()))


def _with_proposal(result: Sensitivity, budget: int) -> Sensitivity:
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
        {c.layer: c.recipe for c in taken},
        size,
        total,
    )

"""What every layer costs alone, and which mixture of recipes fits a size."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TypeAlias, get_args

import numpy as np

from edgekit.errors import InvalidDataError, UnsupportedError, UsageError
from edgekit.model.load import load
from edgekit.model.model import Model
from edgekit.model.nodes import Array
from edgekit.model.passes import optimize
from edgekit.program.ir import Operation, Program
from edgekit.program.lowering import LOWERINGS, lower_optimized
from edgekit.quantize.calibration import choose_samples, samples_of
from edgekit.quantize.posttraining.choosing import column_order
from edgekit.quantize.posttraining.coding import nearest
from edgekit.quantize.posttraining.costs import Cost, Metric, Sensitivity, with_proposal
from edgekit.quantize.posttraining.layers import Layer, Tie, find_layers
from edgekit.quantize.posttraining.method import Method
from edgekit.quantize.posttraining.simulate import Rows, compute, is_layer, stacked
from edgekit.quantize.recipe import LayerRecipe

RECIPES = ("w8a8", "w4a8-g32", "w158a8")
"""Candidates unless others are given, wide to narrow."""

Progress = Callable[[str, int, int], None]
"""Called with a layer's name, and measurements done and in all."""


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
    costs, total = list[Cost](), len(network.units) * len(chosen)
    for unit in network.units:
        for text, recipe in chosen.items():
            costs.append(network.cost(unit, text, recipe, Method.parse(method)))
            if progress is not None:
                progress(costs[-1].layer, len(costs), total)
    result = Sensitivity(tuple(costs), metric, network.samples, network.accuracy, budget_bytes)
    return result if budget_bytes is None else with_proposal(result, budget_bytes)


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


Unit: TypeAlias = list[tuple[Layer, Operation]]
"""Layers that are quantised together, with what stands for them: one, or all with one weight."""


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
        units: dict[str, Unit] = {}
        for layer in layers:
            if layer.node.name in origins:
                value, *_ = layer.tied
                units.setdefault(value, []).append((layer, origins[layer.node.name]))
        self.units = list(units.values())
        if not self.units:
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

    def cost(self, unit: Unit, text: str, recipe: LayerRecipe, method: Method) -> Cost:
        """Of one layer alone, or of all that share a weight."""
        fmt, sizes, changed = recipe.weights, dict[Tie, int](), dict[str, Array]()
        for layer, operation in unit:
            rows, sizes[layer.tied] = layer.rows, 4 * layer.rows.size
            if fmt is not None:
                coded = nearest(layer.rows, fmt, method)
                rows, sizes[layer.tied] = fmt.dequantize(coded), fmt.pack(coded).nbytes
            changed[operation.name] = rows[:, column_order(self.lowered, layer, operation)]
        outputs = self._outputs(changed)
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
        name, *tied = dict.fromkeys(layer.name for layer, _ in unit)
        return Cost(
            layer=name,
            recipe=text,
            bytes=sum(sizes.values()),
            mse=mse,
            kl=kl,
            accuracy_lost=lost,
            tied=tuple(tied),
        )

    def _outputs(self, rows: Mapping[str, Array]) -> list[Array]:
        """The network's outputs where operations have other weights, [R, K] by name.

        What they do not change is not computed again.
        """
        program = self.program
        changed: dict[str, Array] = {}
        for op in program.operations:
            own = None
            if op.name in rows:
                name = op.inputs[2] if len(op.inputs) > 2 else None
                own = Rows(rows[op.name], None if name is None else program.tensors[name].data)
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

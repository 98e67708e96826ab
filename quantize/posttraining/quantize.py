"""Post-training quantisation of an ONNX Model by a recipe. NumPy only."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
import onnx_ir

from edgekit.errors import InvalidDataError, UnsupportedError
from edgekit.formats import Coded, Format
from edgekit.model.domain import attach_functions
from edgekit.model.model import Model
from edgekit.model.nodes import Array, get_input, is_op, name_of
from edgekit.model.passes.remove_dead import remove_dead
from edgekit.model.passes.standard_weights import standard_weights
from edgekit.program.ir import Operation
from edgekit.program.lowering.lower import Lowered
from edgekit.quantize.insert import Writer, insert_quantization
from edgekit.quantize.posttraining.adaround import RoundingSettings
from edgekit.quantize.posttraining.coding import nearest, rounded
from edgekit.quantize.posttraining.equalize import equalize_layers
from edgekit.quantize.posttraining.layers import Layer, find_layers
from edgekit.quantize.posttraining.method import Method
from edgekit.quantize.posttraining.objective import Moments, Objective
from edgekit.quantize.posttraining.result import LayerResult, PostTraining
from edgekit.quantize.posttraining.simulate import (
    Fake,
    Meeting,
    Rows,
    fake_quantizer,
    fake_token_quantizer,
    is_layer,
    patches,
    program_rows,
    step_through,
    walk,
)
from edgekit.quantize.posttraining.write import LayerConstants, Writers, leave
from edgekit.quantize.recipe import Choice, Recipe
from edgekit.quantize.static import Observed, observe

log = logging.getLogger("edgekit")

Progress = Callable[[str, int, int], None]
"""Called with a layer's name, and steps done and in all for it."""

_FEW_SAMPLES = 16
"""Fewer calibration samples than this are warned of."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """What is done beside the recipe.

    Attributes:
        method: of the weights, see :class:`~edgekit.quantize.posttraining.method.Method`.
        observer: of the activations: ``minmax``, ``mse``, ``percentile``, ``percentile:NUMBER``.
        bias_correction: biases make up for the mean error of their layer's sums (Nagel et al.
            2019, arXiv 1906.04721), which is measured on the calibration data.
        equalize: ranges of the channels between two layers are balanced first (same source).
        rounding: settings of AdaRound.
        measure: report the error of layers even where the method does not need it.
        seed: of the choice of samples where `limit` is smaller than their number.
        limit: how many samples to use at most, None for all.
    """

    method: str | Method = "rtn"
    observer: str = "minmax"
    bias_correction: bool = False
    equalize: bool = False
    rounding: RoundingSettings | None = None
    measure: bool = False
    seed: int = 0
    limit: int | None = None


def quantize_model(
    model: Model,
    recipe: str | Mapping[object, object] | Recipe,
    calibration: Mapping[str, Array],
    *,
    method: str | Method = "rtn",
    observer: str = "minmax",
    bias_correction: bool = False,
    equalize: bool = False,
    seed: int = 0,
    limit: int | None = None,
    state: Mapping[str, str] | None = None,
    progress: Progress | None = None,
) -> Model:
    """Quantise a float Model by a recipe; see :func:`post_training`, which tells more.

    ``quantize_model(model, "w8a8", calibration)`` is
    :func:`~edgekit.quantize.static.quantize_static`.

    Returns:
        An optimised Model that any ONNX runtime executes and that lowers to integers.
    """
    options = Options(
        method=method,
        observer=observer,
        bias_correction=bias_correction,
        equalize=equalize,
        seed=seed,
        limit=limit,
    )
    found = post_training(model, recipe, calibration, options, state=state, progress=progress)
    return found.model


def post_training(
    model: Model,
    recipe: str | Mapping[object, object] | Recipe,
    calibration: Mapping[str, Array],
    options: Options | None = None,
    *,
    state: Mapping[str, str] | None = None,
    progress: Progress | None = None,
) -> PostTraining:
    """Quantise a float Model by a recipe, and say what was done to every layer.

    Activations are static int8 as :func:`~edgekit.quantize.static.quantize_static` makes them;
    those of ``-token`` recipes are quantised anew for every vector along the last axis where Gemm
    and MatMul read them (without the normalisation that training puts in front); convolutions,
    which have no tokens, read static int8. Weights of Conv, Gemm and MatMul follow the recipe;
    others (transposed convolutions, LSTM, GRU) are int8.

    Layers are taken in execution order. A method that looks at inputs sees, for every layer, what
    the layers before it give now that they are quantised, and aims at what the layer gives in the
    float network: later layers make up for earlier ones. A Model with state is stepped through in
    float instead.

    The result depends on model, recipe, data, options and seed alone, up to the last bits of
    BLAS's matrix products, which decide over weights that are as good rounded up as down. Methods
    without statistics (rtn, mse, percentile, equalisation) do not depend on BLAS.

    Args:
        model: a float Model; not changed.
        recipe: a :class:`~edgekit.quantize.recipe.Recipe` or what it parses. Layers are called as
            their weights are in the model, without ``.weight``: as in the torch module.
        calibration: training samples, see :func:`~edgekit.quantize.static.quantize_static`.
        options: None for the defaults.
        state: inputs and their next values, likewise.
        progress: told of every layer.

    Raises:
        InvalidDataError: calibration data that does not fit, is not finite, or is empty.
        UnsupportedError: the model cannot be lowered, or a recipe that needs training.
        UsageError: an unknown method, observer, or a rule of the recipe that no layer matches.
    """
    options = options or Options()
    method, recipe = Method.parse(options.method), Recipe.parse(recipe)
    source = model.ir.graph
    notes: list[str] = []
    if options.equalize:
        model, pairs = equalize_layers(model)
        notes.append(f"{len(pairs)} pairs of layers are equalised")
    decided: list[tuple[Layer, Choice]] = []

    def apart(graph: onnx_ir.Graph) -> list[onnx_ir.Node]:
        decided.extend(_decide(recipe, find_layers(graph, source)))
        return [layer.node for layer, choice in decided if _is_apart(layer, choice)]

    observed = observe(
        model,
        calibration,
        observer=options.observer,
        seed=options.seed,
        limit=options.limit,
        state=state,
        apart=apart,
    )
    if len(observed.samples) < _FEW_SAMPLES:
        notes.append(
            f"{len(observed.samples)} calibration samples may miss what the network meets; "
            "give a few hundred"
        )
        log.warning("%s", notes[-1])
    notes.extend(_unlisted(observed, [layer for layer, _ in decided]))
    work = _Work(observed, method, options, progress)
    results = work.run(decided)
    graph = observed.model.ir.graph
    insert_quantization(
        graph, observed.points, observed.quantizations, writers=work.writers(decided)
    )
    # Float weights that nobody reads any more would be stored too.
    for clean in (standard_weights, attach_functions, remove_dead):
        clean(observed.model.ir)
    for layer in results:
        for note in layer.notes:
            log.info("%s: %s", layer.name, note)
    result = replace(observed.model, notes=(*observed.model.notes, *notes))
    return PostTraining(result, results, tuple(notes))


def _decide(recipe: Recipe, layers: tuple[Layer, ...]) -> list[tuple[Layer, Choice]]:
    """What every layer gets.

    Raises:
        UnsupportedError: something that layers cannot get after training, each a line.
    """
    recipe.check_layers((layer.name, layer.kind) for layer in layers)
    decided, problems = [], []
    for layer in layers:
        choice = recipe.choose(layer.name, layer.kind, position=layer.position)
        activations = choice.recipe.activations
        if activations is not None and activations.bits == 1:
            problems.append(
                f"{layer.name}: {choice.recipe} needs training; use edgekit.quantize.prepare"
            )
        elif choice.recipe.method != "ste":
            problems.append(
                f"{layer.name}: {choice.recipe.method} of {choice.recipe} is a method of training; "
                "use edgekit.quantize.prepare, or leave it out"
            )
        if choice.kept_wider:
            log.info("%s: %s, %s", layer.name, choice.recipe, choice.reason)
        decided.append((layer, choice))
    if problems:
        raise UnsupportedError("\n  ".join(["not possible after training:", *problems]))
    return decided


def _is_apart(layer: Layer, choice: Choice) -> bool:
    """Whether a layer reads something else than static int8."""
    activations = choice.recipe.activations
    return activations is None or (activations.scaling == "token" and layer.is_linear)


def _unlisted(observed: Observed, layers: list[Layer]) -> list[str]:
    """Weights that the recipe does not reach."""
    known = {layer.node for layer in layers}
    kinds = ("Conv", "ConvTranspose", "LSTM", "GRU")
    others = [n for n in observed.model.ir.graph if is_op(n, *kinds) and n not in known]
    names = sorted({node.op_type for node in others})
    return [f"weights of {', '.join(names)} are int8, whatever the recipe says"] if names else []


@dataclass
class _Work:
    """Chooses the constants of all layers."""

    observed: Observed
    method: Method
    options: Options
    progress: Progress | None
    constants: dict[onnx_ir.Node, LayerConstants] = field(default_factory=dict)
    errors: dict[onnx_ir.Node, tuple[float, float]] = field(default_factory=dict)
    notes: dict[onnx_ir.Node, list[str]] = field(default_factory=dict)
    tied: dict[str, Coded] = field(default_factory=dict)

    def run(self, decided: list[tuple[Layer, Choice]]) -> tuple[LayerResult, ...]:
        """Choose, measure, report."""
        options, program = self.options, self.observed.lowered.program
        if self.method.needs_inputs or options.bias_correction or options.measure:
            meet = self._step if program.state else self._walk
            meet({layer.node.name or "": (layer, choice) for layer, choice in decided})
        for layer, choice in decided:
            # Those that no operation stands for, and all where nothing is measured.
            if layer.node not in self.constants and not choice.recipe.is_float:
                self._choose(layer, choice, None)
        return tuple(self._result(layer, choice) for layer, choice in decided)

    def _fakes(self) -> dict[str, Fake]:
        observed = self.observed
        return {
            observed.lowered.values[name].tensor: fake_quantizer(quantization)
            for name, quantization in observed.quantizations.items()
        }

    def _walk(self, layers: Mapping[str, tuple[Layer, Choice]]) -> None:
        observed = self.observed
        lowered, program = observed.lowered, observed.lowered.program

        def choose(meeting: Meeting) -> Rows | None:
            found = layers.get(lowered.origins[meeting.operation.name])
            if found is None or found[1].recipe.is_float:
                return None
            layer, choice = found
            order = column_order(lowered, layer, meeting.operation)
            cut = partial(patches, meeting.operation, program)
            seen = meeting.quantised
            if _is_apart(layer, choice):
                seen = fake_token_quantizer()(seen)
            moments = Moments()
            step = max(1, meeting.real.shape[0] // 16)
            for start in range(0, meeting.real.shape[0], step):
                part = slice(start, start + step)
                real = cut(meeting.real[part])
                moments.update(real, real if seen is meeting.real else cut(seen[part]))
            constants = self._choose(layer, choice, moments.objective(layer.rows[:, order]), order)
            real_rows = constants.fmt.dequantize(constants.coded)
            return Rows(real_rows[:, order], constants.bias)

        walk(program, observed.samples, self._fakes(), choose)

    def _step(self, layers: Mapping[str, tuple[Layer, Choice]]) -> None:
        observed = self.observed
        lowered, program = observed.lowered, observed.lowered.program
        operations = {
            lowered.origins[op.name]: op
            for op in program.operations
            if is_layer(op, program) and lowered.origins[op.name] in layers
        }
        moments = step_through(program, observed.samples, self._fakes(), operations)
        for name, operation in operations.items():
            layer, choice = layers[name]
            if choice.recipe.is_float:
                continue
            order = column_order(lowered, layer, operation)
            objective = moments[name].objective(layer.rows[:, order])
            self._choose(layer, choice, objective, order)

    def _choose(
        self,
        layer: Layer,
        choice: Choice,
        objective: Objective | None,
        order: Array | None = None,
    ) -> LayerConstants:
        """Constants of one layer; `objective` has columns in this order of the layer's."""
        fmt = choice.recipe.weights
        assert fmt is not None
        apart = _is_apart(layer, choice)
        x = self.observed.quantizations.get(name_of(get_input(layer.node, 0)))
        x_scale = None if apart or x is None else x.scalar_scale
        try:
            coded = self._coded(layer, fmt, objective, order, x_scale)
        except InvalidDataError as error:
            raise InvalidDataError(f"{layer.name}: {error}") from error
        bias = layer.bias
        if self.options.bias_correction and objective is not None and order is not None:
            bias = self._corrected(layer, fmt.dequantize(coded)[:, order], objective)
        self.constants[layer.node] = LayerConstants(layer, fmt, coded, bias, apart)
        return self.constants[layer.node]

    def _coded(
        self,
        layer: Layer,
        fmt: Format,
        objective: Objective | None,
        order: Array | None,
        x_scale: float | None,
    ) -> Coded:
        shared = self.tied.get(layer.tied)
        if shared is not None:
            self.notes.setdefault(layer.node, []).append("shares the weights of another layer")
            return shared
        first = nearest(layer.rows, fmt, self.method, bias=layer.bias, x_scale=x_scale)
        coded = first
        if objective is not None and order is not None:
            told = None
            if self.progress is not None:
                told = partial(self.progress, layer.name)
            coded = rounded(
                first,
                layer.rows,
                fmt,
                self.method,
                objective.reordered(np.argsort(order)),
                settings=self.options.rounding,
                progress=told,
            )
            total = float(objective.constant.sum())
            errors = [
                float(objective.error(fmt.dequantize(c)[:, order]).sum()) for c in (first, coded)
            ]
            if total > 0:
                self.errors[layer.node] = errors[0] / total, errors[1] / total
        self.tied[layer.tied] = coded
        return coded

    def _corrected(self, layer: Layer, rows: Array, objective: Objective) -> Array | None:
        if layer.bias is None and is_op(layer.node, "MatMul"):
            self.notes.setdefault(layer.node, []).append("has no bias that could be corrected")
            return None
        bias = np.zeros(rows.shape[0]) if layer.bias is None else layer.bias.astype(np.float64)
        return np.asarray(bias + objective.bias_shift(rows), np.float32)

    def writers(self, decided: list[tuple[Layer, Choice]]) -> dict[onnx_ir.Node, Writer]:
        """Writers of the nodes that static quantisation would write otherwise."""
        made = Writers()
        writers: dict[onnx_ir.Node, Writer] = {}
        for layer, choice in decided:
            if choice.recipe.is_float:
                writers[layer.node] = leave
            elif not self._as_static(choice):
                writers[layer.node] = made.of(self.constants[layer.node])
        return writers

    def _as_static(self, choice: Choice) -> bool:
        """Whether static quantisation does the same."""
        plain = str(choice.recipe) == "w8a8" and str(self.method) == "rtn"
        return plain and not self.options.bias_correction

    def _result(self, layer: Layer, choice: Choice) -> LayerResult:
        rows, columns = layer.rows.shape
        size = float_bytes = 4 * rows * columns
        bits = 32.0
        if not choice.recipe.is_float:
            constants = self.constants[layer.node]
            size = constants.fmt.pack(constants.coded).nbytes
            bits = 8 * size / (rows * columns)
        errors = self.errors.get(layer.node, (None, None))
        return LayerResult(
            name=layer.name,
            kind=layer.kind,
            recipe=str(choice.recipe),
            reason=choice.reason,
            weights=rows * columns,
            float_bytes=float_bytes,
            bytes=size,
            effective_bits=bits,
            error_rounded=errors[0],
            error=errors[1],
            notes=(*_remarks(layer, choice), *self.notes.get(layer.node, ())),
        )


def _remarks(layer: Layer, choice: Choice) -> Iterator[str]:
    """What a recipe alone does not say."""
    activations, fmt = choice.recipe.activations, choice.recipe.weights
    if activations is not None and activations.scaling == "token" and not layer.is_linear:
        yield "reads int8 with a constant scale: only products scale per token"
    columns = layer.rows.shape[1]
    if fmt is not None and fmt.group and columns % fmt.group:
        whole = columns < fmt.group
        rest = "one group holds each" if whole else f"their last groups hold {columns % fmt.group}"
        yield f"has rows of {columns}: {rest}"
    dead = int((~layer.rows.any(axis=1)).sum())
    if dead:
        yield f"{dead} of its {layer.rows.shape[0]} output channels are all zero"


def column_order(lowered: Lowered, layer: Layer, operation: Operation) -> Array:
    """Where the columns of an operation's rows are in the layer's rows.

    The Program permutes the columns of a product to how its input lies.
    """
    columns = layer.rows.shape[1]
    own = np.arange(columns)
    rows = program_rows(operation, lowered.program)
    value = lowered.values.get(name_of(get_input(layer.node, 0)))
    if layer.is_linear and value is not None:
        last = len(value.shape) - 1
        if value.arrangement.together([last]):
            own = np.asarray(value.arrangement.gather([last]))
    assert np.array_equal(rows, layer.rows[:, own]), f"the weights of {layer.name} lie otherwise"
    return own

"""Choose the constants of all layers: coded weights and biases, in execution order."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import onnx_ir

from edgekit.errors import InvalidDataError
from edgekit.formats import Coded, Format
from edgekit.model.nodes import Array, get_input, is_op, name_of
from edgekit.program.ir import Operation
from edgekit.program.lowering.lower import Lowered
from edgekit.quantize.insert import Writer
from edgekit.quantize.posttraining.coding import nearest, rounded
from edgekit.quantize.posttraining.layers import Layer, Tie
from edgekit.quantize.posttraining.method import Method
from edgekit.quantize.posttraining.objective import MAX_COLUMNS, Moments, Objective
from edgekit.quantize.posttraining.options import Options, Progress
from edgekit.quantize.posttraining.result import LayerResult
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
from edgekit.quantize.posttraining.ties import Decided, called, owners_of, read_otherwise
from edgekit.quantize.posttraining.write import LayerConstants, Writers, leave
from edgekit.quantize.recipe import Choice
from edgekit.quantize.static import Observed


def is_apart(layer: Layer, choice: Choice) -> bool:
    """Whether a layer reads something else than static int8."""
    activations = choice.recipe.activations
    return activations is None or (activations.scaling == "token" and layer.is_linear)


@dataclass(frozen=True, eq=False)
class Tied:
    """Weights of the first layer that has them.

    Attributes:
        name: of that layer.
        first: each rounded to nearest.
        coded: as the method rounds them.
    """

    name: str
    first: Coded
    coded: Coded


@dataclass
class Work:
    """Chooses the constants of all layers."""

    observed: Observed
    method: Method
    options: Options
    progress: Progress | None
    constants: dict[onnx_ir.Node, LayerConstants] = field(default_factory=dict)
    errors: dict[onnx_ir.Node, tuple[float, float]] = field(default_factory=dict)
    notes: dict[onnx_ir.Node, list[str]] = field(default_factory=dict)
    apart: set[onnx_ir.Node] = field(default_factory=set)
    tied: dict[Tie, Tied] = field(default_factory=dict)
    owners: dict[Tie, tuple[Layer, ...]] = field(default_factory=dict)

    def run(self, decided: list[Decided]) -> tuple[LayerResult, ...]:
        """Choose, measure, report."""
        options, program = self.options, self.observed.lowered.program
        layers = [layer for layer, _ in decided]
        self.owners = owners_of(layers)
        self.apart = {layer.node for layer, choice in decided if is_apart(layer, choice)}
        for layer in layers:
            self._say_ties(layer, layers)
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
            objective = None
            if not self._is_unseen(layer):
                seen = meeting.quantised
                if layer.node in self.apart:
                    seen = fake_token_quantizer()(seen)
                cut = partial(patches, meeting.operation, program)
                moments = _moments(layer, cut, meeting.real, seen)
                objective = moments.objective(layer.rows[:, order])
            constants = self._choose(layer, choice, objective, order)
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
        operations = {
            name: op for name, op in operations.items() if not self._is_unseen(layers[name][0])
        }
        moments = step_through(program, observed.samples, self._fakes(), operations)
        for name, operation in operations.items():
            layer, choice = layers[name]
            if choice.recipe.is_float:
                continue
            order = column_order(lowered, layer, operation)
            objective = moments[name].objective(layer.rows[:, order])
            self._choose(layer, choice, objective, order)

    def _is_unseen(self, layer: Layer) -> bool:
        """Whether rows are too long for statistics that the method can do without."""
        columns = layer.rows.shape[1]
        if columns <= MAX_COLUMNS or self.method.needs_inputs:
            return False
        note = f"has rows of {columns}: no error is measured, no bias corrected"
        self.notes.setdefault(layer.node, []).append(note)
        return True

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
        try:
            coded = self._coded(layer, fmt, objective, order)
        except InvalidDataError as error:
            raise InvalidDataError(f"{layer.name}: {error}") from error
        bias = layer.bias
        if self.options.bias_correction and objective is not None and order is not None:
            bias = self._corrected(layer, fmt.dequantize(coded)[:, order], objective)
        self.constants[layer.node] = LayerConstants(
            layer, fmt, coded, bias, layer.node in self.apart
        )
        return self.constants[layer.node]

    def _coded(
        self, layer: Layer, fmt: Format, objective: Objective | None, order: Array | None
    ) -> Coded:
        known = self.tied.get(layer.tied)
        if known is None:
            bias, x_scale = self._offset(layer)
            first = nearest(layer.rows, fmt, self.method, bias=bias, x_scale=x_scale)
            coded = first
            if objective is not None and order is not None:
                told = None if self.progress is None else partial(self.progress, layer.name)
                coded = rounded(
                    first,
                    layer.rows,
                    fmt,
                    self.method,
                    objective.reordered(np.argsort(order)),
                    settings=self.options.rounding,
                    progress=told,
                )
            known = self.tied[layer.tied] = Tied(layer.name, first, coded)
        if objective is not None and order is not None:
            self._measure(layer, fmt, known, objective, order)
        return known.coded

    def _measure(
        self, layer: Layer, fmt: Format, known: Tied, objective: Objective, order: Array
    ) -> None:
        total = float(objective.constant.sum())
        errors = [
            float(objective.error(fmt.dequantize(coded)[:, order]).sum())
            for coded in (known.first, known.coded)
        ]
        if total > 0:
            self.errors[layer.node] = errors[0] / total, errors[1] / total

    def _offset(self, layer: Layer) -> tuple[Array | None, float | None]:
        """A bias and the scale of an input for which weights need room; None for no need.

        Of tied layers, in every row what needs the most: over an input of scale 1.
        """
        found = []
        for owner in self.owners[layer.tied]:
            name = name_of(get_input(owner.node, 0))
            x = None if owner.node in self.apart else self.observed.quantizations.get(name)
            if owner.bias is not None and x is not None:
                found.append((owner.bias, x.scalar_scale))
        if not found:
            return None, None
        if len(found) == 1:
            return found[0]
        offsets = [np.abs(bias.astype(np.float64)) / x_scale for bias, x_scale in found]
        return np.max(offsets, axis=0), 1.0

    def _say_ties(self, layer: Layer, layers: list[Layer]) -> None:
        notes = self.notes.setdefault(layer.node, [])
        holder = self.owners[layer.tied][0]
        other = read_otherwise(layer, layers)
        if holder is not layer:
            notes.append(f"shares the weights of {called(holder, layer)}")
        elif other is not None:
            notes.append(
                f"reads the weights of {called(other, layer)} transposed or scaled: "
                "they are coded and stored anew"
            )

    def _corrected(self, layer: Layer, rows: Array, objective: Objective) -> Array | None:
        if layer.bias is None and is_op(layer.node, "MatMul"):
            self.notes.setdefault(layer.node, []).append("has no bias that could be corrected")
            return None
        bias = np.zeros(rows.shape[0]) if layer.bias is None else layer.bias.astype(np.float64)
        return np.asarray(bias + objective.bias_shift(rows), np.float32)

    def writers(self, decided: list[Decided]) -> dict[onnx_ir.Node, Writer]:
        """Writers of the nodes that static quantisation would write otherwise."""
        made = Writers()
        writers: dict[onnx_ir.Node, Writer] = {}
        for layer, choice in decided:
            if choice.recipe.is_float:
                writers[layer.node] = leave
            elif not self._as_static(layer, choice):
                writers[layer.node] = made.of(self.constants[layer.node])
        return writers

    def _as_static(self, layer: Layer, choice: Choice) -> bool:
        """Whether static quantisation does the same; it knows no ties."""
        plain = str(choice.recipe) == "w8a8" and str(self.method) == "rtn"
        alone = len(self.owners[layer.tied]) == 1
        return plain and alone and not self.options.bias_correction

    def _result(self, layer: Layer, choice: Choice) -> LayerResult:
        rows, columns = layer.rows.shape
        size = float_bytes = 4 * rows * columns
        bits = 32.0
        if not choice.recipe.is_float:
            constants = self.constants[layer.node]
            size = constants.fmt.pack(constants.coded).nbytes
            bits = 8 * size / (rows * columns)
        errors = self.errors.get(layer.node, (None, None))
        holder = self.owners[layer.tied][0]
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
            tied_to=None if holder is layer else holder.name,
            notes=(*_remarks(layer, choice), *self.notes.get(layer.node, ())),
        )


def _moments(layer: Layer, cut: Callable[[Array], Array], real: Array, seen: Array) -> Moments:
    """Of what a layer reads over all samples, part by part.

    Raises:
        InvalidDataError: its rows are too long.
    """
    moments = Moments()
    step = max(1, real.shape[0] // 16)
    for start in range(0, real.shape[0], step):
        part = slice(start, start + step)
        own = cut(real[part])
        try:
            moments.update(own, own if seen is real else cut(seen[part]))
        except InvalidDataError as error:
            raise InvalidDataError(f"{layer.name}: {error}") from error
    return moments


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

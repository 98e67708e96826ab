"""Static post-training quantisation of an ONNX Model to int8.

Ranges come from running the float32 Program, whose results are the same on every machine, over
calibration samples. The result is the same Model with QuantizeLinear and DequantizeLinear nodes:
any ONNX runtime executes it, and :func:`edgekit.program.lowering.lower` makes integers of it.

Sources: "TensorFlow Lite 8-bit quantization specification"; Jacob et al. 2018, arXiv 1712.05877.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import onnx_ir

from edgekit.errors import InvalidDataError
from edgekit.model.model import Model
from edgekit.model.nodes import const, is_op, name_of
from edgekit.model.passes import optimize
from edgekit.program.interpret import Interpreter
from edgekit.program.ir import Array, Program, Quantization
from edgekit.program.lowering import LOWERINGS, lower_optimized
from edgekit.program.lowering.carried import declared_state
from edgekit.program.lowering.lower import Lowered
from edgekit.quantize.calibration import (
    CalibrationRecord,
    calibration_record,
    samples_of,
)
from edgekit.quantize.insert import insert_quantization
from edgekit.quantize.observers import Observer, Range, make_observer
from edgekit.quantize.operands import find_operands
from edgekit.quantize.points import Points, find_points
from edgekit.quantize.recurrent import RECURRENT, Watch, mark_cell
from edgekit.quantize.scheme import TFLITE, Scheme

__all__ = ["CalibrationRecord", "Observed", "calibration_record", "observe", "quantize_static"]


def quantize_static(
    model: Model,
    calibration: Mapping[str, Array],
    *,
    observer: str = "minmax",
    seed: int = 0,
    limit: int | None = None,
    scheme: Scheme = TFLITE,
    state: Mapping[str, str] | None = None,
) -> Model:
    """Quantise a float Model to int8.

    Weights are symmetric per output channel; activations and biases are what the scheme says: by
    default asymmetric per tensor with 0 exact, and int32 with the product of both scales.

    Args:
        model: a float Model; not changed.
        calibration: array by input name, in the source model's layout; the first axis counts
            samples, the rest is the input's shape (a batch axis of 1 may be left out). Where the
            model has state, a further axis behind the first may count the steps of a sequence.
        observer: ``minmax``, ``mse``, ``percentile`` or ``percentile:NUMBER``.
        seed: of the choice of samples where `limit` is smaller than their number.
        limit: how many samples to use at most, None for all.
        scheme: what the runtime demands.
        state: name of an input to name of the output that becomes its next value, see
            :func:`edgekit.program.lowering.lower`. State starts from 0 with every sample.

    Returns:
        An optimised Model with QuantizeLinear and DequantizeLinear nodes.

    Raises:
        InvalidDataError: the calibration data does not fit the model, is not finite, or is empty.
        UnsupportedError: the model cannot be lowered.
        UsageError: an unknown observer, or state that the model has not.
    """
    observed = observe(
        model, calibration, observer=observer, seed=seed, limit=limit, scheme=scheme, state=state
    )
    graph = observed.model.ir.graph
    insert_quantization(graph, observed.points, observed.quantizations, scheme)
    return observed.model


@dataclass(frozen=True, eq=False)
class Observed:
    """A float Model after a look at its activations.

    Attributes:
        model: optimised, of its own, to be quantised in place.
        lowered: its float Program.
        points: where activations are quantised.
        quantizations: of these activations, by name.
        samples: what the Program was run with.
    """

    model: Model
    lowered: Lowered
    points: Points
    quantizations: Mapping[str, Quantization]
    samples: Sequence[Sequence[Mapping[str, Array]]]


def observe(
    model: Model,
    calibration: Mapping[str, Array],
    *,
    observer: str = "minmax",
    seed: int = 0,
    limit: int | None = None,
    scheme: Scheme = TFLITE,
    state: Mapping[str, str] | None = None,
    apart: Callable[[onnx_ir.Graph], Collection[onnx_ir.Node]] | None = None,
) -> Observed:
    """Choose the quantisation of every activation; arguments as for :func:`quantize_static`.

    Args:
        model: a float Model; not changed.
        calibration: samples.
        observer: name of the observer.
        seed: of the choice of samples.
        limit: how many samples to use at most.
        scheme: what the runtime demands.
        state: inputs and their next values.
        apart: nodes of the optimised graph that do not read static int8; with the scheme's
            ``results`` only.
    """
    create = make_observer(observer, scheme.quantization)
    observed = optimize(model, keep=LOWERINGS)
    lowered = lower_optimized(observed, state=state)
    written_out = bool(model.ir.functions) and not scheme.functions
    model = optimize(model) if written_out else observed
    samples = list(samples_of(lowered.program, calibration, seed=seed, limit=limit))
    declared = declared_state(model.ir.graph, state)
    nodes = () if apart is None else apart(model.ir.graph)
    find_results = partial(find_points, declared=declared, apart=nodes)
    find = find_results if scheme.at == "results" else partial(find_operands, scheme=scheme)
    points = find(model.ir.graph)
    if written_out:
        # Nothing is known of the values inside a function.
        points.drop(v for v in tuple(points.values) if name_of(v) not in lowered.values)
    tensors = {name_of(v): lowered.values[name_of(v)].tensor for v in points.values}
    observers = {tensor: create() for tensor in tensors.values()}
    watch = Watch(lowered.program, lowered.origins, create)
    _observe(watch.program, samples, observers)
    ranges = {name: observers[tensor].range() for name, tensor in tensors.items()}
    for node in model.ir.graph:
        if is_op(node, *RECURRENT) and scheme.integer_bias:
            _inside(node, watch, ranges)
    return Observed(model, lowered, points, _quantizations(points, ranges, scheme), samples)


def _observe(
    program: Program,
    samples: Iterable[Sequence[Mapping[str, Array]]],
    observers: Mapping[str, Observer],
) -> None:
    """Step through every sample from reset and show the observed tensors to their observers."""
    interpreter = Interpreter(program)
    for number, sample in enumerate(samples):

        def see(tensor: str, value: Array, number: int = number) -> None:
            if tensor not in observers:
                return
            if not np.isfinite(value).all():
                raise InvalidDataError(
                    f"calibration sample {number} makes {tensor!r} infinite or NaN"
                )
            observers[tensor].update(value)

        with np.errstate(over="ignore", invalid="ignore"):
            interpreter.reset()
            for inputs in sample:
                interpreter.step(inputs, see)


def _inside(node: onnx_ir.Node, watch: Watch, ranges: dict[str, Range]) -> None:
    """Take what a recurrent layer keeps to itself into account."""
    sequence, last = (*(o.name for o in node.outputs[:2]), None)[:2]
    if last in ranges and sequence not in ranges:
        # Only the last step is read, but all of them have its quantisation.
        assert last is not None
        ranges[last] = watch.results(node)
    if is_op(node, "LSTM"):
        mark_cell(node, watch.cell_exponent(node))


def _quantizations(
    points: Points, ranges: Mapping[str, Range], scheme: Scheme
) -> dict[str, Quantization]:
    """Quantisation by value name; the values of a group share the union of their ranges."""
    found = {}
    for members in points.groups().values():
        quantization = points.prescribed(members[0])
        if quantization is None:
            spans = [ranges[name_of(v)] for v in members]
            spans += [_extremes(a) for v in members for a in _joined_constants(v, points)]
            quantization = scheme.quantization(
                min(low for low, _ in spans), max(high for _, high in spans)
            )
        found.update({name_of(v): quantization for v in members})
    return found


def _joined_constants(value: onnx_ir.Value, points: Points) -> list[Array]:
    """Constants that a Concat puts into a value, or beside one that it reads quantised."""
    nodes = [value.producer(), *(node for node, _ in points.readers.get(value, ()))]
    joining = [node for node in nodes if node is not None and is_op(node, "Concat")]
    arrays = (const(v) for node in joining for v in node.inputs)
    return [a for a in arrays if a is not None]


def _extremes(array: Array) -> Range:
    return float(array.min()), float(array.max())

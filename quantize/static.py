"""Static post-training quantisation of an ONNX Model to int8.

Ranges come from running the float32 Program, whose results are the same on every machine, over
calibration samples. The result is the same Model with QuantizeLinear and DequantizeLinear nodes:
any ONNX runtime executes it, and :func:`edgekit.program.lowering.lower` makes integers of it.

Sources: "TensorFlow Lite 8-bit quantization specification"; Jacob et al. 2018, arXiv 1712.05877.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import onnx_ir

from edgekit.errors import InvalidDataError
from edgekit.model.model import Model
from edgekit.model.nodes import const, is_op, name_of
from edgekit.model.passes import optimize
from edgekit.program.interpret import Interpreter
from edgekit.program.ir import Array, Program, Quantization
from edgekit.program.lowering import LOWERINGS, lower_optimized
from edgekit.quantize.calibration import (
    CalibrationRecord,
    calibration_record,
    samples_of,
)
from edgekit.quantize.insert import insert_quantization
from edgekit.quantize.observers import Observer, Range, affine_quantization, make_observer
from edgekit.quantize.points import Points, find_points

__all__ = ["CalibrationRecord", "calibration_record", "quantize_static"]


def quantize_static(
    model: Model,
    calibration: Mapping[str, Array],
    *,
    observer: str = "minmax",
    seed: int = 0,
    limit: int | None = None,
) -> Model:
    """Quantise a float Model to int8.

    Weights are symmetric per output channel, activations asymmetric per tensor with 0 exact,
    biases int32 with the product of both scales.

    Args:
        model: a float Model; not changed.
        calibration: array by input name, in the source model's layout; the first axis counts
            samples, the rest is the input's shape (a batch axis of 1 may be left out).
        observer: ``minmax``, ``mse``, ``percentile`` or ``percentile:NUMBER``.
        seed: of the choice of samples where `limit` is smaller than their number.
        limit: how many samples to use at most, None for all.

    Returns:
        An optimised Model with QuantizeLinear and DequantizeLinear nodes.

    Raises:
        InvalidDataError: the calibration data does not fit the model, is not finite, or is empty.
        UnsupportedError: the model cannot be lowered.
        UsageError: an unknown observer.
    """
    create = make_observer(observer)
    model = optimize(model, keep=LOWERINGS)
    lowered = lower_optimized(model)
    samples = samples_of(lowered.program, calibration, seed=seed, limit=limit)
    points = find_points(model.ir.graph)
    tensors = {name_of(v): lowered.values[name_of(v)].tensor for v in points.values}
    observers = {tensor: create() for tensor in tensors.values()}
    _observe(lowered.program, samples, observers)
    ranges = {name: observers[tensor].range() for name, tensor in tensors.items()}
    insert_quantization(model.ir.graph, points, _quantizations(points, ranges))
    return model


def _observe(
    program: Program, samples: Iterable[Mapping[str, Array]], observers: Mapping[str, Observer]
) -> None:
    """Run every sample and show the observed tensors to their observers."""
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
            interpreter.run(sample, see)


def _quantizations(points: Points, ranges: Mapping[str, Range]) -> dict[str, Quantization]:
    """Quantisation by value name; the values of a group share the union of their ranges."""
    found = {}
    for members in points.groups().values():
        quantization = points.prescribed(members[0])
        if quantization is None:
            spans = [ranges[name_of(v)] for v in members]
            spans += [_extremes(a) for v in members for a in _joined_constants(v)]
            quantization = affine_quantization(
                min(low for low, _ in spans), max(high for _, high in spans)
            )
        found.update({name_of(v): quantization for v in members})
    return found


def _joined_constants(value: onnx_ir.Value) -> list[Array]:
    """Constants that a Concat puts into a value."""
    producer = value.producer()
    if producer is None or not is_op(producer, "Concat"):
        return []
    arrays = (const(v) for v in producer.inputs)
    return [a for a in arrays if a is not None]


def _extremes(array: Array) -> Range:
    return float(array.min()), float(array.max())

"""Populations: their current, their constants in a format, their operation and their state."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import onnx_ir

from edgekit.errors import UnsupportedError
from edgekit.model.domain import DOMAIN, NEURONS, RESETS
from edgekit.model.geometry import check
from edgekit.model.nodes import (
    Array,
    const,
    get_input,
    get_int,
    label,
    name_of,
    shape_of,
)
from edgekit.program.ir import Quantization, Tensor
from edgekit.program.lowering.arrangement import Arrangement
from edgekit.program.lowering.lowerer import Lowerer
from edgekit.program.lowering.spiking_bounds import Interval, decay_codes
from edgekit.program.lowering.spiking_format import Held, Population, choose
from edgekit.program.lowering.spiking_membranes import rescale
from edgekit.program.lowering.spiking_parts import Current, Float64, in_order, shortest
from edgekit.program.lowering.spiking_terms import Accumulation
from edgekit.program.lowering.table import lowering
from edgekit.program.lowering.value import Value
from edgekit.program.operators.base import Operator
from edgekit.program.operators.spiking_neurons import Leaky, Reset, Synaptic

_STATES = {"Leaky": ((1, 1),), "Synaptic": ((2, 2), (1, 1))}
"""Inputs that hold a state, with the outputs that give its next value: the membrane first."""

_DECAYS = {"Leaky": (2,), "Synaptic": (3, 4)}
"""Inputs that hold decays, in the order of the Program's operators; the threshold follows."""

_SUFFIXES = ("membrane", "synaptic")


@lowering(*NEURONS, domain=DOMAIN)
def neurons(low: Lowerer, node: onnx_ir.Node) -> None:
    """One population: its current, its neurons and their state."""
    numbering = low.sets.populations[node]
    if numbering is None:
        raise UnsupportedError(
            f"{label(node)}: its current is {list(shape_of(get_input(node, 0)) or ())}, must have "
            "a batch of 1 in front and no empty axis"
        )
    found = low.sums[node]
    if low.is_quantised and not found.is_integer:
        low.stay_real(node, "the weights of its current, or of the membranes in it, are float32")
    summed = Accumulation(low, node, numbering, found.is_integer)
    current = summed.add(found)
    kind = _Kind.of(node, summed.order)
    bias = found.bias()
    row = np.zeros(summed.order.size) if bias is None else bias[summed.order]
    if found.is_integer:
        _integer_neurons(low, node, numbering, current, kind, row)
    else:
        constants = [*kind.decays, kind.threshold, None if bias is None else row]
        operator = _operator(node, kind, 0, None)
        _emit_neurons(low, node, numbering, current, operator, constants, None)


@dataclass(frozen=True, eq=False)
class _Kind:
    """Constants of a population, one number per neuron in their order.

    Attributes:
        reset: what a spike does.
        decays: of the synaptic current, where there is one, and of the membrane.
        threshold: None for neurons that do not spike.
    """

    reset: Reset
    decays: tuple[Array, ...]
    threshold: Array | None

    @classmethod
    def of(cls, node: onnx_ir.Node, order: Array) -> _Kind:
        """Read and check them.

        Raises:
            UnsupportedError: they are computed.
            InvalidModelError: decays outside 0…1, an unknown reset, thresholds that are infinite
                for some neurons only, or with a reset.
        """
        number = get_int(node, "reset", 0)
        check(0 <= number < len(RESETS), node, f"reset is {number}, must be 0, 1 or 2")
        shape = shape_of(get_input(node, 0))
        assert shape is not None
        *decays, threshold = (
            _constant(node, index, shape)[order]
            for index in (*_DECAYS[node.op_type], _DECAYS[node.op_type][-1] + 1)
        )
        for decay in decays:
            outside = decay[~((decay >= 0) & (decay <= 1))]
            check(not outside.size, node, f"a decay is {outside[:1]}, must be in [0, 1]")
        never = np.isposinf(threshold)
        check(
            bool(np.isfinite(threshold).all() or (never.all() and RESETS[number] == "none")),
            node,
            "thresholds must be finite; for neurons that never spike infinite, all of them, with "
            "reset 2 (none)",
        )
        return cls(RESETS[number], tuple(decays), None if never.all() else threshold)


def _constant(node: onnx_ir.Node, index: int, shape: tuple[int, ...]) -> Array:
    """A constant input, one number per neuron, flattened."""
    stored = const(get_input(node, index))
    if stored is None or stored.dtype != np.float32:
        raise UnsupportedError(f"{label(node)}: decays and thresholds must be constants of float32")
    return np.broadcast_to(stored, shape).reshape(-1)


def _operator(node: onnx_ir.Node, kind: _Kind, fraction: int, limit: int | None) -> Operator:
    operator = Synaptic if node.op_type == "Synaptic" else Leaky
    return operator(reset=kind.reset, fraction=fraction, limit=limit)


def _integer_neurons(
    low: Lowerer,
    node: onnx_ir.Node,
    numbering: Arrangement,
    current: Current,
    kind: _Kind,
    bias: Array,
) -> None:
    """Choose the format and emit the population in it."""
    count, order = bias.size, numbering.gather(range(len(numbering.shape)))
    threshold = np.full(count, np.inf) if kind.threshold is None else kind.threshold
    unit = _any_unit(current.unit, bias, threshold)
    decays = [decay_codes(decay) for decay in kind.decays]
    # Channels have one format at all places, so that what differs is looked at once.
    reals = np.stack([unit, bias, threshold], axis=1).astype(np.float64)
    whole = np.stack([current.low, current.high, *decays], axis=1)
    distinct, inverse = np.unique(
        np.concatenate([reals.view(np.int64), whole], axis=1), axis=0, return_inverse=True
    )
    unit, own_bias, own_threshold = distinct[:, :3].copy().view(np.float64).T
    low_end, high_end, *codes = distinct[:, 3:].T
    fixed = choose(
        Population(
            node.name or node.op_type,
            unit,
            low_end,
            high_end,
            own_bias,
            own_threshold,
            codes[-1],
            codes[0] if len(codes) > 1 else None,
            kind.reset,
        ),
        rounds=current.rounds,
    )
    places = inverse.reshape(-1)
    step, low_end, high_end = np.empty(count), np.empty(count, np.int64), np.empty(count, np.int64)
    step[order] = fixed.format.step[places]
    low_end[order], high_end[order] = fixed.held.low[places], fixed.held.high[places]
    unbounded = int(np.count_nonzero(fixed.unbounded[places]))
    form = replace(fixed.format, step=step, reads=current.reads, unbounded=unbounded)
    low.membranes[form.population] = form
    low.held[node.outputs[_STATES[node.op_type][0][1]]] = Held(
        form.population, step, Interval(low_end, high_end), form.limit is not None
    )
    if form.shift:
        one = np.ones(count, np.int64)
        name = low.tensors[current.tensor].name
        rounded = rescale(low, node, current.tensor, one, form.shift, None, name)
        current = replace(current, tensor=rounded)
    if form.limit is not None:
        low.notes[f"{label(node)}: {form.proof}"] = None
    constants: list[Array | None] = [code.astype(np.int32) for code in decays]
    constants.append(None if kind.threshold is None else fixed.threshold[places])
    constants.append(fixed.bias[places] if fixed.bias.any() else None)
    meaning = Quantization.per_tensor(step[0]) if (step == step[0]).all() else None
    operator = _operator(node, kind, fixed.format.fraction, fixed.format.limit)
    _emit_neurons(low, node, numbering, current, operator, constants, meaning)


def _any_unit(unit: Float64, bias: Array, threshold: Array) -> Float64:
    """Units of currents; those of neurons that only read zeros, NaN, may be any and suit the rest.

    Bias and threshold then are numbers of seven bits with as many behind the point as fit.
    """
    reach = np.maximum(np.abs(bias), np.where(np.isfinite(threshold), np.abs(threshold), 0.0))
    return np.where(np.isnan(unit), np.where(reach > 0, reach / 127, 1.0), unit)


def _emit_neurons(
    low: Lowerer,
    node: onnx_ir.Node,
    numbering: Arrangement,
    current: Current,
    operator: Operator,
    constants: list[Array | None],
    meaning: Quantization | None,
) -> None:
    """Emit the operation; define spikes and states.

    Args:
        low: the lowering.
        node: the population.
        numbering: order of its neurons.
        current: what it reads.
        operator: the Program's.
        constants: decays, threshold and bias, one number per neuron; None where absent.
        meaning: of the states' integers, where it is one for all neurons.
    """
    x = low.tensors[low.view(node, current.tensor, numbering.stored)]
    states = _STATES[node.op_type]
    reads = [_state(low, node, numbering, index, x, meaning) for index, _ in states]
    labels = ("alpha", "beta", "threshold", "bias")[-len(constants) :]
    stored = [
        None if row is None else low.constant(row, f"{node.name}.{name}")
        for name, row in zip(labels, shortest(constants, x.shape[-1]), strict=True)
    ]
    kinds = ("spikes", *_SUFFIXES[: len(states)])
    names = [f"{node.name}.{kind}.next" for kind in kinds]
    spikes, *updates = low.emit_all(node, operator, x.name, *reads, *stored, names=names)
    low.spikes[node.outputs[0]] = Value(spikes, numbering)
    for (index, output), read, update in zip(states, reads, updates, strict=True):
        low.tensors[update] = replace(low.tensors[update], quantization=meaning)
        if get_input(node, index) in low.declared.carried:
            low.carry(read, update)
        low.define(node.outputs[output], Value(low.view(node, update, numbering.stored), numbering))


def _state(
    low: Lowerer,
    node: onnx_ir.Node,
    numbering: Arrangement,
    index: int,
    x: Tensor,
    meaning: Quantization | None,
) -> str:
    """The tensor that holds a state before the step."""
    value = get_input(node, index)
    if value in low.declared.carried:
        return low.state_tensor(name_of(value), x.shape, x.dtype, meaning)
    if x.dtype.is_integer:
        raise UnsupportedError(
            f"{label(node)}: its state {name_of(value)!r} is float32 from elsewhere; integer "
            "neurons need declared state that only they read: state={input: output}"
        )
    order = numbering.gather(range(len(numbering.shape)))
    known = low.real(node, low.value(value))
    return low.view(node, in_order(low, node, known, order), x.shape)

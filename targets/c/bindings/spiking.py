"""Calls of the kernels for weighted sums into spiking neurons.

Event-driven kernels are chosen by schedule and by the fields that the weights' levels need. Dense
ones, and those of samples, read one byte a weight, whatever its coding.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np

from edgekit.program.ir import Array, DType, Tensor
from edgekit.program.operators.spiking_weighted import (
    CurrentConv2D,
    CurrentDense,
    SpikeConv2D,
    SpikeDense,
)
from edgekit.targets.c.bindings.spiking_weights import (
    Field,
    FieldFormat,
    float_columns,
    packed_floats,
)
from edgekit.targets.c.kernel import Bound, Call, Derived, PointerTable, Scratch, Value, kernel

PLAIN = "int8"
"""What weights without a coding are."""

Window = CurrentConv2D | SpikeConv2D


def _w(bound: Bound) -> Tensor:
    """The weights of a sum."""
    return bound.input(bound.operation.operator.inputs.index("w"))


def _weights(bound: Bound) -> Array:
    """Their values, which the verifier wants constant."""
    data = _w(bound).data
    assert data is not None
    return data


def _format(bound: Bound) -> FieldFormat | None:
    """How integer weights are stored, None for float32."""
    operator = bound.operation.operator
    assert isinstance(operator, SpikeDense | SpikeConv2D)
    if _w(bound).dtype is DType.FLOAT32:
        return None
    return FieldFormat.of(operator.coding.element if operator.coding else PLAIN)


def _event(field: Field | None) -> Callable[[Bound], bool]:
    """Whether an operation is event-driven, with such fields; None for float32."""

    def accepts(bound: Bound) -> bool:
        operator = bound.operation.operator
        assert isinstance(operator, SpikeDense | SpikeConv2D)
        form = _format(bound)
        return operator.schedule == "event" and (form.field if form else None) is field

    return accepts


def _full(dtype: DType) -> Callable[[Bound], bool]:
    """Whether an operation is dense, with weights of a dtype."""

    def accepts(bound: Bound) -> bool:
        operator = bound.operation.operator
        assert isinstance(operator, SpikeDense | SpikeConv2D)
        return operator.schedule == "dense" and _w(bound).dtype is dtype

    return accepts


def _sum(bound: Bound, groups: int, form: FieldFormat | None) -> Mapping[str, int]:
    """Fields of ``ek_spike_sum``, or of ``ek_spike_sum_f32``."""
    rows = bound.operation.operator.weight_rows(_weights(bound))
    outputs, inputs = rows.shape[0] // groups, rows.shape[1]
    shared = {
        "groups": groups,
        "inputs": inputs,
        "outputs": outputs,
    }
    if form is None:
        return {**shared, "columns": float_columns(outputs)}
    return {
        **shared,
        "words": form.words(outputs),
        "room": form.room,
        "offset": form.offset,
        "mask": form.field.mask,
    }


def _packed(bound: Bound, groups: int, form: FieldFormat | None) -> Derived:
    rows = bound.operation.operator.weight_rows(_weights(bound))
    if form is None:
        return Derived("weights", packed_floats(rows, groups))
    return Derived("weights", form.packed(rows, groups))


def _window(bound: Bound, operator: Window, x: tuple[int, ...]) -> Mapping[str, int]:
    """Fields of ``ek_convolution_shape`` for an input x[N,H,W,I]."""
    w, y = bound.input(1).shape, bound.outputs[0].shape
    return {
        "batches": x[0],
        "height": x[1],
        "width": x[2],
        "channels": x[3],
        "y_height": y[1],
        "y_width": y[2],
        "y_channels": y[3],
        "kernel_height": w[1],
        "kernel_width": w[2],
        "stride_height": operator.stride[0],
        "stride_width": operator.stride[1],
        "dilation_height": operator.dilation[0],
        "dilation_width": operator.dilation[1],
        "pad_top": operator.padding[0],
        "pad_left": operator.padding[1],
    }


def _set_inputs(operator: SpikeDense) -> Derived:
    """Inputs of a group, by bit set."""
    return Derived("inputs", np.array([n // operator.groups for n in operator.neurons], np.int32))


def _sets(bound: Bound) -> PointerTable:
    """The bit sets."""
    first = bound.operation.operator.inputs.index("s*")
    return PointerTable(tuple(Value(bound.input(i).name) for i in range(first, len(bound.inputs))))


@kernel("spike_dense_event_b8", SpikeDense, DType.INT8, accepts=_event(Field.FIELD_8))
@kernel("spike_dense_event_b4", SpikeDense, DType.INT8, accepts=_event(Field.FIELD_4))
@kernel("spike_dense_event_b4c", SpikeDense, DType.INT8, accepts=_event(Field.FIELD_4_CARRY))
@kernel("spike_dense_event_b2", SpikeDense, DType.INT8, accepts=_event(Field.FIELD_2))
@kernel("spike_dense_event_f32", SpikeDense, DType.FLOAT32, accepts=_event(None))
def spike_dense_event(bound: Bound) -> Call:
    """Inputs by set, packed weights, acc, sets, y."""
    operator, form = bound.operation.operator, _format(bound)
    assert isinstance(operator, SpikeDense)
    return Call(
        {
            "batches": bound.outputs[0].shape[0],
            "sets": len(operator.neurons),
            "sum": _sum(bound, operator.groups, form),
        },
        (
            _set_inputs(operator),
            _packed(bound, operator.groups, form),
            bound.value(1),
            _sets(bound),
            bound.result(),
        ),
    )


@kernel("spike_conv_2d_event_b8", SpikeConv2D, DType.INT32, accepts=_event(Field.FIELD_8))
@kernel("spike_conv_2d_event_b4", SpikeConv2D, DType.INT32, accepts=_event(Field.FIELD_4))
@kernel("spike_conv_2d_event_b4c", SpikeConv2D, DType.INT32, accepts=_event(Field.FIELD_4_CARRY))
@kernel("spike_conv_2d_event_b2", SpikeConv2D, DType.INT32, accepts=_event(Field.FIELD_2))
@kernel("spike_conv_2d_event_f32", SpikeConv2D, DType.INT32, accepts=_event(None))
def spike_conv_2d_event(bound: Bound) -> Call:
    """s, packed weights, acc, y."""
    operator, form = bound.operation.operator, _format(bound)
    assert isinstance(operator, SpikeConv2D)
    image = (bound.input(0).shape[0], *operator.input_shape)
    return Call(
        {
            "window": _window(bound, operator, image),
            "sum": _sum(bound, operator.groups, form),
        },
        (bound.value(0), _packed(bound, operator.groups, form), bound.value(2), bound.result()),
    )


def _groups(bound: Bound, groups: int) -> Mapping[str, int]:
    """Fields of ``ek_current_groups``."""
    w = _w(bound).shape
    outputs = w[0] // groups
    return {"groups": groups, "inputs": math.prod(w[1:]), "outputs": outputs}


@kernel("spike_dense_full_s8", SpikeDense, DType.INT8, accepts=_full(DType.INT8))
@kernel("spike_dense_full_f32", SpikeDense, DType.FLOAT32, accepts=_full(DType.FLOAT32))
def spike_dense_full(bound: Bound) -> Call:
    """Inputs by set, w, acc, sets, y, scratch for the spikes as numbers."""
    operator, w = bound.operation.operator, _w(bound)
    assert isinstance(operator, SpikeDense)
    return Call(
        {
            "batches": bound.outputs[0].shape[0],
            "sets": len(operator.neurons),
            **_groups(bound, operator.groups),
        },
        (
            _set_inputs(operator),
            bound.value(0),
            bound.value(1),
            _sets(bound),
            bound.result(),
            Scratch(sum(operator.neurons) * w.dtype.bytes),
        ),
    )


@kernel("spike_conv_2d_full_s8", SpikeConv2D, DType.INT32, accepts=_full(DType.INT8))
@kernel("spike_conv_2d_full_f32", SpikeConv2D, DType.INT32, accepts=_full(DType.FLOAT32))
def spike_conv_2d_full(bound: Bound) -> Call:
    """s, w, acc, y, scratch for the spikes as numbers and for those under a window."""
    operator, w = bound.operation.operator, bound.input(1)
    assert isinstance(operator, SpikeConv2D)
    batches, set_words = bound.input(0).shape
    under = math.prod(w.shape[1:])
    return Call(
        {
            "window": _window(bound, operator, (batches, *operator.input_shape)),
            "sum": _groups(bound, operator.groups),
            "set_words": set_words,
        },
        (
            bound.value(0),
            bound.value(1),
            bound.value(2),
            bound.result(),
            Scratch((operator.neurons + under) * w.dtype.bytes),
        ),
    )


def _zero_point(bound: Bound, value: int) -> Mapping[str, int]:
    """The field that int8 alone has."""
    return {"x_zero_point": value} if bound.input(0).dtype is DType.INT8 else {}


@kernel("current_dense_s8", CurrentDense, DType.INT8)
@kernel("current_dense_s16", CurrentDense, DType.INT16)
@kernel("current_dense_f32", CurrentDense, DType.FLOAT32)
def current_dense(bound: Bound) -> Call:
    """x, w, acc, y."""
    operator = bound.operation.operator
    assert isinstance(operator, CurrentDense)
    return Call(
        {
            "batches": bound.input(0).shape[0],
            **_groups(bound, operator.groups),
            **_zero_point(bound, operator.x_zero_point),
        },
        (bound.value(0), bound.value(1), bound.value(2), bound.result()),
    )


@kernel("current_conv_2d_s8", CurrentConv2D, DType.INT8)
@kernel("current_conv_2d_s16", CurrentConv2D, DType.INT16)
@kernel("current_conv_2d_f32", CurrentConv2D, DType.FLOAT32)
def current_conv_2d(bound: Bound) -> Call:
    """x, w, acc, y, scratch for what lies under a window."""
    operator, x = bound.operation.operator, bound.input(0)
    assert isinstance(operator, CurrentConv2D)
    under = math.prod(bound.input(1).shape[1:])
    return Call(
        {
            "window": _window(bound, operator, x.shape),
            "sum": _groups(bound, operator.groups),
            **_zero_point(bound, operator.x_zero_point),
        },
        (
            bound.value(0),
            bound.value(1),
            bound.value(2),
            bound.result(),
            Scratch(under * x.dtype.bytes),
        ),
    )

"""Calls of the kernels for spiking neurons, for their membranes and bit sets as numbers.

Integer neurons that are reset by subtraction, the frequent case, take kernels that read the
parameters of a neuron side by side, their factors as the multiplication wants them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np

from edgekit.program.ir import Array, DType, TensorType
from edgekit.program.operators.spiking_bits import words_of
from edgekit.program.operators.spiking_neurons import DECAY_BITS, Leaky, Synaptic
from edgekit.program.operators.spiking_rescale import Rescale
from edgekit.program.operators.spiking_values import (
    SpikeCount,
    SpikeMaxPool2D,
    SpikeSumPool2D,
    SpikeValues,
)
from edgekit.targets.c.kernel import Argument, Bound, Call, Derived, Null, Value, kernel

RESETS = ("subtract", "zero", "none")
"""In the order of ``EK_RESET_SUBTRACT`` and its like."""


def _parameter(bound: Bound, index: int) -> tuple[int, Argument]:
    """Step and pointer of a parameter: one value is enough where a constant holds no others."""
    tensor = bound.inputs[index] if index < len(bound.inputs) else None
    if tensor is None:
        return 0, Null()
    if tensor.data is not None and (tensor.data == tensor.data[0]).all():
        return 0, Derived(bound.operation.operator.inputs[index].rstrip("?"), tensor.data[:1])
    return int(tensor.type.size > 1), Value(tensor.name)


def _shape(
    bound: Bound, parameters: tuple[int, ...], steps: Mapping[str, int]
) -> Mapping[str, int]:
    """Fields of ``ek_neuron_shape``; `parameters` are indices of inputs."""
    operator, x = bound.operation.operator, bound.input(0)
    assert isinstance(operator, Leaky | Synaptic)
    batches, *extents = x.shape
    neurons = math.prod(extents)
    tensors = (bound.inputs[i] for i in parameters if i < len(bound.inputs))
    row = max((t.type.size for t in tensors if t is not None and t.type.size > 1), default=neurons)
    return {
        "batches": batches,
        "rows": neurons // row,
        "row": row,
        "reset": RESETS.index(operator.reset),
        **steps,
        "scale": 1 << operator.fraction,
        "limit": operator.limit or 0,
    }


@kernel("leaky_s32", Leaky, DType.INT32)
@kernel("leaky_f32", Leaky, DType.FLOAT32)
def leaky(bound: Bound) -> Call:
    """x, u, beta, threshold, bias, s, u_next."""
    beta_step, beta = _parameter(bound, 2)
    threshold_step, threshold = _parameter(bound, 3)
    bias_step, bias = _parameter(bound, 4)
    steps = {
        "beta_step": beta_step,
        "threshold_step": threshold_step,
        "bias_step": bias_step,
    }
    return Call(
        {"shape": _shape(bound, (2, 3, 4), steps)},
        (
            bound.value(0),
            bound.value(1),
            beta,
            threshold,
            bias,
            bound.result(0),
            bound.result(1),
        ),
    )


@kernel("synaptic_s32", Synaptic, DType.INT32)
@kernel("synaptic_f32", Synaptic, DType.FLOAT32)
def synaptic(bound: Bound) -> Call:
    """x, u, i, alpha, beta, threshold, bias, s, u_next, i_next."""
    alpha_step, alpha = _parameter(bound, 3)
    beta_step, beta = _parameter(bound, 4)
    threshold_step, threshold = _parameter(bound, 5)
    bias_step, bias = _parameter(bound, 6)
    steps = {
        "beta_step": beta_step,
        "threshold_step": threshold_step,
        "bias_step": bias_step,
    }
    return Call(
        {"shape": _shape(bound, (3, 4, 5, 6), steps), "alpha_step": alpha_step},
        (
            *(bound.value(i) for i in range(3)),
            alpha,
            beta,
            threshold,
            bias,
            *(bound.result(i) for i in range(3)),
        ),
    )


def _factors(bound: Bound) -> tuple[int, ...]:
    """Inputs that are decay factors; those behind are threshold and bias."""
    return (2,) if isinstance(bound.operation.operator, Leaky) else (3, 4)


def _data(bound: Bound, index: int) -> Array | None:
    """The values of an input, None where it is absent or computed."""
    tensor = bound.inputs[index] if index < len(bound.inputs) else None
    return None if tensor is None else tensor.data


def _packable(bound: Bound) -> bool:
    """Whether neurons are reset by subtraction, with parameters that are all constants."""
    operator, threshold = bound.operation.operator, _factors(bound)[-1] + 1
    assert isinstance(operator, Leaky | Synaptic)
    parameters = range(_factors(bound)[0], len(bound.inputs))
    present = [i for i in parameters if bound.inputs[i] is not None]
    constant = all(_data(bound, i) is not None for i in present)
    return operator.reset == "subtract" and threshold in present and constant


def packed_factors(factors: Array) -> Array:
    """Decay factors as ``ek_neuron_packed.h`` has them.

    >>> [f"{word:09x}" for word in packed_factors(np.int32([0, 2**15 - 1, 2**15]))]
    ['-80000000', '-00010000', '000000000']
    """
    less = factors.astype(np.int64) - (1 << DECAY_BITS)
    return (less << (DECAY_BITS + 1)).astype(np.int32)


def _columns(bound: Bound, indices: tuple[int, ...], row: int) -> Array:
    """What the neurons of a row have of their own, side by side: int32 [row, columns]."""
    columns = []
    for index in indices:
        data = _data(bound, index)
        if data is None:
            data = np.zeros(1, np.int32)
        elif index in _factors(bound):
            data = packed_factors(data)
        columns.append(np.broadcast_to(data, row))
    return np.stack(columns, axis=1)


def _packed_shape(bound: Bound) -> dict[str, int]:
    """Fields of ``ek_neuron_packed_shape``."""
    operator, x = bound.operation.operator, bound.input(0)
    assert isinstance(operator, Leaky | Synaptic)
    parameters = range(_factors(bound)[0], len(bound.inputs))
    sizes = [data.size for i in parameters if (data := _data(bound, i)) is not None]
    row = max(x.shape[-1], *sizes)
    return {
        "batches": x.shape[0],
        "rows": math.prod(x.shape[1:]) // row,
        "row": row,
        "scale": 1 << operator.fraction,
        "limit": operator.limit or 0,
    }


@kernel("leaky_packed_s32", Leaky, DType.INT32, accepts=_packable)
def leaky_packed(bound: Bound) -> Call:
    """x, u, parameters, s, u_next."""
    shape = _packed_shape(bound)
    own = Derived("neurons", _columns(bound, (2, 3, 4), shape["row"]))
    return Call(
        {"shape": shape},
        (bound.value(0), bound.value(1), own, bound.result(0), bound.result(1)),
    )


@kernel("synaptic_packed_s32", Synaptic, DType.INT32, accepts=_packable)
def synaptic_packed(bound: Bound) -> Call:
    """x, u, i, parameters of the currents and of the membranes, s, u_next, i_next."""
    shape = _packed_shape(bound)
    drives = Derived("currents", _columns(bound, (3, 6), shape["row"]))
    own = Derived("neurons", _columns(bound, (4, 5), shape["row"]))
    return Call(
        {"shape": shape},
        (
            *(bound.value(i) for i in range(3)),
            drives,
            own,
            *(bound.result(i) for i in range(3)),
        ),
    )


def _set(bound: Bound, neurons: int) -> dict[str, int]:
    """Batches, words and neurons of the bit set that an operation reads."""
    return {
        "batches": bound.input(0).shape[0],
        "set_words": words_of(neurons),
        "neurons": neurons,
    }


def _values_are(dtype: DType) -> Callable[[Bound], bool]:
    """Whether an operation gives a dtype."""

    def accepts(bound: Bound) -> bool:
        return bound.outputs[0].dtype is dtype

    return accepts


@kernel("spike_values_s8", SpikeValues, DType.INT32, accepts=_values_are(DType.INT8))
@kernel("spike_values_f32", SpikeValues, DType.INT32, accepts=_values_are(DType.FLOAT32))
def spike_values(bound: Bound) -> Call:
    """s, y."""
    operator = bound.operation.operator
    assert isinstance(operator, SpikeValues)
    return Call(_set(bound, math.prod(operator.shape)), (bound.value(0), bound.result()))


@kernel("spike_count_s32", SpikeCount, DType.INT32, accepts=_values_are(DType.INT32))
@kernel("spike_count_f32", SpikeCount, DType.INT32, accepts=_values_are(DType.FLOAT32))
def spike_count(bound: Bound) -> Call:
    """s, count, y."""
    operator = bound.operation.operator
    assert isinstance(operator, SpikeCount)
    return Call(_set(bound, operator.neurons), (bound.value(0), bound.value(1), bound.result()))


@kernel("rescale_s32", Rescale, DType.INT32)
def rescale(bound: Bound) -> Call:
    """u, factor, acc, y."""
    operator, u = bound.operation.operator, bound.input(0)
    assert isinstance(operator, Rescale)
    step, factor = _parameter(bound, 1)
    row = bound.input(1).type.size if step else u.type.size
    return Call(
        {"rows": u.type.size // row, "row": row, "factor_step": step, "shift": operator.shift},
        (bound.value(0), factor, bound.value(2), bound.result()),
    )


@kernel("spike_max_pool_2d", SpikeMaxPool2D, DType.INT32)
@kernel("spike_sum_pool_2d_s8", SpikeSumPool2D, DType.INT32, accepts=_values_are(DType.INT8))
@kernel("spike_sum_pool_2d_f32", SpikeSumPool2D, DType.INT32, accepts=_values_are(DType.FLOAT32))
def spike_pool(bound: Bound) -> Call:
    """s, y."""
    pool = bound.operation.operator
    assert isinstance(pool, SpikeMaxPool2D | SpikeSumPool2D)
    batches, set_words = bound.input(0).shape
    (_, y_height, y_width, channels) = pool.windows.infer(
        TensorType((batches, *pool.input_shape), DType.INT8)
    )[0].shape
    shape = {
        "batches": batches,
        "height": pool.input_shape[0],
        "width": pool.input_shape[1],
        "channels": channels,
        "y_height": y_height,
        "y_width": y_width,
        "kernel_height": pool.kernel[0],
        "kernel_width": pool.kernel[1],
        "stride_height": pool.stride[0],
        "stride_width": pool.stride[1],
        "pad_top": pool.padding[0],
        "pad_left": pool.padding[1],
    }
    return Call({"shape": shape, "set_words": set_words}, (bound.value(0), bound.result()))

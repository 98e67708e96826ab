"""What spiking operators refuse, and the verifier of a Program that holds them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edgekit.errors import InvalidModelError
from edgekit.program.ir import DType, TensorType
from edgekit.program.operators.base import Operator, OperatorError
from edgekit.program.operators.coding import Coding
from edgekit.program.operators.spiking_bits import bit_set
from edgekit.program.operators.spiking_neurons import Leaky, Synaptic
from edgekit.program.operators.spiking_pools import CurrentPool2D
from edgekit.program.operators.spiking_rescale import Rescale
from edgekit.program.operators.spiking_values import SpikeCount, SpikeSumPool2D, SpikeValues
from edgekit.program.operators.spiking_weighted import CurrentDense, SpikeConv2D, SpikeDense
from tests.cases.case import one_operator

INT8, INT16, INT32, FLOAT32 = DType.INT8, DType.INT16, DType.INT32, DType.FLOAT32

S = bit_set(1, 40)
W = TensorType((4, 40), INT8)
X = TensorType((1, 40), INT32)
IMAGE = TensorType((1, 4, 4, 2), INT32)
ONE = TensorType((1,), INT32)

REFUSED: list[tuple[Operator, tuple[TensorType | None, ...], str]] = [
    (SpikeDense(neurons=(70,)), (W, None, S), r"must be \[N, 3\] for 70 neurons"),
    (SpikeDense(neurons=(40,)), (TensorType((4, 39), INT8), None, S), "must be the 40 inputs"),
    (SpikeDense(neurons=(40,), groups=8), (W, None, S), "must divide the 4 outputs"),
    (SpikeDense(neurons=(40,), groups=3), (W, None, S), r"must divide neurons \[40\]"),
    (SpikeDense(neurons=(40,)), (W, None, S, S), "one entry for each of the 2 s"),
    (SpikeDense(neurons=(20, 20)), (W, None, S, S), r"must be \[N, 1\] for 20 neurons"),
    (
        SpikeDense(neurons=(40, 40)),
        (TensorType((4, 80), INT8), None, S, bit_set(2, 40)),
        "batches of",
    ),
    (SpikeDense(neurons=(40,)), (TensorType((4, 40), INT16), None, S), "w is int16"),
    (SpikeDense(neurons=(40,), coding=Coding("shift4")), (W, None, S), "levels that int8 holds"),
    (
        SpikeDense(neurons=(40,), coding=Coding("int4", 8, "uint8")),
        (W, None, S),
        "a neuron has one scale",
    ),
    (
        SpikeDense(neurons=(40,), coding=Coding("int4")),
        (TensorType((4, 40), FLOAT32), None, S),
        "coding is for integers",
    ),
    (SpikeDense(neurons=(40,)), (W, TensorType((1, 5), INT32), S), "acc is"),
    (CurrentDense(x_zero_point=1), (TensorType((1, 40), INT16), W), "x_zero_point is 1"),
    (CurrentDense(), (TensorType((1, 40), FLOAT32), W), "w is int8, must be float32"),
    (
        SpikeDense(neurons=(2**16 + 1,)),
        (TensorType((1, 2**16 + 1), INT8), None, bit_set(1, 2**16 + 1)),
        "must have 1 to 65536",
    ),
    (
        SpikeConv2D(input_shape=(2, 5, 4)),
        (S, TensorType((4, 3, 3, 4), INT8)),
        "must fit in",
    ),
    (
        SpikeConv2D(input_shape=(2, 5, 4), groups=2),
        (S, TensorType((4, 1, 1, 4), INT8)),
        "channels of the input",
    ),
    (Leaky(), (X, TensorType((1, 39), INT32), ONE, ONE), "u is"),
    (Leaky(), (X, X, TensorType((7,), INT32), ONE), r"\[n\] with n among \[1, 40\]"),
    (Leaky(), (X, X, TensorType((1,), FLOAT32), ONE), "beta is float32"),
    (Leaky(), (X, X, ONE), "without a threshold"),
    (Leaky(fraction=15), (X, X, ONE, ONE), "fraction is 15"),
    (Leaky(limit=0), (X, X, ONE, ONE), "limit is 0"),
    (Rescale(shift=62), (X, ONE), "shift is 62"),
    (Rescale(shift=-1), (X, ONE), "shift is -1"),
    (Rescale(shift=1), (TensorType((1, 40), INT16), ONE), "u is int16"),
    (Rescale(shift=1), (TensorType((40,), INT32), ONE), r"must be \[N, \.\.\.\]"),
    (Rescale(shift=1), (X, TensorType((7,), INT32)), r"\[n\] with n among \[1, 40\]"),
    (Rescale(shift=1), (X, ONE, TensorType((1, 39), INT32)), "acc is"),
    (
        CurrentPool2D(kind="mean", kernel=(1, 1), stride=(1, 1)),  # type: ignore[arg-type]
        (IMAGE,),
        "kind is 'mean', must be max or sum",
    ),
    (
        CurrentPool2D(kind="max", kernel=(1, 1), stride=(1, 1)),
        (TensorType((1, 4, 4, 2), INT16),),
        "x is int16",
    ),
    (CurrentPool2D(kind="sum", kernel=(1, 1), stride=(1, 1)), (X,), "x has"),
    (
        CurrentPool2D(kind="max", kernel=(2, 2), stride=(1, 1), padding=(2, 0, 0, 0)),
        (IMAGE,),
        "windows that each hold",
    ),
    (CurrentPool2D(kind="sum", kernel=(5, 1), stride=(1, 1)), (IMAGE,), "axis 1: kernel 5"),
    (
        Leaky(fraction=1),
        (*[TensorType((1, 4), FLOAT32)] * 2, *[TensorType((1,), FLOAT32)] * 2),
        "fraction is 1",
    ),
    (
        Leaky(),
        (*[TensorType((1, 2, 4), INT32)] * 2, TensorType((4,), INT32), TensorType((8,), INT32)),
        "one or all as many",
    ),
    (Synaptic(), (X, X, TensorType((1, 40), FLOAT32), ONE, ONE, ONE), "i is"),
    (SpikeValues(shape=(8, 5), dtype=INT16), (S,), "dtype is int16"),
    (SpikeValues(shape=(8, 9)), (S,), "for 72 neurons"),
    (SpikeCount(neurons=40), (S, TensorType((1, 39), INT32)), "count has shape"),
    (
        SpikeSumPool2D(input_shape=(1, 40, 1), kernel=(1, 130), stride=(1, 1), dtype=INT8),
        (S,),
        "windows that each hold",
    ),
    (
        SpikeSumPool2D(input_shape=(12, 12, 1), kernel=(12, 12), stride=(1, 1), dtype=INT8),
        (bit_set(1, 144),),
        "127 at most",
    ),
]


@pytest.mark.parametrize(("operator", "inputs", "message"), REFUSED, ids=lambda v: str(v)[:40])
def test_refused(operator: Operator, inputs: tuple[TensorType | None, ...], message: str) -> None:
    """Types that do not fit are refused, with what would be right."""
    with pytest.raises(OperatorError, match=message):
        operator.infer(*inputs)


@pytest.mark.parametrize(
    ("operator", "inputs", "message"),
    [
        (SpikeDense(neurons=(40,)), (W, None, S), "w is computed, must be constant"),
        (
            Leaky(),
            (X, X, ("const", np.int32([2**15 + 1])), ("const", np.int32([1]))),
            r"beta holds 32769, must lie in 0…32768",
        ),
        (
            Leaky(),
            (
                *[TensorType((1, 4), FLOAT32)] * 2,
                ("const", np.float32([1.5])),
                ("const", np.float32([1])),
            ),
            r"beta holds 1.5, must lie in 0…1",
        ),
        (Leaky(), (X, X, ONE, ONE), "beta is computed, must be constant"),
        (Rescale(shift=1), (X, ONE), "factor is computed, must be constant"),
        (Rescale(shift=1), (X, ("const", np.int32([-3]))), "factor holds -3, must not be negative"),
        (
            SpikeDense(neurons=(40,), coding=Coding("ternary")),
            (("const", np.full((4, 40), 2, np.int8)), None, S),
            "w holds 2, no level of ternary",
        ),
    ],
)
def test_constants_are_verified(operator: Operator, inputs: Any, message: str) -> None:
    """Values that the kernels count on are checked wherever a Program is."""
    with pytest.raises(InvalidModelError, match=message):
        one_operator(operator, *inputs)

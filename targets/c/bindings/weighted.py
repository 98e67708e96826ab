"""What the bindings of weighted sums share: zero points, clamps, factors per output channel."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from edgekit.program.fixed_point import Requant, reduced_multiplier
from edgekit.program.ir import DType
from edgekit.program.operators.convolution import Convolution
from edgekit.program.operators.linear import FullyConnected
from edgekit.targets.c.bindings.elementwise import clamp_parameters
from edgekit.targets.c.kernel import Argument, Bound, Derived, Parameter, channel_constants

Parameters = dict[str, Parameter | Mapping[str, Parameter]]

MULTIPLIER_DTYPES = {"double": "int32", "single": "int32", "wide": "int16", "float64": "int64"}
"""What holds the multipliers of each rounding; ``wide`` keeps 15 bits of them."""


def is_coded(bound: Bound) -> bool:
    """Whether the operation's weights are coded, see :mod:`edgekit.program.operators.coding`."""
    return getattr(bound.operation.operator, "coding", None) is not None


def has_plain_weights(bound: Bound) -> bool:
    """Whether its weights are one integer or float an element."""
    return not is_coded(bound)


def output_parameters(operator: Convolution | FullyConnected, dtype: DType) -> Parameters:
    """Clamp, and the zero points that only int8 has."""
    parameters: Parameters = {**clamp_parameters(operator.clamp)}
    if dtype is DType.INT8:
        parameters["x_zero_point"] = operator.x_zero_point
        parameters["y_zero_point"] = operator.y_zero_point
    return parameters


def factors(requant: Requant | None, count: int) -> tuple[Argument, ...]:
    """Arrays ``multiplier`` and ``shift`` of `count` elements; nothing for float32.

    >>> multiplier, shift = factors(Requant.from_real([0.25], "wide"), 2)
    >>> multiplier.data.tolist(), shift.data.tolist()
    ([16384, 16384], [-1, -1])
    """
    if requant is None:
        return ()
    multipliers = np.array(requant.multiplier)
    if requant.rounding == "wide":
        multipliers = reduced_multiplier(multipliers)
    dtype = MULTIPLIER_DTYPES[requant.rounding]
    return (
        Derived("multiplier", channel_constants(multipliers.tolist(), count, dtype)),
        Derived("shift", channel_constants(requant.shift, count, "int8")),
    )

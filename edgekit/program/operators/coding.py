"""Coded weights: integers of a number format, kept packed, with integer factors per group.

A weighted operator with a :class:`Coding` computes::

    total = Σ_k g_k · (Σ over group k of (x − x_zero_point)·w)  [+ bias]

x is int8. ``w`` keeps the operator's own shape and holds exact integers, the levels of an
:class:`~edgekit.formats.Element`, in the element's dtype; what a step of them means in reals is in
the factors of the requantisation. Only C sees packed bytes.

A *row* is what one output channel sums over, in the order of the sum: (kernel row, kernel column,
input channel). A group is a run of `group` consecutive products of a row; the last one may be
shorter. Its factor g_k is a non-negative integer from ``factors`` [O,G].

Bounds: ``|x − x_zero_point| ≤ 255``, so no partial sum of a total, in whatever order it is added
up, exceeds ``255·Σ g_k·|w| + |bias|`` of its row. This must fit the accumulator: below 2³¹ for
int32, at most 2⁵³ for int64, from where requantisation in float64 would round (and where the
reference, which multiplies in float64, would). The weights are constants, so the verifier computes
it; :func:`accumulator_for` chooses by it.

Results are bounded too: convolutions round totals in int32 with ``single``, which wraps beyond
int32, where fully connected layers round with ``float64``, which saturates. So ``single`` is for
totals that it takes to less than 2³⁰, where both saturate no further (:func:`single_suffices`); a
convolution whose bound times its largest factor is more needs int64, which rounds with ``float64``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import get_args

import numpy as np

from edgekit.formats.element import Element
from edgekit.formats.elements import ELEMENTS
from edgekit.formats.factors import FACTORS, FactorName
from edgekit.program.fixed_point import FLOAT64_RESULT_LIMIT, Requant
from edgekit.program.ir import Array, DType, TensorType
from edgekit.program.operators.base import require, require_dtype

LARGEST_INPUT = 255
"""Largest magnitude of an int8 input less its zero point."""

ACCUMULATOR_LIMITS = {DType.INT32: 2**31 - 1, DType.INT64: 2**53}
"""Largest magnitude of a total, by the dtype that holds it."""


@dataclass(frozen=True)
class Coding:
    """How the weights of an operator are coded.

    Attributes:
        element: name in :data:`edgekit.formats.ELEMENTS`.
        group: consecutive weights that share a factor; 0 without factors.
        factors: how these are stored.
        accumulator: int32 or int64: what holds a total, and the dtype of an integer bias.

    >>> Coding("int4", 32, "uint8").groups(100)
    4
    >>> Coding("ternary").groups(100)
    0
    """

    element: str
    group: int = 0
    factors: FactorName = "none"
    accumulator: DType = DType.INT32

    @property
    def format(self) -> Element:
        """The number format of one weight."""
        return ELEMENTS[self.element]

    @property
    def dtype(self) -> DType:
        """Of the weights in a Program."""
        return DType(self.format.dtype.name)

    def groups(self, terms: int) -> int:
        """Factors of a row of `terms` weights."""
        return -(-terms // self.group) if self.group else 0

    def check(self) -> None:
        """Refuse fields that make no sense.

        Raises:
            OperatorError: says what would be right.
        """
        require(
            self.element in ELEMENTS,
            f"coding: no element {self.element!r}, must be one of {', '.join(ELEMENTS)}",
        )
        known = get_args(FactorName)
        require(
            self.factors in known, f"coding: factors are {self.factors!r}, must be one of {known}"
        )
        if self.factors == "none":
            require(self.group == 0, f"coding: group is {self.group}, must be 0 without factors")
        else:
            require(self.group >= 1, f"coding: group is {self.group}, must be 1 at least")
        allowed = tuple(ACCUMULATOR_LIMITS)
        if self.dtype not in (DType.INT8, DType.INT16):
            allowed = (DType.INT64,)
        require(
            self.accumulator in allowed,
            f"coding: {self.element} in {self.accumulator}, must be in {' or '.join(allowed)}",
        )

    def scaled(self, rows: Array, factors: Array | None) -> Array:
        """Weights times their factors, as float64.

        Args:
            rows: weights [O,K].
            factors: factors [O,G], None without.

        >>> Coding("int4", 2, "uint8").scaled(np.int8([[1, -2, 3]]), np.int32([[10, 1]])).tolist()
        [[10.0, -20.0, 3.0]]
        """
        weights: Array = rows.astype(np.float64)
        if factors is None:
            return weights
        spread = np.repeat(factors.astype(np.float64), self.group, axis=1)
        return weights * spread[:, : rows.shape[1]]


def require_coded(
    coding: Coding,
    x: TensorType,
    w: TensorType,
    factors: TensorType | None,
    *,
    outputs: int,
    terms: int,
) -> None:
    """Refuse an input, weights or factors that do not go with the coding.

    Args:
        coding: field of the operator.
        x: input of the operator.
        w: its weights.
        factors: its factors.
        outputs: number of output channels.
        terms: number of products in one sum.

    Raises:
        OperatorError: says what would be right.
    """
    coding.check()
    require_dtype(x, "x", DType.INT8)
    require(terms >= 1, "the sum has no terms")
    require(
        w.dtype is coding.dtype,
        f"w is {w.dtype}, must be {coding.dtype} for the levels of {coding.element}",
    )
    if coding.factors == "none":
        require(factors is None, "factors are there, must be absent where the coding has none")
        return
    wanted = TensorType((outputs, coding.groups(terms)), DType.INT32)
    require(factors is not None, f"factors are absent, must be {wanted.dtype}{list(wanted.shape)}")
    require(
        factors == wanted,
        f"factors are {factors and factors.dtype}{list(factors.shape if factors else ())}, must "
        f"be {wanted.dtype}{list(wanted.shape)}: one for every {coding.group} of {terms} weights",
    )


def worst_case(
    rows: Array, *, group: int = 0, factors: Array | None = None, bias: Array | None = None
) -> int:
    """Largest magnitude that any partial sum of any total can have.

    Args:
        rows: integer weights [O,K].
        group: weights that share a factor.
        factors: factors [O,G], None without.
        bias: integer bias [O], None without.

    >>> worst_case(np.int8([[1, -1], [2, 0]]), bias=np.int32([-7, 3]))
    517
    """
    if rows.size == 0:
        return 0
    totals = _magnitudes(rows, group, factors, bias, np.float64)
    if totals.max() < 2.0**60:
        totals = _magnitudes(rows, group, factors, bias, np.int64)
    return int(totals.max())


def _magnitudes(
    rows: Array, group: int, factors: Array | None, bias: Array | None, dtype: type
) -> Array:
    """Bound of every row's total in `dtype`: float64 may round, int64 may overflow."""
    weights: Array = np.abs(rows.astype(dtype))
    if factors is not None:
        weights = weights * np.repeat(factors.astype(dtype), group, axis=1)[:, : rows.shape[1]]
    totals: Array = weights.sum(axis=1) * dtype(LARGEST_INPUT)
    return totals if bias is None else totals + np.abs(bias.astype(dtype))


def accumulator_for(
    element: str,
    rows: Array,
    *,
    group: int = 0,
    factors: Array | None = None,
    bias: Array | None = None,
    requant: Requant | None = None,
) -> DType:
    """The narrowest accumulator that no total overflows, nor its requantisation.

    Args:
        element: name of the weights' element; those wider than int16 need int64.
        rows: integer weights [O,K], in the order of the sum.
        group: weights that share a factor, 0 without factors.
        factors: factors [O,G], None without.
        bias: exact integer bias [O], None without.
        requant: what int32 totals would be requantised with; None where nothing rounds ``single``.

    Raises:
        OperatorError: not even int64 holds every total.

    >>> accumulator_for("int4", np.full((1, 9), 7, np.int8)).value
    'int32'
    >>> largest = np.full((1, 9), 7, np.int8), np.full((1, 1), 229376, np.int32)
    >>> accumulator_for("int4", largest[0], group=16, factors=largest[1]).value
    'int64'
    """
    bound = worst_case(rows, group=group, factors=factors, bias=bias)
    narrow = ELEMENTS[element].dtype.itemsize <= 2
    suffices = requant is None or single_suffices(bound, requant)
    if narrow and suffices and bound <= ACCUMULATOR_LIMITS[DType.INT32]:
        return DType.INT32
    require(
        bound <= ACCUMULATOR_LIMITS[DType.INT64],
        f"a total of {element} weights may reach {bound}, must stay within 2**53: fewer products "
        "in one sum, smaller factors or a narrower format would do",
    )
    return DType.INT64


def single_suffices(bound: int, requant: Requant) -> bool:
    """Whether ``single`` rounding takes no total of this magnitude to 2³⁰ or beyond.

    Args:
        bound: largest magnitude of a total.
        requant: of ``single`` rounding.

    >>> single_suffices(2**20, Requant.from_real([0.5, 1000], "single"))
    True
    >>> single_suffices(2**20, Requant.from_real([0.5, 1024], "single"))
    False
    """
    pairs = zip(requant.multiplier, requant.shift, strict=True)
    return all(bound * m >> 31 - shift < FLOAT64_RESULT_LIMIT for m, shift in pairs)


def constants_problem(
    coding: Coding,
    rows: Array,
    *,
    factors: Array | None = None,
    bias: Array | None = None,
    requant: Requant | None = None,
) -> str | None:
    """What is wrong with the constants of a coded operator, None where nothing is.

    Args:
        coding: field of the operator.
        rows: weights [O,K] in the order of the sum.
        factors: factors [O,G]; None where the coding has none.
        bias: integer bias [O]; None where there is none.
        requant: field of the operator; None where it has none.

    >>> constants_problem(Coding("ternary"), np.int8([[1, 2]]))
    'w holds 2, no level of ternary: -1, 0, 1'
    """
    levels = coding.format.levels
    strange = np.setdiff1d(rows, levels)
    if strange.size:
        shown = ", ".join(str(level) for level in levels[:9])
        more = f", … {levels[-1]}" if len(levels) > 9 else ""
        return f"w holds {strange[0]}, no level of {coding.element}: {shown}{more}"
    if factors is not None:
        known = [i for i in FACTORS[coding.factors].integers if i is not None]
        strange = np.setdiff1d(factors, known)
        if strange.size:
            return f"factors hold {strange[0]}, which {coding.factors} cannot store"
    bound = worst_case(rows, group=coding.group, factors=factors, bias=bias)
    limit = ACCUMULATOR_LIMITS[coding.accumulator]
    if bound > limit:
        wider = " (int64 would do)" if bound <= ACCUMULATOR_LIMITS[DType.INT64] else ""
        return f"a total may reach {bound}, beyond {limit} of {coding.accumulator}{wider}"
    single = requant is not None and requant.rounding == "single"
    if single and requant is not None and not single_suffices(bound, requant):
        return (
            f"a total may reach {bound}, which requant takes to {FLOAT64_RESULT_LIMIT} or beyond: "
            "single rounding may wrap (int64, which saturates, would do)"
        )
    return None

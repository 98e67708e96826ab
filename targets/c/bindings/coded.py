"""Calls of the kernels for coded weights, and what these must be able to decode.

Weights and factors reach C packed, as bytes; the constants of the Program, which hold them one
integer each, are no argument of any call.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import IntEnum

import numpy as np

from edgekit.formats.element import Element
from edgekit.formats.elements import minifloat_magnitudes
from edgekit.formats.factors import FACTORS
from edgekit.program.ir import Array, DType, Operation
from edgekit.program.operators.coding import Coding
from edgekit.program.operators.convolution import Conv2D, Convolution, DepthwiseConv2D
from edgekit.program.operators.linear import DynamicFullyConnected, FullyConnected
from edgekit.targets.c.bindings.convolution import convolution_shape, residual_parameters
from edgekit.targets.c.bindings.weighted import factors as requant_arrays
from edgekit.targets.c.bindings.weighted import is_coded, output_parameters
from edgekit.targets.c.kernel import Argument, Bound, Call, Derived, Null, Parameter, kernel

PLAIN = Coding("int8")
"""What int8 weights are to a kernel that takes only coded ones."""

DIRECT_BITS = {2: "2_BITS", 3: "3_BITS", 4: "4_BITS", 8: "8_BITS"}
"""Widths for which there is code of their own."""

FACTOR_KINDS = tuple(FACTORS)
"""In the order of ``EK_FACTORS_NONE`` and its like, which is the table's."""


class Decoder(IntEnum):
    """How codes become integers: ``EK_INTEGER`` and its like of ``ek_coded.h``."""

    INTEGER = 0
    SIGN = 1
    LEVELS = 2
    FLOAT = 3
    TRITS = 4

    @classmethod
    def of(cls, element: Element) -> Decoder:
        """The decoder of an element: by its table, so that a new element needs no new decoder.

        >>> from edgekit.formats.elements import ELEMENTS
        >>> names = ("int4", "ternary", "binary", "fp4-e2m1", "fp6-e2m3", "ternary-p5")
        >>> [Decoder.of(ELEMENTS[name]).name for name in names]
        ['INTEGER', 'INTEGER', 'SIGN', 'LEVELS', 'FLOAT', 'TRITS']
        """
        if element.packing == "trits":
            return cls.TRITS
        half = 2 ** (element.bits - 1)
        if _agree(element, (*range(half), *range(-half, 0))):
            return cls.INTEGER
        if element.integers == (-1, 1):
            return cls.SIGN
        # A short table is smaller than code that computes it.
        return cls.FLOAT if element.bits > 4 and mantissa_bits(element) else cls.LEVELS


def mantissa_bits(element: Element) -> int:
    """Bits of the mantissa of a minifloat with sign and subnormals, 0 where it is none.

    By what the kernels compute from them, :func:`~edgekit.formats.elements.minifloat_magnitudes`.

    >>> from edgekit.formats.elements import ELEMENTS
    >>> mantissa_bits(ELEMENTS["fp8-e4m3"]), mantissa_bits(ELEMENTS["shift4"])
    (3, 0)
    """
    for bits in range(1, element.bits - 1):
        magnitudes = minifloat_magnitudes(element.bits - 1 - bits, bits)
        if _agree(element, (*magnitudes, *(-m for m in magnitudes))):
            return bits
    return 0


def _agree(element: Element, integers: Iterable[int]) -> bool:
    """Whether all used codes of an element mean these integers."""
    pairs = zip(element.integers, integers, strict=True)
    return all(own is None or own == other for own, other in pairs)


def coding_parameters(coding: Coding, terms: int) -> dict[str, Parameter]:
    """Fields of ``ek_coding`` for rows of `terms` weights."""
    element = coding.format
    decoder = Decoder.of(element)
    return {
        "decoder": int(decoder),
        "bits": element.bits,
        "mantissa": mantissa_bits(element) if decoder is Decoder.FLOAT else 0,
        "wide": int(coding.dtype not in (DType.INT8, DType.INT16)),
        "row_bytes": element.row_bytes(terms),
        "factors": FACTOR_KINDS.index(coding.factors),
        "group": coding.group or terms,
        "groups": coding.groups(terms) or 1,
    }


def coded_arrays(coding: Coding, rows: Array, factors: Array | None) -> tuple[Argument, ...]:
    """Packed weights, factor codes and levels."""
    element = coding.format
    arrays: list[Argument] = [Derived("weights", element.pack(rows))]
    if factors is None:
        arrays.append(Null())
    else:
        arrays.append(Derived("factors", FACTORS[coding.factors].codes(factors)))
    if Decoder.of(element) is Decoder.LEVELS:
        arrays.append(Derived("levels", np.array([i or 0 for i in element.integers], np.int16)))
    else:
        arrays.append(Null())
    return tuple(arrays)


def decoding_macros(operations: Iterable[Operation]) -> list[str]:
    """Macros that tell the kernels what the coded weights of a library need; none without any."""
    macros: set[str] = set()
    for operation in operations:
        operator = operation.operator
        coding = getattr(operator, "coding", None)
        if isinstance(operator, DynamicFullyConnected):
            coding = coding or PLAIN
        if isinstance(coding, Coding):
            macros |= _macros(coding)
    return sorted(f"EK_CODED_{name}" for name in macros)


def _macros(coding: Coding) -> set[str]:
    decoder = Decoder.of(coding.format)
    macros = {"CHOSEN", decoder.name}
    direct = decoder in (Decoder.INTEGER, Decoder.LEVELS)
    if direct and coding.format.bits in DIRECT_BITS:
        macros.add(DIRECT_BITS[coding.format.bits])
    if coding.dtype is DType.INT16:
        macros.add("INT16")
    if coding.dtype in (DType.INT32, DType.INT64):
        macros.add("WIDE")
    if coding.dtype is DType.INT64:
        macros.add("INT64")
    if coding.accumulator is DType.INT64:
        macros.add("INT64_TOTALS")
    return macros


def _constant(bound: Bound, port: str) -> Array | None:
    """The value of an input that the verifier wants constant, None where it is absent."""
    index = bound.operation.operator.inputs.index(port)
    tensor = bound.inputs[index] if index < len(bound.inputs) else None
    if tensor is None:
        return None
    assert tensor.data is not None
    return tensor.data


def _weights(bound: Bound, coding: Coding) -> tuple[int, tuple[Argument, ...]]:
    """Terms of a row, and the arrays."""
    w = _constant(bound, "w")
    assert w is not None
    rows = bound.operation.operator.weight_rows(w)
    return rows.shape[1], coded_arrays(coding, rows, _constant(bound, "factors?"))


@kernel("fully_connected_coded_s8", FullyConnected, DType.INT8, accepts=is_coded)
def fully_connected(bound: Bound) -> Call:
    """x, packed weights, factors, levels, bias, multiplier, shift, y."""
    operator = bound.operation.operator
    assert isinstance(operator, FullyConnected)
    assert operator.coding is not None
    assert operator.requant is not None
    terms, arrays = _weights(bound, operator.coding)
    count = len(operator.requant.multiplier)
    return Call(
        {
            "coding": coding_parameters(operator.coding, terms),
            "rows": bound.input(0).type.size // terms,
            "depth": terms,
            "outputs": bound.input(1).shape[0],
            "int64_bias": int(operator.coding.accumulator is DType.INT64),
            "factors": count,
            **output_parameters(operator, DType.INT8),
        },
        (
            bound.value(0),
            *arrays,
            bound.value(2),
            *requant_arrays(operator.requant, count),
            bound.result(),
        ),
    )


def _has_constant_weights(bound: Bound) -> bool:
    return bound.input(2).is_constant


@kernel(
    "dynamic_fully_connected_s8",
    DynamicFullyConnected,
    DType.INT8,
    accepts=_has_constant_weights,
)
def dynamic_fully_connected(bound: Bound) -> Call:
    """x, x_scale, packed weights, factors, levels, w_scale, bias, y."""
    operator = bound.operation.operator
    assert isinstance(operator, DynamicFullyConnected)
    coding = operator.coding or PLAIN
    terms, arrays = _weights(bound, coding)
    return Call(
        {
            "coding": coding_parameters(coding, terms),
            "rows": bound.input(0).type.size // terms,
            "depth": terms,
            "outputs": bound.input(2).shape[0],
            "scales": bound.input(3).type.size,
        },
        (
            bound.value(0),
            bound.value(1),
            *arrays,
            bound.value(3),
            bound.value(4),
            bound.result(),
        ),
    )


@kernel("conv_2d_coded_s8", Conv2D, DType.INT8, accepts=is_coded)
def conv_2d(bound: Bound) -> Call:
    """x, packed weights, factors, levels, bias, multiplier, shift, residual, y."""
    operator, w = bound.operation.operator, bound.input(1).shape
    assert isinstance(operator, Conv2D)
    call = _convolution(bound, operator, w[1:3], w[0], {"groups": operator.groups})
    *given, y = call.arguments
    parameters = {**call.parameters, "residual": residual_parameters(operator)}
    return Call(parameters, (*given, bound.value(3), y))


@kernel("depthwise_conv_2d_coded_s8", DepthwiseConv2D, DType.INT8, accepts=is_coded)
def depthwise_conv_2d(bound: Bound) -> Call:
    """x, packed weights, factors, levels, bias, multiplier, shift, y."""
    operator, w = bound.operation.operator, bound.input(1).shape
    assert isinstance(operator, DepthwiseConv2D)
    return _convolution(bound, operator, w[:2], w[2])


def _convolution(
    bound: Bound,
    operator: Convolution,
    kernel_size: tuple[int, ...],
    channels: int,
    groups: Mapping[str, Parameter] | None = None,
) -> Call:
    """What both convolutions share; `groups` is a field that one alone has."""
    assert operator.coding is not None
    terms, arrays = _weights(bound, operator.coding)
    return Call(
        {
            **convolution_shape(bound, operator, kernel_size),
            "coding": coding_parameters(operator.coding, terms),
            "int64_totals": int(operator.coding.accumulator is DType.INT64),
            **(groups or {}),
            **output_parameters(operator, DType.INT8),
        },
        (
            bound.value(0),
            *arrays,
            bound.value(2),
            *requant_arrays(operator.requant, channels),
            bound.result(),
        ),
    )

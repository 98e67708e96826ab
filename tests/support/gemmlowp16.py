"""Sigmoid and tanh of int16 as LiteRT's own LSTM kernel computes them, by gemmlowp.

TFLite Micro's LSTM, and edgekit's, use the tables of the int16 activation kernels instead; with
these functions in their place everything else can be compared to the bit. Values are int64 arrays
of raw fixed-point numbers: Qm has m integer bits and 15 - m behind the point.

Source of the method: gemmlowp's documentation of its fixed-point exponential (a polynomial around
-1/8 and a barrel shifter) and logistic (Newton's division).
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Int64 = NDArray[np.int64]

LOW, HIGH = -(2**15), 2**15 - 1
ONE = HIGH
"""1 in Q0, as near as it comes."""


def constant(real: float, bits: int = 0) -> int:
    """A real in Qm, by way of 32 bits, as gemmlowp states its constants."""
    wide = round(real * 2.0 ** (31 - bits))
    return (wide + (1 << 15)) >> 16 if wide >= 0 else -((-wide + (1 << 15)) >> 16)


def saturate(x: Int64) -> Int64:
    return np.clip(x, LOW, HIGH)


def product(a: Int64 | int, b: Int64 | int) -> Int64:
    """High 16 bits of 2ab, rounded."""
    ab = np.asarray(a, np.int64) * np.asarray(b, np.int64)
    nudged = ab + np.where(ab >= 0, 1 << 14, 1 - (1 << 14))
    return np.minimum(np.sign(nudged) * (np.abs(nudged) >> 15), HIGH)


def rounded_right(x: Int64, shift: int) -> Int64:
    """To nearest, ties away from zero."""
    mask = (1 << shift) - 1
    return (x >> shift) + ((x & mask) > (mask >> 1) + (x < 0))


def exp_below(a: Int64) -> Int64:
    """e**a of Q0 for -1/4 <= a < 0, in Q0."""
    x = a + (1 << 12)
    x2 = product(x, x)
    x3, x4 = product(x2, x), product(x2, x2)
    inner = product(rounded_right(x4, 2) + x3, constant(1 / 3)) + x2
    middle = constant(math.exp(-1 / 8))
    return saturate(middle + product(middle, x + rounded_right(inner, 1)))


def exp_on_negative(a: Int64, bits: int) -> Int64:
    """e**a of Qm, m = bits, for a <= 0, in Q0."""
    fraction = 15 - bits
    quarter = 1 << (fraction - 2)
    modulo = (a & (quarter - 1)) - quarter
    result = exp_below(saturate(modulo << bits))
    remainder = modulo - a
    for exponent in range(-2, 5):
        if bits > exponent:
            factor = constant(math.exp(-(2.0**exponent)))
            taken = (remainder & (1 << (fraction + exponent))) != 0
            result = np.where(taken, product(result, factor), result)
    return np.where(a == 0, ONE, result)


def newton(a: Int64) -> Int64:
    """2 / (1 + a) of Q0 in Q2."""
    total = a + ONE
    half = (total + 1) // 2
    x = constant(48 / 17, 2) + product(half, constant(-32 / 17, 2))
    for _ in range(3):
        x = x + saturate(product(x, (1 << 13) - product(half, x)) << 2)
    return x


def sigmoid(a: Int64) -> Int64:
    """Of Q3, in Q0."""
    positive = saturate(newton(exp_on_negative(-np.abs(a), 3)) << 1)
    return np.where(a == 0, 1 << 14, np.where(a > 0, positive, ONE - positive))


def tanh(a: Int64, bits: int) -> Int64:
    """Of Qm, m = bits, in Q0."""
    below = exp_on_negative(-np.abs(a), bits + 1)
    positive = saturate((newton(below) - (1 << 13)) << 2)
    return np.where(a == 0, 0, np.where(a > 0, positive, -positive))

"""A format of a layer's weights: an element, what shares a scale, and how the scale is found."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from edgekit.errors import InvalidDataError, UsageError
from edgekit.formats.coded import Coded, Packed, check_scale
from edgekit.formats.element import Element
from edgekit.formats.elements import ELEMENTS
from edgekit.formats.factors import FACTORS, NAMED_FACTORS, PLAIN_FACTORS, FactorName
from edgekit.formats.group_scales import GROUP_SCALES
from edgekit.formats.groups import group_count, spread
from edgekit.formats.scales import RULES, Rule, nearest_integers

Array = NDArray[Any]
Float32 = NDArray[np.float32]
Int32 = NDArray[np.int32]
Granularity = Literal["tensor", "channel", "group"]

LARGEST_WEIGHT = np.float32(2.0**126)
"""Beyond, the largest level times a scale that was rounded up could be infinite."""

_SCALE_BITS = 32
_FACTOR_BITS = 8

_SHARING: dict[str, Granularity] = {"t": "tensor", "c": "channel"}
"""Modifiers that say what shares a scale."""


@dataclass(frozen=True)
class Format:
    """How the weights [R, K] of a layer become integers with scales; R output channels.

    Attributes:
        element: the numbers.
        granularity: what shares a scale: the ``tensor``, every ``channel`` (row), or a ``group`` of
            consecutive weights of a row. A group that the row's length cuts off is shorter.
        group: weights of a group, 0 without groups.
        factors: what scales of groups are coded as; ``none`` without groups.
        rule: how scales are found; see :mod:`edgekit.formats.scales`.

    Raises:
        UsageError: a combination that means nothing.

    >>> w = np.float32([[0.1, -0.75, 0.32], [2.0, 1.2, 0.0]])
    >>> coded = Format.parse("int4").quantize(w)
    >>> coded.integers.tolist()
    [[1, -7, 3], [7, 4, 0]]
    >>> Format.parse("fp4-e2m1-g128").effective_bits(64, 1024)
    4.09375
    """

    element: Element
    granularity: Granularity = "channel"
    group: int = 0
    factors: FactorName = "none"
    rule: Rule = "absmax"

    def __post_init__(self) -> None:
        grouped = self.granularity == "group"
        if self.granularity not in get_args(Granularity):
            raise UsageError(f"no granularity {self.granularity!r}; tensor, channel or group")
        if self.factors not in FACTORS or self.rule not in RULES:
            raise UsageError(
                f"no factors {self.factors!r} or no rule {self.rule!r}; there are: "
                f"{', '.join(FACTORS)}; {', '.join(RULES)}"
            )
        if grouped != (self.group > 0) or grouped != (self.factors != "none"):
            raise UsageError(
                f"{self.element.name}: granularity {self.granularity} with groups of {self.group} "
                f"and {self.factors} factors; only groups have a positive size and factors"
            )
        if grouped and self.rule not in GROUP_SCALES[self.factors].rules:
            raise UsageError(
                f"{self.element.name}: rule {self.rule} with {self.factors} factors; their "
                f"specification knows {', '.join(GROUP_SCALES[self.factors].rules)}"
            )
        if self.rule in ("median", "mean") and self.element.maximum != 1:
            raise UsageError(
                f"{self.element.name}: rule {self.rule} is for ternary and binary weights; others "
                "reach beyond 1"
            )

    @classmethod
    def parse(cls, text: str) -> Format:
        """The format that a text names.

        An element of `ELEMENTS`, or ``mxfp4`` or ``nvfp4``, and modifiers behind it, each at most
        once and in any order: ``-gN`` groups of N weights; ``-t`` one scale for the tensor; ``-c``
        one for every channel; ``-shift`` or ``-e4m3`` for factors of groups other than uint8; the
        name of a rule.

        Without modifiers a scale is for a channel and by ``absmax``; but ternary weights have one
        of the tensor by ``median``, binary ones by ``mean``, shift ones by ``mse``.

        Raises:
            UsageError: an unknown name; the message lists what is known.

        >>> str(Format.parse("int4-t")), str(Format.parse("ternary-p5-mean"))
        ('int4-t', 'ternary-p5-mean')
        >>> Format.parse("mxfp4") == Format.parse("fp4-e2m1-g32-shift")
        True
        """
        known = {**_default_formats(), **SPECIAL}
        base = next(
            (name for name in sorted(known, key=len, reverse=True) if _starts(text, name)), None
        )
        if base is None:
            raise UsageError(f"no weight format {text!r}; {_grammar()}")
        modifiers = text[len(base) :].split("-")[1:]
        fields = [_modifier(modifier, text) for modifier in modifiers]
        names = [name for modifier in fields for name in modifier]
        if base in SPECIAL and fields:
            raise UsageError(f"weight format {text!r}: {base} takes no modifiers; {_grammar()}")
        if len(set(names)) != len(names):
            raise UsageError(f"weight format {text!r} says a thing twice; {_grammar()}")
        changes: dict[str, Any] = {name: value for field in fields for name, value in field.items()}
        if "group" in changes:
            # Groups have factors; a modifier may name another kind.
            changes = {"factors": PLAIN_FACTORS, **changes}
        return replace(known[base], **changes)

    def __str__(self) -> str:
        """The text that `parse` reads as this format, with no modifier that says the default."""
        for name, special in SPECIAL.items():
            if special == self:
                return name
        default = _default_formats()[self.element.name]
        parts = [self.element.name]
        if self.granularity == "group":
            parts.append(f"g{self.group}")
        elif self.granularity != default.granularity:
            parts.append(self.granularity[0])
        if self.factors in NAMED_FACTORS:
            parts.append(self.factors)
        if self.rule != default.rule:
            parts.append(self.rule)
        return "-".join(parts)

    def scales(self, w: Float32) -> tuple[Float32, Int32 | None]:
        """Scale and factors for weights, as `Coded` has them.

        Args:
            w: float32[R, K], finite, at most 2**126.

        Raises:
            InvalidDataError: not two dimensions, NaN, infinity or larger than 2**126.
        """
        w = _checked(w)
        if self.granularity == "group":
            return GROUP_SCALES[self.factors].choose(
                w, group=self.group, element=self.element, rule=self.rule
            )
        shared = w.reshape(1, -1) if self.granularity == "tensor" else w
        return RULES[self.rule](shared, self.element), None

    def quantize(
        self, w: Float32, *, scale: Float32 | None = None, factors: Int32 | None = None
    ) -> Coded:
        """Weights as integers, each the nearest to ``w / step``.

        The step is ``factor * scale`` (exact integer to float32, one multiplication), or the scale
        where there are no groups: weights meet the scale that they are decoded with, not the one
        before it was rounded. The division is one float32 operation.

        Args:
            w: float32[R, K], finite, at most 2**126.
            scale: instead of the one by the rule, in units of the integers (``Element.unit`` is
                inside): float32[R] or [1]. With groups either float32[R, G], the steps of all
                groups, which become factors; or float32[R] or [1] along with `factors`.
            factors: int32[R, G], levels of the format's kind; only with `scale`.

        Raises:
            InvalidDataError: not two dimensions, NaN, infinity or larger than 2**126; a scale of
                another shape, or not finite and positive; factors that are no levels.

        >>> Format.parse("ternary").quantize(np.float32([[0.9, -1.1, 0.2]])).integers.tolist()
        [[1, -1, 0]]
        """
        w = _checked(w)
        if scale is None and factors is None:
            scale, factors = self.scales(w)
        else:
            scale, factors = self._given(w, scale, factors)
        step = self._step(scale, factors, w.shape[1])
        return Coded(nearest_integers(w, step, self.element), scale, factors)

    def dequantize(self, coded: Coded) -> Float32:
        """The real weights float32[R, K]: ``float32(integer * factor) * scale``.

        Raises:
            InvalidDataError: factors that do not fit the format.

        >>> int4 = Format.parse("int4")
        >>> int4.dequantize(int4.quantize(np.float32([[3.5, 1.1]]))).tolist()
        [[3.5, 1.0]]
        """
        rows, columns = coded.integers.shape
        self._check_factors(coded.factors, rows, columns)
        integers = coded.integers
        if coded.factors is not None:
            wide = spread(coded.factors, group=self.group, columns=columns)
            integers = integers.astype(np.int64) * wide
        return integers.astype(np.float32) * coded.scale[:, None]

    def pack(self, coded: Coded) -> Packed:
        """What is stored.

        Raises:
            InvalidDataError: integers or factors that are no levels of the format.
        """
        rows, columns = coded.integers.shape
        self._check_factors(coded.factors, rows, columns)
        codes = None if coded.factors is None else FACTORS[self.factors].codes(coded.factors)
        return Packed(self.element.pack(coded.integers), columns, coded.scale, codes)

    def unpack(self, packed: Packed) -> Coded:
        """What `pack` was given.

        Raises:
            InvalidDataError: rows or factors of another length, codes that mean nothing.
        """
        codes = packed.factor_codes
        self._check_factors(codes, packed.data.shape[0], packed.columns)
        factors = None if codes is None else FACTORS[self.factors].decode(codes)
        return Coded(self.element.unpack(packed.data, packed.columns), packed.scale, factors)

    def effective_bits(self, rows: int, columns: int) -> float:
        """Stored bits of a weight: packed rows up to their byte border, factors, float32 scales.

        0 for no weights.

        >>> [Format.parse(name).effective_bits(64, 512) for name in ("mxfp4", "ternary-p5")]
        [4.3125, 1.6103515625]
        """
        if rows * columns == 0:
            return 0.0
        scales = 1 if self.granularity == "tensor" or self.factors == "e4m3" else rows
        groups = rows * group_count(columns, self.group) if self.group else 0
        bits = 8 * rows * self.element.row_bytes(columns)
        return (bits + _FACTOR_BITS * groups + _SCALE_BITS * scales) / (rows * columns)

    def _given(
        self, w: Float32, scale: Float32 | None, factors: Int32 | None
    ) -> tuple[Float32, Int32 | None]:
        """A scale from outside, and the factors of its groups, checked."""
        if scale is None:
            raise InvalidDataError(f"{self}: factors given without a scale")
        scale = np.asarray(scale, np.float32)
        if self.granularity == "group" and factors is None:
            rows, groups = w.shape[0], group_count(w.shape[1], self.group)
            if scale.shape != (rows, groups) or not (np.isfinite(scale) & (scale >= 0)).all():
                raise InvalidDataError(
                    f"{self}: steps of groups are {list(scale.shape)}, must be [{rows}, {groups}], "
                    "finite and not negative"
                )
            return GROUP_SCALES[self.factors].encode(scale)
        self._check_factors(factors, *w.shape)
        check_scale(scale, w.shape[0])
        if factors is not None:
            FACTORS[self.factors].codes(factors)
        return scale, factors

    def _step(self, scale: Float32, factors: Int32 | None, columns: int) -> Float32:
        """float32[R or 1, K or 1]: what an integer 1 stands for."""
        if factors is None:
            return scale[:, None]
        steps = factors.astype(np.float32) * scale[:, None]
        return np.asarray(spread(steps, group=self.group, columns=columns), np.float32)

    def _check_factors(self, factors: Array | None, rows: int, columns: int) -> None:
        if self.granularity != "group":
            if factors is not None:
                raise InvalidDataError(f"{self}: factors given, but the format has no groups")
            return
        groups = group_count(columns, self.group)
        if factors is None or factors.shape != (rows, groups):
            shape = None if factors is None else list(factors.shape)
            raise InvalidDataError(f"{self}: factors are {shape}, must be [{rows}, {groups}]")


def _checked(w: Array) -> Float32:
    """Weights float32[R, K], all finite and small enough to decode to finite numbers."""
    w = np.asarray(w)
    if w.ndim != 2 or w.dtype.kind != "f":
        raise InvalidDataError(f"weights are {w.dtype}{list(w.shape)}, must be float32[R, K]")
    with np.errstate(over="ignore"):
        narrow = w.astype(np.float32, copy=False)
    wrong = ~(np.abs(narrow) <= LARGEST_WEIGHT)
    if wrong.any():
        row, column = (int(i) for i in np.argwhere(wrong)[0])
        raise InvalidDataError(
            f"weight [{row}, {column}] is {w[row, column]}; weights must be finite, at most 2**126"
        )
    return narrow


@cache
def _default_formats() -> dict[str, Format]:
    """The format that the name of an element alone means."""
    families: dict[str, dict[str, Any]] = {
        "ternary": {"granularity": "tensor", "rule": "median"},
        "binary": {"rule": "mean"},
        "shift": {"rule": "mse"},
    }
    return {
        name: Format(element, **families.get(re.split(r"[\d-]", name)[0], {}))
        for name, element in ELEMENTS.items()
    }


SPECIAL: dict[str, Format] = {
    "mxfp4": Format(ELEMENTS["fp4-e2m1"], "group", 32, "shift"),
    "nvfp4": Format(ELEMENTS["fp4-e2m1"], "group", 16, "e4m3"),
}
"""Formats with names of their own."""


def _starts(text: str, name: str) -> bool:
    return text == name or text.startswith(f"{name}-")


def _modifier(text: str, whole: str) -> dict[str, Any]:
    """What one modifier of a format's name changes."""
    if re.fullmatch(r"g[1-9]\d{0,5}", text):
        return {"granularity": "group", "group": int(text[1:])}
    if text in _SHARING:
        return {"granularity": _SHARING[text]}
    if text in RULES:
        return {"rule": text}
    if text in NAMED_FACTORS:
        return {"factors": text}
    raise UsageError(f"no modifier {text!r} of weight formats, in {whole!r}; {_grammar()}")


def _grammar() -> str:
    names = ", ".join((*ELEMENTS, *SPECIAL))
    modifiers = ", ".join(f"-{name}" for name in ("gN", *_SHARING, *NAMED_FACTORS, *RULES))
    return f"formats: {names}; modifiers: {modifiers}"

"""Conditions under which a comparison fails: ``latency_ms>+5%``.

::

    METRIC > +N%    the later value is more than N % above the earlier one; < -N% below it
    METRIC > +N     by more than N, in the metric's own unit;               < -N   below it
    METRIC > N      the later value itself is above N;                      < N    below it
"""

from __future__ import annotations

import difflib
import math
import re
from dataclasses import dataclass
from typing import Literal

from edgekit.errors import UsageError
from edgekit.report.metrics import METRICS, Metric

Kind = Literal["relative", "difference", "value"]

EXAMPLES = "'latency_ms>+5%', 'accuracy<-0.01', 'flash_bytes>65536'"


@dataclass(frozen=True)
class Gate:
    """One condition.

    Attributes:
        text: as it was written.
        metric: what is looked at.
        above: fails above the threshold, else below it.
        kind: what is held against the threshold.
        threshold: a fraction where `kind` is relative.
    """

    text: str
    metric: Metric
    above: bool
    kind: Kind
    threshold: float

    def trips(self, before: float, after: float) -> bool:
        """Whether it fails.

        >>> parse_gate("latency_ms>+5%").trips(10.0, 10.6)
        True
        >>> parse_gate("accuracy<-0.01").trips(0.92, 0.915)
        False
        """
        value = {
            "relative": relative(before, after),
            "difference": after - before,
            "value": after,
        }[self.kind]
        return value > self.threshold if self.above else value < self.threshold


def relative(before: float, after: float) -> float:
    """Change as a fraction of the earlier value; infinite where that is 0.

    >>> relative(10, 11), relative(0, 0), relative(0, 1)
    (0.1, 0.0, inf)
    """
    if before:
        return (after - before) / before
    return math.copysign(math.inf, after) if after else 0.0


def parse_gate(text: str) -> Gate:
    """A condition from its text.

    Raises:
        UsageError: no such metric, or no such form; says what would be right.
    """
    found = re.fullmatch(
        r"\s*(\w+)\s*([<>])\s*([+-]?)(\d+(?:\.\d*)?(?:[eE][+-]?\d{1,2})?|\.\d+)(%?)\s*",
        text,
        re.ASCII,
    )
    if found is None:
        raise UsageError(f"--fail-if {text!r}: must be METRIC>LIMIT or METRIC<LIMIT: {EXAMPLES}")
    name, operator, sign, number, percent = found.groups()
    if name not in METRICS:
        near = difflib.get_close_matches(name, METRICS, n=1)
        raise UsageError(
            f"--fail-if {text!r}: no metric {name!r}; "
            + (f"did you mean {near[0]!r}? " if near else "")
            + f"there are {', '.join(METRICS)}"
        )
    if percent and not sign:
        raise UsageError(
            f"--fail-if {text!r}: a percentage is a change and has a sign: "
            f"'{name}{operator}{'+' if operator == '>' else '-'}{number}%'"
        )
    threshold = float(f"{sign}{number}") / (100 if percent else 1)
    kind: Kind = "relative" if percent else "difference" if sign else "value"
    return Gate(text, METRICS[name], operator == ">", kind, threshold)

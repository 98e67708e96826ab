"""Names of the methods after training."""

from __future__ import annotations

import difflib
import math
from dataclasses import dataclass
from typing import Literal, get_args

from edgekit.errors import UsageError

Scales = Literal["format", "mse", "percentile"]
"""Where a weight's scale comes from: the format's own rule (the extremes, for most); the smallest
squared error of the weights; the extremes without the outermost weights of a row."""

Rounding = Literal["rtn", "adaround", "gptq"]
"""How weights go to the grid: each to the nearest level (rtn), or for the layer's output."""

DEFAULT_PERCENTILE = 99.9


@dataclass(frozen=True)
class Method:
    """What is done to weights.

    Attributes:
        rounding: how they go to the grid.
        scales: where the grid's scale comes from.
        percentile: share of a row's weights in the range, for ``percentile``.
    """

    rounding: Rounding = "rtn"
    scales: Scales = "format"
    percentile: float = DEFAULT_PERCENTILE

    @classmethod
    def parse(cls, text: str | Method) -> Method:
        """Read ``rtn``, ``mse``, ``percentile:99.5``, ``adaround``, ``mse+gptq`` and the like.

        Raises:
            UsageError: an unknown name, or two of one kind.

        >>> Method.parse("mse+adaround")
        Method(rounding='adaround', scales='mse', percentile=99.9)
        """
        if isinstance(text, Method):
            return text
        found: dict[str, str] = {}
        percentile = DEFAULT_PERCENTILE
        for part in text.split("+"):
            name, separator, argument = part.strip().partition(":")
            if name in get_args(Rounding):
                kind = "rounding"
            elif name in ("minmax", "mse", "percentile"):
                kind = "scales"
            else:
                raise _unknown(text, name)
            if kind in found:
                raise UsageError(f"method {text!r}: {found[kind]} and {name} exclude each other")
            if separator and name != "percentile":
                raise UsageError(f"method {text!r}: {name} takes no argument")
            if separator:
                percentile = _percentage(text, argument)
            found[kind] = name
        rounding: Rounding = found.get("rounding", "rtn")  # type: ignore[assignment]
        scales = found.get("scales", "minmax")
        return cls(rounding, "format" if scales == "minmax" else scales, percentile)  # type: ignore[arg-type]

    @property
    def needs_inputs(self) -> bool:
        """Whether it looks at what the layers read."""
        return self.rounding != "rtn"

    def __str__(self) -> str:
        scale = {"format": "", "mse": "mse", "percentile": f"percentile:{self.percentile:g}"}
        parts = [scale[self.scales], "" if self.rounding == "rtn" else self.rounding]
        return "+".join(part for part in parts if part) or "rtn"


def _percentage(text: str, argument: str) -> float:
    try:
        value = float(argument)
    except ValueError:
        value = math.nan
    if not 50 <= value <= 100:
        raise UsageError(f"method {text!r}: the percentage must be a number from 50 to 100")
    return value


def _unknown(text: str, name: str) -> UsageError:
    known = ("rtn", "minmax", "mse", "percentile:NUMBER", "adaround", "gptq")
    near = difflib.get_close_matches(name, [k.partition(":")[0] for k in known], n=1)
    hint = f"; did you mean {near[0]}?" if near else ""
    return UsageError(
        f"method {text!r}: {name!r} is unknown{hint} (there are {', '.join(known)}, and one for "
        "scales joined to one for rounding: mse+adaround)"
    )

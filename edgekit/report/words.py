"""Numbers for people."""

from __future__ import annotations

import math


def milliseconds(value: float) -> str:
    """A time in the unit that suits it.

    >>> milliseconds(0.1439), milliseconds(5.0741), milliseconds(2500.0)
    ('143.9 µs', '5.074 ms', '2.5 s')
    """
    for limit, factor, unit in ((1.0, 1e3, "µs"), (1e3, 1.0, "ms")):
        if value < limit:
            return f"{value * factor:.4g} {unit}"
    return f"{value / 1e3:,.4g} s"


def microjoules(value: float) -> str:
    """An energy in the unit that suits it.

    >>> microjoules(0.5), microjoules(120.0), microjoules(5074.1), microjoules(2.5e6)
    ('0.5 µJ', '120 µJ', '5.074 mJ', '2.5 J')
    """
    for limit, factor, unit in ((1e3, 1.0, "µJ"), (1e6, 1e-3, "mJ")):
        if value < limit:
            return f"{value * factor:.4g} {unit}"
    return f"{value / 1e6:,.4g} J"


def size(value: float) -> str:
    """Bytes in the unit that suits them.

    >>> size(220), size(5184), size(2097152)
    ('220 B', '5.06 KiB', '2 MiB')
    """
    if value < 1024:
        return f"{value:.0f} B"
    if value < 1 << 20:
        return f"{value / 1024:.3g} KiB" if value < 1024 * 1000 else f"{value / 1024:,.0f} KiB"
    return f"{value / (1 << 20):.3g} MiB"


def count(value: float) -> str:
    """A count with its thousands apart.

    >>> count(425455)
    '425,455'
    """
    return f"{value:,.0f}"


def percent(value: float) -> str:
    """A fraction as a percentage.

    >>> percent(0.9175)
    '91.75 %'
    """
    return f"{100 * value:.4g} %"


def ending(text: str, longest: int) -> str:
    """The end of a text that is too long.

    >>> ending("model/conv2d_4/BiasAdd", 12)
    '…d_4/BiasAdd'
    """
    return text if len(text) <= longest else "…" + text[1 - longest :]


def steps(low: float, high: float) -> list[float]:
    """Round values from at or below `low` to at or above `high`.

    >>> steps(0.7675, 0.8275)
    [0.76, 0.78, 0.8, 0.82, 0.84]
    """
    step = ticks(high - low, wanted=3)[1:2] or [1.0]
    first, last = math.floor(low / step[0] + 1e-9), math.ceil(high / step[0] - 1e-9)
    return [round(step[0] * i, 10) for i in range(first, last + 1)]


def ticks(highest: float, wanted: int = 4, base: int = 10) -> list[float]:
    """Round values from 0 up to at most `highest`.

    Args:
        highest: of the axis.
        wanted: about as many intervals.
        base: 10, or 2 for bytes.

    >>> ticks(9.3), ticks(2352, base=2)
    ([0.0, 2.0, 4.0, 6.0, 8.0], [0.0, 512.0, 1024.0, 1536.0, 2048.0])
    """
    if highest <= 0:
        return [0.0]
    raw = highest / wanted
    steps: tuple[float, ...] = (1.0, 2.0, 5.0)
    power = 1.0
    if base == 2:
        steps = (1.0,)
    while power > raw:
        power /= base
    while power * base <= raw:
        power *= base
    step = max((power * s for s in steps if power * s <= raw), default=power)
    found = [0.0]
    while found[-1] + step <= highest * (1 + 1e-9):
        found.append(found[-1] + step)
    return found

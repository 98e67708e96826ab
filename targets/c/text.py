"""Text that is safe inside generated C: identifiers, comments, numbers, arrays."""

from __future__ import annotations

import math
import re
import textwrap

import numpy as np

from edgekit.program.ir import Array

COLUMNS = 100

_KEYWORDS = frozenset(
    """auto break case char const continue default do double else enum extern float for goto if
    inline int long register restrict return short signed sizeof static struct switch typedef union
    unsigned void volatile while asm bool true false class new delete this template namespace
    private public protected operator try catch throw using virtual friend export main""".split()
)


def identifier(text: str, limit: int = 40) -> str:
    """A C identifier that resembles `text`; not necessarily unique.

    >>> identifier("model/conv2d_1;Relu*/"), identifier("3x3"), identifier("int"), identifier("é")
    ('model_conv2d_1_Relu', 'n3x3', 'n_int', 'n')
    """
    name = re.sub(r"[^A-Za-z0-9]+", "_", text).strip("_")[:limit].rstrip("_")
    if not name or name[0].isdigit():
        name = "n" + name
    return f"n_{name}" if name in _KEYWORDS else name


def comment(text: str, limit: int = 80) -> str:
    r"""Text for the inside of a C comment: one line of harmless ASCII.

    >>> comment('a */ system("x"); /* \n b')
    'a _/ system("x"); /_ _ b'
    """
    safe = re.sub(r"[^ -~]|[*\\?]", "_", text)
    return safe if len(safe) <= limit else safe[: limit - 3] + "..."


def number(value: int | float | np.generic, dtype: str = "") -> str:
    """A C literal; floats are float32 in hexadecimal, exact.

    >>> number(1.5), number(-3), number(-(2**31)), number(float("-inf"))
    ('0x1.8000000000000p+0f', '-3', 'INT32_MIN', '-EK_INFINITY')
    """
    if isinstance(value, bool | np.bool_):
        return "1" if value else "0"
    if isinstance(value, int | np.integer):
        integer = int(value)
        if dtype == "int64":
            return "INT64_MIN" if integer == -(2**63) else f"{integer}LL"
        return "INT32_MIN" if integer == -(2**31) else str(integer)
    real = float(np.float32(value))
    assert not math.isnan(real)
    if math.isinf(real):
        return "EK_INFINITY" if real > 0 else "-EK_INFINITY"
    return f"{real.hex()}f"


def array(data: Array, indent: str = "        ") -> str:
    """The elements of a flat initialiser, wrapped.

    >>> print(array(np.array([1, -2], np.int8), indent=""))
    1, -2
    """
    dtype = str(data.dtype.newbyteorder("="))
    if dtype == "float32":
        items = [number(v) for v in data.ravel()]
    elif dtype == "int64":
        items = [number(v, dtype) for v in data.ravel()]
    else:
        items = ["INT32_MIN" if v == -(2**31) else str(v) for v in data.ravel().tolist()]
    lines = textwrap.wrap(
        ", ".join(items), COLUMNS - len(indent), break_long_words=False, break_on_hyphens=False
    )
    return "\n".join(indent + line for line in lines)

"""The border to libraries that decode models.

They report malformed input by exceptions of all kinds, assertions included. Only calls of theirs
run inside :func:`third_party`: the same exceptions from edgekit's own code are bugs and must show.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from onnx_ir.passes import InvariantError

from edgekit.errors import InvalidModelError

_MALFORMED = (
    *(ArithmeticError, AssertionError, AttributeError, LookupError, RuntimeError, TypeError),
    *(ValueError, InvariantError),
)


@contextmanager
def third_party(problem: str) -> Iterator[None]:
    """Turn whatever a library raises on a malformed model into a typed error.

    Args:
        problem: what cannot be done with the model; the library's words follow.

    Raises:
        InvalidModelError: the library raised.

    >>> with third_party("net.onnx is no valid ONNX model"):
    ...     [].pop()
    Traceback (most recent call last):
    ...
    edgekit.errors.InvalidModelError: net.onnx is no valid ONNX model: pop from empty list
    """
    try:
        yield
    except _MALFORMED as error:
        raise InvalidModelError(f"{problem}: {error.__cause__ or error}") from error

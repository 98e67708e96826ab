"""Cases of the operators that move elements."""

from __future__ import annotations

from collections.abc import Iterator

from edgekit.program.ir import DType, TensorType
from edgekit.program.operators.base import Operator
from edgekit.program.operators.movement import (
    Concat,
    Pad,
    Reshape,
    ResizeNearest,
    Slice,
    Split,
    Transpose,
)
from tests.cases.case import Case, one_operator

DTYPES = tuple(DType)

Shape = tuple[int, ...]

SINGLE: list[tuple[str, Operator, Shape]] = [
    ("slice-run", Slice((0, 1, 0, 0), (1, 3, 5, 3), (1, 1, 1, 1)), (1, 4, 5, 3)),
    ("slice-corner", Slice((0, 1, 2, 1), (1, 3, 4, 2), (1, 1, 1, 1)), (1, 4, 5, 3)),
    ("slice-step", Slice((0, 1, 0, 2), (1, 4, 5, -1), (1, 2, 3, -1)), (1, 4, 5, 3)),
    ("slice-reverse", Slice((4,), (-1,), (-1,)), (5,)),
    ("slice-one", Slice((0, 2), (1, 3), (1, 1)), (1, 4)),
    ("slice-rank-6", Slice((1,) * 6, (3,) * 6, (1,) * 6), (3,) * 6),
    ("transpose-matrix", Transpose((1, 0)), (5, 7)),
    ("transpose-nchw", Transpose((0, 3, 1, 2)), (1, 4, 5, 3)),
    ("transpose-nhwc", Transpose((0, 2, 3, 1)), (1, 3, 4, 5)),
    ("transpose-inner-run", Transpose((0, 2, 1, 3)), (2, 3, 4, 5)),
    ("transpose-identity", Transpose((0, 1, 2)), (2, 3, 5)),
    ("transpose-rank-6", Transpose((5, 3, 1, 4, 2, 0)), (2, 3, 2, 3, 2, 3)),
    ("pad-image", Pad(((0, 0), (1, 2), (3, 0), (0, 0)), 7), (1, 3, 4, 5)),
    ("pad-channels", Pad(((0, 0), (0, 0), (0, 0), (1, 2)), -3), (1, 2, 3, 5)),
    ("pad-everywhere", Pad(((1, 1), (0, 2), (2, 1), (1, 3)), -128), (2, 3, 1, 5)),
    ("pad-nothing", Pad(((0, 0), (0, 0)), 0), (3, 5)),
    ("pad-rank-6", Pad(((1, 0),) * 6, 1), (2, 1, 2, 1, 2, 3)),
    ("resize-double", ResizeNearest((6, 10)), (1, 3, 5, 3)),
    ("resize-shrink", ResizeNearest((2, 3)), (2, 7, 5, 1)),
    ("resize-corners", ResizeNearest((7, 4), align_corners=True), (1, 3, 5, 2)),
    ("resize-centers", ResizeNearest((5, 9), half_pixel_centers=True), (1, 3, 4, 2)),
    ("resize-to-one", ResizeNearest((1, 1), align_corners=True), (1, 3, 4, 2)),
    ("split-channels", Split(3, (1, 3, 2)), (1, 2, 3, 6)),
    ("split-rows", Split(1, (2, 2)), (1, 4, 3, 5)),
    ("split-one", Split(0, (3,)), (3,)),
]

JOINED: list[tuple[str, int, tuple[Shape, ...]]] = [
    ("channels", 3, ((1, 2, 3, 1), (1, 2, 3, 5), (1, 2, 3, 2))),
    ("rows", 1, ((1, 2, 3, 5), (1, 1, 3, 5))),
    ("one", 0, ((4,),)),
    ("batch", 0, ((1, 3), (2, 3))),
]


def cases() -> list[Case]:
    """Every operator on every dtype that fits its fields."""
    return list(_cases())


def _cases() -> Iterator[Case]:
    for dtype in DTYPES:
        for label, operator, shape in SINGLE:
            yield Case(f"{label}-{dtype}", one_operator(operator, TensorType(shape, dtype)))
        for label, axis, shapes in JOINED:
            types = [TensorType(shape, dtype) for shape in shapes]
            yield Case(f"concat-{label}-{dtype}", one_operator(Concat(axis), *types))
        shape = TensorType((2, 3, 4), dtype)
        yield Case(f"reshape-{dtype}", one_operator(Reshape(shape=(4, 6)), shape))

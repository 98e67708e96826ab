"""Movement operators: shape rules, and equality with LiteRT's reference kernels to the bit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edgekit.program.ir import DType, TensorType
from edgekit.program.operators.base import Operator, OperatorError
from edgekit.program.operators.movement import (
    Concat,
    Pad,
    Reshape,
    ResizeNearest,
    Slice,
    Split,
    Transpose,
)
from tests.support.litert import LiteRT, TFLiteBuilder
from tests.support.oracle import assert_equals_litert
from tests.support.tflite_models import options

Shape = tuple[int, ...]

KINDS: list[tuple[str, dict[str, Any]]] = [
    ("int8", {"scale": 0.25, "zero_point": -7}),
    ("int16", {"scale": 0.25}),
    ("float32", {}),
]


def run_one(
    builtin: str,
    shapes: list[Shape],
    outputs: list[Shape],
    kind: tuple[str, dict[str, Any]],
    *constants: Any,
    options: Any = None,
    before: int = 0,
) -> None:
    """One builtin operator in both; the first `before` constants come in front of the inputs."""
    dtype, quantization = kind
    b = TFLiteBuilder()
    fed = [b.tensor(f"x{i}", s, dtype, **quantization) for i, s in enumerate(shapes)]
    fixed = [
        b.tensor(f"c{i}", np.shape(c), "int32", data=np.array(c, np.int32))
        for i, c in enumerate(constants)
    ]
    made = [b.tensor(f"y{i}", s, dtype, **quantization) for i, s in enumerate(outputs)]
    b.operator(builtin, [*fixed[:before], *fed, *fixed[before:]], made, options)
    assert_equals_litert(b.build(fed, made))


every_kind = pytest.mark.parametrize("kind", KINDS, ids=[k for k, _ in KINDS])


@pytest.mark.needs("litert")
@every_kind
class TestAgainstLiteRT:
    """Every builtin that moves elements, read from a file and run both ways."""

    @pytest.mark.parametrize("axis", [0, 1, 2, -1])
    def test_concat(self, kind: tuple[str, dict[str, Any]], axis: int) -> None:
        """Along every axis, parts of different sizes."""
        shapes = [[2, 3, 4], [2, 3, 4], [2, 3, 4]]
        for i, shape in enumerate(shapes):
            shape[axis] = i + 1
        y = [2, 3, 4]
        y[axis] = 6
        run_one(
            "CONCATENATION",
            [tuple(s) for s in shapes],
            [tuple(y)],
            kind,
            options=options("Concatenation", axis=axis),
        )

    def test_split(self, kind: tuple[str, dict[str, Any]]) -> None:
        """Into equal parts."""
        run_one(
            "SPLIT",
            [(1, 4, 6)],
            [(1, 4, 2)] * 3,
            kind,
            -1,
            before=1,
            options=options("Split", numSplits=3),
        )

    def test_split_v(self, kind: tuple[str, dict[str, Any]]) -> None:
        """Into given parts, one of them open."""
        run_one(
            "SPLIT_V",
            [(1, 7, 3)],
            [(1, 1, 3), (1, 4, 3), (1, 2, 3)],
            kind,
            [1, -1, 2],
            1,
            options=options("SplitV", numSplits=3),
        )

    def test_slice(self, kind: tuple[str, dict[str, Any]]) -> None:
        """A box with an open size."""
        run_one("SLICE", [(2, 5, 3)], [(1, 4, 3)], kind, [1, 1, 0], [1, -1, 3])

    @pytest.mark.parametrize(
        ("begin", "end", "strides", "masks", "shape"),
        [
            ([0, 1, 0], [2, 5, 3], [1, 2, 1], {}, (2, 2, 3)),
            ([0, -1, 2], [2, -6, -4], [1, -2, -1], {}, (2, 3, 3)),
            ([1, 9, 1], [0, 0, 0], [1, 1, 1], {"beginMask": 2, "endMask": 7}, (1, 5, 2)),
            ([0, 3, -1], [0, 0, -9], [1, -1, -2], {"beginMask": 3, "endMask": 3}, (2, 5, 2)),
            ([1, 2, -1], [2, 3, 0], [1, 1, 1], {"shrinkAxisMask": 7}, ()),
            ([0, -2, 0], [2, -1, 3], [1, 1, 2], {"shrinkAxisMask": 2}, (2, 2)),
            ([0, 1], [2, 3], [1, 1], {}, (2, 2, 3)),
        ],
    )
    def test_strided_slice(
        self,
        kind: tuple[str, dict[str, Any]],
        begin: list[int],
        end: list[int],
        strides: list[int],
        masks: dict[str, int],
        shape: Shape,
    ) -> None:
        """Steps of both signs, bounds outside, masks."""
        given = options("StridedSlice", **masks)
        run_one("STRIDED_SLICE", [(2, 5, 3)], [shape], kind, begin, end, strides, options=given)

    def test_pad(self, kind: tuple[str, dict[str, Any]]) -> None:
        """The padding is the zero point."""
        run_one("PAD", [(1, 3, 2, 3)], [(1, 6, 3, 3)], kind, [[0, 0], [1, 2], [0, 1], [0, 0]])

    @pytest.mark.parametrize(
        "permutation", [[0, 3, 1, 2], [3, 2, 1, 0], [0, 2, 1, 3], [-1, 0, 1, 2]]
    )
    def test_transpose(self, kind: tuple[str, dict[str, Any]], permutation: list[int]) -> None:
        """Permutations with and without contiguous runs."""
        shape = (2, 3, 4, 5)
        run_one("TRANSPOSE", [shape], [tuple(shape[k] for k in permutation)], kind, permutation)

    @pytest.mark.parametrize("shape", [[2, 12], [4, -1], [24]])
    def test_reshape(self, kind: tuple[str, dict[str, Any]], shape: list[int]) -> None:
        """With an open extent and without."""
        y = tuple(np.empty((2, 3, 4)).reshape(shape).shape)
        run_one("RESHAPE", [(2, 3, 4)], [y], kind, shape)

    @pytest.mark.parametrize("axes", [[], [0], [0, -2]])
    def test_squeeze(self, kind: tuple[str, dict[str, Any]], axes: list[int]) -> None:
        """All axes of size 1, and chosen ones."""
        y = np.empty((1, 3, 1, 4)).squeeze(tuple(axes) or None).shape
        run_one("SQUEEZE", [(1, 3, 1, 4)], [y], kind, options=options("Squeeze", squeezeDims=axes))

    @pytest.mark.parametrize("axis", [0, -1, 1])
    def test_expand_dims(self, kind: tuple[str, dict[str, Any]], axis: int) -> None:
        """In front, behind, between."""
        run_one("EXPAND_DIMS", [(3, 4)], [np.expand_dims(np.empty((3, 4)), axis).shape], kind, axis)

    @pytest.mark.parametrize("modes", [{}, {"alignCorners": True}, {"halfPixelCenters": True}])
    @pytest.mark.parametrize("size", [[7, 9], [2, 3], [1, 1], [4, 11], [3, 5]])
    def test_resize_nearest(
        self, kind: tuple[str, dict[str, Any]], size: list[int], modes: dict[str, bool]
    ) -> None:
        """Larger, smaller, equal, in every mode."""
        run_one(
            "RESIZE_NEAREST_NEIGHBOR",
            [(1, 3, 5, 2)],
            [(1, *size, 2)],
            kind,
            size,
            options=options("ResizeNearestNeighbor", **modes),
        )


@pytest.mark.needs("litert")
@pytest.mark.parametrize(
    ("dtype", "quantization", "value"),
    [("int8", {"scale": 0.5, "zero_point": 4}, -100), ("float32", {}, -2.5)],
)
def test_pad_with_a_value(dtype: str, quantization: dict[str, Any], value: float) -> None:
    """PADV2 takes the constant as it is."""
    b = TFLiteBuilder()
    x = b.tensor("x", (1, 3, 2, 2), dtype, **quantization)
    pads = b.tensor("p", (4, 2), "int32", data=np.array([[0, 0], [1, 0], [2, 2], [0, 1]], np.int32))
    fill = b.tensor("v", (1,), dtype, data=np.array([value], dtype), **quantization)
    y = b.tensor("y", (1, 4, 6, 3), dtype, **quantization)
    b.operator("PADV2", [x, pads, fill], [y])
    program = assert_equals_litert(b.build([x], [y]))
    operator = program.operations[0].operator
    assert isinstance(operator, Pad)
    assert operator.value == value


@pytest.mark.needs("litert")
@pytest.mark.parametrize("modes", [{}, {"alignCorners": True}, {"halfPixelCenters": True}])
def test_resize_indices_round_as_litert_does(modes: dict[str, bool]) -> None:
    """Every pair of widths up to 40: where float32 positions meet borders between pixels."""
    operator = ResizeNearest(
        (1, 1),
        align_corners=modes.get("alignCorners", False),
        half_pixel_centers=modes.get("halfPixelCenters", False),
    )
    for source in range(1, 41, 3):
        b = TFLiteBuilder()
        x = b.tensor("x", (1, 1, source, 1), "float32")
        results = []
        for target in range(1, 41):
            size = b.tensor(f"s{target}", (2,), "int32", data=np.array([1, target], np.int32))
            y = b.tensor(f"y{target}", (1, 1, target, 1), "float32")
            b.operator(
                "RESIZE_NEAREST_NEIGHBOR", [x, size], [y], options("ResizeNearestNeighbor", **modes)
            )
            results.append(y)
        positions = np.arange(source, dtype=np.float32).reshape(1, 1, source, 1)
        for target, want in enumerate(LiteRT(b.build([x], results))(positions), start=1):
            got = operator.indices(source, target)
            assert got.tolist() == want.ravel().astype(int).tolist(), (source, target)


def image(*shape: int, dtype: DType = DType.INT8) -> TensorType:
    """A tensor type."""
    return TensorType(shape, dtype)


@pytest.mark.parametrize(
    ("operator", "inputs", "message"),
    [
        (Concat(2), [image(2, 3)], "axis 2 is outside"),
        (Concat(0), [image(2, 3), image(2, 4)], "must equal"),
        (Concat(0), [image(2, 3), image(2, 3, 1)], "rank 2"),
        (Concat(0), [image(2), image(2, dtype=DType.INT16)], "input 1 is int16"),
        (Concat(0), [], "at least one"),
        (Split(0, (1, 1)), [image(3)], "add up to 3"),
        (Split(1, (3,)), [image(3)], "axis 1 is outside"),
        (Split(0, (4, -1)), [image(3)], "positive"),
        (Split(0, ()), [image(3)], "positive"),
        (Slice((0,), (4,), (1,)), [image(3)], "axis 0"),
        (Slice((2,), (2,), (1,)), [image(3)], "at least one"),
        (Slice((-1,), (2,), (1,)), [image(3)], "within 0…2"),
        (Slice((2,), (-2,), (-1,)), [image(3)], "within 0…2"),
        (Slice((0,), (3,), (0,)), [image(3)], "must not contain 0"),
        (Slice((0, 0), (1, 1), (1, 1)), [image(3)], "one per axis"),
        (Pad(((0, -1),)), [image(3)], "negative"),
        (Pad(((0, 1),), 128), [image(3)], "does not fit int8"),
        (Pad(((0, 1),), 0.5), [image(3)], "does not fit int8"),
        (Pad(((0, 1),)), [image(3, 3)], "one per axis"),
        (Reshape((2, 2)), [image(3)], "3 elements"),
        (Reshape((-1, -3)), [image(3)], "3 elements"),
        (Transpose((0, 0)), [image(3, 3)], "each of 0…1 once"),
        (Transpose(tuple(range(7))), [image(*[1] * 7)], "at most 6"),
        (ResizeNearest((0, 3)), [image(1, 3, 3, 1)], "positive"),
        (ResizeNearest((3, 3)), [image(3, 3, 1)], "rank 4"),
    ],
)
def test_refused(operator: Operator, inputs: list[TensorType], message: str) -> None:
    """Shape rules say what would be right."""
    with pytest.raises(OperatorError, match=message):
        operator.infer(*inputs)


def test_split_then_concat_is_the_identity() -> None:
    """Splitting and joining are inverse."""
    x = np.arange(2 * 6 * 3, dtype=np.int16).reshape(2, 6, 3)
    parts = Split(1, (1, 3, 2)).reference(x)
    assert [p.shape[1] for p in parts] == [1, 3, 2]
    assert np.array_equal(Concat(1).reference(*parts)[0], x)


def test_references_are_contiguous() -> None:
    """Results can be handed to C as they are."""
    x = np.zeros((2, 4, 4, 2), np.int8)
    for operator in (
        Transpose((3, 1, 2, 0)),
        Split(3, (1, 1)),
        Slice((0,) * 4, (1,) * 4, (1,) * 4),
    ):
        assert all(y.flags.c_contiguous for y in operator.reference(x))

"""Tracking of axes: every rearrangement against NumPy on real elements."""

from __future__ import annotations

import math

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from edgekit.program.lowering.arrangement import Arrangement


class Tracked:
    """An array as the source sees it, and as the Program stores it, flat."""

    def __init__(self, source: np.ndarray) -> None:
        self.source = source
        self.stored = source.reshape(-1)
        self.arrangement = Arrangement.plain(source.shape)

    def move(self, axes: tuple[int, ...]) -> None:
        """Store transposed: what a convolution does to its result."""
        self.stored = self.source.transpose(axes).reshape(-1)
        self.arrangement = Arrangement.permuted(self.source.shape, axes)

    def transpose(self, permutation: tuple[int, ...]) -> None:
        self.source = self.source.transpose(permutation)
        self.arrangement = self.arrangement.transposed(permutation)

    def reshape(self, shape: tuple[int, ...]) -> None:
        self.source = self.source.reshape(shape)
        arrangement = self.arrangement.reshaped(shape)
        if arrangement is None:
            self.stored = self.source.reshape(-1)
            arrangement = Arrangement.plain(shape)
        self.arrangement = arrangement

    def check(self) -> None:
        """The arrangement leads from the stored elements back to the source."""
        a = self.arrangement
        assert a.shape == self.source.shape
        assert math.prod(a.atoms) == self.source.size
        assert [math.prod(a.atoms[k] for k in group) for group in a.groups] == list(a.shape)
        back = self.stored.reshape(a.stored).transpose(np.argsort(a.order)).reshape(a.shape)
        np.testing.assert_array_equal(back, self.source)
        if a.axes is not None:
            np.testing.assert_array_equal(self.source.transpose(a.axes).reshape(-1), self.stored)
            assert a.lies_as(a.axes)


def shapes_of(size: int) -> st.SearchStrategy[tuple[int, ...]]:
    """Shapes with `size` elements and up to five axes, ones among them."""

    @st.composite
    def shape(draw: st.DrawFn) -> tuple[int, ...]:
        rest, extents = size, []
        for _ in range(draw(st.integers(0, 4))):
            divisors = [d for d in range(1, rest + 1) if rest % d == 0]
            extents.append(draw(st.sampled_from(divisors)))
            rest //= extents[-1]
        return (*extents, rest)

    return shape()


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.data())
def test_any_sequence_of_moves(data: st.DataObject) -> None:
    size = data.draw(st.sampled_from([1, 6, 24, 60]))
    shape = data.draw(shapes_of(size))
    tracked = Tracked(np.arange(size).reshape(shape))
    for _ in range(data.draw(st.integers(1, 6))):
        rank = tracked.source.ndim
        match data.draw(st.sampled_from(["move", "transpose", "reshape"])):
            case "reshape":
                tracked.reshape(data.draw(shapes_of(size)))
            case kind:
                permutation = tuple(data.draw(st.permutations(range(rank))))
                getattr(tracked, kind)(permutation)
        tracked.check()


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.data())
def test_gather_orders_the_columns_of_weights(data: st.DataObject) -> None:
    shape = tuple(data.draw(st.lists(st.integers(1, 4), min_size=2, max_size=4)))
    axes = (0, *(1 + a for a in data.draw(st.permutations(range(len(shape) - 1)))))
    tracked = Tracked(np.arange(math.prod(shape)).reshape(shape))
    tracked.move(axes)
    tracked.reshape((shape[0], -1) if 0 in shape else (shape[0], math.prod(shape[1:])))
    assert tracked.arrangement.together([1])
    index = tracked.arrangement.gather([1])
    np.testing.assert_array_equal(tracked.source[:, index].reshape(-1), tracked.stored)


def test_a_reshape_that_cuts_across_needs_a_move() -> None:
    image = Arrangement.permuted((1, 6, 7, 9), (0, 2, 3, 1))
    assert image.reshaped((9, 42)) is None
    assert image.reshaped((1, 2, 3, 63)) is not None


def test_axes_that_were_split_apart_have_no_order() -> None:
    # Channels in two groups, shuffled: no order of the four axes describes it.
    shuffled = Arrangement.permuted((1, 6, 4), (0, 2, 1)).reshaped((1, 2, 3, 4))
    assert shuffled is not None
    shuffled = shuffled.transposed((0, 2, 1, 3)).reshaped((1, 6, 4))
    assert shuffled is not None
    assert shuffled.axes is None
    assert not shuffled.lies_as((0, 2, 1))

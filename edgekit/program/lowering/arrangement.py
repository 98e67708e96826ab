"""How the elements of an ONNX value lie in a Program tensor.

ONNX counts channels before rows; Programs count them last. Instead of transposing at every border,
the lowering remembers for each value in which order its axes really lie, and transposes only where
an operator cannot take them so.

A shape is split into *atoms*: factors of its extents that never need to be split further. Atoms are
listed in the order of the source; `order` lists them in the order of the Program. Reshapes regroup
(or split) atoms, transposes permute groups of them; neither moves an element.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Shape = tuple[int, ...]

CHANNELS_LAST = {3: (0, 2, 1), 4: (0, 2, 3, 1)}
"""Order of axes in which convolutions and pools take tensors, by rank."""


def image_pair(values: Shape, missing: int) -> tuple[int, int]:
    """Numbers of the spatial axes as those of an image's rows and columns.

    Args:
        values: one or two; one spatial axis is the width of an image of height 1.
        missing: the number for the rows of such an image.

    >>> image_pair((5,), 1), image_pair((4, 5), 1)
    ((1, 5), (4, 5))
    """
    return (missing, values[0]) if len(values) == 1 else (values[0], values[1])


@dataclass(frozen=True)
class Arrangement:
    """A source shape and the place of its elements.

    Attributes:
        shape: of the source.
        atoms: extents in source order; consecutive ones multiply up to the extents of `shape`.
        order: ``order[k]`` is the atom that the Program counts k-th; a permutation.

    >>> image = Arrangement.permuted((1, 3, 4, 5), (0, 2, 3, 1))
    >>> image.reshaped((1, 60)).axes, image.stored
    (None, (1, 4, 5, 3))
    >>> image.transposed((0, 2, 3, 1)).axes
    (0, 1, 2, 3)
    """

    shape: Shape
    atoms: Shape
    order: Shape

    @classmethod
    def plain(cls, shape: Shape) -> Arrangement:
        """Elements in the source's own order."""
        return cls(shape, shape, tuple(range(len(shape))))

    @classmethod
    def permuted(cls, shape: Shape, axes: Sequence[int]) -> Arrangement:
        """Axis ``axes[k]`` of the source is counted k-th."""
        return cls(shape, shape, tuple(axes))

    @property
    def stored(self) -> Shape:
        """Extents of the atoms in the Program's order."""
        return tuple(self.atoms[a] for a in self.order)

    @property
    def groups(self) -> tuple[Shape, ...]:
        """The atoms of every source axis.

        >>> Arrangement((6, 1), (2, 3, 1), (1, 0, 2)).groups
        ((0, 1), (2,))
        """
        groups, next_atom = [], 0
        for extent in self.shape:
            first, product = next_atom, 1
            while product != extent or next_atom == first:
                product *= self.atoms[next_atom]
                next_atom += 1
            groups.append(tuple(range(first, next_atom)))
        # Atoms of extent 1 that are left belong to the last axis, or to none in a scalar.
        if groups and next_atom < len(self.atoms):
            groups[-1] = (*groups[-1], *range(next_atom, len(self.atoms)))
        return tuple(groups)

    def _significant(self, atoms: Sequence[int]) -> list[int]:
        return [a for a in atoms if self.atoms[a] != 1]

    def lies_as(self, axes: Sequence[int]) -> bool:
        """Whether the elements already lie as if the source were transposed by `axes`."""
        groups = self.groups
        wanted = [atom for axis in axes for atom in groups[axis]]
        return self._significant(wanted) == self._significant(self.order)

    @property
    def axes(self) -> Shape | None:
        """The permutation of source axes in which the elements lie, None where there is none.

        Axes of extent 1 keep their place as far as possible.
        """
        plain = tuple(range(len(self.shape)))
        if self.lies_as(plain):
            return plain
        groups, order = self.groups, self._significant(self.order)
        rank = {a: k for k, a in enumerate(order)}
        keys = []
        for axis, group in enumerate(groups):
            atoms = self._significant(group)
            keys.append((min((rank[a] for a in atoms), default=None), axis))
        moving = sorted((k, axis) for k, axis in keys if k is not None)
        ones = [axis for k, axis in keys if k is None]
        result = [axis for _, axis in moving]
        for axis in ones:
            result.insert(min(axis, len(result)), axis)
        return tuple(result) if self.lies_as(result) else None

    def transposed(self, permutation: Sequence[int]) -> Arrangement:
        """The source transposed; no element moves."""
        groups = self.groups
        new_order = [atom for axis in permutation for atom in groups[axis]]
        place = {atom: k for k, atom in enumerate(new_order)}
        return Arrangement(
            tuple(self.shape[axis] for axis in permutation),
            tuple(self.atoms[atom] for atom in new_order),
            tuple(place[atom] for atom in self.order),
        )

    def reshaped(self, shape: Shape) -> Arrangement | None:
        """The source reshaped; None where an axis is cut across atoms and elements must move."""
        if self.lies_as(range(len(self.shape))):
            return Arrangement.plain(shape)
        refined = _refine(self._atoms_without_ones(), shape)
        if refined is None:
            return None
        pieces, atoms = refined
        significant = self._significant(range(len(self.atoms)))
        split = dict(zip(significant, pieces, strict=True))
        order = [piece for atom in self._significant(self.order) for piece in split[atom]]
        # Ones go to the front: where they lie does not matter.
        ones = [k for k in range(len(atoms)) if k not in set(order)]
        return Arrangement(shape, atoms, (*ones, *order))

    def _atoms_without_ones(self) -> list[int]:
        return [d for d in self.atoms if d != 1]

    def gather(self, axes: Sequence[int]) -> NDArray[np.int64]:
        """For every element in Program order, its index in the flattened source axes `axes`.

        The atoms of `axes` must lie together.
        """
        groups = self.groups
        members = {atom for axis in axes for atom in groups[axis]}
        extents = [self.atoms[a] for a in sorted(members)]
        place = {atom: k for k, atom in enumerate(sorted(members))}
        index = np.arange(math.prod(extents)).reshape(extents)
        return index.transpose([place[a] for a in self.order if a in members]).reshape(-1)

    def together(self, axes: Sequence[int]) -> bool:
        """Whether the elements of the axes outside `axes` all lie before those of `axes`."""
        groups = self.groups
        members = {atom for axis in axes for atom in groups[axis]}
        inside = [a in members for a in self._significant(self.order)]
        return inside == sorted(inside)


def _refine(atoms: Sequence[int], shape: Shape) -> tuple[list[list[int]], Shape] | None:
    """Split atoms so that `shape` groups them.

    Args:
        atoms: extents in source order, none of them 1.
        shape: as many elements.

    Returns:
        Indices of the pieces of every atom, and the extents of the pieces, ones of `shape`
        included; None where the borders of both cannot be reconciled.

    >>> _refine([6, 4], (2, 12))
    ([[0, 1], [2]], (2, 3, 4))
    >>> _refine([6, 4], (4, 6)) is None
    True
    """
    pieces: list[list[int]] = [[] for _ in atoms]
    extents: list[int] = []
    left = list(atoms)
    current = 0
    for extent in shape:
        if extent == 1:
            extents.append(1)
            continue
        remaining = extent
        while remaining > 1:
            if current == len(left):
                return None
            piece = math.gcd(left[current], remaining)
            # A piece must use up the rest of the atom or the rest of the axis.
            if piece not in (left[current], remaining):
                return None
            pieces[current].append(len(extents))
            extents.append(piece)
            remaining //= piece
            left[current] //= piece
            if left[current] == 1:
                current += 1
    return pieces, tuple(extents)

"""What rounding is judged by: the squared error of a layer's sums over the calibration data.

A layer computes ``Σ_k w[r, k]·x[k]`` for every row r and every input x that it meets: for a
convolution, every patch. Over all of them the error of other weights v is a quadratic form::

    error(v)[r] = mean |w[r]·x − v[r]·x̃|²  =  v H vᵀ − 2 v·t + c

with the Gram matrix H of the inputs x̃ that the quantised layer meets. Where x̃ = x, this is
``(v − w) H (v − w)ᵀ``. Where the layers before are quantised already, x̃ differs from x, and
rounding makes up for some of their error (the asymmetric reconstruction of AdaRound).

Sources: Nagel et al. 2020, arXiv 2004.10568; Frantar et al. 2022, arXiv 2210.17323.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from edgekit.errors import InvalidDataError
from edgekit.model.nodes import Array

Float64 = NDArray[np.float64]

MAX_COLUMNS = 8192
"""Most weights of a row whose Gram matrix is formed: half a gigabyte."""

_FEW = 3
"""Inputs are few where their number times this is not above that of a row's weights."""

_CHUNK = 2**22
"""Most numbers of patches that are held at once, in float64."""


@dataclass(frozen=True, eq=False)
class Objective:
    """The quadratic error of a layer's rows; rows of group g see the inputs of group g.

    Attributes:
        gram: float64 [G, K, K], mean of x̃ x̃ᵀ.
        linear: float64 [R, K], t above.
        constant: float64 [R], c above: the mean square of what the row should compute.
        mean: float64 [G, K], mean of x̃.
        target_mean: float64 [R], mean of what the row should compute.
        samples: how many inputs were averaged.
        root: float64 [G, N, K] with ``gram = rootᵀ root``, where N is far below K: products with
            it are cheaper. None elsewhere.
    """

    gram: Float64
    linear: Float64
    constant: Float64
    mean: Float64
    target_mean: Float64
    samples: int
    root: Float64 | None = None

    @classmethod
    def symmetric(cls, weights: Array, inputs: Array) -> Objective:
        """Of one input for both.

        Args:
            weights: [R, K].
            inputs: [N, K], or [N, G, K] for groups.

        >>> objective = Objective.symmetric(np.eye(2), np.array([[1.0, 2.0]]))
        >>> objective.error(np.array([[1.0, 0.0], [0.0, 0.0]])).tolist()
        [0.0, 4.0]
        """
        moments = Moments()
        shaped = inputs.reshape(inputs.shape[0], -1, weights.shape[1])
        moments.update(shaped, shaped)
        return moments.objective(weights)

    def _grouped(self, rows: Array) -> Array:
        """[R, K] as [G, R/G, K]."""
        groups, columns = self.mean.shape
        return rows.reshape(groups, -1, columns)

    def error(self, rows: Array) -> Float64:
        """Mean squared error of every row, float64 [R]; never negative."""
        rows = rows.astype(np.float64)
        products = (self._grouped(rows) @ self.gram).reshape(rows.shape)
        error = np.einsum("rk,rk->r", products - 2 * self.linear, rows) + self.constant
        return np.asarray(np.maximum(error, 0.0))

    def residual(self, rows: Array) -> Float64:
        """``v H − t``, half of the error's gradient, [R, K]."""
        product = (self._grouped(rows) @ self.gram).reshape(rows.shape)
        return np.asarray(product - self.linear)

    def bias_shift(self, rows: Array) -> Float64:
        """What a bias must gain for sums of mean error zero, [R].

        The correction of Nagel et al. 2019, arXiv 1906.04721, with measured means.
        """
        sums = np.einsum("grk,gk->gr", self._grouped(rows.astype(np.float64)), self.mean)
        return np.asarray(self.target_mean - sums.reshape(-1))

    def reordered(self, order: Array) -> Objective:
        """With columns ``[order]``."""
        return replace(
            self,
            gram=self.gram[:, order][:, :, order],
            linear=self.linear[:, order],
            mean=self.mean[:, order],
            root=None if self.root is None else self.root[:, :, order],
        )

    @property
    def diagonal(self) -> Float64:
        """Mean square of every input, per row: float64 [R, K]."""
        groups, columns = self.mean.shape
        squares = np.diagonal(self.gram, axis1=1, axis2=2)
        per_group = self.linear.shape[0] // groups
        return np.repeat(squares.reshape(groups, columns), per_group, axis=0)


class Moments:
    """Collects the moments of a layer's inputs, batch after batch, in float64.

    Matrix products run in BLAS: their last bits depend on its build and its number of threads.
    """

    def __init__(self) -> None:
        self.samples = 0
        self._own: Float64 | None = None
        self._cross: Float64 | None = None
        self._target: Float64 | None = None
        self._means: tuple[Float64, Float64] | None = None
        self._kept: list[Float64] = []

    def update(self, real: Array, quantised: Array) -> None:
        """Take inputs into account.

        Args:
            real: what the float layer reads, [N, G, K].
            quantised: what the quantised layer reads, of the same shape; the same array where it
                is the same.

        Raises:
            InvalidDataError: rows too long for a Gram matrix, or numbers that are not finite.
        """
        count, groups, columns = real.shape
        if columns > MAX_COLUMNS:
            raise InvalidDataError(
                f"rows of {columns} weights are too long for their inputs' Gram matrix, "
                f"must be {MAX_COLUMNS} at most; choose the method rtn, mse or percentile"
            )
        if not (np.isfinite(real).all() and np.isfinite(quantised).all()):
            raise InvalidDataError("calibration data makes a layer's input infinite or NaN")
        if self._own is None or self._means is None:
            self._own, self._cross, self._target = (
                np.zeros((groups, columns, columns)) for _ in range(3)
            )
            self._means = np.zeros((groups, columns)), np.zeros((groups, columns))
        assert self._cross is not None
        assert self._target is not None
        step = max(1, _CHUNK // (groups * columns))
        for start in range(0, count, step):
            # [G, n, K]
            x = real[start : start + step].transpose(1, 0, 2).astype(np.float64)
            same = quantised is real
            seen = x if same else quantised[start : start + step].transpose(1, 0, 2).astype(float)
            self._keep(seen)
            own = seen.transpose(0, 2, 1) @ seen
            self._own += own
            self._cross += own if same else x.transpose(0, 2, 1) @ seen
            self._target += own if same else x.transpose(0, 2, 1) @ x
            self._means[0][:] += x.sum(axis=1)
            self._means[1][:] += seen.sum(axis=1)
        self.samples += count

    def _keep(self, seen: Float64) -> None:
        """Remember the inputs themselves while they are few."""
        count = seen.shape[1] + sum(part.shape[1] for part in self._kept)
        if self.samples + seen.shape[1] > count or _FEW * count > seen.shape[2]:
            # Some were dropped already, or these are too many.
            self._kept.clear()
        else:
            self._kept.append(seen)

    def objective(self, weights: Array) -> Objective:
        """The error of rows that should compute what `weights` [R, K] compute in float."""
        assert self._own is not None
        assert self._cross is not None
        assert self._target is not None
        assert self._means is not None
        groups, columns = self._means[0].shape
        rows = weights.astype(np.float64).reshape(groups, -1, columns)
        real_mean, mean = (m / self.samples for m in self._means)
        target = self._target / self.samples
        return Objective(
            gram=self._own / self.samples,
            linear=(rows @ (self._cross / self.samples)).reshape(weights.shape),
            constant=np.einsum("grk,gkl,grl->gr", rows, target, rows, optimize=True).reshape(-1),
            mean=mean,
            target_mean=np.einsum("grk,gk->gr", rows, real_mean).reshape(-1),
            samples=self.samples,
            root=self._root(),
        )

    def _root(self) -> Float64 | None:
        if sum(part.shape[1] for part in self._kept) != self.samples:
            return None
        return np.asarray(np.concatenate(self._kept, axis=1) / np.sqrt(self.samples))

"""The linear memory of a Legendre memory unit: its continuous system and two discretisations.

Source: Voelker, Kajić, Eliasmith 2019, "Legendre Memory Units: continuous-time representation in
recurrent neural networks", equations 1 and 2.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from edgekit.errors import UsageError

Discretization = Literal["zoh", "euler"]

DISCRETIZATIONS: tuple[Discretization, ...] = ("zoh", "euler")

Matrix = NDArray[np.float64]


def continuous(order: int, theta: float) -> tuple[Matrix, Matrix]:
    """A and B of ``dm/dt = A m + B u``, where m holds u over the last `theta` time units.

    Args:
        order: d, the number of Legendre polynomials.
        theta: length of the remembered window, in the unit of time.

    Returns:
        A[d,d] and B[d], both already divided by `theta`.

    Raises:
        UsageError: `order` below 1, or `theta` that is not positive and finite.

    >>> a, b = continuous(2, 1.0)
    >>> a.tolist(), b.tolist()
    ([[-1.0, -1.0], [3.0, -3.0]], [1.0, -3.0])
    """
    if order < 1:
        raise UsageError(f"order is {order}, must be 1 at least")
    if not (theta > 0 and np.isfinite(theta)):
        raise UsageError(f"theta is {theta}, must be positive and finite")
    i, j = np.arange(order)[:, None], np.arange(order)[None, :]
    signs = np.where(i < j, -1.0, (-1.0) ** (i - j + 1))
    return (2 * i + 1) * signs / theta, (2 * i[:, 0] + 1) * (-1.0) ** i[:, 0] / theta


def discrete(
    order: int, theta: float, *, dt: float = 1.0, method: Discretization = "zoh"
) -> tuple[Matrix, Matrix]:
    """Ā and B̄ of ``m[t] = Ā m[t-1] + B̄ u[t]``.

    Args:
        order: d.
        theta: length of the remembered window, in the unit of `dt`.
        dt: length of a step.
        method: ``zoh`` holds u over a step and is exact for such an input, ``euler`` takes
            ``I + A dt`` and ``B dt``, which is stable only where `theta` is long enough.

    Returns:
        Ā[d,d] and B̄[d].

    Raises:
        UsageError: impossible arguments, or an Euler step that lets the memory grow without bound.

    >>> a, b = discrete(1, 2.0)
    >>> round(float(a[0, 0]), 6), round(float(b[0]), 6)  # exp(-1/2) and 1 - exp(-1/2)
    (0.606531, 0.393469)
    """
    if method not in DISCRETIZATIONS:
        raise UsageError(f"method is {method!r}, must be {' or '.join(DISCRETIZATIONS)}")
    if not (dt > 0 and np.isfinite(dt)):
        raise UsageError(f"dt is {dt}, must be positive and finite")
    a, b = continuous(order, theta)
    if method == "euler":
        step = np.eye(order) + a * dt
        radius = float(np.abs(np.linalg.eigvals(step)).max())
        if radius >= 1:
            raise UsageError(
                f"an Euler step of order {order}, theta {theta:g}, dt {dt:g} grows by {radius:.3g} "
                "a step, must shrink: a longer theta, a lower order or method='zoh' would do"
            )
        return step, b * dt
    both = np.zeros((order + 1, order + 1))
    both[:order, :order], both[:order, order] = a, b
    exponential = torch.linalg.matrix_exp(torch.from_numpy(both * dt)).numpy()
    return exponential[:order, :order].copy(), exponential[:order, order].copy()


def reconstruction(order: int, theta: float, delays: Matrix) -> Matrix:
    """Weights that read the input `delays` ago out of the memory: shifted Legendre polynomials.

    Args:
        order: d.
        theta: length of the remembered window.
        delays: how long ago, each from 0 to `theta`.

    Returns:
        Weights[len(delays), d]: ``u(t - delay) ≈ Σ_i weights[:, i] m_i(t)``.

    >>> reconstruction(3, 10.0, np.array([0.0, 10.0])).tolist()
    [[1.0, -1.0, 1.0], [1.0, 1.0, 1.0]]
    """
    position = 2 * np.asarray(delays, np.float64) / theta - 1
    return np.asarray(np.polynomial.legendre.legvander(position, order - 1), np.float64)

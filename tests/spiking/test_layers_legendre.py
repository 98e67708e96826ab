"""The Legendre memory: its matrices by hand and by scipy, and how well it remembers."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from edgekit.errors import UsageError

pytestmark = [pytest.mark.torch, pytest.mark.needs("torch", "sklearn")]  # which brings scipy

Array = NDArray[Any]

BY_HAND = {
    1: ([[-1.0]], [1.0]),
    2: ([[-1.0, -1.0], [3.0, -3.0]], [1.0, -3.0]),
    3: ([[-1.0, -1.0, -1.0], [3.0, -3.0, -3.0], [-5.0, 5.0, -5.0]], [1.0, -3.0, 5.0]),
}
"""theta·A and theta·B: (2i+1)·(−1 above the diagonal, (−1)^(i−j+1) elsewhere), (2i+1)(−1)^i."""


@pytest.mark.parametrize("order", BY_HAND)
@pytest.mark.parametrize("theta", [1.0, 0.5, 20.0])
def test_the_continuous_system(order: int, theta: float) -> None:
    from edgekit.spiking.layers.legendre import continuous

    a, b = continuous(order, theta)
    wanted_a, wanted_b = (np.array(part) / theta for part in BY_HAND[order])
    np.testing.assert_array_equal(a, wanted_a)
    np.testing.assert_array_equal(b, wanted_b)


@pytest.mark.parametrize("order", [1, 2, 3, 5, 8])
def test_it_is_the_pade_approximant_of_a_delay(order: int) -> None:
    """Read at theta, its transfer function is the approximant [d-1/d] of exp(-theta s)."""
    from scipy.interpolate import pade

    from edgekit.spiking.layers.legendre import continuous, reconstruction

    theta = 2.0
    a, b = continuous(order, theta)
    weights = reconstruction(order, theta, np.array([theta]))[0]
    taylor = [(-theta) ** k / math.factorial(k) for k in range(2 * order)]
    numerator, denominator = pade(taylor, order, order - 1)
    for s in (0.1j, 1j, 3j, 0.5 + 2j):
        given = weights @ np.linalg.solve(s * np.eye(order) - a, b)
        assert abs(given - numerator(s) / denominator(s)) < 1e-12


@pytest.mark.parametrize("order", [1, 2, 6, 18])
@pytest.mark.parametrize(("theta", "dt"), [(13.4, 1.0), (20.0, 1.0), (0.7, 0.05)])
def test_zero_order_hold(order: int, theta: float, dt: float) -> None:
    """As scipy discretises, and as the exponential of [[A, B], [0, 0]] dt, to float64 rounding."""
    from scipy.linalg import expm
    from scipy.signal import cont2discrete

    from edgekit.spiking.layers.legendre import continuous, discrete

    a, b = discrete(order, theta, dt=dt)
    system = continuous(order, theta)
    wanted_a, wanted_b, *_ = cont2discrete(
        (system[0], system[1][:, None], np.eye(order), np.zeros((order, 1))), dt, method="zoh"
    )
    np.testing.assert_allclose(a, wanted_a, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(b, wanted_b[:, 0], rtol=1e-10, atol=1e-12)
    both = np.zeros((order + 1, order + 1))
    both[:order] = np.column_stack(system)
    exact = expm(both * dt)
    np.testing.assert_allclose(np.column_stack([a, b]), exact[:order], rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(("order", "theta", "dt"), [(1, 2.0, 1.0), (4, 60.0, 1.0), (6, 5.0, 0.03)])
def test_euler(order: int, theta: float, dt: float) -> None:
    """I + A dt and B dt."""
    from scipy.signal import cont2discrete

    from edgekit.spiking.layers.legendre import continuous, discrete

    system = continuous(order, theta)
    wanted_a, wanted_b, *_ = cont2discrete(
        (system[0], system[1][:, None], np.eye(order), np.zeros((order, 1))), dt, method="euler"
    )
    a, b = discrete(order, theta, dt=dt, method="euler")
    np.testing.assert_allclose(a, wanted_a, rtol=0, atol=1e-15)
    np.testing.assert_allclose(b, wanted_b[:, 0], rtol=0, atol=1e-15)


@pytest.mark.parametrize("order", [1, 4, 8])
def test_euler_is_refused_where_it_grows(order: int) -> None:
    """The shortest theta that is taken keeps an impulse bounded; a little less is refused."""
    from edgekit.spiking.layers.legendre import continuous, discrete

    poles = np.linalg.eigvals(continuous(order, 1.0)[0])
    shortest = float((np.abs(poles) ** 2 / (-2 * poles.real)).max())  # |1 + p/theta| = 1
    a, b = discrete(order, shortest * 1.001, method="euler")
    assert np.abs(np.linalg.matrix_power(a, 100_000) @ b).max() < 1e-6
    for theta in (shortest * 0.999, shortest / 10):
        with pytest.raises(UsageError, match=rf"order {order}, theta .* grows by .* must shrink"):
            discrete(order, theta, method="euler")
    assert np.abs(np.linalg.eigvals(discrete(order, shortest / 10)[0])).max() < 1


ERRORS = {
    ("zoh", 20.0): (0.87, 0.64, 0.43, 0.115, 0.021, 0.012),
    ("zoh", 50.0): (0.87, 0.64, 0.43, 0.114, 0.014, 0.0034),
    ("zoh", 100.0): (0.87, 0.64, 0.43, 0.114, 0.0131, 0.0013),
    ("euler", 100.0): (0.87, 0.64, 0.421, 0.261),
    ("euler", 200.0): (0.87, 0.64, 0.421, 0.123),
}
"""Relative error of the remembered signal, rounded up, for the orders 2, 4, 6 and so on.

It falls with the order until what is left is the error of the steps, which falls with theta."""


@pytest.mark.parametrize(("method", "theta"), ERRORS)
def test_a_delayed_signal_is_reconstructed(method: Any, theta: float) -> None:
    """The whole window of a signal of up to two cycles a window, against its closed form.

    The error is root mean square over all delays in the window and all times, over that of the
    signal. A held sample stands for its step's middle: sample k steps ago is read at k + 1/2.
    """
    from edgekit.spiking.layers.legendre import discrete, reconstruction

    times = np.arange(int(9 * theta))
    late, ages = times[int(5 * theta) :], np.arange(int(theta))

    def signal(t: Array) -> Array:
        return sum(np.sin(2 * np.pi * c * t / theta + k) for k, c in enumerate((0.62, 1.06, 2.0)))

    values, wanted = signal(times), signal(late[:, None] - ages)
    for index, stated in enumerate(ERRORS[method, theta]):
        order = 2 * index + 2
        a, b = discrete(order, theta, method=method)
        memory, held = np.zeros(order), []
        for value in values:
            memory = a @ memory + b * value
            held.append(memory)
        found = np.array(held)[late] @ reconstruction(order, theta, ages + 0.5).T
        error = np.sqrt(((found - wanted) ** 2).mean() / (wanted**2).mean())
        assert 0.95 * stated < error < stated, order


@pytest.mark.parametrize("stated", ERRORS.values())
def test_the_stated_errors_fall_with_the_order(stated: tuple[float, ...]) -> None:
    assert list(stated) == sorted(set(stated), reverse=True)


def test_reconstruction_weights_are_legendre_polynomials() -> None:
    """P_0 … P_3 on the window, oldest at 1."""
    from edgekit.spiking.layers.legendre import reconstruction

    delays = np.array([0.0, 2.5, 5.0, 10.0])
    z = 2 * delays / 10 - 1
    wanted = np.stack([z**0, z, (3 * z**2 - 1) / 2, (5 * z**3 - 3 * z) / 2], 1)
    np.testing.assert_allclose(reconstruction(4, 10.0, delays), wanted, atol=1e-14)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"order": 0}, "order is 0"),
        ({"order": -3}, "order is -3"),
        ({"theta": 0.0}, "theta is 0.0"),
        ({"theta": -1.0}, "theta is -1.0"),
        ({"theta": math.inf}, "theta is inf"),
        ({"theta": math.nan}, "theta is nan"),
        ({"dt": 0.0}, "dt is 0.0"),
        ({"dt": math.nan}, "dt is nan"),
        ({"method": "tustin"}, "must be zoh or euler"),
    ],
)
def test_impossible_arguments(arguments: dict[str, Any], message: str) -> None:
    from edgekit.spiking.layers.legendre import discrete

    given = {"order": 2, "theta": 5.0} | arguments
    with pytest.raises(UsageError, match=message):
        discrete(given.pop("order"), given.pop("theta"), **given)

"""One data set is the same inputs on the host and on a board."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgekit.bench.dataset import match, read_arrays, spread
from edgekit.bench.samples import Samples
from edgekit.bench.subject import Subject
from edgekit.deploy.data import samples_for
from edgekit.deploy.ondevice import ports_of
from edgekit.program.ir import Array, Program
from tests.support.programs import recurrent_network, residual_network

RNG = np.random.default_rng(0)
TIES = RNG.integers(-1000, 1000, (50, 3, 6, 5)) * 0.025 + 1e-10
"""Real numbers just above halves of many a scale: in float32 they would be on them."""

FILES: dict[str, tuple[Program, dict[str, Array]]] = {
    "described integers": (
        residual_network(),
        {
            "x": RNG.integers(0, 255, (4, 3, 6, 5)).astype(np.uint8),
            "scale": np.array(0.01, np.float32),
            "zero_point": np.array(100),
        },
    ),
    "float64 beside ties": (residual_network(), {"x": TIES}),
    "another name": (residual_network(), {"features": TIES[:3], "y": np.arange(3)}),
    "sequences": (recurrent_network(), {"x": RNG.standard_normal((4, 5, 3)), "y": np.arange(4)}),
    "steps": (recurrent_network(), {"x": RNG.standard_normal((4, 3))}),
}


@pytest.mark.parametrize("name", FILES)
def test_boards_read_what_hosts_read(name: str, tmp_path: Path) -> None:
    """Bits of every input, real numbers, labels and steps, through the file."""
    program, arrays = FILES[name]
    np.savez(tmp_path / "data.npz", allow_pickle=False, **arrays)
    host = samples_for(program, tmp_path / "data.npz")
    # As a board does, from nothing but its ports.
    inputs = ports_of(program)[0]
    own = read_arrays(tmp_path / "data.npz")
    board = Samples.of(match(inputs, own, sequences=bool(program.state)), "data.npz")
    assert (len(board), board.steps) == (len(host), host.steps)
    for port in inputs:
        for kind in ("inputs", "real"):
            want = getattr(host, kind)[port.name].reshape(-1, *port.source_shape)
            got = np.stack([sample[port.name] for sample in getattr(board, kind)])
            assert got.dtype == want.dtype
            assert got.tobytes() == want.tobytes()
    assert np.array_equal(board.labels, host.labels)


def test_what_described_integers_mean() -> None:
    """By hand: real numbers from the file's scale, then integers by the port's."""
    program, arrays = FILES["described integers"]
    (port,) = ports_of(program)[0]
    assert port.scale is not None
    assert port.zero_point is not None
    real = (arrays["x"].astype(np.float64) - 100) * float(np.float32(0.01))
    scaled = real / port.scale
    want = np.clip(np.sign(scaled) * np.floor(np.abs(scaled) + 0.5) + port.zero_point, -128, 127)
    found = match([port], arrays).inputs[port.name]
    assert (found == want.reshape(found.shape)).all()


def test_halves_are_rounded_before_they_are_shortened() -> None:
    """A value just above a half goes up, although float32 cannot tell them apart."""
    (port,) = ports_of(residual_network())[0]
    assert port.scale is not None
    just = np.full((1, *port.source_shape), -0.5 * port.scale * (1 - 1e-12))
    half = np.full((1, *port.source_shape), -0.5 * port.scale)
    assert (just.astype(np.float32) == half.astype(np.float32)).all()
    found = [match([port], {"x": values}).inputs[port.name] for values in (just, half)]
    assert (found[0] == found[1] + 1).all()


def test_state_is_known_on_a_board() -> None:
    """By the library's bytes of state."""
    from tests.bench.test_subject import SUBJECT

    assert not SUBJECT.has_state
    document = SUBJECT.to_json()
    document["library"]["state_bytes"] = 64
    assert Subject.from_json(document).has_state


@pytest.mark.parametrize(
    ("available", "count"), [(1, 1), (7, 7), (8, 7), (150, 100), (199, 100), (5747, 100), (5747, 1)]
)
def test_one_sample_of_every_part(available: int, count: int) -> None:
    """Parts of a file differ by one sample at most in size, and each gives one."""
    chosen = spread(available, count)
    borders = [part * available // count for part in range(count + 1)]
    assert len(chosen) == count
    assert all(low <= c < high for c, low, high in zip(chosen, borders, borders[1:], strict=False))


@pytest.mark.parametrize("classes", [2, 3, 5, 6, 10])
def test_classes_are_met_sorted_or_in_turn(classes: int) -> None:
    """Nearly as often as they are there: no further off than a random draw usually is."""
    chosen = spread(6000, 100)
    for labels in (np.arange(6000) * classes // 6000, np.arange(6000) % classes):
        met = np.bincount(labels[chosen], minlength=classes)
        assert np.abs(met - 100 / classes).max() <= 5

"""Neurons of NIR against their differential equations, stepped here in float64."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgekit.errors import InvalidDataError, InvalidModelError, UnsupportedError, UsageError
from edgekit.spiking.drift import Trace
from edgekit.spiking.nir import check_drift, import_nir, read_nir
from edgekit.spiking.simulate import Simulator
from tests.support.nir_files import chain, lif, write_raw

COUNT, STEPS, DT = 5, 80, 1e-4


def parameters(kind: str, seed: int = 0, *, leak: bool = False) -> dict[str, Any]:
    """A population of a type, each neuron another, with gains that are not 1."""
    rng = np.random.default_rng(seed)
    fields: dict[str, Any] = {"type": kind, "r": rng.uniform(2, 9, COUNT)}
    if kind.startswith("Cuba"):
        fields["tau_syn"] = rng.uniform(2, 9, COUNT) * DT
        fields["tau_mem"] = rng.uniform(2, 9, COUNT) * DT
        fields["w_in"] = rng.uniform(0.5, 3, COUNT)
    elif kind in ("LI", "LIF"):
        fields["tau"] = rng.uniform(2, 9, COUNT) * DT
    else:
        fields["r"] = fields["r"] / DT / 10
    if kind not in ("I", "IF"):
        fields["v_leak"] = rng.normal(0, 0.3, COUNT) * leak
    if kind in ("IF", "LIF", "CubaLIF"):
        fields["v_threshold"] = rng.uniform(0.5, 2, COUNT)
        fields["v_reset"] = np.zeros(COUNT)
    return fields


def solve(
    p: dict[str, Any], drive: np.ndarray, recurrent: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Euler steps of the equations as NIR states them.

    Args:
        p: fields of a node.
        drive: [T, COUNT].
        recurrent: [COUNT, COUNT], from each step's spikes to the next step's input.

    Returns:
        Membranes before their reset, and spikes.
    """
    v, i, z = np.zeros(COUNT), np.zeros(COUNT), np.zeros(COUNT)
    membranes, spikes = [], []
    for x in drive.astype(np.float64):
        current = x if recurrent is None else x + recurrent @ z
        if "tau_syn" in p:
            i = i + DT / p["tau_syn"] * (-i + p["w_in"] * current)
            current = i
        tau = p.get("tau_mem", p.get("tau"))
        if tau is None:
            v = v + DT * p["r"] * current
        else:
            v = v + DT / tau * (p["v_leak"] - v + p["r"] * current)
        membranes.append(v)
        z = (v > p.get("v_threshold", np.inf)).astype(np.float64)
        spikes.append(z > 0)
        v = np.where(z > 0, p.get("v_reset", 0), v)
    return np.array(membranes), np.array(spikes)


def gain(p: dict[str, Any]) -> Any:
    """What a membrane of the graph is counted in."""
    if "tau_syn" in p:
        return p["w_in"] * DT / p["tau_syn"] * p["r"] * DT / p["tau_mem"]
    return p["r"] * (DT / p["tau"] if "tau" in p else DT)


@pytest.mark.parametrize("leak", [False, True])
@pytest.mark.parametrize("kind", ["IF", "LIF", "CubaLIF"])
def test_neurons_that_fire(kind: str, leak: bool, tmp_path: Path) -> None:
    p = parameters(kind, leak=leak)
    path = write_raw(tmp_path / "n.nir", **chain(p, (COUNT,), (COUNT,)))
    windows = np.random.default_rng(1).normal(0.4, 1, (3, STEPS, COUNT)).astype(np.float32)
    membranes, spikes = (np.array(a) for a in zip(*(solve(p, w) for w in windows), strict=True))
    assert 0.02 < spikes.mean() < 0.7
    reference = {"n": Trace(membranes / gain(p), spikes)}
    check_drift(import_nir(path), windows, reference).raise_if()


def test_a_drift_that_cannot_be_measured_is_refused(tmp_path: Path) -> None:
    """No window, no time axis, and traces of nobody."""
    path = write_raw(tmp_path / "n.nir", **chain(parameters("LIF"), (COUNT,), (COUNT,)))
    imported, nothing = import_nir(path), np.zeros((0, STEPS, COUNT), np.float32)
    for windows in (nothing, nothing[:, 0], np.float32(0)):
        with pytest.raises(InvalidDataError, match=r"must be \[windows, steps, \.\.\.\]"):
            check_drift(imported, windows, {"n": Trace(nothing, nothing > 0)})
    with pytest.raises(UsageError, match="no neuron 'other'; it has n"):
        check_drift(imported, nothing, {"other": Trace(nothing)})


@pytest.mark.parametrize("leak", [False, True])
@pytest.mark.parametrize("kind", ["I", "LI", "CubaLI"])
def test_integrators(kind: str, leak: bool, tmp_path: Path) -> None:
    p = parameters(kind, leak=leak)
    path = write_raw(tmp_path / "n.nir", **chain(p, (COUNT,), (COUNT,)))
    window = np.random.default_rng(2).normal(0, 1, (STEPS, COUNT)).astype(np.float32)
    got = Simulator(read_nir(path)).run(window)["output"]
    np.testing.assert_allclose(got, solve(p, window)[0], rtol=2e-5, atol=2e-5)


def test_gains_of_spatial_integrators_go_by_channel(tmp_path: Path) -> None:
    shape = (2, 3, 2)
    r = np.broadcast_to(np.array([3.0, 7.0]).reshape(2, 1, 1), shape)
    node = {"type": "LI", "r": r, "tau": np.full(shape, 4 * DT), "v_leak": np.zeros(shape)}
    path = write_raw(tmp_path / "n.nir", **chain(node, shape, shape))
    got = Simulator(read_nir(path)).run(np.ones((1, *shape), np.float32))["output"]
    np.testing.assert_allclose(got[0], r / 4, rtol=1e-6)


def test_a_current_weight_that_is_missing_is_1(tmp_path: Path) -> None:
    p = parameters("CubaLI")
    stated = write_raw(tmp_path / "a.nir", **chain(p | {"w_in": 1.0}, (COUNT,), (COUNT,)))
    missing = write_raw(tmp_path / "b.nir", **chain(p | {"w_in": None}, (COUNT,), (COUNT,)))
    window = np.ones((5, COUNT), np.float32)
    runs = [Simulator(read_nir(path)).run(window)["output"] for path in (stated, missing)]
    np.testing.assert_array_equal(*runs)
    np.testing.assert_allclose(runs[0], solve(p | {"w_in": 1.0}, window)[0], rtol=1e-5)


@pytest.mark.parametrize("kind", ["LIF", "CubaLIF"])
def test_a_recurrent_population(kind: str, tmp_path: Path) -> None:
    p = parameters(kind, seed=4)
    rng = np.random.default_rng(5)
    matrix = rng.normal(0, 1, (COUNT, COUNT))
    graph = chain(p, (COUNT,), (COUNT,))
    graph["nodes"]["w"] = {"type": "Linear", "weight": matrix}
    graph["edges"] += [("n", "w"), ("w", "n")]
    path = write_raw(tmp_path / "n.nir", **graph)
    windows = rng.normal(0.4, 1, (3, STEPS, COUNT)).astype(np.float32)
    runs = [solve(p, window, matrix) for window in windows]
    spikes = np.array([run[1] for run in runs])
    assert 0.05 < spikes.mean() < 0.8
    # The matrix matters: without it other neurons fire.
    assert (spikes != np.array([solve(p, window)[1] for window in windows])).any()
    reference = {"n": Trace(np.array([run[0] for run in runs]) / gain(p), spikes)}
    check_drift(import_nir(path), windows, reference).raise_if()


def test_the_exponential_method_is_the_exact_solution(tmp_path: Path) -> None:
    """A constant input for one step of dt, against the closed form at other steps."""
    p = parameters("LI", seed=6, leak=True)
    path = write_raw(tmp_path / "n.nir", **chain(p, (COUNT,), (COUNT,)))
    for dt in (1e-5, 1e-4, 3e-3):
        graph = read_nir(path, dt=dt, method="exponential")
        got = Simulator(graph).run(np.ones((4, COUNT), np.float32))["output"]
        rest = p["v_leak"] + p["r"]
        exact = [rest * (1 - np.exp(-dt * (t + 1) / p["tau"])) for t in range(4)]
        np.testing.assert_allclose(got, exact, rtol=1e-5)
    with pytest.raises(InvalidModelError, match=r"node 'n'.*outside \[0, 1\].*exponential"):
        read_nir(path, dt=3e-3)


def test_a_subtracting_reset_takes_the_threshold_in_the_next_step(tmp_path: Path) -> None:
    path = write_raw(tmp_path / "n.nir", **chain(lif()))
    window = np.full((6, 2), 0.7, np.float32)
    observed = []
    graph = read_nir(path, reset="subtract")
    assert graph.dt_seconds == 1e-4

    def keep(name: str, value: np.ndarray) -> None:
        if name == "n.membrane":
            observed.append(float(value[0]))

    Simulator(graph, observe=keep).run(window)
    u, expected = 0.0, []
    for _ in range(6):
        u = 0.9 * u + 0.7 - (u > 1)
        expected.append(u)
    np.testing.assert_allclose(observed, expected, rtol=1e-6)


def test_a_threshold_node_has_no_memory(tmp_path: Path) -> None:
    node = {"type": "Threshold", "threshold": np.array([0.5, -0.5])}
    path = write_raw(tmp_path / "n.nir", **chain(node))
    x = np.array([[0.6, -0.6], [0.5, 0], [9, -9], [0, 0]], np.float32)
    got = Simulator(read_nir(path)).run(x)["output"]
    assert got.tolist() == [[1, 0], [0, 1], [1, 0], [0, 1]]


@pytest.mark.parametrize("steps", [0, 1])
def test_a_delay_of_whole_steps(steps: int, tmp_path: Path) -> None:
    path = write_raw(
        tmp_path / "n.nir",
        nodes={
            "input": {"type": "Input", "shape": np.array([2])},
            "n": lif(),
            "d": {"type": "Delay", "delay": np.full(2, steps * 1e-4)},
            "s": {"type": "Scale", "scale": np.array([2.0, 3.0])},
            "output": {"type": "Output", "shape": np.array([2])},
        },
        edges=[("input", "n"), ("n", "d"), ("d", "s"), ("input", "s"), ("s", "output")],
    )
    x = np.float32([[9, 0], [0, 9], [0, 0]])
    got = Simulator(read_nir(path)).run(x)["output"]
    fired = np.float32([[1, 0], [0, 1], [0, 0]])
    late = np.roll(fired, steps, axis=0) if steps else fired
    np.testing.assert_array_equal(got, (late + x) * [2, 3])


def test_graphs_within_graphs_are_laid_flat(tmp_path: Path) -> None:
    """The recurrent neuron of snnTorch as a graph of its own, in another one."""
    inner = {
        "type": "NIRGraph",
        "nodes": {
            "in": {"type": "Input", "shape": np.array([2])},
            "lif": lif(),
            "w_rec": {"type": "Affine", "weight": np.eye(2)[::-1] * 0.5, "bias": np.ones(2)},
            "out": {"type": "Output", "shape": np.array([2])},
        },
        "edges": [("in", "lif"), ("lif", "w_rec"), ("w_rec", "lif"), ("lif", "out")],
    }
    outer = {"type": "NIRGraph", **chain(inner), "metadata": {"who": "a test"}}
    imported = import_nir(write_raw(tmp_path / "n.nir", **chain(outer)))
    assert [(e.source, e.target) for e in imported.chosen] == [("n_n_lif", "n_n_w_rec")]
    window = np.random.default_rng(3).normal(0, 1, (30, 2)).astype(np.float32)
    v, z, expected = np.zeros(2), np.zeros(2), []
    for x in window:
        v = 0.9 * v + x + 0.5 * z[::-1] + 1
        z = (v > 1).astype(float)
        v = v * (1 - z)
        expected.append(z)
    np.testing.assert_array_equal(Simulator(imported.graph).run(window)["output"], expected)


def test_of_two_populations_in_a_ring_the_later_one_is_read_late(tmp_path: Path) -> None:
    eye = {"type": "Linear", "weight": np.array([[0.0, 1], [1, 0]])}
    path = write_raw(
        tmp_path / "n.nir",
        nodes={
            "x": {"type": "Input", "shape": np.array([2])},
            "z": lif(),
            "a": lif(),
            "there": eye,
            "back": eye,
            "y": {"type": "Output", "shape": np.array([2])},
        },
        edges=[
            ("x", "z"),
            ("z", "there"),
            ("there", "a"),
            ("a", "back"),
            ("back", "z"),
            ("a", "y"),
        ],
    )
    imported = import_nir(path)
    assert [(e.source, e.target, e.delay) for e in imported.chosen] == [("a", "back", 1)]
    assert "a -> back" in str(imported) and "euler" in str(imported)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"v_reset": np.array([0.0, 0.5])}, r"node 'n', a LIF: v_reset is not 0"),
        ({"v_leak": np.ones((2, 1)), "tau": np.ones((2, 1))}, r"r \[2\]"),
    ],
)
def test_what_no_step_of_the_graph_can_do_is_named(
    changed: dict[str, Any], message: str, tmp_path: Path
) -> None:
    path = write_raw(tmp_path / "n.nir", **chain(lif(**changed)))
    with pytest.raises((UnsupportedError, InvalidModelError), match=message):
        read_nir(path)

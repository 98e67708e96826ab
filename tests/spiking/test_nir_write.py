"""Spiking graphs as NIR files: what NIR can say comes back, the rest is refused by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nir
import numpy as np
import pytest

from edgekit.errors import InvalidModelError, OutputError, UnsupportedError
from edgekit.spiking.graph import Edge, SpikingGraph
from edgekit.spiking.nir import import_nir, read_nir, write_nir
from edgekit.spiking.nodes import (
    AvgPool,
    Conv,
    Count,
    Flatten,
    Input,
    Leaky,
    Linear,
    MaxPool,
    Node,
    Output,
    Scale,
    SumPool,
    Synaptic,
)
from edgekit.spiking.simulate import Simulator
from edgekit.spiking.weight import Weight
from tests.support.nir_files import assert_same_file, chain, lif, write_raw

RNG = np.random.default_rng(0)


def weight(*shape: int) -> Weight:
    return Weight(RNG.normal(0, 0.6, shape).astype(np.float32))


def decays(count: int) -> Any:
    return RNG.uniform(0, 0.999, count).astype(np.float32)


def row(*nodes: Node, shape: tuple[int, ...] = (4,)) -> SpikingGraph:
    """Input, nodes called n0, n1, ... one behind the other, Output."""
    named = {"x": Input(shape), **{f"n{i}": n for i, n in enumerate(nodes)}, "y": Output()}
    names = list(named)
    return SpikingGraph("row", named, tuple(map(Edge, names[:-1], names[1:])))


def l2mu() -> SpikingGraph:
    """Delays that no rule finds again: the memory is read at once by h and late by u."""
    nodes: dict[str, Node] = {
        "x": Input((4,)),
        "ex": Linear(weight(2, 4)),
        "eh": Linear(weight(2, 3)),
        "em": Linear(weight(2, 6)),
        "u": Leaky(decays(1), np.float32([0.3])),
        "a": Linear(weight(6, 3), groups=2),
        "b": Linear(weight(6, 1), groups=2),
        "m": Leaky(decays(1), np.float32([0.2])),
        "wx": Linear(weight(3, 4), np.ones(3, np.float32)),
        "wm": Linear(weight(3, 6)),
        "h": Synaptic(decays(3), decays(3), np.float32([0.5])),
        "count": Count(),
        "y": Output(),
    }
    now = ["x ex", "ex u", "eh u", "em u", "a m", "b m", "u b", "x wx", "wx h", "m wm", "wm h"]
    edges = [Edge(*pair.split()) for pair in (*now, "h count", "count y")]
    late = [Edge("h", "eh", 1), Edge("m", "em", 1), Edge("m", "a", 1)]
    return SpikingGraph("l2mu", nodes, (*edges, *late), dt_seconds=0.05)


GRAPHS = {
    "leaky subtract": lambda: row(Linear(weight(5, 4)), Leaky(decays(5), decays(5))),
    "leaky zero": lambda: row(Linear(weight(5, 4)), Leaky(decays(5), decays(5), "zero")),
    "leaky that forgets": lambda: row(Leaky(np.float32([0]), np.float32([0.5]), "none")),
    "leaky that keeps all": lambda: row(Leaky(np.float32([1]), np.float32([2]))),
    "integrator": lambda: row(Leaky(decays(4), spiking=False)),
    "sum": lambda: row(Leaky(np.float32([1]), spiking=False)),
    "synaptic": lambda: row(Synaptic(decays(4), decays(4), decays(4))),
    "synaptic zero": lambda: row(Synaptic(decays(4), decays(1), decays(4), "zero")),
    "synaptic integrator": lambda: row(Synaptic(decays(4), decays(4), spiking=False)),
    "scale and groups": lambda: row(Scale(decays(1)), Linear(weight(6, 2), decays(6), groups=2)),
    "one to one": lambda: row(Linear(weight(4, 1), groups=4)),
    "spatial": lambda: row(
        Conv(weight(4, 1, 3, 3), decays(4), (2, 1), (1, 0), (1, 2), groups=2),
        Leaky(decays(4), decays(4)),
        SumPool((2, 2)),
        AvgPool((2, 1), (1, 1), (1, 0)),
        Flatten(),
        shape=(2, 12, 12),
    ),
    "one axis": lambda: row(Conv(weight(4, 2, 3), None, (2,), (1,)), Flatten(), shape=(2, 9)),
    "same padding": lambda: row(Conv(weight(2, 2, 4), None, (1,), (1, 2)), shape=(2, 9)),
    "l2mu": l2mu,
}


@pytest.mark.parametrize("name", GRAPHS)
def test_a_graph_comes_back_and_runs_the_same(name: str, tmp_path: Path) -> None:
    graph = GRAPHS[name]()
    path = write_nir(graph, tmp_path / "folder" / "g.nir")
    assert [entry.name for entry in path.parent.iterdir()] == ["g.nir"]
    again = read_nir(path)
    assert again.dt_seconds == (graph.dt_seconds or 1e-4)
    shape = graph.shapes()["x"]
    window = np.random.default_rng(1).normal(0.3, 1, (40, *shape)).astype(np.float32)
    expected = Simulator(graph).run(window)["y"]
    assert np.any(expected)
    # Groups are written as one matrix with zeros and edges come in another order: sums round anew.
    np.testing.assert_allclose(Simulator(again).run(window)["y"], expected, rtol=1e-5, atol=1e-6)
    for key, node in graph.nodes.items():
        twin = again.nodes[key]
        if isinstance(node, Leaky | Synaptic):
            assert type(twin) is type(node)
            for field in ("alpha", "beta", "threshold"):
                if field in vars(node) and (node.spiking or field != "threshold"):
                    values = np.broadcast_to(getattr(twin, field), getattr(node, field).shape)
                    assert values.tobytes() == getattr(node, field).tobytes()
    # What is read is written to the bit again, and the package nir reads it.
    imported = import_nir(path)
    assert_same_file(path, write_nir(imported.graph, tmp_path / "b.nir", like=imported))
    assert set(nir.read(path, type_check=False).nodes) >= set(graph.nodes)


def test_only_delays_that_no_rule_finds_are_written(tmp_path: Path) -> None:
    read = nir.read(write_nir(l2mu(), tmp_path / "a.nir"), type_check=False)
    late = {name for name, node in read.nodes.items() if isinstance(node, nir.Delay)}
    assert len(late) == 3
    assert all((read.nodes[name].delay == 0.05).all() for name in late)
    recurrent = SpikingGraph(
        "r",
        {"x": Input((2,)), "n": Leaky(decays(2)), "w": Linear(weight(2, 2)), "y": Output()},
        (Edge("x", "n"), Edge("n", "w", 1), Edge("w", "n"), Edge("n", "y")),
    )
    path = write_nir(recurrent, tmp_path / "b.nir")
    assert not any(isinstance(node, nir.Delay) for node in nir.read(path).nodes.values())
    assert {(e.source, e.target, e.delay) for e in read_nir(path).edges} == {
        (e.source, e.target, e.delay) for e in recurrent.edges
    }


@pytest.mark.parametrize(
    ("graph", "message"),
    [
        (lambda: row(MaxPool((2, 2)), shape=(1, 4, 4)), "node 'n0': NIR has no MaxPool"),
        (lambda: row(AvgPool((2,)), shape=(1, 4)), "NIR has no AvgPool of 1 axes"),
        (lambda: row(Leaky(np.float32([0.5]), reset="none")), "node 'n0': it has no reset"),
        (lambda: row(Leaky(np.float32([0.5, 1, 0, 0]))), "a decay of 1"),
        (lambda: row(Synaptic(np.float32([1]), np.float32([0.5]))), "a decay of 1"),
        (
            lambda: row(Conv(weight(1, 1, 3), None, (1,), (0, 1)), shape=(1, 9)),
            "differs before and behind",
        ),
    ],
)
def test_what_nir_cannot_say_is_refused(graph: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(UnsupportedError, match=message):
        write_nir(graph(), tmp_path / "a.nir")
    assert not list(tmp_path.iterdir())


def test_changed_parameters_go_into_the_file_that_was_read(tmp_path: Path) -> None:
    path = write_raw(tmp_path / "a.nir", **chain(lif(tau=np.array([1e-3, 2e-3]), r=np.ones(2))))
    imported = import_nir(path, reset="subtract")
    old = imported.graph.nodes["n"]
    assert isinstance(old, Leaky)
    changed = imported.graph.with_nodes({"n": Leaky(old.beta, old.threshold * 2, old.reset)})
    again = read_nir(write_nir(changed, tmp_path / "b.nir", like=imported))
    twin = again.nodes["n"]
    assert isinstance(twin, Leaky)
    np.testing.assert_array_equal(twin.threshold, old.threshold * 2)
    np.testing.assert_array_equal(twin.beta, old.beta)
    assert twin.reset == "subtract"
    with pytest.raises(InvalidModelError, match="other nodes or edges"):
        write_nir(row(Flatten()), tmp_path / "c.nir", like=imported)


def test_places_that_cannot_be_written(tmp_path: Path) -> None:
    graph = row(Flatten())
    with pytest.raises(OutputError, match="as a .nir file"):
        write_nir(graph, tmp_path / "a.h5")
    (tmp_path / "file").write_text("x")
    with pytest.raises(OutputError, match="cannot be written"):
        write_nir(graph, tmp_path / "file" / "a.nir")
    (tmp_path / "taken.nir").mkdir()
    with pytest.raises(OutputError, match="cannot be written"):
        write_nir(graph, tmp_path / "taken.nir")
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["file", "taken.nir"]

"""The simulator in float32 is the float Program, to the bit: outputs and every membrane."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from edgekit.program.interpret import Interpreter
from edgekit.program.lowering import lower_noted
from edgekit.program.lowering.value import Value
from edgekit.spiking import Edge, Simulator, SpikingGraph, Weight, to_model
from edgekit.spiking.nodes import Conv, Flatten, Input, Leaky, Linear, Node, Output
from tests.support.spiking_graphs import all_graphs, random_window

STEPS = 30


def flattened_graph(groups: int) -> SpikingGraph:
    """A grouped Linear whose groups share the channels, or cut through them, of what it reads."""
    rng = np.random.default_rng(groups)
    nodes: dict[str, Node] = {
        "x": Input((2, 6)),
        "conv": Conv(Weight(rng.standard_normal((4, 2, 3))), stride=2, padding=1),
        "first": Leaky(0.6, 0.3),
        "flat": Flatten(),
        "w": Linear(Weight(rng.standard_normal((6, 12 // groups))), groups=groups),
        "second": Leaky(0.9, 5.0),
        "y": Output(),
    }
    return SpikingGraph("grouped", nodes, tuple(Edge(a, b) for a, b in pairwise(nodes)))


GRAPHS = {**all_graphs(), **{f"flattened-{g}": flattened_graph(g) for g in (1, 2, 3)}}


def in_onnx_order(value: Value, tensor: np.ndarray) -> np.ndarray:
    """A Program's tensor as the ONNX value that it stands for."""
    arrangement = value.arrangement
    stored = tensor.reshape([arrangement.atoms[atom] for atom in arrangement.order])
    return stored.transpose(np.argsort(arrangement.order)).reshape(arrangement.shape)


@pytest.mark.parametrize("name", GRAPHS)
def test_the_float_program_is_the_simulator(name: str) -> None:
    """Event-driven sums leave products with 0 out, the simulator adds them: no bit differs."""
    graph = GRAPHS[name]
    step = to_model(graph)
    lowered = lower_noted(step.model, state=step.state)
    compared = [after for after in step.state.values() if after in lowered.values]
    assert len(compared) >= len(graph.populations())
    program, simulator = Interpreter(lowered.program), Simulator(graph)
    window = random_window(graph, STEPS, seed=5)
    fired = 0
    for index in range(STEPS):
        sample = {key: array[index] for key, array in window.items()}
        seen: dict[str, np.ndarray] = {}
        got = program.step({key: array[None] for key, array in sample.items()}, seen.__setitem__)
        want = simulator.step(sample)
        assert all(np.array_equal(got[key][0], want[key]) for key in want)
        state = simulator.state
        for after in compared:
            value, slot = lowered.values[after], after.removesuffix(".next")
            if slot.endswith((".membrane", ".synaptic")):
                got_state = in_onnx_order(value, seen[value.tensor])[0]
                assert np.array_equal(got_state, state[slot]), (index, slot)
                fired += int(got_state.any())
    assert fired >= STEPS

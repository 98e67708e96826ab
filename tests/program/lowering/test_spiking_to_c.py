"""Lowered spiking networks have kernels, and host C gives the interpreter's bits step by step."""

from __future__ import annotations

import numpy as np
import pytest

from edgekit.program.interpret import Interpreter
from edgekit.program.lowering import SpikingOptions, int16_scale, lower_noted
from edgekit.spiking.quantize import quantize_weights
from edgekit.spiking.to_model import to_model
from edgekit.targets.c.emit import emit
from edgekit.targets.host import HostMachine
from tests.support.chain import STRICT, assert_identical, run_machine
from tests.support.spiking_graphs import convolutional_graph, random_window, recurrent_graph
from tests.support.spiking_random import random_graph

SCALE = int16_scale(-4.0, 4.0)

CASES = {
    # Samples and spikes in one neuron: a shift between their totals.
    "recurrent": (recurrent_graph(), "int8"),
    "convolutional": (convolutional_graph(axes=1, population="synaptic"), "ternary"),
    "random": (random_graph(2), None),
}


@pytest.mark.needs("cc")
@pytest.mark.parametrize("name", CASES)
def test_host_c_gives_the_same_bits(name: str) -> None:
    """Outputs of every step; the state is C's own."""
    graph, element = CASES[name]
    options = None
    window = random_window(graph, 12, seed=3)
    if element is not None:
        graph = quantize_weights(graph, element)
        options = SpikingOptions(input_scale={"x": SCALE})
        codes = np.clip(np.rint(window["x"] / SCALE), -32767, 32767)
        window = {"x": codes.astype(np.int16)}
    step = to_model(graph)
    program = lower_noted(step.model, state=step.state, spiking=options).program
    emission = emit(program, version="test")
    machine, interpreter = HostMachine(emission.library, flags=STRICT), Interpreter(program)
    for sample in window["x"]:
        fed = {"x": sample[None]}
        want = interpreter.step(fed)
        assert_identical(want, run_machine(machine, emission, fed, step=True), name)

"""The neurons of the edgekit domain are snnTorch's, to the bit."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir
import pytest

from edgekit.errors import InvalidModelError
from edgekit.model import Model, load
from edgekit.model.coded import is_quantized
from edgekit.model.domain import NEURONS, RESETS, attach_functions
from edgekit.model.passes import optimize
from tests.support.onnx_models import OnnxBuilder, run_onnx
from tests.support.spiking_onnx import session_of

pytestmark = pytest.mark.needs("onnxruntime")

NEURON_COUNT = 40
STEPS = 60


def neuron_model(
    op_type: str,
    constants: dict[str, np.ndarray | float],
    *,
    reset: str = "subtract",
    shape: tuple[int, ...] = (1, NEURON_COUNT),
) -> Model:
    """One population, whose current and states are inputs.

    Args:
        op_type: of :data:`edgekit.model.domain.NEURONS`.
        constants: decays and the threshold in the operator's order.
        reset: name of the reset.
        shape: of the population.
    """
    b = OnnxBuilder(18)
    states = ["synaptic", "membrane"] if op_type == "Synaptic" else ["membrane"]
    inputs = [b.input(name, shape) for name in ("current", *states)]
    stored = [b.constant(np.asarray(v, np.float32), name) for name, v in constants.items()]
    outputs = b.node_all(
        op_type,
        *inputs,
        *stored,
        outputs=1 + len(states),
        domain="edgekit",
        reset=RESETS.index(reset),
    )
    for name in outputs:
        b.output(name)
    model = load(b.build())
    ir, attached = attach_functions(model.ir)
    assert attached
    return model.with_ir(ir)


def stepped(model: Model, currents: np.ndarray) -> list[list[np.ndarray]]:
    """What ONNX Runtime gives step by step, states carried, from zero."""
    session = session_of(model)
    names = [v.name for v in session.get_inputs()]
    state = [np.zeros(currents.shape[1:], np.float32) for _ in names[1:]]
    results = []
    for current in currents:
        found = session.run(None, dict(zip(names, [current, *state], strict=True)))
        results.append(found)
        state = found[1:]
    return results


def currents(seed: int, shape: tuple[int, ...] = (1, NEURON_COUNT)) -> np.ndarray:
    """Random currents, a third of them zero."""
    rng = np.random.default_rng(seed)
    drawn = rng.normal(0.3, 0.8, (STEPS, *shape)) * (rng.random((STEPS, *shape)) < 0.67)
    return drawn.astype(np.float32)


def constants_of(op_type: str, seed: int, *, each: bool) -> dict[str, np.ndarray]:
    """Decays and a threshold, one for all neurons or one for each; some at the ends of 0…1."""
    rng = np.random.default_rng(seed)
    names = ["alpha", "beta"] if op_type == "Synaptic" else ["beta"]
    size = NEURON_COUNT if each else 1
    found = {name: rng.uniform(0, 1, size).astype(np.float32) for name in names}
    if each:
        for decay in found.values():
            decay[:2] = 0, 1
    return found | {"threshold": rng.uniform(0.3, 1.5, size).astype(np.float32)}


@pytest.mark.torch
@pytest.mark.parametrize("each", [False, True])
@pytest.mark.parametrize("reset", RESETS)
@pytest.mark.parametrize("op_type", NEURONS)
def test_runtime_equals_snntorch_to_the_bit(op_type: str, reset: str, each: bool) -> None:
    """Spikes and states of every step are snnTorch's, bit for bit."""
    import snntorch
    import torch

    constants = constants_of(op_type, 3, each=each)
    given: dict[str, Any] = {name: torch.from_numpy(v) for name, v in constants.items()}
    neuron = getattr(snntorch, op_type)(**given, reset_mechanism=reset)
    fed = currents(4)
    state = [torch.zeros(1, NEURON_COUNT) for _ in range(len(constants) - 1)]
    spikes = 0.0
    for current, got in zip(
        fed, stepped(neuron_model(op_type, constants, reset=reset), fed), strict=True
    ):
        want = neuron(torch.from_numpy(current), *state)
        state = [value.clone() for value in want[1:]]
        for ours, theirs in zip(got, want, strict=True):
            assert ours.tobytes() == theirs.detach().numpy().tobytes()
        spikes += float(got[0].sum())
    # A test without spikes would say nothing about resets.
    assert spikes > STEPS


@pytest.mark.parametrize("op_type", NEURONS)
def test_integrator_has_an_infinite_threshold(op_type: str) -> None:
    """Without a reset an infinite threshold is no arithmetic: states stay finite, nothing fires."""
    decays = {name: 0.75 for name in constants_of(op_type, 0, each=False) if name != "threshold"}
    model = neuron_model(op_type, {**decays, "threshold": np.inf}, reset="none")
    model = optimize(load(model.to_bytes()), keep={("edgekit", op_type)})
    for spikes, *states in stepped(model, currents(5)):
        assert not spikes.any()
        assert all(np.isfinite(state).all() for state in states)


def test_zero_differs_between_the_two() -> None:
    """Leaky forgets the old membrane, Synaptic the new one with what arrives in the step."""
    one = np.ones((1, 1), np.float32)
    leaky = neuron_model("Leaky", {"beta": 0.5, "threshold": 1.0}, reset="zero", shape=(1, 1))
    spikes, membrane = run_onnx(
        leaky.to_bytes(), {"current": 3 * one, "membrane": 2 * one}
    ).values()
    assert (spikes.item(), membrane.item()) == (1, 3)
    synaptic = neuron_model(
        "Synaptic", {"alpha": 0.5, "beta": 0.5, "threshold": 1.0}, reset="zero", shape=(1, 1)
    )
    feeds = {"current": 3 * one, "synaptic": 4 * one, "membrane": 2 * one}
    assert [v.item() for v in run_onnx(synaptic.to_bytes(), feeds).values()] == [0, 5, 0]


@pytest.mark.parametrize("op_type", NEURONS)
def test_shapes_of_spatial_populations(op_type: str) -> None:
    """A decay per channel broadcasts; outputs have the shape of the current."""
    shape = (1, 3, 4, 5)
    constants = {
        name: np.full((3, 1, 1), 0.5, np.float32) for name in constants_of(op_type, 0, each=False)
    }
    prepared = optimize(neuron_model(op_type, constants, shape=shape), keep={("edgekit", op_type)})
    for value in prepared.ir.graph.outputs:
        assert value.shape == onnx_ir.Shape(shape)
        assert value.dtype == onnx_ir.DataType.FLOAT


@pytest.mark.parametrize("op_type", NEURONS)
def test_neurons_are_no_quantisation(op_type: str) -> None:
    """A float network of neurons counts as float."""
    model = neuron_model(op_type, constants_of(op_type, 0, each=False))
    assert not is_quantized(model.ir.graph)


def test_states_of_another_shape_are_refused() -> None:
    """The message names the node and both shapes."""
    b = OnnxBuilder(18)
    current, membrane = b.input("current", (1, 4)), b.input("membrane", (1, 5))
    decay, threshold = b.constant(np.float32(0.5)), b.constant(np.float32(1))
    outputs = b.node_all(
        "Leaky", current, membrane, decay, threshold, outputs=2, name="lif", domain="edgekit"
    )
    b.output(outputs[0])
    model = load(b.build())
    with pytest.raises(InvalidModelError, match=r"'lif'.*\[1, 5\].*\[1, 4\]"):
        optimize(model.with_ir(attach_functions(model.ir)[0]), keep={("edgekit", "Leaky")})


def test_decays_that_do_not_broadcast_are_refused() -> None:
    """Three decays fit no population of four."""
    with pytest.raises(InvalidModelError, match="broadcast"):
        optimize(
            neuron_model("Leaky", {"beta": np.ones(3), "threshold": 1.0}, shape=(1, 4)),
            keep={("edgekit", "Leaky")},
        )


def test_a_missing_output_is_refused() -> None:
    """A call that does not have what the operator has, in a file without its definition."""
    b = OnnxBuilder(18)
    current, membrane = b.input("current", (1, 4)), b.input("membrane", (1, 4))
    stored = [b.constant(np.float32([value])) for value in (0.5, 1)]
    outputs = b.node_all(
        "Leaky", current, membrane, *stored, outputs=4, name="lif", domain="edgekit"
    )
    b.output(outputs[0])
    with pytest.raises(InvalidModelError, match=r"'lif'.*4 outputs, must have 4 and 2"):
        optimize(load(b.build()), keep={("edgekit", "Leaky")})

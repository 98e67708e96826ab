"""Windows through a spiking network in every way there is, with what it remembers after every step.

Devices and interpreters must agree to the bit; :func:`differing` counts where they do not. torch,
snnTorch and ONNX Runtime add the same float products in other orders; their neurons become traces,
which :func:`edgekit.spiking.drift.compare_traces` holds against those of the simulator.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from itertools import accumulate
from typing import Any, Protocol, cast

import numpy as np
import onnxruntime
import torch
from torch import Tensor, nn

from edgekit.program.interpret import Interpreter, from_program, steps_of, to_program
from edgekit.program.ir import Array, Program
from edgekit.program.plan import ALIGNMENT
from edgekit.quantize.converted.batched import BatchedProgram
from edgekit.spiking import Simulator, SpikingGraph, to_model, to_window_model
from edgekit.spiking.drift import Trace
from edgekit.spiking.layers.l2mu_network import L2MU
from edgekit.spiking.layers.populations import Population
from edgekit.spiking.layers.scnn import SpikingCNN
from edgekit.spiking.nodes import spread_over
from edgekit.targets.c.emit import LayerInfo
from edgekit.targets.library import Library
from edgekit.targets.machine import Machine

Windows = Mapping[str, Array]
"""What a Program's inputs take, by their names: [windows, steps, *source_shape]."""

Run = dict[str, Array]
"""By name of every output, and of every state as it is after the step: [windows, steps, ...]."""

SpikingModule = L2MU | SpikingCNN


class Made(Protocol):
    """Generated code with its description: an emission, or an artifact's session."""

    program: Program
    library: Library
    layers: tuple[LayerInfo, ...]


def device_run(machine: Machine, made: Made, windows: Windows) -> Run:
    """Step through every window from reset, as it is deployed.

    After every step all outputs and the whole memory of the state are read.
    """
    program, library = made.program, made.library
    count, steps = _extent(windows)
    records = _records(made, windows)
    # Outputs in one piece: on an emulated core an access takes as long as many instructions.
    first = min(port.offset for port in library.outputs)
    behind = max(port.offset + port.bytes for port in library.outputs)
    given = np.zeros((count, steps, behind - first), np.uint8)
    kept = np.zeros((count, steps, library.state_bytes), np.uint8)
    for window in range(count):
        machine.reset()
        for step in range(steps):
            for offset, data in records:
                machine.write(offset, data[window, step].tobytes())
            machine.step()
            outputs = machine.read(first, behind - first)
            given[window, step] = np.frombuffer(outputs, np.uint8)
            state = machine.read(library.arena_bytes, library.state_bytes)
            kept[window, step] = np.frombuffer(state, np.uint8)
    found: Run = {}
    for boundary, port in zip(program.outputs, library.outputs, strict=True):
        values = _array(program, boundary.tensor, given, port.offset - first)
        flat = values.reshape(-1, *values.shape[2:])
        laid_out = np.stack([from_program(boundary, value) for value in flat])
        found[boundary.name] = laid_out.reshape(count, steps, *boundary.source_shape)
    for name, offset in _state_offsets(made).items():
        found[name] = _array(program, name, kept, offset - library.arena_bytes)
    return found


def _records(made: Made, windows: Windows) -> list[tuple[int, Array]]:
    """Where each input lies, and its bytes in every step: uint8[windows, steps, bytes]."""
    program = made.program
    count, steps = _extent(windows)
    found = []
    for boundary, port in zip(program.inputs, made.library.inputs, strict=True):
        tensor, values = program.tensors[boundary.tensor], windows[boundary.name]
        flat = values.reshape(-1, *values.shape[2:])
        codes = np.stack([to_program(boundary, tensor, value) for value in flat])
        found.append((port.offset, codes.view(np.uint8).reshape(count, steps, port.bytes)))
    return found


def _array(program: Program, name: str, memory: Array, begin: int) -> Array:
    """A tensor out of uint8[windows, steps, bytes]."""
    tensor = program.tensors[name]
    own = np.ascontiguousarray(memory[:, :, begin : begin + tensor.bytes])
    values: Array = own.view(tensor.dtype.numpy).reshape(*memory.shape[:2], *tensor.shape)
    return values


def _state_offsets(made: Made) -> dict[str, int]:
    """Where the states lie: behind the arena, in the Program's order, aligned.

    Layers that write a state in place say where that is, and must agree.
    """
    program, library = made.program, made.library
    sizes = [program.tensors[state.read].bytes for state in program.state]
    rounded = [-(-size // ALIGNMENT) * ALIGNMENT for size in sizes]
    *offsets, end = accumulate(rounded, initial=library.arena_bytes)
    assert end == library.arena_bytes + library.state_bytes
    of_write = {s.write: offset for s, offset in zip(program.state, offsets, strict=True)}
    for layer in made.layers:
        for tensor, offset in zip(layer.outputs, layer.offsets, strict=True):
            assert offset < library.arena_bytes or offset == of_write[tensor], tensor
    return {s.read: offset for s, offset in zip(program.state, offsets, strict=True)}


def interpreted(program: Program, windows: Windows) -> Run:
    """The same by the interpreter, step by step."""
    count, _ = _extent(windows)
    interpreter = Interpreter(program)
    rows: dict[str, list[list[Array]]] = {}
    for window in range(count):
        interpreter.reset()
        for step, sample in enumerate(_steps(program, windows, window)):
            seen: dict[str, Array] = {}
            results = interpreter.step(sample, seen.__setitem__)
            results |= {state.read: seen[state.write] for state in program.state}
            for name, value in results.items():
                if step == 0:
                    rows.setdefault(name, []).append([])
                rows[name][window].append(value.copy())
    return {name: np.array(values) for name, values in rows.items()}


def batched(program: Program, windows: Windows) -> Run:
    """The same by the batched form of the Program: all windows at once."""
    whole, state = BatchedProgram(program), None
    rows: dict[str, list[Array]] = {}
    for step in range(_extent(windows)[1]):
        inputs = {}
        for boundary in program.inputs:
            tensor = program.tensors[boundary.tensor]
            codes = [to_program(boundary, tensor, x) for x in windows[boundary.name][:, step]]
            inputs[tensor.name] = torch.from_numpy(np.stack(codes).astype(tensor.dtype.value))
        outputs, state = whole(inputs, state)
        results = {
            b.name: np.stack([from_program(b, value) for value in outputs[b.tensor].numpy()])
            for b in program.outputs
        }
        results |= {name: value.numpy().copy() for name, value in state.items()}
        for name, value in results.items():
            rows.setdefault(name, []).append(value)
    return {name: np.stack(values, axis=1) for name, values in rows.items()}


def differing(want: Run, got: Run) -> int:
    """How many elements of outputs and states differ in any bit.

    Raises:
        ValueError: the two do not hold the same arrays.
    """
    if {n: a.shape for n, a in want.items()} != {n: a.shape for n, a in got.items()}:
        raise ValueError(f"runs of other networks: {sorted(want)} and {sorted(got)}")
    return sum(int((_bits(values) != _bits(got[name])).sum()) for name, values in want.items())


def _bits(values: Array) -> Array:
    native = np.ascontiguousarray(values, values.dtype.newbyteorder("="))
    return native.view(np.int32) if native.dtype == np.float32 else native


def _extent(windows: Windows) -> tuple[int, int]:
    """Windows, and steps of each."""
    count, steps = next(iter(windows.values())).shape[:2]
    return count, steps


def _steps(program: Program, windows: Windows, window: int) -> Iterator[dict[str, Array]]:
    return iter(steps_of(program, {name: values[window] for name, values in windows.items()}))


def folded(model: nn.Module) -> SpikingModule:
    """The network with the very weights that its graph has: a copy, where it has norms."""
    assert isinstance(model, SpikingModule)
    return copy.deepcopy(model).fold().eval() if model.has_norms else model


def simulated(graph: SpikingGraph, x: Array) -> tuple[dict[str, Trace], Array]:
    """Every population by the simulator, which is the float32 Program to the bit.

    Args:
        graph: of one step, with the Output ``scores``.
        x: real samples [windows, steps, ...].

    Returns:
        Traces by population, and the scores after every step, [windows, steps, classes].
    """
    seen: dict[str, list[Array]] = {}
    simulator = Simulator(
        graph, batch=len(x), observe=lambda name, value: seen.setdefault(name, []).append(value)
    )
    scores = simulator.run(np.moveaxis(x, 1, 0))["scores"]
    traces = {
        name: Trace(np.stack(seen[f"{name}.membrane"], 1), np.stack(seen[name], 1) > 0)
        for name in graph.populations()
    }
    return traces, np.moveaxis(scores, 0, 1)


def snntorch_run(model: SpikingModule, x: Array) -> tuple[dict[str, Trace], Array]:
    """The same by snnTorch's neurons and torch's layers, step by step.

    Args:
        model: without norms.
        x: as for :func:`simulated`.
    """
    rows: dict[str, list[tuple[Tensor, Tensor]]] = {}

    def keep(name: str) -> Any:
        def hook(module: nn.Module, inputs: object, outputs: tuple[Tensor, ...]) -> None:
            spikes, *_, membrane = outputs
            rows.setdefault(name, []).append((spikes, membrane))

        return hook

    populations = _populations(model)
    hooks = [p.neuron.register_forward_hook(keep(name)) for name, p in populations.items()]
    try:
        with torch.no_grad():
            scores = torch.stack(list(_torch_steps(model, torch.from_numpy(x))), 1)
    finally:
        for handle in hooks:
            handle.remove()
    spatial = isinstance(model, SpikingCNN)
    traces = {}
    for name, kept in rows.items():
        spikes, membrane = (torch.stack(parts, 1) for parts in zip(*kept, strict=True))
        if spatial and name != "o":
            spikes, membrane = spikes.transpose(2, 3), membrane.transpose(2, 3)
        traces[name] = Trace(membrane.numpy(), spikes.numpy() > 0)
    return {name: traces[name] for name in populations}, scores.numpy()


def _populations(model: SpikingModule) -> dict[str, Population]:
    """By the names of the graph, in the order of computation."""
    if isinstance(model, SpikingCNN):
        own = {f"c{i}": cast(Any, layer).population for i, layer in enumerate(model.layers)}
        return own | {"o": model.neurons_o}
    own = {f"x{i}": cast(Population, p) for i, p in enumerate(model.conversion.populations)}
    cell = model.cell
    own |= {"u": cell.neurons_u, "m": cell.neurons_m, "h": cell.neurons_h}
    return own | {"o": model.neurons_o}


def _torch_steps(model: SpikingModule, x: Tensor) -> Iterator[Tensor]:
    """Scores [windows, classes] after every step."""
    if isinstance(model, L2MU):
        state = model.start(len(x))
        for sample in x.unbind(1):
            scores, state = model.step(sample, state)
            yield scores
        return
    membranes: dict[str, Tensor] = {}

    def fired(name: str, population: Population, currents: Tensor) -> Tensor:
        # A neuron that is given no membrane goes on with the one it had last, in another window.
        before = membranes.get(name, torch.zeros_like(currents))
        spikes, membranes[name] = population.neuron(currents, before)
        return cast(Tensor, spikes)

    counts = torch.zeros(())
    for sample in x.unbind(1):
        values = sample
        for index, layer in enumerate(cast(Any, model.layers)):
            # Neurons have their parameters per channel: channels come last.
            currents = layer.weights(values).transpose(1, 2)
            values = fired(f"c{index}", layer.population, currents).transpose(1, 2)
        counts = counts + fired("o", model.neurons_o, model.output(values.flatten(1)))
        yield counts


def onnx_run(graph: SpikingGraph, x: Array) -> tuple[dict[str, Trace], Array]:
    """The same by ONNX Runtime: the step graph, window by window, with its state fed back.

    A neuron fired where the membrane that it left is above its threshold.
    """
    step = to_model(graph)
    session = _session(step.model.to_bytes())
    count, steps = x.shape[:2]
    (sample,) = graph.inputs()
    names = [output.name for output in session.get_outputs()]
    shapes = {i.name: i.shape for i in session.get_inputs()}
    rows: dict[str, list[Array]] = {}
    for window in x:
        feed = {name: np.zeros(shapes[name], np.float32) for name in step.state}
        for values in window:
            results = dict(
                zip(names, session.run(names, {**feed, sample: values[None]}), strict=True)
            )
            feed = {name: results[after] for name, after in step.state.items()}
            for name in names:
                rows.setdefault(name, []).append(results[name])
    whole = {n: np.concatenate(v).reshape(count, steps, *v[0].shape[1:]) for n, v in rows.items()}
    limits = thresholds(graph)
    traces = {}
    for name in graph.populations():
        membrane = whole[step.state[f"{name}.membrane"]]
        traces[name] = Trace(membrane, membrane > limits[name])
    return traces, whole["scores"]


def scan_scores(graph: SpikingGraph, x: Array) -> Array:
    """Scores after every step by ONNX Runtime, every window through one Scan."""
    session = _session(to_window_model(graph, x.shape[1]).to_bytes())
    (sample,) = graph.inputs()
    runs = [session.run(["scores"], {sample: window[:, None]})[0] for window in x]
    return np.stack(runs)[:, :, 0]


def thresholds(graph: SpikingGraph) -> dict[str, Array]:
    """Of every neuron of every population."""
    shapes = graph.shapes()
    return {
        name: spread_over(cast(Any, graph.nodes[name]).threshold, shapes[name])
        for name in graph.populations()
    }


def _session(model: bytes) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])

"""Modelled cycles of sums of spikes and of neurons, event-driven against dense, over activity.

::

    python benchmarks/spiking_kernels.py    # writes results/spiking_kernels.json

Shapes are those of an L2MU cell. Kinds of rows: ``sum``, one layer at one activity; ``crossover``,
the activity from which on the dense kernel costs less, null where it never does; ``neurons``, one
step of a population. The dense opponent is edgekit's fastest int8 kernel, over spikes as bytes of 0
and 1; a synaptic operation is a weight of an active input. Memory without wait states.

Predicted for Cortex-M4 before any was measured, by counting instructions of the inner loops:

- int8, blocks of 16 outputs: 4 words at 3 operations and a load each, 7 around them: 25 cycles, 1.6
  an operation; 4-bit fields 0.8 and ternary 0.75, since words hold two or four times as many.
- Emptying the lanes 5 to 6 cycles an output each time: at 5 % activity nearly as much again.
- Dense int8 3.1 to 3.5 a product, so that event-driven is the cheaper one at every activity.
- A leaky neuron 14 to 16 cycles, its bit included.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from results_file import ROOT, write

from edgekit.formats import ELEMENTS
from edgekit.program.ir import Array, Boundary, DType, Operation, Program, Tensor
from edgekit.program.operators.base import Operator
from edgekit.program.operators.coding import Coding
from edgekit.program.operators.spiking_bits import bit_set, pack_spikes
from edgekit.program.operators.spiking_neurons import DECAY_BITS, Leaky, Synaptic
from edgekit.program.operators.spiking_weighted import Schedule, SpikeDense
from edgekit.program.verify import verify
from edgekit.targets.c.emit import emit
from edgekit.targets.emulated import EmulatedMachine
from edgekit.targets.image import build_image
from edgekit.targets.target import target
from edgekit.targets.toolchain import find_toolchain
from edgekit.version import edgekit_version

SEED = 0
CORES = ("cortex-m4", "cortex-m0plus")
ACTIVITIES = (0.0, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0)
SHAPES = ((276, 180), (180, 180), (180, 36), (36, 180), (180, 7))
"""Inputs and outputs."""

FLOAT32 = "float32"
ELEMENTS_OF_SUMS = ("int8", "int4", "shift3", "shift2", "ternary", FLOAT32)
SCHEDULES: tuple[Schedule, ...] = ("event", "dense")

NEURONS = (36, 96, 180)
"""Sizes of the populations."""

Row = dict[str, Any]


@dataclass(frozen=True)
class Sum:
    """One layer.

    Attributes:
        shape: inputs and outputs.
        element: of the weights.
        schedule: which kernel.
    """

    shape: tuple[int, int]
    element: str
    schedule: Schedule

    def operation(self) -> tuple[Operator, Array]:
        """The operator and seeded weights."""
        inputs, outputs = self.shape
        rng = np.random.default_rng(SEED)
        if self.element == FLOAT32:
            weights = rng.standard_normal((outputs, inputs)).astype(np.float32)
        else:
            weights = rng.choice(ELEMENTS[self.element].levels, (outputs, inputs)).astype(np.int8)
        plain = self.element in ("int8", FLOAT32)
        coding = None if plain else Coding(self.element)
        return SpikeDense(neurons=(inputs,), coding=coding, schedule=self.schedule), weights


class Bench:
    """Operations of one Program on an emulated core, counted one by one."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._tensors: dict[str, Tensor] = {}
        self._operations: list[Operation] = []
        self._inputs: list[Boundary] = []
        self._outputs: list[Boundary] = []

    def add(self, operator: Operator, *inputs: Array | Tensor | None) -> None:
        """One more operation: fed tensors by their type, constants by their value."""
        number = len(self._operations)
        names: list[str | None] = []
        for index, given in enumerate(inputs):
            name = f"in{number}_{index}"
            if given is None:
                names.append(None)
                continue
            if isinstance(given, Tensor):
                self._tensors[name] = Tensor(name, given.shape, given.dtype)
                self._inputs.append(Boundary(name, name, given.shape))
            else:
                self._tensors[name] = Tensor.constant(name, given)
            names.append(name)
        kinds = operator.infer(*(None if n is None else self._tensors[n].type for n in names))
        outputs = []
        for index, kind in enumerate(kinds):
            name = f"out{number}_{index}"
            self._tensors[name] = Tensor(name, kind.shape, kind.dtype)
            self._outputs.append(Boundary(name, name, kind.shape))
            outputs.append(name)
        self._operations.append(Operation(f"op{number}", operator, tuple(names), tuple(outputs)))

    def measure(self, core: str, feeds: list[list[Array]], folder: Path) -> list[list[Row]]:
        """Cycles and instructions, by feed and operation.

        Args:
            core: name of the core.
            feeds: values of every fed tensor in order, any number of times.
            folder: for the build.
        """
        program = verify(
            Program(
                self.name,
                self._tensors,
                tuple(self._operations),
                tuple(self._inputs),
                tuple(self._outputs),
            )
        )
        emission = emit(program, version=edgekit_version())
        order = [layer.operation for layer in emission.layers]
        image = build_image(emission.library, target(core), folder=folder)
        machine = EmulatedMachine(image.library, image.target, image.elf)
        found = []
        for feed in feeds:
            rows = []
            for operation in self._operations:
                # The arena is shared: what an operation reads is written just before it runs.
                for port, value in zip(image.library.inputs, feed, strict=True):
                    machine.write(port.offset, value.tobytes())
                count = machine.count_layer(order.index(operation.name))
                rows.append({"cycles": count.cycles, "instructions": count.instructions})
            found.append(rows)
        machine.close()
        return found


def sum_rows(core: str, folder: Path) -> Iterator[Row]:
    """Every layer at every activity."""
    for number, shape in enumerate(SHAPES):
        sums = [Sum(shape, e, s) for e in ELEMENTS_OF_SUMS for s in SCHEDULES]
        bench = Bench(f"sums_{number}")
        kind = bit_set(1, shape[0])
        for layer in sums:
            operator, weights = layer.operation()
            bench.add(operator, weights, None, Tensor("s", kind.shape, kind.dtype))
        active = [round(share * shape[0]) for share in ACTIVITIES]
        feeds = [[spikes(shape[0], count)] * len(sums) for count in active]
        results = bench.measure(core, feeds, folder / f"{core}-{number}")
        for index, layer in enumerate(sums):
            costs = [result[index] for result in results]
            for share, count, cost in zip(ACTIVITIES, active, costs, strict=True):
                operations = count * shape[1]
                yield {
                    "kind": "sum",
                    "core": core,
                    "inputs": shape[0],
                    "outputs": shape[1],
                    "element": layer.element,
                    "schedule": layer.schedule,
                    "activity": share,
                    "active_inputs": count,
                    "synaptic_operations": operations,
                    **cost,
                    "cycles_per_synaptic_operation": _ratio(cost["cycles"], operations),
                    "instructions_per_synaptic_operation": _ratio(cost["instructions"], operations),
                }


def _ratio(cost: float, operations: int) -> float | None:
    return round(cost / operations, 3) if operations else None


def spikes(neurons: int, active: int) -> Array:
    """A bit set of a seeded choice of neurons."""
    values = np.zeros((1, neurons), bool)
    values[0, np.random.default_rng(SEED).permutation(neurons)[:active]] = True
    return pack_spikes(values)


def crossovers(rows: list[Row]) -> Iterator[Row]:
    """Where event-driven and dense cost the same, by layer; linear between measured points."""
    keys = dict.fromkeys((r["core"], r["inputs"], r["outputs"], r["element"]) for r in rows)
    for key in keys:
        own = [r for r in rows if (r["core"], r["inputs"], r["outputs"], r["element"]) == key]
        costs = {
            schedule: [r["cycles"] for r in own if r["schedule"] == schedule]
            for schedule in SCHEDULES
        }
        excess = [e - d for e, d in zip(costs["event"], costs["dense"], strict=True)]
        yield {
            "kind": "crossover",
            **dict(zip(("core", "inputs", "outputs", "element"), key, strict=True)),
            "crossover_activity": crossover(excess),
        }


def crossover(excess: list[float]) -> float | None:
    """The activity at which what event-driven costs more than dense turns positive.

    Args:
        excess: cycles, one for each of :data:`ACTIVITIES`.

    >>> crossover([-4, -3, -2, -1, 1, 2, 3, 4, 5, 6])
    0.075
    >>> crossover([-1] * 10)
    """
    for (low, high), (before, after) in zip(pairwise(ACTIVITIES), pairwise(excess), strict=True):
        if before <= 0 < after:
            return round(low + (high - low) * -before / (after - before), 4)
    return None


def neuron_rows(core: str, folder: Path) -> Iterator[Row]:
    """Populations of both orders, with what makes a neuron cost more."""
    rng = np.random.default_rng(SEED)
    for size in NEURONS:
        bench = Bench("neurons")
        labels, feed = [], []
        for dtype in (DType.INT32, DType.FLOAT32):
            integer = dtype.is_integer
            state = Tensor("state", (1, size), dtype)
            factor = np.int32([30000]) if integer else np.float32([0.9])
            threshold = (rng.uniform(0.9, 1.1, size) * (5000 if integer else 1)).astype(dtype.numpy)
            bias = (rng.standard_normal(size) * (100 if integer else 0.1)).astype(dtype.numpy)
            own = rng.uniform(0.2, 1, size) * (1 << DECAY_BITS if integer else 1)
            factors = own.astype(dtype.numpy)
            fraction = 6 if integer else 0
            for name, operator, inputs in (
                ("leaky", Leaky(fraction=fraction), (state, state, factor, threshold)),
                ("leaky, bias", Leaky(fraction=fraction), (state, state, factor, threshold, bias)),
                (
                    "leaky, own factors, bias",
                    Leaky(fraction=fraction),
                    (state, state, factors, threshold, bias),
                ),
                (
                    "leaky, reset to zero",
                    Leaky(fraction=fraction, reset="zero"),
                    (state, state, factor, threshold),
                ),
                (
                    "synaptic",
                    Synaptic(fraction=fraction),
                    (state, state, state, factor, factor, threshold),
                ),
                (
                    "synaptic, own factors, bias",
                    Synaptic(fraction=fraction),
                    (state, state, state, factors, factors[::-1].copy(), threshold, bias),
                ),
            ):
                bench.add(operator, *inputs)
                labels.append((name, dtype))
                feed += [drawn(rng, size, dtype) for i in inputs if isinstance(i, Tensor)]
        (costs,) = bench.measure(core, [feed], folder / f"{core}-neurons-{size}")
        for (name, dtype), cost in zip(labels, costs, strict=True):
            yield {
                "kind": "neurons",
                "core": core,
                "neuron": name,
                "dtype": str(dtype),
                "neurons": size,
                **cost,
                "cycles_per_neuron": round(cost["cycles"] / size, 2),
                "instructions_per_neuron": round(cost["instructions"] / size, 2),
            }


def drawn(rng: np.random.Generator, size: int, dtype: DType) -> Array:
    """Currents or membranes of which a few are above the thresholds."""
    scale = 3000 if dtype.is_integer else 0.6
    values: Array = (rng.standard_normal((1, size)) * scale).astype(dtype.numpy)
    return values


def main() -> int:
    """Write all rows."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    output = ROOT / "results" / "spiking_kernels.json"
    parser.add_argument("--output", type=Path, default=output)
    given = parser.parse_args()
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as temporary:
        for core in CORES:
            sums = list(sum_rows(core, Path(temporary)))
            rows += [*sums, *crossovers(sums), *neuron_rows(core, Path(temporary))]
            sys.stderr.write(f"{core}: {len(rows)} rows\n")
    write(
        given.output,
        rows,
        command="python benchmarks/spiking_kernels.py",
        seed=SEED,
        provenance="modelled cycles, counted instructions; emulated; no wait states",
        toolchain=find_toolchain().version,
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""A Session runs an artifact on a device: NumPy in, NumPy out."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, Self

import numpy as np

from edgekit.bench.costs import CycleModel, LayerCost
from edgekit.deploy.costs import Functions
from edgekit.deploy.profile import Profile
from edgekit.errors import InvalidDataError, ToolchainMissingError, UnsupportedError
from edgekit.program.interpret import check_names, from_program, steps_of, to_program
from edgekit.program.ir import Array, Boundary, Program
from edgekit.targets.c.emit import LayerInfo
from edgekit.targets.cycles.costs import Count
from edgekit.targets.library import Library
from edgekit.targets.machine import (
    BatchMachine,
    Build,
    CountingMachine,
    LayeredBatchMachine,
    Machine,
)

Inputs = Array | Mapping[str, Array]


class Session:
    """An artifact on a device.

    Args:
        program: in the order that the library runs it.
        library: the generated code's description.
        layers: what the library's layer functions compute, in order.
        machine: the initialised library.
        device: name for reports.
        steps: of a window, where the network decides over windows; None where a run is one input.

    Example::

        with artifact.open("emulator") as session:
            y = session.run(x)                 # one input, one output: arrays
            results = session.run({"a": a, "b": b})   # several: dicts by name

    Of a network that decides over windows `run` takes a whole one, and ``step`` one sample of it::

        y = session.run(window)            # [T, ...]: reset, then T steps; the last outputs
        session.reset()
        for sample in window:
            y = session.step(sample)       # the same bits
    """

    def __init__(
        self,
        program: Program,
        library: Library,
        layers: tuple[LayerInfo, ...],
        machine: Machine,
        device: str,
        *,
        steps: int | None = None,
    ) -> None:
        self.program = program
        self.steps = steps
        self.library = library
        self.device = device
        self.layers = layers
        self._machine = machine

    is_exact = True
    """Whether every bit must equal the reference's."""

    has_reference = True
    """Whether the Program says what is computed, and not just what it looks like from outside."""

    @property
    def backend(self) -> str:
        """What executes the network: the generated C."""
        return "c"

    def __enter__(self) -> Self:
        return self

    @property
    def build(self) -> Build | None:
        """How the code that runs was compiled; None where that is not recorded."""
        return self._machine.build

    @property
    def is_simulated(self) -> bool:
        """Whether wall time says nothing: an emulator runs the code."""
        return isinstance(self._machine, CountingMachine | BatchMachine)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Release the device."""
        self._machine.close()

    def reset(self) -> None:
        """Set the state to its initial values."""
        self._machine.reset()

    def run(self, inputs: Inputs) -> Any:
        """Run once from the initial state; a whole window where the network decides over them.

        Args:
            inputs: array in the source model's layout and the artifact's dtype, with a leading time
                axis where it is a window; a mapping by input name where there are several.

        Returns:
            The output array, or a dict by name where there are several outputs.

        Raises:
            InvalidDataError: names, dtypes or shapes do not fit.
        """
        return unwrapped(self.run_named(inputs))

    def run_named(self, inputs: Inputs) -> dict[str, Array]:
        """Like :meth:`run`, but always a dict by output name."""
        if self.steps is not None:
            sequence = self.run_sequence_named(self._window(inputs))
            return {name: values[-1] for name, values in sequence.items()}
        return self.results(self.execute(self.prepare(inputs)))

    def prepare(self, inputs: Inputs) -> list[bytes]:
        """Bytes of every input of one step, as the arena takes them; see :meth:`step`."""
        return self._record(named_inputs(self.program, inputs))

    def execute(self, record: Sequence[bytes]) -> list[bytes]:
        """Run once from the initial state: bytes of every input to bytes of every output."""
        self._write(record)
        self._machine.run()
        return self._fetched()

    def advance(self, record: Sequence[bytes]) -> list[bytes]:
        """Run once and carry the state: bytes of every input to bytes of every output."""
        self._write(record)
        self._machine.step()
        return self._fetched()

    def results(self, record: Sequence[bytes]) -> dict[str, Array]:
        """Arrays by output name from what :meth:`execute` returned."""
        return {
            boundary.name: self._output(boundary, data)
            for boundary, data in zip(self.program.outputs, record, strict=True)
        }

    def step(self, inputs: Inputs) -> Any:
        """Run once and carry the state; see :meth:`run`."""
        return unwrapped(self.results(self.advance(self.prepare(inputs))))

    def run_sequence(self, inputs: Inputs) -> Any:
        """Reset, then step through a sequence.

        Args:
            inputs: as for :meth:`run`, with a leading time axis.

        Returns:
            As :meth:`run`, with a leading time axis.

        Raises:
            InvalidDataError: names, dtypes or shapes do not fit, or there are no steps.
            UnsupportedError: the device starts anew for every run.
        """
        return unwrapped(self.run_sequence_named(inputs))

    def run_sequence_named(self, inputs: Inputs) -> dict[str, Array]:
        """Like :meth:`run_sequence`, but always a dict by output name."""
        sequence = steps_of(self.program, named_inputs(self.program, inputs))
        self._machine.reset()
        results = [self.results(self.advance(self._record(step))) for step in sequence]
        return {name: np.stack([r[name] for r in results]) for name in results[0]}

    def run_many(self, samples: Iterable[Mapping[str, Array]]) -> Iterator[dict[str, Array]]:
        """Run samples one after the other, each from the initial state; dicts by output name.

        A device that boots for every run is given all samples at once.
        """
        machine = self._machine
        if not isinstance(machine, BatchMachine):
            yield from map(self.run_named, samples)
            return
        records = [self._record(named_inputs(self.program, sample)) for sample in samples]
        for outputs in machine.run_batch(records):
            yield self.results(outputs)

    @property
    def carries_state(self) -> bool:
        """Whether it can be stepped: not where a device starts anew for every run."""
        return not isinstance(self._machine, BatchMachine)

    @property
    def has_layers(self) -> bool:
        """Whether single layers can be run: not where a device runs whole images."""
        return not isinstance(self._machine, BatchMachine)

    def trace(self, inputs: Inputs) -> dict[str, Array]:
        """Run layer by layer and return every tensor that a layer writes, in Program layout."""
        named = named_inputs(self.program, inputs)
        self._machine.reset()
        self._feed(named)
        values = {}
        for index, layer in enumerate(self.layers):
            self._machine.layer(index)
            for name, offset in zip(layer.outputs, layer.offsets, strict=True):
                values[name] = self._read(name, offset)
        return values

    def stack_bytes(self) -> int | None:
        """Run once more on whatever the inputs hold; the stack used at its deepest.

        None where the device cannot see it.
        """
        machine = self._machine
        return machine.stack_bytes() if isinstance(machine, CountingMachine) else None

    def profile(self, inputs: Inputs, repeats: int = 20) -> Profile:
        """Cost of every layer for one input.

        Args:
            inputs: as for :meth:`run`; cost may depend on the data.
            repeats: runs per layer where time is measured; the median counts.
        """
        machine = self._machine
        if isinstance(machine, CountingMachine):
            return self._profile_counted(inputs)
        if isinstance(machine, BatchMachine):
            try:
                return self._profile_counted(inputs)
            except (ToolchainMissingError, UnsupportedError) as error:
                return self._profile_whole(machine, inputs, str(error))
        machine.reset()
        self._feed(named_inputs(self.program, inputs))
        timed = tuple(
            LayerCost(
                layer.operation,
                layer.operator,
                layer.macs,
                latency_ms=self._time_layer(index, repeats),
                kernel=layer.kernel,
            )
            for index, layer in enumerate(self.layers)
        )
        return Profile(self.device, timed)

    @property
    def cycle_model(self) -> CycleModel | None:
        """What the device models cycles with; None where it counts instructions at most."""
        model: CycleModel | None = getattr(self._machine, "cycle_model", None)
        return model

    def count_layers(self, inputs: Inputs) -> tuple[Count, ...]:
        """Everything that was counted of every layer for one input, in execution order.

        Args:
            inputs: as for :meth:`run`; cost may depend on the data.

        Raises:
            InvalidDataError: names, dtypes or shapes do not fit.
            UnsupportedError: the device sees no single instructions.
            ToolchainMissingError: what the device traces with is not installed.
        """
        named, machine = named_inputs(self.program, inputs), self._machine
        if isinstance(machine, LayeredBatchMachine):
            return machine.count_layers(self._record(named))
        if not isinstance(machine, CountingMachine):
            raise UnsupportedError(f"device {self.device} does not see single instructions")
        machine.reset()
        self._feed(named)
        return tuple(machine.count_layer(index) for index in range(len(self.layers)))

    def count_window(self, records: Sequence[Sequence[bytes]]) -> list[tuple[Count, ...]]:
        """Everything that was counted of a window: of each step every layer, then the carry.

        Args:
            records: of each step, see :meth:`prepare`.

        Raises:
            UnsupportedError: the device sees no single instructions, or carries no state.
        """
        machine = self._machine
        if not isinstance(machine, CountingMachine):
            raise UnsupportedError(
                f"device {self.device} does not count the steps of a window one by one"
            )
        machine.reset()
        counts = []
        for record in records:
            self._write(record)
            layers = [machine.count_layer(index) for index in range(len(self.layers))]
            counts.append((*layers, machine.count_carry()))
        return counts

    def _window(self, inputs: Inputs) -> Mapping[str, Array]:
        """A window by input name.

        Raises:
            InvalidDataError: names do not fit, or it has another number of steps.
        """
        named = named_inputs(self.program, inputs)
        for name, values in named.items():
            given = np.shape(values)[:1]
            if given != (self.steps,):
                raise InvalidDataError(
                    f"input {name!r} has shape {list(np.shape(values))}, must be a window: its "
                    f"first axis has {self.steps} steps"
                )
        return named

    def _profile_counted(self, inputs: Inputs) -> Profile:
        """From a trace of every layer; see :meth:`count_layers`."""
        functions = Functions(self.library)
        pairs = zip(self.layers, self.count_layers(inputs), strict=True)
        layers = tuple(functions.layer_cost(layer, count) for layer, count in pairs)
        return Profile(self.device, layers, self.stack_bytes())

    def _profile_whole(self, machine: BatchMachine, inputs: Inputs, reason: str) -> Profile:
        """One entry for the whole network, where layers cannot be told apart."""
        (instructions,) = machine.count_batch([self.prepare(inputs)])
        macs = sum(layer.macs for layer in self.layers)
        layers = (LayerCost("whole network", "", macs, instructions),)
        return Profile(self.device, layers, notes=(f"no figures of single layers: {reason}",))

    def _time_layer(self, index: int, repeats: int) -> float:
        """Median milliseconds; memory is restored between runs, a layer may write in place."""
        arena, state = self.library.arena_bytes, self.library.state_bytes
        before = [
            (start, self._machine.read(start, size))
            for start, size in ((0, arena), (arena, state))
            if size
        ]
        times = []
        for _ in range(max(repeats, 1)):
            for start, data in before:
                self._machine.write(start, data)
            begin = time.perf_counter_ns()
            self._machine.layer(index)
            times.append(time.perf_counter_ns() - begin)
        return float(np.median(times)) / 1e6

    def _record(self, named: Mapping[str, Array]) -> list[bytes]:
        """Bytes of every input, as the arena takes them."""
        return [
            to_program(b, self.program.tensors[b.tensor], named[b.name]).tobytes()
            for b in self.program.inputs
        ]

    def _feed(self, named: Mapping[str, Array]) -> None:
        self._write(self._record(named))

    def _write(self, record: Sequence[bytes]) -> None:
        for port, data in zip(self.library.inputs, record, strict=True):
            self._machine.write(port.offset, data)

    def _fetched(self) -> list[bytes]:
        return [self._machine.read(port.offset, port.bytes) for port in self.library.outputs]

    def _output(self, boundary: Boundary, data: bytes) -> Array:
        return from_program(boundary, self._array(boundary.tensor, data))

    def _read(self, name: str, offset: int) -> Array:
        return self._array(name, self._machine.read(offset, self.program.tensors[name].bytes))

    def _array(self, name: str, data: bytes) -> Array:
        tensor = self.program.tensors[name]
        values = np.frombuffer(data, tensor.dtype.numpy).reshape(tensor.shape)
        return values.astype(tensor.dtype.value)


def named_inputs(program: Program, inputs: Inputs) -> Mapping[str, Array]:
    """Inputs by name; a single array belongs to the only input.

    Raises:
        InvalidDataError: names, dtypes or shapes do not fit.
    """
    if not isinstance(inputs, Mapping):
        if len(program.inputs) != 1:
            names = [b.name for b in program.inputs]
            raise InvalidDataError(f"there are several inputs, give a dict by name: {names}")
        inputs = {program.inputs[0].name: np.asarray(inputs)}
    check_names(program, inputs)
    return inputs


def unwrapped(results: dict[str, Array]) -> Any:
    """The array alone where there is only one output."""
    return results if len(results) > 1 else next(iter(results.values()))

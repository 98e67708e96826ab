"""What every way of executing a network offers to measuring and checking."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from edgekit.bench.boundary import check_inputs, convert
from edgekit.bench.costs import Causes, CycleModel, LayerCost
from edgekit.bench.energy import Energy
from edgekit.bench.protocol import Latency, Protocol, measure
from edgekit.bench.report import Provenances
from edgekit.bench.spiking import StepCost
from edgekit.bench.subject import Port

Array = NDArray[Any]
Inputs = Mapping[str, Array]
R = TypeVar("R", bound="Runner")
T = TypeVar("T")


class RunnerError(Exception):
    """A runtime that cannot execute a file."""


class RuntimeMissingError(RunnerError):
    """A runtime that is not installed; says what would provide it."""


@dataclass(frozen=True)
class Cost:
    """What one inference takes; null where there is no honest figure.

    Attributes:
        latency_ms: measured or modelled.
        samples: different inputs that it was taken over.
        layers: per layer; empty where the runtime does not tell.
        instructions: issued.
        cycles: modelled.
        causes: of the cycles.
        cycle_model: that they came from.
        energy_uj: measured or estimated.
        clock_hz: behind a modelled latency.
        stack_bytes: high-water mark.
        provenance: of the figures.
        warnings: what to mind.
        step: of a window; null where an inference is one input.
    """

    latency_ms: Latency | None
    samples: int
    layers: tuple[LayerCost, ...] = ()
    instructions: int | None = None
    cycles: float | None = None
    causes: Causes | None = None
    cycle_model: CycleModel | None = None
    energy_uj: Energy | None = None
    clock_hz: int | None = None
    stack_bytes: int | None = None
    provenance: Provenances = field(default_factory=Provenances)
    warnings: tuple[str, ...] = ()
    step: StepCost | None = None


class Runner(ABC):
    """A network in a runtime.

    A run has three parts, so that only what the runtime does is timed: `prepare` brings inputs to
    its dtypes and layout, `invoke` executes, `results` brings its outputs back.

    Attributes:
        name: of the back end: ``c``, ``onnxruntime``, ``litert``, ``tensorrt``.
        version: of the runtime.
        kernels: what computes.
        precision: that it runs in.
        device: where it runs.
        threads: that it may use.
        toolchain: compiler of the code that runs; None where none was ours.
        toolchain_version: first line of what it says about itself.
        flags: that it was given.
        notes: what to mind, known before anything runs.
        on_target: whether it stands for the hardware that the network was built for.
        is_simulated: whether wall time says nothing: an emulator runs the code.
        inputs: of the network, in its order.
        outputs: likewise.
        file: model that it runs, without folder; None for generated C.
        is_exact: whether every bit must equal the reference's.
        steps: of a window, where an inference is one; None where it is a single input.
        carries_state: whether it can be stepped.
    """

    name: str
    version: str
    kernels: str
    device: str = "local"
    file: str | None = None
    is_exact: bool = False
    on_target: bool = True
    is_simulated: bool = False
    toolchain: str | None = None
    toolchain_version: str | None = None
    flags: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    steps: int | None = None
    carries_state: bool = False

    def __init__(
        self,
        inputs: Sequence[Port],
        outputs: Sequence[Port],
        *,
        precision: str,
        threads: int = 1,
    ) -> None:
        self.inputs = tuple(inputs)
        self.outputs = tuple(outputs)
        self.precision = precision
        self.threads = threads

    def __enter__(self: R) -> R:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:  # noqa: B027  most runtimes hold nothing that must be released
        """Release what the runtime holds."""

    @property
    def wants_real(self) -> bool:
        """Whether it takes real numbers where the network's inputs are integers."""
        return False

    @abstractmethod
    def prepare(self, inputs: Inputs) -> Any:
        """Inputs as the runtime takes them.

        Args:
            inputs: array by name in the source's layout; in the port's dtype, or real numbers.

        Raises:
            BoundaryError: names, shapes or dtypes do not fit.
        """

    @abstractmethod
    def invoke(self, prepared: Any) -> Any:
        """Execute once; nothing else is timed. The result may be a view of the runtime's memory."""

    @abstractmethod
    def results(self, raw: Any) -> dict[str, Array]:
        """Outputs of :meth:`invoke` by name, in the source's layout and the runtime's dtype."""

    def run(self, inputs: Inputs) -> dict[str, Array]:
        """Outputs by name, in the source's layout and the ports' dtypes.

        Raises:
            BoundaryError: names, shapes or dtypes do not fit.
            RunnerError: the runtime failed.
        """
        results = self.results(self.invoke(self.prepare(inputs)))
        return {p.name: convert(p, results[p.name], p.dtype) for p in self.outputs}

    def reset(self) -> None:
        """Set the state to its initial values; of runners that carry state."""
        raise NotImplementedError

    def advance(self, prepared: Any) -> Any:
        """Like :meth:`invoke`, and carry the state; of runners that do."""
        raise NotImplementedError

    def window(self, prepared: Sequence[Any]) -> Any:
        """Reset, then a step for each of a window's prepared inputs; what the last one gave."""
        self.reset()
        raw = None
        for step in prepared:
            raw = self.advance(step)
        return raw

    def end_of(self, sequence: Sequence[Inputs]) -> dict[str, Array] | None:
        """Outputs of the last step of a sequence that starts from reset, as :meth:`results`.

        None where no state is carried from step to step.
        """
        if not self.carries_state:
            return None
        return self.results(self.window([self.prepare(inputs) for inputs in sequence]))

    def run_window(self, inputs: Inputs) -> dict[str, Array]:
        """Outputs of every step of a window, as :meth:`run` gives those of one input.

        Args:
            inputs: array by name with a leading time axis.
        """
        self.reset()
        found = []
        for index in range(len(next(iter(inputs.values())))):
            step = self.prepare({name: values[index] for name, values in inputs.items()})
            results = self.results(self.advance(step))
            found.append({p.name: convert(p, results[p.name], p.dtype) for p in self.outputs})
        return {name: np.stack([step[name] for step in found]) for name in found[0]}

    def profile(self, prepared: Any) -> tuple[LayerCost, ...]:
        """Every layer for one input; empty where the runtime does not tell."""
        return ()

    def cost(self, samples: Sequence[Inputs], protocol: Protocol) -> Cost:
        """What one inference takes.

        Args:
            samples: real inputs that are cycled.
            protocol: how real execution is measured.
        """
        prepared = [self.prepare(sample) for sample in samples]
        work: Sequence[Any] = prepared
        if self.steps is not None:
            work = windows_of(prepared, self.steps)
        latency = measure(self.invoke if self.steps is None else self.window, work, protocol)
        ran = min(len(work), len(latency.samples) + protocol.warmup + 1)
        if self.steps is None:
            return Cost(latency, ran, self.profile(prepared[0]), warnings=latency.warnings)
        # What a layer takes depends on which neurons fire: one input from reset says nothing of it.
        step = StepCost(self.steps, latency_ms=latency.p50 / self.steps)
        return Cost(latency, ran, warnings=latency.warnings, step=step)


def windows_of(prepared: Sequence[T], steps: int) -> list[Sequence[T]]:
    """Successive inputs as windows.

    >>> windows_of([1, 2, 3, 4], 2)
    [[1, 2], [3, 4]]
    """
    return [prepared[i : i + steps] for i in range(0, len(prepared), steps)]


def bind_names(ports: Sequence[Port], names: Sequence[str], what: str) -> dict[str, str]:
    """Which of a runtime's names each port is: the same name, else the same place.

    Raises:
        RunnerError: another number of them.

    >>> port = Port("x", "int8", (2,), None, None, 2, 0.5, 1)
    >>> bind_names([port], ["serving_default_x:0"], "inputs")
    {'x': 'serving_default_x:0'}
    """
    if len(ports) != len(names):
        raise RunnerError(f"the file has {len(names)} {what}, the network {len(ports)}")
    own = [port.name for port in ports]
    if sorted(own) == sorted(names):
        return {name: name for name in own}
    return dict(zip(own, names, strict=True))


def check_shape(port: Port, found: Sequence[object], wanted: Sequence[int]) -> None:
    """Refuse a file whose tensor is not the network's; axes that are not numbers are free.

    Raises:
        RunnerError: says both shapes.
    """
    fits = len(found) == len(wanted) and all(
        not isinstance(f, int) or f in (w, -1) for f, w in zip(found, wanted, strict=True)
    )
    if not fits:
        raise RunnerError(f"{port.name!r}: the file has shape {list(found)}, not {list(wanted)}")


def prepared_arrays(
    ports: Sequence[Port], inputs: Inputs, dtypes: Mapping[str, str]
) -> list[Array]:
    """Every input in the dtype that the runtime wants, in the source's layout.

    Raises:
        BoundaryError: names, shapes or dtypes do not fit.
    """
    named = {name: np.asarray(values) for name, values in inputs.items()}
    check_inputs(ports, named)
    return [convert(port, named[port.name], dtypes[port.name]) for port in ports]

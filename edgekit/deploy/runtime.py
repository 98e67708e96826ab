"""A network in another runtime than the generated C, behind the same calls as a Session."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, NoReturn, Self

import numpy as np

from edgekit.bench.runners import open_model
from edgekit.bench.runners.base import Runner, RunnerError, RuntimeMissingError
from edgekit.deploy.ondevice import ports_of
from edgekit.deploy.session import Inputs, named_inputs, unwrapped
from edgekit.errors import DeviceMissingError, UnsupportedError
from edgekit.program.ir import Array, Program


class RuntimeSession:
    """A network in ONNX Runtime or LiteRT on this machine.

    Their arithmetic between layers is in float, so that equality to the bit cannot be demanded.

    Args:
        program: whose inputs and outputs the network has.
        runner: what executes it.
        has_reference: whether the Program says what the network computes, up to rounding.
    """

    has_layers = False
    is_exact = False
    is_simulated = False
    device = "local"

    def __init__(self, program: Program, runner: Runner, *, has_reference: bool = True) -> None:
        self.program = program
        self.has_reference = has_reference
        self.runner = runner

    @property
    def backend(self) -> str:
        """Name of the runtime."""
        return self.runner.name

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Release the runtime."""
        self.runner.close()

    def run(self, inputs: Inputs) -> Any:
        """Run once; see :meth:`edgekit.deploy.session.Session.run`."""
        return unwrapped(self.run_named(inputs))

    def run_named(self, inputs: Inputs) -> dict[str, Array]:
        """Like :meth:`run`, but always a dict by output name."""
        results = self.runner.run(named_inputs(self.program, inputs))
        return {
            boundary.name: np.ascontiguousarray(results[boundary.name])
            for boundary in self.program.outputs
        }

    def run_sequence_named(self, inputs: Inputs) -> NoReturn:
        """Refuse: state lies outside of the network's file.

        Raises:
            UnsupportedError: always.
        """
        raise UnsupportedError(
            f"{self.backend} carries no state from step to step; sequences need generated C"
        )

    def run_many(self, samples: Iterable[Mapping[str, Array]]) -> Iterator[dict[str, Array]]:
        """Run samples one after the other; dicts by output name."""
        return map(self.run_named, samples)


def open_runtime(
    program: Program,
    file: Path,
    runtime: str,
    *,
    precision: str,
    threads: int = 1,
    has_reference: bool = True,
) -> RuntimeSession:
    """Load a file into its runtime on this machine.

    Args:
        program: whose inputs and outputs the network has.
        file: the network in the runtime's format.
        runtime: ``onnxruntime`` or ``litert``.
        precision: that the file runs in.
        threads: that the runtime may use.
        has_reference: see :class:`RuntimeSession`.

    Raises:
        UnsupportedError: the runtime refuses the file.
        DeviceMissingError: the runtime is not installed; names the package.
    """
    inputs, outputs = ports_of(program)
    try:
        runner = open_model(runtime, file, inputs, outputs, precision=precision, threads=threads)
    except RuntimeMissingError as error:
        raise DeviceMissingError(str(error)) from error
    except RunnerError as error:
        raise UnsupportedError(str(error)) from error
    return RuntimeSession(program, runner, has_reference=has_reference)

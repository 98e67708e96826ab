"""LiteRT, or the older tflite_runtime, with whatever kernels it applies by itself."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module, metadata
from pathlib import Path
from typing import Any

import numpy as np

from edgekit.bench.boundary import from_program, to_program
from edgekit.bench.runners.base import (
    Array,
    Inputs,
    Runner,
    RunnerError,
    RuntimeMissingError,
    check_shape,
    prepared_arrays,
)
from edgekit.bench.subject import Port

PACKAGES = (
    ("ai-edge-litert", "ai_edge_litert.interpreter"),
    ("tflite-runtime", "tflite_runtime.interpreter"),
)
"""Distributions that bring an interpreter, and its module; the first that is there is taken."""


BUILT_IN, DELEGATED = "built-in kernels", "XNNPACK"
"""What computes; the only delegate that the interpreter applies without being asked is XNNPACK."""


class LiteRtRunner(Runner):
    """A ``.tflite`` file, in the program's layout.

    Args:
        model: the file.
        inputs: of the network.
        outputs: of the network.
        precision: that the file runs in.
        threads: of the kernels.

    Raises:
        RuntimeMissingError: neither package is installed.
        RunnerError: it refuses the file, or the file has other inputs or outputs.
    """

    name = "litert"

    def __init__(
        self,
        model: Path,
        inputs: Sequence[Port],
        outputs: Sequence[Port],
        *,
        precision: str,
        threads: int = 1,
    ) -> None:
        super().__init__(inputs, outputs, precision=precision, threads=threads)
        make, self.version = _interpreter()
        try:
            # From memory: a path would be opened again by native code.
            self._interpreter = make(model_content=model.read_bytes(), num_threads=threads)
            self._interpreter.allocate_tensors()
        except (OSError, RuntimeError, ValueError) as error:
            raise RunnerError(f"{model.name}: LiteRT refuses it: {error}") from error
        self.kernels = _kernels(self._interpreter)
        self._fed = _bound(self.inputs, self._interpreter.get_input_details(), "inputs")
        self._fetched = _bound(self.outputs, self._interpreter.get_output_details(), "outputs")

    @property
    def wants_real(self) -> bool:
        """See :attr:`Runner.wants_real`."""
        return any(dtype == "float32" for _, dtype in self._fed)

    def prepare(self, inputs: Inputs) -> list[tuple[int, Array]]:
        """Index of the tensor, and values in its layout."""
        dtypes = {p.name: dtype for p, (_, dtype) in zip(self.inputs, self._fed, strict=True)}
        arrays = prepared_arrays(self.inputs, inputs, dtypes)
        return [
            (index, to_program(port, values).reshape(self._shape(index)))
            for port, values, (index, _) in zip(self.inputs, arrays, self._fed, strict=True)
        ]

    def _shape(self, index: int) -> tuple[int, ...]:
        details = self._interpreter.get_input_details()
        return tuple(next(d["shape"] for d in details if d["index"] == index))

    def invoke(self, prepared: list[tuple[int, Array]]) -> list[Any]:
        """Copy the inputs in, run, copy the outputs out."""
        for index, values in prepared:
            self._interpreter.set_tensor(index, values)
        self._interpreter.invoke()
        return [self._interpreter.get_tensor(index) for index, _ in self._fetched]

    def results(self, raw: list[Any]) -> dict[str, Array]:
        """See :meth:`Runner.results`."""
        return {
            p.name: from_program(p, values) for p, values in zip(self.outputs, raw, strict=True)
        }


def _interpreter() -> tuple[Any, str]:
    """The class that runs models, and the version of the package that it comes from.

    Raises:
        RuntimeMissingError: there is none.
    """
    for distribution, module in PACKAGES:
        try:
            interpreter: Any = import_module(module)
            return interpreter.Interpreter, f"{distribution} {metadata.version(distribution)}"
        except ImportError:
            continue
    raise RuntimeMissingError("no LiteRT: pip install ai-edge-litert")


def _kernels(interpreter: Any) -> str:
    """What computes, from the operations that the interpreter will execute."""
    # There is no public way to ask; releases without this one do not tell.
    ask = getattr(interpreter, "_get_ops_details", None)
    if ask is None:
        return "the runtime's choice, not known"
    delegated = any(entry["op_name"] == "DELEGATE" for entry in ask())
    return DELEGATED if delegated else BUILT_IN


def _bound(
    ports: Sequence[Port], details: Sequence[dict[str, Any]], what: str
) -> list[tuple[int, str]]:
    """Index and dtype of the tensor behind every port: the same name, else the same place.

    Raises:
        RunnerError: another number of tensors, or other shapes.
    """
    if len(ports) != len(details):
        raise RunnerError(f"the file has {len(details)} {what}, the network {len(ports)}")
    by_name = {str(d["name"]): d for d in details}
    named = sorted(by_name) == sorted(p.name for p in ports)
    bound = []
    for port, detail in zip(ports, details, strict=True):
        entry = by_name[port.name] if named else detail
        found = [int(d) for d in entry["shape"]]
        # Axes of extent 1 may have been folded away.
        check_shape(port, [d for d in found if d != 1], [d for d in port.program_shape if d != 1])
        bound.append((int(entry["index"]), np.dtype(entry["dtype"]).name))
    return bound

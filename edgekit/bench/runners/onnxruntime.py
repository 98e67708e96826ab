"""ONNX Runtime on the CPU."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from edgekit.bench.runners.arithmetic import Arithmetic, executed
from edgekit.bench.runners.base import (
    Array,
    Inputs,
    Runner,
    RunnerError,
    RuntimeMissingError,
    bind_names,
    check_shape,
    prepared_arrays,
)
from edgekit.bench.subject import Port

PROVIDER = "CPUExecutionProvider"

DISABLED = ("WeightBiasQuantization",)
"""Optimisers that are left out. This one rounds float weights between quantised activations to int8
with one scale for all of them: a format that the file states in other words would not be what runs.
Names that a version does not know, it ignores."""

ELEMENT_TYPES = {
    "tensor(float)": "float32",
    "tensor(int8)": "int8",
    "tensor(int16)": "int16",
    "tensor(int32)": "int32",
    "tensor(int64)": "int64",
}
"""How ONNX Runtime spells the dtypes that ports have."""


class OnnxRuntimeRunner(Runner):
    """An ONNX file, in the source's layout.

    Args:
        model: the file.
        inputs: of the network.
        outputs: of the network.
        precision: that the file runs in.
        threads: of the intra-operator pool.

    Raises:
        RuntimeMissingError: ONNX Runtime is not installed.
        RunnerError: it refuses the file, or the file has other inputs or outputs.
    """

    name = "onnxruntime"
    kernels = PROVIDER

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
        try:
            onnxruntime: Any = import_module("onnxruntime")
        except ImportError as error:
            raise RuntimeMissingError(
                f"no onnxruntime: pip install onnxruntime: {error}"
            ) from error
        self.version = str(onnxruntime.__version__)
        try:
            self._session = _open(onnxruntime, model, _options(onnxruntime, threads))
        except Exception as error:
            # The runtime's own exceptions have no common base.
            raise RunnerError(f"{model.name}: ONNX Runtime refuses it: {error}") from error
        self._names = bind_names(
            self.inputs, [i.name for i in self._session.get_inputs()], "inputs"
        )
        found = [o.name for o in self._session.get_outputs()]
        self._fetched = bind_names(self.outputs, found, "outputs")
        self._wanted = [self._fetched[port.name] for port in self.outputs]
        self._dtypes = self._checked()
        if not precision.startswith("float"):
            options = _options(onnxruntime, threads)
            self._tell(executed(lambda: _open(onnxruntime, model, options), options))

    def _tell(self, found: Arithmetic | None) -> None:
        """Which part of a quantised network is computed in integers: int8 is the file's word."""
        if found is None:
            self.kernels = f"{PROVIDER}, in integers or floats"
            self.notes = (
                "how many nodes ONNX Runtime computes in integers is not known: "
                "the package onnx could not read what it executes",
            )
            return
        self.kernels = f"{PROVIDER}, nodes: {found.integer} integer, {found.real} float"
        if found.real:
            self.notes = (
                f"ONNX Runtime computes {found.real} of {found.integer + found.real} nodes in "
                f"float on this processor, although the file is {self.precision}",
            )

    def _checked(self) -> dict[str, str]:
        """The dtype of every input, by port."""
        by_name = {i.name: i for i in self._session.get_inputs()}
        dtypes = {}
        for port in self.inputs:
            entry = by_name[self._names[port.name]]
            check_shape(port, entry.shape, port.source_shape)
            if entry.type not in ELEMENT_TYPES:
                raise RunnerError(f"input {port.name!r} of the file is {entry.type}")
            dtypes[port.name] = ELEMENT_TYPES[entry.type]
        return dtypes

    @property
    def wants_real(self) -> bool:
        """See :attr:`Runner.wants_real`."""
        return "float32" in self._dtypes.values()

    def prepare(self, inputs: Inputs) -> dict[str, Array]:
        """Feeds by the file's names."""
        arrays = prepared_arrays(self.inputs, inputs, self._dtypes)
        return {self._names[p.name]: a for p, a in zip(self.inputs, arrays, strict=True)}

    def invoke(self, prepared: dict[str, Array]) -> list[Any]:
        """One call of the runtime."""
        outputs: list[Any] = self._session.run(self._wanted, prepared)
        return outputs

    def results(self, raw: list[Any]) -> dict[str, Array]:
        """See :meth:`Runner.results`."""
        return {
            port.name: values.reshape(port.source_shape)
            for port, values in zip(self.outputs, raw, strict=True)
        }


def _open(onnxruntime: Any, model: Path, options: Any) -> Any:
    return onnxruntime.InferenceSession(
        str(model), options, providers=[PROVIDER], disabled_optimizers=list(DISABLED)
    )


def _options(onnxruntime: Any, threads: int) -> Any:
    """Of a session: its defaults but for threads and noise."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return options

"""TensorRT on a Jetson's GPU: an engine that ``ondevice/build.py`` has built there."""

from __future__ import annotations

import ctypes
import hashlib
import json
import statistics
import sys
import time
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from edgekit.bench.costs import LayerCost
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
from edgekit.bench.runners.cuda import Buffer, Cuda
from edgekit.bench.subject import Port

MAJORS = (10, 11)
"""Versions of TensorRT that are known."""

ENGINES = "engines"
"""Folder of the engines beside the models."""

LAYER_RUNS = 20
"""Runs with a profiler; the median counts."""

UPLOAD, DOWNLOAD = "copy to the device", "copy from the device"
"""What the copies around an inference are called among the layers."""


class TensorRTRunner(Runner):
    """The engine of an ONNX file, in the source's layout.

    Args:
        model: the ONNX file; its engine is ``engines/NAME.plan`` beside it.
        inputs: of the network.
        outputs: of the network.
        precision: that the file runs in.
        threads: without meaning here.

    Raises:
        RuntimeMissingError: TensorRT or a CUDA device is missing.
        RunnerError: there is no engine, it was built from another file or by another TensorRT, or
            it has other inputs or outputs.
    """

    name = "tensorrt"
    kernels = "TensorRT, chosen by its builder"

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
        self._trt = _tensorrt()
        self.version = str(self._trt.__version__)
        plan = _plan(model, self.version)
        self._cuda = Cuda()
        try:
            self._open(model, plan)
        except BaseException:
            self._cuda.close()
            raise

    def _open(self, model: Path, plan: bytes) -> None:
        trt = self._trt
        self._log = _quiet(trt)
        self._runtime = trt.Runtime(self._log)
        self._engine = self._runtime.deserialize_cuda_engine(plan)
        if self._engine is None:
            raise RunnerError(f"{model.name}: TensorRT refuses the engine; build it again")
        engine = self._engine
        names = [engine.get_tensor_name(i) for i in range(engine.num_io_tensors)]
        fed = [n for n in names if engine.get_tensor_mode(n) == trt.TensorIOMode.INPUT]
        fetched = [n for n in names if n not in fed]
        self._fed = bind_names(self.inputs, fed, "inputs")
        self._fetched = bind_names(self.outputs, fetched, "outputs")
        self._buffers: dict[str, Buffer] = {}
        self._arrays: dict[str, Array] = {}
        bound = {**self._fed, **self._fetched}
        for port in (*self.inputs, *self.outputs):
            name = bound[port.name]
            self._reserve(port, name)
        self._context = self._new_context()
        self._uploads = [self._buffers[self._fed[p.name]] for p in self.inputs]
        self._downloads = [self._buffers[self._fetched[p.name]] for p in self.outputs]

    def _new_context(self) -> Any:
        """Something that executes the engine on the reserved memory.

        Raises:
            RunnerError: there is not enough memory for another one.
        """
        context = self._engine.create_execution_context()
        if context is None:
            raise RunnerError("there is not enough memory to execute the engine")
        for name, buffer in self._buffers.items():
            if not context.set_tensor_address(name, buffer.device):
                raise RunnerError(f"TensorRT takes no address for {name!r}")
        return context

    def _reserve(self, port: Port, name: str) -> None:
        """Give a tensor its memory."""
        shape = [int(d) for d in self._engine.get_tensor_shape(name)]
        check_shape(port, shape, port.source_shape)
        try:
            dtype = np.dtype(self._trt.nptype(self._engine.get_tensor_dtype(name)))
        except TypeError as error:
            raise RunnerError(f"{name!r} of the engine: {error}") from error
        buffer = self._cuda.allocate(int(np.prod(shape, dtype=np.int64)) * dtype.itemsize)
        self._buffers[name] = buffer
        memory = (ctypes.c_char * buffer.bytes).from_address(buffer.host)
        self._arrays[name] = np.frombuffer(memoryview(memory).cast("B"), dtype).reshape(shape)

    def close(self) -> None:
        """Release the engine and its memory; results that were not copied are gone."""
        self._arrays = {}
        # The context refers to the engine, the engine to the runtime.
        self._context = self._engine = self._runtime = None
        self._cuda.close()

    @property
    def wants_real(self) -> bool:
        """See :attr:`Runner.wants_real`."""
        return any(self._arrays[name].dtype == np.float32 for name in self._fed.values())

    def prepare(self, inputs: Inputs) -> list[Array]:
        """Values in the engine's dtypes."""
        dtypes = {p.name: self._arrays[self._fed[p.name]].dtype.name for p in self.inputs}
        arrays = prepared_arrays(self.inputs, inputs, dtypes)
        return [np.ascontiguousarray(array) for array in arrays]

    def invoke(self, prepared: list[Array]) -> list[Array]:
        """Copy the inputs to the device, run, copy the outputs back."""
        self._stage(prepared)
        self._upload()
        self._execute(self._context)
        self._download()
        self._cuda.wait()
        return [self._arrays[self._fetched[port.name]] for port in self.outputs]

    def results(self, raw: list[Array]) -> dict[str, Array]:
        """See :meth:`Runner.results`."""
        return {
            port.name: values.reshape(port.source_shape).copy()
            for port, values in zip(self.outputs, raw, strict=True)
        }

    def profile(self, prepared: list[Array]) -> tuple[LayerCost, ...]:
        """Median milliseconds of TensorRT's layers, and of the copies before and behind them.

        A layer is what TensorRT has fused; its name lists the nodes.
        """
        # Of its own: a profiler slows every run of its context.
        context, profiler = self._new_context(), _profiler(self._trt)
        copies: dict[str, list[float]] = {UPLOAD: [], DOWNLOAD: []}
        context.profiler = profiler
        for _ in range(LAYER_RUNS):
            self._stage(prepared)
            copies[UPLOAD].append(self._timed(self._upload))
            self._execute(context)
            self._cuda.wait()
            copies[DOWNLOAD].append(self._timed(self._download))
        times = {UPLOAD: copies[UPLOAD], **profiler.times, DOWNLOAD: copies[DOWNLOAD]}
        return tuple(
            LayerCost(
                name,
                "copy" if name in copies else "engine_layer",
                latency_ms=statistics.median(values),
            )
            for name, values in times.items()
        )

    def _timed(self, begin_copies: Any) -> float:
        """Milliseconds of copies, until they are done."""
        begin = time.perf_counter_ns()
        begin_copies()
        self._cuda.wait()
        return (time.perf_counter_ns() - begin) / 1e6

    def _stage(self, prepared: list[Array]) -> None:
        for port, values in zip(self.inputs, prepared, strict=True):
            np.copyto(self._arrays[self._fed[port.name]], values)

    def _upload(self) -> None:
        for buffer in self._uploads:
            self._cuda.upload(buffer)

    def _download(self) -> None:
        for buffer in self._downloads:
            self._cuda.download(buffer)

    def _execute(self, context: Any) -> None:
        if not context.execute_async_v3(self._cuda.stream):
            raise RunnerError("TensorRT refused to run the engine")


def _tensorrt() -> Any:
    """The tensorrt module.

    Raises:
        RuntimeMissingError: it is missing, or of a version that is not known.
    """
    try:
        trt: Any = import_module("tensorrt")
    except ImportError as error:
        raise RuntimeMissingError(
            f"no tensorrt: it comes with JetPack (python3-libnvinfer): {error}"
        ) from error
    if int(str(trt.__version__).partition(".")[0]) not in MAJORS:
        known = " or ".join(str(major) for major in MAJORS)
        raise RuntimeMissingError(f"TensorRT {trt.__version__} is not known, use {known}")
    return trt


def _plan(model: Path, version: str) -> bytes:
    """The engine of a model, if it was built from this very file and by this TensorRT.

    Raises:
        RunnerError: there is none, or it is stale.
    """
    path = model.parent / ENGINES / f"{model.stem}.plan"
    mending = "run ondevice/build.py on this device"
    try:
        record = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
        plan = path.read_bytes()
        digest = hashlib.sha256(model.read_bytes()).hexdigest()
    except (OSError, ValueError) as error:
        raise RunnerError(f"{model.name} has no engine: {mending}: {error}") from error
    if not isinstance(record, dict) or record.get("model_sha256") != digest:
        raise RunnerError(f"{path.name} was built from another {model.name}: {mending}")
    if record.get("tensorrt") != version:
        raise RunnerError(
            f"{path.name} was built by TensorRT {record.get('tensorrt')}, this is {version}: "
            f"{mending}"
        )
    if record.get("engine_sha256") != hashlib.sha256(plan).hexdigest():
        raise RunnerError(f"{path.name} is not the file that its record describes: {mending}")
    return plan


def _quiet(trt: Any) -> Any:
    """A logger for errors only, on standard error: standard output is for data."""

    class Log(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)

        def log(self, severity: Any, message: str) -> None:
            if severity in (trt.ILogger.Severity.ERROR, trt.ILogger.Severity.INTERNAL_ERROR):
                sys.stderr.write(f"[TensorRT] {message}\n")

    return Log()


def _profiler(trt: Any) -> Any:
    """A profiler that keeps every layer's milliseconds, in the order of execution."""

    class Profiler(trt.IProfiler):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.IProfiler.__init__(self)
            self.times: dict[str, list[float]] = {}

        def report_layer_time(self, layer_name: str, milliseconds: float) -> None:
            self.times.setdefault(layer_name, []).append(milliseconds)

    return Profiler()

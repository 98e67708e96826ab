"""A stand-in for NVIDIA's tensorrt module, and one for CUDA's driver.

It has the names of the real bindings that edgekit uses and no others: asking for, or setting,
anything else fails. The names were compared with the bindings of 10.13.3.9 (``__init__.py`` and
the symbols of its extension); those of 11 with its documentation. An "engine" is the ONNX file, and
ONNX Runtime executes it, so that what goes in and out of the device's memory is real.
"""

from __future__ import annotations

import ctypes
import enum
import json
import subprocess
import types
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from tests.support.onnx_models import run_onnx

MAGIC = b"plan:"

DRIVER = """
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* The functions of cuda.h that edgekit calls; the device's memory is the host's. */
static int streams;
int ek_open_allocations;
int cuInit(unsigned flags) { return flags ? 1 : 0; }
int cuDeviceGet(int *device, int ordinal) { *device = 7; return ordinal ? 101 : 0; }
int cuDeviceGetName(char *name, int length, int device)
{
    strncpy(name, device == 7 ? "Fake Orin" : "wrong", (size_t)length);
    return 0;
}
int cuDeviceGetAttribute(int *value, int attribute, int device)
{
    *value = attribute == 75 ? 8 : attribute == 76 ? 7 : -1;
    return device == 7 ? 0 : 101;
}
int cuDevicePrimaryCtxRetain(void **context, int device)
{
    *context = &streams;
    return device != 7;
}
int cuDevicePrimaryCtxRelease_v2(int device) { return device != 7; }
int cuCtxSetCurrent(void *context) { return context != &streams; }
int cuStreamCreate(void **stream, unsigned flags)
{
    *stream = &streams;
    return flags ? 1 : 0;
}
int cuStreamSynchronize(void *stream) { return stream != &streams; }
int cuStreamDestroy_v2(void *stream) { return stream != &streams; }
int cuMemAlloc_v2(uint64_t *address, size_t bytes)
{
    if (bytes > 100000000u) {
        return 2;
    }
    *address = (uint64_t)(uintptr_t)malloc(bytes);
    ek_open_allocations++;
    return 0;
}
int cuMemFree_v2(uint64_t address)
{
    free((void *)(uintptr_t)address);
    ek_open_allocations--;
    return 0;
}
int cuMemHostAlloc(void **address, size_t bytes, unsigned flags)
{
    *address = malloc(bytes);
    ek_open_allocations++;
    return flags ? 1 : 0;
}
int cuMemFreeHost(void *address)
{
    free(address);
    ek_open_allocations--;
    return 0;
}
int cuMemcpyHtoDAsync_v2(uint64_t to, const void *from, size_t bytes, void *stream)
{
    memcpy((void *)(uintptr_t)to, from, bytes);
    return stream != &streams;
}
int cuMemcpyDtoHAsync_v2(void *to, uint64_t from, size_t bytes, void *stream)
{
    memcpy(to, (void *)(uintptr_t)from, bytes);
    return stream != &streams;
}
"""


def build_driver(folder: Path) -> Path:
    """Compile the stand-in for ``libcuda.so.1``."""
    source, library = folder / "cuda.c", folder / "libcuda.so.1"
    source.write_text(DRIVER, encoding="utf-8")
    subprocess.run(["cc", "-shared", "-fPIC", "-Wall", "-o", library, source], check=True)
    return library


class Strict:
    """Only attributes that the class declares can be set."""

    def __setattr__(self, name: str, value: Any) -> None:
        if not hasattr(type(self), name):
            raise AttributeError(f"{type(self).__name__} has no attribute {name!r}")
        super().__setattr__(name, value)


class Severity(enum.IntEnum):
    INTERNAL_ERROR = 0
    ERROR = 1
    WARNING = 2
    INFO = 3
    VERBOSE = 4


class ILogger:
    Severity = Severity

    def __init__(self) -> None:
        self.ready = True


class IProfiler:
    def __init__(self) -> None:
        self.ready = True


class MemoryPoolType(enum.Enum):
    WORKSPACE = 0


class ProfilingVerbosity(enum.Enum):
    DETAILED = 2


class BuilderFlag(enum.Enum):
    TF32 = 7


class LayerInformationFormat(enum.Enum):
    JSON = 1


class TensorIOMode(enum.Enum):
    NONE = 0
    INPUT = 1
    OUTPUT = 2


class DataType(enum.Enum):
    FLOAT = 0
    HALF = 1
    INT8 = 2
    INT32 = 3
    INT64 = 8
    BF16 = 9


NUMPY = {
    DataType.FLOAT: np.float32,
    DataType.HALF: np.float16,
    DataType.INT8: np.int8,
    DataType.INT32: np.int32,
    DataType.INT64: np.int64,
}
ELEMENT_TYPES = {
    onnx.TensorProto.FLOAT: DataType.FLOAT,
    onnx.TensorProto.FLOAT16: DataType.HALF,
    onnx.TensorProto.INT8: DataType.INT8,
    onnx.TensorProto.INT32: DataType.INT32,
    onnx.TensorProto.INT64: DataType.INT64,
    onnx.TensorProto.BFLOAT16: DataType.BF16,
}


def nptype(dtype: DataType) -> type:
    if dtype not in NUMPY:
        raise TypeError("Could not resolve TensorRT datatype to an equivalent numpy datatype.")
    return NUMPY[dtype]


class ParserError:
    def __init__(self, text: str) -> None:
        self._text = text

    def desc(self) -> str:
        return self._text


class Network(Strict):
    flags = 0
    model = b""


class OnnxParser(Strict):
    num_errors = 0
    _network: Any = None
    _errors: Any = None

    def __init__(self, network: Network, logger: ILogger) -> None:
        assert logger.ready, "ILogger.__init__ was not called"
        self._network, self._errors = network, []

    def parse(self, model: bytes) -> bool:
        try:
            onnx.checker.check_model(onnx.load_from_string(model))
        except Exception as error:
            self._errors = [ParserError(f"INVALID_GRAPH: {error}")]
            self.num_errors = 1
            return False
        self._network.model = model
        return True

    def get_error(self, index: int) -> ParserError:
        return self._errors[index]


class HostMemory(bytes):
    """Has the buffer protocol, as IHostMemory."""


class TimingCache:
    def __init__(self, data: bytes) -> None:
        self.data = data

    def serialize(self) -> HostMemory:
        return HostMemory(self.data)


class BuilderConfig(Strict):
    profiling_verbosity: Any = None
    _flags: Any = None
    _cache: Any = None
    _workspace: Any = None

    def __init__(self) -> None:
        self._flags = {BuilderFlag.TF32}

    def set_memory_pool_limit(self, pool: MemoryPoolType, size: int) -> None:
        assert pool is MemoryPoolType.WORKSPACE
        self._workspace = size

    def clear_flag(self, flag: BuilderFlag) -> None:
        self._flags.discard(flag)

    def create_timing_cache(self, data: bytes) -> TimingCache:
        return TimingCache(data)

    def set_timing_cache(self, cache: TimingCache, ignore_mismatch: bool) -> bool:
        assert ignore_mismatch is False
        if cache.data not in (b"", b"timings"):
            return False
        self._cache = cache
        return True

    def get_timing_cache(self) -> TimingCache:
        return self._cache


class ExecutionContext(Strict):
    profiler: Any = None
    _engine: Any = None
    _addresses: Any = None

    def __init__(self, engine: Engine) -> None:
        self._engine, self._addresses = engine, {}

    def set_tensor_address(self, name: str, address: int) -> bool:
        self._addresses[name] = address
        return True

    def execute_async_v3(self, stream: int) -> bool:
        assert stream, "there is a stream"
        engine = self._engine
        feeds = {n: self._memory(n) for n in engine.names if engine.is_input(n)}
        for name, result in run_onnx(engine.model, feeds).items():
            self._memory(name)[...] = result
        if self.profiler is not None:
            assert self.profiler.ready, "IProfiler.__init__ was not called"
            for number, layer in enumerate(("conv_1 + relu_1", "fc")):
                self.profiler.report_layer_time(layer, 0.25 * (number + 1))
        return True

    def _memory(self, name: str) -> np.ndarray:
        dtype = np.dtype(nptype(self._engine.get_tensor_dtype(name)))
        shape = self._engine.get_tensor_shape(name)
        size = int(np.prod(shape)) * dtype.itemsize
        memory = (ctypes.c_char * size).from_address(self._addresses[name])
        return np.frombuffer(memoryview(memory).cast("B"), dtype).reshape(shape)


class Inspector:
    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def get_engine_information(self, layout: LayerInformationFormat) -> str:
        assert layout is LayerInformationFormat.JSON
        return json.dumps({"Layers": [{"Name": n.op_type} for n in self._engine.graph.node]})


class Engine(Strict):
    num_io_tensors = 0
    device_memory_size_v2 = 4096
    graph: Any = None
    names: Any = None
    model = b""
    _infos: Any = None

    def __init__(self, model: bytes) -> None:
        self.model = model
        self.graph = onnx.load_from_string(model).graph
        self._infos = {v.name: v for v in (*self.graph.input, *self.graph.output)}
        self.names = list(self._infos)
        self.num_io_tensors = len(self.names)

    def is_input(self, name: str) -> bool:
        return name in {v.name for v in self.graph.input}

    def get_tensor_name(self, index: int) -> str:
        return self.names[index]

    def get_tensor_mode(self, name: str) -> TensorIOMode:
        return TensorIOMode.INPUT if self.is_input(name) else TensorIOMode.OUTPUT

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        dims = self._infos[name].type.tensor_type.shape.dim
        return tuple(d.dim_value for d in dims)

    def get_tensor_dtype(self, name: str) -> DataType:
        return ELEMENT_TYPES[self._infos[name].type.tensor_type.elem_type]

    def create_execution_context(self) -> ExecutionContext:
        return ExecutionContext(self)

    def create_engine_inspector(self) -> Inspector:
        return Inspector(self)


class Runtime:
    def __init__(self, logger: ILogger) -> None:
        assert logger.ready, "ILogger.__init__ was not called"

    def deserialize_cuda_engine(self, plan: bytes) -> Engine | None:
        return Engine(plan[len(MAGIC) :]) if plan.startswith(MAGIC) else None


def fake_tensorrt(version: str = "10.3.0") -> types.ModuleType:
    """The module of a version; that of 11 has lost what 11 deprecates."""
    major = int(version.partition(".")[0])
    module = types.ModuleType("tensorrt")
    strongly_typed = {"STRONGLY_TYPED": 1} if major < 11 else {"PREFER_AOT_PYTHON_PLUGINS": 2}
    flags = enum.IntEnum("NetworkDefinitionCreationFlag", strongly_typed)

    class Builder:
        def __init__(self, logger: ILogger) -> None:
            assert logger.ready, "ILogger.__init__ was not called"
            self._logger = logger

        def create_network(self, flags: int = 0) -> Network:
            network = Network()
            network.flags = flags
            return network

        def create_builder_config(self) -> BuilderConfig:
            return BuilderConfig()

        def build_serialized_network(
            self, network: Network, config: BuilderConfig
        ) -> HostMemory | None:
            assert major >= 11 or network.flags == 1 << 1, "strongly typed networks only"
            assert config.profiling_verbosity is ProfilingVerbosity.DETAILED
            assert config._flags == set(), "a float32 baseline computes in float32"
            assert config._workspace
            if b"unbuildable" in network.model:
                self._logger.log(Severity.ERROR, "no implementation for node")
                return None
            config._cache.data = b"timings"
            return HostMemory(MAGIC + network.model)

    names = {
        "__version__": version,
        "Builder": Builder,
        "BuilderFlag": BuilderFlag,
        "DataType": DataType,
        "ILogger": ILogger,
        "IProfiler": IProfiler,
        "LayerInformationFormat": LayerInformationFormat,
        "MemoryPoolType": MemoryPoolType,
        "NetworkDefinitionCreationFlag": flags,
        "OnnxParser": OnnxParser,
        "ProfilingVerbosity": ProfilingVerbosity,
        "Runtime": Runtime,
        "TensorIOMode": TensorIOMode,
        "nptype": nptype,
    }
    for name, value in names.items():
        setattr(module, name, value)
    return module

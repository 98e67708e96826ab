"""Build TensorRT engines from an artifact's ONNX models, on the device that will run them.

    python3 ondevice/build.py            # model.onnx and the float baselines beside it
    python3 ondevice/build.py model      # only model.onnx

An engine fits one GPU and one version of TensorRT, so it is built where it runs. Every engine gets
``engines/NAME.plan`` and ``engines/NAME.json``: versions, GPU, hashes, and what TensorRT says of
every layer. The records go to standard output as well, everything else to standard error.

Needs Python 3.10 or newer and the tensorrt module of JetPack, nothing else.
"""

from __future__ import annotations

import argparse
import ctypes
import hashlib
import json
import os
import sys
import time
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

MAJORS = (10, 11)
"""Versions of TensorRT that this script knows."""

MODELS = ("model", "float16", "float")
"""Names of the models that an artifact can hold, without ``.onnx``."""

ENGINES = "engines"
"""Folder of the engines, in the artifact."""

TIMING_CACHE = "timing.cache"
"""What TensorRT measured of kernels; it makes the next build quick and alike."""

SCHEMA = 1
"""Version of the records."""

DRIVER = "libcuda.so.1"
"""CUDA's driver."""

CAPABILITY_MAJOR, CAPABILITY_MINOR = 75, 76
"""``CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_*`` of CUDA's driver API."""


class BuildError(Exception):
    """An engine that cannot be built.

    Attributes:
        exit_code: 1 failed, 3 not supported by this TensorRT, 4 something is missing.
    """

    def __init__(self, message: str, exit_code: int = 1) -> None:
        super().__init__(message)
        self.exit_code = exit_code


def main(arguments: Sequence[str] | None = None) -> int:
    """Build what the command line asks for.

    Returns:
        0 for success, 1 for a failed build, 2 for wrong usage, 3 for a TensorRT or a model that is
        not supported, 4 for a missing TensorRT.
    """
    options = _parse(arguments)
    try:
        trt = open_tensorrt()
        records = build_all(trt, options.folder, options.models, options.workspace_mib << 20)
    except BuildError as error:
        _say(f"error: {error}")
        return error.exit_code
    sys.stdout.write(json.dumps(records, indent=1, sort_keys=True) + "\n")
    return 0


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("models", nargs="*", help=f"of {', '.join(MODELS)}; default: all there are")
    parser.add_argument(
        "--folder",
        type=Path,
        default=Path(__file__).resolve().parent.parent,
        help="the artifact; default: the one that this script lies in",
    )
    parser.add_argument(
        "--workspace-mib", type=int, default=1024, help="most scratch memory of a kernel, in MiB"
    )
    options = parser.parse_args(arguments)
    unknown = [name for name in options.models if name not in MODELS]
    if unknown:
        parser.error(f"unknown model {unknown[0]!r}; there are {', '.join(MODELS)}")
    if options.workspace_mib < 1:
        parser.error(f"--workspace-mib is {options.workspace_mib}, must be at least 1")
    return options


def open_tensorrt() -> Any:
    """The tensorrt module.

    Raises:
        BuildError: it is not installed, or of a version that this script does not know.
    """
    try:
        trt = import_module("tensorrt")
    except ImportError as error:
        raise BuildError(
            f"no tensorrt: install JetPack's python3-libnvinfer: {error}", 4
        ) from error
    if _major(trt) not in MAJORS:
        known = " or ".join(str(major) for major in MAJORS)
        raise BuildError(f"TensorRT {trt.__version__} is not supported, use TensorRT {known}", 3)
    return trt


def _major(trt: Any) -> int:
    return int(str(trt.__version__).partition(".")[0])


def build_all(
    trt: Any, folder: Path, names: Sequence[str], workspace_bytes: int
) -> list[dict[str, Any]]:
    """Build engines and write them with their records.

    Args:
        trt: the tensorrt module.
        folder: the artifact.
        names: of the models; none for all that the artifact holds.
        workspace_bytes: most scratch memory of a kernel.

    Returns:
        The records.

    Raises:
        BuildError: a model is missing, or cannot be built; nothing of it is written.
    """
    found = [name for name in names or MODELS if (folder / f"{name}.onnx").is_file()]
    missing = [name for name in names if name not in found]
    if missing or not found:
        raise BuildError(f"{folder} holds no {' and no '.join(missing) or 'model'}.onnx", 4)
    engines = folder / ENGINES
    engines.mkdir(exist_ok=True)
    cache_file = engines / TIMING_CACHE
    log = make_log(trt)
    records = []
    for name in found:
        model = (folder / f"{name}.onnx").read_bytes()
        _say(f"building {name}.onnx with TensorRT {trt.__version__}")
        cache = cache_file.read_bytes() if cache_file.is_file() else b""
        begin = time.monotonic()
        plan, new_cache = build(trt, log, model, cache, workspace_bytes)
        seconds = time.monotonic() - begin
        record = {
            "schema": SCHEMA,
            "model": f"{name}.onnx",
            "model_sha256": hashlib.sha256(model).hexdigest(),
            "engine": f"{name}.plan",
            "engine_sha256": hashlib.sha256(plan).hexdigest(),
            "engine_bytes": len(plan),
            "tensorrt": str(trt.__version__),
            "gpu": gpu(),
            "build_seconds": round(seconds, 3),
            "timing_cache_used": bool(cache),
            **describe(trt, log, plan),
        }
        _write(engines / f"{name}.plan", plan)
        _write(engines / f"{name}.json", (json.dumps(record, indent=1) + "\n").encode())
        _write(cache_file, new_cache)
        records.append(record)
    return records


def make_log(trt: Any) -> Any:
    """A logger that writes warnings and errors to standard error: standard output is for data."""

    class Log(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)

        def log(self, severity: Any, message: str) -> None:
            if severity in (
                trt.ILogger.Severity.WARNING,
                trt.ILogger.Severity.ERROR,
                trt.ILogger.Severity.INTERNAL_ERROR,
            ):
                _say(f"[TensorRT] {message}")

    return Log()


def build(
    trt: Any, log: Any, model: bytes, cache: bytes, workspace_bytes: int
) -> tuple[bytes, bytes]:
    """Build one engine.

    Args:
        trt: the tensorrt module.
        log: a logger.
        model: the ONNX file.
        cache: timing cache of an earlier build, empty for none.
        workspace_bytes: most scratch memory of a kernel.

    Returns:
        The engine and the new timing cache.

    Raises:
        BuildError: TensorRT cannot read the model or build it; with its words.
    """
    builder = trt.Builder(log)
    network = builder.create_network(network_flags(trt))
    parser = trt.OnnxParser(network, log)
    if not parser.parse(model):
        errors = [parser.get_error(i).desc() for i in range(parser.num_errors)]
        raise BuildError("TensorRT cannot read the model:\n  " + "\n  ".join(errors), 3)
    config = builder.create_builder_config()
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, workspace_bytes)
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    # A float32 baseline computes in float32; TensorFloat-32 has ten bits of mantissa.
    config.clear_flag(trt.BuilderFlag.TF32)
    timing = config.create_timing_cache(cache)
    # A cache of another GPU or version is ignored, not trusted.
    if not config.set_timing_cache(timing, ignore_mismatch=False):
        timing = config.create_timing_cache(b"")
        config.set_timing_cache(timing, ignore_mismatch=False)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise BuildError("TensorRT cannot build the model; its reasons are above")
    return bytes(memoryview(plan)), bytes(memoryview(config.get_timing_cache().serialize()))


def network_flags(trt: Any) -> int:
    """Flags for a strongly typed network: it computes in the types of the graph, nowhere else.

    TensorRT 11 knows no other networks; there the flag has no effect, and may go away.

    Raises:
        BuildError: a TensorRT 10 without strongly typed networks.
    """
    flag = getattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
    if flag is not None:
        return 1 << int(flag)
    if _major(trt) < 11:
        raise BuildError(f"TensorRT {trt.__version__} has no strongly typed networks", 3)
    return 0


def describe(trt: Any, log: Any, plan: bytes) -> dict[str, Any]:
    """What TensorRT says of an engine: memory, inputs and outputs, layers as its inspector does.

    The inspector's fields differ between TensorRT 10 and 11; they are recorded as they come.

    Raises:
        BuildError: the engine cannot be loaded again.
    """
    runtime = trt.Runtime(log)
    engine = runtime.deserialize_cuda_engine(plan)
    if engine is None:
        raise BuildError("TensorRT cannot load the engine that it has just built")
    inspector = engine.create_engine_inspector()
    text = inspector.get_engine_information(trt.LayerInformationFormat.JSON)
    tensors = []
    for index in range(engine.num_io_tensors):
        name = engine.get_tensor_name(index)
        is_input = engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT
        tensors.append(
            {
                "name": name,
                "role": "input" if is_input else "output",
                "dtype": engine.get_tensor_dtype(name).name,
                "shape": [int(d) for d in engine.get_tensor_shape(name)],
            }
        )
    # Renamed during TensorRT 10, null where neither name is there.
    memory = getattr(engine, "device_memory_size_v2", getattr(engine, "device_memory_size", None))
    return {
        "activation_bytes": memory,
        "tensors": tensors,
        "layers": json.loads(text).get("Layers", []),
    }


def gpu() -> dict[str, Any] | None:
    """Name and compute capability of the first GPU, from CUDA's driver; None without one."""
    try:
        driver = ctypes.CDLL(DRIVER)
    except OSError:
        return None
    device, name = ctypes.c_int(), ctypes.create_string_buffer(256)
    major, minor = ctypes.c_int(), ctypes.c_int()
    codes = (
        driver.cuInit(0),
        driver.cuDeviceGet(ctypes.byref(device), 0),
        driver.cuDeviceGetName(name, len(name), device),
        driver.cuDeviceGetAttribute(ctypes.byref(major), CAPABILITY_MAJOR, device),
        driver.cuDeviceGetAttribute(ctypes.byref(minor), CAPABILITY_MINOR, device),
    )
    if any(codes):
        return None
    text = name.value.decode(errors="replace")
    return {"name": text, "compute_capability": [major.value, minor.value]}


def _write(path: Path, data: bytes) -> None:
    """Write a file as a whole or not at all."""
    partial = path.with_name(path.name + ".partial")
    partial.write_bytes(data)
    os.replace(partial, path)


def _say(text: str) -> None:
    sys.stderr.write(text + "\n")


if __name__ == "__main__":
    sys.exit(main())

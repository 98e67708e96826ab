"""The four MLPerf Tiny int8 networks on this machine: C, ONNX Runtime and LiteRT in one run.

::

    python benchmarks/host_latency.py --data FOLDER    # writes results/host_latency.json

One thread each, the same inputs in turn, medians of one process: the ratios mean more than the
times, since other work on the machine disturbs them.
"""

from __future__ import annotations

import platform
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from results_file import arguments, write

import edgekit
from edgekit.bench.protocol import Protocol

MODELS = ("kws_dscnn_int8", "ic_resnet8_int8", "vww_96_int8", "ad01_int8")
TARGET = "x86-64"
BACKENDS = ("c", "onnxruntime", "litert")
PROTOCOL = Protocol(warmup=20, iterations=200, min_seconds=2.0)
SIZES = {"library": ".so", "onnx": ".onnx", "tflite": ".tflite"}
SEED = 0


def row(model: Path, folder: Path) -> dict[str, Any]:
    """Export and measure one network."""
    begin = time.perf_counter()
    artifact = edgekit.export(model, target=TARGET, output=folder / model.stem, seed=SEED)
    seconds = time.perf_counter() - begin
    report = artifact.bench(backend=BACKENDS, protocol=PROTOCOL, seed=SEED)
    latency = {run.backend: run.latency_ms for run in report.runs}
    found: dict[str, Any] = {"model": model.stem, "macs": report.subject.macs}
    found["export_seconds"] = round(seconds, 2)
    for kind, suffix in SIZES.items():
        (size,) = (f.bytes for f in report.files if f.file.endswith(suffix))
        found[f"{kind}_bytes"] = size
    for backend in BACKENDS:
        measured = latency[backend]
        assert measured is not None
        found[f"{backend}_latency_ms"] = round(measured.p50, 4)
        found[f"{backend}_first_ms"] = None if measured.first is None else round(measured.first, 3)
        found[f"{backend}_cov"] = None if measured.cov is None else round(measured.cov, 3)
    for backend in BACKENDS[1:]:
        found[f"c_over_{backend}"] = round(
            found["c_latency_ms"] / found[f"{backend}_latency_ms"], 2
        )
    kernels = {f"{run.backend}_kernels": run.kernels for run in report.runs}
    return (
        found
        | kernels
        | {
            "toolchain": report.subject.toolchain_version,
            "flags": " ".join(report.subject.flags),
        }
    )


def processor() -> str:
    """What this machine computes with."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def main() -> int:
    """Write one row per model."""
    given = arguments(__doc__, "host_latency").parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as temporary:
        for name in MODELS:
            path = given.data / "models" / "mlperf_tiny" / f"{name}.tflite"
            rows.append(row(path, Path(temporary)))
            last = rows[-1]
            times = ", ".join(f"{b} {last[f'{b}_latency_ms']} ms" for b in BACKENDS)
            sys.stderr.write(f"{name}: exported in {last['export_seconds']} s; {times}\n")
    write(
        given.output,
        rows,
        command="python benchmarks/host_latency.py --data $EDGEKIT_DATA",
        seed=SEED,
        libraries=("onnxruntime", "ai-edge-litert"),
        provenance="measured",
        threads=PROTOCOL.threads,
        processor=processor(),
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())

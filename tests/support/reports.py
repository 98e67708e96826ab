"""Reports and subjects made by hand, with every field in use."""

from __future__ import annotations

from dataclasses import replace

from edgekit.bench.environment import Clock, Environment, Temperature, Version
from edgekit.bench.memory import Block, Memory
from edgekit.bench.protocol import Latency, Protocol
from edgekit.bench.report import (
    SCHEMA,
    Accuracy,
    Agreement,
    Energy,
    FileSize,
    Identity,
    LayerCost,
    Preprocessing,
    Report,
    Run,
)

ENVIRONMENT = Environment(
    machine="aarch64",
    system="Linux 6.6.31",
    board="A board",
    cpu="A core",
    cpus=4,
    python="3.11.2",
    libraries=(Version("numpy", "2.4.6"),),
    clocks=(Clock("cpu0", 1_500_000_000, 600_000_000, 1_800_000_000, "ondemand"),),
    temperatures=(Temperature("cpu-thermal", 48.3),),
    load=0.1,
    power_mode="MAXN",
    throttled=(),
)

MEMORY = Memory(
    activations_bytes=2048,
    peak_live_bytes=2000,
    state_bytes=64,
    weights_bytes=4096,
    stack_bytes=220,
    stack_reserved_bytes=1024,
    code_bytes=3000,
    runtime_bytes=0,
    ram_bytes=3136,
    flash_bytes=7096,
    ram_available_bytes=65536,
    flash_available_bytes=131072,
    blocks=(
        Block("x", "activation", 0, 1024, 0, 1),
        Block("conv", "scratch", 1024, 512, 1, 1),
        Block("h", "state", None, 64, None, None),
        Block("constants", "weights", None, 4096, None, None),
    ),
)

MEASURED = Run(
    backend="c",
    backend_version="0.1.0",
    kernels="portable C99",
    role="subject",
    precision="int8",
    device="local",
    input="test.npz",
    samples=20,
    protocol=Protocol(percentiles=(95.0,)),
    macs=70720,
    latency_ms=Latency.of_samples([5.0, 5.5, 5.2, 5.1], first=9.0, percentiles=(95.0,)),
    energy_uj=Energy("measured", 120.0, 180.0, "a sensor", 12.0),
    layers=(
        LayerCost("conv", "conv_2d", 70000, latency_ms=4.5),
        LayerCost("dense", "fully_connected", 720, latency_ms=0.5),
    ),
    accuracy=Accuracy(0.9, 20, "test.npz", 0.95),
    agreement=Agreement(2, 20, 0, 0, 0),
    toolchain="gcc",
    toolchain_version="gcc 12.2.0",
    flags=("-O2",),
    warnings=("a warning",),
)

BASELINE = replace(
    MEASURED,
    backend="onnxruntime",
    kernels="CPUExecutionProvider",
    role="baseline",
    precision="float32",
    file="float.onnx",
    energy_uj=None,
    agreement=None,
    layers=(),
)

MODELLED = replace(
    MEASURED,
    device="emulator",
    protocol=None,
    instructions=425_455,
    cycles=608_888.0,
    clock_hz=120_000_000,
    latency_ms=Latency.modelled(5.074),
    energy_uj=None,
    stack_bytes=220,
    layers=(
        LayerCost("conv", "conv_2d", 70000, 420_000, 600_000.0),
        LayerCost("dense", "fully_connected", 720, 5_455, 8_888.0),
    ),
)

REPORT = Report(
    schema=SCHEMA,
    edgekit="0.1.0",
    command="edgekit bench build/net --output runs/net.json",
    created="2026-01-31T12:00:00Z",
    artifact=Identity(
        "net", "a-board", "microcontroller", "int8", "net.onnx", "onnx", "ab" * 32, "cd" * 32
    ),
    environment=ENVIRONMENT,
    memory=MEMORY,
    files=(FileSize("float.onnx", 12_345),),
    preprocessing=Preprocessing('{"steps": []}', Latency.of_samples([0.1, 0.2, 0.1, 0.1])),
    runs=(MEASURED, BASELINE, MODELLED),
    warnings=("the machine is busy",),
)


def report_with(run: Run, **changes: object) -> Report:
    """The report with a single run, some of its fields replaced."""
    return replace(REPORT, runs=(replace(run, **changes),))  # type: ignore[arg-type]

"""Reports and subjects made by hand, with every field in use."""

from __future__ import annotations

from dataclasses import replace

from edgekit.bench.costs import (
    Causes,
    CycleModel,
    FunctionCost,
    KnownError,
    LayerCost,
)
from edgekit.bench.energy import Energy
from edgekit.bench.environment import Clock, Environment, Temperature, Version
from edgekit.bench.memory import Block, Memory
from edgekit.bench.protocol import Latency, Protocol
from edgekit.bench.report import (
    SCHEMA,
    Accuracy,
    Agreement,
    FileSize,
    Identity,
    Preprocessing,
    Provenances,
    Report,
    Run,
)
from edgekit.bench.spiking import StepCost

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
    energy_uj=Energy("measured", 120.0, 180.0, 115.0, 126.0, sensor="a sensor", window_s=12.0),
    layers=(
        LayerCost("conv", "conv_2d", 70000, latency_ms=4.5),
        LayerCost("dense", "fully_connected", 720, latency_ms=0.5),
    ),
    accuracy=Accuracy(0.9, 20, "test.npz", 0.95),
    agreement=Agreement(2, 20, 0, 0, 0),
    toolchain="gcc",
    toolchain_version="gcc 12.2.0",
    flags=("-O2",),
    provenance=Provenances(layers_latency_ms="measured"),
    warnings=("a warning",),
    step=StepCost(4, latency_ms=1.3),
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
    provenance=Provenances(),
)

CONVOLUTION = (
    FunctionCost(
        "net_ek_conv_2d_s8",
        "kernel",
        "conv_2d_s8",
        390_000,
        550_000.0,
        Causes(390_000.0, 20_000.0, 60_000.0, 50_000.0, 30_000.0),
    ),
    FunctionCost(
        "conv_2d_sum_s8",
        "helper",
        "conv_2d_s8",
        29_990,
        49_985.0,
        Causes(29_990.0, 0.0, 10_000.0, 5_000.0, 4_995.0),
    ),
    FunctionCost("net_layer_0", "layer", None, 10, 15.0, Causes(issue=10.0, load=3.0, branch=2.0)),
)

DENSE = (
    FunctionCost(
        "net_ek_fully_connected_s8",
        "kernel",
        "fully_connected_s8",
        5_000,
        8_000.0,
        Causes(5_000.0, 0.0, 1_000.0, 1_750.0, 250.0),
    ),
    FunctionCost("memcpy", "runtime", None, 455, 888.0, Causes(455.0, 0.0, 300.0, 100.0, 33.0)),
)

CYCLE_MODEL = CycleModel(
    version=1,
    core="cortex-m4",
    what="in order, hazards",
    memory="flash 5 wait states, lines of 8 bytes",
    error=KnownError(-0.18, 0.03, 4, ("nucleo-l4r5zi",)),
    error_holds=True,
)

MODELLED = replace(
    MEASURED,
    device="emulator",
    protocol=None,
    instructions=425_455,
    cycles=608_888.0,
    causes=Causes(425_455.0, 20_000.0, 71_303.0, 56_850.0, 35_280.0),
    cycle_model=CYCLE_MODEL,
    clock_hz=120_000_000,
    latency_ms=Latency.modelled(1e3 * 608_888 / 120_000_000),
    energy_uj=Energy(
        "estimated",
        gross_uj=213.11,
        low_uj=163.7,
        high_uj=482.7,
        source="modelled cycles x 350 pJ; idle included; a published log",
    ),
    stack_bytes=220,
    provenance=Provenances(),
    step=StepCost(4, 608_888 / 4, 200_000.0),
    layers=(
        LayerCost(
            "conv",
            "conv_2d",
            70000,
            420_000,
            600_000.0,
            kernel="conv_2d_s8",
            causes=Causes(420_000.0, 20_000.0, 70_003.0, 55_000.0, 34_997.0),
            functions=CONVOLUTION,
        ),
        LayerCost(
            "dense",
            "fully_connected",
            720,
            5_455,
            8_888.0,
            kernel="fully_connected_s8",
            causes=Causes(5_455.0, 0.0, 1_300.0, 1_850.0, 283.0),
            functions=DENSE,
        ),
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

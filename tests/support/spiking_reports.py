"""A report of a spiking network made by hand, with every field in use."""

from __future__ import annotations

from dataclasses import replace

from edgekit.bench.energy import Energy
from edgekit.bench.protocol import Latency
from edgekit.bench.report import Accuracy, Report
from edgekit.bench.spiking import (
    Crossover,
    Membrane,
    Opponent,
    Population,
    Spiking,
    StepCost,
    SweepPoint,
    Synapses,
)
from tests.support.reports import CYCLE_MODEL, MEMORY, MODELLED, REPORT

POINTS = (
    SweepPoint(0.0, 4_000.0, 12_000.0),
    SweepPoint(0.1, 6_000.0, 12_000.0),
    SweepPoint(0.5, 14_000.0, 12_000.0),
    SweepPoint(1.0, 24_000.0, 12_000.0),
)
"""Event-driven costs more from an activity of 0.4 on."""

CROSSOVER = Crossover(
    device="emulator",
    provenance="modelled",
    activity=0.05,
    event_cycles=5_200.0,
    dense_cycles=12_300.0,
    points=POINTS,
    crossing=0.4,
    method="bit sets were set",
)

OPPONENT = Opponent(
    name="har_cnn",
    model_file="har_cnn.onnx",
    artifact_sha256="ef" * 32,
    device="emulator",
    element="int8",
    parameters=49_000,
    memory=replace(MEMORY, state_bytes=0, blocks=()),
    macs=300_000,
    cycles=720_000.0,
    latency_ms=Latency.modelled(6.0),
    energy_uj=Energy("estimated", gross_uj=252.0, source="a log"),
    accuracy=0.93,
    notes=("weights differ: ternary here, int8 there", "its constants are about as large"),
)

SPIKING = Spiking(
    steps=40,
    dt_seconds=0.05,
    windows=100,
    input="test.npz",
    element="ternary",
    parameters=68_000,
    state_bytes=5_120,
    populations=(
        Population(
            "u", "leaky", 4, "subtract", 0.1, Membrane("int32", 9, 70_000, None, 1e-4, 3e-4)
        ),
        Population(
            "h", "synaptic", 180, "zero", 0.05, Membrane("int32", 6, None, 1 << 20, 0.5, 0.5)
        ),
        Population("out", "leaky", 7, "none", None, Membrane("float32")),
    ),
    synapses=(
        Synapses("w_h", 180, 180, 32_400, "ternary", "event", 0.05, 1_620.0, 32_400, 405.0, 8_100),
        Synapses("w_o", 180, 7, 1_260, "int8", "dense", 0.05, 63.0, 1_260, 63.0, 1_260),
    ),
    analog_ops=384,
    crossover=CROSSOVER,
    opponent=OPPONENT,
)

RUN = replace(
    MODELLED,
    precision="ternary",
    accuracy=Accuracy(0.95, 100, "test.npz", 0.96),
    cycle_model=CYCLE_MODEL,
    step=StepCost(40, 608_888 / 40, 20_000.0, 608_888 / 40 / 120_000, 20_000 / 120_000),
)

SPIKING_REPORT: Report = replace(
    REPORT,
    artifact=replace(REPORT.artifact, name="har_l2mu", precision="ternary", model_format="nir"),
    runs=(RUN,),
    spiking=SPIKING,
)

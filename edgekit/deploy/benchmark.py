"""What an artifact costs on a device, with the provenance of every figure."""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from edgekit.deploy.manifest import Manifest
from edgekit.deploy.session import Inputs, LayerProfile, Profile, Session
from edgekit.program.ir import Array, Program
from edgekit.targets.machine import Build
from edgekit.targets.target import Target
from edgekit.version import edgekit_version

SCHEMA = 1
Provenance = Literal["measured", "modelled", "estimated", "counted"]
UNSTABLE_COV = 0.1
"""Coefficient of variation above which a measurement is called unstable."""


@dataclass(frozen=True)
class Latency:
    """Time of one inference in milliseconds.

    Attributes:
        provenance: ``measured`` on a real device, ``modelled`` from counted instructions.
        p50, p90, p99: percentiles; equal for modelled figures.
        first: the first run, before the warm-up; None for modelled figures.
        cov: coefficient of variation, None for modelled figures.
        samples: raw samples of measured figures.
    """

    provenance: Provenance
    p50: float
    p90: float
    p99: float
    first: float | None = None
    cov: float | None = None
    samples: tuple[float, ...] = ()


@dataclass(frozen=True)
class BenchReport:
    """Cost of one inference.

    Attributes:
        schema: version of this structure.
        edgekit: version that measured.
        name: of the network.
        model_sha256: of the source model's file.
        target: what it was built for.
        device: where it ran.
        input: where the input came from.
        macs: multiply-accumulates.
        instructions: issued instructions, counted; None where the device cannot count.
        cycles: modelled, None where there is no model.
        clock_hz: of the board; None for a generic core, and on a device that does not stand for
            the target: a board's C code on this machine.
        latency_ms: None where neither measured nor modelled.
        energy_uj: None: no figure is better than a guessed one.
        stack_bytes: high-water mark, counted.
        ram_bytes, flash_bytes: from the artifact's linked image; None without one, and on a device
            that does not stand for the target.
        toolchain, toolchain_version, flags: how the code that ran was compiled.
        layers: the same per layer.
        warnings: what to mind when reading the figures.
    """

    schema: int
    edgekit: str
    name: str
    model_sha256: str
    target: str
    device: str
    input: str
    macs: int
    instructions: int | None
    cycles: float | None
    clock_hz: int | None
    latency_ms: Latency | None
    energy_uj: None
    stack_bytes: int | None
    ram_bytes: int | None
    flash_bytes: int | None
    toolchain: str | None
    toolchain_version: str | None
    flags: tuple[str, ...]
    layers: tuple[LayerProfile, ...]
    warnings: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)


@dataclass(frozen=True)
class Protocol:
    """How real execution is measured.

    Attributes:
        warmup: runs that are not counted, after the first.
        iterations: counted runs at least.
        min_seconds: counted time at least.
    """

    warmup: int = 10
    iterations: int = 50
    min_seconds: float = 0.5


def bench(
    session: Session,
    manifest: Manifest,
    inputs: Inputs,
    *,
    source: str,
    target: Target,
    protocol: Protocol = Protocol(),
) -> BenchReport:
    """Measure or count one inference.

    Args:
        session: the artifact, opened.
        manifest: of the artifact.
        inputs: what to run; cost may depend on the data.
        source: where the input came from, for the report.
        target: what the artifact was built for.
        protocol: of real execution.
    """
    profile = session.profile(inputs)
    stands_for_target = session.device in target.devices
    clock_hz = target.clock_hz if stands_for_target else None
    build = session.build
    latency, warnings = _latency(session, profile, inputs, clock_hz, protocol)
    if not stands_for_target:
        warnings.append(
            f"{session.device} is not {target.name}: time, compiler and flags are this machine's"
        )
    elif manifest.build is not None and build != Build(**asdict(manifest.build)):
        warnings.append(
            f"{session.device} ran another build than the artifact's: "
            f"{build.version if build else 'unknown'} instead of {manifest.build.version}"
        )
    return BenchReport(
        schema=SCHEMA,
        edgekit=edgekit_version(),
        name=manifest.configuration.name,
        model_sha256=manifest.model.sha256,
        target=manifest.configuration.target,
        device=session.device,
        input=source,
        macs=sum(layer.macs for layer in profile.layers),
        instructions=profile.instructions,
        cycles=profile.cycles,
        clock_hz=clock_hz,
        latency_ms=latency,
        energy_uj=None,
        stack_bytes=profile.stack_bytes,
        ram_bytes=manifest.memory.ram if stands_for_target else None,
        flash_bytes=manifest.memory.flash if stands_for_target else None,
        toolchain=build.toolchain if build else None,
        toolchain_version=build.version if build else None,
        flags=build.flags if build else (),
        layers=profile.layers,
        warnings=tuple(warnings),
    )


def _latency(
    session: Session,
    profile: Profile,
    inputs: Inputs,
    clock_hz: int | None,
    protocol: Protocol,
) -> tuple[Latency | None, list[str]]:
    """Measured where the device is real, modelled where its cycles and clock are known.

    Returns:
        The latency, None where there is no honest figure, and what to say about it.
    """
    if not session.is_simulated:
        latency = measure(session, inputs, protocol)
        unstable = latency.cov is not None and latency.cov > UNSTABLE_COV
        return latency, [f"unstable: the samples vary by {latency.cov:.0%}"] if unstable else []
    if profile.instructions is None:
        return None, [f"{session.device}: the run was too long for the counter of instructions"]
    if profile.cycles is None:
        return None, [f"{session.device} counts instructions; nothing models cycles or latency"]
    if clock_hz is None:
        return None, ["a generic core has no clock: name a board for a latency"]
    modelled = 1e3 * profile.cycles / clock_hz
    words = "latency is modelled from a per-core table at zero wait states"
    return Latency("modelled", modelled, modelled, modelled), [words]


def measure(session: Session, inputs: Inputs, protocol: Protocol) -> Latency:
    """Wall time of `session.run`, the first run apart."""
    first = _once(session, inputs)
    for _ in range(protocol.warmup):
        session.run(inputs)
    samples: list[float] = []
    begin = time.perf_counter()
    while len(samples) < protocol.iterations or time.perf_counter() - begin < protocol.min_seconds:
        samples.append(_once(session, inputs))
    p50, p90, p99 = (float(p) for p in np.percentile(samples, [50, 90, 99]))
    deviation = statistics.pstdev(samples)
    cov = deviation / statistics.fmean(samples)
    return Latency("measured", p50, p90, p99, first, cov, tuple(samples))


def _once(session: Session, inputs: Inputs) -> float:
    begin = time.perf_counter_ns()
    session.run(inputs)
    return (time.perf_counter_ns() - begin) / 1e6


def seeded_inputs(program: Program, seed: int = 0) -> Mapping[str, Array]:
    """One input drawn at random: integers over their whole range, floats of standard normal."""
    rng = np.random.default_rng(seed)
    drawn: dict[str, Array] = {}
    for boundary, tensor in zip(program.inputs, program.input_tensors, strict=True):
        if tensor.dtype.is_integer:
            low, high = tensor.dtype.limits
            values: Array = rng.integers(low, high, boundary.source_shape, endpoint=True)
        else:
            values = rng.standard_normal(boundary.source_shape)
        drawn[boundary.name] = values.astype(tensor.dtype.value)
    return drawn

"""The one report: what was run, on what, how, and what came of it.

Units stand in the keys. A figure is null where nothing trustworthy is known. How each figure came
about is in :class:`Provenances` of its run; latency and energy carry it themselves, since it
differs from device to device. Names come from models and machines: they are text, never markup.
"""

from __future__ import annotations

import json
import os
import re
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from edgekit.bench.costs import Causes, CycleModel, LayerCost, require_sum
from edgekit.bench.energy import Energy
from edgekit.bench.environment import Environment
from edgekit.bench.fields import (
    Count,
    Fraction,
    Quantity,
    ReportError,
    decode,
    encode,
    parse,
    shortened,
    writable,
)
from edgekit.bench.memory import Memory
from edgekit.bench.protocol import MODELLED, Latency, Protocol, Provenance, require_modelled
from edgekit.bench.spiking import Spiking, StepCost

SCHEMA = 3
"""Version of the structure; a reader refuses every other."""

Role = Literal["subject", "baseline"]


class SchemaVersionError(ReportError):
    """A report of another version of the structure."""


@dataclass(frozen=True)
class Identity:
    """What was exported.

    Attributes:
        name: of the network.
        target: that it was built for.
        family: of the target.
        precision: of the deployed network.
        model_file: source model, without folder.
        model_format: of the source model.
        model_sha256: of its bytes.
        artifact_sha256: of the manifest, which has the hash of every other file; null where the
            manifest was not at hand.
    """

    name: str
    target: str
    family: str
    precision: str
    model_file: str
    model_format: str
    model_sha256: str
    artifact_sha256: str | None = None


@dataclass(frozen=True)
class FileSize:
    """A deployed file and its bytes."""

    file: str
    bytes: Count


@dataclass(frozen=True)
class Preprocessing:
    """What happens before the network, timed apart.

    Attributes:
        specification: the declared chain, in words.
        latency_ms: of one sample; null where it was not run.
        cycles: of one sample, as C on the emulated core; null where nothing counted them.
        instructions: likewise.
    """

    specification: str
    latency_ms: Latency | None
    cycles: Quantity | None = None
    instructions: Count | None = None


@dataclass(frozen=True)
class Accuracy:
    """How many samples a run got right.

    Attributes:
        value: fraction of samples whose largest output is the label.
        samples: that were run.
        data: where they came from.
        float_value: the float reference's on the same samples; null where there is none.
    """

    value: Fraction
    samples: Count
    data: str
    float_value: Fraction | None = None


@dataclass(frozen=True)
class Agreement:
    """How the outputs agree with those of the exact reference.

    Attributes:
        samples: that were compared.
        elements: of all outputs of all samples.
        mismatches: elements that differ in any bit.
        largest_step: largest difference of integers, in steps; null for floats.
        top1_changes: samples whose largest output is another one.
    """

    samples: Count
    elements: Count
    mismatches: Count
    largest_step: Count | None
    top1_changes: Count

    def __post_init__(self) -> None:
        if self.mismatches > self.elements or self.top1_changes > self.samples:
            raise ValueError("more differences than there are elements or samples")

    @property
    def rate(self) -> float:
        """Fraction of elements that differ.

        >>> Agreement(1, 10, 2, 1, 0).rate
        0.2
        """
        return self.mismatches / self.elements if self.elements else 0.0


@dataclass(frozen=True)
class Provenances:
    """How the figures of a run came about that do not say so themselves.

    Attributes:
        macs: of the run and its layers.
        instructions: of the run, its layers and their functions.
        cycles: likewise, with their causes.
        stack_bytes: of the run.
        memory: of the generated library's bytes.
        layers_latency_ms: of the layers; null where none has a latency.
        accuracy: of the run.
        agreement: of the run.
    """

    macs: Provenance = "counted"
    instructions: Provenance = "counted"
    cycles: Provenance = "modelled"
    stack_bytes: Provenance = "counted"
    memory: Provenance = "counted"
    layers_latency_ms: Provenance | None = None
    accuracy: Provenance = "counted"
    agreement: Provenance = "counted"


@dataclass(frozen=True)
class Run:
    """One way of executing the network on one device.

    An inference is one run from the initial state; where :attr:`step` is not null it is a whole
    window: a reset, then a step for each of its samples.

    Attributes:
        backend: ``c``, ``onnxruntime``, ``litert`` or ``tensorrt``.
        backend_version: of the runtime; of edgekit for generated C.
        kernels: what computes: ``portable C99``, ``XNNPACK``, an execution provider.
        role: the deployed network, or a baseline to hold it against.
        precision: that it runs in.
        device: where it ran.
        on_target: whether that stands for the hardware that the network was built for; where not,
            time is another machine's.
        input: where the inputs came from.
        samples: different inputs that were cycled.
        file: model file that was run; null for generated C.
        protocol: of measurement; null where nothing was timed.
        macs: multiply-accumulates of one inference; null where not known.
        instructions: issued instructions of one inference; null where the device cannot count.
        cycles: of one inference; null where there is no model.
        causes: of the cycles; null where the model does not tell.
        cycle_model: that the cycles came from; null where nothing modelled them.
        clock_hz: of the board; null for a generic core, and on a device that does not stand for
            the target.
        latency_ms: null where neither measured nor modelled.
        energy_uj: null: no figure is better than a guessed one.
        stack_bytes: high-water mark; null where the device cannot see it.
        layers: the same per layer; empty where the runtime does not tell.
        accuracy: null without labels.
        agreement: null where nothing was compared.
        toolchain: compiler of the code that ran; null where none was ours.
        toolchain_version: first line of what it says about itself.
        flags: that it was given.
        provenance: of the figures.
        warnings: what to mind when reading the figures.
        step: of a window; null where an inference is one input.

    Raises:
        ValueError: causes that are not those of the cycles, a modelled latency that is not the
            cycles at the clock, modelled cycles without a model, a clock of 0, or times of layers
            without their provenance.
    """

    backend: str
    backend_version: str
    kernels: str
    role: Role
    precision: str
    device: str
    input: str
    samples: Count
    file: str | None = None
    protocol: Protocol | None = None
    macs: Count | None = None
    instructions: Count | None = None
    cycles: Quantity | None = None
    causes: Causes | None = None
    cycle_model: CycleModel | None = None
    clock_hz: Count | None = None
    latency_ms: Latency | None = None
    energy_uj: Energy | None = None
    stack_bytes: Count | None = None
    layers: tuple[LayerCost, ...] = ()
    accuracy: Accuracy | None = None
    agreement: Agreement | None = None
    on_target: bool = True
    toolchain: str | None = None
    toolchain_version: str | None = None
    flags: tuple[str, ...] = ()
    provenance: Provenances = field(default_factory=Provenances)
    warnings: tuple[str, ...] = ()
    step: StepCost | None = None

    def __post_init__(self) -> None:
        require_sum(self.causes, self.cycles)
        require_modelled(self.latency_ms, self.cycles, self.clock_hz)
        how = self.provenance.cycles
        if self.cycles is not None and self.cycle_model is None and how in MODELLED:
            raise ValueError(f"cycles are {how}, and cycle_model is null")
        timed = any(layer.latency_ms is not None for layer in self.layers)
        if timed and self.provenance.layers_latency_ms is None:
            raise ValueError("layers have a latency, and provenance.layers_latency_ms is null")

    @property
    def place(self) -> str:
        """Where it ran, in words that nobody takes for the target."""
        return self.device if self.on_target else f"{self.device}, not the target"

    def origin(self, provenance: Provenance) -> str:
        """How cycles, or what follows from them, came about: with the model's tag."""
        if provenance not in MODELLED or self.cycle_model is None:
            return provenance
        return f"{provenance} {self.cycle_model.tag}"

    @property
    def spread_note(self) -> str:
        """What the spread of the energy is of, where it is not of everything; else empty."""
        energy, model = self.energy_uj, self.cycle_model
        is_partial = (
            energy is not None
            and energy.provenance == "estimated"
            and energy.low_uj is not None
            and (model is None or model.bound is None)
        )
        return "power only" if is_partial else ""


@dataclass(frozen=True)
class Report:
    """Every run of one artifact on one machine.

    Attributes:
        schema: version of this structure.
        edgekit: version that measured.
        command: that made the report.
        created: UTC, ISO 8601 with seconds.
        artifact: what was run.
        environment: the machine.
        memory: of the deployed network; null where it does not come from the generated library.
        files: sizes of what is deployed.
        preprocessing: null where the artifact declares none.
        runs: in the order they were made.
        warnings: of the machine and the artifact.
        spiking: what a spiking network adds; null for any other.
    """

    schema: Count
    edgekit: str
    command: str
    created: str
    artifact: Identity
    environment: Environment
    memory: Memory | None
    files: tuple[FileSize, ...]
    preprocessing: Preprocessing | None
    runs: tuple[Run, ...]
    warnings: tuple[str, ...] = ()
    spiking: Spiking | None = None

    def __post_init__(self) -> None:
        if not re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", self.created):
            raise ReportError(f"created is {shortened(self.created)}, must be UTC in ISO 8601")

    @property
    def subject(self) -> Run:
        """The first run of the deployed network.

        Raises:
            LookupError: there are only baselines.
        """
        for run in self.runs:
            if run.role == "subject":
                return run
        raise LookupError("the report has no run of the deployed network")

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        plain: dict[str, Any] = encode(self)
        return plain

    @classmethod
    def from_json(cls, document: Any, where: str = "report") -> Report:
        """The inverse of :meth:`to_json`, of hostile data.

        Args:
            document: parsed JSON.
            where: what it is, for messages.

        Raises:
            SchemaVersionError: another version of the structure.
            ReportError: says which field is wrong, and what would be right.
        """
        check_schema(document, SCHEMA, where)
        return decode(cls, document, where)


def check_schema(document: Any, schema: int, where: str) -> None:
    """Refuse a document of another version, before its fields are looked at.

    Raises:
        SchemaVersionError: the version is not `schema`.
        ReportError: no object at all.
    """
    if not isinstance(document, dict):
        raise ReportError(f"{where} is {shortened(document)}, must be an object")
    found = document.get("schema")
    if found != schema or isinstance(found, bool):
        raise SchemaVersionError(
            f"{where}: schema is {shortened(found)}, this edgekit reads {schema}; "
            "make the report again"
        )


def now() -> str:
    """This second, as a report writes it."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def read_report(path: Path) -> Report:
    """A report from a file.

    Raises:
        ReportError: unreadable, not JSON, or not a report; names the file.
    """
    try:
        text = path.read_bytes()
    except OSError as error:
        raise ReportError(f"{path}: {error.strerror}") from error
    return Report.from_json(parse(text, str(path)), str(path))


def write_text(path: Path, text: str) -> None:
    """Write a file whole or not at all; folders are made, lone surrogates escaped.

    Raises:
        OSError: the place cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    number, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(number, "w", encoding="utf-8", newline="\n") as stream:
            stream.write(writable(text))
        os.chmod(name, 0o644)
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def as_text(report: Report) -> str:
    """The file's contents."""
    return json.dumps(report.to_json(), indent=1, sort_keys=True, allow_nan=False) + "\n"

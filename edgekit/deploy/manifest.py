"""What an artifact says of itself: ``manifest.json``, derived from these dataclasses."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from types import MappingProxyType
from typing import Any, Literal, get_args

from edgekit.deploy.layout import OPTIONAL
from edgekit.errors import OutputError
from edgekit.program.serialize import FieldError, decode_dataclass, encode
from edgekit.targets.c.emit import LayerInfo
from edgekit.targets.library import Port

SCHEMA = 4
FILE_NAME = "manifest.json"
MAX_BYTES = 1 << 32
"""No target has more memory."""

ElementPrecision = Literal["int4", "int3", "int2", "ternary", "binary", "shift3", "shift2"]
Precision = Literal["auto", "int8", "float16", "float32", ElementPrecision]

ELEMENT_PRECISIONS = get_args(ElementPrecision)
"""Precisions of the weights of spiking networks only."""

PRECISION_NAMES = MappingProxyType(
    {
        "fp32": "float32",
        "fp16": "float16",
        "w8": "int8",
        "w4": "int4",
        "w3": "int3",
        "w2": "int2",
        "w158": "ternary",
        "w1": "binary",
    }
)
"""Other names of precisions: bits of weights, as recipes of quantisation have them."""

Form = Literal["tflite", "onnx", "program", "torch", "pt2", "nir", "spiking"]
"""What a source was: a file's format, an object, ``spiking`` for a graph in memory."""


@dataclass(frozen=True)
class Configuration:
    """The resolved options of an export.

    Attributes:
        target: name of the target.
        name: of the network; prefix of every symbol.
        precision: ``auto`` takes the model as it is; ``int8`` quantises a float model after
            training, which needs calibration data; ``float32`` deploys it as it is, ``float16``
            in half precision, which Jetsons have. Of a spiking network it is the element of its
            weights, ``int8`` or one of :data:`ELEMENT_PRECISIONS`.
        observer: how activation ranges are chosen from calibration data: ``minmax``, ``mse``,
            ``percentile`` or ``percentile:NUMBER``.
        calibration_limit: use at most so many calibration samples, drawn by the seed; None for all.
        seed: of everything drawn at random.
        allow_fallback: keep operators in float32 that could not get the requested precision.
        dequantize_weights: read a hybrid ``.tflite`` file (float32 with int8 weights) as float32.
        separate_weights: weights as a blob beside the code.
        stack_bytes: stack reserved in the image.
        toolchain: compiler asked for; empty for the preferred one that is there.
        input_shapes: fixed shapes for dynamic inputs.
        state: inputs that carry state, each with the output that becomes its next value.
        weights: file name of the ``.safetensors`` weights loaded into a factory's module.
        factory_args: arguments of the factory, as they were written.
        compare_int8: count what coded layers cost beside int8, where an emulator counts.
        nir: how a ``.nir`` file is read where it does not say so: ``dt`` in seconds,
            ``convention``, ``reset``, ``method``; see :func:`edgekit.spiking.nir.import_nir`.
    """

    target: str
    name: str
    precision: Precision = "auto"
    observer: str = "minmax"
    calibration_limit: int | None = None
    seed: int = 0
    allow_fallback: bool = False
    dequantize_weights: bool = False
    separate_weights: bool = False
    stack_bytes: int = 4096
    toolchain: str = ""
    input_shapes: tuple[tuple[str, tuple[int, ...]], ...] = ()
    state: tuple[tuple[str, str], ...] = ()
    weights: str = ""
    factory_args: tuple[tuple[str, str], ...] = ()
    compare_int8: bool = True
    nir: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class ModelRecord:
    """The source model: file name without folder, SHA-256 of its bytes, format.

    For a Program, its name and the hash of its serialised form; for a torch module, the name of
    its class and the hash of the ONNX model that it was captured as; for a spiking graph its name
    and the hash of its step as an ONNX model.
    """

    file: str
    sha256: str
    format: Form


@dataclass(frozen=True)
class CalibrationUse:
    """Calibration data as it was used.

    Attributes:
        sha256: of the arrays.
        samples: how many.
        observer: how ranges were chosen.
        seed: of what was drawn.
    """

    sha256: str
    samples: int
    observer: str
    seed: int


@dataclass(frozen=True)
class BuildRecord:
    """The compiler behind every figure of an image: name, version, flags."""

    toolchain: str
    version: str
    flags: tuple[str, ...]


@dataclass(frozen=True)
class Interface:
    """The generated library without its files; see :class:`edgekit.targets.library.Library`."""

    prefix: str
    arena_bytes: int
    arena_alignment: int
    state_bytes: int
    weights_bytes: int
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[a-z][a-z0-9_]*_", self.prefix):
            raise ValueError(f"{self.prefix!r} is no prefix")
        sizes = (self.arena_bytes, self.state_bytes, self.weights_bytes)
        if not all(0 <= size <= MAX_BYTES for size in sizes):
            raise ValueError(f"sizes {sizes} are impossible")
        if self.arena_alignment not in (1, 2, 4, 8, 16, 32, 64):
            raise ValueError(f"alignment {self.arena_alignment} is impossible")
        ports = (*self.inputs, *self.outputs)
        if not all(0 <= p.offset and p.offset + p.bytes <= self.arena_bytes for p in ports):
            raise ValueError("an input or output lies outside the arena")


@dataclass(frozen=True)
class MemoryRecord:
    """Bytes, equal to the linked image's sections where there is one.

    Attributes:
        activations: the arena, scratch included.
        peak_live: no arena for this order can be smaller.
        state: survives between steps.
        stack: high-water mark of the model in the emulator, None where it was not run.
        stack_reserved: reserved in the image, None without one.
        weights: constants, header included.
        code: the model's machine code and read-only data, None where nothing was linked.
        runtime: compiler support routines, None without an image.
        ram: activations + state + reserved stack, None without an image.
        flash: code + runtime + weights, None without an image.
        ram_available: on the target, None where it has no limit.
        flash_available: on the target, None where it has no limit.
    """

    activations: int
    peak_live: int
    state: int
    weights: int
    stack: int | None = None
    stack_reserved: int | None = None
    code: int | None = None
    runtime: int | None = None
    ram: int | None = None
    flash: int | None = None
    ram_available: int | None = None
    flash_available: int | None = None


@dataclass(frozen=True)
class CodedLayer:
    """A layer whose weights are packed.

    Attributes:
        operation: name of the operation.
        format: of its weights, by element, group and factors.
        weights: how many.
        packed_bytes: of weights and group factors in the weight section; as int8 they would take
            `weights` bytes. Multipliers of the channels, which int8 has too, do not count.
        packed_bits: of these bytes, per weight. Fewer than the effective bits of the format, where
            the scales of rows count.
        macs: multiply-accumulates.
        instructions: issued on the target's core for one seeded input, counted in emulation; None
            where they were not counted.
        int8_instructions: likewise of the same layer with int8 weights.
    """

    operation: str
    format: str
    weights: int
    packed_bytes: int
    packed_bits: float
    macs: int
    instructions: int | None = None
    int8_instructions: int | None = None

    @property
    def per_mac(self) -> float | None:
        """Instructions per multiply-accumulate."""
        return None if self.instructions is None else self.instructions / max(self.macs, 1)

    @property
    def int8_per_mac(self) -> float | None:
        """Likewise with int8 weights."""
        count = self.int8_instructions
        return None if count is None else count / max(self.macs, 1)

    @property
    def is_only_smaller(self) -> bool:
        """Whether it takes fewer bytes than int8, but not fewer instructions."""
        if self.instructions is None or self.int8_instructions is None:
            return False
        return self.packed_bytes < self.weights and self.instructions >= self.int8_instructions


@dataclass(frozen=True)
class MembraneRecord:
    """How the membranes of a population are kept; see :class:`edgekit.bench.spiking.Membrane`.

    Attributes:
        operation: that updates the population.
        fraction: binary digits behind the point.
        bound: largest magnitude, proven; None where there is no proof.
        limit: magnitude that is clipped to; None for none.
        unit_low: smallest real value of a unit over the neurons.
        unit_high: largest one.
    """

    operation: str
    fraction: int
    bound: int | None
    limit: int | None
    unit_low: float
    unit_high: float


@dataclass(frozen=True)
class SpikingRecord:
    """What makes the network a spiking one.

    Attributes:
        steps: samples in a window.
        dt_seconds: between two samples; None where the source does not say.
        element: of the weights: ``float32`` or a name of :data:`edgekit.formats.ELEMENTS`.
        parameters: weights and biases.
        windows: that the activity was measured over, before deployment, with float weights.
        activity: population and the share of its neurons that fire in a step, in order; what the
            schedules were chosen by.
        membranes: of integer populations, in execution order; none in float32.
    """

    steps: int
    dt_seconds: float | None
    element: str
    parameters: int
    windows: int
    activity: tuple[tuple[str, float], ...]
    membranes: tuple[MembraneRecord, ...]

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ValueError(f"a window has {self.steps} steps, must have at least one")


@dataclass(frozen=True)
class ModelFile:
    """The network in the file format of another runtime.

    Attributes:
        runtime: ``onnxruntime``, ``litert`` or ``tensorrt``.
        file: its path in the artifact.
        precision: of its weights and activations.
    """

    runtime: Literal["onnxruntime", "litert", "tensorrt"]
    file: str
    precision: Literal["int8", "float16", "float32"]


@dataclass(frozen=True)
class VectorCheck:
    """Outcome of running the test vectors at export.

    Attributes:
        device: where they ran, None where nothing here can run them.
        vectors: how many.
        identical: equal to the interpreter to the bit; None where they did not run.
    """

    device: str | None
    vectors: int
    identical: bool | None


@dataclass(frozen=True)
class FileRecord:
    """A file of the artifact: POSIX path, size in bytes, SHA-256."""

    path: str
    bytes: int
    sha256: str

    def __post_init__(self) -> None:
        parts = PurePosixPath(self.path).parts
        if not parts or self.path.startswith("/") or ".." in parts or not self.path.isprintable():
            raise ValueError(f"{self.path!r} is no path inside an artifact")


@dataclass(frozen=True)
class Manifest:
    """Everything that an artifact says of itself.

    Attributes:
        schema: version of this structure.
        edgekit: version that made it.
        model: where it came from.
        configuration: resolved options.
        family: ``host``, ``microcontroller``, ``arm-cpu`` or ``jetson``.
        versions: of the libraries that took part.
        calibration: where activations were quantised here.
        build: the compiler, None where nothing was linked.
        interface: of the generated library, None where there is none.
        layers: one per layer function.
        coded: those of them whose weights are packed.
        models: the network for other runtimes.
        fallbacks: operations left in float32 although int8 was asked for.
        notes: decisions that were taken while the model was read.
        memory: what the generated library needs, None where there is none.
        check: the test vectors.
        files: every other file of the folder.
        spiking: of a spiking network, None for any other.
    """

    schema: int
    edgekit: str
    model: ModelRecord
    configuration: Configuration
    family: str
    versions: tuple[tuple[str, str], ...]
    calibration: CalibrationUse | None
    build: BuildRecord | None
    interface: Interface | None
    layers: tuple[LayerInfo, ...]
    coded: tuple[CodedLayer, ...]
    models: tuple[ModelFile, ...]
    fallbacks: tuple[str, ...]
    notes: tuple[str, ...]
    memory: MemoryRecord | None
    check: VectorCheck
    files: tuple[FileRecord, ...] = ()
    spiking: SpikingRecord | None = None

    @property
    def steps(self) -> int | None:
        """Of a window, where the network decides over windows."""
        return None if self.spiking is None else self.spiking.steps

    def __post_init__(self) -> None:
        prefix, name = f"{self.configuration.name}_", self.configuration.name
        if self.interface is not None:
            prefix = self.interface.prefix
        if prefix != f"{name}_":
            raise ValueError(f"prefix {prefix!r} does not belong to {name!r}")
        for index, layer in enumerate(self.layers):
            if layer.symbol != f"{prefix}layer_{index}":
                raise ValueError(f"{layer.symbol!r} is not the symbol of layer {index}")

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        plain: dict[str, Any] = encode(self)
        return plain

    def write(self, folder: Path) -> None:
        """Write ``manifest.json`` into `folder`."""
        text = json.dumps(self.to_json(), indent=1, sort_keys=True) + "\n"
        (folder / FILE_NAME).write_text(text, encoding="utf-8", newline="\n")

    def with_files(self, folder: Path) -> Manifest:
        """A copy that lists every file of `folder` with its hash."""
        records = []
        for path in sorted(p for p in folder.rglob("*") if p.is_file() and p.name != FILE_NAME):
            data = path.read_bytes()
            name = path.relative_to(folder).as_posix()
            records.append(FileRecord(name, len(data), hashlib.sha256(data).hexdigest()))
        return replace(self, files=tuple(sorted(records, key=lambda r: r.path)))


def read_manifest(folder: Path) -> Manifest:
    """The manifest of an artifact.

    Raises:
        OutputError: no artifact, another schema version, or fields that do not fit.
    """
    path = folder / FILE_NAME
    try:
        document = json.loads(path.read_bytes())
    except OSError as error:
        raise OutputError(f"{folder} is no edgekit artifact: {error.strerror}: {path}") from error
    except (ValueError, RecursionError) as error:
        raise OutputError(f"{path} is not JSON: {error}") from error
    schema = document.get("schema") if isinstance(document, dict) else None
    if schema != SCHEMA:
        raise OutputError(f"{path}: schema is {schema!r}, this edgekit reads {SCHEMA}")
    try:
        manifest: Manifest = decode_dataclass(Manifest, document, "manifest")
    except FieldError as error:
        raise OutputError(f"{path}: {error}") from error
    return manifest


def check_files(manifest: Manifest, folder: Path) -> None:
    """Refuse an artifact whose files are not the ones that were exported.

    Raises:
        OutputError: names the files that are missing, changed or added where edgekit would read
            them.
    """
    known = {record.path for record in manifest.files}
    changed = [
        f"{name} (added)" for name in OPTIONAL if (folder / name).exists() and name not in known
    ]
    for record in manifest.files:
        path = folder / record.path
        inside = path.resolve().is_relative_to(folder.resolve())
        if not inside or not path.is_file():
            changed.append(f"{record.path} (missing)")
        elif hashlib.sha256(path.read_bytes()).hexdigest() != record.sha256:
            changed.append(f"{record.path} (changed)")
    if changed:
        raise OutputError(f"{folder}: not as exported: {', '.join(changed)}; export again")

"""What a board is told of an artifact: ``ondevice.json``, from the manifest and the Program."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from edgekit.bench.kit import kit_files
from edgekit.bench.memory import Block, Memory
from edgekit.bench.report import FileSize, Identity
from edgekit.bench.subject import SCHEMA, LayerFact, LibraryFile, ModelFile, Port, Subject
from edgekit.deploy.layout import PREPROCESSING, VECTORS
from edgekit.deploy.manifest import Interface, Manifest, MemoryRecord
from edgekit.program.ir import Boundary, DType, Program
from edgekit.program.plan import Buffer, MemoryPlan
from edgekit.targets.library import Port as LibraryPort


@dataclass(frozen=True)
class OnDevice:
    """What a board needs to run and measure the artifact by itself.

    Attributes:
        program: whose inputs and outputs the network has.
        library_file: path of the shared object in the artifact; None where there is none.
        weights_file: path of the weights' blob; None where they are built in.
        plan: of the arena; None without generated code.
        scripts: further files by path below ``ondevice/``.
    """

    program: Program
    library_file: str | None = None
    weights_file: str | None = None
    plan: MemoryPlan | None = None
    scripts: Mapping[str, str] = field(default_factory=dict)


def ports_of(
    program: Program, interface: Interface | None = None
) -> tuple[tuple[Port, ...], tuple[Port, ...]]:
    """Inputs and outputs as a board sees them.

    Args:
        program: whose boundary it is.
        interface: of the generated library, which knows offsets; None without one.
    """
    fed = () if interface is None else interface.inputs
    fetched = () if interface is None else interface.outputs
    return _ports(program, program.inputs, fed), _ports(program, program.outputs, fetched)


def _ports(
    program: Program, boundaries: Sequence[Boundary], placed: Sequence[LibraryPort]
) -> tuple[Port, ...]:
    offsets: list[int | None] = [port.offset for port in placed]
    offsets = offsets or [None] * len(boundaries)
    return tuple(
        _port(program, boundary, offset)
        for boundary, offset in zip(boundaries, offsets, strict=True)
    )


def _port(program: Program, boundary: Boundary, offset: int | None) -> Port:
    tensor = program.tensors[boundary.tensor]
    meaning = tensor.quantization if tensor.dtype.is_integer else None
    known = meaning is not None and meaning.axis is None
    return Port(
        name=boundary.name,
        dtype=tensor.dtype.value,
        source_shape=tuple(boundary.source_shape),
        permutation=boundary.permutation,
        offset=offset,
        bytes=tensor.bytes,
        scale=meaning.scalar_scale if meaning is not None and known else None,
        zero_point=meaning.scalar_zero_point if meaning is not None and known else None,
    )


def subject_of(
    manifest: Manifest,
    program: Program,
    *,
    library_file: str | None = None,
    weights_file: str | None = None,
    plan: MemoryPlan | None = None,
) -> Subject:
    """Everything that a board must know.

    Args:
        manifest: of the artifact, with the files that it deploys.
        program: in the order that the library runs it.
        library_file: path of the shared object in the artifact; None where none was built.
        weights_file: path of the weights' blob in the artifact; None where they are built in.
        plan: of the arena; None where it is not known: the report then has no map of it.
    """
    interface, build = manifest.interface, manifest.build
    inputs, outputs = ports_of(program, interface)
    files = {record.path: record.bytes for record in manifest.files}
    return Subject(
        schema=SCHEMA,
        edgekit=manifest.edgekit,
        identity=identity_of(manifest, program),
        memory=None if manifest.memory is None else memory_of(manifest, program, plan),
        layers=tuple(
            LayerFact(layer.symbol, layer.operation, layer.operator, layer.macs)
            for layer in manifest.layers
        ),
        inputs=inputs,
        outputs=outputs,
        library=None
        if interface is None or library_file is None
        else LibraryFile(
            file=library_file,
            prefix=interface.prefix,
            arena_bytes=interface.arena_bytes,
            arena_alignment=interface.arena_alignment,
            state_bytes=interface.state_bytes,
            weights_file=weights_file,
        ),
        models=tuple(ModelFile(m.runtime, m.file, m.precision) for m in manifest.models),
        vectors=VECTORS,
        preprocessing=PREPROCESSING if PREPROCESSING in files else None,
        toolchain=build.toolchain if build else None,
        toolchain_version=build.version if build else None,
        flags=build.flags if build else (),
        files=tuple(FileSize(path, files[path]) for path in sorted(_deployed(manifest, files))),
        steps=manifest.steps,
    )


def _deployed(manifest: Manifest, files: Mapping[str, int]) -> set[str]:
    """Paths of what a device needs: what was built, and models for other runtimes."""
    models = {model.file for model in manifest.models}
    built = {path for path in files if path.endswith((".elf", ".so", "_weights.bin"))}
    return (models | built) & files.keys()


def identity_of(manifest: Manifest, program: Program) -> Identity:
    """What was exported; the hash of the manifest is for whoever holds it."""
    return Identity(
        name=manifest.configuration.name,
        target=manifest.configuration.target,
        family=manifest.family,
        precision=_precision(manifest, program),
        model_file=manifest.model.file,
        model_format=manifest.model.format,
        model_sha256=manifest.model.sha256,
    )


def _precision(manifest: Manifest, program: Program) -> str:
    """Of a spiking network's weights; of the generated code, else of the first model file."""
    if manifest.spiking is not None:
        return manifest.spiking.element
    if manifest.interface is None and manifest.models:
        return manifest.models[0].precision
    computed = {program.tensors[name].dtype for op in program.operations for name in op.outputs}
    for dtype in (DType.INT8, DType.INT16):
        if dtype in computed:
            return dtype.value
    return DType.FLOAT32.value


def memory_of(manifest: Manifest, program: Program, plan: MemoryPlan | None) -> Memory:
    """The manifest's figures, and the map behind them where the plan is known."""
    record = manifest.memory
    assert record is not None
    return Memory(
        activations_bytes=record.activations,
        peak_live_bytes=record.peak_live,
        state_bytes=record.state,
        weights_bytes=record.weights,
        stack_bytes=record.stack,
        stack_reserved_bytes=record.stack_reserved,
        code_bytes=record.code,
        runtime_bytes=record.runtime,
        ram_bytes=record.ram,
        flash_bytes=record.flash,
        ram_available_bytes=record.ram_available,
        flash_available_bytes=record.flash_available,
        blocks=(
            *(() if plan is None else _arena(manifest, program, plan)),
            *_outside(record, program),
        ),
    )


def _arena(manifest: Manifest, program: Program, plan: MemoryPlan) -> Iterator[Block]:
    """Buffers of the arena over the layers that run; operations without code take no time."""
    layer_names = [layer.operation for layer in manifest.layers]
    begun = [0]
    for op in program.operations:
        begun.append(begun[-1] + (op.name in layer_names))
    last = max(len(layer_names) - 1, 0)

    def block(name: str, kind: Literal["activation", "scratch"], buffer: Buffer) -> Block:
        first = min(begun[buffer.start], last)
        end = begun[min(buffer.end, len(program.operations))]
        return Block(name, kind, buffer.offset, buffer.bytes, first, min(max(first, end - 1), last))

    for buffer in plan.buffers:
        yield block(", ".join(buffer.tensors), "activation", buffer)
    for name, buffer in plan.scratch.items():
        yield block(name, "scratch", buffer)


def _outside(record: MemoryRecord, program: Program) -> Iterator[Block]:
    """What lies elsewhere and always."""
    for state in program.state:
        yield Block(state.read, "state", None, program.tensors[state.read].bytes, None, None)
    yield Block("constants", "weights", None, record.weights, None, None)
    if record.code is not None:
        yield Block("kernels and glue", "code", None, record.code, None, None)
    if record.stack_reserved is not None:
        yield Block("reserved", "stack", None, record.stack_reserved, None, None)


def write_kit(manifest: Manifest, given: OnDevice, stage: Path) -> None:
    """Write ``ondevice.json`` and the scripts that a board runs.

    Args:
        manifest: of the artifact, with the files that it deploys.
        given: what the family knows.
        stage: folder of the artifact.
    """
    subject = subject_of(
        manifest,
        given.program,
        library_file=given.library_file,
        weights_file=given.weights_file,
        plan=given.plan,
    )
    subject.write(stage)
    files = kit_files(preprocessing=subject.preprocessing is not None)
    for name, text in (files | {f"ondevice/{n}": t for n, t in given.scripts.items()}).items():
        path = stage / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8", newline="\n")

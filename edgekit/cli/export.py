"""``edgekit export``: a model file becomes an artifact."""

from __future__ import annotations

import logging
import tempfile
import tomllib
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any

import typer

from edgekit.cli.options import (
    AllowFallback,
    CalibrationLimit,
    Config,
    FactoryArguments,
    Seed,
    Shapes,
    States,
    Weights,
    read_arguments,
    read_nir_options,
    read_shapes,
    read_states,
)
from edgekit.cli.render import Format, facts_as, filled, rows_as, show
from edgekit.deploy import exporter
from edgekit.deploy.artifact import Artifact
from edgekit.deploy.manifest import Configuration, MemoryRecord
from edgekit.deploy.ondevice import identity_of
from edgekit.deploy.staging import check_destination
from edgekit.errors import UsageError

log = logging.getLogger("edgekit")


def export(
    model: Annotated[
        str,
        typer.Argument(
            help="A .tflite, .onnx, .pt2 or .nir file, or package.module:factory, a function that "
            "makes a torch module or a spiking graph; it is imported from the current directory "
            "too."
        ),
    ],
    target: Annotated[str | None, typer.Option("--target", "-t", help="What to build for.")] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Folder to make.")] = None,
    calib: Annotated[
        Path | None,
        typer.Option(
            help="Training samples (.npz) that quantise a float model; a spiking network needs "
            "windows [N, T, ...]."
        ),
    ] = None,
    config: Config = None,
    precision: Annotated[
        str | None,
        typer.Option(
            help="auto (default), int8, float32; Jetsons float16; weights of spiking networks "
            "also ternary, shift3, int4, … auto keeps a quantised model as it is and makes a float "
            "one int8 by --calib; weights of a spiking network it keeps as they are, float32 too."
        ),
    ] = None,
    observer: Annotated[
        str | None, typer.Option(help="minmax (default), mse, percentile or percentile:NUMBER.")
    ] = None,
    calib_limit: CalibrationLimit = None,
    shape: Shapes = None,
    weights: Weights = None,
    factory_arg: FactoryArguments = None,
    preprocessing: Annotated[
        Path | None,
        typer.Option(help="JSON of what happens to raw data; benchmarks time it apart."),
    ] = None,
    state: States = None,
    nir: Annotated[
        list[str] | None,
        typer.Option(
            help="NAME=VALUE: how a .nir file is read: dt (seconds of a step), convention (nir or "
            "snntorch), reset, method."
        ),
    ] = None,
    name: Annotated[str | None, typer.Option(help="Prefix of every C symbol.")] = None,
    toolchain: Annotated[
        str | None, typer.Option(help="arm-none-eabi-gcc or ziglang; default what is there.")
    ] = None,
    stack_bytes: Annotated[
        int | None, typer.Option(help="Stack reserved in the image; default 4096.")
    ] = None,
    seed: Seed = None,
    allow_fallback: AllowFallback = None,
    dequantize_weights: Annotated[
        bool | None,
        typer.Option("--dequantize-weights", help="Read a hybrid .tflite file as float32."),
    ] = None,
    separate_weights: Annotated[
        bool | None, typer.Option("--separate-weights", help="Weights as a blob beside the code.")
    ] = None,
    compare_int8: Annotated[
        bool | None,
        typer.Option(
            "--compare-int8/--no-compare-int8",
            help="Count instructions per MAC of packed layers beside int8, in emulation; default "
            "yes. Counted where the target is emulated, not on this machine's own processor.",
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Do everything but keep nothing.")
    ] = False,
    style: Annotated[Format, typer.Option("--format", help="How to print.")] = Format.TABLE,
) -> None:
    """Make an artifact: what runs on the target, test vectors, a manifest."""
    flags: dict[str, Any] = {
        "target": target,
        "output": output,
        "calibration": calib,
        "name": name,
        "precision": precision,
        "observer": observer,
        "calibration_limit": calib_limit,
        "input_shapes": read_shapes(shape) if shape else None,
        "weights": weights,
        "factory_args": read_arguments(factory_arg) if factory_arg else None,
        "preprocessing": preprocessing,
        "state": read_states(state) if state else None,
        "nir": read_nir_options(nir) if nir else None,
        "toolchain": toolchain,
        "stack_bytes": stack_bytes,
        "seed": seed,
        "allow_fallback": allow_fallback,
        "separate_weights": separate_weights,
        "dequantize_weights": dequantize_weights,
        "compare_int8": compare_int8,
    }
    options = read_config(config) if config is not None else {}
    options |= {key: value for key, value in flags.items() if value is not None}
    if "target" not in options:
        raise UsageError("no target: give --target NAME (edgekit targets list shows them)")
    with tempfile.TemporaryDirectory() as temporary:
        if dry_run:
            if "output" in options:
                check_destination(Path(options["output"]))
            options["output"] = Path(temporary) / "artifact"
        artifact = exporter.export(model, **options)
        for note in artifact.manifest.notes:
            log.info("note: %s", note)
        for operation in artifact.manifest.fallbacks:
            log.warning("stays in float32: %s", operation)
        for text in slower(artifact):
            log.warning("%s", text)
        facts, rows = summary(artifact), coded_rows(artifact)
        if dry_run:
            facts["artifact"] = "none: a dry run"
        if style is Format.JSON and rows:
            facts["coded"] = rows
        show(facts_as(facts, style))
        if style is not Format.JSON and rows:
            show("\n" + rows_as(filled(rows), style))


def read_config(path: Path) -> dict[str, Any]:
    """Options from a TOML file; its keys are those of :func:`edgekit.export`.

    Raises:
        UsageError: it cannot be read, is no TOML or holds an unknown key.
    """
    try:
        options = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: is not TOML: {error}") from error
    known = {field.name for field in fields(Configuration)}
    known |= {"output", "calibration", "preprocessing", "weights"}
    unknown = sorted(options.keys() - known)
    if unknown:
        raise UsageError(f"{path}: unknown keys {unknown}; known: {sorted(known)}")
    return options


def summary(artifact: Artifact) -> dict[str, Any]:
    """What a user wants to know first."""
    manifest = artifact.manifest
    facts: dict[str, Any] = {
        "artifact": str(artifact.folder),
        "target": manifest.configuration.target,
        "precision": identity_of(manifest, artifact.program).precision,
    }
    if manifest.memory is not None:
        facts |= {
            "layers": len(manifest.layers),
            "macs": sum(layer.macs for layer in manifest.layers),
            **_memory(manifest.memory),
        }
    sizes = {record.path: record.bytes for record in manifest.files}
    for model in manifest.models:
        facts[model.file] = f"{sizes[model.file]:,} bytes, {model.precision} for {model.runtime}"
    if manifest.build is not None:
        facts["toolchain"] = manifest.build.version
    check = manifest.check
    facts["vectors"] = (
        f"{check.vectors} bit-identical on {check.device}"
        if check.identical
        else f"{check.vectors}, not run: nothing here runs {manifest.configuration.target}"
    )
    return facts


def coded_rows(artifact: Artifact) -> list[dict[str, Any]]:
    """What packed layers take, and cost on this core beside int8, counted in emulation."""
    return [
        {
            "operation": layer.operation,
            "weights": layer.format,
            "packed_bytes": layer.packed_bytes,
            "int8_bytes": layer.weights,
            "packed_bits": layer.packed_bits,
            "instructions_per_mac": layer.per_mac,
            "int8_instructions_per_mac": layer.int8_per_mac,
        }
        for layer in artifact.manifest.coded
    ]


def slower(artifact: Artifact) -> list[str]:
    """A warning for every layer whose format saves bytes but no instructions."""
    core = artifact.manifest.configuration.target
    return [
        f"{layer.operation}: {layer.format} is smaller than int8 ({layer.packed_bytes:,} of "
        f"{layer.weights:,} bytes) but not faster on {core}: {layer.per_mac:.2f} instructions per "
        f"multiply-accumulate, int8 {layer.int8_per_mac:.2f} (counted in emulation)"
        for layer in artifact.manifest.coded
        if layer.is_only_smaller
    ]


def _memory(memory: MemoryRecord) -> dict[str, Any]:
    """Bytes by purpose; against the board's where there is an image."""
    facts: dict[str, Any] = {
        "weights_bytes": memory.weights,
        "activations_bytes": memory.activations,
        "state_bytes": memory.state,
    }
    if memory.code is not None:
        facts |= {"code_bytes": memory.code}
    if memory.flash is not None:
        facts |= {
            "runtime_bytes": memory.runtime,
            "stack_bytes": memory.stack,
            "flash_bytes": memory.flash,
            "flash_available_bytes": memory.flash_available,
            "ram_bytes": memory.ram,
            "ram_available_bytes": memory.ram_available,
            "fits": True,
        }
    return facts

"""``edgekit export``: a model file becomes an artifact."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Annotated, Any

import typer

from edgekit.cli.render import Format, facts_as, show
from edgekit.deploy import exporter
from edgekit.deploy.artifact import Artifact
from edgekit.errors import UsageError

log = logging.getLogger("edgekit")


def export(
    model: Annotated[Path, typer.Argument(help="A .tflite or .onnx file.")],
    target: Annotated[str, typer.Option("--target", "-t", help="What to build for.")],
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Folder to make.")] = None,
    calib: Annotated[
        Path | None, typer.Option(help="Training samples (.npz) that quantise a float .onnx.")
    ] = None,
    precision: Annotated[str, typer.Option(help="auto, int8 or float32.")] = "auto",
    observer: Annotated[str, typer.Option(help="minmax, percentile or mse.")] = "minmax",
    shape: Annotated[
        list[str] | None, typer.Option(help="NAME=1,3,32,32: fixes an open input shape.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="Prefix of every C symbol.")] = None,
    toolchain: Annotated[str, typer.Option(help="arm-none-eabi-gcc or ziglang.")] = "",
    stack_bytes: Annotated[int, typer.Option(help="Stack reserved in the image.")] = 4096,
    seed: Annotated[int, typer.Option(help="Of everything drawn at random.")] = 0,
    allow_fallback: Annotated[
        bool, typer.Option(help="Keep in float32 what cannot be int8.")
    ] = False,
    separate_weights: Annotated[
        bool, typer.Option(help="Weights as a blob beside the code.")
    ] = False,
    style: Annotated[Format, typer.Option("--format", help="How to print.")] = Format.TABLE,
) -> None:
    """Make an artifact: C sources, an image for the target, test vectors, a manifest."""
    artifact = exporter.export(
        model,
        target=target,
        output=output,
        calibration=calib,
        name=name,
        precision=precision,
        observer=observer,
        input_shapes=_shapes(shape or []),
        toolchain=toolchain,
        stack_bytes=stack_bytes,
        seed=seed,
        allow_fallback=allow_fallback,
        separate_weights=separate_weights,
    )
    for operation in artifact.manifest.fallbacks:
        log.warning("stays in float32: %s", operation)
    show(facts_as(summary(artifact), style))


def _shapes(given: list[str]) -> dict[str, tuple[int, ...]]:
    """``NAME=1,3,32,32`` as a mapping.

    >>> _shapes(["x=1,3"])
    {'x': (1, 3)}
    """
    shapes = {}
    for text in given:
        name, separator, extents = text.rpartition("=")
        try:
            shapes[name] = tuple(int(e) for e in extents.split(","))
        except ValueError:
            separator = ""
        if not separator or not name:
            raise UsageError(f"--shape {text!r} must read NAME=1,3,32,32")
    return shapes


def summary(artifact: Artifact) -> dict[str, Any]:
    """What a user wants to know first."""
    manifest = artifact.manifest
    memory = manifest.memory
    facts: dict[str, Any] = {
        "artifact": str(artifact.folder),
        "target": manifest.configuration.target,
        "layers": len(manifest.layers),
        "macs": sum(layer.macs for layer in manifest.layers),
        "weights_bytes": memory.weights,
        "activations_bytes": memory.activations,
        "state_bytes": memory.state,
    }
    if manifest.build is not None:
        facts |= {
            "code_bytes": memory.code,
            "runtime_bytes": memory.runtime,
            "stack_bytes": memory.stack,
            "flash_bytes": memory.flash,
            "flash_available_bytes": memory.flash_available,
            "ram_bytes": memory.ram,
            "ram_available_bytes": memory.ram_available,
            "fits": True,
            "toolchain": manifest.build.version,
        }
    check = manifest.check
    facts["vectors"] = (
        f"{check.vectors} bit-identical on {check.device}"
        if check.identical
        else f"{check.vectors}, not run: nothing here runs {manifest.configuration.target}"
    )
    return facts

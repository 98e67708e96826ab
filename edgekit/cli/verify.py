"""``edgekit verify``: does the deployed code compute what its reference does?"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from edgekit.cli.render import Format, facts_as, rows_as, show
from edgekit.deploy.artifact import load
from edgekit.deploy.verification import VerifyReport


def verify(
    artifact: Annotated[Path, typer.Argument(help="A folder made by export.")],
    data: Annotated[
        Path | None,
        typer.Option(
            help="Samples or, with state, sequences (.npz), labels optional; default the vectors."
        ),
    ] = None,
    device: Annotated[str | None, typer.Option(help="emulator, qemu or local.")] = None,
    backend: Annotated[str | None, typer.Option(help="c (default), onnxruntime or litert.")] = None,
    limit: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Samples to run, evenly spread; in an emulator 100 by default, or 100 steps.",
        ),
    ] = None,
    style: Annotated[Format, typer.Option("--format", help="How to print.")] = Format.TABLE,
) -> None:
    """Compare what was deployed with its exact reference, per output and per layer.

    Exit code 1 when a single bit of the generated C differs. Other runtimes requantise in float:
    for them the differences are counted.

    Outputs are compared over all samples and all of their steps, layers over three samples, of
    sequences only their first steps. top1_agreement with the float model is of all steps,
    class_agreement and accuracy are of last steps: what a sequence is decided by.
    """
    report = load(artifact).verify(data, device=device, backend=backend, limit=limit)
    if style is Format.JSON:
        show(facts_as(report.to_json(), style))
    else:
        show(facts_as(summary(report), style))
        if report.outputs:
            show("\n" + rows_as(agreement_rows(report), style))
        if report.closeness:
            show("\n" + rows_as(closeness_rows(report), style))
    if not report.passed:
        raise typer.Exit(1)


def summary(report: VerifyReport) -> dict[str, Any]:
    """The verdict."""
    facts: dict[str, Any] = {
        "device": report.device,
        "backend": report.backend,
        "samples": f"{report.samples} of {report.available}"
        + (", evenly spread" if report.samples < report.available else ""),
    }
    if report.steps is not None:
        facts["steps"] = report.steps
    if report.outputs:
        facts["bit_identical"] = report.identical
    if report.first_difference is not None:
        facts["first_difference"] = report.first_difference
    if report.accuracy is not None:
        right = round(report.accuracy * report.samples)
        facts["accuracy"] = f"{report.accuracy:.4f} ({right} of {report.samples})"
    if report.float_accuracy is not None:
        facts["float_accuracy"] = f"{report.float_accuracy:.4f}"
    if report.class_agreement is not None:
        over = report.over["class_agreement"]
        facts["class_agreement"] = f"{report.class_agreement:.4f} ({over})"
    return facts


def agreement_rows(report: VerifyReport) -> list[dict[str, Any]]:
    """Layers, then outputs, each with what it was compared over."""
    return [
        {"kind": kind, "tensor": a.name, **{k: v for k, v in asdict(a).items() if k != "name"}}
        | {"over": report.over[entries]}
        for kind, entries in (("layer", "layers"), ("output", "outputs"))
        for a in getattr(report, entries)
    ]


def closeness_rows(report: VerifyReport) -> list[dict[str, Any]]:
    """Outputs beside the float model's, each with what it was compared over."""
    return [asdict(c) | {"over": report.over["closeness"]} for c in report.closeness]

"""``edgekit demo``: the whole way, from handwritten digits to three families of targets."""

from __future__ import annotations

import logging
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from edgekit.bench.report import Report, Run, write_text
from edgekit.cli import bench as bench_verb
from edgekit.cli import train as train_verb
from edgekit.cli.render import Format, rows_as, show
from edgekit.deploy.artifact import Artifact
from edgekit.deploy.exporter import export
from edgekit.deploy.verification import VerifyReport
from edgekit.errors import EdgekitError, OutputError, VerificationError
from edgekit.report.html import html_report

log = logging.getLogger("edgekit")

NETWORK = "digits-cnn"
FACTORY = "edgekit.zoo:digits_cnn"
TITLE = "Handwritten digits on three families of targets"


@dataclass(frozen=True)
class Stop:
    """One target of the tour.

    Attributes:
        target: its name.
        device: of generated C; None for the target's own.
        backends: that are measured; C for every artifact that has it, else what there is.
        baseline: precisions to hold it against.
    """

    target: str
    device: str | None = None
    backends: tuple[str, ...] = ()
    baseline: tuple[str, ...] = ()


STOPS = (
    Stop("nucleo-l4r5zi"),
    Stop("raspberry-pi-5"),
    Stop("jetson", baseline=("fp32",)),
    Stop("host", backends=("c", "onnxruntime", "litert"), baseline=("fp32",)),
)
"""What is exported and measured, in this order. This machine comes last, for real times."""


def demo(
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder to fill.")] = Path(
        "build/demo"
    ),
    style: Annotated[Format, typer.Option("--format", help="How to print.")] = Format.TABLE,
) -> None:
    """Train on real digits, quantise, export to three families, verify, measure, report.

    Shows every command that does the same by hand. Takes about a minute.
    """
    run = output / NETWORK
    _train(run)
    samples = run / "test.npz"
    with np.load(samples, allow_pickle=False) as arrays:
        count = len(arrays["y"])
    reports: list[Report] = []
    rows: list[dict[str, Any]] = []
    for stop in STOPS:
        artifact = _export(stop, run, output)
        verified = _verify(artifact, samples, count)
        report = _bench(artifact, stop, samples, count, output)
        reports.append(report)
        rows += [row(artifact, report, each, verified) for each in report.runs]
    page = output / "report.html"
    _say("report", [str(output / "runs/*.json"), "-o", str(page)], quoted=False)
    _write(page, html_report(reports, title=TITLE))
    log.info("")
    show(rows_as(rows, style))
    log.info("\nThe report with charts: %s", page)
    log.info("The artifacts, each with its README: %s", output)


def row(artifact: Artifact, report: Report, run: Run, verified: VerifyReport) -> dict[str, Any]:
    """One way of running the network, in a line; this machine's time only for this machine."""
    memory, latency = report.memory, run.latency_ms
    own = run.device in artifact.target.devices
    return {
        "target": report.artifact.target,
        "ran on": run.device if own else "this machine",
        "back end": run.backend,
        "precision": run.precision,
        "accuracy": f"{run.accuracy.value:.2%}" if run.accuracy else None,
        "reference": agreement(run, verified),
        "instructions": run.instructions,
        "latency_ms": f"{latency.p50:.4g} {run.origin(latency.provenance)}"
        if latency and own
        else None,
        "ram_bytes": memory.ram_bytes if memory and run.backend == "c" else None,
        "flash_bytes": memory.flash_bytes if memory and run.backend == "c" else None,
    }


def agreement(run: Run, verified: VerifyReport) -> str | None:
    """How the outputs agree with the exact reference over every test sample, in words."""
    if (run.backend, run.role) == (verified.backend, "subject") and verified.outputs:
        return "bit-identical" if verified.identical else "differs"
    found = run.agreement
    if found is None:
        return None
    if not found.mismatches:
        return f"equal in {found.samples} vectors"
    steps = "" if found.largest_step is None else f" by ≤ {found.largest_step}"
    return f"{found.rate:.1%} differ{steps}"


def _train(run: Path) -> None:
    """Train once; a finished training is kept, an interrupted one goes on."""
    if (run / "metrics.json").is_file():
        log.info("%s is trained already", run)
        return
    option = "resume" if (run / "config.toml").is_file() else "output"
    _say("train", [NETWORK, f"--{option}", str(run)])
    training = train_verb.training_module()
    with train_verb.progress_bar(quiet=not log.isEnabledFor(logging.INFO)) as watch:
        training.train(NETWORK, **{option: run}, on_step=watch.step, on_epoch=watch.epoch)


def _export(stop: Stop, run: Path, output: Path) -> Artifact:
    weights, calibration = run / "model.safetensors", run / "calibration.npz"
    preprocessing, folder = run / "preprocessing.json", output / stop.target
    words = ["--weights", str(weights), "--calib", str(calibration)]
    words += ["--preprocessing", str(preprocessing), "--target", stop.target, "-o", str(folder)]
    _say("export", [FACTORY, *words])
    return export(
        FACTORY,
        weights=weights,
        calibration=calibration,
        preprocessing=preprocessing,
        target=stop.target,
        output=folder,
    )


def _verify(artifact: Artifact, samples: Path, count: int) -> VerifyReport:
    """Every test sample on the target's own device, held to the bit where that can be had.

    Raises:
        VerificationError: a bit differs.
    """
    words = [str(artifact.folder), "--data", str(samples), "--limit", str(count)]
    _say("verify", words)
    report = artifact.verify(samples, limit=count)
    if not report.passed:
        raise VerificationError(
            f"{artifact.folder}: {report.first_difference} differs from the exact reference; "
            "this is a bug in edgekit, please report it"
        )
    return report


def _bench(artifact: Artifact, stop: Stop, samples: Path, count: int, output: Path) -> Report:
    target = output / "runs" / f"{stop.target}.json"
    words = [str(artifact.folder), "--input", str(samples), "--limit", str(count)]
    backends = tuple(b for b in stop.backends if _is_here(artifact, b))
    if backends:
        words += ["--backend", ",".join(backends)]
    if stop.baseline:
        words += ["--baseline", ",".join(stop.baseline)]
    words += ["-o", str(target)]
    _say("bench", words)
    report = artifact.bench(
        samples,
        backend=backends or None,
        baseline=stop.baseline or None,
        limit=count,
        command=shlex.join(["edgekit", "bench", *words]),
    )
    bench_verb.save(report, target)
    return report


def _is_here(artifact: Artifact, backend: str) -> bool:
    """Whether this machine has the back end; the demo goes on without it."""
    try:
        artifact.open(backend=backend).close()
    except EdgekitError as error:
        log.warning("without %s: %s", backend, error)
        return False
    return True


def _say(verb: str, words: list[str], *, quoted: bool = True) -> None:
    """The command that does the same by hand."""
    log.info("$ edgekit %s %s", verb, shlex.join(words) if quoted else " ".join(words))


def _write(path: Path, text: str) -> None:
    try:
        write_text(path, text)
    except OSError as error:
        raise OutputError(f"{path}: cannot be written: {error.strerror}") from error

"""The command that a board runs: ``python3 ondevice/bench.py --backend c,onnxruntime``.

Files must be those of the manifest, where it was copied along. Generated C must be exact to the bit
on the test vectors, else there is no report. Exit codes are those of the ``edgekit`` command: 0 ok,
1 a check failed, 2 usage, 4 a runtime is missing.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from edgekit.bench.bench import MismatchError, Way, bench
from edgekit.bench.boundary import BoundaryError
from edgekit.bench.dataset import match, read_arrays
from edgekit.bench.fields import ReportError
from edgekit.bench.integrity import manifest_sha256
from edgekit.bench.preprocessing import timed
from edgekit.bench.protocol import Protocol
from edgekit.bench.report import Report, as_text, write_text
from edgekit.bench.runners import open_runner
from edgekit.bench.runners.base import RunnerError, RuntimeMissingError
from edgekit.bench.samples import Samples, seeded
from edgekit.bench.subject import Subject, read_subject
from edgekit.bench.text import summary

FAILED, USAGE, MISSING = 1, 2, 4
"""Exit codes."""


def main(folder: Path, arguments: Sequence[str] | None = None) -> int:
    """Measure the artifact in `folder` on this machine.

    Args:
        folder: of the artifact.
        arguments: of the command line; None for this process's own.

    Returns:
        The exit code.
    """
    options = _parser().parse_args(arguments)
    try:
        report = _measured(folder, options)
        text = as_text(report)
        if options.output is not None:
            write_text(options.output, text)
    except MismatchError as error:
        return _failed(error, FAILED)
    except RuntimeMissingError as error:
        return _failed(error, MISSING)
    except (BoundaryError, OSError, ReportError, RunnerError, ValueError) as error:
        return _failed(error, USAGE)
    for warning in (*report.warnings, *(w for run in report.runs for w in run.warnings)):
        sys.stderr.write(f"warning: {warning}\n")
    sys.stdout.write(text if options.format == "json" else summary(report))
    return 0


def _failed(error: Exception, code: int) -> int:
    sys.stderr.write(f"bench: {error}\n")
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="bench.py", description="What one inference costs on this machine."
    )
    add = parser.add_argument
    add("--backend", default="", help="comma list: c, onnxruntime, litert, tensorrt")
    add("--baseline", default="", help="comma list of precisions: float32, int8")
    add("--input", type=Path, help="samples (.npz); default a seeded random input")
    add("--limit", type=_positive, help="samples that accuracy is counted over, evenly spread")
    add("--seed", type=int, default=0, help="of the random input")
    add("--warmup", type=int, default=10, help="runs before counting")
    add("--iters", type=int, default=50, help="counted runs at least")
    add("--min-seconds", type=float, default=0.5, help="counted time at least")
    add("--percentiles", type=_numbers, default=(), help="further ones, comma list")
    add("--threads", type=int, default=1, help="that a runtime may use")
    add("--output", type=Path, help="write the report here")
    add("--format", choices=("table", "json"), default="table", help="how to print")
    return parser


def _positive(text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no positive number")
    return int(text)


def _numbers(text: str) -> tuple[float, ...]:
    return tuple(float(part) for part in text.split(",") if part)


def _measured(folder: Path, options: argparse.Namespace) -> Report:
    subject = _identified(folder, read_subject(folder))
    protocol = Protocol(
        warmup=options.warmup,
        iterations=options.iters,
        min_seconds=options.min_seconds,
        percentiles=options.percentiles,
        threads=options.threads,
    )
    ways = ways_of(
        folder,
        subject,
        backends=_words(options.backend),
        baselines=_words(options.baseline),
        threads=options.threads,
    )
    samples = _samples(subject, options)
    return bench(
        subject,
        ways,
        samples,
        protocol,
        command=shlex.join(["python3", *sys.argv]),
        vectors=read_arrays(folder / subject.vectors),
        limit=options.limit,
        preprocessing=timed(folder, subject, samples, protocol),
    )


def _identified(folder: Path, subject: Subject) -> Subject:
    """With the hash of the manifest, where it was copied along and describes what is here."""
    digest = manifest_sha256(folder, subject)
    return replace(subject, identity=replace(subject.identity, artifact_sha256=digest))


def _words(text: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))


def _samples(subject: Subject, options: argparse.Namespace) -> Samples:
    if options.input is None:
        return seeded(subject.inputs, options.seed)
    arrays = read_arrays(options.input)
    return Samples.of(
        match(subject.inputs, arrays, sequences=subject.has_state), options.input.name
    )


def ways_of(
    folder: Path,
    subject: Subject,
    *,
    backends: Sequence[str],
    baselines: Sequence[str],
    threads: int,
) -> list[Way]:
    """The deployed network in every back end, then baselines in the first runtime that has them.

    Args:
        folder: of the artifact.
        subject: what it says of itself.
        backends: names; none for everything that the artifact has a file for.
        baselines: precisions, ``float32`` or ``fp32``, ``int8``.
        threads: that a runtime may use.

    Raises:
        RunnerError: the artifact holds nothing for one of them.
    """
    own = subject.identity.precision
    held = (() if subject.library is None else ("c",)) + tuple(
        model.runtime for model in subject.models if model.precision == own
    )
    ways = []
    for name in backends or tuple(dict.fromkeys(held)):
        opened = partial(open_runner, folder, subject, name, precision=own, threads=threads)
        ways.append(Way(opened))
    for precision in (baseline_precision(name) for name in baselines):
        model = next((m for m in subject.models if m.precision == precision), None)
        if model is None:
            raise RunnerError(f"{subject.identity.name}: the artifact holds no {precision} model")
        runtime = model.runtime
        opened = partial(
            open_runner, folder, subject, runtime, precision=precision, threads=threads
        )
        ways.append(Way(opened, "baseline"))
    return ways


def baseline_precision(name: str) -> str:
    """How manifests spell a precision.

    >>> baseline_precision("fp32"), baseline_precision("int8")
    ('float32', 'int8')
    """
    return {"fp32": "float32", "fp16": "float16"}.get(name, name)


def launch(launcher: str) -> None:
    """Run for the artifact that `launcher` lies in; ends the process.

    Args:
        launcher: path of ``ondevice/bench.py``.
    """
    sys.exit(main(Path(launcher).resolve().parents[1]))

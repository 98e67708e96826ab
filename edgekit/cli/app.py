"""The application: verbs, common flags, and errors as one line with an exit code."""

from __future__ import annotations

import logging
import signal
import sys
from pathlib import Path
from typing import Annotated

import typer

from edgekit.cli import (
    bench,
    compare,
    demo,
    doctor,
    export,
    ops,
    quantize,
    report,
    targets,
    train,
    verify,
)
from edgekit.cli.plugin import load_plugin
from edgekit.errors import EdgekitError, UsageError
from edgekit.version import edgekit_version

app = typer.Typer(
    help="Networks to microcontrollers, ARM CPUs and Jetson: quantised, exact, measured.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.command("doctor")(doctor.doctor)
app.add_typer(targets.app, name="targets")
app.command("ops")(ops.ops)
app.command("train")(train.train)
app.command("quantize")(quantize.quantize)
app.command("export")(export.export)
app.command("verify")(verify.verify)
app.command("bench")(bench.bench)
app.command("compare")(compare.compare)
app.command("report")(report.report)
app.command("demo")(demo.demo)

INTERRUPTED = 130


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"edgekit {edgekit_version()}")
        raise typer.Exit


@app.callback()
def common(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
    plugin: Annotated[
        list[Path] | None,
        typer.Option(help="Python file that registers operators of your own; runs it."),
    ] = None,
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="Errors only.")] = False,
    verbose: Annotated[bool, typer.Option("-v", "--verbose", help="More on stderr.")] = False,
) -> None:
    """Networks to microcontrollers, ARM CPUs and Jetson: quantised, exact, measured.

    Results go to stdout, progress and messages to stderr. Exit codes: 0 ok, 1 a check failed,
    2 usage, 3 unsupported on this target, 4 a device or tool is missing.
    """
    level = logging.ERROR if quiet else logging.DEBUG if verbose else logging.INFO
    logging.basicConfig(level=level, format="%(message)s", stream=sys.stderr, force=True)
    for path in plugin or []:
        load_plugin(path)


def main() -> None:
    """Run the command line; every error that a user can cause is one message and an exit code."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        # As an exception, so that nothing half-written stays behind.
        signal.signal(number, lambda received, _: sys.exit(128 + received))
    try:
        app()
    except EdgekitError as error:
        sys.stderr.write(f"edgekit: {error}\n")
        sys.exit(error.exit_code)
    except SystemExit as stop:
        # What the command-line library makes of Ctrl-C.
        if stop.code == INTERRUPTED:
            sys.stderr.write("edgekit: interrupted\n")
        raise
    except KeyboardInterrupt:
        sys.stderr.write("edgekit: interrupted\n")
        sys.exit(INTERRUPTED)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(0)
    except OSError as error:
        # A full disk or a vanished file, met where no verb expects it.
        sys.stderr.write(f"edgekit: {error}\n")
        sys.exit(UsageError.exit_code)

"""``edgekit train``: a reference network and its data become weights."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from edgekit.cli.render import Format, facts_as, rows_as, show
from edgekit.errors import ToolchainMissingError
from edgekit.zoo.precisions import TRAINED_PRECISIONS
from edgekit.zoo.table import NETWORKS

if TYPE_CHECKING:
    from edgekit.zoo.checkpoint import Epoch
    from edgekit.zoo.result import TrainResult


def train(
    name: Annotated[str, typer.Argument(help=f"One of {', '.join(NETWORKS)}.")],
    config: Annotated[
        Path | None, typer.Option(help="TOML whose values replace the recipe's; flags win.")
    ] = None,
    data: Annotated[
        Path | None, typer.Option(help="File or folder of the data set; default the cache folder.")
    ] = None,
    download: Annotated[
        bool, typer.Option("--download", help="Fetch what the cache folder lacks.")
    ] = False,
    sha256: Annotated[
        str | None, typer.Option(help="Of the file to fetch, where no checksum is known.")
    ] = None,
    split: Annotated[
        str | None, typer.Option(help="subject, random or official, as the data set has it.")
    ] = None,
    epochs: Annotated[int | None, typer.Option(help="Passes over the training samples.")] = None,
    seed: Annotated[int | None, typer.Option(help="Of everything drawn.")] = None,
    precision: Annotated[
        str | None,
        typer.Option(help=f"Of the weights: {', '.join(TRAINED_PRECISIONS)}; default float."),
    ] = None,
    start: Annotated[
        Path | None, typer.Option(help="Finished float run whose weights this one starts from.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Run folder to make; default runs/NAME.")
    ] = None,
    resume: Annotated[Path | None, typer.Option(help="Run folder to go on with.")] = None,
    threads: Annotated[int | None, typer.Option(help="Of torch; default as it likes.")] = None,
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="No progress.")] = False,
    style: Annotated[Format, typer.Option("--format", help="How to print.")] = Format.TABLE,
) -> None:
    """Train a reference network; every epoch leaves a checkpoint to resume from."""
    training = training_module()
    flags: dict[str, Any] = {"split": split, "epochs": epochs, "seed": seed}
    flags |= {"precision": precision, "start": None if start is None else str(start.absolute())}
    changes: dict[str, Any] = {}
    if config is not None:
        from edgekit.zoo.recipe import read_changes

        changes |= read_changes(config)
    changes |= {key: value for key, value in flags.items() if value is not None}
    with progress_bar(quiet=quiet) as watch:
        try:
            result = training.train(
                name,
                changes,
                output=output,
                resume=resume,
                data=data,
                download=download,
                sha256=sha256,
                threads=threads,
                on_step=watch.step,
                on_epoch=watch.epoch,
            )
        except KeyboardInterrupt:
            folder = resume or output or Path("runs") / name
            sys.stderr.write(f"interrupted; {how_to_go_on(name, folder)}\n")
            raise
    show_result(result, style)


def how_to_go_on(name: str, folder: Path) -> str:
    """What to do after an interrupt; before the first checkpoint there is nothing to resume."""
    from edgekit.zoo.checkpoint import FILE_NAME

    if not (folder / FILE_NAME).is_file():
        return f"nothing was trained yet in {folder}"
    return f"go on with: {shlex.join(['edgekit', 'train', name, '--resume', str(folder)])}"


def show_result(result: TrainResult, style: Format) -> None:
    """Facts, classes, and for people the command that goes on."""
    if style is Format.JSON:
        show(result.to_json())
        return
    facts = {
        "run": result.folder,
        "network": result.network,
        "parameters": result.parameters,
        "dataset": result.dataset,
        "precision": result.precision or "fp32",
        "split": result.split + (f" ({result.caveat})" if result.caveat else ""),
        "epochs": f"{result.epochs}, best {result.best_epoch} by validation",
        "train_accuracy": result.train.accuracy,
        "validation_accuracy": result.validation.accuracy,
        "test_accuracy": result.test.accuracy,
        "test_samples": result.test.n,
        "seconds": result.seconds,
    }
    show(facts_as(facts, style))
    rows = [
        {"class": c.name, "samples": c.n, "recall": c.recall, "precision": c.precision}
        for c in result.classes
    ]
    show("\n" + rows_as(rows, style))
    if style is Format.TABLE:
        show(f"\n{export_command(result)}\n")


def export_command(result: TrainResult) -> str:
    """The command that makes an artifact of a run, with what it does to samples."""
    folder = Path(result.folder)
    words = ["edgekit", "export", "edgekit.zoo:load_run", "--factory-arg", f"folder={folder}"]
    words += ["--name", result.network.replace("-", "_")]
    words += ["--calib", str(folder / "calibration.npz")]
    words += ["--preprocessing", str(folder / "preprocessing.json"), "--target"]
    return f"{shlex.join(words)} NAME"


class _Watch:
    """Turns what a training tells into a bar on stderr."""

    def __init__(self, progress: Progress) -> None:
        self.progress = progress
        self.task = progress.add_task("", total=None)
        self.last = ""

    def step(self, epoch: int, epochs: int, step: int, steps: int) -> None:
        """One step more."""
        self.progress.update(
            self.task,
            total=epochs * steps,
            completed=(epoch - 1) * steps + step,
            description=f"epoch {epoch}/{epochs}{self.last}",
        )

    def epoch(self, epoch: Epoch) -> None:
        """One epoch more."""
        self.last = f"  loss {epoch.train_loss:.3f}  validation {epoch.validation_accuracy:.4f}"
        if not self.progress.console.is_terminal and not self.progress.disable:
            self.progress.console.print(f"epoch {epoch.epoch}{self.last}")


@contextmanager
def progress_bar(*, quiet: bool) -> Iterator[_Watch]:
    """A bar on stderr that a training is told to move; lines where stderr is no terminal."""
    console = Console(stderr=True, highlight=False, markup=False)
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), TimeRemainingColumn())
    bar = Progress(*columns, console=console, disable=quiet, transient=True)
    with bar:
        yield _Watch(bar)


def training_module() -> Any:
    """The module that trains; it needs torch."""
    try:
        from edgekit.zoo import training
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] == "edgekit":
            raise
        raise ToolchainMissingError(
            f"training needs the package {error.name}: pip install 'edgekit[train]'"
        ) from error
    return training

"""``edgekit quantize``: a float model becomes a quantised one, after training."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

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
    read_shapes,
    read_states,
)
from edgekit.cli.quantize_options import Configured, read_config
from edgekit.cli.render import Format, facts_as, rows_as, show
from edgekit.deploy import modules
from edgekit.deploy.data import read_arrays, samples_for
from edgekit.deploy.manifest import Configuration
from edgekit.errors import EdgekitError, OutputError, UsageError
from edgekit.model import Model, load
from edgekit.model.coded import is_quantized
from edgekit.model.save import save
from edgekit.program.lowering import lower
from edgekit.quantize.calibration import calibration_record
from edgekit.quantize.posttraining import (
    Options,
    PostTraining,
    Sensitivity,
    post_training,
    sensitivity,
)
from edgekit.quantize.recipe import Recipe

log = logging.getLogger("edgekit")

MARK = "edgekit.quantize"
"""Metadata of a file that this verb wrote: how it was made, as JSON."""

Tell = Any
"""Called with a layer's name, and steps done and in all for it."""


def quantize(
    model: Annotated[
        str,
        typer.Argument(help="A float .onnx or .pt2 file, or package.module:factory."),
    ],
    precision: Annotated[
        str | None,
        typer.Option(
            "--precision",
            "-p",
            help="Recipe: w8a8, w4a8-g32, fp4-e2m1-g128a8, w158a8, …; a JSON object of layers to "
            "recipes; with --budget or --sensitivity several, separated by commas.",
        ),
    ] = None,
    calib: Annotated[
        Path | None, typer.Option(help="Training samples (.npz), a few hundred.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="The .onnx file to make.")
    ] = None,
    method: Annotated[
        str | None,
        typer.Option(
            help="rtn (default), mse, percentile:NUMBER, adaround, gptq; one for scales joined to "
            "one for rounding: mse+adaround."
        ),
    ] = None,
    config: Config = None,
    observer: Annotated[
        str | None,
        typer.Option(help="Of activations: minmax (default), mse, percentile:NUMBER."),
    ] = None,
    bias_correction: Annotated[
        bool | None, typer.Option("--bias-correction", help="Biases make up for mean errors.")
    ] = None,
    equalize: Annotated[
        bool | None, typer.Option("--equalize", help="Balance channels between layers first.")
    ] = None,
    calib_limit: CalibrationLimit = None,
    seed: Seed = None,
    keep_ends: Annotated[
        bool | None,
        typer.Option(
            "--keep-ends/--narrow-ends",
            help="First and last layer w8a8 unless they are named; default so.",
        ),
    ] = None,
    measure: Annotated[
        bool, typer.Option("--sensitivity", help="Only say what every layer costs alone.")
    ] = False,
    budget: Annotated[
        int | None,
        typer.Option(help="Bytes of all weights; mixes the recipes of --precision to fit."),
    ] = None,
    metric: Annotated[
        str | None, typer.Option(help="Of sensitivity: mse (default), kl, accuracy.")
    ] = None,
    shape: Shapes = None,
    weights: Weights = None,
    factory_arg: FactoryArguments = None,
    state: States = None,
    allow_fallback: AllowFallback = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Do everything but write nothing.")
    ] = False,
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="No progress.")] = False,
    style: Annotated[Format, typer.Option("--format", help="How to print.")] = Format.TABLE,
) -> None:
    """Quantise a float model: int8 activations, weights by a recipe, by a method."""
    flags: dict[str, Any] = {
        "precision": precision,
        "calibration": None if calib is None else str(calib),
        "output": None if output is None else str(output),
        "method": method,
        "observer": observer,
        "bias_correction": bias_correction,
        "equalize": equalize,
        "seed": seed,
        "calibration_limit": calib_limit,
        "keep_ends": keep_ends,
        "budget_bytes": budget,
        "metric": metric,
        "allow_fallback": allow_fallback,
        "weights": None if weights is None else str(weights),
        "input_shapes": tuple(read_shapes(shape).items()) if shape else None,
        "factory_args": tuple(read_arguments(factory_arg).items()) if factory_arg else None,
        "state": tuple(read_states(state).items()) if state else None,
    }
    options = read_config(config) if config is not None else {}
    options |= {key: value for key, value in flags.items() if value is not None}
    configured = Configured(**options)
    if not configured.precision:
        raise UsageError("no precision: give --precision w8a8, w4a8-g32, fp4-e2m1-g128a8, …")
    if configured.calibration is None:
        raise UsageError("no calibration data: give --calib FILE.npz, training samples")
    if not measure and not dry_run:
        _check_destination(configured)
    network = _network(model, configured)
    samples, labels = _samples(network, configured)
    with _progress(quiet=quiet) as tell:
        if measure:
            _show_sensitivity(_sensitivity(network, samples, labels, configured, tell), style)
            return
        if configured.budget_bytes is None:
            recipe = Recipe.parse(configured.precision, keep_ends=configured.keep_ends)
        else:
            found = _sensitivity(network, samples, labels, configured, tell).recipe
            assert found is not None
            recipe = found
        result = _quantized(network, recipe, samples, configured, tell)
    program = lower(
        result.model,
        allow_fallback=configured.allow_fallback,
        state=dict(configured.state) or None,
    )
    written = None
    if not dry_run:
        assert configured.output is not None
        record = _record(model, recipe, samples, configured)
        result.model.ir.metadata_props[MARK] = json.dumps(record, sort_keys=True)
        written = str(save(result.model, configured.output))
    facts = {
        "model": model,
        "recipe": str(recipe),
        "method": configured.method,
        "samples": _count(samples, configured.calibration_limit),
        "weights_bytes": result.bytes,
        "effective_bits": result.effective_bits,
        "operations": len(program.operations),
        "output": written,
    }
    _show_result(result, facts, style)


def _network(model: str, configured: Configured) -> Model:
    """The float model.

    Raises:
        UsageError: it is quantised already, or its kind cannot be quantised.
    """
    configuration = Configuration(
        target="host",
        name="model",
        seed=configured.seed,
        input_shapes=configured.input_shapes,
        factory_args=configured.factory_args,
    )
    path = Path(model)
    weights = configured.weights
    if modules.is_factory(model):
        made, name, own = modules.made_of(model, configuration, weights)
        network, _ = modules.read_module(
            made, name, configuration, configured.calibration, example_inputs=None, own=own
        )
    else:
        modules.refuse_factory_options(configuration, weights, "a file")
        if path.suffix.lower() == ".tflite":
            raise UsageError(f"{model}: a .tflite file has its own quantisation; give .onnx")
        if path.suffix.lower() == ".pt2":
            network, _ = modules.read_pt2(path, configuration)
        else:
            network = load(path, input_shapes=dict(configured.input_shapes))
    if is_quantized(network.ir.graph):
        raise UsageError(f"{model} is quantised already; give the float model")
    return network


def _samples(network: Model, configured: Configured) -> tuple[Mapping[str, Any], Any]:
    """Calibration arrays by input, and labels where the file has them."""
    assert configured.calibration is not None
    reference = lower(network, state=dict(configured.state) or None)
    found = samples_for(reference, read_arrays(configured.calibration))
    return found.inputs, found.labels


def _sensitivity(
    network: Model, samples: Mapping[str, Any], labels: Any, configured: Configured, tell: Tell
) -> Sensitivity:
    precision = configured.precision
    several = isinstance(precision, str) and not precision.lstrip().startswith("{")
    if not several:
        raise UsageError("sensitivity compares recipes: give --precision w8a8,w4a8-g32,…")
    return sensitivity(
        network,
        samples,
        labels=labels,
        recipes=[text.strip() for text in precision.split(",")],
        budget_bytes=configured.budget_bytes,
        metric=configured.metric,  # type: ignore[arg-type]
        seed=configured.seed,
        limit=configured.calibration_limit,
        progress=tell,
    )


def _quantized(
    network: Model, recipe: Recipe, samples: Mapping[str, Any], configured: Configured, tell: Tell
) -> PostTraining:
    options = Options(
        method=configured.method,
        observer=configured.observer,
        bias_correction=configured.bias_correction,
        equalize=configured.equalize,
        measure=True,
        seed=configured.seed,
        limit=configured.calibration_limit,
    )
    state = dict(configured.state) or None
    return post_training(network, recipe, samples, options, state=state, progress=tell)


def _count(samples: Mapping[str, Any], limit: int | None) -> int:
    count = len(next(iter(samples.values())))
    return count if limit is None else min(count, limit)


def _record(
    model: str, recipe: Recipe, samples: Mapping[str, Any], configured: Configured
) -> dict[str, Any]:
    """How the file was made."""
    data = calibration_record(
        samples,
        observer=configured.observer,
        seed=configured.seed,
        limit=configured.calibration_limit,
    )
    resolved = {f.name: getattr(configured, f.name) for f in fields(configured)}
    resolved |= {"precision": str(recipe), "calibration": data.sha256, "samples": data.samples}
    resolved.pop("output")
    return {"model": Path(model).name, **resolved}


def _check_destination(configured: Configured) -> None:
    """Refuse an output that may not be replaced: only what this verb wrote may.

    Raises:
        UsageError: no output is named.
        OutputError: something else is there.
    """
    if configured.output is None:
        raise UsageError("no output: give -o FILE.onnx, or --dry-run")
    path = Path(configured.output)
    if path.suffix.lower() != ".onnx":
        raise OutputError(f"{path}: a quantised model is written as an .onnx file")
    if path.is_symlink() or (path.exists() and not path.is_file()):
        raise OutputError(f"{path} exists and is no file; choose another output")
    if not path.exists():
        return
    try:
        ours = MARK in load(path).ir.metadata_props
    except EdgekitError:
        ours = False
    if not ours:
        raise OutputError(f"{path} exists and is not of edgekit quantize; choose another output")


def _show_result(result: PostTraining, facts: Mapping[str, Any], style: Format) -> None:
    if style is Format.JSON:
        show(json.dumps({**facts, **result.to_dict()}, indent=2) + "\n")
        return
    tied = any(layer.tied_to is not None for layer in result.layers)
    rows = [
        {
            "layer": layer.name,
            "type": layer.kind,
            "recipe": layer.recipe,
            "because": layer.reason,
            "float_bytes": layer.float_bytes,
            "bytes": layer.bytes,
            "effective_bits": layer.effective_bits,
            "error_rounded": layer.error_rounded,
            "error": layer.error,
            # These bytes are another layer's, and count there.
            **({"weights_of": layer.tied_to} if tied else {}),
        }
        for layer in result.layers
    ]
    show(rows_as(rows, style))
    if style is not Format.CSV:
        show("\n" + facts_as(facts, style))


def _show_sensitivity(result: Sensitivity, style: Format) -> None:
    if style is Format.JSON:
        show(result.to_json())
        return
    chosen = result.proposal or {}
    rows = [
        {
            "layer": cost.layer,
            "recipe": cost.recipe,
            "bytes": cost.bytes,
            "mse": cost.mse,
            "kl": cost.kl,
            "accuracy_lost": cost.accuracy_lost,
            "chosen": chosen.get(cost.layer) == cost.recipe if chosen else None,
        }
        for cost in sorted(result.costs, key=lambda cost: -cost.value(result.metric))
    ]
    show(rows_as(rows, style))
    if style is not Format.CSV:
        facts = {
            "samples": result.samples,
            "accuracy": result.accuracy,
            "budget_bytes": result.budget_bytes,
            "proposal": None if result.recipe is None else str(result.recipe),
            "proposal_bytes": result.proposal_bytes,
        }
        show("\n" + facts_as(facts, style))


@contextmanager
def _progress(*, quiet: bool) -> Iterator[Tell]:
    """A bar on stderr, one layer after the other."""
    console = Console(stderr=True, highlight=False, markup=False)
    columns = (TextColumn("{task.description}", markup=False), BarColumn())
    silent = quiet or not console.is_terminal
    with Progress(*columns, console=console, disable=silent, transient=True) as bar:
        task = bar.add_task("", total=None)

        def tell(layer: str, done: int, total: int) -> None:
            bar.update(task, description=layer, completed=done, total=total)

        yield tell

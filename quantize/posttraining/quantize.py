"""Post-training quantisation of an ONNX Model by a recipe. NumPy only."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace

import onnx_ir

from edgekit.errors import UnsupportedError
from edgekit.model.domain import attach_functions
from edgekit.model.model import Model
from edgekit.model.nodes import Array, is_op
from edgekit.model.passes.remove_dead import remove_dead
from edgekit.model.passes.standard_weights import standard_weights
from edgekit.quantize.insert import insert_quantization
from edgekit.quantize.posttraining.choosing import Work, is_apart
from edgekit.quantize.posttraining.equalize import equalize_layers
from edgekit.quantize.posttraining.layers import Layer, find_layers
from edgekit.quantize.posttraining.method import Method
from edgekit.quantize.posttraining.options import Options, Progress
from edgekit.quantize.posttraining.result import PostTraining
from edgekit.quantize.posttraining.ties import Decided, agree
from edgekit.quantize.recipe import Recipe
from edgekit.quantize.static import Observed, observe

log = logging.getLogger("edgekit")

_FEW_SAMPLES = 16
"""Fewer calibration samples than this are warned of."""


def quantize_model(
    model: Model,
    recipe: str | Mapping[object, object] | Recipe,
    calibration: Mapping[str, Array],
    *,
    method: str | Method = "rtn",
    observer: str = "minmax",
    bias_correction: bool = False,
    equalize: bool = False,
    seed: int = 0,
    limit: int | None = None,
    state: Mapping[str, str] | None = None,
    progress: Progress | None = None,
) -> Model:
    """Quantise a float Model by a recipe; see :func:`post_training`, which tells more.

    ``quantize_model(model, "w8a8", calibration)`` is
    :func:`~edgekit.quantize.static.quantize_static`.

    Returns:
        An optimised Model that any ONNX runtime executes and that lowers to integers.
    """
    options = Options(
        method=method,
        observer=observer,
        bias_correction=bias_correction,
        equalize=equalize,
        seed=seed,
        limit=limit,
    )
    found = post_training(model, recipe, calibration, options, state=state, progress=progress)
    return found.model


def post_training(
    model: Model,
    recipe: str | Mapping[object, object] | Recipe,
    calibration: Mapping[str, Array],
    options: Options | None = None,
    *,
    state: Mapping[str, str] | None = None,
    progress: Progress | None = None,
) -> PostTraining:
    """Quantise a float Model by a recipe, and say what was done to every layer.

    Activations are static int8 as :func:`~edgekit.quantize.static.quantize_static` makes them;
    those of ``-token`` recipes are quantised anew for every vector along the last axis where Gemm
    and MatMul read them (without the normalisation that training puts in front); convolutions,
    which have no tokens, read static int8. Weights of Conv, Gemm and MatMul follow the recipe;
    others (transposed convolutions, LSTM, GRU) are int8. Layers that share a weight share its
    codes, which are chosen for the first of them; one that reads it transposed or scaled has codes
    of its own.

    Layers are taken in execution order. A method that looks at inputs sees, for every layer, what
    the layers before it give now that they are quantised, and aims at what the layer gives in the
    float network: later layers make up for earlier ones. A Model with state is stepped through in
    float instead.

    The result depends on model, recipe, data, options and seed alone, up to the last bits of
    BLAS's matrix products, which decide over weights that are as good rounded up as down. Methods
    without statistics (rtn, mse, percentile, equalisation) do not depend on BLAS.

    Args:
        model: a float Model; not changed.
        recipe: a :class:`~edgekit.quantize.recipe.Recipe` or what it parses. Layers are called as
            their weights are in the model, without ``.weight``: as in the torch module.
        calibration: training samples, see :func:`~edgekit.quantize.static.quantize_static`.
        options: None for the defaults.
        state: inputs and their next values, likewise.
        progress: told of every layer.

    Raises:
        InvalidDataError: calibration data that does not fit, is not finite, or is empty.
        UnsupportedError: the model cannot be lowered, or a recipe that needs training.
        UsageError: an unknown method, observer, or a rule of the recipe that no layer matches.
    """
    options = options or Options()
    method, recipe = Method.parse(options.method), Recipe.parse(recipe)
    source = model.ir.graph
    notes: list[str] = []
    if options.equalize:
        model, pairs = equalize_layers(model)
        notes.append(f"{len(pairs)} pairs of layers are equalised")
    decided: list[Decided] = []

    def apart(graph: onnx_ir.Graph) -> list[onnx_ir.Node]:
        decided.extend(_decide(recipe, find_layers(graph, source)))
        return [layer.node for layer, choice in decided if is_apart(layer, choice)]

    observed = observe(
        model,
        calibration,
        observer=options.observer,
        seed=options.seed,
        limit=options.limit,
        state=state,
        apart=apart,
    )
    if len(observed.samples) < _FEW_SAMPLES:
        notes.append(
            f"{len(observed.samples)} calibration samples may miss what the network meets; "
            "give a few hundred"
        )
        log.warning("%s", notes[-1])
    notes.extend(_unlisted(observed, [layer for layer, _ in decided]))
    work = Work(observed, method, options, progress)
    results = work.run(decided)
    graph = observed.model.ir.graph
    insert_quantization(
        graph, observed.points, observed.quantizations, writers=work.writers(decided)
    )
    # Float weights that nobody reads any more would be stored too.
    for clean in (standard_weights, attach_functions, remove_dead):
        clean(observed.model.ir)
    for layer in results:
        for note in layer.notes:
            log.info("%s: %s", layer.name, note)
    result = replace(observed.model, notes=(*observed.model.notes, *notes))
    return PostTraining(result, results, tuple(notes))


def _decide(recipe: Recipe, layers: tuple[Layer, ...]) -> list[Decided]:
    """What every layer gets; layers with one weight get one format.

    Raises:
        UnsupportedError: something that layers cannot get after training, each a line.
        UsageError: a rule without a layer, or rules that split a shared weight.
    """
    recipe.check_layers((layer.name, layer.kind) for layer in layers)
    decided, problems = list[Decided](), list[str]()
    for layer in layers:
        choice = recipe.choose(layer.name, layer.kind, position=layer.position)
        activations = choice.recipe.activations
        if activations is not None and activations.bits == 1:
            problems.append(
                f"{layer.name}: {choice.recipe} needs training; use edgekit.quantize.prepare"
            )
        elif choice.recipe.method != "ste":
            problems.append(
                f"{layer.name}: {choice.recipe.method} of {choice.recipe} is a method of training; "
                "use edgekit.quantize.prepare, or leave it out"
            )
        if choice.kept_wider:
            log.info("%s: %s, %s", layer.name, choice.recipe, choice.reason)
        decided.append((layer, choice))
    if problems:
        raise UnsupportedError("\n  ".join(["not possible after training:", *problems]))
    return agree(decided)


def _unlisted(observed: Observed, layers: list[Layer]) -> list[str]:
    """Weights that the recipe does not reach."""
    known = {layer.node for layer in layers}
    kinds = ("Conv", "ConvTranspose", "LSTM", "GRU")
    others = [n for n in observed.model.ir.graph if is_op(n, *kinds) and n not in known]
    names = sorted({node.op_type for node in others})
    return [f"weights of {', '.join(names)} are int8, whatever the recipe says"] if names else []

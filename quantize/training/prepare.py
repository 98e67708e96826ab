"""From a float module to one that trains with quantised weights and activations."""

from __future__ import annotations

import copy
import inspect
import logging
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional
from torch.nn.utils import parametrize
from torch.utils import _pytree as pytree

from edgekit.errors import InvalidDataError, UnsupportedError, UsageError
from edgekit.model.capture.examples import Example, bind_example
from edgekit.quantize.recipe import LayerRecipe, Recipe
from edgekit.quantize.training.activations import quantizers_of
from edgekit.quantize.training.fold import Magnitude, make_positive
from edgekit.quantize.training.insertion import insert_quantizers
from edgekit.quantize.training.layers import find_layers, plan_layers, quantize_weights
from edgekit.quantize.training.legality import deployment_problems
from edgekit.quantize.training.modes import in_mode, observing
from edgekit.quantize.training.operators import Kind, kind_of, tail_of
from edgekit.quantize.training.placement import IS_FLOAT, binary_clamps, mode_of, place
from edgekit.quantize.training.plan import LayerPlan, Plan
from edgekit.quantize.training.portable import make_portable
from edgekit.quantize.training.prepared import QUANTIZERS, GraphNetwork, PreparedModule
from edgekit.quantize.training.trace import trace

log = logging.getLogger("edgekit")

_TOLERANCE = 1e-4
"""Relative difference that a traced network may have: the order of its operations is the same."""


def prepare(
    model: nn.Module,
    recipe: Recipe | str | Mapping[Any, Any],
    example_inputs: object,
    *,
    keep_ends: bool | None = None,
    inplace: bool = False,
) -> PreparedModule:
    """Make a module that trains with quantised weights and activations.

    It is trained like any module: any loop, any optimiser, ``torch.compile``, autocast,
    DistributedDataParallel. There the ranges of the first process hold for all, as the statistics
    of batch normalisation do: convert in that process. Layers keep their names; a quantised
    weight's parameter becomes ``….parametrizations.weight.original``, so make the optimiser after
    this call. Batch normalisation stays as it is and folds when the network is frozen. Ranges of
    activations start from the example and follow the training batches.

    Args:
        model: a float module; it is traced with :mod:`torch.fx`.
        recipe: what every layer gets; see :mod:`edgekit.quantize.recipe`.
        example_inputs: a tensor, a tuple by position or a mapping by argument, real samples if
            there are any.
        keep_ends: whether the first and the last layer get ``w8a8`` where only the rest of the
            recipe would match them; None for what the recipe says, which is yes by default.
        inplace: take the module's own parameters and layers instead of copies.

    Returns:
        The prepared module, whose ``plan`` says what every layer got; so does the log.

    Raises:
        UsageError: a recipe that is unknown or matches no layer, inputs that do not fit, a module
            without weights or one that is prepared already.
        UnsupportedError: the module's own forward cannot be traced, or gives something else when
            traced.
        InvalidDataError: inputs that are not finite.
        InvalidModelError: weights that are not finite.
    """
    parsed = Recipe.parse(recipe, keep_ends=keep_ends)
    if not isinstance(model, nn.Module):
        raise UsageError(f"{type(model).__name__} is no torch.nn.Module")
    example = bind_example(model, example_inputs)
    _check_finite(example)
    root = model if inplace else copy.deepcopy(model)
    with in_mode(root, training=True):
        graph, opaque = trace(root, example)
    dropouts = _dropout_modules(graph)
    network = PreparedModule(root, graph)
    for name, module in dropouts.items():
        network.add_module(name, module.train(root.training))
    graph = network.graph
    with in_mode(network, training=False), torch.no_grad():
        _check_same(network, root, example)
        _mark_floats(network, example)
    modules = dict(network.named_modules())
    running, unused = find_layers(root, graph)
    plans = plan_layers(running, parsed)
    recipes = {plan.name: plan.recipe for plan in plans}
    plans = _without_clamps(graph, modules, plans)
    _keep_positive(graph, modules, recipes)
    placement = place(graph, modules, recipes)
    quantizers, values = insert_quantizers(graph, modules, placement)
    network.add_module(QUANTIZERS, quantizers.train(root.training).to(_device(root)))
    graph.lint()
    network.recompile()
    quantize_weights(root, running, recipes)
    network.plan = Plan(
        layers=tuple(plans),
        activations=values,
        in_float=(
            *placement.in_float,
            *(f"{name}: its forward cannot be traced" for name in opaque),
            *(f"{layer.name}: forward does not use it" for layer in unused),
        ),
    )
    network.example = _by_name(model, example)
    with in_mode(network, training=False), observing(network, "always"), torch.no_grad():
        network(*example.args, **example.kwargs)
    for part in quantizers_of(network):
        part.start_over()
    for layer in network.plan.layers:
        log.info("%s", layer)
    for line in network.plan.in_float:
        log.warning("in float, which an integer network cannot hold: %s", line)
    for problem in deployment_problems(network, network.plan):
        log.warning("this trains, but convert will refuse it: %s", problem)
    return network


def _check_finite(example: Example) -> None:
    for name, tensor in zip(example.names, example.tensors, strict=True):
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise InvalidDataError(f"example input {name!r} holds NaN or infinity")


def _dropout_modules(graph: fx.Graph) -> dict[str, nn.Module]:
    """Put modules in the place of dropout functions, whose mode tracing has fixed."""
    found: dict[str, nn.Module] = {}
    for node in list(graph.nodes):
        if node.op != "call_function" or node.target not in (functional.dropout, torch.dropout):
            continue
        named = dict(zip(("input", "p", "training", "inplace"), node.args, strict=False))
        named.update(node.kwargs)
        if not named.get("training", True):
            continue
        name = f"{node.name}_module"
        found[name] = nn.Dropout(float(named.get("p", 0.5)))
        with graph.inserting_before(node):
            replacement = graph.call_module(name, (node.all_input_nodes[0],))
        node.replace_all_uses_with(replacement)
        graph.erase_node(node)
    return found


def _check_same(network: GraphNetwork, root: nn.Module, example: Example) -> None:
    """Refuse a graph that computes something else than the module.

    Raises:
        UnsupportedError: forward has a branch that tracing decided otherwise.
        UsageError: forward fails on the example.
    """
    try:
        with in_mode(root, training=False):
            wanted = root(*example.args, **example.kwargs)
    except Exception as error:
        raise UsageError(
            f"{type(root).__name__}.forward fails on the example inputs: {error}"
        ) from error
    found = network(*example.args, **example.kwargs)
    pairs = zip(pytree.tree_leaves(wanted), pytree.tree_leaves(found), strict=True)
    for a, b in pairs:
        if isinstance(a, Tensor) and not torch.allclose(
            a.float(), b.float(), rtol=_TOLERANCE, atol=_TOLERANCE, equal_nan=True
        ):
            raise UnsupportedError(
                f"{type(root).__name__}.forward gives something else in eval mode than its trace: "
                "it branches on self.training, or draws random numbers; move that part into a "
                "submodule of its own"
            )


class _Marking(fx.Interpreter):
    """Notes which nodes give floats."""

    def run_node(self, n: fx.Node) -> Any:
        result = super().run_node(n)
        leaves = pytree.tree_leaves(result)
        n.meta[IS_FLOAT] = bool(leaves) and all(
            isinstance(leaf, Tensor) and leaf.is_floating_point() for leaf in leaves
        )
        return result


def _mark_floats(network: GraphNetwork, example: Example) -> None:
    arguments = [node for node in network.graph.nodes if node.op == "placeholder"]
    values = {node.target: node.args[0] for node in arguments if node.args}
    values.update(zip((node.target for node in arguments), example.args, strict=False))
    values.update(example.kwargs)
    _Marking(network).run(*(values[node.target] for node in arguments))


def _without_clamps(
    graph: fx.Graph, modules: Mapping[str, nn.Module], plans: list[LayerPlan]
) -> list[LayerPlan]:
    """Let the sign take the place of a clamp at 0 in front of layers that read signs."""
    binary = {p.name for p in plans if mode_of(modules[p.name], p.recipe) == "binary"}
    lone, torn = binary_clamps(graph, modules, binary)
    notes = dict.fromkeys(torn, "reads the sign of what a ReLU gives, which is always positive")
    for node, readers in lone:
        notes.update(dict.fromkeys(readers, f"the sign takes the place of {node.name} before it"))
        node.replace_all_uses_with(node.all_input_nodes[0])
        graph.erase_node(node)
    return [replace(p, notes=(*p.notes, notes[p.name])) if p.name in notes else p for p in plans]


def _keep_positive(
    graph: fx.Graph, modules: Mapping[str, nn.Module], recipes: Mapping[str, LayerRecipe]
) -> None:
    """Keep normalisations behind weights without opposite levels from turning signs."""
    for node in graph.nodes:
        if kind_of(node, modules) is not Kind.PRODUCT or node.op != "call_module":
            continue
        layer, recipe = modules[str(node.target)], recipes.get(str(node.target))
        fmt = None if recipe is None else recipe.weights
        if fmt is None or fmt.element.minimum == -fmt.element.maximum:
            continue
        for following in tail_of(node, modules):
            if kind_of(following, modules) is not Kind.NORM:
                continue
            norm = modules[str(following.target)]
            if isinstance(layer, nn.Linear | nn.Conv1d | nn.Conv2d) and norm.weight is not None:
                make_positive(layer, norm)
                parametrize.register_parametrization(norm, "weight", Magnitude())
                make_portable(norm)


def _device(module: nn.Module) -> torch.device:
    return next(module.parameters()).device


def _by_name(model: nn.Module, example: Example) -> dict[str, Any]:
    """Arguments by name."""
    bound = inspect.signature(model.forward).bind(*example.args, **example.kwargs)
    return dict(bound.arguments)

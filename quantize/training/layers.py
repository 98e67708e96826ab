"""The layers with weights of a network: found, given recipes, and parametrised."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from torch import fx, nn
from torch.nn.utils import parametrize

from edgekit.errors import UnsupportedError, UsageError
from edgekit.quantize.recipe import LayerRecipe, Position, Recipe
from edgekit.quantize.training.layout import row_layout
from edgekit.quantize.training.plan import LayerPlan
from edgekit.quantize.training.portable import Unchanged, make_portable
from edgekit.quantize.training.quantizers import is_shift, quantize_parameter

_NORMALIZATIONS = (
    *(nn.modules.batchnorm._NormBase, nn.LayerNorm, nn.GroupNorm, nn.LocalResponseNorm),
    nn.RMSNorm,
)


@dataclass(frozen=True, eq=False)
class Layer:
    """A module with weights.

    Attributes:
        name: dotted path.
        module: it.
        tensors: names of its parameters that are weights.
        position: among the layers that run.
    """

    name: str
    module: nn.Module
    tensors: tuple[str, ...]
    position: Position = "inner"


def weights_of(module: nn.Module) -> tuple[str, ...]:
    """Names of a module's own parameters that are weights.

    Of a layer of torch those whose name says so; of a user's cell every matrix, unless it has one
    row only, as learned positions do. Biases and normalisations have none.

    >>> weights_of(nn.LSTM(2, 3))
    ('weight_ih_l0', 'weight_hh_l0')
    """
    if isinstance(module, _NORMALIZATIONS):
        return ()
    of_torch = type(module).__module__.startswith("torch.nn")
    found = []
    for name, parameter in module.named_parameters(recurse=False):
        matrix = parameter.ndim >= 2 and parameter.is_floating_point()
        if matrix and ("weight" in name if of_torch else parameter.shape[0] > 1):
            found.append(name)
    return tuple(found)


def find_layers(root: nn.Module, graph: fx.Graph) -> tuple[list[Layer], list[Layer]]:
    """Layers with weights in the order in which they run, and those that do not run.

    Raises:
        UsageError: the network has none, or one is parametrised already.
    """
    layers = [
        Layer(name, module, tensors)
        for name, module in root.named_modules()
        if (tensors := weights_of(module))
    ]
    for name, module in root.named_modules():
        if parametrize.is_parametrized(module):
            raise UsageError(
                f"layer {name!r} is parametrised already (prepared before, or weight_norm); "
                "prepare the plain network: torch.nn.utils.parametrize.remove_parametrizations"
            )
    if not layers:
        raise UsageError(f"{type(root).__name__} has no layers with weights to quantise")
    ran = {
        str(node.target): place
        for place, node in reversed(list(enumerate(graph.nodes)))
        if node.op in ("call_module", "get_attr")
    }

    def place(layer: Layer) -> int | None:
        """Where the layer, or a module that holds it, first runs."""
        own = [f"{layer.name}.{tensor}" for tensor in layer.tensors]
        parts = layer.name.split(".")
        outer = [".".join(parts[: i + 1]) for i in range(len(parts))]
        return min((ran[name] for name in (*own, *outer) if name in ran), default=None)

    running = sorted((x for x in layers if place(x) is not None), key=lambda x: place(x) or 0)
    unused = [x for x in layers if place(x) is None]
    if running:
        running[-1] = replace(running[-1], position="last")
        running[0] = replace(running[0], position="first")
    return running, unused


def plan_layers(layers: Sequence[Layer], recipe: Recipe) -> list[LayerPlan]:
    """Choose what every layer gets.

    Raises:
        UsageError: a rule that matches no layer, a layer without a rule, weights of a type that
            does not train, or tied weights with different recipes of their own.
        UnsupportedError: tied weights whose rows are not the same.
    """
    recipe.check_layers([(layer.name, type(layer.module)) for layer in layers])
    plans = [_plan(layer, recipe) for layer in layers]
    for owners in _tied(layers).values():
        _agree(plans, owners)
        _same_rows(layers, plans, owners)
    return plans


def _plan(layer: Layer, recipe: Recipe) -> LayerPlan:
    choice = recipe.choose(layer.name, type(layer.module), position=layer.position)
    notes, given = [], choice.recipe
    if choice.kept_wider:
        notes.append(choice.reason)
    activations, weights = given.activations, given.weights
    per_token = activations is not None and activations.scaling == "token"
    if per_token and not isinstance(layer.module, nn.Linear):
        notes.append("reads int8 with a constant scale: only Linear scales per token")
    if weights is not None and weights.group:
        for tensor in layer.tensors:
            columns = row_layout(layer.module, getattr(layer.module, tensor)).columns
            if columns < weights.group:
                notes.append(f"{tensor} has rows of {columns}: one group holds each")
            elif columns % weights.group:
                rest = columns % weights.group
                notes.append(f"{tensor} has rows of {columns}: their last groups hold {rest}")
    if weights is not None and not _trainable(layer):
        notes.append("frozen: its weights are quantised and do not train")
    return LayerPlan(
        name=layer.name,
        module=type(layer.module).__name__,
        tensors=() if weights is None else layer.tensors,
        recipe=given,
        kept_wider=choice.kept_wider,
        notes=tuple(notes),
    )


def _trainable(layer: Layer) -> bool:
    return any(getattr(layer.module, name).requires_grad for name in layer.tensors)


def _tied(layers: Sequence[Layer]) -> dict[int, list[tuple[int, str]]]:
    """Layers (by index) and parameter names that share a weight, by the weight's identity."""
    owners: dict[int, list[tuple[int, str]]] = {}
    for index, layer in enumerate(layers):
        for tensor in layer.tensors:
            owners.setdefault(id(getattr(layer.module, tensor)), []).append((index, tensor))
    return {key: found for key, found in owners.items() if len(found) > 1}


def _agree(plans: list[LayerPlan], owners: Sequence[tuple[int, str]]) -> None:
    """Let layers with one weight have one format: the widest where only a default differs."""
    given = [plans[index] for index, _ in owners]
    if len({p.recipe.weights for p in given}) == 1 and len({p.recipe.method for p in given}) == 1:
        return
    names = " and ".join(p.name for p in given)
    wider = [p for p in given if p.kept_wider]
    if not wider or len({p.recipe for p in given if not p.kept_wider}) > 1:
        raise UsageError(
            f"layers {names} share one weight and have different recipes "
            f"({', '.join(str(p.recipe) for p in given)}); give them the same"
        )
    for index, _ in owners:
        plan = plans[index]
        if not plan.kept_wider:
            note = f"its weight is that of {wider[0].name}, which is kept wider"
            plans[index] = replace(plan, recipe=wider[0].recipe, notes=(*plan.notes, note))


def _same_rows(
    layers: Sequence[Layer], plans: Sequence[LayerPlan], owners: Sequence[tuple[int, str]]
) -> None:
    """Refuse layers that read one weight with its rows along different axes."""
    modules = [layers[index].module for index, _ in owners]
    layouts = {row_layout(m, getattr(m, t)) for m, (_, t) in zip(modules, owners, strict=True)}
    if len(layouts) == 1 or plans[owners[0][0]].recipe.weights is None:
        return
    names = [layers[index].name for index, _ in owners]
    kinds = " and ".join(type(module).__name__ for module in modules)
    leave = ", ".join(f'"{name}": "fp32"' for name in names)
    raise UnsupportedError(
        f"layers {' and '.join(names)} share one weight, which {kinds} read by different rows, so "
        f"no scales suit both; give each its own weight, or leave them in float: {{{leave}}}"
    )


def quantize_weights(
    root: nn.Module, layers: Sequence[Layer], recipes: Mapping[str, LayerRecipe]
) -> None:
    """Parametrise the weights of layers, in place; a shared weight has one quantiser.

    Args:
        root: the network.
        layers: of it, those that run.
        recipes: of the layers, by name.

    Raises:
        InvalidModelError: weights that are not finite, or empty.
        UnsupportedError: a format that the recipe's method does not train; or a shift format for a
            parameter that something else than these layers holds too, and would find latents in.
    """
    holders: dict[int, list[str]] = {}
    for name, parameter in root.named_parameters(remove_duplicate=False):
        holders.setdefault(id(parameter), []).append(name)
    own = {f"{layer.name}.{tensor}" for layer in layers for tensor in layer.tensors}
    known: dict[int, nn.Module] = {}
    for layer in layers:
        recipe = recipes[layer.name]
        if recipe.weights is None:
            continue
        for tensor in layer.tensors:
            weight = getattr(layer.module, tensor)
            shared = known.get(id(weight))
            if shared is None:
                where = f"{layer.name}.{tensor}"
                others = [name for name in holders[id(weight)] if name not in own]
                if others and is_shift(recipe.weights):
                    raise UnsupportedError(
                        f"{where} is {', '.join(others)} too, which would become the latents of "
                        f"{recipe.weights}: give them tensors of their own, read the weight as "
                        f"{where}, or choose another format for {layer.name}, such as w4"
                    )
                quantizer = quantize_parameter(
                    layer.module, tensor, recipe.weights, method=recipe.method, where=where
                )
                if not weight.requires_grad:
                    quantizer.requires_grad_(False)
            else:
                parametrize.register_parametrization(layer.module, tensor, Unchanged())
            chains = layer.module.parametrizations
            assert isinstance(chains, nn.ModuleDict)
            if shared is not None:
                chains[tensor] = shared
            known[id(weight)] = chains[tensor]
        make_portable(layer.module)

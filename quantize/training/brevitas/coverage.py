"""What a network lacks to run in integers: values that no quantiser gives a scale."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from torch import fx, nn

from edgekit.errors import UnsupportedError
from edgekit.quantize.training.brevitas.activations import QUANTIZERS
from edgekit.quantize.training.brevitas.product import Product
from edgekit.quantize.training.operators import Kind, kind_of

_MENDED = "QuantIdentity(return_quant_tensor=True)"

_KEEPING = (Kind.SAME, Kind.DROPOUT)
"""Steps that keep the scale of what they read."""

_OWN_SCALE = (Kind.SUM, Kind.RESULT, Kind.MEAN, Kind.JOIN, Kind.FIXED)
"""Steps whose result needs a scale of its own."""


def check_scales(graph: fx.Graph, modules: Mapping[str, nn.Module], name: str) -> None:
    """Refuse a network of which parts would stay in float.

    Args:
        graph: of the network.
        modules: by name.
        name: of the network.

    Raises:
        UnsupportedError: lists every value without a scale, and says what gives it one.
    """
    missing = list(dict.fromkeys(_missing(graph, modules)))
    if missing:
        lines = "\n  ".join(missing)
        raise UnsupportedError(
            f"{name}: values without a scale would stay in float32 (allow it with "
            f"allow_fallback=True):\n  {lines}"
        )


def _missing(graph: fx.Graph, modules: Mapping[str, nn.Module]) -> Iterator[str]:
    for node in graph.nodes:
        product = product_of(node, modules)
        if product is not None:
            for value in node.all_input_nodes:
                if scale_of(value, modules) is None:
                    yield (
                        f"{_what(value, modules)}: {product.where} reads it without a quantiser; "
                        f"put {_MENDED} behind it, or give the layer an input_quant"
                    )
        elif not _is_step(node) or kind_of(node, modules) not in _OWN_SCALE:
            continue
        scales = _scales_behind(node, modules)
        if None in scales:
            yield (
                f"{_what(node, modules)}: no quantiser reads its result; put {_MENDED} behind it"
                + (", or give the layer an output_quant" if product is not None else "")
            )
        elif len(scales) > 1:
            yield (
                f"{_what(node, modules)}: its readers quantise its result differently; put one "
                f"{_MENDED} behind it, which they all read"
            )


def product_of(node: fx.Node, modules: Mapping[str, nn.Module]) -> Product | None:
    """The layer with weights that a step is, None for others."""
    module = modules.get(str(node.target)) if node.op == "call_module" else None
    return module if isinstance(module, Product) else None


def _is_step(node: fx.Node) -> bool:
    """Whether a node computes."""
    return node.op in ("call_module", "call_function", "call_method")


def _is_quantizer(node: fx.Node, modules: Mapping[str, nn.Module]) -> bool:
    return node.op == "call_module" and isinstance(modules[str(node.target)], QUANTIZERS)


def scale_of(node: fx.Node, modules: Mapping[str, nn.Module]) -> float | None:
    """The scale of a value that comes from a quantiser, directly or moved; None for others."""
    while not _is_quantizer(node, modules):
        moves = _is_step(node) and kind_of(node, modules) in _KEEPING
        if not moves or not node.all_input_nodes:
            return None
        node = node.all_input_nodes[0]
    return float(modules[str(node.target)].scale)  # type: ignore[arg-type]


def _scales_behind(
    node: fx.Node, modules: Mapping[str, nn.Module]
) -> set[tuple[float, int] | None]:
    """Scales and zero points that readers give a result, behind movement and clamps.

    None among them stands for a reader that takes the result as it is.
    """
    found: set[tuple[float, int] | None] = set()
    pending = list(node.users)
    while pending:
        user = pending.pop()
        if _is_quantizer(user, modules):
            module = modules[str(user.target)]
            zero_point = getattr(module, "zero_point", 0)
            found.add((float(module.scale), int(zero_point)))  # type: ignore[arg-type]
        elif _is_step(user) and kind_of(user, modules) in (*_KEEPING, Kind.CLAMP, Kind.NORM):
            pending.extend(user.users)
        else:
            found.add(None)
    return found


def _what(node: fx.Node, modules: Mapping[str, nn.Module]) -> str:
    """A value as the user knows it."""
    product = product_of(node, modules)
    if product is not None:
        return product.where
    if node.op == "placeholder":
        return f"input {node.target!r}"
    if node.op == "call_module":
        return f"{node.target} ({type(modules[str(node.target)]).__name__})"
    return node.name

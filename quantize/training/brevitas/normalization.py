"""Batch normalisation behind Brevitas layers, folded into scales: the integers stay."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from torch import fx, nn

from edgekit.quantize.training.brevitas.product import Product


def fold_normalizations(graph: fx.Graph, modules: Mapping[str, nn.Module]) -> dict[int, nn.Module]:
    """Fold batch normalisations that alone read a product; both must run once.

    Args:
        graph: of the network.
        modules: by name; products among them are changed.

    Returns:
        What takes the place of the normalisations that were folded, by their ``id``.

    Raises:
        UnsupportedError: see :meth:`~edgekit.quantize.training.brevitas.product.Product.fold`.
    """
    calls = Counter(str(node.target) for node in graph.nodes if node.op == "call_module")
    folded: dict[int, nn.Module] = {}
    for node in graph.nodes:
        user = next(iter(node.users)) if len(node.users) == 1 else None
        if user is None or {node.op, user.op} != {"call_module"}:
            continue
        product, norm = modules[str(node.target)], modules[str(user.target)]
        once = calls[str(node.target)] == calls[str(user.target)] == 1
        if once and isinstance(product, Product) and product.folds(norm):
            product.fold(norm)
            folded[id(norm)] = nn.Identity()
    return folded

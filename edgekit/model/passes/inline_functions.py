"""Write local functions out."""

from __future__ import annotations

from collections.abc import Container

import onnx_ir
from onnx_ir.passes.common import InlinePass

from edgekit.model.domain import DOMAIN, FUNCTIONS
from edgekit.model.nodes import unique_name
from edgekit.model.third_party import third_party


def inline_functions(
    model: onnx_ir.Model, *, keep: Container[tuple[str, str]] = ()
) -> tuple[onnx_ir.Model, bool]:
    """Replace calls of model-local functions by their bodies.

    Rules:

    1. A call of a function whose ``(domain, name)`` is not in `keep` becomes the function's nodes.
    2. Functions in `keep` stay calls: the caller lowers them as operators of their own. So do
       those of the ``edgekit`` domain (:data:`edgekit.model.domain.FUNCTIONS`), which everything
       behind knows by name.

    Raises:
        InvalidModelError: a call does not fit its function, or the two use different opsets.
    """
    if not model.functions:
        return model, False
    written_out = {
        key
        for key, f in model.functions.items()
        if (f.domain, f.name) not in keep and not (f.domain == DOMAIN and f.name in FUNCTIONS)
    }
    with third_party("local functions cannot be written out"):
        result = InlinePass(lambda f: f.identifier() in written_out)(model)
    graph = result.model.graph
    for node in graph:
        if node.name is None:
            node.name = unique_name(graph, node.op_type)
    return result.model, result.modified

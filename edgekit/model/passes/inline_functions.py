"""Write local functions out."""

from __future__ import annotations

from collections.abc import Container

import onnx_ir
from onnx_ir.passes.common import InlinePass

from edgekit.errors import InvalidModelError
from edgekit.model.nodes import unique_name


def inline_functions(
    model: onnx_ir.Model, *, keep: Container[tuple[str, str]] = ()
) -> tuple[onnx_ir.Model, bool]:
    """Replace calls of model-local functions by their bodies.

    Rules:

    1. A call of a function whose ``(domain, name)`` is not in `keep` becomes the function's nodes.
    2. Functions in `keep` stay calls: the caller lowers them as operators of their own.

    Raises:
        InvalidModelError: a call does not fit its function, or the two use different opsets.
    """
    if not model.functions:
        return model, False
    try:
        result = InlinePass(lambda f: (f.domain, f.name) not in keep)(model)
    except Exception as error:  # the pass wraps every cause in its own type
        cause = error.__cause__ or error
        raise InvalidModelError(f"local functions cannot be written out: {cause}") from error
    graph = result.model.graph
    for node in graph:
        if node.name is None:
            node.name = unique_name(graph, node.op_type)
    return result.model, result.modified

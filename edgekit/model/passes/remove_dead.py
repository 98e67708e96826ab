"""Remove what no output needs."""

from __future__ import annotations

import onnx_ir

from edgekit.model.nodes import remove


def remove_dead(model: onnx_ir.Model) -> tuple[onnx_ir.Model, bool]:
    """Remove nodes and constants without readers; inputs stay, they are the model's interface.

    Rules:

    1. A node none of whose outputs is read or a graph output goes.
    2. An initializer that nobody reads goes.
    """
    graph = model.graph
    before = len(graph), len(graph.initializers)
    for node in reversed(graph):
        if not any(o.uses() or o.is_graph_output() for o in node.outputs):
            remove(node)
    for name, value in list(graph.initializers.items()):
        if not value.uses() and not value.is_graph_output():
            del graph.initializers[name]
    return model, before != (len(graph), len(graph.initializers))

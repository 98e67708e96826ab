"""Quantisers of activations, made and put where a placement says."""

from __future__ import annotations

from collections.abc import Mapping

from torch import fx, nn

from edgekit.quantize.training.activations import (
    BinaryQuantizer,
    FixedQuantizer,
    Quantizer,
    StaticQuantizer,
    TokenQuantizer,
)
from edgekit.quantize.training.placement import Placement
from edgekit.quantize.training.prepared import QUANTIZERS


def insert_quantizers(
    graph: fx.Graph, modules: Mapping[str, nn.Module], placement: Placement
) -> tuple[nn.ModuleDict, tuple[str, ...]]:
    """Insert calls of quantisers into a graph.

    Args:
        graph: changed in place.
        modules: of the network, by name.
        placement: what :func:`~edgekit.quantize.training.placement.place` found in the graph.

    Returns:
        The quantisers, to be the network's module :data:`QUANTIZERS`, and the names of the values
        of each that a scale is of, joined by ``+``.
    """
    made: dict[str, Quantizer] = {}
    described = []
    learned = {placement.group(value) for value in placement.learned}
    for representative, values in placement.groups().items():
        observed = [value for value in values if value in placement.observed]
        name = representative.name
        if representative in placement.fixed:
            scale, zero_point = placement.fixed[representative]
            made[name] = FixedQuantizer(scale, zero_point)
        else:
            made[name] = StaticQuantizer(max(1, len(observed)), learned=representative in learned)
        for value in values:
            member = observed.index(value) if value in placement.observed else None
            _quantize(graph, value, name, member, placement.operands.get(value))
        described.append("+".join(value.name for value in values))
    for layer in (*placement.tokens, *placement.binary):
        name = f"{layer.name}_input"
        if layer in placement.tokens:
            made[name] = TokenQuantizer(_linear(modules[str(layer.target)]).in_features)
        else:
            made[name] = BinaryQuantizer()
        value = layer.all_input_nodes[0]
        with graph.inserting_before(layer):
            read = graph.create_node("call_module", f"{QUANTIZERS}.{name}", (value,))
        layer.replace_input_with(value, read)
        described.append(name)
    return nn.ModuleDict(made), tuple(described)


def _linear(module: nn.Module) -> nn.Linear:
    assert isinstance(module, nn.Linear)
    return module


def _quantize(
    graph: fx.Graph,
    value: fx.Node,
    name: str,
    member: int | None,
    readers: list[fx.Node] | None,
) -> None:
    """Let some readers of a value, or all, see it behind a quantiser."""
    before = value
    while before.next.op == "placeholder":
        # Arguments stay together in front.
        before = before.next
    readers = list(value.users) if readers is None else readers
    with graph.inserting_after(before):
        quantized = graph.create_node(
            "call_module", f"{QUANTIZERS}.{name}", (value,), {"member": member}
        )
    for reader in readers:
        reader.replace_input_with(value, quantized)

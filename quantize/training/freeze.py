"""From a trained network to the one that is deployed: codes for weights, constants for scales."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn.utils import parametrize

from edgekit.formats import Coded, Format
from edgekit.quantize.training.activations import ActivationQuantizer
from edgekit.quantize.training.coded_layers import coded_layer
from edgekit.quantize.training.fold import affine_of, fit_bias, fold
from edgekit.quantize.training.operators import Kind, kind_of, tail_of
from edgekit.quantize.training.prepared import GraphNetwork, prepared_of
from edgekit.quantize.training.weights import WeightQuantizer, check_finite


class FrozenModule(GraphNetwork):
    """A network of coded layers and constant quantisers, in eval mode, without gradients."""


@torch.no_grad()
def freeze(prepared: nn.Module) -> FrozenModule:
    """A copy of a prepared network with everything decided.

    Rules:

    1. A layer with a quantised weight becomes a coded layer, one for each of its calls; the batch
       normalisation behind it folds into its row scales and bias.
    2. Quantisers of activations become constants, dropout disappears.
    3. Quantised weights of other modules become their values.

    Args:
        prepared: from :func:`~edgekit.quantize.training.prepare.prepare`; not changed.

    Returns:
        A network that :func:`edgekit.model.capture.capture` takes, on the CPU.

    Raises:
        InvalidModelError: weights or statistics that are not finite.
        UnsupportedError: a batch normalisation without running statistics.
        UsageError: the module is not prepared.
    """
    source = prepared_of(prepared)
    _check_finite(source)
    network = copy.deepcopy(source).cpu().eval()
    return _Freezer(network).run()


def _check_finite(network: nn.Module) -> None:
    for name, tensor in (*network.named_parameters(), *network.named_buffers()):
        if tensor.is_floating_point():
            check_finite(tensor, name)


class _Freezer:
    """The state of one freezing.

    Attributes:
        network: a copy of the prepared one, taken apart.
        graph: of the frozen network, under construction.
        root: holds its modules.
    """

    def __init__(self, network: GraphNetwork) -> None:
        self.network = network
        self.modules = dict(network.named_modules())
        self.graph = copy.deepcopy(network.graph)
        self.root = nn.Module()

    def run(self) -> FrozenModule:
        for node in list(self.graph.nodes):
            if node.op == "call_module":
                self._module(node)
            elif node.op == "get_attr":
                self._constant(node)
        frozen = FrozenModule(self.root, self.graph, type(self.network).__name__)
        frozen.eval().requires_grad_(False)
        return frozen

    def _constant(self, node: fx.Node) -> None:
        name = str(node.target)
        holder, _, last = name.rpartition(".")
        module = self.modules[holder]
        value: Any = getattr(module, last)
        assert isinstance(value, Tensor)
        if any(n.op == "call_module" and n.target == holder for n in self.graph.nodes):
            # What takes the place of its module may hold it in another form.
            node.target = name = f"{node.name}_value"
        _put(self.root, name, value.detach().clone())

    def _module(self, node: fx.Node) -> None:
        if node not in self.graph.nodes:
            return  # A normalisation that has been folded.
        name = str(node.target)
        module, kind = self.modules[name], kind_of(node, self.modules)
        if isinstance(module, ActivationQuantizer):
            _put(self.root, name, module.frozen())
        elif kind is Kind.DROPOUT:
            _bypass(node)
        elif kind is Kind.PRODUCT and parametrize.is_parametrized(module, "weight"):
            coded = self._coded(node, module)
            node.target = self._free(name, node)
            _put(self.root, node.target, coded)
        elif _find(self.root, name) is None:
            _put(self.root, name, _plain(module))

    def _coded(self, node: fx.Node, module: nn.Module) -> nn.Module:
        """The coded layer of one call, its normalisation taken out of the graph."""
        coded, fmt = coded_weight(module)
        bias = module.bias
        assert bias is None or isinstance(bias, Tensor)
        for following in tail_of(node, self.modules):
            if kind_of(following, self.modules) is Kind.NORM:
                affine = affine_of(self.modules[str(following.target)])
                coded, bias = fold(coded, fmt, bias, affine)
                _bypass(following)
        x_scale = self._scale_of(node.all_input_nodes[0])
        if x_scale is not None:
            coded = fit_bias(coded, fmt, bias, x_scale)
        return coded_layer(module, coded, fmt, bias)

    def _scale_of(self, value: fx.Node) -> float | None:
        """The scale that a value has, None for one in float."""
        while value.op == "call_module" or value.all_input_nodes:
            found = _find(self.root, str(value.target)) if value.op == "call_module" else None
            scale = getattr(found, "scale", None)
            if isinstance(scale, Tensor):
                return float(scale)
            if kind_of(value, self.modules) not in (Kind.SAME, Kind.DROPOUT):
                return None
            value = value.all_input_nodes[0]
        return None

    def _free(self, name: str, node: fx.Node) -> str:
        return name if _find(self.root, name) is None else f"{name}_{node.name}"


def coded_weight(module: nn.Module) -> tuple[Coded, Format]:
    """The weight of a parametrised module as it is deployed, and its format.

    Raises:
        InvalidModelError: it is not finite.
    """
    chains = module.parametrizations
    assert isinstance(chains, nn.ModuleDict)
    chain = chains["weight"]
    quantizer = chain[0]  # type: ignore[index]
    assert isinstance(quantizer, WeightQuantizer)
    return quantizer.coded(chain.original), quantizer.format  # type: ignore[arg-type]


def _plain(module: nn.Module) -> nn.Module:
    """A module with the values of its parametrised tensors in their place.

    Other modules may share what is behind those, so that stays as it is.
    """
    parts = list(module.modules())
    values = [(part, name, getattr(part, name)) for part in parts for name in _parametrized(part)]
    for part, name, value in values:
        parametrize.remove_parametrizations(part, name, leave_parametrized=False)
        part.register_parameter(name, nn.Parameter(value.detach().clone()))
    for part in parts:
        if isinstance(part, nn.RNNBase):
            part._forward_hooks.clear()
            part._init_flat_weights()
    return module


def _parametrized(module: nn.Module) -> Iterator[str]:
    if parametrize.is_parametrized(module):
        chains = module.parametrizations
        assert isinstance(chains, nn.ModuleDict)
        yield from chains


def _bypass(node: fx.Node) -> None:
    node.replace_all_uses_with(node.all_input_nodes[0])
    node.graph.erase_node(node)


def _find(root: nn.Module, name: str) -> nn.Module | None:
    found: nn.Module | None = root
    for part in name.split("."):
        found = None if found is None else found._modules.get(part)
    return found


def _put(root: nn.Module, name: str, value: nn.Module | Tensor) -> None:
    """Put a module or a constant under a dotted name, with the containers that it needs."""
    *path, last = name.split(".")
    for part in path:
        if part not in root._modules:
            root.add_module(part, nn.Module())
        root = root._modules[part]  # type: ignore[assignment]
    if isinstance(value, nn.Module):
        root.add_module(last, value)
    else:
        root.register_buffer(last, value)

"""The module that preparation gives: the user's layers, run as a graph with quantisers in it."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from torch import fx, nn
from torch.nn.parallel import DistributedDataParallel

from edgekit.errors import UsageError
from edgekit.quantize.training.plan import Plan

QUANTIZERS = "activation_quantizers"
"""Name of the module that holds the quantisers of activations."""


class GraphNetwork(fx.GraphModule):
    """A graph over the modules of another module, which all keep their names.

    Unlike its base it keeps containers of the user's own class, and what the graph does not use;
    and it can be pickled and copied with what hangs on it.

    Args:
        root: whose modules, parameters and buffers it takes, not copies.
        graph: what runs.
    """

    def __init__(self, root: nn.Module, graph: fx.Graph, class_name: str = "") -> None:
        super().__init__(nn.Module(), fx.Graph(), class_name or type(root).__name__)
        for key, value in vars(root).items():
            if key in _OWN_PARTS or key not in self.__dict__:
                self.__dict__[key] = value
        self.graph = graph

    def __reduce__(self) -> tuple[Any, ...]:
        # The copy of a graph does not know the module that runs it, which would lead back here.
        graph = copy.deepcopy(self.graph)
        return _made, (type(self).__mro__[1], type(self).__name__, graph), self._parts()

    def __setstate__(self, parts: dict[str, Any]) -> None:
        self.__dict__.update(parts)

    def __deepcopy__(self, memo: dict[int, Any]) -> GraphNetwork:
        made = _made(type(self).__mro__[1], type(self).__name__, copy.deepcopy(self.graph))
        memo[id(self)] = made
        made.__setstate__(copy.deepcopy(self._parts(), memo))
        return made

    def _parts(self) -> dict[str, Any]:
        """What the instance holds beside its graph and the code made of it."""
        generated = ("_graph", "_code", "_lineno_map", "_prologue_start", "_tracer_cls")
        return {k: v for k, v in self.__dict__.items() if k not in generated}


_OWN_PARTS = ("training", "_parameters", "_buffers", "_non_persistent_buffers_set", "_modules")


def _made(kind: type[GraphNetwork], class_name: str, graph: fx.Graph) -> GraphNetwork:
    """A network without modules."""
    return kind(nn.Module(), graph, class_name)


class PreparedModule(GraphNetwork):
    """A network that trains with quantised weights and activations.

    Attributes:
        plan: what every layer got.
        example: the inputs that it was prepared with, by argument.
    """

    plan: Plan
    example: Mapping[str, Any]


def prepared_of(module: nn.Module) -> PreparedModule:
    """The prepared module inside what trains it: ``torch.compile`` or DistributedDataParallel.

    Raises:
        UsageError: there is none.
    """
    inner: Any = module
    while not isinstance(inner, PreparedModule):
        if isinstance(inner, DistributedDataParallel | nn.DataParallel):
            inner = inner.module
        elif isinstance(getattr(inner, "_orig_mod", None), nn.Module):
            inner = inner._orig_mod
        else:
            raise UsageError(
                f"{type(module).__name__} is not prepared; "
                "call edgekit.quantize.prepare(model, recipe, example_inputs) and train what it "
                "returns"
            )
    return inner

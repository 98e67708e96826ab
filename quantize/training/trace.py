"""From a module to a graph of its layers, in which quantisers find their places.

Layers of torch, and modules with weights of their own, stay modules; what lies between them becomes
nodes of a :class:`torch.fx.Graph`.
"""

from __future__ import annotations

import inspect
import operator
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import fx, nn

from edgekit.errors import UnsupportedError, UsageError
from edgekit.model.capture.examples import Example
from edgekit.quantize.training.operators import DISPATCHED

_CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)


class _UntraceableError(Exception):
    """The innermost module whose forward cannot be traced."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name


class _Tracer(fx.Tracer):
    """Keeps layers whole.

    Args:
        opaque: names of further modules to keep whole.
        whole: classes of further modules to keep whole.
    """

    def __init__(self, opaque: frozenset[str], whole: tuple[type[nn.Module], ...]) -> None:
        super().__init__()
        self._opaque = opaque
        self._whole = whole

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        """Whether a module stays one node."""
        return module_qualified_name in self._opaque or isinstance(m, self._whole) or is_layer(m)

    def call_module(
        self,
        m: nn.Module,
        forward: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Any:
        """As the base's, and tells which module cannot be traced."""
        try:
            return super().call_module(m, forward, args, kwargs)
        except _UntraceableError:
            raise
        except Exception as error:
            raise _UntraceableError(self.path_of_module(m)) from error


def is_layer(module: nn.Module) -> bool:
    """Whether a module is one step of a network: a layer of torch, or one with its own weights.

    A module of the user's that holds parameters beside further modules is no layer: what it does
    with its parameters is part of the graph.
    """
    if isinstance(module, _CONTAINERS):
        return False
    if type(module).__module__.startswith(("torch.nn", "torch.ao.nn")):
        return True
    own = next(module.parameters(recurse=False), None)
    return own is not None and next(module.children(), None) is None


def trace(
    module: nn.Module, example: Example, *, whole: tuple[type[nn.Module], ...] = ()
) -> tuple[fx.Graph, tuple[str, ...]]:
    """The graph of a module.

    Modules whose forward has control flow over data, or anything else that cannot be traced, stay
    whole: the innermost ones that fail. Arguments that the example leaves out have their defaults,
    for good.

    Args:
        module: not changed.
        example: arguments of its ``forward``.
        whole: classes without weights that are one step too.

    Returns:
        The graph, and the names of the modules that could not be traced.

    Raises:
        UnsupportedError: the forward of the module itself cannot be traced.
        UsageError: the module is a single layer.
    """
    if is_layer(module):
        raise UsageError(
            f"{type(module).__name__} is a single layer; "
            "wrap it in torch.nn.Sequential to prepare it"
        )
    fixed = _left_out(module, example)
    opaque: list[str] = []
    while True:
        tracer = _Tracer(frozenset(opaque), whole)
        try:
            graph = tracer.trace(module, concrete_args=fixed or None)
        except _UntraceableError as failure:
            opaque.append(failure.name)
            continue
        except Exception as error:
            first = str(error).strip().partition("\n")[0]
            raise UnsupportedError(
                f"{type(module).__name__}.forward cannot be traced: {first}; move the part with "
                "control flow over data into a submodule of its own, which then stays whole"
            ) from error
        _plain_arguments(graph, module, fixed)
        _plain_functions(graph)
        return graph, tuple(opaque)


def _left_out(module: nn.Module, example: Example) -> dict[str, Any]:
    """Arguments that the example leaves out, and those that are no tensors, by name."""
    signature = inspect.signature(module.forward)
    given = signature.bind(*example.args, **example.kwargs).arguments
    found: dict[str, Any] = {}
    for name, parameter in signature.parameters.items():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            if given.get(name):
                raise UnsupportedError(
                    f"{type(module).__name__}.forward takes a variable number of arguments "
                    f"({name}); give each a name"
                )
        elif name not in given:
            found[name] = parameter.default
        elif given[name] is None or isinstance(given[name], bool | int | float | str):
            found[name] = given[name]
    return found


def _plain_arguments(graph: fx.Graph, module: nn.Module, fixed: Mapping[str, Any]) -> None:
    """Give the graph's inputs the names and defaults of the arguments again."""
    names = [
        name
        for name, parameter in inspect.signature(module.forward).parameters.items()
        if parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
    ]
    placeholders = [node for node in graph.nodes if node.op == "placeholder"]
    for name, node in zip(names, placeholders, strict=False):
        if name in fixed:
            for user in list(node.users):
                _erase(graph, user)
            node.args = (fixed[name],)
        node.target = name
    for node in placeholders[len(names) :]:
        graph.erase_node(node)
    graph.lint()


def _plain_functions(graph: fx.Graph) -> None:
    """Put functions with names, which a pickled graph can hold, in the place of those without."""
    for node in graph.nodes:
        if node.target in DISPATCHED and not node.kwargs.get("return_indices", False):
            node.target = DISPATCHED[node.target]


def _erase(graph: fx.Graph, node: fx.Node) -> None:
    """Remove a check of a fixed argument, with what reads it."""
    for user in list(node.users):
        _erase(graph, user)
    assert node.target in _CHECKS, f"{node.format_node()} reads an argument that is fixed"
    graph.erase_node(node)


_CHECKS = (torch._assert, fx._symbolic_trace._assert_is_none, operator.eq)
"""What the tracer makes of an argument with a fixed value."""

"""Parametrised modules that can be copied and pickled.

:mod:`torch.nn.utils.parametrize` gives each module a class of its own, made at run time, which
cannot be pickled; and recurrent layers of torch remember the weights of their last call, which
cannot be copied while they hang on a gradient.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize


def make_portable(module: nn.Module) -> None:
    """Let a parametrised module be copied, pickled and sent to other processes."""
    kind = type(module)
    assert parametrize.is_parametrized(module)
    kind.__reduce_ex__ = _reduce  # type: ignore[method-assign,assignment]
    kind.__deepcopy__ = _deepcopy  # type: ignore[attr-defined]
    if isinstance(module, nn.RNNBase):
        module.register_forward_hook(_forget_weights)


def _gone() -> None:
    """A reference to nothing: the weights of the last call are not those of the next."""


def _forget_weights(module: nn.Module, inputs: Any, result: Any) -> None:
    """Drop what a recurrent layer remembers of a call; it asks for its weights anew."""
    del inputs, result
    assert isinstance(module, nn.RNNBase)
    module._flat_weights = []
    references: Any = [_gone]
    module._flat_weight_refs = references * len(module._flat_weights_names)


def _state(module: nn.Module) -> dict[str, Any]:
    return {k: v for k, v in module.__dict__.items() if k != "_flat_weight_refs"}


def _reduce(self: nn.Module, protocol: Any) -> tuple[Any, ...]:
    del protocol
    return _rebuilt, _origin(self), _state(self), None, None, _restore


def _origin(module: nn.Module) -> tuple[type[nn.Module], tuple[str, ...]]:
    """The class that was parametrised, and the names of its parametrised tensors."""
    assert isinstance(module.parametrizations, nn.ModuleDict)
    return type(module).__mro__[1], tuple(module.parametrizations)


def _rebuilt(base: type[nn.Module], names: tuple[str, ...]) -> nn.Module:
    """An empty module of the class that parametrising gives, for :func:`_restore` to fill."""
    module = base.__new__(base)
    nn.Module.__init__(module)
    for name in names:
        # The class gets its property; what stands behind it comes with the state.
        nn.Module.register_parameter(module, name, nn.Parameter(torch.zeros(1)))
        parametrize.register_parametrization(module, name, Unchanged())
    make_portable(module)
    return module


def _restore(module: nn.Module, state: dict[str, Any]) -> None:
    module.__dict__.clear()
    module.__dict__.update(state)
    if isinstance(module, nn.RNNBase):
        _forget_weights(module, None, None)


def _deepcopy(self: nn.Module, memo: dict[int, Any]) -> nn.Module:
    if id(self) in memo:
        found: nn.Module = memo[id(self)]
        return found
    # A class of its own: parametrisations that are removed leave the class.
    made = _rebuilt(*_origin(self))
    memo[id(self)] = made
    _restore(made, copy.deepcopy(_state(self), memo))
    return made


class Unchanged(nn.Module):
    """A parametrisation that changes nothing."""

    def forward(self, x: Tensor) -> Tensor:
        """The same."""
        return x

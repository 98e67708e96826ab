"""Example inputs: what ``forward`` is traced with."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils import _pytree as pytree

from edgekit.errors import UsageError

REFUSED = {
    torch.float64: "float32",
    torch.float16: "float32",
    torch.bfloat16: "float32",
    torch.complex32: "float32; split real and imaginary parts",
    torch.complex64: "float32; split real and imaginary parts",
    torch.complex128: "float32; split real and imaginary parts",
}
"""Element types that no target computes in, and what is right instead."""


@dataclass(frozen=True)
class Example:
    """Arguments of ``forward``.

    Attributes:
        args: positional ones.
        kwargs: the rest.
        names: of the tensors among them, in the order in which they are flattened: the name of the
            argument, with the path inside it where it is a collection.
        notes: what was decided about them.
    """

    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    names: tuple[str, ...]
    notes: tuple[str, ...] = ()

    @property
    def tensors(self) -> list[torch.Tensor]:
        """The tensors, in the order of their names."""
        leaves = pytree.tree_leaves((self.args, dict(self.kwargs)))
        return [leaf for leaf in leaves if isinstance(leaf, torch.Tensor)]

    def each(self, change: Callable[[torch.Tensor], torch.Tensor]) -> Example:
        """The same with every tensor changed, in the order of their names."""

        def changed(leaf: Any) -> Any:
            return change(leaf) if isinstance(leaf, torch.Tensor) else leaf

        args, kwargs = pytree.tree_map(changed, (self.args, dict(self.kwargs)))
        return replace(self, args=args, kwargs=kwargs)

    def sample(self, row: int, *, batch: int) -> Example:
        """One sample: tensors whose axis 0 has the extent `batch` keep that row, as a batch of 1.

        All others, which have no axis of samples, stay whole.
        """

        def cut(tensor: torch.Tensor) -> torch.Tensor:
            return tensor[row : row + 1] if tensor.ndim and tensor.shape[0] == batch else tensor

        return self.each(cut)

    def noted(self, note: str) -> Example:
        """The same with one note more."""
        return replace(self, notes=(*self.notes, note))


def bind_example(module: nn.Module, given: object) -> Example:
    """Bind example inputs to the arguments of a module's ``forward``.

    Args:
        module: whose ``forward`` takes them.
        given: a tensor or NumPy array for the only argument, a tuple or list by position, a
            mapping by name. Arguments may be collections of tensors, or numbers and None, which
            become constants.

    Raises:
        UsageError: arguments that are missing or that ``forward`` does not have, element types
            that cannot be deployed, tensors without elements or on another device.
    """
    signature = inspect.signature(module.forward)
    what = f"{type(module).__name__}.forward{signature}"
    if isinstance(given, Mapping):
        positional: tuple[Any, ...] = ()
        by_name = dict(given)
        _check_names(signature, by_name, what)
    else:
        positional = tuple(given) if isinstance(given, tuple | list) else (given,)
        by_name = {}
    try:
        bound = signature.bind(*positional, **by_name)
    except TypeError as error:
        raise UsageError(f"the example inputs do not fit {what}: {error}") from error
    args, kwargs = _ordered(signature, bound.arguments)
    args, kwargs = pytree.tree_map(_tensor, (args, kwargs))
    names = []
    for path, leaf in pytree.tree_leaves_with_path((args, kwargs)):
        name = _leaf_name(signature, path)
        if isinstance(leaf, torch.Tensor):
            _check_tensor(leaf, name)
            names.append(name)
        elif leaf is not None and not isinstance(leaf, bool | int | float | str):
            raise UsageError(
                f"input {name!r} is a {type(leaf).__name__}, must be a tensor or a NumPy array"
            )
    if not names:
        raise UsageError(f"the example inputs of {what} hold no tensor")
    return Example(args, kwargs, tuple(names))


def example_from_shapes(
    module: nn.Module, shapes: Mapping[str, Sequence[int]], seed: int
) -> dict[str, torch.Tensor]:
    """Seeded float32 normal numbers of given shapes, by argument.

    Raises:
        UsageError: extents that are not positive, or an argument that ``forward`` does not have.
    """
    signature = inspect.signature(module.forward)
    _check_names(signature, shapes, f"{type(module).__name__}.forward{signature}")
    generator = np.random.default_rng(seed)
    made = {}
    for name, shape in shapes.items():
        if any(not isinstance(extent, int) or extent < 1 for extent in shape):
            raise UsageError(f"--shape {name}={list(shape)}: extents must be positive integers")
        made[name] = torch.from_numpy(generator.standard_normal(shape, dtype=np.float32))
    return made


def _check_names(signature: inspect.Signature, given: Mapping[str, Any], what: str) -> None:
    kinds = {p.kind for p in signature.parameters.values()}
    if inspect.Parameter.VAR_KEYWORD in kinds:
        return
    for name in given:
        if name not in signature.parameters:
            near = difflib.get_close_matches(str(name), signature.parameters, 1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise UsageError(f"{what} has no argument {name!r}{hint}")


def _ordered(
    signature: inspect.Signature, arguments: Mapping[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Arguments by position as far as there is no gap, the rest by name."""
    args: list[Any] = []
    kwargs: dict[str, Any] = {}
    gap = False
    for name, parameter in signature.parameters.items():
        present = name in arguments
        if parameter.kind is inspect.Parameter.VAR_POSITIONAL:
            args.extend(arguments.get(name, ()))
            gap = True
        elif parameter.kind is inspect.Parameter.VAR_KEYWORD:
            kwargs.update(arguments.get(name, {}))
        elif parameter.kind is inspect.Parameter.KEYWORD_ONLY or gap:
            kwargs.update({name: arguments[name]} if present else {})
        elif present:
            args.append(arguments[name])
        else:
            gap = True
    return tuple(args), kwargs


def _tensor(leaf: Any) -> Any:
    if isinstance(leaf, np.ndarray | np.generic):
        try:
            return torch.from_numpy(np.ascontiguousarray(leaf).reshape(np.shape(leaf)).copy())
        except TypeError as error:
            raise UsageError(f"an example input is a NumPy array of {leaf.dtype}") from error
    return leaf.detach() if isinstance(leaf, torch.Tensor) else leaf


def _leaf_name(signature: inspect.Signature, path: tuple[Any, ...]) -> str:
    """Name of a leaf of ``(args, kwargs)``."""
    side, key, *rest = path
    if side.idx == 1:
        first = str(key.key)
    else:
        positional = [p for p in signature.parameters.values() if p.kind in _BY_POSITION]
        variable = [p for p in signature.parameters.values() if p.kind is _VARIABLE]
        if key.idx < len(positional):
            first = positional[key.idx].name
        else:
            first = f"{variable[0].name}_{key.idx - len(positional)}"
    return "_".join((first, *path_names(rest)))


_VARIABLE = inspect.Parameter.VAR_POSITIONAL
_BY_POSITION = (
    inspect.Parameter.POSITIONAL_ONLY,
    inspect.Parameter.POSITIONAL_OR_KEYWORD,
)


def path_names(path: Sequence[Any]) -> list[str]:
    """The keys of a path into nested collections, as parts of a name.

    >>> path_names([pytree.MappingKey("box"), pytree.SequenceKey(1)])
    ['box', '1']
    """
    parts = []
    for key in path:
        text = next(str(getattr(key, a)) for a in ("key", "idx", "name") if hasattr(key, a))
        parts.append("".join(c if c.isascii() and c.isalnum() else "_" for c in text))
    return parts


def _check_tensor(tensor: torch.Tensor, name: str) -> None:
    if tensor.dtype in REFUSED:
        raise UsageError(
            f"input {name!r} is {dtype_name(tensor.dtype)}, must be {REFUSED[tensor.dtype]}"
        )
    if tensor.device.type != "cpu":
        raise UsageError(f"input {name!r} is on {tensor.device}, must be on the CPU: call .cpu()")
    if tensor.layout != torch.strided or tensor.is_quantized:
        raise UsageError(f"input {name!r} is {tensor.layout}, must be a dense tensor")
    if tensor.numel() == 0:
        raise UsageError(f"input {name!r} has shape {list(tensor.shape)}, must not be empty")


def dtype_name(dtype: torch.dtype) -> str:
    """An element type as messages write it.

    >>> dtype_name(torch.bfloat16)
    'bfloat16'
    """
    return str(dtype).removeprefix("torch.")

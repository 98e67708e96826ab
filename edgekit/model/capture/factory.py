"""Modules named on the command line: ``package.module:factory``."""

from __future__ import annotations

import ast
import contextlib
import difflib
import importlib
import inspect
import pkgutil
import re
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import nn

from edgekit.errors import UsageError

_REFERENCE = re.compile(r"([A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*):([A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*)")


@dataclass(frozen=True)
class Made:
    """What a factory made.

    Attributes:
        module: the module, or what else was accepted.
        example_inputs: returned beside it, or its attribute ``example_inputs``; None without.
    """

    module: Any
    example_inputs: object = None


def make_module(
    reference: str,
    arguments: Mapping[str, str],
    *,
    seed: int = 0,
    other: tuple[type, ...] = (),
) -> Made:
    """Import a module, the current directory included, and call the factory in it.

    This runs the user's own code, as a Python script that imports it would.

    Args:
        reference: ``package.module:factory``. The factory is a function, or a class of modules,
            and returns a module, or a module and its example inputs; a module itself will do.
        arguments: passed by keyword; texts that read as Python literals become those.
        seed: of torch's random numbers while the factory runs, restored behind.
        other: classes that the factory may return instead of modules.

    Raises:
        UsageError: no such module or attribute (with near matches), unknown arguments, an import
            or a factory that fails (with the place), a result that is no module.
    """
    found = _REFERENCE.fullmatch(reference)
    if found is None:
        raise UsageError(f"{reference!r} must read package.module:factory")
    with (
        _current_directory_importable(),
        torch.random.fork_rng(devices=[]),
        # What a user's code prints is no result of ours.
        contextlib.redirect_stdout(sys.stderr),
    ):
        target = _attribute(_imported(found[1]), found[2], reference)
        torch.manual_seed(seed)
        if isinstance(target, nn.Module):
            if arguments:
                raise UsageError(f"{reference} is a module, not a factory: it takes no arguments")
            result: object = target
        else:
            result = _called(target, arguments, reference)
    example = None
    if isinstance(result, tuple) and len(result) == 2:
        result, example = result
    if isinstance(result, other):
        return Made(result, example)
    if not isinstance(result, nn.Module):
        also = "".join(f", a {kind.__name__}" for kind in other)
        raise UsageError(
            f"{reference} returns {type(result).__name__}, must return a torch.nn.Module{also}, or "
            "a pair of one and its example inputs"
        )
    return Made(result, example if example is not None else own_example(result))


def own_example(module: nn.Module) -> object:
    """The attribute ``example_inputs`` of a module, called where it is a method; None without."""
    example = getattr(module, "example_inputs", None)
    return example() if callable(example) and not isinstance(example, nn.Module) else example


@contextlib.contextmanager
def _current_directory_importable() -> Iterator[None]:
    here = str(Path.cwd())
    sys.path.insert(0, here)
    importlib.invalidate_caches()
    try:
        yield
    finally:
        with contextlib.suppress(ValueError):
            sys.path.remove(here)


def _imported(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        missing = error.name or ""
        if name != missing and not name.startswith(f"{missing}."):
            raise UsageError(f"importing {name} fails{_at(error)}: {error}") from error
        parent, _, last = missing.rpartition(".")
        near = difflib.get_close_matches(last, _siblings(parent), 1)
        hint = f"; did you mean {f'{parent}.' if parent else ''}{near[0]}?" if near else ""
        raise UsageError(
            f"there is no module {missing!r} in {Path.cwd()} or among the installed{hint}"
        ) from error
    except (Exception, SystemExit) as error:
        raise UsageError(
            f"importing {name} fails{_at(error)}: {type(error).__name__}: {error}"
        ) from error


def _siblings(parent: str) -> list[str]:
    """Modules of a package, or of the current directory."""
    folders = [str(Path.cwd())]
    if parent:
        folders = list(getattr(sys.modules.get(parent), "__path__", []))
    return [module.name for module in pkgutil.iter_modules(folders)]


def _attribute(module: ModuleType, path: str, reference: str) -> Any:
    found: Any = module
    for name in path.split("."):
        if not hasattr(found, name):
            near = difflib.get_close_matches(name, dir(found), 1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise UsageError(f"{reference}: {module.__name__} has no {name!r}{hint}")
        found = getattr(found, name)
    return found


def _called(factory: object, arguments: Mapping[str, str], reference: str) -> object:
    if not callable(factory):
        raise UsageError(f"{reference} is a {type(factory).__name__}, must be a function")
    values = {name: _literal(text) for name, text in arguments.items()}
    _check_arguments(factory, values, reference)
    try:
        return factory(**values)
    except (Exception, SystemExit) as error:
        raise UsageError(
            f"{reference} fails{_at(error)}: {type(error).__name__}: {error}"
        ) from error


def _literal(text: str) -> object:
    """A Python literal, or the text itself.

    >>> _literal("8"), _literal("(1, 2)"), _literal("relu")
    (8, (1, 2), 'relu')
    """
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError, TypeError):
        return text


def _check_arguments(
    factory: Callable[..., object], values: Mapping[str, object], reference: str
) -> None:
    try:
        signature = inspect.signature(factory)
    except (TypeError, ValueError):
        return
    try:
        signature.bind(**values)
    except TypeError as error:
        unknown = [name for name in values if name not in signature.parameters]
        near = difflib.get_close_matches(unknown[0], signature.parameters, 1) if unknown else []
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise UsageError(f"{reference}{signature}: {error}{hint}") from error


def _at(error: BaseException) -> str:
    """Innermost place of an error outside of this file and of Python's import machinery."""
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if frame.filename != __file__ and Path(frame.filename).is_file():
            return f" at {frame.filename}:{frame.lineno}: `{frame.line}`"
    return ""

"""What went wrong in torch, in the user's words: the line of source and the module."""

from __future__ import annotations

import re
import traceback
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

import torch
from torch.fx.experimental.symbolic_shapes import GuardOnDataDependentSymNode

from edgekit.errors import EdgekitError, UnsupportedError, UsageError

_FOREIGN = (Path(torch.__file__).parent, Path(__file__).parent)
"""Folders whose frames are no user's source."""

_STANDARD = Path(traceback.__file__).parent
_INSTALLED = frozenset({"site-packages", "dist-packages"})

_PLACE = re.compile(r'File "([^"\n]+)", line (\d+), in \S+\n\s+(.+)')

_OPERATOR = re.compile(r"op='([\w.]+)'")


def forward_failure(name: str, error: Exception) -> UsageError:
    """A forward that fails on its example, before anything is traced."""
    return UsageError(
        f"{name}: forward fails on the example inputs{_at(error)}: {type(error).__name__}: {error}"
    )


def export_failure(name: str, error: Exception) -> EdgekitError:
    """A forward that runs, but that ``torch.export`` cannot turn into one graph."""
    if isinstance(error, EdgekitError):
        return error
    if _is_data_dependent(error):
        return UnsupportedError(
            f"{name}: what is computed depends on the data{_at(error)}; a device runs one fixed "
            "graph: compute both ways and choose with torch.where, or fix the number"
        )
    text = str(error).strip().partition("\n")[0]
    return UnsupportedError(
        f"{name}: torch.export cannot capture it{_at(error)}: {type(error).__name__}: {text}"
    )


def conversion_failure(name: str, error: Exception) -> UnsupportedError:
    """A graph with an operator that has no ONNX form."""
    chain = list(_chain(error))
    found = next((m for e in chain for m in _OPERATOR.findall(str(e)) if "No ONNX" in str(e)), None)
    node = _failing_node(chain)
    where = "" if node is None else _node_place(node)
    if found is None and node is not None and isinstance(node.target, torch._ops.OpOverload):
        found = str(node.target)
    if found is None:
        text = str(chain[-1]).strip().partition("\n")[0]
        return UnsupportedError(f"{name}: cannot be written as ONNX{where}: {text}")
    return UnsupportedError(f"{name}: operator {found} has no ONNX form{where}")


def _is_data_dependent(error: Exception) -> bool:
    return any(isinstance(e, GuardOnDataDependentSymNode) for e in _chain(error))


def _chain(error: BaseException) -> Iterator[BaseException]:
    """An error and what caused it, outermost first."""
    current: BaseException | None = error
    while current is not None:
        yield current
        current = current.__cause__


def _at(error: BaseException) -> str:
    """`` at file:line: `text```: the innermost frame of the user's source, empty without one."""
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if Path(frame.filename).is_file() and _is_users(Path(frame.filename)):
            return f" at {frame.filename}:{frame.lineno}: `{frame.line}`"
    return ""


def _is_users(path: Path) -> bool:
    """Whether a file is the user's, or of a library of theirs: not torch's, Python's or ours."""
    standard = path.is_relative_to(_STANDARD) and not _INSTALLED & set(path.parts)
    return not standard and not any(path.is_relative_to(folder) for folder in _FOREIGN)


def _failing_node(chain: list[BaseException]) -> torch.fx.Node | None:
    """The node whose translation failed, from the frames of the exporter's loop over nodes."""
    for error in reversed(chain):
        step: TracebackType | None = error.__traceback__
        while step is not None:
            node = step.tb_frame.f_locals.get("node")
            if isinstance(node, torch.fx.Node):
                return node
            step = step.tb_next
    return None


def _node_place(node: torch.fx.Node) -> str:
    """Module path, and the line of the user's source, that a node comes from."""
    text = ""
    stack = list((node.meta.get("nn_module_stack") or {}).values())
    if stack:
        path, kind = stack[-1][:2]
        # A class, or its dotted name.
        kind_name = kind.__name__ if isinstance(kind, type) else str(kind).rpartition(".")[2]
        text += f", in module {path or '(the model itself)'} ({kind_name})"
    places = _PLACE.findall(node.meta.get("stack_trace") or "")
    for file, line, source in reversed(places):
        if _is_users(Path(file)):
            return f"{text} at {file}:{line}: `{source.strip()}`"
    return text

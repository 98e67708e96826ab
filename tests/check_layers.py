"""The layering rule: imports run downward only, and the import graph has no circle.

Run by ``make lint``. A package may import packages of lower rank and itself; within a package
modules import each other freely as long as no circle arises.
"""

from __future__ import annotations

import ast
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = {"edgekit": "edgekit", "quantize": "edgekit.quantize", "targets": "edgekit.targets"}

RANK = {
    "edgekit.errors": 0,
    "edgekit.version": 0,
    "edgekit.bench": 1,
    "edgekit.data": 1,
    "edgekit.formats": 1,
    "edgekit.report": 2,
    "edgekit.model": 2,
    "edgekit.program": 3,
    "edgekit.spiking": 3,
    "edgekit.quantize": 4,
    "edgekit.targets": 4,
    "edgekit.deploy": 5,
    "edgekit.zoo": 5,
    "edgekit": 6,
    "edgekit.cli": 7,
}
"""Height of every package; the longest matching prefix counts."""

TOP_LEVEL_TRAPS = frozenset({"quantize", "targets"})
"""Folders of the checkout that are importable by accident; their names are below ``edgekit``."""

HOMES = {
    "torch": (
        "edgekit.model.capture",
        "edgekit.quantize.converted",
        "edgekit.quantize.training",
        "edgekit.spiking.imported",
        "edgekit.spiking.layers",
        "edgekit.zoo",
    ),
    "snntorch": ("edgekit.spiking.imported", "edgekit.spiking.layers"),
    "h5py": ("edgekit.spiking.nir",),
    "nir": ("edgekit.spiking.nir",),
    "torchao": ("edgekit.model.capture",),
    "brevitas": ("edgekit.quantize.training",),
    "safetensors": ("edgekit.model.capture", "edgekit.zoo"),
    "sklearn": ("edgekit.data",),
    "onnxruntime": ("edgekit.bench.runners",),
    "ai_edge_litert": ("edgekit.bench.runners",),
    "tflite_runtime": ("edgekit.bench.runners",),
    "tensorrt": ("edgekit.bench.runners", "edgekit.targets.jetson.ondevice"),
}
"""Heavy libraries, and the only packages that may import them."""

HEAVY = (
    "edgekit.model.capture",
    "edgekit.quantize.converted",
    "edgekit.quantize.training",
    "edgekit.spiking.imported",
    "edgekit.spiking.layers",
    "edgekit.zoo",
)
"""Packages that exist for a heavy library and import it at once; others do so inside functions."""

ON_DEVICE = ("edgekit.bench", "edgekit.targets.jetson.ondevice")
"""What is copied to boards: the standard library, NumPy, the runtimes, and nothing of edgekit but
``edgekit.bench``."""

CARRIED = ("edgekit.data.preprocessing", "edgekit.errors")
"""What is copied with it where an artifact declares pre-processing."""


def modules() -> dict[str, Path]:
    """Every module of the product by its installed name."""
    found = {}
    for folder, package in FOLDERS.items():
        for path in sorted((ROOT / folder).rglob("*.py")):
            parts = path.relative_to(ROOT / folder).with_suffix("").parts
            found[".".join((package, *(p for p in parts if p != "__init__")))] = path
    return found


def rank(module: str) -> int:
    """Height of the package that a module belongs to."""
    prefix = module
    while prefix not in RANK:
        prefix = prefix.rpartition(".")[0]
    return RANK[prefix]


def imports(name: str, path: Path, known: dict[str, Path]) -> set[tuple[str, bool]]:
    """Modules that a module imports, and whether at import time (not in a function)."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    late = {
        id(inner)
        for outer in ast.walk(tree)
        if isinstance(outer, ast.FunctionDef | ast.AsyncFunctionDef) or _type_checking(outer)
        for inner in ast.walk(outer)
    }
    found = set()
    for node in ast.walk(tree):
        early = id(node) not in late
        if isinstance(node, ast.Import):
            found |= {(alias.name, early) for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            assert node.level == 0, f"{name}: relative import"
            for alias in node.names:
                full = f"{base}.{alias.name}"
                found.add((full if full in known else base, early))
    return found


def _on_device(target: str) -> bool:
    """Whether a board has a module."""
    head = target.partition(".")[0]
    if head == "edgekit":
        return target.startswith(("edgekit.bench", *CARRIED))
    return head in HOMES or head == "numpy" or head in sys.stdlib_module_names


def _type_checking(node: ast.AST) -> bool:
    return (
        isinstance(node, ast.If)
        and isinstance(node.test, ast.Name)
        and node.test.id == "TYPE_CHECKING"
    )


def circle(graph: dict[str, set[str]]) -> list[str] | None:
    """A path of imports that returns to its start, if there is one."""
    done: set[str] = set()

    def visit(module: str, path: list[str]) -> list[str] | None:
        if module in path:
            return [*path[path.index(module) :], module]
        if module in done:
            return None
        for following in sorted(graph[module]):
            found = visit(following, [*path, module])
            if found:
                return found
        done.add(module)
        return None

    return next((found for module in sorted(graph) if (found := visit(module, []))), None)


def problems() -> list[str]:
    """Every violation, one a line."""
    known = modules()
    found = []
    graph: dict[str, set[str]] = {}
    for name, path in known.items():
        graph[name] = set()
        for target, early in sorted(imports(name, path, known)):
            head = target.partition(".")[0]
            if head in TOP_LEVEL_TRAPS:
                found.append(f"{name} imports {target}: write edgekit.{target}")
            if head in HOMES and not name.startswith(HOMES[head]):
                found.append(f"{name} imports {head}, which belongs to {' and '.join(HOMES[head])}")
            if head in HOMES and early and not name.startswith(HEAVY):
                found.append(f"{name} imports {head} early: the deploy path does without")
            if name.startswith(ON_DEVICE) and not _on_device(target):
                found.append(f"{name} imports {target}: a board may not have it")
            if head != "edgekit" or target not in known:
                continue
            if rank(target) > rank(name):
                found.append(f"{name} imports {target}, which lies above it")
            if early and target != name and not _own_package(target, name):
                graph[name].add(target)
    path = circle(graph)
    if path:
        found.append("import circle: " + " -> ".join(path))
    return found


def _own_package(target: str, module: str) -> bool:
    """Importing from the package that one lives in runs no further code than is running already."""
    return module.startswith(target + ".")


if __name__ == "__main__":
    violations = problems()
    sys.stdout.write("".join(f"{line}\n" for line in violations))
    sys.exit(bool(violations))

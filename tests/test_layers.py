"""The layering rule is checked by a script; here, that the script can fail."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parent / "check_layers.py"
spec = importlib.util.spec_from_file_location("check_layers", SCRIPT)
assert spec is not None
assert spec.loader is not None
check_layers = importlib.util.module_from_spec(spec)
spec.loader.exec_module(check_layers)


def test_the_product_keeps_the_rule() -> None:
    """No upward import, no circle, no training library in the deploy path."""
    assert check_layers.problems() == []


def test_a_circle_is_found() -> None:
    """The path returns to its start."""
    graph = {"a": {"b"}, "b": {"c"}, "c": {"b"}}
    assert check_layers.circle(graph) == ["b", "c", "b"]


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("import torch\n", ("torch", True)),
        ("def f():\n    import torch\n", ("torch", False)),
        ("from edgekit.targets import cores\n", ("edgekit.targets.cores", True)),
    ],
)
def test_imports_are_seen(tmp_path: Path, source: str, found: tuple[str, bool]) -> None:
    """At the top, inside functions, and of modules from packages."""
    path = tmp_path / "module.py"
    path.write_text(source, encoding="utf-8")
    assert found in check_layers.imports("module", path, {"edgekit.targets.cores": path})

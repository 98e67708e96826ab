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


@pytest.mark.parametrize(
    ("module", "there"),
    [
        ("json", True),
        ("numpy", True),
        ("onnxruntime", True),
        ("edgekit.bench.protocol", True),
        ("edgekit.data.preprocessing", True),
        ("edgekit.program.ir", False),
        ("edgekit.data.readers", False),
        ("jinja2", False),
    ],
)
def test_what_a_board_has(module: str, there: bool) -> None:
    """The standard library, NumPy, runtimes, and what is copied to it."""
    assert check_layers._on_device(module) is there


@pytest.mark.parametrize(
    ("name", "text", "problem"),
    [
        ("edgekit.deploy.x", "import torch\n", "which belongs to edgekit.model.capture and"),
        ("edgekit.deploy.x", "def f():\n    import onnxruntime\n", "belongs to edgekit.bench"),
        ("edgekit.bench.x", "import edgekit.program.ir\n", "a board may not have it"),
        ("edgekit.bench.x", "import onnxruntime\n", "belongs to edgekit.bench.runners"),
        ("edgekit.bench.runners.x", "import onnxruntime\n", "early"),
        ("edgekit.program.x", "import edgekit.deploy.session\n", "lies above it"),
    ],
)
def test_violations_are_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, text: str, problem: str
) -> None:
    """One module that breaks one rule."""
    path = tmp_path / "x.py"
    path.write_text(text, encoding="utf-8")
    product = check_layers.modules()
    known = {m: product[m] for m in ("edgekit.program.ir", "edgekit.deploy.session")}
    known[name] = path
    monkeypatch.setattr(check_layers, "modules", lambda: known)
    assert any(problem in line and name in line for line in check_layers.problems())

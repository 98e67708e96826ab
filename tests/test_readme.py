"""The README tells the truth: its examples run, its session is real, its tables are current."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
spec = importlib.util.spec_from_file_location(
    "render_readme", ROOT / "benchmarks" / "render_readme.py"
)
assert spec is not None
assert spec.loader is not None
render = importlib.util.module_from_spec(spec)
spec.loader.exec_module(render)

TEXT = (ROOT / "README.md").read_text(encoding="utf-8")


def test_tables_are_current() -> None:
    """Targets from the target table, figures from the results file."""
    assert render.rendered(TEXT) == TEXT


@pytest.mark.torch
@pytest.mark.needs("torch", "cc", "cortex-m compiler")
def test_examples_and_session_run(tmp_path: Path) -> None:
    """Every example and command runs, and prints the rows that the README shows."""
    (shown,) = re.findall(r"<!-- session -->\n```console\n(.*?)```\n<!-- /session -->", TEXT, re.S)
    printed = render.run_session(tmp_path)
    assert [command for command, _ in printed] == re.findall(r"^\$ (.*)$", shown, re.M)
    compiler = re.search(r"^toolchain .*$", shown, re.M)
    assert compiler is not None
    blocks = re.findall(r"^\$ .*\n((?:(?!\$ ).*\n)*)", shown, re.M)
    assert len(blocks) == len(printed)
    exact = any(compiler[0] in output for _, output in printed)
    for (command, output), block in zip(printed, blocks, strict=True):
        if exact and not any(words in command for words in render.MEASURED):
            assert output.strip() == block.strip()
        else:
            # Another compiler makes other code, another moment other times: the same rows.
            assert rows(output) == rows(block)


def rows(text: str) -> list[str]:
    """First word of every line; the rules below headings are as wide as the figures."""
    lines = (line for line in text.splitlines() if line.strip(" ─"))
    return [line.split()[0] for line in lines]

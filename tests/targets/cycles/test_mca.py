"""llvm-mca is found by what it knows, not by its name; whatever it answers, nothing breaks."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from edgekit.errors import ToolchainMissingError
from edgekit.targets.cycles.aarch64 import llvm_mca as mca
from edgekit.targets.cycles.aarch64.llvm_mca import Mca, McaError, find_mca, newest_mca
from edgekit.targets.cycles.aarch64.processors import PROCESSORS

A72, A76 = PROCESSORS["cortex-a72"], PROCESSORS["cortex-a76"]

FAKE = """#!{python}
import json, sys
if "--version" in sys.argv:
    print("LLVM (http://llvm.org/):\\n  LLVM version {version}")
    sys.exit()
rounds = int(next(a for a in sys.argv if a.startswith("--iterations=")).split("=")[1])
regions = []
for line in sys.stdin:
    words = line.split()
    if line.startswith("# LLVM-MCA-BEGIN"):
        regions.append({{"Name": words[2], "SummaryView": {{"Instructions": 0, "TotalCycles": 7}}}})
    elif regions and not line.startswith("#"):
        summary = regions[-1]["SummaryView"]
        {behaviour}
        summary["Instructions"] += rounds
        summary["TotalCycles"] += 3 * rounds
print(json.dumps({{"CodeRegions": regions, "TargetInfo": {{"Resources": ["{unit}UnitB"]}}}}))
"""


def fake(folder: Path, name: str, version: str, unit: str, behaviour: str = "pass") -> Path:
    """A program that answers like llvm-mca: three cycles an instruction, seven to begin."""
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_text(
        FAKE.format(python=sys.executable, version=version, unit=unit, behaviour=behaviour)
    )
    path.chmod(0o755)
    return path


def use(monkeypatch: pytest.MonkeyPatch, *folders: Path) -> None:
    monkeypatch.setenv("PATH", os.pathsep.join(str(folder) for folder in folders))


def test_the_newest_that_knows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Versions are compared as numbers; one with another processor's model does not count."""
    fake(tmp_path / "a", "llvm-mca", "9.0.1", "N1")
    fake(tmp_path / "a", "llvm-mca-14", "14.0.6", "A57")
    nineteen = fake(tmp_path / "b", "llvm-mca-19", "19.1.7", "N1")
    fake(tmp_path / "b", "llvm-mca-old", "99.0.0", "N1")
    use(monkeypatch, tmp_path / "a", tmp_path / "b", tmp_path / "nowhere")
    assert find_mca(A76) == Mca(str(nineteen), "19.1.7", "neoverse-n1")
    assert find_mca(A72).version == "14.0.6"
    assert newest_mca() == "19.1.7"


def test_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without one, or with unfit ones, the error says what is there and what would do."""
    use(monkeypatch, tmp_path)
    assert newest_mca() is None
    with pytest.raises(ToolchainMissingError, match=r"not installed; install llvm-19 \(Debian"):
        find_mca(A76)
    fake(tmp_path / "a", "llvm-mca-14", "14.0.6", "A57")
    broken = fake(tmp_path / "a", "llvm-mca-15", "15.0.0", "N1", behaviour="import absent_module")
    broken.write_text(broken.read_text().replace("rounds = int", "raise SystemExit(1) #"))
    use(monkeypatch, tmp_path / "a")
    with pytest.raises(ToolchainMissingError, match="15.0.0 has none, 14.0.6 has another model"):
        find_mca(A76)


def test_steady_state(tmp_path: Path) -> None:
    """What it takes to begin does not count."""
    tool = Mca(str(fake(tmp_path, "llvm-mca", "19.1.7", "A57")), "19.1.7", "cortex-a72")
    assert tool.cycles([["nop"], ["nop", "nop"]]) == [3.0, 6.0]
    assert tool.cycles([]) == []


@pytest.mark.parametrize(
    "behaviour",
    [
        'if "bad" in line: sys.exit("<stdin>:1:1: error: unrecognized")',
        'if "bad" in line: continue',
        'if "bad" in line: summary.clear(); continue',
        'if "bad" in line: print("nonsense"); sys.exit()',
        'if "bad" in line: import os; os.abort()',
        'if "bad" in line: print("[" * 100_000); sys.exit()',
        'if "bad" in line: summary["TotalCycles"] = float("inf")',
        'if "bad" in line: summary["TotalCycles"] = float("nan")',
        'if "bad" in line: summary["TotalCycles"] = None; continue',
    ],
    ids=[
        *("refuses", "leaves out", "answers without", "talks nonsense", "crashes"),
        *("nests", "answers infinity", "answers no number", "answers null"),
    ],
)
def test_a_block_that_spoils(tmp_path: Path, behaviour: str) -> None:
    """Refused, left out, or fatal: that block has no cycles, all others have theirs."""
    path = fake(tmp_path, "llvm-mca", "14.0.6", "A57", behaviour)
    blocks = [["nop"], ["nop", "bad"], ["nop"], ["nop", "nop"], ["bad"]]
    assert Mca(str(path), "14.0.6", "cortex-a72").cycles(blocks) == [3.0, None, 3.0, 6.0, None]


def test_many_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks are spread over processes in order; one longer than a process may be stays whole."""
    monkeypatch.setattr(mca, "_PROCESS_INSTRUCTIONS", 3)
    tool = Mca(str(fake(tmp_path, "llvm-mca", "19.1.7", "A57")), "19.1.7", "cortex-a72")
    sizes = [1, 1, 2, 5, 1]
    assert tool.cycles([["nop"] * size for size in sizes]) == [3.0 * size for size in sizes]


def test_no_end_and_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Too slow and deleted are errors, not figures."""
    monkeypatch.setattr(mca, "TIMEOUT_S", 0.3)
    slow = fake(tmp_path, "llvm-mca", "19.1.7", "A57", "import time; time.sleep(60)")
    with pytest.raises(McaError, match=r"still running after 0\.3 s"):
        Mca(str(slow), "19.1.7", "cortex-a72").cycles([["nop"]])
    slow.unlink()
    with pytest.raises(ToolchainMissingError, match="llvm-mca: not found"):
        Mca(str(slow), "19.1.7", "cortex-a72").cycles([["nop"]])


@pytest.mark.parametrize("name", PROCESSORS)
@pytest.mark.needs("llvm-mca")
def test_the_real_one(name: str) -> None:
    """It has the three models, takes a chain of loads for what it is, and refuses nonsense."""
    tool = find_mca(PROCESSORS[name])
    chain, nonsense, jump, data = tool.cycles(
        [["ldr x0, [x0]"], ["add x0, x0, #1", "frobnicate x0"], ["b #0"], [".inst 0x00000000"]]
    )
    assert (chain, nonsense, jump, data) == (4.0, None, 1.0, None)

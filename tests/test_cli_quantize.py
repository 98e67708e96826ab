"""``edgekit quantize`` as users type it."""

from __future__ import annotations

import json
import logging
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from edgekit.cli.app import main
from edgekit.model import load
from edgekit.program.lowering import lower
from tests.support.posttraining import LAYERS, network, samples

RULES = {"head": "w4a8", "*": "shift3a8"}


def quantize(*arguments: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run the installed command."""
    command = [sys.executable, "-P", "-c", "from edgekit.cli import main; main()", "quantize"]
    return subprocess.run(
        [*command, *map(str, arguments)], cwd=cwd, capture_output=True, text=True, check=False
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A float model and its calibration data."""
    (tmp_path / "net.onnx").write_bytes(network())
    labels = np.arange(24) % 5
    np.savez(tmp_path / "calib.npz", x=samples()["x"], y=labels)
    return tmp_path


def test_the_line_of_the_readme(folder: Path) -> None:
    """Writes the model, prints a row per layer, says on stderr what was kept wider."""
    line = "net.onnx --precision fp4-e2m1-g128a8 --calib calib.npz --method adaround -o q.onnx"
    done = quantize(*line.split(), "--format", "json", cwd=folder)
    assert done.returncode == 0, done.stderr
    facts = json.loads(done.stdout)
    assert [layer["name"] for layer in facts["layers"]] == list(LAYERS)
    assert facts["layers"][1]["recipe"] == "fp4-e2m1-g128a8"
    assert facts["layers"][1]["error"] < facts["layers"][1]["error_rounded"]
    assert facts["bytes"] == sum(layer["bytes"] for layer in facts["layers"])
    assert facts["samples"] == 24
    assert "stem: w8a8, the first layer is kept wider" in done.stderr
    model = load(folder / "q.onnx")
    assert lower(model).operations
    made = json.loads(model.ir.metadata_props["edgekit.quantize"])
    assert (made["method"], made["precision"], made["samples"]) == (
        "adaround",
        "fp4-e2m1-g128a8",
        24,
    )
    # The same again: the same bytes, and our own output may be replaced.
    first = (folder / "q.onnx").read_bytes()
    again = quantize(*line.split(), cwd=folder)
    assert again.returncode == 0, again.stderr
    assert (folder / "q.onnx").read_bytes() == first
    assert "effective_bits" in again.stdout


def test_options(folder: Path) -> None:
    """A mapping, a TOML file that flags override, all methods at once, and a dry run."""
    (folder / "c.toml").write_text(
        'precision = {head = "w4a8", "*" = "shift3a8"}\ncalibration = "calib.npz"\n'
        'method = "gptq"\nseed = 3\n[state]\n'
    )
    flags = ["--config", "c.toml", "--method", "mse", "--bias-correction", "--equalize"]
    done = quantize("net.onnx", *flags, "--limit", 8, "--dry-run", "--format", "json", cwd=folder)
    assert done.returncode == 0, done.stderr
    facts = json.loads(done.stdout)
    assert (facts["method"], facts["samples"], facts["output"]) == ("mse", 8, None)
    assert [layer["recipe"] for layer in facts["layers"]] == ["w8a8", *["shift3a8"] * 3, "w4a8"]
    table = quantize(
        "net.onnx",
        "-p",
        json.dumps(RULES),
        "--calib",
        "calib.npz",
        "-o",
        "o.onnx",
        "--narrow-ends",
        "--format",
        "csv",
        cwd=folder,
    )
    assert table.returncode == 0, table.stderr
    lines = table.stdout.splitlines()
    assert lines[0].startswith("layer,type,recipe")
    assert lines[1].startswith("stem,Conv2d,shift3a8")
    assert not (folder / "q.onnx").exists()


def test_sensitivity_and_budget(folder: Path) -> None:
    given = ["net.onnx", "-p", "w8a8,w4a8-g8,w158a8", "--calib", "calib.npz", "--budget", 900]
    shown = quantize(
        *given, "--sensitivity", "--metric", "accuracy", "--format", "json", cwd=folder
    )
    assert shown.returncode == 0, shown.stderr
    found = json.loads(shown.stdout)
    assert len(found["costs"]) == 15
    assert found["proposal_bytes"] <= 900
    done = quantize(*given, "-o", "q.onnx", "--format", "json", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["bytes"] <= 900


@pytest.fixture
def in_process() -> Iterator[None]:
    """What the command line sets for its process is as before afterwards."""
    numbers = (signal.SIGTERM, signal.SIGHUP)
    handlers = [signal.getsignal(number) for number in numbers]
    root = logging.getLogger()
    level, streams = root.level, list(root.handlers)
    yield
    root.handlers[:] = streams
    root.setLevel(level)
    for number, handler in zip(numbers, handlers, strict=True):
        signal.signal(number, handler)


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ("net.onnx --calib calib.npz -o q.onnx", 2, "no precision"),
        ("net.onnx -p w4a8 -o q.onnx", 2, "no calibration data"),
        ("net.onnx -p w4a8 --calib calib.npz", 2, "no output"),
        ("net.onnx -p w4a8 --calib calib.npz -o q.bin", 2, "written as an .onnx file"),
        ("net.onnx -p w4a8 --calib calib.npz -o net.onnx", 2, "is not of edgekit quantize"),
        ("net.onnx -p w9a8 --calib calib.npz -o q.onnx", 2, "known: w2"),
        ("net.onnx -p w4a8 --calib calib.npz -o q.onnx --method best", 2, "is unknown"),
        ("net.onnx -p w4a8 --calib none.npz -o q.onnx", 2, "no such file"),
        ("none.onnx -p w4a8 --calib calib.npz -o q.onnx", 2, "does not exist"),
        ("net.tflite -p w4a8 --calib calib.npz -o q.onnx", 2, "its own quantisation"),
        ("net.onnx -p w1a1 --narrow-ends --calib calib.npz -o q.onnx", 3, "needs training"),
        (
            'net.onnx -p {"grouped":"fp32","*":"w8a8"} --calib calib.npz -o q.onnx',
            3,
            "--allow-fallback",
        ),
        ("net.onnx -p w8a8 --calib calib.npz -o q.onnx --limit 0", 2, "must be at least 1"),
        ("net.onnx -p w8a8 --calib calib.npz -o q.onnx --budget 9", 2, "a budget of 9 bytes"),
        ("net.onnx --config net.onnx", 2, "is not TOML"),
    ],
)
def test_wrong_input(
    folder: Path,
    arguments: str,
    code: int,
    message: str,
    in_process: None,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """One line, an exit code, and nothing half-written."""
    before = sorted(path.name for path in folder.iterdir())
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "argv", ["edgekit", "quantize", *arguments.split()])
    with pytest.raises(SystemExit) as stop:
        main()
    shown = capsys.readouterr()
    assert stop.value.code == code, shown.err
    assert message in shown.err
    assert shown.out == ""
    assert sorted(path.name for path in folder.iterdir()) == before


def test_a_quantised_model_is_refused(folder: Path) -> None:
    given = ["-p", "w4a8", "--calib", "calib.npz", "-o"]
    assert quantize("net.onnx", *given, "q.onnx", cwd=folder).returncode == 0
    done = quantize("q.onnx", *given, "again.onnx", cwd=folder)
    assert done.returncode == 2
    assert "quantised already" in done.stderr

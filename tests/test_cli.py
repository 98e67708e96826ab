"""The command line as users type it: results on stdout, one line per error, exit codes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.support.models import tiny_onnx, tiny_tflite

pytestmark = pytest.mark.needs("litert")


def edgekit(*arguments: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run the installed command."""
    command = [sys.executable, "-P", "-c", "from edgekit.cli import main; main()"]
    return subprocess.run(
        [*command, *map(str, arguments)], cwd=cwd, capture_output=True, text=True, check=False
    )


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A small int8 ``.tflite`` file."""
    path = tmp_path / "tiny.tflite"
    path.write_bytes(tiny_tflite())
    return path


def test_doctor() -> None:
    """Every part with its state and, where missing, the command that mends it."""
    done = edgekit("doctor", "--format", "json")
    rows = {row["part"]: row for row in json.loads(done.stdout)}
    assert {"python", "arm-none-eabi-gcc", "ziglang", "qemu-system-arm", "unicorn"} <= rows.keys()
    for row in rows.values():
        assert (row["status"] == "works") == (row["mend"] is None)


def test_targets() -> None:
    """The list has the boards; one is shown whole; a typo gets a hint and exit code 2."""
    listed = json.loads(edgekit("targets", "list", "--format", "json").stdout)
    names = {row["target"] for row in listed}
    boards = """nucleo-l4r5zi nucleo-g0b1re nucleo-u575zi-q nucleo-h7a3zi-q disco-f746ng
        nrf52840-dk rp2040 rp2350 arduino-nano-33-ble mps3-an547"""
    assert {"host", "cortex-m0plus", "cortex-m4", *boards.split()} <= names
    assert {row["status"] for row in listed} <= {"works", "emulated", "needs-hardware"}
    shown = edgekit("targets", "show", "nucleo-l4r5zi")
    assert shown.returncode == 0
    assert "120" in shown.stdout
    wrong = edgekit("targets", "show", "nucleo-l4r5")
    assert wrong.returncode == 2
    assert "did you mean nucleo-l4r5zi?" in wrong.stderr
    assert "Traceback" not in wrong.stderr


def test_ops() -> None:
    """Operator × format; without an FPU floats are marked."""
    rows = json.loads(edgekit("ops", "--target", "cortex-m0plus", "--format", "json").stdout)
    table = {row["operator"]: row for row in rows}
    assert table["conv_2d"]["int8"] == "yes"
    assert table["conv_2d"]["float32"] == "soft-float"
    assert table["reshape"]["int8"] == "view"
    assert table["dynamic_quantize"]["int8"] == "-"


@pytest.mark.needs("cc", "cortex-m compiler")
def test_export_verify_bench(model: Path, tmp_path: Path) -> None:
    """The three verbs in a row, in every format."""
    made = edgekit(
        "export", model, "--target", "nucleo-l4r5zi", "-o", "out", "--format", "json", cwd=tmp_path
    )
    assert made.returncode == 0, made.stderr
    facts = json.loads(made.stdout)
    assert facts["fits"] is True
    assert "bit-identical on emulator" in facts["vectors"]
    rng = np.random.default_rng(0)
    x = rng.integers(-128, 128, (5, 6, 6, 2)).astype(np.int8)
    np.savez(tmp_path / "test.npz", x=x, y=np.zeros(5, np.int64))
    for style in ("table", "json", "csv", "md"):
        verified = edgekit("verify", "out", "--data", "test.npz", "--format", style, cwd=tmp_path)
        assert verified.returncode == 0, verified.stderr
        assert "Traceback" not in verified.stderr
        measured = edgekit("bench", "out", "--format", style, cwd=tmp_path)
        assert measured.returncode == 0, measured.stderr
        assert measured.stdout
    report = json.loads(
        edgekit("bench", "out", "--device", "emulator", "--format", "json", cwd=tmp_path).stdout
    )
    (run,) = report["runs"]
    assert run["latency_ms"]["provenance"] == "modelled"
    assert run["energy_uj"]["provenance"] == "estimated"
    assert run["toolchain_version"]
    assert sum(layer["instructions"] for layer in run["layers"]) == run["instructions"]
    refused = edgekit("verify", "out", "--device", "moon", cwd=tmp_path)
    assert refused.returncode == 2
    assert "emulator" in refused.stderr


@pytest.mark.needs("cc")
def test_a_differing_bit_is_exit_code_1(model: Path, tmp_path: Path) -> None:
    """An artifact whose code was changed, with its hash mended, fails verification."""
    from edgekit.deploy.manifest import read_manifest

    edgekit("export", model, "--target", "host", "-o", "out", cwd=tmp_path)
    source = tmp_path / "out" / "src" / "tiny.c"
    text = source.read_text()
    assert ".y_zero_point = 5" in text
    source.write_text(text.replace(".y_zero_point = 5", ".y_zero_point = 6"))
    read_manifest(tmp_path / "out").with_files(tmp_path / "out").write(tmp_path / "out")
    done = edgekit("verify", "out", "--format", "json", cwd=tmp_path)
    assert done.returncode == 1
    report = json.loads(done.stdout)
    assert report["identical"] is False
    assert report["outputs"][0]["largest_step"] == 1


@pytest.mark.needs("cc")
def test_config_file_and_dry_run(model: Path, tmp_path: Path) -> None:
    """Flags override the file, the manifest has the resolved values, a dry run keeps nothing."""
    (tmp_path / "c.toml").write_text('target = "cortex-m4"\nname = "net"\nseed = 3\n')
    options = ("export", model, "--config", "c.toml", "--target", "host", "-o", "out")
    assert edgekit(*options, "--dry-run", cwd=tmp_path).returncode == 0
    assert not (tmp_path / "out").exists()
    assert edgekit(*options, cwd=tmp_path).returncode == 0
    resolved = json.loads((tmp_path / "out" / "manifest.json").read_text())["configuration"]
    assert (resolved["target"], resolved["name"], resolved["seed"]) == ("host", "net", 3)
    (tmp_path / "c.toml").write_text("colour = 3\n")
    refused = edgekit(*options, cwd=tmp_path)
    assert refused.returncode == 2
    assert "unknown keys ['colour']" in refused.stderr


def test_errors_are_one_line(tmp_path: Path) -> None:
    """A missing file, no model, no artifact, a bad shape; nothing is left behind."""
    (tmp_path / "text.tflite").write_text("hello")
    (tmp_path / "open.onnx").write_bytes(tiny_onnx())
    cases = [
        (("export", "absent.tflite", "--target", "host"), 2),
        (("export", "text.tflite", "--target", "host"), 2),
        (("export", "open.onnx", "--target", "host", "--shape", "x"), 2),
        (("export", "open.onnx", "--target", "host"), 2),
        (("verify", "nowhere"), 2),
        (("bench", "."), 2),
        (("export", "open.onnx"), 2),
        (("nonsense",), 2),
    ]
    before = sorted(p.name for p in tmp_path.iterdir())
    for arguments, code in cases:
        done = edgekit(*arguments, cwd=tmp_path)
        assert done.returncode == code, (arguments, done.stderr)
        assert done.stdout == ""
        assert "Traceback" not in done.stderr
    assert sorted(p.name for p in tmp_path.iterdir()) == before

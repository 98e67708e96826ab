"""Spiking networks on the command line: a .nir file to a verified, measured artifact."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from edgekit.bench.report import Report
from edgekit.cli.app import app
from edgekit.cli.bench import spiking_facts, step_facts
from edgekit.errors import InvalidModelError, UsageError
from tests.support.spiking_artifacts import STEPS, graph, labels, windows
from tests.support.spiking_reports import SPIKING, SPIKING_REPORT


@pytest.fixture
def nir_file(tmp_path: Path) -> Path:
    """The network as NIR, and windows beside it."""
    from edgekit.spiking.nir import write_nir

    np.savez(tmp_path / "calib.npz", x=windows(), y=labels())
    write_nir(graph(), tmp_path / "net.nir")
    return tmp_path / "net.nir"


@pytest.mark.needs("cc")
def test_nir_to_report(nir_file: Path) -> None:
    """Export, verify, bench, page."""
    folder, run = nir_file.parent, CliRunner().invoke
    calib, out = str(folder / "calib.npz"), str(folder / "out")
    options = ["--target", "host", "--precision", "w158", "--calib", calib, "--nir", "dt=0.05"]
    made = run(app, ["export", str(nir_file), *options, "--output", out])
    assert made.exit_code == 0, made.output
    rows = [line.split() for line in made.output.splitlines()]
    assert ["precision", "ternary"] in rows
    # Where nothing counts, columns for it would be empty.
    assert "packed_bytes" in made.output
    assert "instructions_per_mac" not in made.output
    manifest = json.loads((folder / "out" / "manifest.json").read_text())
    assert manifest["model"]["format"] == "nir"
    assert manifest["configuration"]["precision"] == "ternary"
    assert manifest["spiking"]["dt_seconds"] == 0.05
    checked = run(app, ["verify", out, "--data", calib])
    assert checked.exit_code == 0, checked.output
    rows = [line.split() for line in checked.output.splitlines()]
    assert ["steps", str(STEPS)] in rows
    assert "class_agreement" in checked.output
    path = str(folder / "report.json")
    quick = ["--iters", "1", "--min-seconds", "0", "--warmup", "0"]
    measured = run(app, ["bench", out, "--input", calib, *quick, "-o", path])
    assert measured.exit_code == 0, measured.output
    count = len(windows())
    assert f"({count} of calib.npz)" in measured.output
    assert f"({count} windows of calib.npz)" in measured.output
    for name in ("steps", "step_latency_ms", "spike_rate", "synaptic_ops", "bytes_touched"):
        assert name in measured.output
    report = Report.from_json(json.loads(Path(path).read_text()))
    assert report.spiking is not None
    assert report.spiking.windows == len(windows())
    drawn = run(app, ["report", path, "-o", str(folder / "page.html")])
    assert drawn.exit_code == 0, drawn.output
    assert "Spike rate" in (folder / "page.html").read_text("utf-8")


@pytest.mark.needs("cc")
@pytest.mark.parametrize(("options", "noted"), [([], True), (["--precision", "float32"], False)])
def test_nobody_gets_float32_unawares(
    nir_file: Path, caplog: pytest.LogCaptureFixture, options: list[str], noted: bool
) -> None:
    """Samples quantise other networks, and not this one: auto says so."""
    folder = nir_file.parent
    given = ["--target", "host", "--calib", str(folder / "calib.npz"), "--nir", "dt=0.05"]
    command = ["export", str(nir_file), *given, *options, "-o", str(folder / "out")]
    with caplog.at_level("INFO", logger="edgekit"):
        made = CliRunner().invoke(app, [*command, "--format", "json"])
    assert made.exit_code == 0, made.output
    assert json.loads(made.stdout)["precision"] == "float32"
    assert ("precision auto keeps" in made.output + caplog.text) == noted


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        (["--nir", "dt"], UsageError, "must read NAME=VALUE"),
        (["--nir", "tau=3"], UsageError, "must be of dt, convention, reset, method"),
        (["--nir", "dt=soon"], UsageError, "must be seconds"),
        ([], UsageError, "needs windows"),
    ],
)
def test_bad_options(
    nir_file: Path, options: list[str], error: type[Exception], message: str
) -> None:
    command = ["export", str(nir_file), "--target", "host", "-o", str(nir_file.parent / "out")]
    done = CliRunner().invoke(app, [*command, *options])
    assert isinstance(done.exception, error)
    assert message in str(done.exception)
    assert not (nir_file.parent / "out").exists()


def test_a_file_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "net.nir").write_bytes(b"not HDF5")
    done = CliRunner().invoke(app, ["export", str(tmp_path / "net.nir"), "--target", "host"])
    assert isinstance(done.exception, InvalidModelError)


def test_facts() -> None:
    """What a terminal shows."""
    found = spiking_facts(SPIKING)
    assert found["synaptic_ops"] == "67,320 a window; dense 1,346,400"
    assert found["crossover"] == "at activity 0.400; real windows 0.050"
    assert found["opponent"] == "har_cnn, int8, 49,000 weights"
    step = SPIKING_REPORT.subject.step
    assert step is not None
    assert step_facts(step)["steps"] == 40
    assert "at most" in step_facts(step)["step_cycles"]

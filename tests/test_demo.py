"""The demo: the whole way on real digits, its table, its report and the commands that it shows."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from edgekit.bench.report import read_report
from edgekit.cli.demo import STOPS

pytestmark = [
    pytest.mark.torch,
    pytest.mark.needs("torch", "safetensors", "sklearn", "cc", "cortex-m compiler"),
    pytest.mark.needs("aarch64 compiler", "onnxruntime", "litert"),
]

ENTRY = "from edgekit.cli import main; main()"


def edgekit(arguments: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    """The command line in a folder."""
    command = [sys.executable, "-P", "-c", ENTRY, *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def toured(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, subprocess.CompletedProcess]:
    """The demo's folder, and what it printed."""
    folder = tmp_path_factory.mktemp("demo")
    done = edgekit(["demo", "-o", "out", "--format", "json"], folder)
    assert done.returncode == 0, done.stderr
    return folder, done


def test_its_table(toured: tuple[Path, subprocess.CompletedProcess]) -> None:
    """Every target; generated C equal to the reference to the bit and as accurate as promised."""
    rows = json.loads(toured[1].stdout)
    targets = {row["target"] for row in rows}
    assert targets == {"nucleo-l4r5zi", "raspberry-pi-5", "jetson-orin-nano", "host"}
    own = [row for row in rows if row["back end"] == "c"]
    assert len(own) == 3
    assert all(row["reference"] == "bit-identical" for row in own)
    assert all(float(row["accuracy"].rstrip("%")) >= 97 for row in rows)
    for row in rows:
        if row["target"] == "jetson-orin-nano":
            assert row["latency_ms"] is None, "this machine's time is not a Jetson's"
        if row["target"] in ("nucleo-l4r5zi", "raspberry-pi-5"):
            assert " modelled v1, " in row["latency_ms"], "with the version and error of the model"
        if row["target"] == "host":
            assert row["latency_ms"].endswith("measured")


def test_its_reports(toured: tuple[Path, subprocess.CompletedProcess]) -> None:
    """One a target, with the command that makes it again, and a page of all of them."""
    folder = toured[0] / "out"
    for stop in STOPS:
        report = read_report(folder / "runs" / f"{stop.target}.json")
        assert report.command.startswith("edgekit bench out/")
        assert report.preprocessing is not None
    page = (folder / "report.html").read_text("utf-8")
    assert "raspberry-pi-5" in page
    assert "<script" not in page


def test_its_commands_are_real(toured: tuple[Path, subprocess.CompletedProcess]) -> None:
    """What it shows can be typed; here one of each verb but the training."""
    folder, done = toured
    shown = [line[len("$ edgekit ") :] for line in done.stderr.splitlines() if line[:1] == "$"]
    assert [line.split()[0] for line in shown].count("export") == len(STOPS)
    assert shown[0].startswith("train digits-cnn")
    picked = {line.split()[0]: shlex.split(line) for line in reversed(shown)}
    for verb in ("export", "verify", "bench", "report"):
        words = [
            str(path)
            for word in picked[verb]
            for path in (sorted(folder.glob(word)) if "*" in word else [word])
        ]
        again = edgekit(words, folder)
        assert again.returncode == 0, again.stderr


def test_it_can_be_run_again(toured: tuple[Path, subprocess.CompletedProcess]) -> None:
    """The training is kept, the rest is made again."""
    folder, done = toured
    again = edgekit(["demo", "-o", "out", "--format", "json"], folder)
    assert again.returncode == 0, again.stderr
    assert "trained already" in again.stderr
    first, second = json.loads(done.stdout), json.loads(again.stdout)
    assert [row["accuracy"] for row in first] == [row["accuracy"] for row in second]

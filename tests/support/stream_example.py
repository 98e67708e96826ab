"""The streaming example: its script as a module, its images fed, streams that it should read."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from argparse import Namespace
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgekit.data import Dataset
from tests.conftest import ROOT

Array = NDArray[Any]

EXAMPLE = ROOT / "firmware_examples" / "har_l2mu_stream"


def script() -> ModuleType:
    """``recording.py``, as a module."""
    spec = importlib.util.spec_from_file_location("recording", EXAMPLE / "recording.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


recording = script()


@dataclass(frozen=True)
class Workshop:
    """A folder in which the example was built for every board and fed with a recording.

    Attributes:
        folder: with the run, and the build beside it.
        data: windows that the recording is of.
    """

    folder: Path
    data: Dataset

    @property
    def recording(self) -> Path:
        return self.folder / "build" / "recording.bin"

    def artifact(self, board: str) -> Path:
        return self.folder / "build" / board / "artifact"

    def output(self, board: str) -> Path:
        """What the image of a board printed."""
        return self.folder / "build" / board / "output.txt"

    def check(self, board: str, output: Path | None = None) -> dict[str, Any]:
        """The script's findings on an output, that of a board's image or another."""
        found: dict[str, Any] = recording.check(
            Namespace(
                recording=self.recording,
                artifact=self.artifact(board),
                output=output or self.output(board),
            )
        )
        return found

    def make(self, *words: str) -> str:
        """What a command of the example's Makefile prints; it must succeed."""
        values = {
            "BUILD": self.folder / "build",
            "RUN": self.folder / "run",
            "MODEL": "small:l2mu_graph",
            "PRECISION": "int8",
            "PYTHON": sys.executable,
            "EDGEKIT": Path(sys.executable).with_name("edgekit"),
        }
        done = subprocess.run(
            ["make", "-C", str(EXAMPLE), *(f"{k}={v}" for k, v in values.items()), *words],
            env={**os.environ, "PYTHONPATH": str(self.folder)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def fed(self, data: bytes | None) -> tuple[int, str]:
        """Exit status and output of the Cortex-M4's image on the bytes of a recording, or none."""
        folder = self.folder / "fed"
        folder.mkdir(exist_ok=True)
        shutil.copy(self.folder / "build" / "mps2-an386" / "image.elf", folder)
        (folder / "recording.bin").unlink(missing_ok=True)
        if data is not None:
            (folder / "recording.bin").write_bytes(data)
        command = ["qemu-system-arm", "-machine", "mps2-an386", "-kernel", "image.elf"]
        command += ["-semihosting-config", "enable=on,target=native,chardev=console"]
        command += ["-chardev", "stdio,id=console", "-serial", "none", "-monitor", "none"]
        done = subprocess.run(
            [*command, "-display", "none"],
            cwd=folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        return done.returncode, done.stdout


def stream(records: Array, **changed: Any) -> bytes:
    """A recording of records, with some fields of its header changed."""
    head = np.zeros((), recording.HEADER)
    values = {"magic": recording.MAGIC, "channels": 6, "millihertz": 20_000}
    for field, value in {**values, "samples": len(records), "scale": 0.01, **changed}.items():
        head[field] = value
    return head.tobytes() + records.tobytes()


def records(count: int, *, first: int = 0) -> Array:
    """Records of noise; the counter wraps around."""
    made = np.zeros(count, recording.RECORD)
    made["counter"] = (first + np.arange(count)) % 2**32
    made["counts"] = np.random.default_rng(0).normal(0, 400, (count, 6))
    return made

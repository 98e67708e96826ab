"""Fixtures and the table of what could not run.

A test that needs a tool says so with ``@pytest.mark.needs("qemu-system-arm")``, one that needs data
takes the fixture ``data_folder``. Where the tool or the data is missing the test is listed at the
end with what would let it run; under ``EDGEKIT_CI=1`` that list is a failure.
"""

from __future__ import annotations

import importlib.util
import logging
import os
import shutil
import sys
import types
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

ROOT = Path(__file__).resolve().parents[1]

# Before any library that computes is loaded: of several workers, each with a thread for every
# core, the threads that wait for their turn spin, which takes several times what the work does.
os.environ.setdefault("OMP_NUM_THREADS", "1")


def _importable_tests() -> None:
    """Make ``tests.support`` and ``tests.cases`` importable without the checkout on the path.

    There it would shadow the installed package that is being tested.
    """
    if "tests" not in sys.modules:
        package = types.ModuleType("tests")
        package.__path__ = [str(ROOT / "tests")]
        sys.modules["tests"] = package


_importable_tests()


def _module(name: str) -> bool:
    return importlib.util.find_spec(name) is not None


TOOLS = {
    "cc": (lambda: shutil.which("cc") is not None, "a C compiler: apt install gcc"),
    "cmake": (lambda: shutil.which("cmake") is not None, "apt install cmake"),
    "clang": (lambda: shutil.which("clang") is not None, "apt install clang"),
    "c++": (lambda: shutil.which("c++") is not None, "a C++ compiler: apt install g++"),
    "cortex-m compiler": (
        lambda: shutil.which("arm-none-eabi-gcc") is not None or _module("ziglang"),
        "pip install ziglang",
    ),
    "arm-none-eabi-gcc": (
        lambda: shutil.which("arm-none-eabi-gcc") is not None,
        "apt install gcc-arm-none-eabi libnewlib-arm-none-eabi",
    ),
    "qemu-system-arm": (
        lambda: shutil.which("qemu-system-arm") is not None,
        "apt install qemu-system-arm",
    ),
    "aarch64 compiler": (
        lambda: shutil.which("aarch64-linux-gnu-gcc") is not None or _module("ziglang"),
        "pip install ziglang",
    ),
    "aarch64-linux-gnu-gcc": (
        lambda: shutil.which("aarch64-linux-gnu-gcc") is not None,
        "apt install gcc-aarch64-linux-gnu",
    ),
    "arm-linux-gnueabihf-gcc": (
        lambda: shutil.which("arm-linux-gnueabihf-gcc") is not None,
        "apt install gcc-arm-linux-gnueabihf",
    ),
    "qemu-aarch64": (lambda: shutil.which("qemu-aarch64") is not None, "apt install qemu-user"),
    "qemu-arm": (lambda: shutil.which("qemu-arm") is not None, "apt install qemu-user"),
    "llvm-mca": (
        lambda: any(shutil.which(f"llvm-mca{suffix}") for suffix in ("", "-19")),
        "apt install llvm-19",
    ),
    "chromium": (lambda: shutil.which("chromium") is not None, "apt install chromium"),
    "ziglang": (lambda: _module("ziglang"), "pip install ziglang"),
    "litert": (lambda: _module("ai_edge_litert"), "pip install ai-edge-litert"),
    "torch": (lambda: _module("torch"), "pip install torch"),
    "brevitas": (lambda: _module("brevitas"), "pip install brevitas"),
    "torchao": (lambda: _module("torchao"), "pip install torchao"),
    "sklearn": (lambda: _module("sklearn"), "pip install scikit-learn"),
    "nir": (lambda: _module("nir"), "pip install nir"),
    "nirtorch": (lambda: _module("nirtorch"), "pip install nirtorch"),
    "safetensors": (lambda: _module("safetensors"), "pip install safetensors"),
    "snntorch": (lambda: _module("snntorch"), "pip install snntorch"),
    "jsonschema": (lambda: _module("jsonschema"), "pip install jsonschema"),
    "polygraphy": (
        lambda: _module("polygraphy") and _module("onnx_graphsurgeon"),
        "pip install polygraphy onnx-graphsurgeon",
    ),
    "onnxruntime": (lambda: _module("onnxruntime"), "pip install onnxruntime"),
}
"""What a test can need: how to see that it is there, and what would provide it."""

DATA_MENDING = "set EDGEKIT_DATA to the folder with the development data"

# CI tries the same examples every time; a developer's runs keep looking for new ones.
hypothesis.settings.register_profile("ci", derandomize=True)
if os.environ.get("EDGEKIT_CI") == "1":
    hypothesis.settings.load_profile("ci")

_not_run: dict[str, list[str]] = {}


def pytest_configure(config: pytest.Config) -> None:
    """Declare the marker."""
    config.addinivalue_line("markers", "needs(*tools): tools that the test cannot do without")
    config.addinivalue_line("markers", "torch: needs torch; left out where the wheel runs without")


@pytest.fixture(autouse=True)
def _logging_as_before() -> Iterator[None]:
    """The command line sets the level of all logging: only for its own test."""
    logger = logging.getLogger()
    level = logger.level
    yield
    logger.setLevel(level)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip, with the mending, a test whose tools are missing."""
    for mark in item.iter_markers("needs"):
        for tool in mark.args:
            present, mending = TOOLS[tool]
            if not present():
                pytest.skip(f"missing {tool}: {mending}")


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """The development data: ``EDGEKIT_DATA``, default ``../shared/data`` beside the checkout."""
    folder = Path(os.environ.get("EDGEKIT_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"missing data: {DATA_MENDING}")
    return folder


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Collect what did not run."""
    if report.skipped and isinstance(report.longrepr, tuple):
        reason = report.longrepr[2].removeprefix("Skipped: ")
        _not_run.setdefault(reason, []).append(report.nodeid)


def pytest_collectreport(report: pytest.CollectReport) -> None:
    """Collect files that did not run at all."""
    if report.skipped and isinstance(report.longrepr, tuple):
        reason = report.longrepr[2].removeprefix("Skipped: ")
        _not_run.setdefault(reason, []).append(report.nodeid)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the table of what could not run."""
    if not _not_run:
        return
    terminalreporter.section("not run")
    for reason, tests in sorted(_not_run.items()):
        terminalreporter.write_line(f"{len(tests):5d} tests  {reason}")


def pytest_sessionfinish(session: pytest.Session) -> None:
    """In CI, anything that did not run is a failure."""
    if os.environ.get("EDGEKIT_CI") == "1" and _not_run and session.exitstatus == 0:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED

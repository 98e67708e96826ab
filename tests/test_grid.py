"""The exactness grid: every operator's cases on the host and on every emulated core.

Each file of ``tests/cases`` becomes one library that holds all its cases, so that a kernel is
compiled once; outputs are compared case by case with the interpreter's, to the bit.
"""

from __future__ import annotations

import importlib
from functools import cache
from pathlib import Path
from types import ModuleType

import pytest

from edgekit.program.interpret import Interpreter
from edgekit.program.ir import Array
from edgekit.program.operators.base import OPERATORS
from edgekit.targets.c.emit import Emission, emit
from edgekit.targets.c.kernel import KERNELS
from edgekit.targets.cores import CORES
from edgekit.targets.host import HostMachine
from edgekit.targets.image import build_image
from edgekit.targets.target import target
from edgekit.targets.toolchain import find_toolchain
from tests.support.chain import STRICT, assert_identical, combine, emulate, run_machine

CASES = Path(__file__).parent / "cases"
MODULES = sorted(p.stem for p in CASES.glob("*.py") if p.stem not in ("__init__", "case"))
EMULATED = [name for name, core in CORES.items() if core.unicorn_model is not None]


def module(name: str) -> ModuleType:
    """The file of cases called `name`."""
    return importlib.import_module(f"tests.cases.{name}")


@cache
def prepared(name: str) -> tuple[Emission, list[dict[str, Array]], list[dict[str, Array]]]:
    """The library of a file of cases, its inputs, and the interpreter's outputs."""
    program, samples = combine(module(name).cases(), f"grid_{name}")
    interpreter = Interpreter(program)
    return emit(program, version="test"), samples, [interpreter.run(s) for s in samples]


@pytest.mark.parametrize("name", MODULES)
@pytest.mark.needs("cc")
def test_host(name: str) -> None:
    """Host C equals the interpreter."""
    emission, samples, wanted = prepared(name)
    machine = HostMachine(emission.library, flags=STRICT)
    for sample, want in zip(samples, wanted, strict=True):
        assert_identical(want, run_machine(machine, emission, sample), name)
    machine.close()


@pytest.mark.parametrize("name", MODULES)
@pytest.mark.parametrize("core", EMULATED)
@pytest.mark.needs("cortex-m compiler")
def test_emulated(core: str, name: str, tmp_path: Path) -> None:
    """Every emulated core equals the interpreter."""
    emission, samples, wanted = prepared(name)
    machine = emulate(build_image(emission.library, target(core), folder=tmp_path))
    for sample, want in zip(samples, wanted, strict=True):
        assert_identical(want, run_machine(machine, emission, sample), f"{core} {name}")
    machine.close()


@pytest.mark.parametrize("name", MODULES)
@pytest.mark.parametrize("core", ["cortex-m0plus", "cortex-m4"])
@pytest.mark.needs("ziglang")
def test_other_compiler(core: str, name: str, tmp_path: Path) -> None:
    """Clang's code gives the same bits as GCC's, floats in hardware and in software."""
    emission, samples, wanted = prepared(name)
    toolchain = find_toolchain("ziglang")
    image = build_image(emission.library, target(core), folder=tmp_path, toolchain=toolchain)
    machine = emulate(image)
    for sample, want in zip(samples, wanted, strict=True):
        assert_identical(want, run_machine(machine, emission, sample), f"zig {core} {name}")
    machine.close()


def test_every_kernel_has_a_case() -> None:
    """No kernel of the table goes untested: the cases select each at least once."""
    selected = set()
    for name in MODULES:
        selected |= {layer.kernel for layer in prepared(name)[0].layers}
    portable = {k.name for k in KERNELS if not k.features}
    assert portable - selected == set()


def test_every_operator_has_a_case() -> None:
    """No operator of the table goes untested."""
    seen = set()
    for name in MODULES:
        seen |= {op.operator.name for op in prepared(name)[0].program.operations}
    assert set(OPERATORS) - seen == set()

"""The chain on application processors: interpreter, emulator, QEMU and this machine agree.

The exactness grid and the reference networks, as in ``tests/test_grid.py`` and
``tests/test_reference_models.py``, through the files that ship.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import pytest

from edgekit.errors import EmulationError, ToolchainMissingError, UnsupportedError
from edgekit.program.interpret import Interpreter, to_program
from edgekit.targets.arm_cpu import user
from edgekit.targets.arm_cpu.cpus import CPUS, this_architecture
from edgekit.targets.arm_cpu.machine import SharedMachine, open_shared
from edgekit.targets.arm_cpu.shared import SharedObject
from edgekit.targets.arm_cpu.toolchain import NATIVE_GCC
from edgekit.targets.arm_cpu.user import UserMachine
from edgekit.targets.c.emit import emit
from edgekit.targets.machine import BatchMachine
from edgekit.targets.target import target
from tests.support.chain import assert_identical, run_machine
from tests.support.programs import residual_network
from tests.support.shared import (
    run_tiny,
    shared_of,
    tiny_shared,
    whole_tiny_library,
    with_probes,
)
from tests.support.tiny_library import tiny_inputs, tiny_reference
from tests.test_grid import MODULES, prepared
from tests.test_reference_models import (
    INT8,
    assert_same_bytes,
    emission_of,
    inputs_of,
    interpreted,
    oracle,
    outputs_on,
    path_of,
)

needs = pytest.mark.needs

QEMU = {"aarch64": "qemu-aarch64", "armv7": "qemu-arm"}
SAMPLES = 4

SAMPLED = ("activation", "convolution")
"""Float functions, and the kernels that compilers rearrange most."""

GRID = [
    pytest.param(cpu, toolchain, name, marks=needs(toolchain), id=f"{cpu}-{toolchain}-{name}")
    for cpu, toolchain, names in (
        ("aarch64", "aarch64-linux-gnu-gcc", MODULES),
        ("aarch64", "ziglang", SAMPLED[:1]),
        ("armv7", "arm-linux-gnueabihf-gcc", SAMPLED),
        ("cortex-a76", "ziglang", SAMPLED[1:]),
    )
    for name in names
]
"""Every case once; further processors and compilers on some. More run the hand-written library."""

UNDER_QEMU = [case for case in GRID if case.values[0] in QEMU]


@cache
def grid_shared(name: str, cpu: str, toolchain: str) -> SharedObject:
    """The library of a file of cases for a processor."""
    return shared_of(prepared(name)[0].library, cpu, toolchain)


@pytest.mark.parametrize(("cpu", "toolchain", "name"), GRID)
def test_grid(cpu: str, toolchain: str, name: str) -> None:
    """The cases, emulated, to the bit."""
    emission, samples, wanted = prepared(name)
    machine = SharedMachine(emission.library, CPUS[cpu], grid_shared(name, cpu, toolchain))
    for sample, want in zip(samples, wanted, strict=True):
        assert_identical(want, run_machine(machine, emission, sample), f"{cpu} {name}")
    machine.close()


@pytest.mark.parametrize("name", SAMPLED)
@pytest.mark.needs("cc")
def test_grid_on_this_machine(name: str) -> None:
    """The file for every processor of this machine's architecture, loaded here, to the bit."""
    emission, samples, wanted = prepared(name)
    where = target(this_architecture())
    shared = grid_shared(name, where.name, NATIVE_GCC)
    machine = open_shared(emission.library, where, "local", shared)
    for sample, want in zip(samples, wanted, strict=True):
        assert_identical(want, run_machine(machine, emission, sample), name)
    machine.close()


@pytest.mark.parametrize(("cpu", "toolchain", "name"), UNDER_QEMU)
@pytest.mark.needs("qemu-aarch64", "qemu-arm")
def test_grid_under_qemu(cpu: str, toolchain: str, name: str) -> None:
    """The cases in QEMU's user mode, all samples in one start."""
    emission, samples, wanted = prepared(name)
    shared = grid_shared(name, cpu, toolchain)
    machine = open_shared(emission.library, target(cpu), "qemu", shared)
    assert isinstance(machine, BatchMachine)
    program = emission.program
    records = [
        [to_program(b, program.tensors[b.tensor], s[b.name]).tobytes() for b in program.inputs]
        for s in samples
    ]
    for outputs, want in zip(machine.run_batch(records), wanted, strict=True):
        for data, boundary in zip(outputs, program.outputs, strict=True):
            expected = to_program(boundary, program.tensors[boundary.tensor], want[boundary.name])
            assert data == expected.tobytes(), boundary.name
    assert machine.count_batch(records) == (None,) * len(records)
    machine.close()


@pytest.mark.parametrize("name", INT8)
@pytest.mark.needs("aarch64 compiler", "litert")
def test_networks_equal_litert(data_folder: Path, name: str) -> None:
    """Four inputs on the emulated Raspberry Pi 5, to the bit."""
    emission = emission_of(path_of(data_folder, name))
    where = target("raspberry-pi-5")
    shared = shared_of(emission.library, "cortex-a76")
    machine = open_shared(emission.library, where, "emulator", shared)
    got = outputs_on(machine, emission, inputs_of(data_folder, name, SAMPLES))
    assert_same_bytes(got, oracle(data_folder, name, SAMPLES))
    machine.close()


@pytest.mark.needs("aarch64 compiler", "litert")
def test_a_float_network_equals_the_interpreter(data_folder: Path) -> None:
    """To the bit on the emulated Raspberry Pi 4, the same order of every sum."""
    name = "ad01_fp32"
    emission = emission_of(path_of(data_folder, name))
    shared = shared_of(emission.library, "cortex-a72")
    machine = open_shared(emission.library, target("raspberry-pi-4"), "emulator", shared)
    got = outputs_on(machine, emission, inputs_of(data_folder, name, SAMPLES))
    assert_same_bytes(got, interpreted(data_folder, name, SAMPLES))
    machine.close()


@pytest.mark.parametrize("cpu", list(QEMU))
@pytest.mark.needs("qemu-aarch64", "qemu-arm", "ziglang")
def test_qemu_runs_whole_networks(cpu: str) -> None:
    """Results equal the reference; steps and layers are refused; records stay apart."""
    library = whole_tiny_library()
    machine = open_shared(library, target(cpu), "qemu", tiny_shared(cpu, "ziglang"))
    inputs = [tiny_inputs(seed) for seed in range(3)]
    assert [list(o) for o in machine.run_batch(inputs)] == [tiny_reference(i) for i in inputs]  # type: ignore[attr-defined]
    assert run_tiny(machine, inputs[1]) == tiny_reference(inputs[1])
    for refused in (machine.step, lambda: machine.layer(0)):
        with pytest.raises(UnsupportedError, match="use the emulator"):
            refused()
    machine.close()


@pytest.mark.needs("qemu-aarch64", "ziglang")
def test_what_goes_wrong_under_qemu(monkeypatch: pytest.MonkeyPatch) -> None:
    """A crash and an endless run are errors with words; so is a QEMU that is missing."""
    crash = "int tiny_step(tiny_context *ctx)\n{\n"
    for code, words in (
        ("    *(volatile int *)16 = 1;\n", "QEMU ended with -11|139"),
        ('    for (;;) { __asm volatile(""); }\n', "still running after 1 s"),
    ):
        library = with_probes("")
        source = str(library.files["tiny.c"])
        files = {**library.files, "tiny.c": source.replace(crash, crash + code)}
        library = type(library)(**{**vars(library), "files": files})
        shared = shared_of(library, "aarch64", "ziglang")
        machine = UserMachine(library, CPUS["aarch64"], shared, timeout_s=1)
        with pytest.raises(EmulationError, match=words):
            machine.run()
        machine.close()
    monkeypatch.setattr(user.shutil, "which", lambda name: None)
    with pytest.raises(ToolchainMissingError, match=r"qemu-aarch64 not found; install qemu-user"):
        UserMachine(library, CPUS["aarch64"], shared)


@pytest.mark.parametrize("device", ["emulator", "qemu", "local"])
@pytest.mark.needs("aarch64 compiler", "cc", "qemu-aarch64")
def test_separate_weights(device: str) -> None:
    """A library without built-in weights is given its blob on every device."""
    program = residual_network()
    emission = emit(program, separate_weights=True, version="test")
    cpu = "x86-64" if device == "local" else "aarch64"
    if device not in CPUS[cpu].devices:
        pytest.skip(f"missing {cpu}: this machine is another")
    shared = shared_of(emission.library, cpu)
    assert shared.sizes.weights == 0
    machine = open_shared(emission.library, target(cpu), device, shared)
    rng = np.random.default_rng(0)
    (boundary,) = program.inputs
    tensor = program.tensors[boundary.tensor]
    x = rng.integers(-128, 128, boundary.source_shape).astype(tensor.dtype.value)
    want = Interpreter(emission.program).run({boundary.name: x})
    assert_identical(want, run_machine(machine, emission, {boundary.name: x}), device)
    machine.close()

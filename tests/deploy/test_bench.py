"""Figures belong to the code that ran: its compiler, its flags, its clock, its memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

import edgekit
from edgekit.bench.costs import sum_of_causes
from edgekit.bench.protocol import Protocol
from edgekit.deploy import benchmark
from edgekit.deploy.artifact import Artifact
from edgekit.deploy.runner import SessionRunner
from edgekit.deploy.session import Session
from edgekit.errors import ToolchainMissingError
from edgekit.targets import booted, compiler
from edgekit.targets.cycles.costs import MODEL_VERSION
from edgekit.targets.cycles.known_error import KNOWN_ERRORS
from edgekit.targets.elf import Elf
from edgekit.targets.host import FLAGS, HostMachine
from edgekit.targets.machine import BatchMachine, CountingMachine
from tests.support.images import GCC, TOOLCHAINS, ZIG
from tests.support.models import tiny_tflite

pytestmark = [pytest.mark.needs("cc"), pytest.mark.needs("cortex-m compiler")]

QUICK = Protocol(warmup=0, iterations=3, min_seconds=0)


def exported(folder: Path, target: str, **options: object) -> Artifact:
    """The small int8 model as an artifact."""
    path = folder / "tiny.tflite"
    path.write_bytes(tiny_tflite())
    return edgekit.export(path, target=target, output=folder / "out", **options)


def test_this_machine_is_not_the_board(tmp_path: Path) -> None:
    """A board's code on the host: the host's compiler and time, nothing of the board."""
    artifact = exported(tmp_path, "nucleo-l4r5zi")
    report = artifact.bench(device="local", protocol=QUICK).subject
    assert report.latency_ms is not None
    assert report.latency_ms.provenance == "measured"
    assert report.flags == FLAGS
    assert report.toolchain in ("cc", "gcc", "clang")
    assert artifact.manifest.build is not None
    assert report.toolchain_version != artifact.manifest.build.version
    assert report.clock_hz is None
    assert any("local is not nucleo-l4r5zi" in words for words in report.warnings)


def test_the_host_as_a_target(tmp_path: Path) -> None:
    """Its compiler and flags are on record; there is nothing to warn of but noise."""
    report = exported(tmp_path, "host").bench(protocol=QUICK).subject
    assert report.flags == FLAGS
    assert report.toolchain_version
    assert not [words for words in report.warnings if not words.startswith("unstable")]


@pytest.mark.parametrize("name", TOOLCHAINS)
def test_the_emulator_stands_for_the_board(tmp_path: Path, name: str) -> None:
    """The recorded build, the board's clock, the image's memory, a modelled latency."""
    artifact = exported(tmp_path, "nucleo-l4r5zi", toolchain=name)
    whole = artifact.bench()
    report = whole.subject
    memory, build = artifact.manifest.memory, artifact.manifest.build
    assert build is not None
    assert memory is not None
    assert whole.memory is not None
    assert (report.toolchain, report.toolchain_version) == (name, build.version)
    assert report.flags == build.flags
    assert (whole.memory.ram_bytes, whole.memory.flash_bytes) == (memory.ram, memory.flash)
    assert report.clock_hz == 120_000_000
    assert report.latency_ms is not None
    assert report.latency_ms.provenance == "modelled"
    assert report.latency_ms.p50 == pytest.approx(1e3 * (report.cycles or 0) / 120e6)


def test_cycles_say_where_they_are_from(tmp_path: Path) -> None:
    """Causes of everything down to functions, the model with its memory, kernels by name."""
    run = exported(tmp_path, "nucleo-l4r5zi").bench().subject
    model = run.cycle_model
    assert model is not None
    assert (model.version, model.core) == (MODEL_VERSION, "cortex-m4")
    assert "flash 5 wait states" in model.memory
    assert model.error == KNOWN_ERRORS.get("cortex-m4")
    assert model.error_holds
    assert f"latency is modelled, not measured ({model.tag})" in run.warnings
    assert run.causes == sum_of_causes([layer.causes for layer in run.layers])
    assert [layer.kernel for layer in run.layers] == ["conv_2d_s8", "fully_connected_s8"]
    for index, layer in enumerate(run.layers):
        kinds = {cost.function: (cost.kind, cost.kernel) for cost in layer.functions}
        assert kinds[f"tiny_layer_{index}"] == ("layer", None)
        assert kinds[f"tiny_ek_{layer.kernel}"] == ("kernel", layer.kernel)
        assert sum(cost.instructions for cost in layer.functions) == layer.instructions
        total = sum_of_causes([cost.causes for cost in layer.functions])
        assert total is not None
        assert layer.causes is not None
        assert total.total == pytest.approx(layer.causes.total)


def test_a_known_error_is_that_of_its_boards(tmp_path: Path) -> None:
    """Behind other memories the spread of an energy is that of the power alone, and says so."""
    artifact = exported(tmp_path, "nucleo-u575zi-q")
    run, board = artifact.bench().subject, artifact.target.board
    model, energy = run.cycle_model, run.energy_uj
    assert model is not None
    assert (model.error, model.bound) == (KNOWN_ERRORS["cortex-m33"], None)
    assert "on nrf5340-dk only" in model.words
    assert board is not None
    assert board.power is not None
    assert board.power.spread_picojoules_per_cycle is not None
    assert energy is not None
    assert run.cycles is not None
    spread = [run.cycles * end / 1e6 for end in board.power.spread_picojoules_per_cycle]
    assert [energy.low_uj, energy.high_uj] == pytest.approx(spread)
    assert "error of the cycles is not known on this board" in (energy.source or "")


def test_energy_is_estimated_where_power_was_published(tmp_path: Path) -> None:
    """Gross, inside its spread, with what it is made from."""
    artifact = exported(tmp_path, "nucleo-l4r5zi")
    run, board = artifact.bench().subject, artifact.target.board
    assert board is not None
    assert board.power is not None
    energy = run.energy_uj
    assert energy is not None
    assert run.cycles is not None
    assert (energy.provenance, energy.net_uj, energy.sensor) == ("estimated", None, None)
    gross = run.cycles * board.power.picojoules_per_cycle / 1e6
    assert energy.gross_uj == pytest.approx(gross)
    assert energy.low_uj is not None
    assert energy.high_uj is not None
    assert energy.low_uj < gross < energy.high_uj
    assert board.power.source in (energy.source or "")


@pytest.mark.parametrize("name", ["nrf52840-dk", "cortex-m4"])
def test_no_energy_without_published_power(tmp_path: Path, name: str) -> None:
    """Null is better than a guess."""
    run = exported(tmp_path, name).bench().subject
    assert run.cycles is not None
    assert run.energy_uj is None


UNTIMED = """
name = "untimed"
vendor = "Nobody"
mcu = "NONE1"
core = "cortex-m4"
clock_hz = 100_000_000

[[memory]]
name = "flash"
kind = "flash"
origin = 0x0800_0000
bytes = 1_048_576

[[memory]]
name = "sram"
kind = "ram"
origin = 0x2000_0000
bytes = 131_072
wait_states = 0

[[memory]]
name = "backup"
kind = "ram"
origin = 0x4000_0000
bytes = 4096

[power]
picojoules_per_cycle = 100
conditions = "1.8 V"
source = "a log"
"""


def test_no_latency_where_wait_states_are_not_known(tmp_path: Path) -> None:
    """Of the memories in use; cycles are those of none, and the model says so."""
    board = tmp_path / "untimed.toml"
    board.write_text(UNTIMED)
    run = exported(tmp_path, str(board)).bench().subject
    assert run.cycles is not None
    assert run.cycle_model is not None
    assert run.cycle_model.memory == "zero wait states"
    assert (run.latency_ms, run.energy_uj) == (None, None)
    words = "no latency, no energy: untimed lacks memory[0].wait_states (flash)"
    assert words in run.warnings


@pytest.mark.needs("qemu-system-arm")
def test_qemu_without_its_plugin_counts_the_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As before there were plugins; it says why there is no more."""

    def missing(*arguments: object, **options: object) -> object:
        raise ToolchainMissingError("no compiler for the plugin")

    artifact = exported(tmp_path, "cortex-m4")
    monkeypatch.setattr(booted, "trace_image", missing)
    run = artifact.bench(device="qemu").subject
    assert [layer.operation for layer in run.layers] == ["whole network"]
    assert run.instructions is not None
    assert (run.cycles, run.cycle_model) == (None, None)
    assert "no figures of single layers: no compiler for the plugin" in run.warnings
    assert any("of every layer, which device emulator makes" in w for w in run.warnings)
    assert not any("nothing models" in words for words in run.warnings)
    with pytest.raises(ToolchainMissingError, match="no compiler for the plugin"):
        artifact.explain(0, device="qemu")


def test_a_generic_core_has_no_clock(tmp_path: Path) -> None:
    """Counted and modelled, but no latency is made up."""
    report = exported(tmp_path, "cortex-m4").bench().subject
    assert report.cycles is not None
    assert report.latency_ms is None
    assert any("no clock" in words for words in report.warnings)


@pytest.mark.needs("qemu-system-arm")
@pytest.mark.parametrize("name", TOOLCHAINS)
@pytest.mark.parametrize(("target", "own"), [("cortex-m55", True), ("nucleo-l4r5zi", False)])
def test_qemu_boots_the_artifacts_build(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, target: str, own: bool, name: str
) -> None:
    """The image itself where QEMU's board has its memories, else the same compiler and stack."""
    booted_files: list[Path] = []
    stacks: list[int] = []
    run_image = booted.run_image

    def spy(path: Path, *arguments: object, **options: object) -> object:
        booted_files.append(path)
        stacks.extend(s.bytes for s in Elf.read(path).sections if s.name == ".stack")
        return run_image(path, *arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(booted, "run_image", spy)
    artifact = exported(tmp_path, target, toolchain=name, stack_bytes=3000)
    booted_files.clear()
    stacks.clear()
    assert artifact.verify(device="qemu").identical
    report = artifact.bench(device="qemu").subject
    build = artifact.manifest.build
    assert build is not None
    assert (report.toolchain, report.toolchain_version, report.flags) == tuple(
        asdict(build).values()
    )
    assert {path == artifact.folder / "image.elf" for path in booted_files} == {own}
    assert set(stacks) == {3000}
    assert report.instructions is not None
    assert report.cycles is not None
    assert [layer.kernel for layer in report.layers] == ["conv_2d_s8", "fully_connected_s8"]
    assert (report.latency_ms, report.energy_uj) == (None, None)
    reason = "a generic core has no clock" if own else "qemu has other memories than nucleo-l4r5zi"
    assert any(reason in words for words in report.warnings)


@pytest.mark.needs("qemu-system-arm")
def test_qemu_stands_for_its_own_board(tmp_path: Path) -> None:
    """Where it boots the very image, what it models is the board's latency."""
    run = exported(tmp_path, "mps3-an547").bench(device="qemu").subject
    assert run.cycles is not None
    assert run.latency_ms is not None
    assert run.latency_ms.p50 == pytest.approx(1e3 * run.cycles / 32e6)
    assert run.cycle_model is not None
    assert run.cycle_model.core == "cortex-m55"


@pytest.mark.needs("qemu-system-arm", GCC, ZIG)
def test_another_version_of_the_compiler_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Linked again by a newer compiler: the report has its version, and a warning."""
    artifact = exported(tmp_path, "nucleo-l4r5zi", toolchain=GCC)
    monkeypatch.setattr(compiler, "installed_version", lambda name: "a newer one")
    report = artifact.bench(device="qemu").subject
    assert report.toolchain_version == "a newer one"
    assert any("another build than the artifact's: a newer one" in w for w in report.warnings)


class Endless(HostMachine):
    """A machine that boots for every run, and whose counter is too short."""

    def run_batch(self, records: Sequence[Sequence[bytes]]) -> tuple[tuple[bytes, ...], ...]:
        raise AssertionError("wall time of an emulator is no figure")

    def count_batch(self, records: Sequence[Sequence[bytes]]) -> tuple[int | None, ...]:
        return (None,) * len(records)


def test_an_emulators_wall_time_is_never_a_latency(tmp_path: Path) -> None:
    """A run too long for the counter has no instructions, and no measured latency instead."""
    artifact = exported(tmp_path, "nucleo-l4r5zi")
    machine = Endless(artifact.library)
    session = Session(artifact.program, artifact.library, artifact.manifest.layers, machine, "qemu")
    inputs = benchmark.seeded_inputs(artifact.program)
    with session:
        runner = SessionRunner(session, benchmark.subject_for(artifact), artifact.target)
        cost = runner.cost([inputs], QUICK)
    assert (cost.instructions, cost.latency_ms) == (None, None)
    assert any("counted no instructions" in words for words in cost.warnings)


@pytest.mark.needs("qemu-system-arm")
def test_what_a_device_can_do_is_its_type(tmp_path: Path) -> None:
    """Batches on QEMU, counting on the emulator, neither on the host; results are the same."""
    artifact = exported(tmp_path, "cortex-m4")
    x = np.random.default_rng(3).integers(-128, 128, (1, 6, 6, 2)).astype(np.int8)
    abilities, results = {}, []
    for device in artifact.devices:
        with artifact.open(device) as session:
            machine = session._machine
            abilities[device] = (
                isinstance(machine, CountingMachine),
                isinstance(machine, BatchMachine),
                session.has_layers,
                session.is_simulated,
            )
            (name,) = session.run_named(x)
            results += [session.run(x), session.run_named({"x": x})[name]]
            results += [r[name] for r in session.run_many([{"x": x}] * 2)]
    assert abilities == {
        "emulator": (True, False, True, True),
        "qemu": (False, True, False, True),
        "local": (False, False, True, False),
    }
    assert all((result == results[0]).all() for result in results)

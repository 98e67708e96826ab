"""QEMU: whole images boot on every core and agree with the emulator."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgekit.errors import EmulationError, ToolchainMissingError, UnsupportedError
from edgekit.targets import qemu
from edgekit.targets.cores import CORES
from edgekit.targets.image import Image, build_image
from edgekit.targets.library import Library
from edgekit.targets.qemu import QemuResult, qemu_target, run_image
from edgekit.targets.target import target
from edgekit.targets.toolchain import find_toolchain
from tests.support.images import GCC, TOOLCHAINS, fresh_folder, machine_of
from tests.support.tiny_library import tiny_inputs, tiny_library, tiny_reference

pytestmark = pytest.mark.needs("qemu-system-arm")

RECORDS = [tiny_inputs(seed) for seed in range(20)]
WANT = tuple(tuple(tiny_reference(inputs)) for inputs in RECORDS)
# Nanoseconds of a tick at 12.5 MHz, the slowest timer, and the harness around the call.
SLACK = 80 + 40


def booting(library: Library, name: str, toolchain: str = GCC) -> Image:
    """An image for the QEMU board that stands for a target."""
    return build_image(
        library,
        qemu_target(target(name)),
        folder=fresh_folder(),
        toolchain=find_toolchain(toolchain),
    )


def boot(
    image: Image, records: list[list[bytes]], *, timeout_s: float = 60, count: bool = False
) -> QemuResult:
    """Run an image over records."""
    image.require_fit()
    return run_image(
        image.path, image.library, image.target, records, timeout_s=timeout_s, count=count
    )


def breaking(statement: str) -> Library:
    """The hand-written library with a statement at the beginning of `run`."""
    library = tiny_library()
    head = "int tiny_run(tiny_context *ctx)\n{\n"
    source = library.files["tiny.c"]
    assert isinstance(source, str)
    assert head in source
    return replace(
        library,
        files={**library.files, "tiny.c": source.replace(head, head + statement)},
    )


@pytest.mark.parametrize("toolchain", TOOLCHAINS)
@pytest.mark.parametrize("name", [*CORES, "nucleo-h7a3zi-q", "mps3-an547"])
def test_boots(name: str, toolchain: str) -> None:
    """From reset to the last record: the outputs equal the reference on every core."""
    result = boot(booting(tiny_library(), name, toolchain), RECORDS)
    assert result.outputs == WANT
    assert result.instructions is None
    core = target(name).core
    assert core is not None
    assert core.qemu is not None
    assert result.machine == core.qemu.machine
    assert result.version.startswith("QEMU emulator version")


@pytest.mark.parametrize("core", [n for n, c in CORES.items() if c.unicorn_model is not None])
@pytest.mark.needs(GCC)
def test_counts_agree_with_the_emulators(core: str) -> None:
    """Two independent counts of the same runs, to within a tick of the board's timer."""
    image = booting(tiny_library(), core)
    counted = boot(image, RECORDS[:5], count=True)
    assert counted.outputs == WANT[:5]
    assert counted.instructions is not None
    machine = machine_of(image)
    for inputs, found in zip(RECORDS[:5], counted.instructions, strict=True):
        for port, data in zip(image.library.inputs, inputs, strict=True):
            machine.write(port.offset, data)
        assert found is not None
        assert abs(machine.count_run().instructions - found) <= SLACK


@pytest.mark.needs(GCC)
def test_no_records() -> None:
    """An empty file of inputs is an empty result."""
    assert boot(booting(tiny_library(), "cortex-m4"), []).outputs == ()


@pytest.mark.parametrize("toolchain", TOOLCHAINS)
def test_vectors_keep_subnormal_numbers(toolchain: str) -> None:
    """A loop that GCC would vectorise with Helium's flushing float instructions stays exact."""
    library = tiny_library()
    source = library.files["tiny.c"]
    assert isinstance(source, str)
    simple = source.replace("x[i] * tiny_v[i] + x[i] / 3.0f", "x[i] * 0.5f")
    simple = simple.replace("float *x", "float *restrict x").replace(
        "float *y", "float *restrict y"
    )
    assert simple != source
    library = replace(library, files={**library.files, "tiny.c": simple})
    x = np.float32([1e-40, 1e-45, 3e-39, -1e-38] * 4)
    inputs = [*RECORDS[0][:2], x.tobytes()]
    ((_, y, _),) = boot(booting(library, "cortex-m55", toolchain), [inputs]).outputs
    assert np.frombuffer(y, "<f4").tolist() == (x * np.float32(0.5)).tolist()


@pytest.mark.parametrize(
    ("statement", "core", "words"),
    [
        ("return 5;", "cortex-m3", "failed at run"),
        ("__builtin_trap();", "cortex-m0plus", "failed at fault: fault: exception 0x00000003, pc"),
        ("((void (*)(void))0x60000000)();", "cortex-m4", "pc 0x60000000, cfsr 0x00000100"),
        ("volatile char a[9999]; a[0] = 1;", "cortex-m33", "failed at fault: fault: exception"),
        ("*(volatile uint32_t *)(ctx->arena + 1) = 1;", "cortex-m0plus", "failed at fault"),
    ],
)
@pytest.mark.needs(GCC)
def test_failures_are_reported(statement: str, core: str, words: str) -> None:
    """A refused run, a trap, a jump into nothing, a stack overflow, an unaligned word."""
    with pytest.raises(EmulationError, match=f"tiny on QEMU's .*{words}"):
        boot(booting(breaking(statement), core), RECORDS[:1], timeout_s=30)


@pytest.mark.needs(GCC)
def test_nothing_hangs() -> None:
    """A run that never ends is stopped."""
    with pytest.raises(EmulationError, match="still running after 1 s"):
        boot(booting(breaking("for (;;) { }"), "cortex-m4"), RECORDS[:1], timeout_s=1)


@pytest.mark.needs(GCC)
def test_refuses_images_for_other_boards() -> None:
    """An image at a board's own addresses would not boot: it is refused with the reason."""
    image = build_image(tiny_library(), target("nucleo-l4r5zi"), folder=fresh_folder())
    with pytest.raises(UnsupportedError, match=r"nucleo-l4r5zi; QEMU boots images for mps2-an386"):
        boot(image, RECORDS[:1])


@pytest.mark.needs(GCC)
def test_missing_qemu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Without QEMU the error names the package."""
    image = booting(tiny_library(), "cortex-m4")
    monkeypatch.setenv("PATH", str(tmp_path))
    qemu.qemu_version.cache_clear()
    with pytest.raises(ToolchainMissingError, match="install qemu-system-arm"):
        boot(image, RECORDS[:1])

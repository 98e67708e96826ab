"""QEMU: whole images boot on every core and agree with the emulator."""

from __future__ import annotations

import struct
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from edgekit.errors import EmulationError, ToolchainMissingError, UnsupportedError
from edgekit.targets import host, qemu
from edgekit.targets.booted import BootedMachine
from edgekit.targets.cores import CORES
from edgekit.targets.cycles.trace import qemu_plugin as plugin
from edgekit.targets.cycles.trace.qemu_plugin import MAGIC, Ran, compile_plugin, part, read_trace
from edgekit.targets.host import HostCompiler
from edgekit.targets.image import Image, build_image
from edgekit.targets.library import Library
from edgekit.targets.machine import LayeredBatchMachine
from edgekit.targets.qemu import QemuResult, qemu_target, run_image, trace_image
from edgekit.targets.target import target
from edgekit.targets.toolchain import find_toolchain
from tests.support.images import EMULATED, GCC, TOOLCHAINS, fresh_folder, machine_of
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


def layered(**changes: object) -> Library:
    """The hand-written library with layers that stay functions."""
    library = tiny_library()
    source = library.files["tiny.c"]
    assert isinstance(source, str)
    head = "__attribute__((noinline)) void tiny_layer_"
    source = source.replace("void tiny_layer_", head)
    return replace(library, files={**library.files, "tiny.c": source}, **changes)  # type: ignore[arg-type]


def layered_with(lines: Sequence[str]) -> Library:
    """The same, with assembly that changes r0 and r1 in its second layer."""
    library = layered()
    source = library.files["tiny.c"]
    assert isinstance(source, str)
    text = "".join(f'"{line}\\n"' for line in lines)
    statement = f'    __asm volatile({text} ::: "r0", "r1", "cc");\n'
    source = source.replace("    const float *x", statement + "    const float *x")
    return replace(library, files={**library.files, "tiny.c": source})


@pytest.fixture
def no_plugin_yet() -> Iterator[None]:
    """Let QEMU and the compiler be asked again, in the test and after it."""
    caches = (qemu.qemu_version, qemu.tracing_plugin, plugin._compiled)
    for one in caches:
        one.cache_clear()
    yield
    for one in caches:
        one.cache_clear()


@pytest.mark.parametrize("core", EMULATED)
@pytest.mark.needs(GCC, "cc")
def test_traces_agree_with_the_emulator(core: str) -> None:
    """Layer by layer the same instructions; the same cycles but for what IT skips."""
    image = booting(layered(), core)
    traced = trace_image(image.path, image.library, image.target, RECORDS[0])
    assert traced.outputs == WANT[0]
    machine = machine_of(image)
    for port, data in zip(image.library.inputs, RECORDS[0], strict=True):
        machine.write(port.offset, data)
    machine.reset()
    counted = [machine.count_layer(i) for i in range(3)]
    assert [c.instructions for c in traced.layers] == [c.instructions for c in counted]
    assert [c.cycles for c in traced.layers] == pytest.approx([c.cycles for c in counted], rel=0.02)
    for found, expected in zip(traced.layers, counted, strict=True):
        assert found.functions.keys() == expected.functions.keys()
    assert 0 < traced.outside.instructions < 4000


@pytest.mark.needs(GCC, "cc")
def test_traces_helium() -> None:
    """Every layer of a run on the Cortex-M55: issued instructions, and cycles with their causes."""
    machine = BootedMachine(layered(), target("cortex-m55"))
    assert isinstance(machine, LayeredBatchMachine)
    layers = machine.count_layers(RECORDS[0])
    (whole,) = machine.count_batch(RECORDS[:1])
    assert whole is not None
    assert abs(sum(layer.instructions for layer in layers) - whole) <= SLACK
    for layer, name in zip(layers, ("tiny_layer_0", "tiny_layer_1", "tiny_layer_2"), strict=True):
        assert name in layer.functions
        assert layer.causes is not None
        assert layer.cycles == layer.causes.total
        # No fewer than one for two instructions, and the loops of sixteen cost something.
        assert 16 < layer.instructions / 2 <= layer.cycles < 20 * layer.instructions
    assert machine.count_layers(RECORDS[0]) == layers, "the same figures every time"
    assert machine.cycle_model is not None
    assert machine.cycle_model.core == "cortex-m55"
    machine.close()


@pytest.mark.parametrize("core", ["cortex-m4", "cortex-m55"])
@pytest.mark.needs(GCC, "cc")
def test_pages_do_not_count(core: str) -> None:
    """QEMU cuts code where a page ends, within an instruction too; nothing of it is left."""
    # An odd number of halfwords and then words: one of them lies across every border.
    lines = ("movs r0, #1", ".rept 900", "add.w r0, r0, r1, lsl #1", ".endr")
    library = layered_with(lines)
    image = booting(library, core)
    traced = trace_image(image.path, library, image.target, RECORDS[0])
    longest = max(traced.layers[1].blocks, key=lambda block: block.bytes)
    assert longest.bytes >= 3600
    assert [i.text.split()[0] for i in longest.instructions].count("add.w") >= 900
    addresses = [i.address for i in longest.instructions]
    assert all(b - a in (2, 4) for a, b in pairwise(addresses))


@pytest.mark.parametrize("core", ["cortex-m4", "cortex-m55"])
@pytest.mark.needs(GCC, "cc")
def test_loops_across_pages_are_joined(core: str) -> None:
    """A loop that is fallen into, with the border of a page in it, is one block and its costs."""
    found = []
    for pad in (0, 4096 - 8, 4096 - 12):
        code = ["b.w 3f", ".balign 4096", f".space {pad}", "3: movs r0, #20", "1: nop"]
        code += ["adds r1, r1, #1"] * 6 + ["subs r0, #1", "bne 1b"]
        library = layered_with(code)
        image = booting(library, core)
        traced = trace_image(image.path, library, image.target, RECORDS[0])
        (loop,) = (block for block in traced.layers[1].blocks if block.times == 19)
        assert loop.following == {loop.address: 18, loop.address + loop.bytes: 1}
        assert (loop.bytes, len(loop.instructions)) == (18, 9)
        found.append((loop.cycles, traced.layers[1].cycles))
    assert found[0] == found[1] == found[2]


@pytest.mark.needs(GCC, "cc")
def test_layers_have_to_run_in_order() -> None:
    """A library that lists its layers in another order than it calls them is found out."""
    layers = tiny_library().layers
    image = booting(layered(), "cortex-m4")
    wrong = replace(image.library, layers=(layers[1], layers[0], layers[2]))
    with pytest.raises(EmulationError, match="3 layers ran, 2 of them out of order"):
        trace_image(image.path, wrong, image.target, RECORDS[0])
    twice = replace(image.library, layers=(*layers, *layers))
    with pytest.raises(EmulationError, match="3 layers ran, 0 of them out of order; each of 6"):
        trace_image(image.path, twice, image.target, RECORDS[0])


@pytest.mark.needs(GCC, "cc")
def test_failures_of_traced_images_are_reported() -> None:
    image = booting(breaking("return 5;"), "cortex-m4")
    with pytest.raises(EmulationError, match="failed at run"):
        trace_image(image.path, image.library, image.target, RECORDS[0])
    image = build_image(tiny_library(), target("nucleo-l4r5zi"), folder=fresh_folder())
    with pytest.raises(UnsupportedError, match=r"nucleo-l4r5zi; QEMU boots images for mps2-an386"):
        trace_image(image.path, image.library, image.target, RECORDS[0])


@pytest.mark.needs(GCC, "cc")
def test_traces_leave_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image = booting(layered(), "cortex-m4")
    qemu.tracing_plugin()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    trace_image(image.path, image.library, image.target, RECORDS[0])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.needs(GCC)
@pytest.mark.usefixtures("no_plugin_yet")
def test_without_a_compiler_batches_still_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a layer took cannot be told then; what the run took can."""

    def none() -> HostCompiler:
        raise ToolchainMissingError("no C compiler on this host; install gcc, clang or ziglang")

    monkeypatch.setattr(plugin, "host_compiler", none)
    machine = BootedMachine(tiny_library(), target("cortex-m4"))
    with pytest.raises(ToolchainMissingError, match=r"plugin, and no C compiler.* install gcc"):
        machine.count_layers(RECORDS[0])
    assert machine.run_batch(RECORDS[:2]) == WANT[:2]
    assert None not in machine.count_batch(RECORDS[:2])
    machine.close()


@pytest.mark.needs(GCC)
@pytest.mark.usefixtures("no_plugin_yet")
def test_a_compiler_that_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    broken = HostCompiler("cc", "none", ("false",))
    monkeypatch.setattr(plugin, "host_compiler", lambda: broken)
    image = booting(tiny_library(), "cortex-m4")
    with pytest.raises(ToolchainMissingError, match="which cc does not compile; install gcc"):
        trace_image(image.path, image.library, image.target, RECORDS[0])


@pytest.mark.needs(GCC, "ziglang")
@pytest.mark.usefixtures("no_plugin_yet")
def test_zig_compiles_the_plugin(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the system has no compiler of its own."""
    with monkeypatch.context() as without:
        without.setattr(host.shutil, "which", lambda name: None)
        zig = host.host_compiler()
    assert zig.name == "ziglang"
    monkeypatch.setattr(plugin, "host_compiler", lambda: zig)
    image = booting(layered(), "cortex-m4")
    traced = trace_image(image.path, image.library, image.target, RECORDS[0])
    assert traced.outputs == WANT[0]
    assert all(layer.instructions > 16 for layer in traced.layers)


FAKE = """#!/bin/sh
case "$1" in --version) echo "QEMU emulator version 99"; exit 0;; esac
{answer}
"""


def fake_qemu(folder: Path, answer: str) -> None:
    """A QEMU that says its version, and `answer` to everything else."""
    path = folder / "qemu-system-arm"
    path.write_text(FAKE.format(answer=answer))
    path.chmod(0o755)


@pytest.mark.needs("cc")
@pytest.mark.usefixtures("no_plugin_yet")
def test_qemu_without_plugins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_qemu(tmp_path, 'echo "qemu-system-arm: -plugin: invalid option" >&2; exit 1')
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    with pytest.raises(UnsupportedError, match=r"version 99 does not load plugins.*invalid option"):
        qemu.tracing_plugin()


@pytest.mark.needs("cc")
@pytest.mark.usefixtures("no_plugin_yet")
def test_a_qemu_that_does_not_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither hanging nor silence is a traceback."""
    monkeypatch.setattr(qemu, "_LOADING_S", 0.2)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    fake_qemu(tmp_path, "exec sleep 30")
    with pytest.raises(EmulationError, match=r"qemu-system-arm: still running after 0\.2 s"):
        qemu.tracing_plugin()
    qemu.qemu_version.cache_clear()
    (tmp_path / "qemu-system-arm").write_text("#!/bin/sh\nexit 1\n")
    with pytest.raises(EmulationError, match="does not say its version"):
        qemu.tracing_plugin()


@pytest.mark.needs("cc")
@pytest.mark.usefixtures("no_plugin_yet")
def test_newer_plugin_interfaces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where QEMU refuses an old interface, the plugin is compiled for the oldest that it takes."""
    words = "plugin requires API version 1, but this QEMU supports only a minimum version of 4"
    # Once it refuses.
    fake_qemu(tmp_path, f'[ -e "$0.asked" ] && exit 0; : > "$0.asked"; echo "{words}" >&2; exit 1')
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    assert qemu.tracing_plugin() == compile_plugin(4)


def trace_of(*words: int) -> bytes:
    """A trace file of these words."""
    return MAGIC + struct.pack(f"={len(words)}I", *words)


NOP = 0xBF00BF00
PIECE = (0x100, 4, NOP)
RUN = (1, 0x100, 4, 0x104, 7, 1)


def test_reads_traces() -> None:
    trace = read_trace(trace_of(1, 1, 3, 0, *PIECE, *RUN), 1)
    assert trace.sections == ((), (Ran(0x100, b"\0\xbf\0\xbf", {0x104: 7 + (1 << 32)}),))
    assert (trace.entered, trace.out_of_order) == (3, 0)
    assert trace.code(0x100, 8) == b"\0\xbf\0\xbf"
    ((), (traced,)) = trace.traced()
    assert (traced.times, traced.size, traced.skipped) == (7 + (1 << 32), 4, (0, 0))


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "cut after 0 bytes"),
        (b"ELF1" + bytes(16), "does not begin with its mark"),
        (trace_of(1, 1, 3), "cut after 16 bytes"),
        (trace_of(1, 1, 3, 0, *PIECE, *RUN[:-1]), "cut after"),
        (trace_of(1, 0, 3, 0, 0x100, 0xFFFFFFFF), "cut after"),
        (trace_of(1, 1, 3, 0, *PIECE, *RUN, 0), "4 bytes too many"),
        (trace_of(1, 1, 3, 0, *PIECE, 2, *RUN[1:]), "speaks of section 2"),
        (trace_of(1, 1, 3, 0, *PIECE, 1, 0x100, 6, *RUN[3:]), "code at 0x00000104 that it has not"),
        (trace_of(2, 0, 3, 0, *PIECE, 0x102, 2, 0xBF10), "code at 0x00000102 changed"),
    ],
)
def test_refuses_broken_traces(data: bytes, words: str) -> None:
    with pytest.raises(EmulationError, match=words):
        read_trace(data, 1)


def test_parts_runs_behind_branches() -> None:
    """A run is cut where it passed a branch; what ran as part of different runs adds up."""
    moves, branch = bytes.fromhex("08461046"), bytes.fromhex("01d0")
    straight = Ran(0x10, moves + moves, {0x40: 5})
    assert part([straight]) == (straight,)
    passing = Ran(0x10, moves + branch + moves, {0x40: 5, 0x80: 2})
    first, behind = Ran(0x10, moves + branch, {0x16: 7}), Ran(0x16, moves, {0x40: 5, 0x80: 2})
    assert part([passing]) == (first, behind)
    taken = Ran(0x10, moves + branch, {0x18: 3})
    assert part([behind, taken, passing]) == (
        Ran(0x10, moves + branch, {0x18: 3, 0x16: 7}),
        Ran(0x16, moves, {0x40: 10, 0x80: 4}),
    )
    # A loop that is fallen into: its first round belongs to what stands before it.
    first, later = Ran(0x10, moves + branch, {0x12: 1}), Ran(0x12, moves[2:] + branch, {0x12: 4})
    assert part([first, later]) == (first, later)
    assert part([]) == ()

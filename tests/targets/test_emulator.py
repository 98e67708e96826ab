"""The emulator: right results everywhere, exact counts, and an error for every wrong step."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
import pytest

from edgekit.errors import DoesNotFitError, EmulationError, UnsupportedError
from edgekit.targets.board import Board
from edgekit.targets.cores import Memory
from edgekit.targets.cycles.costs import Causes, Count
from edgekit.targets.emulator import Emulator
from edgekit.targets.image import Image, build_image
from edgekit.targets.target import of_board, target
from edgekit.targets.toolchain import find_toolchain
from tests.support.images import (
    EMULATED,
    GCC,
    TOOLCHAINS,
    emulator_of,
    fresh_folder,
    machine_of,
    probe,
    tiny_image,
    with_code,
)
from tests.support.tiny_library import tiny_inputs, tiny_library, tiny_reference

PROBES = """
#include <stdint.h>
void probe_jump(uintptr_t to) { ((void (*)(void))to)(); }
uint32_t probe_read(uintptr_t at) { return *(volatile uint32_t *)at; }
void probe_write(uintptr_t at) { *(volatile uint32_t *)at = 1; }
void probe_hang(void) { for (;;) { } }
void probe_trap(void) { __builtin_trap(); }
uint32_t probe_deep(uint32_t n)
{
    volatile uint32_t room[64];
    for (int i = 0; i < 64; i++) {
        room[i] = n;
    }
    return n == 0 ? 0 : room[n & 63] + probe_deep(n - 1) + room[3];
}
"""
PROBE_NAMES = ("jump", "read", "write", "hang", "trap", "deep")


def probes(core: str) -> Image:
    """Functions that do what they must not."""
    return probe(PROBES, *(f"probe_{name}" for name in PROBE_NAMES), core=core)


def outputs(machine: object, inputs: list[bytes], run: str = "run") -> list[bytes]:
    """Feed, run, read."""
    library = tiny_library()
    for port, data in zip(library.inputs, inputs, strict=True):
        machine.write(port.offset, data)  # type: ignore[attr-defined]
    getattr(machine, run)()
    return [machine.read(p.offset, p.bytes) for p in library.outputs]  # type: ignore[attr-defined]


@pytest.mark.parametrize("toolchain", TOOLCHAINS)
@pytest.mark.parametrize("name", [*EMULATED, "nucleo-h7a3zi-q", "rp2040"])
def test_results(name: str, toolchain: str) -> None:
    """Integers and floats (subnormal ones too) equal the reference on every core."""
    machine = machine_of(tiny_image(toolchain, name))
    for seed in range(20):
        inputs = tiny_inputs(seed)
        assert outputs(machine, inputs) == tiny_reference(inputs), seed
    machine.close()


@pytest.mark.needs(GCC)
def test_state() -> None:
    """`step` carries the state, `run` and `reset` start over."""
    machine = machine_of(tiny_image(GCC, "cortex-m4"))
    inputs = tiny_inputs(1)
    for steps in range(3):
        assert outputs(machine, inputs, "step") == tiny_reference(inputs, steps)
    machine.reset()
    assert outputs(machine, inputs, "step") == tiny_reference(inputs)
    assert outputs(machine, inputs) == tiny_reference(inputs)


@pytest.mark.needs(GCC)
def test_layers_make_up_a_run() -> None:
    """Layers called one by one give the same outputs, and nearly all of a run's instructions."""
    machine = machine_of(tiny_image(GCC, "cortex-m4"))
    inputs = tiny_inputs(2)
    want = outputs(machine, inputs)
    whole = machine.count_run()
    machine.reset()
    for port, data in zip(tiny_library().inputs, inputs, strict=True):
        machine.write(port.offset, data)
    parts = sum((machine.count_layer(i) for i in range(3)), Count())
    assert [machine.read(p.offset, p.bytes) for p in tiny_library().outputs] == want
    assert 0 < whole.instructions - parts.instructions < 40
    assert set(parts.functions) == {"tiny_layer_0", "tiny_layer_1", "tiny_layer_2"}
    assert sum(f.instructions for f in parts.functions.values()) == parts.instructions


@pytest.mark.needs(GCC)
def test_layers_of_a_run_share_the_caches() -> None:
    """What one layer leaves there the next one finds; a run begins without."""
    machine = machine_of(tiny_image(GCC, "nucleo-l4r5zi"))
    outputs(machine, tiny_inputs(0))
    machine.reset()
    layers = [machine.count_layer(index) for index in (0, 1, 2, 0)]
    assert layers[0].causes is not None and layers[3].causes is not None
    assert 0 <= layers[3].causes.fetch < layers[0].causes.fetch
    assert layers[3].instructions == layers[0].instructions
    machine.reset()
    assert [machine.count_layer(index) for index in (0, 1, 2, 0)] == layers
    assert machine.count_run() == machine.count_run()


@pytest.mark.needs(GCC)
def test_counting_leaves_no_trace() -> None:
    """Counted and plain calls alternate freely: same results, same counts."""
    machine = machine_of(tiny_image(GCC, "cortex-m3"))
    inputs = tiny_inputs(3)
    want = outputs(machine, inputs)
    counts = []
    for _ in range(3):
        counts.append(machine.count_run())
        assert outputs(machine, inputs) == want
    assert counts[0] == counts[1] == counts[2]


@pytest.mark.parametrize("core", [c for c in EMULATED if c != "cortex-m0plus"])
@pytest.mark.needs(GCC)
def test_skipped_instructions_are_counted(core: str) -> None:
    """Instructions that an IT block skips issue too: the count does not depend on the data."""
    source = """
    #include <stdint.h>
    __attribute__((naked)) uint32_t probe_it(uint32_t a)
    {
        __asm volatile("cmp r0, #0\\n"
                       "itte ne\\n"
                       "addne r0, r0, #1\\n"
                       "addne r0, r0, #2\\n"
                       "moveq r0, #7\\n"
                       "bx lr\\n");
    }
    """
    emulator = emulator_of(probe(source, "probe_it", core=core))
    taken, skipped = emulator.count("probe_it", 5), emulator.count("probe_it", 0)
    assert (taken[0], skipped[0]) == (8, 7)
    assert taken[1].instructions == skipped[1].instructions == 6


LOOP = """
#include <stdint.h>
__attribute__((naked)) uint32_t probe_loop(uint32_t n)
{
    __asm volatile(".syntax unified\\n"
                   "movs r1, #0\\n"
                   "1: adds r1, r1, r0\\n"
                   "subs r0, r0, #1\\n"
                   "bne 1b\\n"
                   "movs r0, r1\\n"
                   "bx lr\\n");
}
"""


@pytest.mark.parametrize("core", EMULATED)
@pytest.mark.needs(GCC)
def test_loop_by_hand(core: str) -> None:
    """A loop of known length: instructions, blocks, and cycles within what the manuals allow."""
    emulator = emulator_of(probe(LOOP, "probe_loop", core=core))
    for n in (1, 2, 1000):
        result, count = emulator.count("probe_loop", n)
        assert result == n * (n + 1) // 2
        assert count.instructions == 1 + 3 * n + 2
        assert [block.function for block in count.blocks] == ["probe_loop"] * len(count.blocks)
        assert sum(block.times * len(block.instructions) for block in count.blocks) == 3 * n + 3
        assert count.causes is not None and count.cycles == count.causes.total
        assert count.causes.fetch == count.causes.load == 0
        if core == "cortex-m0plus":
            # One per instruction; a taken branch 2, and the return 2.
            assert count.cycles == 1 + 2 * n + 2 * (n - 1) + 1 + 1 + 2
        elif core != "cortex-m7":
            # A taken branch refills one to three stages.
            jumps = count.cycles - count.instructions
            assert n <= jumps <= 3 * n
        else:
            # Both additions of an iteration write flags that the next reads: they never pair.
            assert 2 * n < count.cycles <= 3 * n + 20


@pytest.mark.needs(GCC)
def test_cycles_are_those_of_the_blocks() -> None:
    """Blocks, functions and instructions add up to the whole; edges to the times they ran."""
    machine = machine_of(tiny_image(GCC, "nucleo-l4r5zi"))
    outputs(machine, tiny_inputs(0))
    count = machine.count_run()
    assert count.causes is not None
    assert count.causes.fetch > 0 and count.causes.load > 0, "the board's flash has wait states"
    for parts in (count.blocks, tuple(count.functions.values())):
        total = Causes()
        for part in parts:
            assert part.causes is not None and part.cycles == part.causes.total
            total += part.causes
        assert total == count.causes
    arrivals = {block.address: 0 for block in count.blocks}
    for block in count.blocks:
        assert sum(block.following.values()) == block.times
        total = Causes()
        for instruction in block.instructions:
            assert instruction.times == block.times and instruction.causes is not None
            total += instruction.causes
        assert total == block.causes
        for address, times in block.following.items():
            arrivals[address] = arrivals.get(address, 0) + times
    begins = count.blocks[0].address, emulator_end(machine.emulator)
    for block in count.blocks:
        if block.address not in begins:
            ran = sum(b.times for b in count.blocks if b.address == block.address)
            assert arrivals[block.address] in (ran, ran - 1)


def emulator_end(emulator: Emulator) -> int:
    """Where calls return to."""
    return emulator.symbol("Fault_Handler") & ~1


@pytest.mark.needs(GCC)
def test_faster_cores_are_modelled_faster() -> None:
    """The same integer layer takes fewer cycles from core to core."""
    cycles = {}
    for core in ("cortex-m0plus", "cortex-m4", "cortex-m7"):
        machine = machine_of(tiny_image(GCC, core))
        outputs(machine, tiny_inputs(0))
        cycles[core] = machine.count_layer(0).cycles
    assert cycles["cortex-m7"] < cycles["cortex-m4"] < cycles["cortex-m0plus"]


@pytest.mark.parametrize("core", EMULATED)
@pytest.mark.needs(GCC)
def test_wrong_accesses_are_reported(core: str) -> None:
    """Outside, into the program, from data: address, program counter and function are named."""
    image = probes(core)
    emulator = emulator_of(image)
    program, data = image.target.memories
    for function, address, words in (
        ("probe_jump", 0x6000_0001, "jump to 0x60000000, outside the program memory"),
        ("probe_jump", data.origin + 0x2001, f"jump to {data.origin + 0x2000:#010x}, outside"),
        ("probe_jump", 0xFFFF_FFFF, "jump to 0xfffffffe, outside"),
        ("probe_read", 0x6000_0000, "read of 0x60000000, where there is no memory"),
        ("probe_read", data.end, f"read of {data.end:#010x}, where there is no memory"),
        ("probe_write", 0xE000_ED88, "write of 0xe000ed88, where there is no memory"),
        ("probe_write", program.origin, f"write of {program.origin:#010x}, which is program"),
    ):
        with pytest.raises(EmulationError, match=words) as caught:
            emulator.call(function, address)
        assert caught.value.address is not None
        if function != "probe_jump":
            assert caught.value.address == address
            assert image.elf.function_at(caught.value.pc or 0) == function
            assert f"in {function}" in str(caught.value)
    # Counting says so too, and has cycles for no code that a memory does not hold whole.
    with pytest.raises(EmulationError, match="jump to 0x60000000, outside the program memory"):
        emulator.count("probe_jump", 0x6000_0001)
    for address in (0x6000_0000, program.end - 2):
        with pytest.raises(EmulationError, match=f"code at {address:#010x} are in no") as caught:
            emulator._accountant.steps(address, 4)
        assert caught.value.pc == address
    # The emulator is usable afterwards, and the last word of a memory is inside.
    emulator.call("probe_write", data.end - 4)
    assert emulator.call("probe_read", data.end - 4) == 1


@pytest.mark.needs(GCC)
def test_traps_and_foreign_instructions() -> None:
    """A trap is an error; so is M4 code on an M0+."""
    with pytest.raises(EmulationError, match="in probe_trap"):
        emulator_of(probes("cortex-m3")).call("probe_trap")
    source = "int probe_divide(int a, int b) { return a / b; }"
    image = probe(source, "probe_divide", core="cortex-m4")
    assert Emulator(target("cortex-m4"), image.elf).call("probe_divide", 100, 7) == 14
    with pytest.raises(EmulationError, match=r"Invalid instruction .* in ek_initialise_memory"):
        Emulator(target("cortex-m0plus"), image.elf)
    source = "float probe_scale(const float *x) { return x[0] * x[1]; }"
    image = probe(source, "probe_scale", core="cortex-m4")
    with pytest.raises(EmulationError, match="floating-point instruction without"):
        Emulator(target("cortex-m3"), image.elf).call("probe_scale", image.elf.symbols["ek_arena"])


@pytest.mark.needs(GCC)
def test_nothing_hangs() -> None:
    """Wall-clock limit of plain calls, instruction limit of counted ones."""
    image = probes("cortex-m4")
    began = time.monotonic()
    with pytest.raises(EmulationError, match=r"no return in time, stopped at pc .* in probe_hang"):
        emulator_of(image, timeout_s=0.2).call("probe_hang")
    with pytest.raises(EmulationError, match="no return in time"):
        emulator_of(image, instruction_limit=10_000).count("probe_hang")
    assert time.monotonic() - began < 20


@pytest.mark.needs(GCC)
def test_stack() -> None:
    """The deepest use is measured to the byte; more than is reserved is an error."""
    emulator = emulator_of(probes("cortex-m4"))
    # Compilers unroll the recursion: eight levels are sure to be several frames.
    shallow, deep = (emulator.stack_bytes("probe_deep", n) for n in (0, 8))
    assert 256 <= shallow < deep < 4096
    source = """
    __attribute__((naked)) void probe_push(void)
    {
        __asm volatile("push {r4, r5, lr}\\n sub sp, #52\\n str r0, [sp]\\n"
                       "add sp, #52\\n pop {r4, r5, pc}\\n");
    }
    """
    exact = emulator_of(probe(source, "probe_push", core="cortex-m4"))
    assert exact.stack_bytes("probe_push", 1) == 3 * 4 + 52
    assert emulator.stack_bytes("probe_read", emulator.symbol("ek_arena")) == 0
    with pytest.raises(EmulationError, match="the stack of 4096 bytes overflows, at pc"):
        emulator.call("probe_deep", 100)


@pytest.mark.needs(GCC)
def test_alignment() -> None:
    """Unaligned words: an error on the M0+, as in silicon; fine on the M4."""
    for core, strict in (("cortex-m0plus", True), ("cortex-m4", False)):
        emulator = emulator_of(probes(core))
        address = emulator.symbol("ek_arena") + 1
        if strict:
            with pytest.raises(EmulationError, match=r"unaligned access at pc .* in probe_read"):
                emulator.call("probe_read", address)
        else:
            emulator.call("probe_read", address)


@pytest.mark.needs(GCC)
def test_memory_of_odd_size() -> None:
    """The bound of a memory is exact even where the emulator maps whole pages."""
    memories = (
        Memory("flash", "flash", 0x0800_0100, 65_536),
        Memory("ram", "ram", 0x2000_0000, 6 << 10),
    )
    where = of_board(Board("small", "x", "x", "cortex-m0plus", 1_000_000, memories))
    image = build_image(
        with_code(PROBES, *(f"probe_{name}" for name in PROBE_NAMES)), where, folder=fresh_folder()
    )
    emulator = emulator_of(image)
    emulator.call("probe_write", memories[1].end - 4)
    for address in (memories[1].end, memories[0].origin - 4):
        with pytest.raises(EmulationError, match=f"read of {address:#010x}, where there is no"):
            emulator.call("probe_read", address)


@pytest.mark.needs(GCC)
def test_memories_that_share_a_page() -> None:
    """Split flash with RAM behind it: what a byte is decides, not what else its page holds."""
    memories = (
        Memory("flash", "flash", 0x0800_0000, 0x8100),
        Memory("more", "flash", 0x0800_8100, 0x300),
        Memory("ram", "ram", 0x2000_0000, 8 << 10),
        Memory("spare", "ram", 0x0800_8800, 0x1000),
    )
    where = of_board(Board("split", "x", "x", "cortex-m4", 1_000_000, memories))
    image = build_image(
        with_code(PROBES, *(f"probe_{name}" for name in PROBE_NAMES)), where, folder=fresh_folder()
    )
    emulator = emulator_of(image)
    flash, more, _, spare = memories
    for address in (spare.origin, spare.end - 4):
        emulator.call("probe_write", address)
        assert emulator.call("probe_read", address) == 1
    for address in (flash.end - 4, more.origin, more.end - 4):
        assert emulator.call("probe_read", address) == 0
        with pytest.raises(EmulationError, match=f"write of {address:#010x}, which is program"):
            emulator.call("probe_write", address)
        assert emulator.call("probe_read", address) == 0
    for address in (more.end, spare.origin - 4, spare.end):
        for function, words in (
            ("probe_read", f"read of {address:#010x}, where there is no memory"),
            ("probe_write", f"write of {address:#010x}, where there is no memory"),
            ("probe_jump", f"jump to {address:#010x}, outside the program memory"),
        ):
            with pytest.raises(EmulationError, match=words):
                emulator.call(function, address | (function == "probe_jump"))
    with pytest.raises(EmulationError, match=f"jump to {spare.origin:#010x}, outside the program"):
        emulator.call("probe_jump", spare.origin | 1)
    machine = machine_of(image)
    assert outputs(machine, tiny_inputs(0)) == tiny_reference(tiny_inputs(0))
    assert machine.count_run().instructions > 0


@pytest.mark.needs(GCC)
def test_refusals() -> None:
    """No model for the core, an image for another memory map."""
    with pytest.raises(UnsupportedError, match=r"cortex-m55 .* use QEMU"):
        emulator_of(tiny_image(GCC, "cortex-m55"))
    with pytest.raises(DoesNotFitError, match="lies outside the memories of nucleo-l4r5zi"):
        Emulator(target("nucleo-l4r5zi"), tiny_image(GCC, "cortex-m4").elf)


RUNTIME = """
#include <stdint.h>
#include <string.h>
extern uint8_t ek_arena[];
#define AT(offset) (ek_arena + (offset))
void probe_memcpy(uint32_t a, uint32_t b, uint32_t n) { memcpy(AT(a), AT(b), n); }
void probe_memmove(uint32_t a, uint32_t b, uint32_t n) { memmove(AT(a), AT(b), n); }
void probe_memset(uint32_t a, uint32_t value, uint32_t n) { memset(AT(a), (int)value, n); }
int probe_memcmp(uint32_t a, uint32_t b, uint32_t n) { return memcmp(AT(a), AT(b), n); }
"""


@pytest.mark.parametrize("toolchain", TOOLCHAINS)
@pytest.mark.parametrize("core", ["cortex-m0plus", "cortex-m4"])
def test_memory_functions(core: str, toolchain: str) -> None:
    """memcpy, memmove, memset and memcmp at every alignment and overlap, against Python."""
    names = [f"probe_mem{name}" for name in ("cpy", "move", "set", "cmp")]
    image = probe(RUNTIME, *names, core=core, toolchain=toolchain)
    emulator = emulator_of(image)
    arena = emulator.symbol("ek_arena")
    rng = np.random.default_rng(7)
    for trial in range(250):
        memory = bytearray(rng.integers(0, 256, 256, dtype=np.uint8).tobytes())
        a, b = (int(v) for v in rng.integers(0, 100, 2))
        size = int(rng.integers(0, 80))
        if trial % 4 == 0:
            b = 128 + a % 8
            memory[b : b + size] = memory[a : a + size]
        emulator.write(arena, bytes(memory))
        signed = emulator.call("probe_memcmp", a, b, size)
        left, right = memory[a : a + size], memory[b : b + size]
        assert (signed > 0x7FFF_FFFF, signed == 0) == (left < right, left == right)
        if abs(a - b) >= size:
            emulator.call("probe_memcpy", a, b, size)
        else:
            emulator.call("probe_memmove", a, b, size)
        memory[a : a + size] = right
        assert emulator.read(arena, 256) == bytes(memory), (a, b, size)
        emulator.call("probe_memset", b, 0x1A5, size)
        memory[b : b + size] = b"\xa5" * size
        assert emulator.read(arena, 256) == bytes(memory), (b, size)


FLOATS = """
#include <stdint.h>
extern uint32_t ek_arena[];
#define N 32
void probe_floats(void)
{
    const float *a = (const float *)(const void *)ek_arena, *b = a + N;
    float *y = (float *)(void *)(ek_arena + 2 * N);
    int32_t *z = (int32_t *)(void *)(ek_arena + 2 * N);
    for (int i = 0; i < N; i++) {
        y[i] = a[i] + b[i];
        y[N + i] = a[i] - b[i];
        y[2 * N + i] = a[i] * b[i];
        y[3 * N + i] = a[i] / b[i];
        z[4 * N + i] = (a[i] < b[i]) + 2 * (a[i] <= b[i]) + 4 * (a[i] == b[i]) + 8 * (a[i] > b[i]);
        y[5 * N + i] = (float)((const int32_t *)(const void *)ek_arena)[i];
        y[6 * N + i] = (float)ek_arena[i];
        z[7 * N + i] = a[i] > -2e9f && a[i] < 2e9f ? (int32_t)a[i] : 0;
    }
}
"""


@pytest.mark.parametrize("toolchain", TOOLCHAINS)
@pytest.mark.parametrize("core", ["cortex-m0plus", "cortex-m3", "cortex-m4"])
def test_float_arithmetic(core: str, toolchain: str) -> None:
    """Software and hardware float32: correctly rounded, subnormal numbers and ties included.

    Library functions of a toolchain are part of what is delivered: one that rounds differently
    would break bit-exactness on cores without an FPU.
    """
    library = tiny_library(arena_bytes=32 * 4 * 10)
    library = replace(
        library,
        files={**library.files, "probe.c": FLOATS},
        layers=(*library.layers, replace(library.layers[0], symbol="probe_floats")),
    )
    image = build_image(
        library, target(core), folder=fresh_folder(), toolchain=find_toolchain(toolchain)
    )
    emulator = emulator_of(image)
    arena = emulator.symbol("ek_arena")
    rng = np.random.default_rng(11)
    for trial in range(200):
        bits = rng.integers(0, 1 << 32, (2, 32), dtype=np.uint64).astype(np.uint32)
        bits[:, ::3] &= np.uint32(0x80FF_FFFF)  # subnormal and tiny
        bits[1, ::4] = bits[0, ::4] ^ np.uint32(trial)  # nearly equal
        bits[1, 1::4] = 0x4040_0000  # divided by 3
        bits[1, 2::7] = 0x7F00_0000 | bits[1, 2::7] & 0xFF_FFFF  # huge
        special = np.array([0, 1 << 31, 0x7F80_0000, 0xFF80_0000, 1, 0x3F80_0000], np.uint32)
        bits[rng.integers(0, 2, 6), rng.integers(0, 32, 6)] = special
        a, b = bits.view(np.float32)
        emulator.write(arena, bits.tobytes())
        emulator.call("probe_floats")
        got = np.frombuffer(emulator.read(arena + 256, 8 * 128), np.uint32).reshape(8, 32)
        with np.errstate(all="ignore"):
            results = [a + b, a - b, a * b, a / b]
            order = (a < b) + 2 * (a <= b) + 4 * (a == b) + 8 * (a > b)
            inside = (a > -2e9) & (a < 2e9)
            truncated = np.where(inside, a, 0).astype(np.int32)
        integers = bits[0].view(np.int32)
        want = [
            *(r.view(np.uint32) for r in results),
            order.astype(np.uint32),
            *(v.astype(np.float32).view(np.uint32) for v in (integers, bits[0])),
            truncated.view(np.uint32),
        ]
        for index, row in enumerate(want):
            # Which NaN comes out is nobody's promise.
            same = got[index] == row
            if index < 4:
                same |= np.isnan(got[index].view(np.float32)) & np.isnan(row.view(np.float32))
            assert same.all(), (index, trial, bits[:, ~same], got[index][~same], row[~same])

"""Emulated processors: right results, exact counts, and an error for every wrong step."""

from __future__ import annotations

from functools import cache

import pytest

from edgekit.errors import DeviceMissingError, DoesNotFitError, EmulationError, UnsupportedError
from edgekit.targets.arm_cpu.cpus import CPUS
from edgekit.targets.arm_cpu.emulator import STACK_BYTES, SharedEmulator
from edgekit.targets.arm_cpu.loader import SharedImage
from edgekit.targets.arm_cpu.machine import SharedMachine, open_shared
from edgekit.targets.machine import BatchMachine, CountingMachine
from edgekit.targets.target import target
from tests.support.shared import (
    EMULATED,
    builds,
    run_tiny,
    shared_of,
    tiny_shared,
    whole_tiny_library,
    with_probes,
)
from tests.support.tiny_library import tiny_inputs, tiny_reference

PROBES = """
#include <stdint.h>
void probe_jump(uintptr_t to);
uint32_t probe_read(uintptr_t at);
void probe_write(uintptr_t at);
void probe_hang(void);
void probe_trap(void);
uint32_t probe_deep(uint32_t n);
int probe_loop(int n);
void probe_jump(uintptr_t to) { ((void (*)(void))to)(); *(volatile int *)to = 0; }
uint32_t probe_read(uintptr_t at) { return *(volatile uint32_t *)at; }
void probe_write(uintptr_t at) { *(volatile uint32_t *)at = 1; }
void probe_hang(void) { for (;;) { __asm volatile(""); } }
void probe_trap(void) { __builtin_trap(); }
uint32_t probe_deep(uint32_t n)
{
    volatile uint32_t room[64];
    for (int i = 0; i < 64; i++) {
        room[i] = n;
    }
    return n == 0 ? 0 : room[n & 63] + probe_deep(n - 1) + room[3];
}
#if defined(__aarch64__)
__asm(".text\\n.globl probe_loop\\n.type probe_loop, %function\\nprobe_loop:\\n"
      "mov w1, #0\\n1: add w1, w1, w0\\nsubs w0, w0, #1\\nb.ne 1b\\nmov w0, w1\\nret\\n"
      ".size probe_loop, .-probe_loop\\n");
#else
__asm(".text\\n.syntax unified\\n.thumb\\n.globl probe_loop\\n.type probe_loop, %function\\n"
      ".thumb_func\\nprobe_loop:\\n"
      "movs r1, #0\\n1: adds r1, r1, r0\\nsubs.w r0, r0, #1\\nbne 1b\\nmovs r0, r1\\nbx lr\\n"
      ".size probe_loop, .-probe_loop\\n.arm\\n");
#endif
"""
NAMES = tuple(f"probe_{n}" for n in ("jump", "read", "write", "hang", "trap", "deep", "loop"))
ARCHITECTURES = ("aarch64", "armv7")


@cache
def probes(cpu: str) -> SharedImage:
    """Functions that do what they must not."""
    return SharedImage.read(shared_of(with_probes(PROBES, *NAMES), cpu).path)


def probing(cpu: str, **options: float) -> SharedEmulator:
    """The probes on an emulated processor."""
    return SharedEmulator(CPUS[cpu], probes(cpu), **options)  # type: ignore[arg-type]


def machine_of(cpu: str, toolchain: str | None = None) -> SharedMachine:
    """The hand-written library on an emulated processor."""
    toolchain = toolchain or "ziglang"
    return SharedMachine(whole_tiny_library(), CPUS[cpu], tiny_shared(cpu, toolchain))


@pytest.mark.parametrize(("cpu", "toolchain"), builds(*EMULATED))
def test_results(cpu: str, toolchain: str) -> None:
    """Integers and floats (subnormal ones too) equal the reference on every processor."""
    machine = machine_of(cpu, toolchain)
    assert isinstance(machine, CountingMachine)
    assert not isinstance(machine, BatchMachine)
    for seed in range(20):
        inputs = tiny_inputs(seed)
        assert run_tiny(machine, inputs) == tiny_reference(inputs), seed
    machine.close()


@pytest.mark.parametrize("cpu", ARCHITECTURES)
@pytest.mark.needs("ziglang")
def test_state(cpu: str) -> None:
    """`step` carries the state, `run` and `reset` start over."""
    machine = machine_of(cpu)
    inputs = tiny_inputs(1)
    for steps in range(3):
        assert run_tiny(machine, inputs, "step") == tiny_reference(inputs, steps)
    machine.reset()
    assert run_tiny(machine, inputs, "step") == tiny_reference(inputs)
    assert run_tiny(machine, inputs) == tiny_reference(inputs)


@pytest.mark.parametrize("cpu", ARCHITECTURES)
@pytest.mark.needs("ziglang")
def test_counting_leaves_no_trace(cpu: str) -> None:
    """Counted and plain calls alternate freely: same results, same counts, no cycles."""
    machine = machine_of(cpu)
    inputs = tiny_inputs(3)
    want = run_tiny(machine, inputs)
    counts = []
    for _ in range(3):
        counts.append(machine.count_run())
        assert run_tiny(machine, inputs) == want
    assert counts[0] == counts[1] == counts[2]
    assert counts[0].cycles is None
    assert sum(f.instructions for f in counts[0].functions.values()) == counts[0].instructions > 100
    parts = sum((machine.count_layer(i).instructions for i in range(3)), 0)
    assert abs(counts[0].instructions - parts) < 60


@pytest.mark.parametrize("cpu", ARCHITECTURES)
@pytest.mark.needs("ziglang")
def test_loop_by_hand(cpu: str) -> None:
    """A loop of known length; on ARMv7 it is Thumb code with wide and narrow instructions."""
    emulator = probing(cpu)
    for n in (1, 2, 1000):
        result, count = emulator.count("probe_loop", n)
        assert result == n * (n + 1) // 2
        assert count.instructions == count.functions["probe_loop"].instructions == 1 + 3 * n + 2


@pytest.mark.needs("ziglang")
def test_cycles_of_a_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a processor has a model its blocks have cycles; without llvm-mca approximated ones."""
    images = {cpu: probes(cpu) for cpu in ("cortex-a72", "aarch64")}
    monkeypatch.setenv("PATH", "")
    emulator = SharedEmulator(CPUS["cortex-a72"], images["cortex-a72"])
    _, count = emulator.count("probe_loop", 1000)
    # The first round with what comes before it, three instructions of which share two integer
    # units; 999 rounds of a cycle, 14 for leaving the loop; a move beside the return.
    assert count.cycles == count.functions["probe_loop"].cycles == pytest.approx(1.5 + 999 + 14 + 1)
    assert [line.text for line in count.blocks[1].instructions][:2] == [
        *("add w1, w1, w0", "subs w0, w0, #1")
    ]
    assert emulator.count("probe_loop", 1000)[1] == count
    model = emulator.cycle_model
    assert model is not None
    assert model.core == "cortex-a72"
    assert "llvm-mca is not installed" in model.what
    generic = SharedEmulator(CPUS["aarch64"], images["aarch64"])
    _, counted = generic.count("probe_loop", 1000)
    assert (counted.instructions, counted.cycles) == (count.instructions, None)
    assert generic.cycle_model is None


@pytest.mark.needs("ziglang", "llvm-mca")
def test_cycles_by_llvm_mca() -> None:
    """A machine says what models it; its layers have cycles, and a run about their sum."""
    machine = machine_of("cortex-a76")
    model = machine.cycle_model
    assert model is not None
    assert model.what.startswith("llvm-mca")
    assert "model of Neoverse N1" in model.what
    layers = [machine.count_layer(index).cycles for index in range(3)]
    whole = machine.count_run().cycles
    assert whole is not None
    assert None not in layers
    assert abs(whole - sum(cycles or 0 for cycles in layers)) < 60
    machine.close()


@pytest.mark.parametrize("cpu", ARCHITECTURES)
@pytest.mark.needs("ziglang")
def test_wrong_accesses_are_reported(cpu: str) -> None:
    """Outside, into code and constants, from data: address, pc and function are named."""
    emulator = probing(cpu)
    code, data = emulator.symbol("tiny_run") & ~3, emulator.allocate(100, 16)
    weights = emulator.symbol("tiny_w")
    for function, address, words in (
        ("probe_jump", 0x6000_0000, "jump to 0x60000000, where there is no code"),
        ("probe_jump", data, f"jump to {data:#x}, where there is no code"),
        ("probe_read", 0, "read of 0x0, where there is no memory"),
        ("probe_read", data + 112, "where there is no memory"),
        ("probe_write", code, f"write of {code:#x}, which is program memory"),
        ("probe_write", weights, f"write of {weights:#x}, which is program memory"),
    ):
        with pytest.raises(EmulationError, match=words) as caught:
            emulator.call(function, address)
        assert caught.value.address == address
        if function != "probe_jump":
            assert probes(cpu).function_at(caught.value.pc or 0) == function
        assert f"in {function}" in str(caught.value)
    # The emulator is usable afterwards, and the last word of what was allocated is inside.
    emulator.call("probe_write", data + 108)
    assert emulator.call("probe_read", data + 108) == 1


@pytest.mark.parametrize("cpu", ARCHITECTURES)
@pytest.mark.needs("ziglang")
def test_stack(cpu: str) -> None:
    """The high-water mark grows with the depth; too deep is an error that says so."""
    emulator = probing(cpu)
    shallow, deep = (emulator.stack_bytes("probe_deep", n) for n in (10, 100))
    assert 256 * 90 <= deep - shallow < 400 * 90
    with pytest.raises(EmulationError, match=f"stack of {STACK_BYTES} bytes overflows.*probe_deep"):
        emulator.call("probe_deep", 1 << 20)
    assert emulator.stack_bytes("probe_deep", 10) == shallow


@pytest.mark.parametrize("cpu", ARCHITECTURES)
@pytest.mark.needs("ziglang")
def test_traps_and_endless_loops(cpu: str) -> None:
    """A trap is an error; so is code that does not return, counted or not."""
    with pytest.raises(EmulationError, match="in probe_trap"):
        probing(cpu).call("probe_trap")
    with pytest.raises(EmulationError, match=r"no return in time, stopped .* in probe_hang"):
        probing(cpu, timeout_s=0.2).call("probe_hang")
    with pytest.raises(EmulationError, match=r"no return in time, stopped .* in probe_hang"):
        probing(cpu, instruction_limit=1000).count("probe_hang")


@pytest.mark.needs("ziglang")
def test_foreign_instructions() -> None:
    """Dot products run on the A76 and are refused by the A72."""
    source = """
int probe_dot(void);
int probe_dot(void)
{
    int result;
    __asm(".arch_extension dotprod\\n"
          "movi v0.4s, #0\\nmovi v1.16b, #3\\nsdot v0.4s, v1.16b, v1.16b\\nfmov %w0, s0"
          : "=r"(result) : : "v0", "v1");
    return result;
}
"""
    image = SharedImage.read(shared_of(with_probes(source, "probe_dot"), "cortex-a76").path)
    assert SharedEmulator(CPUS["cortex-a76"], image).call("probe_dot") == 36
    with pytest.raises(EmulationError, match="probe_dot on cortex-a72: .* in probe_dot"):
        SharedEmulator(CPUS["cortex-a72"], image).call("probe_dot")


@pytest.mark.needs("ziglang")
def test_too_large() -> None:
    """An arena beyond the emulated memory is refused."""
    with pytest.raises(DoesNotFitError, match="more than the emulated aarch64 has"):
        probing("aarch64").allocate(2 << 30, 16)


@pytest.mark.needs("ziglang")
def test_devices_that_cannot() -> None:
    """Unknown devices, foreign processors and processors without an emulator are told apart."""
    library = whole_tiny_library()
    shared = tiny_shared("x86-64", "ziglang")
    with pytest.raises(DeviceMissingError, match="no device 'moon'; known: local"):
        open_shared(library, target("x86-64"), "moon", shared)
    for device in ("emulator", "qemu"):
        with pytest.raises(UnsupportedError, match="x86-64"):
            open_shared(library, target("x86-64"), device, shared)
    for name in ("aarch64", "x86-64"):
        if "local" not in target(name).devices:
            with pytest.raises(DeviceMissingError, match=f"does not execute code for {name}"):
                open_shared(library, target(name), "local", shared)

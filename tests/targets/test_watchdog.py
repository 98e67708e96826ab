"""Limits of emulated calls: whatever runs away is stopped, and nothing else is."""

from __future__ import annotations

import gc
import multiprocessing
import threading
import time
import weakref
from itertools import pairwise

import pytest

from edgekit.errors import EmulationError
from edgekit.targets import watchdog
from edgekit.targets.emulator import Emulator
from edgekit.targets.watchdog import WATCHDOG, Watchdog
from tests.support.images import EMULATED, GCC, emulator_of, machine_of, probe, tiny_image
from tests.support.tiny_library import tiny_inputs, tiny_reference

LIMIT_S = 0.2
BOUND_S = 20.0
"""Far more than a stop takes, on however busy a machine."""

LOOPS = {
    "itself": "1: b 1b",
    "blocks": "1: b 2f\\n nop\\n 2: b 1b",
    "indirect": "adr r0, 1f\\n adds r0, #1\\n .align 2\\n 1: bx r0",
    "calls": "push {lr}\\n 1: bl 2f\\n b 1b\\n 2: bx lr",
    "memory": "sub sp, #8\\n 1: ldr r1, [sp]\\n str r1, [sp]\\n b 1b",
}
"""Ways never to return, by assembly."""

NAMES = tuple(f"probe_{name}" for name in LOOPS)
SOURCE = "\n".join(
    f"__attribute__((naked)) void probe_{name}(void)\n"
    f'{{ __asm volatile(".syntax unified\\n {code}\\n"); }}'
    for name, code in LOOPS.items()
)


def stopped(emulator: Emulator, name: str) -> float:
    """Let a loop run until it is stopped; how long that took, in seconds."""
    began = time.monotonic()
    with pytest.raises(EmulationError, match=rf"no return in time, stopped at pc .* in {name}"):
        emulator.call(name)
    return time.monotonic() - began


@pytest.mark.parametrize("core", EMULATED)
@pytest.mark.needs(GCC)
def test_endless_loops(core: str) -> None:
    """No loop needs a hook to be stopped, none is stopped early, and the core can go on."""
    emulator = emulator_of(probe(SOURCE, *NAMES, core=core), timeout_s=LIMIT_S)
    for name in NAMES:
        assert LIMIT_S <= stopped(emulator, name) < BOUND_S
        emulator.call("ek_initialise_memory")


@pytest.mark.needs(GCC)
def test_a_limit_that_is_over_at_once() -> None:
    """Stops that come before the core has started are forgotten by it, but not the last ones."""
    emulator = emulator_of(probe(SOURCE, *NAMES, core="cortex-m4"))
    emulator._timeout_s = 0.0
    for _ in range(20):
        assert stopped(emulator, "probe_itself") < BOUND_S


@pytest.mark.needs(GCC)
def test_a_stop_that_comes_too_late() -> None:
    """A core that is told to stop between two calls runs the next one all the same."""
    image = tiny_image(GCC, "cortex-m4")
    machine = machine_of(image)
    inputs = tiny_inputs(3)
    for port, data in zip(image.library.inputs, inputs, strict=True):
        machine.write(port.offset, data)
    for _ in range(5):
        machine.emulator._uc.emu_stop()
        machine.run()
    got = [machine.read(port.offset, port.bytes) for port in image.library.outputs]
    assert got == tiny_reference(inputs)


@pytest.mark.needs(GCC)
def test_cores_are_released() -> None:
    """What sleeps until a limit keeps no core alive that has returned before."""
    emulator = emulator_of(tiny_image(GCC, "cortex-m4"), timeout_s=600)
    with WATCHDOG.limit(300, emulator._uc.emu_stop):
        time.sleep(0.05)  # it has looked at the limit, and sleeps
    core = weakref.ref(emulator._uc)
    emulator.close()
    gc.collect()
    assert core() is None


@pytest.mark.needs(GCC)
def test_a_forked_process() -> None:
    """It has a watchdog of its own, although the parent's thread is not in it."""
    image = probe(SOURCE, *NAMES, core="cortex-m4")
    emulator_of(image).call("ek_initialise_memory")
    assert WATCHDOG._thread is not None

    def child() -> None:
        stopped(emulator_of(image, timeout_s=LIMIT_S), "probe_itself")

    process = multiprocessing.get_context("fork").Process(target=child, daemon=True)
    process.start()
    process.join(BOUND_S)
    process.kill()
    assert process.exitcode == 0


def test_stops_until_the_call_has_returned() -> None:
    """Not before the limit, over and over behind it, and never behind the context."""
    told: list[float] = []
    dog = Watchdog()
    began = time.monotonic()
    with dog.limit(0.05, lambda: told.append(time.monotonic() - began)):
        while len(told) < 4 and time.monotonic() - began < BOUND_S:
            time.sleep(0.001)
    assert len(told) >= 4
    assert told[0] >= 0.05
    assert all(b - a >= watchdog._AGAIN_S * 0.9 for a, b in pairwise(told))
    count = len(told)
    time.sleep(0.05)
    assert len(told) == count


def test_the_earliest_limit_counts() -> None:
    """One thread for all calls; it sleeps until the first limit, however the calls came."""
    dog, told = Watchdog(), threading.Event()
    others: list[str] = []
    with dog.limit(500, lambda: others.append("first")):
        thread = dog._thread
        with dog.limit(0.02, told.set):
            assert told.wait(BOUND_S)
        told.clear()
        with dog.limit(400, lambda: others.append("last")), dog.limit(0.02, told.set):
            assert told.wait(BOUND_S)
            assert dog._thread is thread
    assert not others


def test_the_thread_ends_and_comes_back() -> None:
    """It ends when it wakes and nothing runs; the next call starts another."""
    dog, told = Watchdog(), threading.Event()
    for _ in range(2):
        told.clear()
        with dog.limit(0.01, told.set):
            thread = dog._thread
            assert thread is not None
            assert thread.daemon
            assert told.wait(BOUND_S)
        thread.join(BOUND_S)
        assert not thread.is_alive()
        assert dog._thread is None


def test_what_cannot_be_stopped() -> None:
    """An error of one stop ends the thread, and the next call has a thread again."""
    dog, told = Watchdog(), threading.Event()
    hook, threading.excepthook = threading.excepthook, lambda _: told.set()
    try:
        with dog.limit(0, lambda: 1 / 0):
            assert told.wait(BOUND_S)
    finally:
        threading.excepthook = hook
    told.clear()
    with dog.limit(0, told.set):
        assert told.wait(BOUND_S)

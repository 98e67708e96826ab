"""Memory timing, caches and power of the shipped boards: every figure follows from its source."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from edgekit.targets.board import Board
from edgekit.targets.cycles.trace.memory import MemoryTiming
from edgekit.targets.target import builtin_targets, of_board, target

BOARDS = {name: t.board for name, t in builtin_targets().items() if t.board is not None}

# Megahertz that one more wait state buys at the highest voltage: RM0432 3.3.3 (range 1 boost),
# RM0444 3.3.4 (range 1), RM0456 7.3.3 (range 1), RM0455 4.3.8 (VOS0), RM0385 3.3.2 (2.7 to 3.6 V).
MHZ_PER_WAIT_STATE = {
    "nucleo-l4r5zi": 20,
    "nucleo-g0b1re": 24,
    "nucleo-u575zi-q": 32,
    "nucleo-h7a3zi-q": 44,
    "disco-f746ng": 30,
}


@pytest.mark.parametrize("name", MHZ_PER_WAIT_STATE)
def test_wait_states_follow_from_the_clock(name: str) -> None:
    """The vendor's tables are linear: n wait states up to (n + 1) times so many megahertz."""
    board = BOARDS[name]
    expected = math.ceil(board.clock_hz / 1e6 / MHZ_PER_WAIT_STATE[name]) - 1
    assert board.memories[0].wait_states == expected


@pytest.mark.parametrize(
    ("name", "clocks", "divider", "line"),
    [
        # Address and mode bits, dummies, data, each four bits a clock: continuous read.
        ("rp2040", (24 + 8) // 4 + 4 + 32 // 4, 2, 4),
        # An eight-bit command one bit a clock comes first.
        ("rp2350", 8 + 24 // 4 + 8 // 4 + 4 + 64 // 4, 3, 8),
    ],
)
def test_serial_flash_follows_from_its_sequence(
    name: str, clocks: int, divider: int, line: int
) -> None:
    """A miss takes one read command of the flash chip, in cycles of the core."""
    flash = BOARDS[name].memories[0]
    assert (flash.wait_states, flash.line_bytes) == (clocks * divider - 1, line)
    (cache,) = BOARDS[name].caches
    assert (cache.serves, cache.line_bytes, cache.bytes) == ("both", line, 16 << 10)


def test_accelerators_keep_what_one_read_returns() -> None:
    """32 lines of four reads for instructions and 8 for data; two reads on the smallest part."""
    caches = {(n, c.serves): c for n, board in BOARDS.items() for c in board.caches}
    for key, reads in {
        ("nucleo-l4r5zi", "instructions"): 32 * 4,
        ("nucleo-l4r5zi", "data"): 8 * 4,
        ("nucleo-g0b1re", "instructions"): 2,
    }.items():
        cache = caches[key]
        width = BOARDS[key[0]].memories[0].line_bytes
        assert (cache.bytes, cache.line_bytes, cache.sets) == (reads * 8, width, 1)


def test_defaults_of_the_vendors_start_up() -> None:
    """ST's templates switch the prefetch on for the G0 and U5, and leave it off on the L4+."""
    ahead = {n for n, board in BOARDS.items() if any(m.prefetch for m in board.memories)}
    assert ahead == {"nucleo-g0b1re", "nucleo-u575zi-q"}


def test_every_timing_has_a_source() -> None:
    """Every board says what its flash takes, and from where; data memory is what it is."""
    for name, board in BOARDS.items():
        assert board.timing_source, name
        for memory in board.memories:
            if memory.kind == "flash":
                assert memory.wait_states is not None, name
                assert memory.line_bytes is not None, name
            if memory.kind in ("itcm", "dtcm"):
                assert memory.wait_states == 0, name


def test_what_a_timing_is_worth() -> None:
    """Serial flash is derived, Nordic's cache assumed, as the sources say first."""
    found = {name: board.timing_basis for name, board in BOARDS.items()}
    assert {name for name, basis in found.items() if basis != "documented"} == {
        *("rp2040", "rp2350", "nrf52840-dk", "arduino-nano-33-ble")
    }
    for name, board in BOARDS.items():
        word = board.timing_source.split()[0].strip(".").lower()
        assert (word if word in ("derived", "assumed") else "documented") == found[name]


def test_what_a_timing_is_worth_stands_before_it() -> None:
    """Of every board with wait states; a board that says nothing has assumed ones."""
    for name, words in (
        ("rp2350", "derived from documents of the parts, not documented: flash 107 wait states"),
        ("nrf52840-dk", "assumed, at least in part: flash 2 wait states"),
        ("nucleo-l4r5zi", "as documented, the configuration assumed: flash 5 wait states"),
    ):
        assert MemoryTiming.of(target(name)).words.startswith(words)
    board = BOARDS["nucleo-l4r5zi"]
    bare = replace(board, timing_source="", timing_basis=Board.timing_basis)
    assert MemoryTiming.of(of_board(bare)).words.startswith("assumed, at least in part: flash 5")


def test_caches_of_a_target() -> None:
    """A board's; none for a core of which no board is known."""
    assert [c.name for c in target("nucleo-l4r5zi").caches] == ["art_instructions", "art_data"]
    assert target("cortex-m4").caches == target("host").caches == ()


# Microjoules and milliseconds of KWS, IC, VWW and AD in the published MLPerf Tiny logs.
LOGS: dict[str, list[tuple[tuple[float, float], ...]]] = {
    "nucleo-u575zi-q": [((664, 29.0), (2565, 109), (1372, 59.3), (77, 3.21))],
    "nucleo-h7a3zi-q": [((1376, 11.3), (5090, 40.8), (2965, 23.8), (166, 1.23))],
    "nucleo-l4r5zi": [
        ((1820, 43.2), (6919, 165), (3895, 88.9), (203, 5.26)),
        ((5230, 99.8), (20236, 390), (15531, 301), (443, 8.6)),
        ((7374, 182), (29207, 704), (24313, 601), (416, 10.1)),
    ],
}


def test_power_follows_from_the_published_logs() -> None:
    """Energy / (latency x clock) is within the spread, and is the spread where there is one log."""
    assert {name for name, board in BOARDS.items() if board.power is not None} == set(LOGS)
    for name, logs in LOGS.items():
        board = BOARDS[name]
        assert board.power is not None
        assert board.power.spread_picojoules_per_cycle is not None
        low, high = board.power.spread_picojoules_per_cycle
        # uJ / (ms x Hz) is 1e-3 J/Hz: 1e9 picojoules.
        found = [1e9 * e / t / board.clock_hz for log in logs for e, t in log]
        if len(logs) == 1:
            assert (round(min(found)), round(max(found))) == (low, high), name
        else:
            assert low <= min(found) <= board.power.picojoules_per_cycle <= max(found) <= high, name

"""Application processors: blocks by hand, rules of prediction, and both models side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgekit.errors import ToolchainMissingError, UnsupportedError
from edgekit.targets.arm_cpu.cpus import AARCH64, CPUS
from edgekit.targets.arm_cpu.disassembly import disassemble
from edgekit.targets.arm_cpu.machine import SharedMachine
from edgekit.targets.cycles.aarch64 import timing as processor_module
from edgekit.targets.cycles.aarch64.instructions import Instruction, described
from edgekit.targets.cycles.aarch64.llvm_mca import Mca, McaError, find_mca
from edgekit.targets.cycles.aarch64.processors import (
    FORESEEN_ROUNDS,
    PROCESSORS,
    Processor,
    processor_of,
)
from edgekit.targets.cycles.aarch64.steady import steady_cycles
from edgekit.targets.cycles.aarch64.timing import ProcessorTiming, mispredictions
from edgekit.targets.cycles.costs import BlockCost, Count, InstructionCost
from tests.support.shared import shared_of
from tests.test_reference_models import INT8, emission_of, inputs_of, path_of

A53, A72, A76 = PROCESSORS.values()

ADD, SUBS, B_NE = 0x0B000021, 0x71000400, 0x54FFFFC1
MOV_0, MOV, RET = 0x52800001, 0x2A0103E0, 0xD65F03C0
"""``add w1, w1, w0``; ``subs w0, w0, #1``; ``b.ne .-8``; ``mov w1, #0``; ``mov w0, w1``."""

CODE = b"".join(word.to_bytes(4, "little") for word in (MOV_0, ADD, SUBS, B_NE, MOV, RET))
START, LOOP, EXIT = 0x100, 0x104, 0x110
TEXTS = dict(disassemble(CODE, START, architecture=AARCH64))


def ran(address: int, size: int, following: Mapping[int, int]) -> BlockCost:
    """A block that ran, without cycles."""
    times = sum(following.values())
    places = range(address, address + size, 4)
    lines = tuple(InstructionCost(at, TEXTS.get(at, "nop"), times, None) for at in places)
    return BlockCost(address, size, times, None, None, lines, following)


def loop_count(rounds: int) -> Count:
    """What a call of the loop counts; the first round is a block with what comes before it."""
    blocks = [ran(START, 16, {LOOP: 1} if rounds > 1 else {EXIT: 1}), ran(EXIT, 8, {0: 1})]
    if rounds > 1:
        back = {LOOP: rounds - 2} if rounds > 2 else {}
        blocks.append(ran(LOOP, 12, {**back, EXIT: 1}))
    return Count.of(("f" if block.address < EXIT else "g", block) for block in blocks)


def block_of(*lines: str) -> list[Instruction]:
    return [described(line) for line in lines]


def test_who_has_a_model() -> None:
    """Three processors have one, and the error for others says which."""
    assert [processor_of(name).name for name in PROCESSORS] == list(PROCESSORS)
    for cpu in CPUS.values():
        assert (cpu.processor is None) == (cpu.name not in PROCESSORS)
        assert cpu.processor is None or cpu.processor.name == cpu.name
    with pytest.raises(
        UnsupportedError,
        match="aarch64 has no cycle model; there is one for cortex-a53, cortex-a72, cortex-a76",
    ):
        processor_of("aarch64")


# Steady states by hand; the reasoning stands beside each.
BY_HAND = [
    # Three issue slots; two integer units, one of which is free for half of the branch's cycle.
    (A72, 1, ("add w1, w1, w0", "subs w0, w0, #1", "b.ne #0")),
    # Each load waits for the address that the one before loads.
    (A72, 4, ("ldr x0, [x0]",)),
    # The new address is there after one cycle, but there is one unit for loads.
    (A72, 1, ("ldr x1, [x0], #8",)),
    # A sum is passed on at once, a factor after three cycles.
    (A72, 1, ("madd w0, w1, w2, w0",)),
    (A72, 3, ("madd w0, w0, w2, w1",)),
    # Through the flags: compare, select, compare what was selected.
    (A72, 2, ("cmp w0, w1", "csel w0, w2, w0, lt")),
    # One multiplier of 64 bits: two cycles for each of two whole vectors.
    (A72, 4, ("mla v0.4s, v4.4s, v5.4s", "mla v1.4s, v4.4s, v5.4s")),
    (A72, 2, ("mla v0.2s, v4.2s, v5.2s", "mla v1.2s, v4.2s, v5.2s")),
    # Six instructions, three integer units.
    (A76, 2, tuple(f"add x{i}, x9, x10" for i in range(6))),
    # Four are decoded, whatever they do.
    (A76, 2, ("nop",) * 8),
    # Two address units, which stores share.
    (A76, 2, ("ldr w0, [x9]", "ldr w1, [x9, #4]", "str w2, [x8]", "str w2, [x8, #4]")),
    # Two vector units for dot products; each sum is passed on after one cycle.
    (A76, 1, ("sdot v0.4s, v4.16b, v5.16b", "sdot v1.4s, v4.16b, v6.16b")),
    (A76, 2, ("sdot v0.4s, v4.16b, v5.16b", "sdot v0.4s, v4.16b, v6.16b")),
    # In order, two at a time: independent ones pair.
    (A53, 1, ("add x0, x0, x1", "add x2, x2, x3")),
    (A53, 2, ("add x0, x0, x1", "add x0, x0, x3")),
    # Load to use takes three cycles, and the next load issues beside the addition.
    (A53, 3, ("ldr x0, [x1]", "add x2, x2, x0")),
    # Nothing overtakes: the multiplication waits for the load, the addition for the multiplication.
    (A53, 6, ("ldr w0, [x1]", "mul w0, w0, w2", "add w3, w3, w0")),
    # Whole vectors take the 64-bit unit twice.
    (A53, 2, ("add v0.4s, v1.4s, v2.4s",)),
    (A53, 1, ("add v0.2s, v1.2s, v2.2s",)),
]


@pytest.mark.parametrize(("processor", "cycles", "lines"), BY_HAND)
def test_blocks_by_hand(processor: Processor, cycles: float, lines: tuple[str, ...]) -> None:
    """The approximation is what its rules and tables say."""
    assert steady_cycles(block_of(*lines), processor) == pytest.approx(cycles)


LINES = st.sampled_from(
    [line for _, _, lines in BY_HAND for line in lines if not line.startswith("b.")]
    + ["ldp q0, q1, [x2], #32", "str q1, [x0, x3]", "sdiv w1, w1, w2", "fmadd s0, s1, s2, s0"]
)


@settings(deadline=None)
@given(st.lists(LINES, min_size=1, max_size=12), st.sampled_from(list(PROCESSORS)))
def test_two_blocks_take_twice_as_long(lines: list[str], name: str) -> None:
    """A block unrolled once takes twice as long; nothing is faster than decoding."""
    block, processor = block_of(*lines), PROCESSORS[name]
    cycles = steady_cycles(block, processor)
    assert cycles >= len(block) / processor.decoded - 1e-9
    # In order, the rhythm of a block may repeat itself only after several rounds.
    assert steady_cycles(block * 2, processor) == pytest.approx(2 * cycles, abs=1 / 6)


RET_LINE, CALL = described("ret"), described("blr x3")
IF, FALL = described("b.ne #0"), described("add x0, x0, #1")


@pytest.mark.parametrize(
    ("blocks", "last", "wrong"),
    [
        # Ten runs of a loop of 100 rounds, the first round of each with what comes before.
        ([ran(0x100, 32, {0x110: 10}), ran(0x110, 16, {0x110: 980, 0x120: 10})], IF, [0, 10]),
        # As long as is foreseen, and one round longer.
        ([ran(0x110, 16, {0x110: 10 * (FORESEEN_ROUNDS - 1), 0x120: 10})], IF, [0]),
        ([ran(0x110, 16, {0x110: 10 * FORESEEN_ROUNDS, 0x120: 10})], IF, [10]),
        # Forward: the rarer way is a surprise, however rare.
        ([ran(0x110, 16, {0x200: 30, 0x120: 70})], IF, [30]),
        ([ran(0x110, 16, {0x200: 5, 0x120: 5})], IF, [5]),
        ([ran(0x110, 16, {0x200: 7})], IF, [0]),
        # Returns go back to whoever called; other addresses in registers are guessed.
        ([ran(0x110, 16, {0x200: 30, 0x300: 70})], RET_LINE, [0]),
        ([ran(0x110, 16, {0x50: 30, 0x300: 69, 0x400: 1})], CALL, [31]),
        # No branch, two ways on: the block behind was entered with two lengths.
        ([ran(0x110, 16, {0x120: 30})], FALL, [0]),
    ],
)
def test_mispredictions(blocks: list[BlockCost], last: Instruction, wrong: list[int]) -> None:
    """The rule, case by case."""
    assert mispredictions(blocks, [last] * len(blocks)) == wrong


def test_a_loop_by_hand() -> None:
    """Every block by its steady state, the end of the loop as a misprediction; sums are sums."""
    timing = ProcessorTiming(A72, None, "on purpose")
    count = timing.modelled(loop_count(1000))
    assert [block.address for block in count.blocks] == [START, LOOP, EXIT]
    # Three instructions for two integer units; 999 rounds of a cycle, 14 for the end; a return.
    assert [b.cycles for b in count.blocks] == pytest.approx([3 / 2, 999 + 14, 1])
    assert count.functions["f"].cycles == pytest.approx(3 / 2 + 1013)
    assert (count.functions["g"].cycles, count.instructions) == (1, 1 + 3 * 1000 + 2)
    assert count.causes is None
    # A loop of a few rounds ends as expected.
    few = timing.modelled(loop_count(5))
    assert few.cycles == pytest.approx(3 / 2 + 4 + 1)
    assert timing.modelled(loop_count(1000)) == count


class Counting(Mca):
    """An llvm-mca that says two cycles per instruction, and nothing of returns."""

    asked = 0

    def cycles(self, blocks: Sequence[Sequence[str]]) -> list[float | None]:
        found: list[float | None] = []
        for block in blocks:
            Counting.asked += 1
            found.append(None if "ret" in block else 2.0 * len(block))
        return found


class Late(Mca):
    """An llvm-mca that does not end."""

    def cycles(self, blocks: Sequence[Sequence[str]]) -> list[float | None]:
        raise McaError("llvm-mca: still running after 120 s")


def test_where_cycles_come_from() -> None:
    """Blocks are asked for once; what llvm-mca does not know is approximated, and that is said."""
    timing = ProcessorTiming(A76, Counting("llvm-mca", "19.1.7", "neoverse-n1"))
    assert "blocks approximated" not in timing.model.what
    for rounds in (1000, 2000):
        count = timing.modelled(loop_count(rounds))
        # One misprediction of 11 cycles; the exit is approximated: a branch.
        assert count.cycles == pytest.approx(8 + 6 * (rounds - 1) + 11 + 1)
    assert Counting.asked == 3
    model = timing.model
    assert model.core == "cortex-a76"
    assert model.what.startswith("llvm-mca 19.1.7, model of Neoverse N1")
    assert "1 of 3 blocks approximated" in model.what
    late = ProcessorTiming(A76, Late("llvm-mca", "19.1.7", "neoverse-n1"))
    alone = ProcessorTiming(A76, None, "on purpose")
    assert late.modelled(loop_count(9)) == alone.modelled(loop_count(9))
    assert "3 of 3 blocks approximated (llvm-mca: still running after 120 s)" in late.model.what
    assert alone.model.what.startswith("approximation by")
    assert "(on purpose)" in alone.model.what
    assert "a wider error: layers" in alone.model.what
    assert "0.66 to 1.02 times what llvm-mca models" in alone.model.what


def test_without_llvm_mca(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its absence is said with what would mend it."""

    def missing(processor: object) -> Mca:
        raise ToolchainMissingError("llvm-mca is not installed; install llvm-19")

    monkeypatch.setattr(processor_module, "find_mca", missing)
    what = ProcessorTiming.best(A53).model.what
    assert what.startswith("approximation by")
    assert "(llvm-mca is not installed; install llvm-19)" in what


# One instruction per line of the tables; chains through themselves show latencies.
TABLES = """
add x0, x0, x1 | add x0, x1, x0, lsl #3 | add x0, x1, x0, asr #3 | add x0, x1, w0, sxtw
orr x0, x1, x0, lsl #9 | bfi x0, x1, #3, #4 | csel x0, x0, x1, eq | mul w0, w0, w1
mul x0, x0, x1 | smulh x0, x0, x1 | sdiv w0, w0, w1 | ldr x0, [x0] | ldr x1, [x0], #8
ldp x1, x2, [x0] | str w1, [x0] | str w1, [x0, x2] | stp x1, x2, [x0]
add v0.4s, v0.4s, v1.4s | sshll v0.8h, v0.8b, #0 | srshr v0.4s, v0.4s, #2
mul v0.4s, v1.4s, v2.4s | mul v0.2s, v0.2s, v1.2s | smull v0.8h, v0.8b, v1.8b
addv s0, v0.4s | zip1 v0.4s, v0.4s, v1.4s | dup v0.4s, w1 | mov v0.s[1], w1 | smov w0, v1.b[1]
ldr q0, [x0] | ldp q0, q1, [x0] | ld1r {v0.4s}, [x0] | str d0, [x0] | str q0, [x0]
fadd v0.4s, v0.4s, v1.4s | fmul v0.4s, v0.4s, v1.4s | fmadd s0, s0, s1, s2
fdiv s0, s0, s1 | scvtf s0, w1 | b #0 | cbz x0, #0 | ret
""".replace("\n", " | ").split(" | ")

SUMS = ["madd w0, w1, w2, w0", "madd x0, x1, x2, x0", "mla v0.4s, v1.4s, v2.4s"]
SUMS += ["smlal v0.4s, v1.4h, v2.4h", "sadalp v0.4s, v1.8h", "fmla v0.4s, v1.4s, v2.4s"]


@pytest.mark.parametrize("processor", [A72, A76], ids=lambda p: p.name)
@pytest.mark.needs("llvm-mca")
def test_tables_say_what_llvm_says(processor: Processor) -> None:
    """Alone and repeated, every kind of instruction takes what llvm-mca 19 has for it."""
    tool = find_mca(processor)
    if not tool.version.startswith("19."):
        pytest.skip("missing llvm-mca 19: apt install llvm-19")
    # LLVM's model of the N1 has the latency of every sum begin anew.
    texts = [t for t in TABLES if t] + (SUMS if processor is A72 else [])
    want = dict(zip(texts, tool.cycles([[text] for text in texts]), strict=True))
    got = {text: steady_cycles(block_of(text), processor) for text in texts}
    differ = {t: (got[t], w) for t, w in want.items() if w is None or abs(got[t] - w) > 0.02}
    assert not differ


@pytest.mark.parametrize(
    ("cpu", "models", "networks"),
    [("cortex-a72", (A53, A72), ("vww_96_int8", "ad01_int8")), ("cortex-a76", (A76,), INT8[2:3])],
    ids=["cortex-a72", "cortex-a76"],
)
@pytest.mark.needs("llvm-mca", "aarch64-linux-gnu-gcc", "litert")
def test_spread(
    data_folder: Path, cpu: str, models: tuple[Processor, ...], networks: tuple[str, ...]
) -> None:
    """Layers by both models are as far apart as the words say.

    These networks hold the layers with the lowest and the highest ratio of the four.
    """
    pairs = {m.name: (ProcessorTiming.best(m), ProcessorTiming(m, None)) for m in models}
    ratios: dict[str, list[float]] = {model.name: [] for model in models}
    for name in networks:
        emission = emission_of(path_of(data_folder, name))
        shared = shared_of(emission.library, cpu, "aarch64-linux-gnu-gcc")
        machine = SharedMachine(emission.library, replace(CPUS[cpu], processor=None), shared)
        (port,) = emission.library.inputs
        machine.write(port.offset, inputs_of(data_folder, name, 1)[0].tobytes())
        counts = [machine.count_layer(index) for index in range(len(emission.library.layers))]
        for model, timings in pairs.items():
            for timing in timings:
                # All blocks at once spare llvm-mca a start per layer.
                timing.modelled(sum(counts, Count()))
            for count in counts:
                one, other = (t.modelled(count).cycles for t in timings)
                assert one is not None
                assert other is not None
                ratios[model].append(other / one)
        machine.close()
    for model in models:
        found = np.array([min(ratios[model.name]), max(ratios[model.name])])
        assert np.abs(found - model.spread).max() < 0.02, f"{model.name}: {found}"

"""llvm-mca: AArch64 blocks by LLVM's models of processors.

It simulates a block, repeated, on the units that a model knows: no instruction fetch, no branch
prediction, no caches, and no calls (it takes 100 cycles for each, so callers give it jumps). The
difference between more and fewer repetitions is the steady state.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

from edgekit.errors import EdgekitError, ToolchainMissingError
from edgekit.targets.compiler import ToolTimeoutError, finished
from edgekit.targets.cycles.aarch64.processors import Processor

PACKAGE = "llvm-19 (Debian, Ubuntu)"
"""What provides it, for messages."""

TIMEOUT_S = 120
"""Of one process; it needs about a second for the blocks of a network."""

ROUNDS = (24, 72)
"""Repetitions of the two runs whose difference counts. A hundred and five hundred give blocks of
the networks of MLPerf Tiny at most 2.1 % more or less, and layers 0.2 %."""

_PROCESS_INSTRUCTIONS = 20_000
_NAME = re.compile(r"llvm-mca(-\d+)?")


class McaError(EdgekitError):
    """llvm-mca refused its input, crashed, or answered what nobody understands."""


@dataclass(frozen=True)
class Mca:
    """An installed llvm-mca that has a model of a processor.

    Attributes:
        command: its path.
        version: ``19.1.7``.
        cpu: what it calls the processor.
    """

    command: str
    version: str
    cpu: str

    def cycles(self, blocks: Sequence[Sequence[str]]) -> list[float | None]:
        """Cycles of each block in steady state.

        Args:
            blocks: instructions in the assembler's words, without labels.

        Returns:
            In order; None for a block that it does not understand.

        Raises:
            McaError: it does not end in time.
            ToolchainMissingError: it is gone.
        """
        fewer, more = ROUNDS
        found: list[float | None] = []
        for part in _parts(blocks):
            with ThreadPoolExecutor(len(ROUNDS)) as pool:
                short, long = pool.map(partial(self._totals, part), ROUNDS)
            for one, other in zip(short, long, strict=True):
                known = one is not None and other is not None
                found.append((other - one) / (more - fewer) if known else None)  # type: ignore[operator]
        return found

    def _totals(self, blocks: Sequence[Sequence[str]], rounds: int) -> list[int | None]:
        """Cycles of all repetitions; what spoils a process is found by halving."""
        try:
            return self._process(blocks, rounds)
        except _SpoiledError:
            if len(blocks) == 1:
                return [None]
            half = len(blocks) // 2
            return self._totals(blocks[:half], rounds) + self._totals(blocks[half:], rounds)

    def _process(self, blocks: Sequence[Sequence[str]], rounds: int) -> list[int | None]:
        lines = []
        for index, block in enumerate(blocks):
            lines += [f"# LLVM-MCA-BEGIN {index}", *block, "# LLVM-MCA-END"]
        answer = _simulated(self.command, self.cpu, "\n".join([*lines, ""]), rounds)
        try:
            summaries = {r["Name"]: r["SummaryView"] for r in answer["CodeRegions"]}
            totals = {
                int(name): int(summary["TotalCycles"])
                for name, summary in summaries.items()
                # Version 14 leaves out instructions that it does not know, and is content.
                if summary["Instructions"] == rounds * len(blocks[int(name)])
            }
        except (KeyError, TypeError, ValueError, IndexError, OverflowError) as error:
            raise _SpoiledError(f"{self.command}: unknown form of answer") from error
        return [totals.get(index) for index in range(len(blocks))]


class _SpoiledError(McaError):
    """A block among those given spoils all."""


def find_mca(processor: Processor) -> Mca:
    """The newest llvm-mca on the path that has the processor's model.

    Raises:
        ToolchainMissingError: there is none; says what is there and what would do.
    """
    others = []
    for version, command in _installed(os.environ.get("PATH", "")):
        units = _units(command, processor.mca_cpu)
        if units and all(name.startswith(processor.mca_units) for name in units):
            return Mca(command, version, processor.mca_cpu)
        others.append(f"{version} has {'another model' if units else 'none'}")
    there = f"llvm-mca {', '.join(others)}" if others else "llvm-mca is not installed"
    raise ToolchainMissingError(
        f"no model of {processor.mca_words}: {there}; install {PACKAGE} or a newer one"
    )


def newest_mca() -> str | None:
    """Version of the newest llvm-mca on the path, whatever it knows; None without one."""
    found = _installed(os.environ.get("PATH", ""))
    return found[0][0] if found else None


@cache
def _units(command: str, cpu: str) -> tuple[str, ...]:
    """Names of the units of a model; none where llvm-mca does not answer."""
    try:
        answer = _simulated(command, cpu, "nop\n", 1)
        return tuple(str(name) for name in answer["TargetInfo"]["Resources"])
    except (EdgekitError, KeyError, TypeError):
        return ()


@cache
def _installed(path: str) -> list[tuple[str, str]]:
    """Version and path of every llvm-mca in the folders of `path`, the newest first."""
    found: dict[str, str] = {}
    for folder in path.split(os.pathsep):
        names = sorted(Path(folder).glob("llvm-mca*")) if folder else []
        for command in names:
            if not _NAME.fullmatch(command.name) or not os.access(command, os.X_OK):
                continue
            try:
                answer = _run((str(command), "--version"), "")
            except EdgekitError:
                continue
            version = re.search(r"LLVM version (\d+(?:\.\d+)*)", answer)
            if version is not None:
                found.setdefault(version[1], str(command))
    return sorted(found.items(), key=lambda entry: _numbers(entry[0]), reverse=True)


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))


def _simulated(command: str, cpu: str, text: str, rounds: int) -> Any:
    """What llvm-mca answers, as plain data."""
    answer = _run(
        (
            command,
            "--mtriple=aarch64-linux-gnu",
            f"--mcpu={cpu}",
            f"--iterations={rounds}",
            "--json",
            "--instruction-info=0",
            "--resource-pressure=0",
        ),
        text,
    )
    try:
        return json.loads(answer)
    except (ValueError, RecursionError) as error:
        raise _SpoiledError(f"{command}: no JSON") from error


def _run(command: Sequence[str], text: str) -> str:
    try:
        done = finished(command, text=text, timeout_s=TIMEOUT_S)
    except ToolTimeoutError as error:
        raise McaError(str(error)) from error
    if done.returncode != 0:
        raise _SpoiledError(f"{command[0]} failed ({done.returncode}): {done.stderr.strip()}")
    return done.stdout


def _parts(blocks: Sequence[Sequence[str]]) -> Iterator[list[Sequence[str]]]:
    """Blocks in order, not too many instructions at once."""
    part: list[Sequence[str]] = []
    size = 0
    for block in blocks:
        if part and size + len(block) > _PROCESS_INSTRUCTIONS:
            yield part
            part, size = [], 0
        part.append(block)
        size += len(block)
    if part:
        yield part

"""Modelled cycles beside those of manuals, and modelled latency beside published latency.

::

    python benchmarks/cycles.py                     # writes results/cycles.json
    python benchmarks/cycles.py --images FOLDER     # with the published cases

Kinds of rows: ``micro-kernel``, a few instructions at zero wait states, counted by hand from
manuals; ``flash``, the same from flash with 0, 2 and 5 wait states; ``published``, networks that
others measured on boards. `error` is relative, modelled / expected - 1. Where a manual gives a
range, `expected` is [lowest, highest], and the error null if the modelled figure lies within.
`assumed` marks counts by the table of another core: the model has that table as well, so that they
agree by construction.

The published cases need images of other people's code (see ``published.py``). Without them a file
that has such rows is left alone.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from flash_table import FLASH_CASES, WAIT_STATES, FlashCase
from micro_kernels import Hand, MicroKernel, measure, of_core
from micro_table import MICRO_KERNELS
from published import PUBLISHED, row
from results_file import ROOT, write

from edgekit.bench.costs import KnownError
from edgekit.targets.cores import CORES
from edgekit.targets.cycles.costs import MODEL_VERSION
from edgekit.targets.target import Target, target
from edgekit.targets.toolchain import Toolchain, find_toolchain

Row = dict[str, Any]


def micro_rows(toolchain: Toolchain, folder: Path) -> Iterator[Row]:
    """Kernels at zero wait states on every core that one is counted for."""
    for core in CORES:
        own = of_core(MICRO_KERNELS, core)
        if own:
            got = measure(own, target(core), folder=folder / core, toolchain=toolchain)
            for kernel in own:
                yield counted("micro-kernel", kernel, kernel.hand[core], got, target(core))


def flash_rows(toolchain: Toolchain, folder: Path) -> Iterator[Row]:
    """Kernels from flash, by what stands before it and by wait states."""
    for flash in dict.fromkeys(case.flash for case in FLASH_CASES):
        own: list[FlashCase] = [case for case in FLASH_CASES if case.flash == flash]
        for wait_states in WAIT_STATES:
            board = flash.board(wait_states)
            kernels = [case.kernel for case in own]
            got = measure(kernels, board, folder=folder / board.name, toolchain=toolchain)
            for case in own:
                yield counted("flash", case.kernel, case.hand[wait_states], got, board)


def counted(
    kind: str, kernel: MicroKernel, hand: Hand, got: Mapping[str, float], where: Target
) -> Row:
    """The row of a kernel that was counted by hand."""
    modelled = got[kernel.name]
    error = hand.error(modelled)
    return {
        "kind": kind,
        "case": kernel.name,
        "core": where.cortex.name,
        "board": None if where.board is None else where.name,
        "unit": "cycles per copy or round",
        "modelled": round(modelled, 4),
        "expected": hand.low if hand.is_exact else [hand.low, hand.high],
        "source": hand.why,
        "error": round(error, 4) if hand.is_exact or error else None,
        "assumed": hand.is_assumed,
    }


def known_errors(rows: Iterable[Row]) -> dict[str, KnownError]:
    """Lowest and highest error of the published cases, by core.

    >>> known_errors([{"kind": "published", "core": "m4", "board": "b", "error": -0.1}])
    {'m4': KnownError(low=-0.1, high=-0.1, cases=1, boards=('b',))}
    """
    cases: dict[str, list[Row]] = {}
    for entry in rows:
        if entry["kind"] == "published":
            cases.setdefault(entry["core"], []).append(entry)
    found = {}
    for core, own in cases.items():
        errors = [entry["error"] for entry in own]
        boards = tuple(dict.fromkeys(entry["board"] for entry in own))
        found[core] = KnownError(min(errors), max(errors), len(own), boards)
    return found


def has_published(path: Path) -> bool:
    """Whether a results file has rows that need images."""
    if not path.is_file():
        return False
    rows = json.loads(path.read_text(encoding="utf-8"))["rows"]
    return any(entry["kind"] == "published" for entry in rows)


def main() -> int:
    """Write one row per case; 1 where rows would be lost."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=Path)
    parser.add_argument("--output", type=Path, default=ROOT / "results" / "cycles.json")
    given = parser.parse_args()
    if given.images is None:
        sys.stderr.write("without --images there are no rows of these published cases:\n")
        sys.stderr.writelines(f"  {published.case}\n" for published in PUBLISHED)
        if has_published(given.output):
            sys.stderr.write(f"{given.output} has them and stays as it is\n")
            return 1
    elif missing := [p.case for p in PUBLISHED if not (given.images / f"{p.case}.elf").is_file()]:
        sys.stderr.write(f"{given.images} has no image of {', '.join(missing)}\n")
        return 1
    toolchain = find_toolchain()
    with tempfile.TemporaryDirectory() as temporary:
        rows = [*micro_rows(toolchain, Path(temporary)), *flash_rows(toolchain, Path(temporary))]
    for published in PUBLISHED if given.images is not None else ():
        rows.append(row(published, given.images))
        last = rows[-1]
        sys.stderr.write(f"{last['case']}: {last['modelled']} ms, {last['error']:+.1%}\n")
    write(
        given.output,
        rows,
        command="python benchmarks/cycles.py --images FOLDER",
        seed=0,
        model_version=MODEL_VERSION,
        toolchain=toolchain.version,
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())

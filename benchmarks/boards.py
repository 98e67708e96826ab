"""The four MLPerf Tiny networks on every board whose latency is modelled.

::

    python benchmarks/boards.py --data FOLDER    # writes results/boards.json

Portable C kernels, int8, one seeded input. Latency is modelled, energy estimated; null where
nothing trustworthy is known.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

from reference_models import MODELS
from results_file import arguments, write

import edgekit
from edgekit.errors import DoesNotFitError
from edgekit.targets.target import ARM_CPU, MICROCONTROLLER, builtin_targets

SEED = 0


def boards() -> list[str]:
    """Targets with a clock and something that models the cycles of their processor."""
    return [
        found.name
        for found in builtin_targets().values()
        if found.family in (MICROCONTROLLER, ARM_CPU) and found.clock_hz is not None
    ]


def row(model: Path, board: str, folder: Path) -> dict[str, Any]:
    """Export and model one network on one board; figures are null where it does not fit."""
    key = {"model": model.stem, "board": board}
    try:
        artifact = edgekit.export(model, target=board, output=folder)
    except DoesNotFitError as error:
        return {**key, "fits": False, "because": str(error)}
    run = artifact.bench(seed=SEED).subject
    energy, build = run.energy_uj, artifact.manifest.build
    assert build is not None
    assert run.cycle_model is not None
    assert run.causes is not None or artifact.target.family == ARM_CPU
    causes = {} if run.causes is None else vars(run.causes)
    return {
        **key,
        "fits": True,
        "device": run.device,
        "clock_hz": run.clock_hz,
        "instructions": run.instructions,
        "cycles": run.cycles,
        **{f"cycles_{cause}": value for cause, value in causes.items()},
        "latency_ms": None if run.latency_ms is None else run.latency_ms.p50,
        "energy_uj": None if energy is None else energy.gross_uj,
        "energy_low_uj": None if energy is None else energy.low_uj,
        "energy_high_uj": None if energy is None else energy.high_uj,
        "provenance": run.origin("modelled"),
        "model_of_cycles": run.cycle_model.what,
        "memory": run.cycle_model.memory,
        "toolchain": build.version,
        "flags": " ".join(build.flags),
    }


def main() -> int:
    """Write one row per network and board."""
    given = arguments(__doc__, "boards").parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as temporary:
        for name in MODELS:
            for board in boards():
                model = given.data / "models" / "mlperf_tiny" / f"{name}.tflite"
                rows.append(row(model, board, Path(temporary) / name / board))
                sys.stderr.write(f"{name} {board}: {rows[-1].get('latency_ms')} ms\n")
    write(given.output, rows, command="python benchmarks/boards.py --data $EDGEKIT_DATA", seed=SEED)
    return 0


if __name__ == "__main__":
    sys.exit(main())

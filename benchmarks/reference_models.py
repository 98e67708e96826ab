"""The four MLPerf Tiny networks on every emulated core: instructions, memory, exactness.

::

    python benchmarks/reference_models.py --data FOLDER    # writes results/reference_models.json

Instruction counts are exact for the named compiler; cycles are modelled at zero wait states.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from results_file import arguments, write

import edgekit
from edgekit.deploy.artifact import Artifact

CORES = ("cortex-m0plus", "cortex-m3", "cortex-m4", "cortex-m7", "cortex-m33")
SAMPLES = 20
SEED = 0

MODELS = {
    "kws_dscnn_int8": "kws/gsc_test_mfcc.npz",
    "ic_resnet8_int8": "images/cifar10_lossless_calib500.npz",
    "vww_96_int8": None,
    "ad01_int8": None,
}
"""Model and its real inputs; None where only seeded inputs are at hand."""


def inputs_for(artifact: Artifact, file: Path | None) -> dict[str, np.ndarray]:
    """The first samples of a file, or seeded ones."""
    if file is not None:
        with np.load(file) as arrays:
            key = "X" if "X" in arrays else "x"
            return {"x": arrays[key][:SAMPLES], "y": arrays["y"][:SAMPLES].astype(np.int64)}
    shape = artifact.program.inputs[0].source_shape
    rng = np.random.default_rng(SEED)
    return {"x": rng.integers(-128, 128, (SAMPLES, *shape)).astype(np.int8)}


def row(model: Path, data: Path | None, core: str, folder: Path) -> dict[str, Any]:
    """Export, verify and count one network on one core."""
    artifact = edgekit.export(model, target=core, output=folder / core)
    samples = inputs_for(artifact, data)
    verified = artifact.verify(samples, limit=SAMPLES)
    run = artifact.bench(samples).subject
    memory, build = artifact.manifest.memory, artifact.manifest.build
    assert build is not None
    assert memory is not None
    assert run.instructions is not None
    assert run.macs is not None
    return {
        "model": model.stem,
        "core": core,
        "macs": run.macs,
        "instructions": run.instructions,
        "instructions_per_mac": round(run.instructions / run.macs, 3),
        "modelled_cycles": run.cycles,
        "arena_bytes": memory.activations,
        "weights_bytes": memory.weights,
        "code_bytes": memory.code,
        "runtime_bytes": memory.runtime,
        "stack_bytes": run.stack_bytes,
        "samples": verified.samples,
        "input": "real" if data is not None else f"seeded {SEED}",
        "bit_identical": verified.identical,
        "toolchain": build.version,
        "flags": " ".join(build.flags),
    }


def main() -> int:
    """Write one row per model and core."""
    given = arguments(__doc__, "reference_models").parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as temporary:
        for name, data in MODELS.items():
            for core in CORES:
                model = given.data / "models" / "mlperf_tiny" / f"{name}.tflite"
                file = given.data / data if data else None
                rows.append(row(model, file, core, Path(temporary) / name))
                last = rows[-1]
                sys.stderr.write(
                    f"{name} {core}: {last['instructions_per_mac']} instructions/MAC, "
                    f"identical {last['bit_identical']}\n"
                )
    write(
        given.output,
        rows,
        command="python benchmarks/reference_models.py --data $EDGEKIT_DATA",
        seed=SEED,
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())

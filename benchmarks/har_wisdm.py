"""Human activity recognition on WISDM watch windows, from torch to all three families.

::

    python benchmarks/har_wisdm.py --data FOLDER             # trains, writes results/har_wisdm.json
    python benchmarks/har_wisdm.py --data FOLDER --runs DIR  # keeps the trainings, or takes them

Every figure is over the whole test part. "exact" compares the deployed code with the interpreter,
bit for bit; runtimes that requantise in float are compared by rate, step and top-1.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

from results_file import arguments, write

import edgekit
from edgekit.deploy.verification import VerifyReport
from edgekit.zoo import train
from edgekit.zoo.result import TrainResult

NETWORK = "har-cnn"
FACTORY = "edgekit.zoo:har_cnn"
DATA = "har/wisdm_watch7_w40.npz"
SPLITS = ("subject", "random")
WAYS = (
    ("x86-64", "local", "c"),
    ("x86-64", "local", "onnxruntime"),
    ("x86-64", "local", "litert"),
    ("nucleo-l4r5zi", "emulator", "c"),
    ("raspberry-pi-5", "emulator", "c"),
    ("aarch64", "emulator", "c"),
    ("jetson-orin-nano", None, None),
)
"""Target, device and back end; a Jetson's model runs in ONNX Runtime here."""

SEED = 0


def trained(split: str, data: Path, runs: Path) -> TrainResult:
    """A training with the network's own recipe; one that is there already is taken."""
    folder = runs / f"{NETWORK}-{split}"
    metrics = folder / "metrics.json"
    if metrics.is_file():
        return TrainResult.from_json(metrics.read_text(encoding="utf-8"))
    return train(NETWORK, {"split": split, "seed": SEED}, output=folder, data=data, threads=1)


def row(
    split: str,
    result: TrainResult,
    run: Path,
    way: tuple[str, str | None, str | None],
    folder: Path,
) -> dict[str, Any]:
    """Export for one target and verify on one device over every test window."""
    target, device, backend = way
    artifact = edgekit.export(
        FACTORY,
        weights=run / "model.safetensors",
        calibration=run / "calibration.npz",
        preprocessing=run / "preprocessing.json",
        target=target,
        output=folder / split / target,
        seed=SEED,
    )
    report = artifact.verify(run / "test.npz", device=device, backend=backend, limit=result.test.n)
    assert report.accuracy is not None
    assert report.float_accuracy is not None
    memory = artifact.manifest.memory
    return {
        "split": split,
        "target": target,
        "device": report.device,
        "backend": report.backend,
        "test_windows": report.samples,
        "float_accuracy": round(report.float_accuracy, 5),
        "int8_accuracy": round(report.accuracy, 5),
        "points_lost": round(100 * (report.float_accuracy - report.accuracy), 3),
        **agreement(report),
        "macs": sum(layer.macs for layer in artifact.manifest.layers) or None,
        "arena_bytes": memory.activations if memory else None,
        "weights_bytes": memory.weights if memory else None,
        "torch_accuracy": round(result.test.accuracy, 5),
        "training_seconds": round(result.seconds, 1),
        "training_threads": result.threads,
    }


def agreement(report: VerifyReport) -> dict[str, Any]:
    """How the outputs agree with the exact reference; nothing where there is none."""
    if not report.outputs:
        return {"exact": None, "mismatch_rate": None, "largest_step": None, "top1_changes": None}
    (output,) = report.outputs
    return {
        "exact": report.identical,
        "mismatch_rate": round(output.mismatch_rate, 6),
        "largest_step": output.largest_step,
        "top1_changes": output.top1_changes,
    }


def main() -> int:
    """Write one row per split and way."""
    parser = arguments(__doc__, "har_wisdm")
    parser.add_argument("--runs", type=Path, default=None, help="folder of the trainings")
    given = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as temporary:
        runs = given.runs or Path(temporary)
        for split in SPLITS:
            result = trained(split, given.data / DATA, runs)
            for way in WAYS:
                run = runs / f"{NETWORK}-{split}"
                rows.append(row(split, result, run, way, Path(temporary)))
                last = rows[-1]
                sys.stderr.write(
                    f"{split} {last['target']} {last['device']} {last['backend']}: "
                    f"float {last['float_accuracy']}, int8 {last['int8_accuracy']}, "
                    f"exact {last['exact']}\n"
                )
    write(
        given.output,
        rows,
        command="python benchmarks/har_wisdm.py --data $EDGEKIT_DATA",
        seed=SEED,
        libraries=("torch", "onnxruntime", "ai-edge-litert"),
        provenance="measured: counted over every test window",
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())

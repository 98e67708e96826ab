"""Whether trained spiking networks run on every core as they do in torch: to the bit, and nearly.

::

    python benchmarks/spiking_exactness.py --data FOLDER             # after har_study.py
    python benchmarks/spiking_exactness.py --data FOLDER --runs DIR  # its trainings lie elsewhere
    python benchmarks/spiking_exactness.py --data FOLDER --rounded   # float weights, rounded, too

One row for every finished training of a spiking network. 200 test windows go step by step through
the interpreter, C on this machine and three emulated cores: `differing_...` counts values of
outputs, membranes, currents, counts and spikes, after every step, that differ from the
interpreter's in any bit. In float32 the network's neurons are held against snnTorch's and ONNX
Runtime's over more windows: `..._windows_differing` have at least one spike that is not theirs, and
`..._largest_distance` is the largest |membrane - threshold| of the neurons that these begin with.
`class_agreement` is that of what is deployed with the module that it was made of, over every test
window; `fp32_agreement` that with the float training it began with.

Rows are written one by one: a run that is interrupted goes on where it stopped.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from har_study import scores_of, torch_scores
from har_training import Job, jobs
from results_file import arguments, write
from spiking_runs import (
    Run,
    SpikingModule,
    Windows,
    batched,
    device_run,
    differing,
    folded,
    interpreted,
    onnx_run,
    scan_scores,
    simulated,
    snntorch_run,
    thresholds,
)

import edgekit
from edgekit.deploy.artifact import Artifact
from edgekit.program.ir import Array, Program
from edgekit.spiking import SpikingGraph
from edgekit.spiking.drift import Drift, compare_traces
from edgekit.targets.c.emit import emit
from edgekit.targets.emulated import EmulatedMachine
from edgekit.targets.host import HostMachine
from edgekit.targets.image import build_image
from edgekit.targets.target import target
from edgekit.version import edgekit_version
from edgekit.zoo import read_run
from edgekit.zoo.quantized import SpikingNetwork

CORES = ("cortex-m0plus", "cortex-m4", "cortex-m33")
WINDOWS = 200
REFERENCE_WINDOWS = 1000
"""Test windows, spread evenly, for the cores, and for the other frameworks."""

PIECE = 200
"""Windows whose neurons are kept at a time."""

ELEMENTS = {"w8": "int8", "w158": "ternary", "shift3": "shift3"}
"""What precisions of the study are at an export."""

SECONDS = {True: 240.0, False: 60.0}
"""What a row is expected to take, of a float network and of another, until some were measured."""


@dataclass(frozen=True, order=True)
class Task:
    """One row.

    Attributes:
        job: of the study, whose training is taken.
        rounded: precision that its float weights are rounded to; empty for weights as trained.
    """

    job: Job
    rounded: str = ""

    @property
    def precision(self) -> str:
        """Of what is deployed."""
        return self.rounded or self.job.precision


def tasks(runs: Path, *, rounded: bool) -> Iterator[Task]:
    """Every finished training of a spiking network."""
    for job in jobs():
        if job.network in ("cnn", "lmu") or not (runs / job.folder / "metrics.json").is_file():
            continue
        yield Task(job)
        if rounded and job.precision == "fp32":
            yield from (Task(job, precision) for precision in ELEMENTS)


def spread(values: Array, count: int) -> Array:
    """At most so many of them, spread evenly."""
    return values[np.linspace(0, len(values) - 1, min(count, len(values))).astype(int)]


def on_devices(program: Program, windows: Windows, folder: Path) -> dict[str, Any]:
    """How many values differ from the interpreter's, on every device."""
    want = interpreted(program, windows)
    found = {"batched": differing(want, batched(program, windows))}
    here = emit(program, version=edgekit_version())
    machine = HostMachine(here.library)
    try:
        found["host_c"] = differing(want, device_run(machine, here, windows))
    finally:
        machine.close()
    for core in CORES:
        found[core.replace("-", "_")] = differing(want, emulated(program, windows, core, folder))
    return {
        "values": sum(values.size for values in want.values()),
        **{f"differing_{device}": count for device, count in found.items()},
    }


def emulated(program: Program, windows: Windows, core: str, folder: Path) -> Run:
    """The same on an emulated core."""
    where = target(core)
    made = emit(program, features=where.features, version=edgekit_version())
    image = build_image(made.library, where, folder=folder / core)
    image.require_fit()
    machine = EmulatedMachine(image.library, where, image.elf)
    try:
        return device_run(machine, made, windows)
    finally:
        machine.close()


def against_references(module: SpikingModule, graph: SpikingGraph, x: Array) -> dict[str, Any]:
    """Neurons in float32, held against those of snnTorch and ONNX Runtime."""
    limits = thresholds(graph)
    drifts: dict[str, list[Drift]] = {"snntorch": [], "onnxruntime": []}
    scanned = 0
    for begin in range(0, len(x), PIECE):
        piece = x[begin : begin + PIECE]
        ours, _ = simulated(graph, piece)
        traces, _ = snntorch_run(module, piece)
        drifts["snntorch"].append(compare_traces(traces, ours, limits))
        traces, stepped = onnx_run(graph, piece)
        drifts["onnxruntime"].append(compare_traces(traces, ours, limits))
        scanned += int((scan_scores(graph, piece) != stepped).any(axis=(1, 2)).sum())
    found: dict[str, Any] = {
        "reference_windows": len(x),
        "neurons": drifts["snntorch"][0].neurons,
        "spikes": sum(drift.spikes for drift in drifts["snntorch"]),
    }
    for name, parts in drifts.items():
        firsts = [drift.first.distance for drift in parts if drift.first is not None]
        found[f"{name}_windows_differing"] = sum(drift.differing_windows for drift in parts)
        found[f"{name}_spikes_differing"] = sum(drift.differing for drift in parts)
        found[f"{name}_largest_distance"] = max(firsts, default=None)
        found[f"{name}_membrane_difference"] = max(d.membrane_difference for d in parts)
    return found | {"scan_windows_differing": scanned}


def exported(task: Task, run: Path, module: SpikingModule, folder: Path) -> Artifact:
    """The step as it is deployed; every target has the same Program."""
    asked = {"precision": ELEMENTS[task.rounded]} if task.rounded else {}
    calibration = run / "calibration.npz"
    where = folder / "artifact"
    return edgekit.export(
        module, target="host", calibration=calibration, output=where, name="har", **asked
    )


def row(task: Task, runs: Path) -> dict[str, Any]:
    """Everything about one training."""
    begin = time.perf_counter()
    job, run = task.job, runs / task.job.folder
    _, model = read_run(run)
    assert isinstance(model, SpikingNetwork)
    module = folded(model)
    with np.load(run / "test.npz") as stored:
        x, y = stored["x"], stored["y"]
    own = torch_scores(model, module.samples(x)).argmax(1)
    start = runs / Job(job.network, "fp32", job.split, job.seed).folder
    fp32 = torch_scores(read_run(start)[1], module.samples(x)).argmax(1)
    with tempfile.TemporaryDirectory() as temporary:
        artifact = exported(task, run, module, Path(temporary))
        given = scores_of(artifact, x).argmax(1)
        codes, _ = artifact.samples({"x": spread(x, WINDOWS)})
        devices = on_devices(artifact.program, codes.inputs, Path(temporary))
    references: dict[str, Any] = {}
    if not task.rounded:
        references = against_references(module, module.graph(), spread(x, REFERENCE_WINDOWS))
    return {
        "network": job.network,
        "precision": task.precision,
        "weights": "rounded" if task.rounded else "trained",
        "split": job.split,
        "seed": job.seed,
        "windows": len(codes),
        "steps": codes.steps,
        **devices,
        **references,
        "test_windows": len(x),
        "class_agreement": round(float((given == own).mean()), 5),
        "fp32_agreement": round(float((given == fp32).mean()), 5),
        "accuracy": round(float((given == y).mean()), 5),
        "seconds": round(time.perf_counter() - begin, 1),
    }


def finished(path: Path) -> dict[Task, dict[str, Any]]:
    """Rows that an earlier run wrote."""
    if not path.is_file():
        return {}
    found = {}
    for kept in json.loads(path.read_text(encoding="utf-8"))["rows"]:
        is_rounded = kept["weights"] == "rounded"
        precision = "fp32" if is_rounded else kept["precision"]
        job = Job(kept["network"], precision, kept["split"], kept["seed"])
        found[Task(job, kept["precision"] if is_rounded else "")] = kept
    return found


def predicted_seconds(pending: list[Task], known: dict[Task, dict[str, Any]]) -> float:
    """The mean of rows of the same network and kind, else :data:`SECONDS`."""
    total = 0.0
    for task in pending:
        is_float = task.precision == "fp32"
        like = [
            kept["seconds"]
            for other, kept in known.items()
            if other.job.network == task.job.network and (other.precision == "fp32") == is_float
        ]
        total += float(np.mean(like)) if like else SECONDS[is_float]
    return total


def main() -> int:
    """Write every row that is not there yet."""
    parser = arguments(__doc__, "spiking_exactness")
    parser.add_argument("--runs", type=Path, default=Path("runs/har"), help="folder of trainings")
    parser.add_argument("--rounded", action="store_true", help="rows of rounded float weights, too")
    parser.add_argument("--only", default="", help="text that a training's name must contain")
    given = parser.parse_args()
    torch.set_num_threads(1)
    known = finished(given.output)
    pending = [
        task
        for task in tasks(given.runs, rounded=given.rounded)
        if task not in known and given.only in task.job.folder
    ]
    minutes = predicted_seconds(pending, known) / 60
    sys.stderr.write(f"{len(pending)} rows to do, about {minutes:.0f} minutes\n")
    for task in pending:
        known[task] = row(task, given.runs)
        write(
            given.output,
            [known[key] for key in sorted(known)],
            command="python benchmarks/spiking_exactness.py --data $EDGEKIT_DATA",
            seed=0,
            libraries=("torch", "snntorch", "onnxruntime"),
            provenance=f"compared over real test windows: {WINDOWS} on devices, emulated cores "
            f"among them, {REFERENCE_WINDOWS} with other frameworks, all of them for classes",
        )
        sys.stderr.write(f"{json.dumps(known[task])}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Spiking and other networks for activity recognition, in four precisions, on two splits.

::

    python benchmarks/har_study.py --data FOLDER              # trains: hours on two cores
    python benchmarks/har_study.py --data FOLDER --runs DIR   # keeps the trainings, or takes them
    python benchmarks/har_study.py --data FOLDER --only lmu   # rows of one network

Every row is written as it is finished, and every epoch leaves a checkpoint: a run that is
interrupted goes on where it stopped. `accuracy` is that of the network that is deployed, integers
where its weights are, over every test window; the batched Program computes them, which equals the
generated C to the bit (``benchmarks/spiking_exactness.py``). `float_accuracy` is that of the
trained torch module. Cycles are modelled for one window on a Cortex-M4.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
import traceback
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from har_training import Job, is_trained, jobs, trained
from numpy.typing import NDArray
from results_file import arguments, write
from torch import nn

import edgekit
from edgekit.deploy.artifact import Artifact
from edgekit.deploy.spikes import count_spikes
from edgekit.deploy.window import profile_windows
from edgekit.program.ir import Boundary, Tensor
from edgekit.quantize import convert
from edgekit.quantize.converted.batched import BatchedProgram
from edgekit.quantize.training.prepared import PreparedModule
from edgekit.spiking.layers.lmu import LMU
from edgekit.zoo import read_run
from edgekit.zoo.quantized import SpikingNetwork, Stepping

BOARD = "nucleo-l4r5zi"
COUNTED_WINDOWS = 4
"""Test windows, spread evenly, that are counted instruction by instruction."""

LMU_STATE = {"h": "output_1", "m": "output_2"}
"""What a step of the LMU returns behind its scores."""

SPIKE_WINDOWS = 64
"""First test windows that spikes are counted over."""

BATCH = 512
SECONDS = {"fp32": 400.0, "quantised": 150.0}
"""What a training is expected to take on one core, until some were measured."""


def scores_of(artifact: Artifact, windows: NDArray[np.float32]) -> Any:
    """Scores of windows, after their last step where the network has steps, in its own codes."""
    program = artifact.program
    batched = BatchedProgram(program)
    (boundary,) = program.inputs
    tensor, output = program.tensors[boundary.tensor], program.outputs[0].tensor
    codes = quantized(windows, tensor)
    found = []
    for begin in range(0, len(codes), BATCH):
        x = torch.from_numpy(codes[begin : begin + BATCH])
        state, steps = None, (x.unbind(1) if program.state else (x,))
        for step in steps:
            values, state = batched({tensor.name: laid_out(step, boundary, tensor)}, state)
        found.append(values[output].flatten(1))
    return torch.cat(found).numpy()


def quantized(windows: NDArray[np.float32], tensor: Tensor) -> NDArray[Any]:
    """Real samples as an input takes them."""
    if tensor.quantization is None:
        return windows
    low, high = tensor.dtype.limits
    scale, zero = tensor.quantization.scalar_scale, tensor.quantization.scalar_zero_point
    codes = np.rint(windows / np.float32(scale)) + zero
    return np.clip(codes, low, high).astype(tensor.dtype.numpy)


def laid_out(x: torch.Tensor, boundary: Boundary, tensor: Tensor) -> torch.Tensor:
    """Samples in the Program's order of axes, [S, *shape]."""
    x = x.reshape(len(x), *boundary.source_shape)
    if boundary.permutation is not None:
        x = x.permute(0, *(axis + 1 for axis in boundary.permutation))
    return x.reshape(len(x), *tensor.shape)


def torch_scores(model: nn.Module, x: NDArray[np.float32]) -> Any:
    """Scores of the trained module itself."""
    with torch.no_grad():
        pieces = torch.from_numpy(x).split(BATCH)
        return torch.cat([model(piece) for piece in pieces]).numpy()


def macro_f1(given: NDArray[np.int64], y: NDArray[np.int64]) -> float:
    """Mean over classes of the harmonic mean of precision and recall."""
    f1 = []
    for label in np.unique(y):
        hits = int(((given == label) & (y == label)).sum())
        f1.append(2 * hits / max(1, int((given == label).sum()) + int((y == label).sum())))
    return float(np.mean(f1))


def exported(model: nn.Module, run: Path, folder: Path) -> Artifact:
    """The artifact for the board."""
    common = {"target": BOARD, "output": folder, "name": "har"}
    calibration = run / "calibration.npz"
    if isinstance(model, SpikingNetwork):
        return edgekit.export(model, calibration=calibration, **common)
    if isinstance(model, LMU):
        if isinstance(model.step, PreparedModule):
            return edgekit.export(convert(model.step, state=LMU_STATE), **common)
        example = torch.zeros(1, model.channels), *model.zeros(1)
        return edgekit.export(model.step, example, state=LMU_STATE, precision="fp32", **common)
    if isinstance(model, PreparedModule):
        return edgekit.export(convert(model), **common)
    with np.load(calibration) as stored:
        return edgekit.export(model, stored["x"][:1], precision="fp32", **common)


def cycles_of(artifact: Artifact, windows: NDArray[np.float32]) -> float:
    """Modelled cycles of a window: the mean, all steps and what is carried between them."""
    samples, _ = artifact.samples({artifact.program.inputs[0].name: windows})
    with artifact.open("emulator") as session:
        if samples.steps is None:
            layers = [layer for sample in samples for layer in session.profile(sample).layers]
            return sum(layer.cycles or 0.0 for layer in layers) / len(samples)
        sequences = [
            [{name: values[t] for name, values in sample.items()} for t in range(samples.steps)]
            for sample in samples
        ]
        profile, _ = profile_windows(session, sequences)
    return sum(layer.cycles or 0.0 for layer in profile.layers)


def spikes_of(artifact: Artifact, windows: NDArray[np.float32]) -> dict[str, float | None]:
    """Spikes per neuron and step, and synaptic operations of a window; None without spikes."""
    record = artifact.manifest.spiking
    if record is None:
        return {"spike_rate": None, "synaptic_ops": None}
    samples, _ = artifact.samples({artifact.program.inputs[0].name: windows}, SPIKE_WINDOWS)
    found = count_spikes(artifact.program, record, samples)
    neurons = sum(p.neurons for p in found.populations if p.spike_rate is not None)
    spikes = sum(p.neurons * p.spike_rate for p in found.populations if p.spike_rate is not None)
    operations = record.steps * sum(s.synaptic_ops for s in found.synapses)
    return {"spike_rate": round(spikes / neurons, 5), "synaptic_ops": round(operations)}


def row(job: Job, data: Path, runs: Path) -> dict[str, Any]:
    """Train what is missing, then measure what would be deployed, on one core."""
    torch.set_num_threads(1)
    begin = time.perf_counter()
    run = trained(job, data, runs)
    metrics = json.loads((run / "metrics.json").read_text(encoding="utf-8"))
    _, model = read_run(run)
    with np.load(run / "test.npz") as stored:
        windows, y = stored["x"], stored["y"]
    stepping = isinstance(model, Stepping)
    float_given = torch_scores(model, model.samples(windows) if stepping else windows).argmax(1)
    with tempfile.TemporaryDirectory() as folder:
        artifact = exported(model, run, Path(folder) / "artifact")
        given = scores_of(artifact, windows).argmax(1)
        chosen = np.linspace(0, len(windows) - 1, COUNTED_WINDOWS).astype(int)
        cycles = cycles_of(artifact, windows[chosen])
        spikes = spikes_of(artifact, windows)
        memory = artifact.manifest.memory
        assert memory is not None
    return {
        "network": job.network,
        "precision": job.precision,
        "split": job.split,
        "seed": job.seed,
        "accuracy": round(float((given == y).mean()), 5),
        "macro_f1": round(macro_f1(given, y), 5),
        "float_accuracy": round(float((float_given == y).mean()), 5),
        "agreement": round(float((given == float_given).mean()), 5),
        "parameters": parameters_of(job, runs),
        "bytes": memory.weights,
        "state_bytes": memory.state,
        **spikes,
        "cycles_m4": round(cycles),
        "epochs": metrics["epochs"],
        "training_seconds": metrics["seconds"],
        "seconds": round(time.perf_counter() - begin, 1),
    }


def parameters_of(job: Job, runs: Path) -> int:
    """Of the float network: some formats train several numbers for a weight."""
    start = runs / replace(job, precision="fp32").folder / "metrics.json"
    return int(json.loads(start.read_text(encoding="utf-8"))["parameters"])


def key(row: dict[str, Any]) -> Job:
    """The job of a row."""
    return Job(*(row[name] for name in ("network", "precision", "split", "seed")))


def finished(path: Path) -> dict[Job, dict[str, Any]]:
    """Rows that an earlier run wrote."""
    if not path.is_file():
        return {}
    rows = json.loads(path.read_text(encoding="utf-8"))["rows"]
    return {key(row): row for row in rows}


def predicted_seconds(pending: list[Job], known: dict[Job, dict[str, Any]]) -> float:
    """Work on one core: the mean of rows of the same network and kind, else :data:`SECONDS`."""
    total = 0.0
    for job in pending:
        is_float = job.precision == "fp32"
        like = [
            row["training_seconds"]
            for other, row in known.items()
            if other.network == job.network and (other.precision == "fp32") == is_float
        ]
        total += float(np.mean(like)) if like else SECONDS["fp32" if is_float else "quantised"]
    return total


def main() -> int:
    """Write every row that is not there yet."""
    parser = arguments(__doc__, "har")
    parser.add_argument("--runs", type=Path, default=Path("runs/har"), help="folder of trainings")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--only", default="", help="text that a row's name must contain")
    parser.add_argument("--trained", action="store_true", help="only trainings that are there")
    given = parser.parse_args()
    known = finished(given.output)
    order = {job: number for number, job in enumerate(jobs())}
    pending = [job for job in order if job not in known and given.only in job.folder]
    if given.trained:
        pending = [job for job in pending if is_trained(job, given.runs)]
    minutes = predicted_seconds(pending, known) / given.workers / 60
    sys.stderr.write(f"{len(pending)} rows to do, about {minutes:.0f} minutes\n")
    given.runs.mkdir(parents=True, exist_ok=True)
    failed: list[Job] = []
    with ProcessPoolExecutor(given.workers, mp_context=get_context("spawn")) as pool:
        # Fine tuning begins from the float trainings, also from those whose rows are known.
        begins = {replace(job, precision="fp32") for job in pending}
        floats = [
            job
            for job in order
            if job in begins and (job in pending or not is_trained(job, given.runs))
        ]
        for stage in (floats, [job for job in pending if job not in floats]):
            futures = {pool.submit(row, job, given.data, given.runs): job for job in stage}
            for future in as_completed(futures):
                job, error = futures[future], future.exception()
                if error is not None:  # the other rows are worth having
                    failed.append(job)
                    traceback.print_exception(error)
                    continue
                known[job] = future.result()
                write(
                    given.output,
                    sorted(known.values(), key=lambda r: order[key(r)]),
                    command="python benchmarks/har_study.py --data $EDGEKIT_DATA",
                    seed=0,
                    libraries=("torch", "snntorch"),
                    provenance="accuracy: measured over every test window; cycles: modelled, "
                    f"{BOARD}, mean of {COUNTED_WINDOWS} test windows",
                )
                sys.stderr.write(f"{job.folder}: {known[job]['accuracy']:.4f}\n")
    for job in failed:
        sys.stderr.write(f"{job.folder}: failed, see above\n")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())

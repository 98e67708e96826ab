"""Accuracy of every quantised format on three tasks: by rounding, by AdaRound, by training.

::

    python benchmarks/quantize_study.py --data FOLDER                # an hour on two cores
    python benchmarks/quantize_study.py --data FOLDER --runs DIR     # keeps the float trainings
    python benchmarks/quantize_study.py --data FOLDER --only kws     # rows of one task

The script says first how long it will take. Every row is written as it is finished; a run that is
interrupted goes on where it stopped. Accuracies are those of the integer network that is deployed,
over the whole test part; rows of trained networks carry that of the simulation in float beside it.
"""

from __future__ import annotations

import json
import os
import sys
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from results_file import arguments, write
from study_tasks import TASKS, Trained, accuracy, trained

from edgekit.model import Model
from edgekit.model.capture import capture
from edgekit.program.ir import Program
from edgekit.program.lowering import lower
from edgekit.quantize import Recipe, convert, prepare
from edgekit.quantize.converted import ConvertedModule
from edgekit.quantize.posttraining import quantize_model
from edgekit.quantize.training.distillation import distillation_loss

SEEDS = (0, 1, 2)

TRAINED = (*("w4a8", "w158a8", "w158-mean-a8", "shift2a8", "shift3a8", "shift4a8", "w1a8", "w1a1"),)
"""Precisions by quantisation-aware training."""

ROUNDED = (
    *("w8a8", "w4a8-g32", "w4a8-g128"),
    *(f"fp4-{kind}-g{group}a8" for kind in ("e2m1", "e1m2", "e3m0") for group in (32, 128)),
    *("mxfp4a8", "nvfp4a8"),
)
"""Precisions after training, each rounded to nearest and by AdaRound."""

CALIBRATION_SAMPLES = 256
TEMPERATURE, TEACHER_SHARE = 2.0, 0.7
"""Of the distillation from the float checkpoint that fine tuning uses."""

SECONDS = {"fp32": 200.0, "ptq-rtn": 5.0, "ptq-adaround": 15.0, "qat": 30.0}
"""What a row is expected to take on one core, until rows of its kind were measured."""


@dataclass(frozen=True, order=True)
class Job:
    """One row to be."""

    method: str
    task: str
    split: str
    seed: int
    precision: str

    @property
    def key(self) -> tuple[str, str, str, str, int]:
        """What identifies the row."""
        return self.task, self.split, self.precision, self.method, self.seed


def jobs() -> list[Job]:
    """Every row of the study, float trainings first."""
    kinds = [("fp32", "fp32")]
    kinds += [("qat", precision) for precision in TRAINED]
    kinds += [(m, precision) for precision in ROUNDED for m in ("ptq-rtn", "ptq-adaround")]
    return [
        Job(method, task, split, seed, precision)
        for (method, precision), seed, (task, split) in product(kinds, SEEDS, TASKS)
    ]


def sizes(program: Program) -> dict[str, Any]:
    """Bytes of all layers' weights as C stores them, and bits per weight; row scales count."""
    stored, weights = 0, 0
    for operation in program.operations:
        if operation.operator.inputs[1:2] != ("w",):
            continue
        assert operation.inputs[1] is not None
        w = program.tensors[operation.inputs[1]]
        assert w.quantization is not None
        coding = getattr(operation.operator, "coding", None)
        rows = w.shape[-1 if operation.operator.name == "depthwise_conv_2d" else 0]
        columns = w.type.size // rows
        weights += w.type.size
        stored += 4 * len(w.quantization.scale)
        if coding is None:
            stored += w.bytes
        else:
            stored += rows * (coding.format.row_bytes(columns) + coding.groups(columns))
    return {"bytes": stored, "effective_bits": round(8 * stored / weights, 4)}


def float_row(given: Trained) -> dict[str, Any]:
    """The checkpoint itself."""
    model = given.model()
    weights = sum(p.numel() for p in model.parameters() if p.ndim > 1)
    score = accuracy(model, *given.part("test"))
    return {"accuracy": score, "bytes": 4 * weights, "effective_bits": 32.0}


@lru_cache(maxsize=2)
def captured(given: Trained) -> Model:
    """The checkpoint as a Model."""
    return capture(given.model(), torch.from_numpy(given.calibration(1)), name=given.task.name)


def rounded_row(given: Trained, job: Job) -> dict[str, Any]:
    """Post-training quantisation of the checkpoint."""
    model = captured(given)
    calibration = {model.ir.graph.inputs[0].name: given.calibration(CALIBRATION_SAMPLES)}
    quantised = quantize_model(
        model,
        Recipe.parse(job.precision),
        calibration,
        method=job.method.removeprefix("ptq-"),
        seed=job.seed,
    )
    program = lower(quantised)
    score = accuracy(ConvertedModule(quantised, program), *given.part("test"))
    return {"accuracy": score, **sizes(program)}


def trained_row(given: Trained, job: Job) -> dict[str, Any]:
    """Fine tuning of the quantised checkpoint, taught by the float one."""
    torch.manual_seed(job.seed)
    teacher, task = given.model(), given.task
    example = torch.from_numpy(given.calibration(1))
    model = prepare(given.model(), Recipe.parse(job.precision), example)
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=task.learning_rate)
    steps = task.epochs * given.steps
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, task.learning_rate, total_steps=steps, pct_start=0.1
    )
    for epoch in range(task.epochs):
        for x, y in given.batches(epoch):
            with torch.no_grad():
                taught = teacher(x)
            loss = distillation_loss(
                model(x), taught, y, temperature=TEMPERATURE, weight=TEACHER_SHARE
            )
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    converted = convert(model.eval())
    test = given.part("test")
    return {
        "accuracy": accuracy(converted, *test),
        "fake_quant_accuracy": accuracy(model, *test),
        **sizes(converted.program),
    }


def row(job: Job, data: Path, runs: Path) -> dict[str, Any]:
    """Compute one row, on one core."""
    torch.set_num_threads(1)
    begin = time.perf_counter()
    given = trained(job.task, job.split, job.seed, data, runs)
    if job.method == "fp32":
        facts = float_row(given)
    elif job.method == "qat":
        facts = trained_row(given, job)
    else:
        facts = rounded_row(given, job)
    return {
        "task": job.task,
        "split": job.split,
        "precision": job.precision,
        "method": job.method,
        "seed": job.seed,
        **facts,
        "seconds": round(time.perf_counter() - begin, 1),
    }


def key(row: dict[str, Any]) -> tuple[Any, ...]:
    """What identifies a row, as :attr:`Job.key` does."""
    return tuple(row[k] for k in ("task", "split", "precision", "method", "seed"))


def finished(path: Path) -> dict[tuple[Any, ...], dict[str, Any]]:
    """Rows that an earlier run wrote, by their key."""
    if not path.is_file():
        return {}
    rows = json.loads(path.read_text(encoding="utf-8"))["rows"]
    return {key(row): row for row in rows}


def predicted_seconds(pending: list[Job], known: dict[tuple[Any, ...], dict[str, Any]]) -> float:
    """Work on one core: the mean of rows of the same method and task, else :data:`SECONDS`."""
    total = 0.0
    for job in pending:
        like = [r["seconds"] for k, r in known.items() if (k[0], k[3]) == (job.task, job.method)]
        total += sum(like) / len(like) if like else SECONDS[job.method]
    return total


def main() -> int:
    """Write every row that is not there yet."""
    parser = arguments(__doc__, "quantize")
    parser.add_argument("--runs", type=Path, default=Path("runs/study"), help="float trainings")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--only", default="", help="text that a row's key must contain")
    given = parser.parse_args()
    known = finished(given.output)
    order = {job.key: number for number, job in enumerate(jobs())}
    pending = [j for j in jobs() if j.key not in known and given.only in " ".join(map(str, j.key))]
    seconds = predicted_seconds(pending, known) / given.workers
    sys.stderr.write(f"{len(pending)} rows to do, about {seconds / 60:.0f} minutes\n")
    pool = ProcessPoolExecutor(given.workers, mp_context=get_context("spawn"))
    with pool:
        for stage in (
            [j for j in pending if j.method == "fp32"],
            [j for j in pending if j.method != "fp32"],
        ):
            futures = {pool.submit(row, job, given.data, given.runs): job for job in stage}
            for future in as_completed(futures):
                job = futures[future]
                known[job.key] = future.result()
                write(
                    given.output,
                    sorted(known.values(), key=lambda r: order[key(r)]),
                    command="python benchmarks/quantize_study.py --data $EDGEKIT_DATA",
                    seed=0,
                    libraries=("torch",),
                    provenance="measured: counted over every test sample; integer network",
                )
                done = known[job.key]
                sys.stderr.write(f"{' '.join(map(str, job.key))}: {done['accuracy']:.4f}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""The trainings of the activity study: networks, splits, precisions, and how long each lasts.

Nothing of a test part is used before the last figure: epochs are chosen by validation.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from edgekit.zoo import train

DATA = "har/wisdm_watch7_w40.npz"

NETWORKS = {
    "l2mu-leaky": "har-l2mu",
    "l2mu-synaptic": "har-l2mu-synaptic",
    "lmu": "har-lmu",
    "scnn": "har-scnn",
    "cnn": "har-cnn",
}
"""Names of rows, and of the zoo."""

SPLITS = ("random", "subject")
SEEDS = (0, 1, 2)
PRECISIONS = ("w8", "w158", "shift3")
"""Beside fp32; each is fine-tuned from the fp32 checkpoint of the same seed."""

MORE_SEEDS = ("l2mu-leaky",)
"""Networks whose quantised rows have every seed; the others have the first."""

AUGMENTATION = {
    "random": {"rotate_degrees": 0.0, "gain": 0.0, "stretch": 0.0, "mixup": 0.0},
    "subject": {"rotate_degrees": 10.0, "gain": 0.1, "stretch": 0.3, "mixup": 0.3},
}
"""What every network's recipe is changed to: strange people need it; windows of known ones do not,
and learn faster without."""

SMOOTHING = {"random": 0.0, "subject": 0.1}

EPOCHS = 24
FINE_TUNING = {"epochs": 4, "schedule": {"name": "cosine", "warmup_epochs": 0.5}}

FINE_TUNING_RATES = {"w8": 1e-3, "w158": 4e-3, "shift3": 1e-3}
"""Learning rates. Ternary weights begin far from the float ones: with 1e-3 they end 1.8 points
lower in validation (L2MU, random split, the same epochs)."""


@dataclass(frozen=True, order=True)
class Job:
    """One training, and one row."""

    network: str
    precision: str
    split: str
    seed: int

    @property
    def folder(self) -> str:
        """Name of the run folder."""
        return f"{self.network}-{self.precision}-{self.split}-{self.seed}"


def jobs() -> list[Job]:
    """Every row of the study; those with the first seed come first, and fp32 before the rest."""
    floats = [Job(n, "fp32", p, s) for s, n, p in product(SEEDS, NETWORKS, SPLITS)]
    quantised = [
        Job(n, q, p, s)
        for s, n, q, p in product(SEEDS, NETWORKS, PRECISIONS, SPLITS)
        if s == SEEDS[0] or n in MORE_SEEDS
    ]
    first = [j for j in floats if j.seed == SEEDS[0]] + [j for j in quantised if j.seed == SEEDS[0]]
    return first + [j for j in floats + quantised if j.seed != SEEDS[0]]


def config(job: Job, runs: Path) -> dict[str, Any]:
    """What a training changes in the zoo's recipe."""
    changes: dict[str, Any] = {
        "split": job.split,
        "seed": job.seed,
        "epochs": EPOCHS,
        "patience": 0,
        "label_smoothing": SMOOTHING[job.split],
        "augmentation": AUGMENTATION[job.split],
    }
    if job.precision != "fp32":
        start = runs / Job(job.network, "fp32", job.split, job.seed).folder
        changes |= FINE_TUNING | {
            "optimizer": {"learning_rate": FINE_TUNING_RATES[job.precision]},
            "precision": job.precision,
            "start": str(start.absolute()),
        }
    return changes


def is_trained(job: Job, runs: Path) -> bool:
    """Whether the run folder of a job is finished."""
    return (runs / job.folder / "metrics.json").is_file()


def trained(job: Job, data: Path, runs: Path) -> Path:
    """The finished run folder of a job; what is missing is trained, an interrupted run goes on."""
    folder = runs / job.folder
    if is_trained(job, runs):
        return folder
    if job.precision != "fp32":
        trained(Job(job.network, "fp32", job.split, job.seed), data, runs)
    begun = (folder / "config.toml").is_file()
    where = {"resume": folder} if begun else {"output": folder}
    train(NETWORKS[job.network], config(job, runs), data=data / DATA, threads=1, **where)
    return folder

"""Does the deployed artifact compute what its reference does? Per output and per layer."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from edgekit.deploy.data import Samples, dequantize
from edgekit.deploy.session import Session
from edgekit.program.interpret import Interpreter
from edgekit.program.ir import Array, Program, Tensor

LAYER_SAMPLES = 3
"""Samples that are compared layer by layer; a mismatch there shows where it begins."""


@dataclass(frozen=True)
class Agreement:
    """How one tensor agrees between two ways of computing it.

    Attributes:
        name: tensor or output.
        mismatches: elements that differ in any bit.
        elements: elements compared.
        largest_step: largest difference, in integer steps; None for floats.
    """

    name: str
    mismatches: int
    elements: int
    largest_step: int | None

    @property
    def identical(self) -> bool:
        """Equal to the bit."""
        return self.mismatches == 0


@dataclass(frozen=True)
class Closeness:
    """How near an output is to the float model's, over all samples.

    Attributes:
        name: output.
        max_abs: largest absolute difference, in real units.
        rmse: root mean square difference.
        cosine: cosine similarity of everything as one vector.
        snr_db: power of the float output over power of the difference; None where equal.
        top1_agreement: fraction of samples with the same largest element; None for scalars.
    """

    name: str
    max_abs: float
    rmse: float
    cosine: float
    snr_db: float | None
    top1_agreement: float | None


@dataclass(frozen=True)
class VerifyReport:
    """Result of a verification.

    Attributes:
        device: where the artifact ran.
        samples: how many were run on the device.
        available: how many the data has.
        outputs: device against the exact interpreter, per output.
        layers: the same per tensor, in execution order, over the first samples.
        closeness: device against the float model, where the artifact carries one.
        accuracy: fraction of labels that the device got right, None without labels.
        float_accuracy: the float model's on the same samples.
    """

    device: str
    samples: int
    available: int
    outputs: tuple[Agreement, ...]
    layers: tuple[Agreement, ...]
    closeness: tuple[Closeness, ...] = ()
    accuracy: float | None = None
    float_accuracy: float | None = None

    @property
    def identical(self) -> bool:
        """Whether every compared bit is equal."""
        return all(a.identical for a in (*self.outputs, *self.layers))

    @property
    def first_difference(self) -> str | None:
        """The first tensor in execution order that differs."""
        return next((a.name for a in (*self.layers, *self.outputs) if not a.identical), None)

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {**asdict(self), "identical": self.identical}


class _Compare:
    """Counts differences of one tensor over samples."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.mismatches = 0
        self.elements = 0
        self.largest: int | None = None

    def add(self, want: Array, got: Array) -> None:
        self.elements += want.size
        if want.dtype.kind == "f":
            self.mismatches += int(np.sum(want.view(np.int32) != got.view(np.int32)))
            return
        difference = np.abs(want.astype(np.int64) - got.astype(np.int64))
        self.mismatches += int(np.count_nonzero(difference))
        self.largest = max(self.largest or 0, int(difference.max(initial=0)))

    def result(self) -> Agreement:
        return Agreement(self.name, self.mismatches, self.elements, self.largest)


def verify(
    session: Session, samples: Samples, *, reference: Program | None = None, available: int = 0
) -> VerifyReport:
    """Run samples on a device and through the exact interpreter, and compare.

    Args:
        session: the artifact, opened.
        samples: what to run.
        reference: the float model, where there is one; inputs are given to it in real units.
        available: how many samples there were before any limit.
    """
    program = session.program
    interpreter = Interpreter(program)
    outputs = {b.name: _Compare(b.name) for b in program.outputs}
    layers: dict[str, _Compare] = {}
    deployed: dict[str, list[Array]] = {name: [] for name in outputs}
    traced = LAYER_SAMPLES if session.has_layers else 0
    for sample in samples.first(traced):
        values: dict[str, Array] = {}
        interpreter.run(sample, values.__setitem__)
        for name, got in session.trace(sample).items():
            layers.setdefault(name, _Compare(name)).add(_native(values[name]), got)
    for sample, results in zip(samples, session.run_many(samples), strict=True):
        want = interpreter.run(sample)
        for name, compare in outputs.items():
            compare.add(_native(want[name]), results[name])
            deployed[name].append(results[name])
    exact = tuple(c.result() for c in outputs.values())
    per_layer = tuple(c.result() for c in layers.values())
    common = (session.device, len(samples), max(available, len(samples)), exact, per_layer)
    real = _real_outputs(program, deployed)
    accuracy = _accuracy(real, samples.labels)
    if reference is None:
        return VerifyReport(*common, accuracy=accuracy)
    ideal = _float_outputs(reference, samples)
    closeness = tuple(_closeness(n, ideal[n], real[n]) for n in real if n in ideal)
    return VerifyReport(*common, closeness, accuracy, _accuracy(ideal, samples.labels))


def _native(array: Array) -> Array:
    """Contiguous and in native byte order, so that bits can be compared."""
    return np.ascontiguousarray(array, array.dtype.newbyteorder("="))


def _output_tensor(program: Program, name: str) -> Tensor:
    return next(program.tensors[b.tensor] for b in program.outputs if b.name == name)


def _real_outputs(program: Program, outputs: Mapping[str, list[Array]]) -> dict[str, Array]:
    return {
        name: dequantize(np.stack(values), _output_tensor(program, name))
        for name, values in outputs.items()
    }


def _float_outputs(reference: Program, samples: Samples) -> dict[str, Array]:
    """The float model on the samples as they were before the input was quantised."""
    interpreter = Interpreter(reference)
    collected: dict[str, list[Array]] = {b.name: [] for b in reference.outputs}
    for number in range(len(samples)):
        real = {name: values[number] for name, values in samples.real.items()}
        for name, value in interpreter.run(real).items():
            collected[name].append(value)
    return _real_outputs(reference, collected)


def _accuracy(outputs: Mapping[str, Array], labels: Array | None) -> float | None:
    """Fraction of samples whose largest element of the first output is the label."""
    if labels is None:
        return None
    first = next(iter(outputs.values()))
    flat = first.reshape(len(first), -1)
    if flat.shape[1] < 2:
        return None
    return float(np.mean(flat.argmax(axis=1) == labels))


def _closeness(name: str, want: Array, got: Array) -> Closeness:
    difference = got - want
    signal, noise = float(np.mean(want**2)), float(np.mean(difference**2))
    norms = float(np.linalg.norm(want) * np.linalg.norm(got))
    flat_want, flat_got = want.reshape(len(want), -1), got.reshape(len(got), -1)
    top1 = None
    if flat_want.shape[1] > 1:
        top1 = float(np.mean(flat_want.argmax(axis=1) == flat_got.argmax(axis=1)))
    return Closeness(
        name=name,
        max_abs=float(np.abs(difference).max(initial=0.0)),
        rmse=math.sqrt(noise),
        cosine=float(np.sum(want * got)) / norms if norms else float(signal == noise == 0),
        snr_db=10 * math.log10(signal / noise) if noise > 0 and signal > 0 else None,
        top1_agreement=top1,
    )

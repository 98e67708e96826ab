"""Does the deployed artifact compute what its reference does? Per output and per layer."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from edgekit.deploy.data import Samples, dequantize
from edgekit.deploy.runtime import RuntimeSession
from edgekit.deploy.session import Session
from edgekit.program.interpret import Interpreter
from edgekit.program.ir import Array, Program, Tensor

LAYER_SAMPLES = 3
"""Samples, evenly spread, that are compared by layer; a mismatch shows where it begins."""


@dataclass(frozen=True)
class Agreement:
    """How one tensor agrees between two ways of computing it.

    Attributes:
        name: tensor or output.
        mismatches: elements that differ in any bit.
        elements: elements compared.
        largest_step: largest difference, in integer steps; None for floats.
        top1_changes: samples, or steps of sequences, whose largest element is another one; None
            for scalars and layers.
    """

    name: str
    mismatches: int
    elements: int
    largest_step: int | None
    top1_changes: int | None = None

    @property
    def identical(self) -> bool:
        """Equal to the bit."""
        return self.mismatches == 0

    @property
    def mismatch_rate(self) -> float:
        """Fraction of elements that differ."""
        return self.mismatches / self.elements if self.elements else 0.0


@dataclass(frozen=True)
class Closeness:
    """How near an output is to the float model's, over all samples and their steps.

    Attributes:
        name: output.
        max_abs: largest absolute difference, in real units.
        rmse: root mean square difference.
        cosine: cosine similarity of everything as one vector.
        snr_db: power of the float output over power of the difference; None where equal.
        top1_agreement: fraction of samples, or steps of sequences, with the same largest element;
            None for scalars.
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
        backend: what executed it: ``c``, ``onnxruntime``, ``litert``.
        exact: whether equality to the bit is demanded: for C it is, other runtimes requantise in
            float.
        samples: how many were run on the device.
        available: how many the data has.
        outputs: device against the exact interpreter, per output.
        layers: the same per tensor, in execution order, over :data:`LAYER_SAMPLES` of the samples;
            of a sequence its first step only, since single layers are run from reset.
        closeness: device against the float model, where the artifact carries one.
        accuracy: fraction of labels that the device got right, a sequence by its last step; None
            without labels.
        float_accuracy: the float model's on the same samples.
        steps: of every sample where they are sequences, None where each is one input.
        class_agreement: fraction of sequences whose last step has the same largest element as the
            float model's; None for single inputs, and without such a model.
    """

    device: str
    backend: str
    exact: bool
    samples: int
    available: int
    outputs: tuple[Agreement, ...]
    layers: tuple[Agreement, ...]
    closeness: tuple[Closeness, ...] = ()
    accuracy: float | None = None
    float_accuracy: float | None = None
    steps: int | None = None
    class_agreement: float | None = None

    @property
    def identical(self) -> bool | None:
        """Whether every compared bit is equal; None where nothing says what they should be."""
        compared = (*self.outputs, *self.layers)
        return all(a.identical for a in compared) if compared else None

    @property
    def passed(self) -> bool:
        """Identical wherever that is demanded."""
        return self.identical is True or not self.exact

    @property
    def first_difference(self) -> str | None:
        """The first tensor in execution order that differs."""
        return next((a.name for a in (*self.layers, *self.outputs) if not a.identical), None)

    @property
    def over(self) -> dict[str, str]:
        """What every field with figures was compared over, in words, by the name of the field."""
        traced = f"{min(LAYER_SAMPLES, self.samples)} samples"
        if self.steps is None:
            all_of_them = f"{self.samples:,} samples"
        else:
            all_of_them = f"all {self.samples * self.steps:,} steps"
            traced = f"first steps of {traced}"
        words = {"layers": traced, "outputs": all_of_them, "closeness": all_of_them}
        if self.class_agreement is not None:
            words["class_agreement"] = f"of {self.samples:,} last steps"
        return words

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        found = {"over": self.over, "identical": self.identical, "passed": self.passed}
        return asdict(self) | found


class _Compare:
    """Counts differences of one tensor over samples; of an output also changes of its largest."""

    def __init__(self, name: str, *, is_output: bool = False) -> None:
        self.name = name
        self.is_output = is_output
        self.mismatches = 0
        self.elements = 0
        self.largest: int | None = None
        self.top1: int | None = None

    def add(self, want: Array, got: Array) -> None:
        self.elements += want.size
        if self.is_output and want.size > 1:
            self.top1 = (self.top1 or 0) + int(want.argmax() != got.argmax())
        if want.dtype.kind == "f":
            self.mismatches += int(np.sum(want.view(np.int32) != got.view(np.int32)))
            return
        difference = np.abs(want.astype(np.int64) - got.astype(np.int64))
        self.mismatches += int(np.count_nonzero(difference))
        self.largest = max(self.largest or 0, int(difference.max(initial=0)))

    def result(self) -> Agreement:
        return Agreement(self.name, self.mismatches, self.elements, self.largest, self.top1)


def verify(
    session: Session | RuntimeSession,
    samples: Samples,
    *,
    reference: Program | None = None,
    available: int = 0,
) -> VerifyReport:
    """Run samples on a device and through the exact interpreter, and compare.

    Args:
        session: the artifact, opened.
        samples: what to run; sequences are stepped from reset, and all steps are compared.
        reference: the float model, where there is one; inputs are given to it in real units.
        available: how many samples there were before any limit.

    Returns:
        The report. Without a Program that says exactly what the session computes, as for the
        model of a Jetson, there is closeness to the float model only.

    Raises:
        UnsupportedError: sequences, and a device or a runtime that carries no state.
    """
    program = session.program
    outputs, per_layer, deployed = _run(session, samples)
    where = (session.device, session.backend, session.is_exact)
    common = (*where, len(samples), max(available, len(samples)), outputs, per_layer)
    real = _real_outputs(program, deployed)
    accuracy = _accuracy(real, samples)
    if reference is None:
        return VerifyReport(*common, accuracy=accuracy, steps=samples.steps)
    ideal = _float_outputs(reference, samples)
    closeness = tuple(_closeness(n, ideal[n], real[n]) for n in real if n in ideal)
    return VerifyReport(
        *common,
        closeness,
        accuracy,
        _accuracy(ideal, samples),
        samples.steps,
        _class_agreement(ideal, real, samples),
    )


def _run(
    session: Session | RuntimeSession, samples: Samples
) -> tuple[tuple[Agreement, ...], tuple[Agreement, ...], dict[str, list[Array]]]:
    """Run every sample, and the exact interpreter beside it where the session has one.

    Returns:
        Agreement of the outputs, of the layers, and the outputs by name: one per sample, or one
        per step of every sequence.
    """
    program = session.program
    deployed: dict[str, list[Array]] = {b.name: [] for b in program.outputs}
    layers = _layers(session, samples) if isinstance(session, Session) else ()
    for results in _results(session, samples):
        for name, got in results.items():
            deployed[name].append(got)
    outputs = [_Compare(name, is_output=True) for name in deployed if session.has_reference]
    for number, want in enumerate(_interpreted(program, samples) if outputs else ()):
        for output in outputs:
            output.add(_native(want[output.name]), deployed[output.name][number])
    return tuple(c.result() for c in outputs), layers, deployed


def _layers(session: Session, samples: Samples) -> tuple[Agreement, ...]:
    """Every tensor over a few samples; none where the device cannot run single layers."""
    layers: dict[str, _Compare] = {}
    for sample in samples.spread(LAYER_SAMPLES) if session.has_layers else ():
        # Tracing starts from reset: of a sequence there is only the first step.
        first = sample if samples.steps is None else next(_each_step(sample))
        values: dict[str, Array] = {}
        Interpreter(session.program).run(first, values.__setitem__)
        for name, got in session.trace(first).items():
            layers.setdefault(name, _Compare(name)).add(_native(values[name]), got)
    return tuple(c.result() for c in layers.values())


def _results(session: Session | RuntimeSession, samples: Samples) -> Iterator[dict[str, Array]]:
    """What the device computes, sample by sample, or step by step."""
    if samples.steps is None:
        yield from session.run_many(samples)
        return
    for sequence in samples:
        yield from _each_step(session.run_sequence_named(sequence))


def _interpreted(program: Program, samples: Samples) -> Iterator[dict[str, Array]]:
    """What the interpreter computes, likewise."""
    interpreter = Interpreter(program)
    for sample in samples:
        if samples.steps is None:
            yield interpreter.run(sample)
        else:
            yield from _each_step(interpreter.run_sequence(sample))


def _each_step(sequence: Mapping[str, Array]) -> Iterator[dict[str, Array]]:
    """Arrays with a leading time axis, step by step."""
    for step in range(len(next(iter(sequence.values())))):
        yield {name: values[step] for name, values in sequence.items()}


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
    collected: dict[str, list[Array]] = {b.name: [] for b in reference.outputs}
    real = replace(samples, inputs=samples.real)
    for results in _interpreted(reference, real):
        for name, value in results.items():
            collected[name].append(value)
    return _real_outputs(reference, collected)


def _accuracy(outputs: Mapping[str, Array], samples: Samples) -> float | None:
    """Fraction of samples whose largest element of the first output is the label.

    Of a sequence the last step counts.
    """
    if samples.labels is None:
        return None
    last = _last_classes(outputs, samples)
    return None if last is None else float(np.mean(last == samples.labels))


def _class_agreement(
    want: Mapping[str, Array], got: Mapping[str, Array], samples: Samples
) -> float | None:
    """Fraction of sequences that both name the same class at their ends."""
    if samples.steps is None:
        return None
    classes = _last_classes(want, samples), _last_classes(got, samples)
    return None if classes[0] is None else float(np.mean(classes[0] == classes[1]))


def _last_classes(outputs: Mapping[str, Array], samples: Samples) -> Array | None:
    """Index of the largest element of the first output; of a sequence at its last step.

    None for scalars.
    """
    first = next(iter(outputs.values()))
    flat = first.reshape(len(first), -1)
    if flat.shape[1] < 2:
        return None
    steps = samples.steps or 1
    last: Array = flat[steps - 1 :: steps].argmax(axis=1)
    return last


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

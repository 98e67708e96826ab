"""What is run: real samples where there are some, else seeded random ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgekit.bench.boundary import dequantise
from edgekit.bench.dataset import Dataset
from edgekit.bench.subject import Port

Array = NDArray[Any]


@dataclass(frozen=True)
class Samples:
    """Inputs that are cycled, and labels where there are any.

    Attributes:
        inputs: array by input name for each sample, in the ports' dtypes and the source's layout.
        real: the same before any quantisation, float32, for runtimes that take real numbers.
        labels: int64[N], of sequences one for each; None without.
        source: where they came from, in words.
        steps: successive inputs that make up a sequence; None where each is a sample by itself.
    """

    inputs: Sequence[Mapping[str, Array]]
    real: Sequence[Mapping[str, Array]]
    labels: Array | None
    source: str
    steps: int | None = None

    def __len__(self) -> int:
        return len(self.inputs) // (self.steps or 1)

    @classmethod
    def of(cls, data: Dataset, source: str) -> Samples:
        """A data set in the form that is measured: of sequences every step is an input.

        Args:
            data: matched to the network's inputs.
            source: where it came from, in words.
        """
        return cls(
            _inputs_of(data.inputs, data.steps),
            _inputs_of(data.real, data.steps),
            data.labels,
            source,
            data.steps,
        )

    @property
    def origin(self) -> str:
        """What the inputs are, in words."""
        if self.steps is None:
            return self.source
        return f"the steps of {len(self)} sequences of {self.source}"

    def at(self, chosen: Array) -> Samples:
        """Samples or sequences by their indices, int64."""
        steps = self.steps or 1
        inputs = (chosen[:, np.newaxis] * steps + np.arange(steps)).reshape(-1).tolist()
        return replace(
            self,
            inputs=[self.inputs[index] for index in inputs],
            real=[self.real[index] for index in inputs],
            labels=None if self.labels is None else self.labels[chosen],
        )


def seeded(ports: Sequence[Port], seed: int) -> Samples:
    """One input drawn at random: integers over their whole range, floats of standard normal."""
    rng = np.random.default_rng(seed)
    drawn: dict[str, Array] = {}
    for port in ports:
        if port.is_integer:
            limits = np.iinfo(port.dtype)
            values: Array = rng.integers(limits.min, limits.max, port.source_shape, endpoint=True)
        else:
            values = rng.standard_normal(port.source_shape)
        drawn[port.name] = values.astype(port.dtype)
    real = {p.name: dequantise(p, drawn[p.name]).astype(np.float32) for p in ports}
    return Samples([drawn], [real], None, f"random, seed {seed}")


def _inputs_of(arrays: Mapping[str, Array], steps: int | None) -> list[dict[str, Array]]:
    """Single inputs by name, from arrays [N, ...] or [N, T, ...]."""
    if steps is not None:
        arrays = {name: values.reshape(-1, *values.shape[2:]) for name, values in arrays.items()}
    count = len(next(iter(arrays.values())))
    return [{name: values[i] for name, values in arrays.items()} for i in range(count)]

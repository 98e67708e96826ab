"""What happens to samples before a network sees them: declared, applied in NumPy, kept as JSON.

The very same object is fitted on training data, carried by a checkpoint and read by whatever feeds
the deployed network.

>>> import numpy as np
>>> steps = Preprocessing((Standardize(mean=(1.0, 2.0), std=(2.0, 4.0)), Clip(-1.0, 1.0)))
>>> steps.apply(np.array([[[3.0, 1.0], [2.0, 22.0]]])).tolist()
[[[1.0, 0.0], [0.0, 1.0]]]
>>> Preprocessing.from_json(steps.to_json()) == steps
True
"""

from __future__ import annotations

import json
import math
import reprlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from edgekit.errors import InvalidDataError

Array = NDArray[Any]

SCHEMA = 1
"""Version of the JSON form."""


class Step(Protocol):
    """One thing that is done to samples; a frozen dataclass of numbers."""

    def apply(self, x: Array) -> Array:
        """float32[N, ...] to the same shape."""


@dataclass(frozen=True)
class Standardize:
    """``(x - mean) / std`` along the first axis of a sample, usually the channels.

    Attributes:
        mean: one value for each index of the axis, or a single one for all.
        std: likewise, positive.

    Raises:
        InvalidDataError: different lengths, values that are not finite, std not positive.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __post_init__(self) -> None:
        if not self.mean or len(self.mean) != len(self.std):
            raise InvalidDataError(
                f"standardize: {len(self.mean)} means and {len(self.std)} standard deviations, "
                "must be equally many and at least one"
            )
        if not all(map(math.isfinite, (*self.mean, *self.std))) or min(self.std) <= 0:
            raise InvalidDataError("standardize: means must be finite, deviations positive")

    @classmethod
    def fitted(cls, x: Array) -> Standardize:
        """Mean and standard deviation of every channel of `x` (float[N, channels, ...]).

        A channel that never changes gets the deviation 1.
        """
        axes = (0, *range(2, x.ndim))
        std = x.std(axis=axes, dtype=np.float64)
        std = np.where(std > 0, std, 1.0)
        mean = x.mean(axis=axes, dtype=np.float64)
        return cls(tuple(map(float, mean)), tuple(map(float, std)))

    def apply(self, x: Array) -> Array:
        """Standardised float32 of the same shape.

        Raises:
            InvalidDataError: `x` has another number of channels.
        """
        if len(self.mean) not in (1, x.shape[1] if x.ndim > 1 else 1):
            raise InvalidDataError(
                f"samples have shape {list(x.shape)}, must be [N, {len(self.mean)}, ...]"
            )
        shape = (1, -1, *(1,) * (x.ndim - 2)) if x.ndim > 1 else (-1,)
        mean = np.asarray(self.mean, np.float32).reshape(shape)
        std = np.asarray(self.std, np.float32).reshape(shape)
        standardised: Array = (x.astype(np.float32) - mean) / std
        return standardised


@dataclass(frozen=True)
class Scale:
    """``x * factor + offset``.

    Raises:
        InvalidDataError: values that are not finite, or a factor of 0.
    """

    factor: float
    offset: float = 0.0

    def __post_init__(self) -> None:
        if not (math.isfinite(self.factor) and math.isfinite(self.offset) and self.factor):
            raise InvalidDataError(
                f"scale: factor {self.factor} and offset {self.offset} must be finite, the factor "
                "not 0"
            )

    def apply(self, x: Array) -> Array:
        """Scaled float32 of the same shape."""
        scaled: Array = x.astype(np.float32) * np.float32(self.factor) + np.float32(self.offset)
        return scaled


@dataclass(frozen=True)
class Clip:
    """Values limited to [low, high]: rare spikes must not cost int8 its resolution.

    Raises:
        InvalidDataError: not ``low < high``, or not finite.
    """

    low: float
    high: float

    def __post_init__(self) -> None:
        if not (math.isfinite(self.low) and math.isfinite(self.high) and self.low < self.high):
            raise InvalidDataError(f"clip: must be low < high, not {self.low} and {self.high}")

    def apply(self, x: Array) -> Array:
        """Limited float32 of the same shape."""
        return np.clip(x.astype(np.float32), np.float32(self.low), np.float32(self.high))


STEPS: dict[str, type[Any]] = {"standardize": Standardize, "scale": Scale, "clip": Clip}
"""Every kind of step by its name in JSON."""

_KINDS = {kind: name for name, kind in STEPS.items()}


@dataclass(frozen=True)
class Window:
    """How a continuous recording was cut.

    Attributes:
        length: samples in a window.
        stride: samples from one window's start to the next one's.
        sampling_hz: samples a second.

    Raises:
        InvalidDataError: values that are not positive.
    """

    length: int
    stride: int
    sampling_hz: float

    def __post_init__(self) -> None:
        whole = all(isinstance(v, int) and v > 0 for v in (self.length, self.stride))
        if not (whole and math.isfinite(self.sampling_hz) and self.sampling_hz > 0):
            raise InvalidDataError(
                f"window: length {self.length}, stride {self.stride} and {self.sampling_hz} Hz "
                "must be positive"
            )


@dataclass(frozen=True)
class Preprocessing:
    """Steps in their order, and how recordings were cut before them.

    Attributes:
        steps: applied first to last.
        window: None where samples are no windows of a recording.
    """

    steps: tuple[Step, ...] = ()
    window: Window | None = None

    def apply(self, x: Array) -> Array:
        """All steps on samples [N, ...] in physical units; float32 of the same shape."""
        result = np.asarray(x, np.float32)
        for step in self.steps:
            result = step.apply(result)
        return result

    def to_json(self) -> str:
        """As JSON text; equal objects give equal text."""
        steps = [{"kind": _KINDS[type(s)], **asdict(s)} for s in self.steps]  # type: ignore[call-overload]
        window = None if self.window is None else asdict(self.window)
        data = {"schema": SCHEMA, "window": window, "steps": steps}
        return json.dumps(data, indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Preprocessing:
        """Read what :meth:`to_json` wrote.

        Raises:
            InvalidDataError: no JSON, another schema, unknown steps or keys, impossible values.
        """
        try:
            data = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise InvalidDataError(f"preprocessing: is not JSON: {error}") from error
        if not isinstance(data, dict) or data.keys() != {"schema", "window", "steps"}:
            raise InvalidDataError("preprocessing: must have the keys schema, window and steps")
        # True equals 1, and is no version.
        if type(data["schema"]) is not int or data["schema"] != SCHEMA:
            raise InvalidDataError(
                f"preprocessing: schema is {data['schema']!r}, this version reads {SCHEMA}"
            )
        if not isinstance(data["steps"], list):
            raise InvalidDataError("preprocessing: steps must be a list")
        window = None if data["window"] is None else _read(Window, data["window"], "window")
        return cls(tuple(_step(entry) for entry in data["steps"]), window)


def _step(entry: Any) -> Step:
    kind = entry.get("kind") if isinstance(entry, Mapping) else None
    if not isinstance(kind, str) or kind not in STEPS:
        raise InvalidDataError(f"preprocessing: kind {kind!r} must be one of {sorted(STEPS)}")
    step: Step = _read(STEPS[kind], {k: v for k, v in entry.items() if k != "kind"}, kind)
    return step


def _read(kind: type[Any], entry: Any, where: str) -> Any:
    """A dataclass of numbers and tuples of numbers from a JSON object with exactly its keys."""
    known = {field.name: str(field.type) for field in fields(kind)}
    if not isinstance(entry, Mapping) or entry.keys() != known.keys():
        raise InvalidDataError(f"preprocessing: {where} must have the keys {sorted(known)}")
    values: dict[str, Any] = {}
    for name, value in entry.items():
        several = known[name].startswith("tuple")
        numbers = value if several and isinstance(value, list) else [value]
        if several != isinstance(value, list) or not all(map(_is_number, numbers)):
            raise InvalidDataError(
                f"preprocessing: {where}.{name} must be {'numbers' if several else 'a number'}, "
                f"not {reprlib.repr(value)}"
            )
        if known[name] == "int":
            values[name] = value
        else:
            values[name] = tuple(map(float, numbers)) if several else float(value)
    return kind(**values)


def _is_number(value: Any) -> bool:
    """Whether a value from JSON is a number that a float can be of; integers there may not."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    try:
        float(value)
    except OverflowError:
        return False
    return True

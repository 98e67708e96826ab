"""What changes in the quantisers of a network while it is trained."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import nn

from edgekit.errors import UsageError
from edgekit.quantize.training.activations import quantizers_of
from edgekit.quantize.training.binary import ResteBinary
from edgekit.quantize.training.quantizers import quantized_parameters


@dataclass(frozen=True)
class OscillationRule:
    """When weights that oscillate are frozen; see :mod:`edgekit.quantize.training.freezing`.

    Attributes:
        start: share of the steps after which weights are watched, 0 to 1: early on they move
            with reason.
        momentum: share of the newest step in the averages, above 0 to 1.
        threshold: frequency of oscillation above which a weight is frozen, above 0 to 1.

    Raises:
        UsageError: values outside these limits.
    """

    start: float = 0.5
    momentum: float = 0.01
    threshold: float = 0.02

    def __post_init__(self) -> None:
        good = 0 <= self.start <= 1 and 0 < self.momentum <= 1 and 0 < self.threshold <= 1
        if not good:
            raise UsageError(
                f"oscillation rule {self}: start must be from 0 to 1, momentum and threshold "
                "above 0 to 1"
            )


class QuantizationSchedule:
    """Moves λ, the exponent of ReSTE and the freezing of weights along with a training.

    ::

        schedule = QuantizationSchedule(model, steps=1000, warmup=0.1)
        for x, y in batches:
            …
            optimizer.step()
            schedule.step()

    λ rises linearly from 0 to 1 over the warm-up (BitNet b1.58 Reloaded, arXiv 2407.09527); ReSTE's
    o rises from 1 to 3 over all steps (arXiv 2308.06689); oscillating weights are frozen from some
    step on (arXiv 2203.11086). What the quantisers need is in the network's state dict, how far the
    schedule is in its own: a training that resumes loads both and goes on as if it had not stopped.

    Args:
        model: prepared for training.
        steps: how often :meth:`step` will be called; later calls change nothing but the freezing.
        warmup: share of the steps in which λ rises, 0 to 1; 0 leaves it at 1.
        oscillation: when oscillating weights are frozen; None for never.

    Raises:
        UsageError: numbers outside their limits, or no quantised weight.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        steps: int,
        warmup: float = 0.0,
        oscillation: OscillationRule | None = None,
    ) -> None:
        if steps < 1:
            raise UsageError(f"quantisation schedule: {steps} steps, must be at least 1")
        if not 0 <= warmup <= 1:
            raise UsageError(f"quantisation schedule: warmup is {warmup}, must be from 0 to 1")
        self._parameters = tuple(quantized_parameters(model))
        self._activations = tuple(quantizers_of(model))
        if not self._parameters:
            raise UsageError("quantisation schedule: the network has no quantised weight")
        self._steps = steps
        self._warmup = warmup
        self._oscillation = oscillation
        self._done = 0
        self._apply()

    def step(self) -> None:
        """A step of the optimiser is done."""
        self._done += 1
        self._apply()
        rule = self._oscillation
        if rule is None or self._done < rule.start * self._steps:
            return
        for parameter in self._parameters:
            if parameter.quantizer.freezing is None:
                parameter.quantizer.enable_freezing(
                    parameter.latent, momentum=rule.momentum, threshold=rule.threshold
                )
            else:
                parameter.quantizer.observe(parameter.latent)

    def frozen_share(self) -> float:
        """Share of the quantised weights that are frozen."""
        guards = [p.quantizer.freezing for p in self._parameters]
        frozen = sum(int(guard.frozen.sum()) for guard in guards if guard is not None)
        return frozen / sum(p.quantizer.weight_count for p in self._parameters)

    def state_dict(self) -> dict[str, Any]:
        """How far the schedule is."""
        return {"done": self._done}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from there.

        Raises:
            UsageError: not what :meth:`state_dict` gave.
        """
        done = state.get("done")
        if not isinstance(done, int) or done < 0:
            raise UsageError(f"quantisation schedule: {state!r} is none of its states")
        self._done = done
        self._apply()

    def _apply(self) -> None:
        """Values that follow from the number of steps."""
        progress = self._done / self._steps
        blend = min(1.0, progress / self._warmup) if self._warmup else 1.0
        for activation in self._activations:
            activation.set_blend(blend)
        for parameter in self._parameters:
            parameter.quantizer.set_blend(blend)
            if isinstance(parameter.quantizer, ResteBinary):
                parameter.quantizer.set_progress(progress)

"""What post-training quantisation is told beside the recipe."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from edgekit.quantize.posttraining.adaround import RoundingSettings
from edgekit.quantize.posttraining.method import Method

Progress = Callable[[str, int, int], None]
"""Called with a layer's name, and steps done and in all for it."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """What is done beside the recipe.

    Attributes:
        method: of the weights, see :class:`~edgekit.quantize.posttraining.method.Method`.
        observer: of the activations: ``minmax``, ``mse``, ``percentile``, ``percentile:NUMBER``.
        bias_correction: biases make up for the mean error of their layer's sums (Nagel et al.
            2019, arXiv 1906.04721), which is measured on the calibration data.
        equalize: ranges of the channels between two layers are balanced first (same source).
        rounding: settings of AdaRound.
        measure: report the error of layers even where the method does not need it.
        seed: of the choice of samples where `limit` is smaller than their number.
        limit: how many samples to use at most, None for all.
    """

    method: str | Method = "rtn"
    observer: str = "minmax"
    bias_correction: bool = False
    equalize: bool = False
    rounding: RoundingSettings | None = None
    measure: bool = False
    seed: int = 0
    limit: int | None = None

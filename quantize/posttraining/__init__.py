"""Post-training quantisation by recipes, after training and without torch.

- :func:`quantize_model` makes a quantised Model, :func:`post_training` a report with it;
- :func:`sensitivity` says what every layer costs and proposes a recipe for a size.
"""

from edgekit.quantize.posttraining.adaround import RoundingSettings
from edgekit.quantize.posttraining.costs import Sensitivity
from edgekit.quantize.posttraining.method import Method
from edgekit.quantize.posttraining.options import Options
from edgekit.quantize.posttraining.quantize import post_training, quantize_model
from edgekit.quantize.posttraining.result import LayerResult, PostTraining
from edgekit.quantize.posttraining.sensitivity import sensitivity

__all__ = [
    "LayerResult",
    "Method",
    "Options",
    "PostTraining",
    "RoundingSettings",
    "Sensitivity",
    "post_training",
    "quantize_model",
    "sensitivity",
]

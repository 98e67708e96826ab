"""Training with quantisation in the loop; needs torch.

- :func:`prepare` makes a module that trains with quantised weights and activations,
- :func:`calibrate` sets ranges of activations without training,
- :class:`QuantizationSchedule` moves λ and the like along with a training,
- :func:`freeze_observers` keeps ranges as they are,
- :func:`freeze` makes coded layers of what was trained,
- :func:`convert` makes the module that computes what the device computes.
"""

from edgekit.quantize.training.calibrate import calibrate
from edgekit.quantize.training.convert import convert
from edgekit.quantize.training.freeze import FrozenModule, freeze
from edgekit.quantize.training.modes import freeze_observers
from edgekit.quantize.training.plan import LayerPlan, Plan
from edgekit.quantize.training.prepare import prepare
from edgekit.quantize.training.prepared import PreparedModule
from edgekit.quantize.training.schedule import OscillationRule, QuantizationSchedule

__all__ = [
    "FrozenModule",
    "LayerPlan",
    "OscillationRule",
    "Plan",
    "PreparedModule",
    "QuantizationSchedule",
    "calibrate",
    "convert",
    "freeze",
    "freeze_observers",
    "prepare",
]

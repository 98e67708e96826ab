"""From a Model to a Program.

Values lie channels-last wherever a convolution or pool touches them; axes are tracked, not moved
(:mod:`~edgekit.program.lowering.arrangement`). A Model with QuantizeLinear and DequantizeLinear
becomes an integer Program: an operator whose inputs come from DequantizeLinear and whose result
goes to QuantizeLinear is lowered to its integer form, movement between the two is carried out on
the integers, and the quantisation at the model's own inputs and outputs becomes that of the
Program's. Weights in narrower formats become coded operations
(:mod:`~edgekit.program.lowering.coded`), activations with a scale per row dynamic ones
(:mod:`~edgekit.program.lowering.dynamic`).

>>> import edgekit.program.lowering.table as table
>>> ("", "Conv") in table.LOWERINGS
True
"""

import importlib
import pkgutil

from edgekit.program.lowering.lower import Lowered, lower, lower_noted, lower_optimized
from edgekit.program.lowering.lowerer import Lowerer
from edgekit.program.lowering.spiking_format import MembraneFormat
from edgekit.program.lowering.spiking_options import SpikingOptions, int16_scale
from edgekit.program.lowering.table import LOWERINGS, lowering, supported
from edgekit.program.lowering.value import Value, Weights

for _module in sorted(m.name for m in pkgutil.iter_modules(__path__)):
    importlib.import_module(f"{__name__}.{_module}")

__all__ = [
    "LOWERINGS",
    "Lowered",
    "Lowerer",
    "MembraneFormat",
    "SpikingOptions",
    "Value",
    "Weights",
    "int16_scale",
    "lower",
    "lower_noted",
    "lower_optimized",
    "lowering",
    "supported",
]

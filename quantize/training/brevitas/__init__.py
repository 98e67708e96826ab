"""Networks that were quantised with Brevitas: read, not exported.

A Brevitas layer keeps its float weights and quantises them whenever it runs. Here it is run once;
the integers, scales and zero points that it then reports become the layers that edgekit's own
training ends in, so one way leads on from there to a Model and a Program.
:func:`~edgekit.quantize.training.brevitas.network.from_brevitas` says what can be read.

Brevitas: A. Pappalardo, "Xilinx/brevitas", https://doi.org/10.5281/zenodo.3333552.
"""

from edgekit.quantize.training.brevitas.network import from_brevitas, is_brevitas

__all__ = ["from_brevitas", "is_brevitas"]

"""Converted modules: a Program's own integer arithmetic as a torch module, in batches.

What a converted module answers is what the deployed artifact answers, to the bit: the references of
the operators (NumPy), the generated C and this package compute the same integers.
"""

from edgekit.quantize.converted.batched import BatchedProgram as BatchedProgram
from edgekit.quantize.converted.module import ConvertedModule as ConvertedModule

"""NIR files in and out: the Neuromorphic Intermediate Representation (neuroir.org).

:func:`read_nir` makes a :class:`~edgekit.spiking.graph.SpikingGraph` of a file, :func:`write_nir`
a file of a graph, :func:`check_drift` compares with the framework that the file came from. NIR
states differential equations; :mod:`edgekit.spiking.nir.semantics` says which steps and resets
they become, :mod:`edgekit.spiking.nir.wiring` where a cycle is delayed.
"""

from edgekit.spiking.nir.check import check_drift
from edgekit.spiking.nir.read import Imported, import_nir, read_nir
from edgekit.spiking.nir.semantics import CONVENTIONS, METHODS, RESETS, Semantics
from edgekit.spiking.nir.write import write_nir

__all__ = [
    "CONVENTIONS",
    "METHODS",
    "RESETS",
    "Imported",
    "Semantics",
    "check_drift",
    "import_nir",
    "read_nir",
    "write_nir",
]

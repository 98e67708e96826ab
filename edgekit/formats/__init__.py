"""Number formats of weights: levels, scales, packing. NumPy only.

>>> import numpy as np
>>> from edgekit.formats import Format
>>> ternary = Format.parse("ternary-p5")
>>> coded = ternary.quantize(np.float32([[0.3, -0.1, 0.2, 0.0, -0.4]]))
>>> coded.integers.tolist(), coded.scale.tolist()
([[1, 0, 1, 0, -1]], [0.20000000298023224])
>>> ternary.pack(coded).data.tolist()
[[50]]
"""

from edgekit.formats.coded import Coded, Packed
from edgekit.formats.element import Element
from edgekit.formats.elements import ELEMENTS, find_element
from edgekit.formats.factors import FACTORS, FactorName, Factors, factor_codes
from edgekit.formats.format import SPECIAL, Format, Granularity
from edgekit.formats.scales import RULES, Rule, mean_magnitude, nearest_integers

__all__ = [
    "ELEMENTS",
    "FACTORS",
    "RULES",
    "SPECIAL",
    "Coded",
    "Element",
    "FactorName",
    "Factors",
    "Format",
    "Granularity",
    "Packed",
    "Rule",
    "factor_codes",
    "find_element",
    "mean_magnitude",
    "nearest_integers",
]

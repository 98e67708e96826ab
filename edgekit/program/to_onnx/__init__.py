"""Programs as ONNX models, to run them in ONNX Runtime.

The layers, bottom up: ``graph`` collects nodes, ``values`` knows in which form and order the
Program's tensors are there, ``node`` is one operation with its tensors, ``registry`` holds a small
function per operator (``weighted``, ``arithmetic``, ``shapes``), ``scales`` checks that integer
fields are what the tensors' scales mean, ``write`` joins them.
"""

import importlib
import pkgutil

from edgekit.program.to_onnx.registry import WRITERS
from edgekit.program.to_onnx.write import to_onnx

for _module in sorted(m.name for m in pkgutil.iter_modules(__path__)):
    importlib.import_module(f"{__name__}.{_module}")

__all__ = ["WRITERS", "to_onnx"]

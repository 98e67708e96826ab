"""``.tflite`` files, read straight into Programs, and written from them.

The layers, bottom up: ``flatbuffer`` decodes bounds-checked tables, ``schema`` declares them as
data, ``tensors`` opens tensors, ``node`` is one operator with its tensors, ``registry`` holds a
small function per builtin operator (``weighted``, ``arithmetic``, ``shapes``), ``reader`` joins
them. ``writer`` is the way back.
"""

import importlib
import pkgutil

from edgekit.program.tflite.reader import read
from edgekit.program.tflite.registry import READERS
from edgekit.program.tflite.writer import write

for _module in sorted(m.name for m in pkgutil.iter_modules(__path__)):
    importlib.import_module(f"{__name__}.{_module}")

__all__ = ["READERS", "read", "write"]

"""``.tflite`` files, read straight into Programs.

The layers, bottom up: ``flatbuffer`` decodes bounds-checked tables, ``schema`` declares them as
data, ``tensors`` opens tensors, ``node`` is one operator with its tensors, ``registry`` holds a
small function per builtin operator (``weighted``, ``arithmetic``, ``shapes``), ``reader`` joins
them.
"""

from edgekit.program.tflite.reader import read
from edgekit.program.tflite.registry import READERS

__all__ = ["READERS", "read"]

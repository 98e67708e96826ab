"""Programs, written as ``.tflite`` files.

The layers, bottom up: ``build`` makes flatbuffer tables from the declarations that the reader reads
by, ``versions`` says what the builtin operators' kernels take, ``file`` collects tensors, constants
and operators, ``registry`` holds a small function per operator of Programs (``weighted``,
``arithmetic``, ``shapes``), ``legalize`` rewrites what TFLite says in other words, ``check`` reads
the result back, ``write`` joins them.
"""

import importlib
import pkgutil

from edgekit.program.tflite.writer.registry import WRITERS
from edgekit.program.tflite.writer.write import write

for _module in sorted(m.name for m in pkgutil.iter_modules(__path__)):
    importlib.import_module(f"{__name__}.{_module}")

__all__ = ["WRITERS", "write"]

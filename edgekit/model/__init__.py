"""Model: a network as ONNX in :mod:`onnx_ir`, how it is loaded and saved, and what rewrites it.

>>> from edgekit.model import load
>>> load(b"not a protobuf")
Traceback (most recent call last):
...
edgekit.errors.InvalidModelError: <bytes> is no ONNX model: it is no protobuf or is truncated
"""

from edgekit.model.load import from_proto, load
from edgekit.model.model import Model
from edgekit.model.save import save

__all__ = ["Model", "from_proto", "load", "save"]

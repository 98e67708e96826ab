"""Capture: a PyTorch module, or a program exported from one, becomes a Model.

The only package under :mod:`edgekit.model` that needs torch; import it where it is needed, not at
the top of a module.

Deployment is for a batch of 1. An example with more samples along axis 0 is cut to its first, after
a check that samples do not influence each other; the Model's notes say so.

- :func:`capture` runs ``torch.export`` on a module and its example inputs,
- :func:`capture_exported` takes an ``ExportedProgram``,
- :func:`load_pt2` reads one from a ``.pt2`` file without running what the file says,
- :func:`make_module` calls a factory named ``"package.module:function"``,
- :func:`load_weights` fills a module from a ``.safetensors`` file,
- :mod:`~edgekit.model.capture.symbolic` has fake quantisation that survives the way to integers.
"""

from edgekit.model.capture.examples import Example, bind_example, example_from_shapes
from edgekit.model.capture.export import (
    capture,
    capture_exported,
    is_exported,
    is_module,
)
from edgekit.model.capture.factory import Made, make_module, own_example
from edgekit.model.capture.pt2 import load_pt2
from edgekit.model.capture.weights import load_weights

__all__ = [
    "Example",
    "Made",
    "bind_example",
    "capture",
    "capture_exported",
    "example_from_shapes",
    "is_exported",
    "is_module",
    "load_pt2",
    "load_weights",
    "make_module",
    "own_example",
]

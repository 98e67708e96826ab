"""Quantisation: number formats, post-training methods, quantisation-aware training.

::

    from edgekit.quantize import Recipe, prepare, convert

    prepared = prepare(model, Recipe.parse("w158a8"), example_inputs)
    ...                                  # train it like any module
    converted = convert(prepared)        # what the device computes, bit for bit

Formats, recipes and post-training methods need NumPy alone; what trains imports torch on first use.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from edgekit.formats import ELEMENTS, Coded, Element, Format

if TYPE_CHECKING:
    from edgekit.quantize.converted import ConvertedModule
    from edgekit.quantize.posttraining import quantize_model, sensitivity
    from edgekit.quantize.recipe import Recipe
    from edgekit.quantize.static import quantize_static
    from edgekit.quantize.training import calibrate, convert, prepare
    from edgekit.quantize.training.distillation import distillation_loss

__all__ = [
    "ELEMENTS",
    "Coded",
    "ConvertedModule",
    "Element",
    "Format",
    "Recipe",
    "calibrate",
    "convert",
    "distillation_loss",
    "prepare",
    "quantize_model",
    "quantize_static",
    "sensitivity",
]

_LAZY = {
    "ConvertedModule": "edgekit.quantize.converted",
    "Recipe": "edgekit.quantize.recipe",
    "calibrate": "edgekit.quantize.training",
    "convert": "edgekit.quantize.training",
    "distillation_loss": "edgekit.quantize.training.distillation",
    "prepare": "edgekit.quantize.training",
    "quantize_model": "edgekit.quantize.posttraining",
    "quantize_static": "edgekit.quantize.static",
    "sensitivity": "edgekit.quantize.posttraining",
}
"""Where the names live that need torch or the deploy path."""


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_LAZY[name]), name)
    globals()[name] = value
    return value

"""Rewrites of a Model that keep its results.

Every pass is a function ``(onnx_ir.Model) -> (onnx_ir.Model, modified)`` that works in place; its
docstring numbers its rules. :func:`optimize` copies a Model and runs them all until nothing
changes.
"""

from __future__ import annotations

from collections.abc import Callable, Container

import onnx_ir

from edgekit.model.domain import attach_functions
from edgekit.model.model import Model
from edgekit.model.passes.canonicalize import canonicalize
from edgekit.model.passes.expand_quantizers import expand_quantizers
from edgekit.model.passes.fold_batchnorm import fold_batchnorm
from edgekit.model.passes.fold_constants import fold_constants
from edgekit.model.passes.fuse_activations import fuse_activations
from edgekit.model.passes.inline_functions import inline_functions
from edgekit.model.passes.remove_dead import remove_dead
from edgekit.model.passes.remove_identity import remove_identity
from edgekit.model.passes.standard_weights import standard_weights
from edgekit.model.passes.upgrade_opset import upgrade_opset

Pass = Callable[[onnx_ir.Model], tuple[onnx_ir.Model, bool]]

PASSES: tuple[Pass, ...] = (
    fold_constants,
    expand_quantizers,
    standard_weights,
    remove_identity,
    fold_batchnorm,
    fuse_activations,
    canonicalize,
    remove_dead,
)
"""Passes that :func:`optimize` repeats, in order."""

_MAX_ROUNDS = 20
"""Far more rounds than the passes need: every rule leaves less to do, none undoes another."""


def optimize(model: Model, *, keep: Container[tuple[str, str]] = ()) -> Model:
    """Bring a Model into the form that is lowered and quantised.

    Args:
        model: not changed.
        keep: ``(domain, op_type)`` of local functions that are operators for the caller.

    Returns:
        A Model of opset 21 or newer without constant sub-expressions, batch normalisation,
        identities and dead nodes, with a shape on every value that can have one.
    """
    ir = model.ir.clone()
    ir, _ = inline_functions(ir, keep=keep)
    ir, _ = upgrade_opset(ir)
    # Functions stand in the model's own opset.
    ir, _ = attach_functions(ir)
    for _ in range(_MAX_ROUNDS):
        restless = []
        for run in PASSES:
            ir, modified = run(ir)
            if modified:
                restless.append(run.__name__)
        if not restless:
            return model.with_ir(ir)
    raise AssertionError(f"after {_MAX_ROUNDS} rounds these still change the graph: {restless}")

"""Check a Model against everything that TensorRT demands, before a device has to say so.

Linters of ONNX accept models that TensorRT refuses, and TensorRT builds models that it then runs
in float. The rules are data (:data:`RULES`), each a function in one of the ``rules_*`` modules.

>>> [name for name in RULES if "bias" in name]
['float-bias']
"""

from __future__ import annotations

from onnx_ir.passes.common import LiftConstantsToInitializersPass

from edgekit.errors import UnsupportedError
from edgekit.model.model import Model
from edgekit.model.passes.inline_functions import inline_functions
from edgekit.model.shapes import infer_shapes
from edgekit.model.third_party import third_party
from edgekit.targets.jetson import rules_network, rules_placement, rules_quantization
from edgekit.targets.jetson.element_types import value_types
from edgekit.targets.jetson.modules import TENSORRT_MAJORS, Module
from edgekit.targets.jetson.rule import RULES, Rule, Scene, Violation

__all__ = ["RULES", "Rule", "Violation", "check", "rules_for", "violations"]

# Importing these filled the table.
_SOURCES = (rules_network, rules_quantization, rules_placement)


def rules_for(tensorrt: int) -> tuple[Rule, ...]:
    """The rules of a major version of TensorRT."""
    assert tensorrt in TENSORRT_MAJORS, f"TensorRT {tensorrt} is not served"
    return tuple(rule for rule in RULES.values() if rule.since <= tensorrt)


def violations(
    model: Model, *, tensorrt: int, module: Module | None = None
) -> tuple[Violation, ...]:
    """Everything in a Model that breaks a rule.

    Args:
        model: float or quantised; not changed.
        tensorrt: major version, 10 or 11.
        module: what it is for; None leaves out which formats its GPU computes in.

    Raises:
        InvalidModelError: a node that does not fit its inputs.
    """
    scene = _scene(model, tensorrt, module)
    return tuple(found for rule in rules_for(tensorrt) for found in rule.violations(scene))


def check(model: Model, *, tensorrt: int, module: Module | None = None) -> None:
    """Accept a Model that keeps every rule; arguments as for :func:`violations`.

    Raises:
        UnsupportedError: lists every violation with its node, what is wrong and what would be
            right.
    """
    found = violations(model, tensorrt=tensorrt, module=module)
    if found:
        lines = "\n  ".join(map(str, found))
        raise UnsupportedError(f"{model.name}: not for TensorRT {tensorrt}:\n  {lines}")


def _scene(model: Model, tensorrt: int, module: Module | None) -> Scene:
    """What the rules look at; functions are written out and constants are initializers."""
    ir, _ = inline_functions(model.ir.clone())
    with third_party(f"{model.name}: constants cannot be read"):
        ir = LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(ir).model
    for node in ir.graph:
        infer_shapes(node)
    opset = ir.graph.opset_imports.get("", 0)
    return Scene(ir.graph, opset, value_types(ir.graph, opset), tensorrt, module)

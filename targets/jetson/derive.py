"""The Model for TensorRT: derived from the float Model, never from the integer one.

TensorRT quantises symmetrically and fuses by itself. So zero points are 0, scales are the largest
magnitude over 127, weights are int8 per output channel behind DequantizeLinear, biases stay
float32, and activations are quantised where an operator with an int8 form reads them: not between
a convolution and the activation function behind it, not at outputs.

Source: NVIDIA TensorRT documentation, "Working with Quantized Types".
"""

from __future__ import annotations

from collections.abc import Mapping

import onnx_ir

from edgekit.errors import UnsupportedError
from edgekit.model.coded import is_dequantizer
from edgekit.model.domain import DOMAIN, FUNCTIONS
from edgekit.model.model import Model
from edgekit.model.nodes import is_op, label
from edgekit.model.passes import optimize
from edgekit.model.passes.expand_quantizers import QUANTIZER
from edgekit.model.passes.remove_dead import remove_dead
from edgekit.model.shapes import infer_shapes
from edgekit.program.ir import Array
from edgekit.quantize.scheme import Scheme
from edgekit.quantize.static import quantize_static
from edgekit.targets.jetson.opset import OPSET, to_opset

TENSORRT = Scheme(
    symmetric=True, integer_bias=False, at="operands", addends="both", functions=False
)
"""What TensorRT demands of explicitly quantised networks."""


def derive(
    model: Model,
    calibration: Mapping[str, Array],
    *,
    observer: str = "minmax",
    seed: int = 0,
    limit: int | None = None,
    state: Mapping[str, str] | None = None,
) -> Model:
    """Derive the explicitly quantised Model for TensorRT.

    Args:
        model: a float Model; not changed.
        calibration: see :func:`edgekit.quantize.static.quantize_static`.
        observer: name of the observer.
        seed: of the choice of samples.
        limit: how many samples to use at most, None for all.
        state: name of an input to name of the output that becomes its next value.

    Returns:
        A Model in the opset that every TensorRT 10 and 11 reads, with float32 inputs and outputs,
        static shapes, and no local functions.

    Raises:
        InvalidDataError: the calibration data does not fit the model.
        UnsupportedError: the model is quantised already, cannot be lowered, or needs a newer
            opset.
        UsageError: an unknown observer, or state that the model has not.
    """
    node = first_quantization(model)
    if node is not None:
        raise UnsupportedError(
            f"{model.name}: {node} shows that the model is quantised already; "
            "TensorRT's form is derived from the float model"
        )
    derived = quantize_static(
        model,
        calibration,
        observer=observer,
        seed=seed,
        limit=limit,
        scheme=TENSORRT,
        state=state,
    )
    for each in derived.ir.graph:
        infer_shapes(each)
    # Nobody reads the float weights now.
    remove_dead(derived.ir)
    _tidy(derived.ir)
    return to_opset(derived, OPSET)


def written_out(model: Model) -> Model:
    """The float Model as TensorRT gets it: optimised, without local functions, in its opset.

    Raises:
        UnsupportedError: it needs a newer opset.
    """
    optimized = optimize(model)
    _tidy(optimized.ir)
    return to_opset(optimized, OPSET)


def _tidy(ir: onnx_ir.Model) -> None:
    """Forget functions that have been written out, and notes that exporters left on nodes."""
    for node in ir.graph:
        node.metadata_props.clear()
    used = {node.domain for node in ir.graph}
    for domain in [d for d in ir.graph.opset_imports if d and d not in used]:
        del ir.graph.opset_imports[domain]
    for key in [k for k, f in ir.functions.items() if f.domain not in used]:
        del ir.functions[key]


def is_quantizer(node: onnx_ir.Node) -> bool:
    """Whether a node is edgekit's own quantiser, which QAT models hold."""
    return node.domain == DOMAIN and node.op_type == QUANTIZER


def first_quantization(model: Model) -> str | None:
    """What a message calls the first node that quantises to int8, None where there is none.

    The bodies of other local functions do not count: theirs is arithmetic of float operators.
    """
    linear = ("QuantizeLinear", "DequantizeLinear")
    found = (n for n in model.ir.graph if is_op(n, *linear) or is_quantizer(n) or is_dequantizer(n))
    return next((label(node) for node in found), None)


def emulated_operators(model: Model) -> tuple[str, ...]:
    """Nodes whose low-bit arithmetic TensorRT runs in float: edgekit's functions, in order."""
    nodes = (n for n in model.ir.graph if n.domain == DOMAIN and n.op_type not in FUNCTIONS)
    return tuple(label(node) for node in nodes)

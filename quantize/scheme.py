"""How a float Model is quantised to int8: what a runtime demands of it, as one value."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from edgekit.program.ir import Quantization
from edgekit.quantize.observers import affine_quantization, symmetric_quantization


@dataclass(frozen=True)
class Scheme:
    """The rules of a runtime for quantised models.

    Attributes:
        symmetric: activations have zero point 0, and no operator prescribes the quantisation of
            its result; else they are asymmetric, with 0 exact.
        integer_bias: biases are int32 in steps of both scales; else they stay float32, and so do
            constant operands of element-wise operators.
        at: ``results``: the result of every operator with an integer form is quantised, for all
            its readers and as an output. ``operands``: only what an integer operator reads, for
            those readers; outputs stay float.
        addends: with ``operands``, which operands of an addition of two activations are
            quantised: ``both``, or only the ``skip`` connection, the other one being the result
            of the convolution or product that computes in front of it.
        functions: whether the runtime knows edgekit's local functions as operators; else they
            are written out, and stay float inside.
    """

    symmetric: bool
    integer_bias: bool
    at: Literal["results", "operands"]
    addends: Literal["both", "skip"] = "both"
    functions: bool = True

    def quantization(self, low: float, high: float) -> Quantization:
        """The int8 quantisation of an activation with this range.

        >>> TFLITE.quantization(0.0, 2.55).zero_point
        (-128,)
        """
        return (symmetric_quantization if self.symmetric else affine_quantization)(low, high)


TFLITE = Scheme(symmetric=False, integer_bias=True, at="results")
"""The TensorFlow Lite 8-bit quantization specification, which integer Programs follow."""

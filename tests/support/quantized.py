"""Run integer Programs with real numbers, beside the ONNX model with Q/DQ that they came from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from edgekit.program.interpret import Interpreter
from edgekit.program.ir import Program, Quantization
from tests.support.onnx_models import run_onnx


def to_codes(real: np.ndarray, quantization: Quantization) -> np.ndarray:
    """int8 codes as ONNX's QuantizeLinear gives them."""
    codes = np.rint(real / np.float32(quantization.scalar_scale)) + quantization.scalar_zero_point
    return np.clip(codes, -128, 127).astype(np.int8)


@dataclass
class Difference:
    """Elements compared, how many differ, and the largest difference in steps."""

    elements: int = 0
    mismatches: int = 0
    steps: int = 0

    def __str__(self) -> str:
        rate = self.mismatches / max(1, self.elements)
        return f"{self.mismatches} of {self.elements} differ ({rate:.2%}), by {self.steps} at most"


def program_feeds(program: Program, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Real inputs as codes where the Program takes integers."""
    result = {}
    for boundary in program.inputs:
        quantization = program.tensors[boundary.tensor].quantization
        value = feeds[boundary.name]
        result[boundary.name] = value if quantization is None else to_codes(value, quantization)
    return result


def compare(program: Program, model: bytes, samples: list[Mapping[str, np.ndarray]]) -> Difference:
    """The Program's outputs against ONNX Runtime's on the same Q/DQ model, in steps."""
    found, interpreter = Difference(), Interpreter(program)
    for feeds in samples:
        want = run_onnx(model, feeds)
        got = interpreter.run(program_feeds(program, feeds))
        for boundary in program.outputs:
            expected, actual = want[boundary.name], got[boundary.name]
            quantization = program.tensors[boundary.tensor].quantization
            if quantization is not None:
                expected = to_codes(expected, quantization)
            assert actual.shape == expected.shape
            difference = np.abs(actual.astype(np.int64) - expected)
            found.elements += difference.size
            found.mismatches += int((difference > 0).sum())
            found.steps = max(found.steps, int(difference.max(initial=0)))
    return found

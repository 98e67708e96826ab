"""Run integer Programs with real numbers, beside the ONNX model with Q/DQ that they came from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import TensorProto, helper

from edgekit.model import Model
from edgekit.model.passes import optimize
from edgekit.program.interpret import Interpreter, to_program
from edgekit.program.ir import Program, Quantization
from edgekit.program.lowering import LOWERINGS, Value, lower_optimized
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

    def add(self, got: np.ndarray, want: np.ndarray) -> None:
        """Count two arrays of codes."""
        assert got.shape == want.shape
        difference = np.abs(got.astype(np.int64) - want)
        self.elements += difference.size
        self.mismatches += int((difference > 0).sum())
        self.steps = max(self.steps, int(difference.max(initial=0)))

    def include(self, other: Difference) -> None:
        """Count what another has counted."""
        self.elements += other.elements
        self.mismatches += other.mismatches
        self.steps = max(self.steps, other.steps)

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
            found.add(actual, expected)
    return found


def compare_layers(
    model: Model, samples: Sequence[Mapping[str, np.ndarray]]
) -> dict[str, Difference]:
    """Every quantised activation against ONNX Runtime's, by its name in the Program.

    What comes before an activation is given as ONNX Runtime has it, so a difference is the doing
    of the operations that lead from the last quantised activations to this one, mostly one.

    Args:
        model: with QuantizeLinear to int8 behind every layer.
        samples: real inputs.
    """
    model = optimize(model, keep=LOWERINGS)
    lowered = lower_optimized(model)
    program, data = lowered.program, model.to_bytes()
    codes = _names_of_codes(data)
    standing: dict[str, list[tuple[str, Value]]] = {}
    for name in codes:
        value = lowered.values[name]
        standing.setdefault(value.tensor, []).append((name, value))
    found = {name: Difference() for op in program.operations for name in op.outputs}
    found = {name: difference for name, difference in found.items() if name in standing}
    constants = {n: t.data for n, t in program.tensors.items() if t.data is not None}
    exposed = _exposed(data, codes)
    for feeds in samples:
        reference = run_onnx(exposed, feeds)
        tensors: dict[str, np.ndarray] = dict(constants)
        inputs = program_feeds(program, feeds)
        for boundary in program.inputs:
            tensor = program.tensors[boundary.tensor]
            tensors[boundary.tensor] = to_program(boundary, tensor, inputs[boundary.name])
        for state in program.state:
            kind = program.tensors[state.read]
            tensors[state.read] = np.full(kind.shape, state.initial, kind.dtype.numpy)
        for operation in program.operations:
            arguments = [None if n is None else tensors[n] for n in operation.inputs]
            results = operation.operator.reference(*arguments)
            tensors.update(zip(operation.outputs, results, strict=True))
            for output in operation.outputs:
                shape = tensors[output].shape
                for name, value in standing.get(output, ()):
                    order = value.arrangement.gather(range(len(value.shape)))
                    want = reference[name].reshape(-1)[order].reshape(shape)
                    found[output].add(results[operation.outputs.index(output)], want)
                    tensors[output] = want
    return found


def _names_of_codes(model: bytes) -> list[str]:
    """Results of the QuantizeLinear nodes."""
    nodes = onnx.load_from_string(model).graph.node
    return [node.output[0] for node in nodes if node.op_type == "QuantizeLinear"]


def _exposed(model: bytes, names: Sequence[str]) -> bytes:
    """The model with int8 values as further outputs."""
    proto = onnx.load_from_string(model)
    proto.graph.output.extend(
        helper.make_tensor_value_info(name, TensorProto.INT8, None) for name in names
    )
    return proto.SerializeToString()

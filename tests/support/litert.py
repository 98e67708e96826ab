"""LiteRT's reference kernels as an oracle: build small .tflite models and run them."""

from __future__ import annotations

import contextlib
from typing import Any

import numpy as np

# Tests that need these carry @pytest.mark.needs("litert"); without them they are still collected,
# so that they are listed as not run.
with contextlib.suppress(ModuleNotFoundError):
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema
    from ai_edge_litert.interpreter import Interpreter, OpResolverType


class TFLiteBuilder:
    """A .tflite model, one tensor and one operator at a time.

    >>> b = TFLiteBuilder()
    >>> x = b.tensor("x", (1, 4), "int8", scale=0.5, zero_point=3)
    >>> y = b.tensor("y", (1, 4), "int8", scale=0.5, zero_point=3)
    >>> b.operator("RELU", [x], [y])
    >>> blob = b.build([x], [y])
    >>> run_litert(blob, np.array([[1, 3, 5, -7]], np.int8))[0].tolist()
    [[3, 3, 5, 3]]
    """

    def __init__(self) -> None:
        self.buffers = [schema.BufferT()]
        self.tensors: list[Any] = []
        self.operators: list[Any] = []
        self.codes: list[Any] = []

    def tensor(
        self,
        name: str,
        shape: tuple[int, ...],
        dtype: str,
        *,
        scale: Any = None,
        zero_point: Any = 0,
        axis: int = 0,
        data: np.ndarray | None = None,
    ) -> int:
        """Add a tensor; `scale` a number, or a sequence along `axis`. Returns its index."""
        tensor = schema.TensorT()
        tensor.name, tensor.shape = name, list(shape)
        tensor.type = getattr(schema.TensorType, dtype.upper())
        if scale is not None:
            quantization = schema.QuantizationParametersT()
            quantization.scale = np.atleast_1d(np.asarray(scale, np.float32))
            zero_points = np.broadcast_to(zero_point, quantization.scale.shape)
            quantization.zeroPoint = np.asarray(zero_points, np.int64)
            quantization.quantizedDimension = axis
            tensor.quantization = quantization
        if data is not None:
            buffer = schema.BufferT()
            buffer.data = np.frombuffer(np.ascontiguousarray(data, dtype).tobytes(), np.uint8)
            self.buffers.append(buffer)
            tensor.buffer = len(self.buffers) - 1
        self.tensors.append(tensor)
        return len(self.tensors) - 1

    def operator(
        self,
        builtin: str,
        inputs: list[int],
        outputs: list[int],
        options: Any = None,
        version: int = 1,
    ) -> None:
        """Add an operator; `options` is a ``schema.<Name>OptionsT`` object; input −1 is absent."""
        code = getattr(schema.BuiltinOperator, builtin)
        entry = schema.OperatorCodeT()
        entry.builtinCode, entry.deprecatedBuiltinCode, entry.version = (
            code,
            min(code, 127),
            version,
        )
        self.codes.append(entry)
        op = schema.OperatorT()
        op.opcodeIndex = len(self.codes) - 1
        op.inputs, op.outputs = list(inputs), list(outputs)
        if options is not None:
            kind = type(options).__name__.removesuffix("T")
            op.builtinOptionsType = getattr(schema.BuiltinOptions, kind)
            op.builtinOptions = options
        self.operators.append(op)

    def build(self, inputs: list[int], outputs: list[int]) -> bytes:
        """The file's bytes."""
        graph = schema.SubGraphT()
        graph.name, graph.tensors, graph.operators = "main", self.tensors, self.operators
        graph.inputs, graph.outputs = list(inputs), list(outputs)
        model = schema.ModelT()
        model.version, model.description = 3, "test"
        model.operatorCodes, model.subgraphs, model.buffers = self.codes, [graph], self.buffers
        builder = flatbuffers.Builder(1024)
        builder.Finish(model.Pack(builder), b"TFL3")
        return bytes(builder.Output())


class LiteRT:
    """A model in LiteRT's reference kernels; call it with NumPy arrays."""

    def __init__(self, model: bytes) -> None:
        self.interpreter = Interpreter(
            model_content=model,
            experimental_op_resolver_type=OpResolverType.BUILTIN_REF,
            experimental_preserve_all_tensors=True,
        )
        self.interpreter.allocate_tensors()

    def __call__(self, *inputs: np.ndarray) -> list[np.ndarray]:
        """Run once; arrays in the order of the inputs and of the outputs."""
        for detail, value in zip(self.interpreter.get_input_details(), inputs, strict=True):
            self.interpreter.set_tensor(detail["index"], value)
        self.interpreter.invoke()
        return [
            self.interpreter.get_tensor(d["index"]) for d in self.interpreter.get_output_details()
        ]


def run_litert(model: bytes, *inputs: np.ndarray) -> list[np.ndarray]:
    """Run a model once."""
    return LiteRT(model)(*inputs)

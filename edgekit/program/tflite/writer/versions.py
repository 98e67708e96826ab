"""What the kernels of LiteRT's builtin operators take: versions, dtypes, ranks.

The version of an operator says since when the runtime has had what the operator needs; a runtime
that is too old then refuses the file instead of misreading it.

Source: the public table of operator versions of TFLite ("op_version"), and LiteRT 2.3's kernels,
whose refusals the tests meet.
"""

from __future__ import annotations

from edgekit.program.ir import DType

_F32, _I8, _I16 = DType.FLOAT32, DType.INT8, DType.INT16
_I32, _I64 = DType.INT32, DType.INT64

VERSIONS: dict[str, dict[DType, int]] = {
    "ADD": {_F32: 1, _I8: 2, _I16: 3},
    "ARG_MAX": {_F32: 1, _I8: 2},
    "AVERAGE_POOL_2D": {_F32: 1, _I8: 2, _I16: 3},
    "BATCH_MATMUL": {_F32: 1, _I8: 2, _I16: 3},
    "CONCATENATION": {_F32: 1, _I8: 2, _I16: 3, _I32: 1, _I64: 1},
    "CONV_2D": {_F32: 1, _I8: 3, _I16: 4},
    "DEPTHWISE_CONV_2D": {_F32: 1, _I8: 3, _I16: 5},
    "DEQUANTIZE": {_I8: 2, _I16: 3},
    "FULLY_CONNECTED": {_F32: 1, _I8: 4, _I16: 7},
    "HARD_SWISH": {_F32: 1, _I8: 1},
    "LEAKY_RELU": {_F32: 1, _I8: 1, _I16: 2},
    "LOGISTIC": {_F32: 1, _I8: 2, _I16: 3},
    "MAX_POOL_2D": {_F32: 1, _I8: 2, _I16: 3},
    "MEAN": {_F32: 1, _I8: 2, _I16: 3},
    "MUL": {_F32: 1, _I8: 2, _I16: 4},
    "PAD": {_F32: 1, _I8: 2, _I16: 3},
    "PADV2": {_F32: 1, _I8: 2, _I16: 3, _I32: 1, _I64: 1},
    "QUANTIZE": {_F32: 1, _I8: 1, _I16: 1, _I32: 1},
    "RELU": {_F32: 1, _I8: 2, _I16: 3},
    "RELU6": {_F32: 1, _I8: 2, _I16: 3},
    "RELU_N1_TO_1": {_F32: 1, _I8: 1},
    "RESHAPE": {_F32: 1, _I8: 1, _I16: 1, _I32: 1, _I64: 1},
    "RESIZE_NEAREST_NEIGHBOR": {_F32: 1, _I8: 2, _I16: 4},
    "SLICE": {_F32: 1, _I8: 2, _I16: 4, _I32: 1, _I64: 1},
    "SOFTMAX": {_F32: 1, _I8: 2, _I16: 3},
    "SPLIT": {_F32: 1, _I8: 2, _I16: 4, _I32: 3},
    "SPLIT_V": {_F32: 1, _I8: 2, _I16: 1, _I32: 1, _I64: 1},
    "STRIDED_SLICE": {_F32: 1, _I8: 2, _I16: 1, _I32: 1, _I64: 1},
    "SUB": {_F32: 1, _I8: 2, _I16: 5},
    "TANH": {_F32: 1, _I8: 2, _I16: 3},
    "TRANSPOSE": {_F32: 1, _I8: 2, _I16: 5, _I32: 1, _I64: 1},
    "TRANSPOSE_CONV": {_F32: 1, _I8: 2, _I16: 2},
}
"""Version by builtin operator and dtype of the data that goes in; other dtypes have no kernel."""

MOST_RANKS: dict[str, int] = {
    "PAD": 5,
    "PADV2": 5,
    "SLICE": 5,
    "SOFTMAX": 4,
    "STRIDED_SLICE": 5,
    "TRANSPOSE": 6,
}
"""Highest rank of the data that goes in, where kernels have a bound."""

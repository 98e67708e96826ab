"""The part of the ``.tflite`` schema that the reader and the writer use, as data.

Source: the public schema of the TFLite file format, version 3 (file identifier ``TFL3``). A table
maps names to fields; slots count as the schema does, a union taking two (its type, then itself).
"""

from __future__ import annotations

from edgekit.program.tflite.flatbuffer import Child, Children, Fields, Scalar, Text, Vector

IDENTIFIER = b"TFL3"
VERSION = 3

BUFFER_ALIGNMENT = 16
"""Bytes: where kernels that load whole vectors want constants to begin."""

QUANTIZATION: Fields = {
    "scale": Vector(2, "<f4"),
    "zero_point": Vector(3, "<i8"),
    "details_type": Scalar(4, "<B"),
    "quantized_dimension": Scalar(6, "<i"),
}

SPARSITY: Fields = {}

TENSOR: Fields = {
    "shape": Vector(0, "<i4"),
    "type": Scalar(1, "<b"),
    "buffer": Scalar(2, "<I"),
    "name": Text(3),
    "quantization": Child(4, QUANTIZATION),
    "is_variable": Scalar(5, "<?"),
    "sparsity": Child(6, SPARSITY),
    "shape_signature": Vector(7, "<i4"),
    "external_buffer": Scalar(10, "<I"),
}

OPERATOR_CODE: Fields = {
    "deprecated_builtin_code": Scalar(0, "<b"),
    "custom_code": Text(1),
    "version": Scalar(2, "<i", 1),
    "builtin_code": Scalar(3, "<i"),
}

OPERATOR: Fields = {
    "opcode_index": Scalar(0, "<I"),
    "inputs": Vector(1, "<i4"),
    "outputs": Vector(2, "<i4"),
    "builtin_options_type": Scalar(3, "<B"),
    "builtin_options": Child(4, None),
}

SUBGRAPH: Fields = {
    "tensors": Children(0, TENSOR),
    "inputs": Vector(1, "<i4"),
    "outputs": Vector(2, "<i4"),
    "operators": Children(3, OPERATOR),
    "name": Text(4),
}

BUFFER: Fields = {
    "data": Vector(0, "<u1", BUFFER_ALIGNMENT),
    "offset": Scalar(1, "<Q"),
    "size": Scalar(2, "<Q"),
}

MODEL: Fields = {
    "version": Scalar(0, "<I"),
    "operator_codes": Children(1, OPERATOR_CODE),
    "subgraphs": Children(2, SUBGRAPH),
    "description": Text(3),
    "buffers": Children(4, BUFFER),
}

_WINDOW: Fields = {
    "padding": Scalar(0, "<b"),
    "stride_w": Scalar(1, "<i"),
    "stride_h": Scalar(2, "<i"),
}

OPTIONS: dict[str, tuple[int, Fields]] = {
    "Conv2DOptions": (
        1,
        {
            **_WINDOW,
            "fused_activation": Scalar(3, "<b"),
            "dilation_w": Scalar(4, "<i", 1),
            "dilation_h": Scalar(5, "<i", 1),
        },
    ),
    "DepthwiseConv2DOptions": (
        2,
        {
            **_WINDOW,
            "depth_multiplier": Scalar(3, "<i"),
            "fused_activation": Scalar(4, "<b"),
            "dilation_w": Scalar(5, "<i", 1),
            "dilation_h": Scalar(6, "<i", 1),
        },
    ),
    "Pool2DOptions": (
        5,
        {
            **_WINDOW,
            "filter_width": Scalar(3, "<i"),
            "filter_height": Scalar(4, "<i"),
            "fused_activation": Scalar(5, "<b"),
        },
    ),
    "FullyConnectedOptions": (
        8,
        {
            "fused_activation": Scalar(0, "<b"),
            "weights_format": Scalar(1, "<b"),
            "keep_num_dims": Scalar(2, "<?"),
        },
    ),
    "SoftmaxOptions": (9, {"beta": Scalar(0, "<f")}),
    "ConcatenationOptions": (10, {"axis": Scalar(0, "<i"), "fused_activation": Scalar(1, "<b")}),
    "AddOptions": (
        11,
        {"fused_activation": Scalar(0, "<b"), "pot_scale_int16": Scalar(1, "<?", True)},
    ),
    "ReshapeOptions": (17, {"new_shape": Vector(0, "<i4")}),
    "MulOptions": (21, {"fused_activation": Scalar(0, "<b")}),
    "ReducerOptions": (27, {"keep_dims": Scalar(0, "<?")}),
    "SubOptions": (
        28,
        {"fused_activation": Scalar(0, "<b"), "pot_scale_int16": Scalar(1, "<?", True)},
    ),
    "SqueezeOptions": (30, {"squeeze_dims": Vector(0, "<i4")}),
    "StridedSliceOptions": (
        32,
        {
            "begin_mask": Scalar(0, "<i"),
            "end_mask": Scalar(1, "<i"),
            "ellipsis_mask": Scalar(2, "<i"),
            "new_axis_mask": Scalar(3, "<i"),
            "shrink_axis_mask": Scalar(4, "<i"),
            "offset": Scalar(5, "<?"),
        },
    ),
    "SplitOptions": (35, {"num_splits": Scalar(0, "<i")}),
    "ArgMaxOptions": (40, {"output_type": Scalar(0, "<b")}),
    "TransposeConvOptions": (49, {**_WINDOW, "fused_activation": Scalar(3, "<b")}),
    "ResizeNearestNeighborOptions": (
        74,
        {"align_corners": Scalar(0, "<?"), "half_pixel_centers": Scalar(1, "<?")},
    ),
    "LeakyReluOptions": (75, {"alpha": Scalar(0, "<f")}),
    "SplitVOptions": (79, {"num_splits": Scalar(0, "<i")}),
    "BatchMatMulOptions": (101, {"adj_x": Scalar(0, "<?"), "adj_y": Scalar(1, "<?")}),
}
"""Option tables by name: their number in the union ``BuiltinOptions``, and their fields."""

TENSOR_TYPES: tuple[str, ...] = tuple(
    """
    float32 float16 int32 uint8 int64 string bool int16 complex64 int8 float64 complex128 uint64
    resource variant uint32 uint16 int4 bfloat16 int2 uint4 float8_e4m3fn float8_e5m2
    """.split()
)
"""Element types by their number."""

PADDINGS = ("same", "valid")
"""Paddings by their number."""

ACTIVATIONS = ("none", "relu", "relu_n1_to_1", "relu6", "tanh", "sign_bit")
"""Fused activations by their number."""

BUILTINS: tuple[str, ...] = tuple(
    """
    ADD AVERAGE_POOL_2D CONCATENATION CONV_2D DEPTHWISE_CONV_2D DEPTH_TO_SPACE DEQUANTIZE
    EMBEDDING_LOOKUP FLOOR FULLY_CONNECTED HASHTABLE_LOOKUP L2_NORMALIZATION L2_POOL_2D
    LOCAL_RESPONSE_NORMALIZATION LOGISTIC LSH_PROJECTION LSTM MAX_POOL_2D MUL RELU
    RELU_N1_TO_1 RELU6 RESHAPE RESIZE_BILINEAR RNN SOFTMAX SPACE_TO_DEPTH SVDF TANH
    CONCAT_EMBEDDINGS SKIP_GRAM CALL CUSTOM EMBEDDING_LOOKUP_SPARSE PAD
    UNIDIRECTIONAL_SEQUENCE_RNN GATHER BATCH_TO_SPACE_ND SPACE_TO_BATCH_ND TRANSPOSE MEAN SUB
    DIV SQUEEZE UNIDIRECTIONAL_SEQUENCE_LSTM STRIDED_SLICE BIDIRECTIONAL_SEQUENCE_RNN EXP
    TOPK_V2 SPLIT LOG_SOFTMAX DELEGATE BIDIRECTIONAL_SEQUENCE_LSTM CAST PRELU MAXIMUM ARG_MAX
    MINIMUM LESS NEG PADV2 GREATER GREATER_EQUAL LESS_EQUAL SELECT SLICE SIN TRANSPOSE_CONV
    SPARSE_TO_DENSE TILE EXPAND_DIMS EQUAL NOT_EQUAL LOG SUM SQRT RSQRT SHAPE POW ARG_MIN
    FAKE_QUANT REDUCE_PROD REDUCE_MAX PACK LOGICAL_OR ONE_HOT LOGICAL_AND LOGICAL_NOT UNPACK
    REDUCE_MIN FLOOR_DIV REDUCE_ANY SQUARE ZEROS_LIKE FILL FLOOR_MOD RANGE
    RESIZE_NEAREST_NEIGHBOR LEAKY_RELU SQUARED_DIFFERENCE MIRROR_PAD ABS SPLIT_V UNIQUE CEIL
    REVERSE_V2 ADD_N GATHER_ND COS WHERE RANK ELU REVERSE_SEQUENCE MATRIX_DIAG QUANTIZE
    MATRIX_SET_DIAG ROUND HARD_SWISH IF WHILE NON_MAX_SUPPRESSION_V4 NON_MAX_SUPPRESSION_V5
    SCATTER_ND SELECT_V2 DENSIFY SEGMENT_SUM BATCH_MATMUL PLACEHOLDER_FOR_GREATER_OP_CODES
    CUMSUM CALL_ONCE BROADCAST_TO RFFT2D CONV_3D IMAG REAL COMPLEX_ABS HASHTABLE
    HASHTABLE_FIND HASHTABLE_IMPORT HASHTABLE_SIZE REDUCE_ALL CONV_3D_TRANSPOSE VAR_HANDLE
    READ_VARIABLE ASSIGN_VARIABLE BROADCAST_ARGS RANDOM_STANDARD_NORMAL BUCKETIZE
    RANDOM_UNIFORM MULTINOMIAL GELU DYNAMIC_UPDATE_SLICE RELU_0_TO_1 UNSORTED_SEGMENT_PROD
    UNSORTED_SEGMENT_MAX UNSORTED_SEGMENT_SUM ATAN2 UNSORTED_SEGMENT_MIN SIGN BITCAST
    BITWISE_XOR RIGHT_SHIFT STABLEHLO_LOGISTIC STABLEHLO_ADD STABLEHLO_DIVIDE
    STABLEHLO_MULTIPLY STABLEHLO_MAXIMUM STABLEHLO_RESHAPE STABLEHLO_CLAMP
    STABLEHLO_CONCATENATE STABLEHLO_BROADCAST_IN_DIM STABLEHLO_CONVOLUTION STABLEHLO_SLICE
    STABLEHLO_CUSTOM_CALL STABLEHLO_REDUCE STABLEHLO_ABS STABLEHLO_AND STABLEHLO_COSINE
    STABLEHLO_EXPONENTIAL STABLEHLO_FLOOR STABLEHLO_LOG STABLEHLO_MINIMUM STABLEHLO_NEGATE
    STABLEHLO_OR STABLEHLO_POWER STABLEHLO_REMAINDER STABLEHLO_RSQRT STABLEHLO_SELECT
    STABLEHLO_SUBTRACT STABLEHLO_TANH STABLEHLO_SCATTER STABLEHLO_COMPARE STABLEHLO_CONVERT
    STABLEHLO_DYNAMIC_SLICE STABLEHLO_DYNAMIC_UPDATE_SLICE STABLEHLO_PAD STABLEHLO_IOTA
    STABLEHLO_DOT_GENERAL STABLEHLO_REDUCE_WINDOW STABLEHLO_SORT STABLEHLO_WHILE
    STABLEHLO_GATHER STABLEHLO_TRANSPOSE DILATE STABLEHLO_RNG_BIT_GENERATOR REDUCE_WINDOW
    STABLEHLO_COMPOSITE STABLEHLO_SHIFT_LEFT STABLEHLO_CBRT STABLEHLO_CASE
    """.split()
)
"""Builtin operators by their number."""

CUSTOM = BUILTINS.index("CUSTOM")
"""An operator that the model's author defined."""

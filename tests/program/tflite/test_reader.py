"""Reading .tflite files: real models to the bit, names, and one clear error for all it refuses."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgekit.errors import EdgekitError, InvalidModelError, UnsupportedError
from edgekit.program.interpret import Interpreter, run
from edgekit.program.ir import Array, DType
from edgekit.program.tflite import READERS, read
from tests.support import litert
from tests.support.litert import LiteRT, TFLiteBuilder
from tests.support.tflite_models import Weighted, edited, options, small_network

needs_litert = pytest.mark.needs("litert")

INT8_MODELS = {
    "kws_dscnn": ((1, 49, 10, 1), (1, 12)),
    "ic_resnet8": ((1, 32, 32, 3), (1, 10)),
    "vww_96": ((1, 96, 96, 3), (1, 2)),
    "ad01": ((1, 640), (1, 640)),
}
"""Shapes of input and output of the reference models."""


def model_file(data_folder: Path, name: str) -> Path:
    """A reference model."""
    return data_folder / "models" / "mlperf_tiny" / f"{name}.tflite"


def real_inputs(data_folder: Path, name: str, shape: tuple[int, ...]) -> Array:
    """At least 100 inputs: recorded ones where there are any, else seeded."""
    if name == "kws_dscnn":
        return np.load(data_folder / "kws" / "gsc_test_mfcc.npz")["X"][::40].reshape(-1, *shape)
    if name == "ic_resnet8":
        images = np.load(data_folder / "images" / "cifar10_lossless_calib500.npz")
        pixels = next(images[k] for k in images.files if images[k].dtype == np.uint8)
        return (pixels[::5].astype(np.int16) - 128).astype(np.int8).reshape(-1, *shape)
    rng = np.random.default_rng(7)
    return rng.integers(-128, 128, (100, *shape)).astype(np.int8)


@needs_litert
@pytest.mark.parametrize("name", INT8_MODELS)
def test_int8_models_are_bit_identical(data_folder: Path, name: str) -> None:
    """Every output of every input equals LiteRT's reference kernels."""
    path = model_file(data_folder, f"{name}_int8")
    program = read(path)
    shapes = INT8_MODELS[name]
    assert (program.inputs[0].source_shape, program.outputs[0].source_shape) == shapes
    samples = real_inputs(data_folder, name, shapes[0])
    assert len(samples) >= 100
    reference, interpreter = LiteRT(path.read_bytes()), Interpreter(program)
    for number, sample in enumerate(samples):
        got = interpreter.run({program.inputs[0].name: sample})[program.outputs[0].name]
        assert np.array_equal(got, reference(sample)[0]), f"sample {number}"


@needs_litert
@pytest.mark.parametrize("name", ["ic_resnet8", "vww_96", "ad01"])
def test_float_models_agree(data_folder: Path, name: str) -> None:
    """Sums run in LiteRT's order; only exponentials differ, in the last bits."""
    path = model_file(data_folder, f"{name}_fp32")
    program = read(path)
    assert all(t.dtype is DType.FLOAT32 for t in program.tensors.values())
    reference, rng = LiteRT(path.read_bytes()), np.random.default_rng(3)
    for _ in range(5):
        sample = rng.standard_normal(program.inputs[0].source_shape).astype(np.float32)
        got = run(program, {program.inputs[0].name: sample})[program.outputs[0].name]
        np.testing.assert_allclose(got, reference(sample)[0], rtol=1e-6, atol=1e-7)


@needs_litert
def test_hybrid_model_is_refused_unless_asked(data_folder: Path) -> None:
    """The float keyword model has int8 weights; LiteRT rounds its activations, we do not."""
    path = model_file(data_folder, "kws_dscnn_fp32")
    with pytest.raises(UnsupportedError, match=r"operator 0 \(CONV_2D\): hybrid"):
        read(path)
    program = read(path, dequantize_weights=True)
    recorded = np.load(data_folder / "kws" / "gsc_test_mfcc.npz")
    reference, interpreter = LiteRT(path.read_bytes()), Interpreter(program)
    worst, agreed, clips = 0.0, 0, recorded["X"][::40].astype(np.float32)
    for clip in (clips - recorded["zero_point"]) * recorded["scale"]:
        sample = clip.reshape(program.inputs[0].source_shape).astype(np.float32)
        got = interpreter.run({program.inputs[0].name: sample})[program.outputs[0].name]
        want = reference(sample)[0]
        worst = max(worst, float(np.abs(got - want).max()))
        agreed += int(got.argmax() == want.argmax())
    assert worst < 0.25
    assert agreed >= 0.98 * len(clips)


@needs_litert
class TestProgram:
    """What a Program takes over from its file."""

    def test_source_and_name(self, tmp_path: Path) -> None:
        """From the path, or as given."""
        path = tmp_path / "my-net.tflite"
        path.write_bytes(small_network())
        program = read(path)
        assert program.name == "my_net"
        assert program.source.startswith("my-net.tflite, sha256 ")
        assert read(small_network()).name == "model"
        assert read(path, name="other").name == "other"

    def test_constants_are_copies(self) -> None:
        """Nothing keeps the file's bytes alive, nothing can be written."""
        for tensor in read(small_network()).tensors.values():
            if tensor.data is not None:
                assert tensor.data.base is None or isinstance(tensor.data.base, np.ndarray)
                assert not tensor.data.flags.writeable

    def test_names_stay_and_become_unique(self) -> None:
        """Hostile text, duplicates and empty names."""
        b = TFLiteBuilder()
        nasty = 'a */ "\n\\é'
        tensors = [b.tensor(name, (1, 4), "int8", scale=0.5) for name in (nasty, nasty, "", nasty)]
        for given, made in pairwise(tensors):
            b.operator("RELU", [given], [made])
        program = read(b.build(tensors[:1], tensors[-1:]))
        assert list(program.tensors) == [nasty, f"{nasty}:1", "tensor_2", f"{nasty}:2"]
        assert program.inputs[0].name == nasty

    def test_names_that_are_no_text(self) -> None:
        """Bytes that are no UTF-8 are replaced."""
        broken = small_network().replace(b"input", b"inp\xff\xfe")
        assert read(broken).inputs[0].name == "inp\ufffd\ufffd"

    def test_what_has_no_effect_is_dropped(self) -> None:
        """Unused tensors are not even looked at; operators nobody reads go."""
        b = TFLiteBuilder()
        x, y, dead = (b.tensor(n, (1, 4), "int8", scale=0.5) for n in ("x", "y", "dead"))
        b.tensor("unused", (1, 4), "uint8")
        b.operator("RELU6", [x], [dead])
        b.operator("RELU", [x], [y])
        program = read(b.build([x], [y]))
        assert [op.name for op in program.operations] == ["y"]
        assert set(program.tensors) == {"x", "y"}

    def test_batch_that_is_open_but_one_is_read(self) -> None:
        """Converters leave the batch open and store 1."""

        def opened(model: Any) -> None:
            model.subgraphs[0].tensors[0].shapeSignature = [-1, 6, 5, 3]

        assert read(edited(small_network(), opened)).inputs[0].source_shape == (1, 6, 5, 3)


def first_tensor(**fields: Any) -> Callable[[Any], None]:
    """An edit that sets fields of the network's input."""

    def change(model: Any) -> None:
        for key, value in fields.items():
            assert hasattr(model.subgraphs[0].tensors[0], key)
            setattr(model.subgraphs[0].tensors[0], key, value)

    return change


def quantization(**fields: Any) -> Callable[[Any], None]:
    """An edit that sets fields of the input's quantisation."""

    def change(model: Any) -> None:
        for key, value in fields.items():
            setattr(model.subgraphs[0].tensors[0].quantization, key, value)

    return change


def tensor_type(name: str) -> int:
    """Number of an element type."""
    return int(getattr(litert.schema.TensorType, name))


def several_subgraphs(model: Any) -> None:
    """A second subgraph."""
    model.subgraphs.append(model.subgraphs[0])


def other_version(model: Any) -> None:
    """A schema version of the past."""
    model.version = 2


def open_rows(model: Any) -> None:
    """A dynamic height."""
    model.subgraphs[0].tensors[0].shapeSignature = [1, -1, 5, 3]


def negative_extent(model: Any) -> None:
    """A dynamic extent inside the network."""
    model.subgraphs[0].tensors[1].shape = [1, 3, -1, 4]


def sparse(model: Any) -> None:
    """A sparse tensor."""
    model.subgraphs[0].tensors[0].sparsity = litert.schema.SparsityParametersT()


def short_buffer(model: Any) -> None:
    """Weights whose buffer lacks a byte."""
    weights = model.subgraphs[0].operators[0].inputs[1]
    buffer = model.buffers[model.subgraphs[0].tensors[weights].buffer]
    buffer.data = buffer.data[:-1]


def no_buffer(model: Any) -> None:
    """A buffer index beyond the table."""
    model.subgraphs[0].tensors[0].buffer = 999


def computed_weights(model: Any) -> None:
    """Weights without data."""
    weights = model.subgraphs[0].operators[0].inputs[1]
    model.subgraphs[0].tensors[weights].buffer = 0


def asymmetric_weights(model: Any) -> None:
    """Weights with a zero point."""
    weights = model.subgraphs[0].operators[0].inputs[1]
    model.subgraphs[0].tensors[weights].quantization.zeroPoint = [0, 1, 0, 0]


def wrong_axis(model: Any) -> None:
    """Scales along an axis of another size."""
    weights = model.subgraphs[0].operators[0].inputs[1]
    model.subgraphs[0].tensors[weights].quantization.quantizedDimension = 1


def missing_input(model: Any) -> None:
    """An operator with one input too few."""
    model.subgraphs[0].operators[2].inputs = model.subgraphs[0].operators[2].inputs[:1]


def absent_input(model: Any) -> None:
    """A required input that is absent."""
    model.subgraphs[0].operators[2].inputs = [-1, 1]


def wild_input(model: Any) -> None:
    """An input index beyond the table."""
    model.subgraphs[0].operators[2].inputs = [4711, 1]


def wild_code(model: Any) -> None:
    """An operator code beyond the table."""
    model.subgraphs[0].operators[2].opcodeIndex = 99


def wrong_options(model: Any) -> None:
    """The options of another operator."""
    pool = model.subgraphs[0].operators[3]
    pool.builtinOptions, pool.builtinOptionsType = options("Softmax"), 9


def stride_zero(model: Any) -> None:
    """A window that does not move."""
    model.subgraphs[0].operators[0].builtinOptions.strideH = 0


def wild_padding(model: Any) -> None:
    """A padding that does not exist."""
    model.subgraphs[0].operators[0].builtinOptions.padding = 7


def fused_tanh(model: Any) -> None:
    """A fused activation that nothing executes."""
    model.subgraphs[0].operators[0].builtinOptions.fusedActivationFunction = 4


def shuffled(model: Any) -> None:
    """Weights in a layout of one processor family."""
    model.subgraphs[0].operators[5].builtinOptions.weightsFormat = 1


def backwards(model: Any) -> None:
    """Operators out of order."""
    model.subgraphs[0].operators.reverse()


def wrong_shape(model: Any) -> None:
    """A declared output that does not fit its operator."""
    model.subgraphs[0].tensors[1].shape = [1, 3, 3, 5]


def other_pool_scale(model: Any) -> None:
    """A pool that would have to rescale."""
    pooled = model.subgraphs[0].operators[3].outputs[0]
    model.subgraphs[0].tensors[pooled].quantization.scale = [0.31]


def other_softmax(model: Any) -> None:
    """A softmax with a scale that its arithmetic does not have."""
    result = model.subgraphs[0].operators[6].outputs[0]
    model.subgraphs[0].tensors[result].quantization.scale = [0.01]


def no_outputs(model: Any) -> None:
    """A network that returns nothing."""
    model.subgraphs[0].outputs = []


def two_outputs(model: Any) -> None:
    """One tensor returned twice."""
    model.subgraphs[0].outputs = list(model.subgraphs[0].outputs) * 2


def many_outputs(model: Any) -> None:
    """More outputs than any network has."""
    model.subgraphs[0].outputs = list(range(2000))


REFUSED: list[tuple[Callable[[Any], None], type[EdgekitError], str]] = [
    (several_subgraphs, UnsupportedError, "has 2 subgraphs, supported is one"),
    (other_version, UnsupportedError, "schema version 2, supported is 3"),
    (open_rows, UnsupportedError, r"input 'input' is dynamic along axis 1 of \[1, -1, 5, 3\]"),
    (negative_extent, UnsupportedError, r"'first': axis 2 of \[1, 3, -1, 4\] is dynamic"),
    (sparse, UnsupportedError, "'input': is sparse"),
    (first_tensor(isVariable=True), UnsupportedError, "is a variable"),
    (first_tensor(externalBuffer=3), UnsupportedError, "another file"),
    (first_tensor(shape=[1 << 16, 1 << 15, 5, 3]), UnsupportedError, "more than 2147483647 bytes"),
    (first_tensor(type=3), UnsupportedError, "'input': uint8 is not supported.*convert the model"),
    (first_tensor(type=7), UnsupportedError, "16x8 quantisation"),
    (first_tensor(type=1), UnsupportedError, "float16 is not supported"),
    (first_tensor(type=17), UnsupportedError, "int4 is not supported"),
    (first_tensor(type=99), InvalidModelError, "element type 99"),
    (first_tensor(quantization=None), InvalidModelError, "'input' is int8 without scale"),
    (quantization(scale=[]), InvalidModelError, "'input' is int8 without scale"),
    (quantization(scale=[np.nan]), InvalidModelError, "scale 0 is nan"),
    (quantization(scale=[np.inf]), InvalidModelError, "scale 0 is inf"),
    (quantization(scale=[-0.5]), InvalidModelError, "scale 0 is -0.5"),
    (quantization(scale=[0.0]), InvalidModelError, "scale 0 is 0.0"),
    (quantization(zeroPoint=[128]), InvalidModelError, "zero point does not fit int8"),
    (quantization(zeroPoint=[1, 2]), InvalidModelError, "1 scales and 2 zero points"),
    (quantization(detailsType=1), UnsupportedError, "not affine"),
    (
        quantization(scale=[0.1] * 3, zeroPoint=[0] * 3, quantizedDimension=3),
        UnsupportedError,
        "'input' has 3 scales along axis 3; activations must have one",
    ),
    (short_buffer, InvalidModelError, r"its buffer holds 71 bytes, int8\[4, 3, 2, 3\] needs 72"),
    (no_buffer, InvalidModelError, "buffer 999 is outside"),
    (computed_weights, UnsupportedError, "weights 'w' are computed, must be constant"),
    (asymmetric_weights, UnsupportedError, "zero points other than 0"),
    (wrong_axis, InvalidModelError, "4 scales along axis 1, which does not fit"),
    (missing_input, InvalidModelError, r"operator 2 \(ADD\): has 1 inputs, must have 2"),
    (absent_input, InvalidModelError, r"operator 2 \(ADD\): input 0 is absent"),
    (wild_input, InvalidModelError, "tensor index 4711 is outside"),
    (wild_code, InvalidModelError, "operator 2: operator code 99 is outside"),
    (wrong_options, InvalidModelError, "options are of type 9, must be 5"),
    (stride_zero, InvalidModelError, r"stride_h and stride_w are \[0, 2\], must be positive"),
    (wild_padding, InvalidModelError, "padding is 7"),
    (fused_tanh, UnsupportedError, "fused_activation is tanh; supported are none, relu"),
    (shuffled, UnsupportedError, "weights are shuffled"),
    (backwards, InvalidModelError, "before it is written"),
    (wrong_shape, InvalidModelError, r"\['first'\] is declared as int8\[1, 3, 3, 5\]"),
    (other_pool_scale, InvalidModelError, "'pooled' .scale 0.31, zero point 7. must be quantised"),
    (other_softmax, EdgekitError, r"operator 6 \(SOFTMAX\).*0.01"),
    (no_outputs, InvalidModelError, "no output"),
    (two_outputs, UnsupportedError, "'output' is 2 times among the outputs"),
    (many_outputs, UnsupportedError, "has 2000 outputs, at most 1024"),
]


@needs_litert
@pytest.mark.parametrize(
    ("change", "error", "message"), REFUSED, ids=[message[:40] for _, _, message in REFUSED]
)
def test_refused(change: Callable[[Any], None], error: type[EdgekitError], message: str) -> None:
    """One typed error, which says what is wrong and where; the model without the edit is read."""
    with pytest.raises(error, match=message) as caught:
        read(edited(small_network(), change))
    assert str(caught.value).startswith("model")


@needs_litert
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_weights_must_be_finite(value: float) -> None:
    """The message names the tensor and the place."""
    b = TFLiteBuilder()
    data = np.zeros((3, 4), np.float32)
    data[2, 1] = value
    x, y = b.tensor("x", (1, 4), "float32"), b.tensor("y", (1, 3), "float32")
    w = b.tensor("weights", (3, 4), "float32", data=data)
    b.operator("FULLY_CONNECTED", [x, w], [y], options("FullyConnected"))
    with pytest.raises(InvalidModelError, match=r"'weights': holds -?(nan|inf) at \[2, 1\]"):
        read(b.build([x], [y]))


@needs_litert
def test_scales_that_no_factor_joins() -> None:
    """Their ratio is no float32."""
    b = TFLiteBuilder()
    x = b.tensor("x", (1, 4), "int8", scale=2.0**99)
    y = b.tensor("y", (1, 4), "int8", scale=2.0**-99)
    b.operator("RELU", [x], [y])
    with pytest.raises(
        InvalidModelError, match=r"operator 0 \(RELU\): its scales are too far apart"
    ):
        read(b.build([x], [y]))


@needs_litert
def test_unsupported_operators_are_listed_at_once() -> None:
    """With place, what they write, and what is supported."""
    b = TFLiteBuilder()
    tensors = [b.tensor(f"t{i}", (1, 4), "float32") for i in range(5)]
    for i, builtin in enumerate(["FLOOR", "RELU", "CUSTOM", "FLOOR"]):
        b.operator(builtin, [tensors[i]], [tensors[i + 1]])
    b.codes[2].customCode = "Mystery"
    with pytest.raises(UnsupportedError) as caught:
        read(b.build(tensors[:1], tensors[-1:]))
    message = str(caught.value)
    assert "FLOOR (2), CUSTOM 'Mystery' (1)" in message
    assert "operator 0: FLOOR, writes ['t1']" in message
    assert "operator 2: CUSTOM 'Mystery', writes ['t3']" in message
    assert "operator 3: FLOOR, writes ['t4']" in message
    assert all(name in message for name in READERS)


@needs_litert
def test_many_unsupported_operators_are_counted() -> None:
    """The message stays readable."""
    b = TFLiteBuilder()
    tensors = [b.tensor(f"t{i}", (1, 4), "float32") for i in range(101)]
    for given, made in pairwise(tensors):
        b.operator("FLOOR", [given], [made])
    with pytest.raises(UnsupportedError, match=r"FLOOR \(100\)") as caught:
        read(b.build(tensors[:1], tensors[-1:]))
    assert "and 80 more" in str(caught.value)
    assert len(str(caught.value)) < 3000


@needs_litert
def test_16x8_is_read_where_allowed() -> None:
    """Refused by name otherwise."""
    b = TFLiteBuilder()
    make = Weighted(b, "int16")
    x, y = make.activation("x", (1, 4), 0.01, 0), make.activation("y", (1, 3), 0.02, 0)
    given = [x, make.weights((3, 4), None), make.bias(3)]
    b.operator("FULLY_CONNECTED", given, [y], options("FullyConnected"))
    model = b.build([x], [y])
    with pytest.raises(UnsupportedError, match="16x8"):
        read(model)
    assert read(model, allow_int16=True).tensors["x"].dtype is DType.INT16


@needs_litert
@pytest.mark.parametrize(
    ("builtin", "constants", "fields", "message"),
    [
        ("TRANSPOSE", [[0, 0]], None, "each of 0…1 once"),
        ("TRANSPOSE", [[0, 2]], None, "axis 2 is outside -2…1"),
        ("RESHAPE", [[3, -1]], None, "8 elements"),
        ("RESHAPE", [[-1, -1]], None, "8 elements"),
        ("EXPAND_DIMS", [5], None, "axis 5 is outside"),
        ("EXPAND_DIMS", [[0, 1]], None, "has 2 elements, must have one"),
        ("SLICE", [[0, 0], [3, 4]], None, "axis 0: begin 0, end 3"),
        ("SLICE", [[0], [2]], None, "1 begins and 1 sizes for 2 axes"),
        ("STRIDED_SLICE", [[0, 0], [2, 4], [1, 0]], ("StridedSlice", {}), "without stride 0"),
        (
            "STRIDED_SLICE",
            [[0, 0], [2, 4], [1, 1]],
            ("StridedSlice", {"newAxisMask": 1}),
            "new_axis_mask is 1; supported is 0",
        ),
        ("PAD", [[[0, 0]]], None, "2 entries, must have 4"),
        ("PAD", [[[0, 0], [-1, 0]]], None, "must not be negative"),
        ("MEAN", [[2]], ("Reducer", {}), "axis 2 is outside"),
        ("ARG_MAX", [3], None, "axis 3 is outside"),
        ("RESIZE_NEAREST_NEIGHBOR", [[2, 2]], None, "must have rank 4"),
        ("SPLIT_V", [[1, 2], 0], ("SplitV", {}), "2 sizes for 1 outputs"),
    ],
)
def test_refused_constants(
    builtin: str, constants: list[Any], fields: tuple[str, dict[str, Any]] | None, message: str
) -> None:
    """Shapes, axes and masks that do not fit x[2,4]."""
    b = TFLiteBuilder()
    x, y = (b.tensor(n, (2, 4), "float32") for n in ("x", "y"))
    given = [
        b.tensor(f"c{i}", np.shape(c), "int32", data=np.array(c, np.int32))
        for i, c in enumerate(constants)
    ]
    b.operator(
        builtin, [x, *given], [y], None if fields is None else options(fields[0], **fields[1])
    )
    with pytest.raises(EdgekitError, match=message):
        read(b.build([x], [y]))


@needs_litert
def test_joined_parts_must_be_quantized_alike() -> None:
    """LiteRT refuses it too: its kernel copies."""
    b = TFLiteBuilder()
    x, z = (b.tensor(n, (1, 2), "int8", scale=s) for n, s in (("x", 0.5), ("z", 0.25)))
    y = b.tensor("y", (1, 4), "int8", scale=0.5)
    b.operator("CONCATENATION", [x, z], [y], options("Concatenation", axis=1))
    with pytest.raises(InvalidModelError, match=r"'z' .* must be quantised as 'y'"):
        read(b.build([x, z], [y]))


@needs_litert
def test_computed_shape_is_refused() -> None:
    """The operator would be dynamic."""
    b = TFLiteBuilder()
    x, y = (b.tensor(n, (2, 4), "float32") for n in ("x", "y"))
    shape = b.tensor("shape", (2,), "int32")
    b.operator("RESHAPE", [x, shape], [y])
    with pytest.raises(UnsupportedError, match="'shape', is computed, must be constant"):
        read(b.build([x, shape], [y]))


class TestFiles:
    """What is no model at all."""

    def test_missing(self, tmp_path: Path) -> None:
        """The path is named."""
        with pytest.raises(InvalidModelError, match=r"none\.tflite: cannot be read: No such file"):
            read(tmp_path / "none.tflite")

    def test_folder(self, tmp_path: Path) -> None:
        """A folder is none."""
        with pytest.raises(InvalidModelError, match="cannot be read"):
            read(tmp_path)

    @pytest.mark.parametrize("content", [b"", b"TFL3", b"PK\x03\x04" * 9, b"\x80\x04K\x01."])
    def test_something_else(self, tmp_path: Path, content: bytes) -> None:
        """Empty files, archives, pickles; none of them is ever executed."""
        path = tmp_path / "x.tflite"
        path.write_bytes(content)
        with pytest.raises(InvalidModelError, match="not a TFL3 flatbuffer"):
            read(path)

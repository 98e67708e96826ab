"""Loading files that nobody vouches for."""

from __future__ import annotations

import os
import pickle
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from edgekit.errors import InvalidModelError, UnsupportedError, UsageError
from edgekit.model import load
from edgekit.model.nodes import shape_of
from tests.support.onnx_models import OnnxBuilder


def small(opset: int = 21) -> OnnxBuilder:
    b = OnnxBuilder(opset)
    x = b.input("x", (1, 3))
    b.output(b.node("MatMul", x, b.constant(np.ones((3, 2), np.float32), "w")))
    return b


def test_a_path_and_its_bytes_load_alike(tmp_path: Path) -> None:
    data = small().build()
    path = tmp_path / "net.onnx"
    path.write_bytes(data)
    from_path, from_bytes = load(path), load(data)
    assert from_path.to_bytes() == from_bytes.to_bytes()
    assert from_path.source.startswith("net.onnx sha256:")
    assert from_path.name == "net"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is empty"),
        (b"hello, world", "no protobuf or is truncated"),
        (pickle.dumps({"weights": [1, 2]}), "a pickle, which is never loaded"),
        (b"PK\x03\x04rest of a zip", "never unpickled"),
        (b"\x20\x00\x00\x00TFL3", "a .tflite file"),
        (b"\x89HDF\r\n", "an HDF5 file"),
        (b"version https://git-lfs.github.com/spec/v1", "git lfs pull"),
        (onnx.ModelProto(ir_version=8).SerializeToString(), "no graph with an output"),
    ],
)
def test_other_files_are_named(content: bytes, said: str) -> None:
    with pytest.raises(InvalidModelError, match=said):
        load(content)


def test_every_truncation_is_refused() -> None:
    data = small().build()
    loaded = 0
    for length in range(len(data)):
        try:
            load(data[:length])
        except (InvalidModelError, UsageError, UnsupportedError):
            continue
        loaded += 1
    # Only a cut between two fields of the outermost message can leave a whole model.
    assert loaded <= 4


def test_missing_and_unreadable_paths(tmp_path: Path) -> None:
    with pytest.raises(InvalidModelError, match="does not exist"):
        load(tmp_path / "none.onnx")
    with pytest.raises(InvalidModelError, match="is a folder"):
        load(tmp_path)


def _edit(change: Callable[[onnx.ModelProto], object]) -> bytes:
    proto = small().proto()
    change(proto)
    return proto.SerializeToString()


def _set_weights(proto: onnx.ModelProto, value: float) -> None:
    array = np.ones((3, 2), np.float32)
    array[1, 1] = value
    proto.graph.initializer[0].raw_data = array.tobytes()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            lambda p: p.graph.node[0].input.__setitem__(1, "nowhere"),
            "reads 'nowhere', which nothing",
        ),
        (lambda p: p.graph.node.append(p.graph.node[0]), "'matmul_0' is defined twice"),
        (lambda p: p.graph.node[0].output.__setitem__(0, "w"), "'w' is defined twice"),
        (lambda p: p.graph.input.append(p.graph.input[0]), "two inputs are called 'x'"),
        (lambda p: p.graph.initializer.append(p.graph.initializer[0]), "two initializers"),
        (lambda p: p.graph.output[0].__setattr__("name", "z"), "output 'z' is not computed"),
        (lambda p: p.graph.initializer[0].dims.__setitem__(0, 4), r"FLOAT\[4, 2\] but holds 24"),
        (lambda p: p.graph.initializer[0].dims.__setitem__(0, -3), "negative extent"),
        (lambda p: p.graph.initializer[0].dims.append(2**40), "but holds 24 bytes"),
        (lambda p: p.graph.initializer[0].dims.extend([2**62] * 20), "but holds 24 bytes"),
        (lambda p: _set_weights(p, np.nan), "initializer 'w' holds NaN"),
        (lambda p: _set_weights(p, np.inf), "initializer 'w' holds infinity"),
        (lambda p: p.graph.node[0].input.append("w"), "has 3 inputs, must have 2"),
        (
            lambda p: p.graph.node[0].attribute.append(helper.make_attribute("a", float("nan"))),
            "is not finite",
        ),
        (lambda p: p.ClearField("opset_import"), "imports no version"),
    ],
)
def test_malformed_models_are_explained(change: Callable, said: str) -> None:
    with pytest.raises(InvalidModelError, match=said):
        load(_edit(change))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda p: p.opset_import[0].__setattr__("version", 6), "opset 6, supported: 7 to"),
        (lambda p: p.opset_import[0].__setattr__("version", 99), "opset 99, supported: 7 to"),
        (lambda p: p.graph.initializer[0].__setattr__("data_type", 77), "unknown type 77"),
        (lambda p: p.graph.sparse_initializer.add(), "sparse initializers"),
    ],
)
def test_unsupported_models_are_explained(change: Callable, said: str) -> None:
    with pytest.raises(UnsupportedError, match=said):
        load(_edit(change))


def with_function(*change: Callable[[onnx.FunctionProto], object]) -> bytes:
    """A model whose only node calls ``acme.Leak(a) = Relu(LeakyRelu(a))``, with changes to that."""
    b = OnnxBuilder()
    b.output(b.node("Leak", b.input("x", (1, 3)), domain="acme"))
    nodes = [
        helper.make_node("LeakyRelu", ["a"], ["b"], name="leaky", alpha=0.5),
        helper.make_node("Relu", ["b"], ["c"], name="relu"),
    ]
    opsets = [helper.make_opsetid("", 21)]
    b.functions.append(helper.make_function("acme", "Leak", ["a"], ["c"], nodes, opsets))
    for apply in change:
        apply(b.functions[0])
    return b.build()


NAN = helper.make_attribute("alpha", float("nan"))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            lambda f: f.node[0].attribute[0].CopyFrom(NAN),
            "attribute 'alpha' of 'leaky' in function 'Leak' is not finite",
        ),
        (
            lambda f: f.attribute_proto.append(NAN),
            "attribute 'alpha' of function 'Leak' is not finite",
        ),
        (
            lambda f: f.attribute_proto.append(
                helper.make_attribute("t", helper.make_tensor("t", 1, [1], [float("nan")]))
            ),
            "attribute 't' of function 'Leak' holds NaN",
        ),
        (lambda f: f.node[1].input.__setitem__(0, "z"), "Leak.*'relu' reads 'z', which nothing"),
        (lambda f: f.node[0].input.__setitem__(0, "c"), "Leak.*'leaky' reads 'c', which nothing"),
        (lambda f: f.node[1].output.__setitem__(0, "b"), "Leak.*'b' is defined twice"),
        (lambda f: f.node[0].output.__delitem__(0), "Leak.*'leaky' has no output"),
        (lambda f: f.node[1].input.append("a"), "Leak.*'relu' has 2 inputs, must have 1"),
        (lambda f: f.input.append("a"), "Leak.*two inputs are called 'a'"),
        (lambda f: f.output.__setitem__(0, "d"), "Leak.*output 'd' is not computed"),
        (lambda f: f.input.__delitem__(0), "Leak node 'leak_0' has 1 inputs, must have 0"),
        (lambda f: f.output.append("b"), "Leak node 'leak_0' has 1 outputs, must have 2"),
    ],
)
def test_malformed_functions_are_explained(change: Callable, said: str) -> None:
    load(with_function())
    with pytest.raises(InvalidModelError, match=said):
        load(with_function(change))


@pytest.mark.parametrize("text", [b"matmul_0", b"MatMul", b"net"])
def test_text_that_is_no_text_is_refused(text: bytes) -> None:
    data = small().build()
    assert text in data
    with pytest.raises(InvalidModelError, match="must be UTF-8 text"):
        load(data.replace(text, b"\xff" * len(text)))


@pytest.mark.parametrize("kind", [AssertionError, RuntimeError, ValueError, LookupError])
@pytest.mark.parametrize(
    "step", ["check_structure", "embed_external_data", "check_constants", "fix_input_shapes"]
)
def test_mistakes_of_our_own_are_not_blamed_on_the_model(
    monkeypatch: pytest.MonkeyPatch, step: str, kind: type[Exception]
) -> None:
    def mistaken(*_: object) -> None:
        raise kind("a mistake of edgekit")

    # The package has a function of the module's name.
    monkeypatch.setattr(sys.modules["edgekit.model.load"], step, mistaken)
    with pytest.raises(kind, match="a mistake of edgekit"):
        load(small().build())


def test_a_cycle_is_refused() -> None:
    nodes = [helper.make_node("Relu", ["b"], ["a"]), helper.make_node("Relu", ["a"], ["b"])]
    out = helper.make_tensor_value_info("b", TensorProto.FLOAT, [1])
    graph = helper.make_graph(nodes, "g", [], [out])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)])
    with pytest.raises(InvalidModelError, match="cycle"):
        load(model.SerializeToString())


def test_nodes_out_of_order_are_sorted() -> None:
    b = OnnxBuilder()
    b.input("x", (1, 3))
    b.node("Relu", "mid", name="last")
    b.node("Tanh", "x", name="mid")
    b.output("last")
    assert [node.name for node in load(b.build()).ir.graph] == ["mid", "last"]


def test_infinity_is_a_bound() -> None:
    b = OnnxBuilder()
    x = b.input("x", (1, 3))
    b.output(b.node("Clip", x, b.constant(np.float32(0)), b.constant(np.float32(np.inf))))
    load(b.build())


def test_an_initializer_that_is_an_input_too_is_a_constant() -> None:
    b = small()
    b.input("w", (3, 2))
    assert [v.name for v in load(b.build()).ir.graph.inputs] == ["x"]


def test_typed_fields_and_raw_bytes_are_the_same() -> None:
    raw, typed = small().proto(), small().proto()
    tensor = typed.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.float_data.extend([1.0] * 6)
    assert load(typed.SerializeToString()).to_bytes() == load(raw.SerializeToString()).to_bytes()


class TestExternalData:
    """Weights in a file of their own."""

    def save(self, folder: Path, location: str, **entries: str) -> Path:
        proto = small().proto()
        tensor = proto.graph.initializer[0]
        tensor.data_location = TensorProto.EXTERNAL
        tensor.ClearField("raw_data")
        for key, value in {"location": location, **entries}.items():
            tensor.external_data.add(key=key, value=value)
        folder.mkdir(exist_ok=True)
        path = folder / "net.onnx"
        path.write_bytes(proto.SerializeToString())
        return path

    def test_it_is_read(self, tmp_path: Path) -> None:
        path = self.save(tmp_path / "a", "w.bin", offset="4", length="24")
        (tmp_path / "a" / "w.bin").write_bytes(b"skip" + np.arange(6, dtype="<f4").tobytes())
        tensor = load(path).ir.graph.initializers["w"].const_value
        assert tensor is not None
        assert tensor.numpy().ravel().tolist() == [0, 1, 2, 3, 4, 5]

    @pytest.mark.parametrize("location", ["../secret", "/etc/hostname", "", "sub/../../secret"])
    def test_it_stays_inside_the_folder(self, tmp_path: Path, location: str) -> None:
        (tmp_path / "secret").write_bytes(bytes(24))
        with pytest.raises(InvalidModelError, match="inside the model's folder"):
            load(self.save(tmp_path / "a", location))

    def test_a_link_does_not_lead_out(self, tmp_path: Path) -> None:
        (tmp_path / "secret").write_bytes(bytes(24))
        path = self.save(tmp_path / "a", "link")
        (tmp_path / "a" / "link").symlink_to(tmp_path / "secret")
        with pytest.raises(InvalidModelError, match="inside the model's folder"):
            load(path)

    def test_names_that_the_system_refuses(self, tmp_path: Path) -> None:
        (tmp_path / "a").mkdir()
        (tmp_path / "a" / "circle").symlink_to(tmp_path / "a" / "circle")
        for location in ("w\0.bin", "circle", "w" * 5000):
            with pytest.raises(InvalidModelError, match="initializer 'w'"):
                load(self.save(tmp_path / "a", location))

    def test_a_negative_extent_reads_nothing(self, tmp_path: Path) -> None:
        path = self.save(tmp_path / "a", "w.bin")
        proto = onnx.load(path, load_external_data=False)
        proto.graph.initializer[0].dims[0] = -3
        path.write_bytes(proto.SerializeToString())
        (tmp_path / "a" / "w.bin").write_bytes(bytes(99))
        with pytest.raises(InvalidModelError, match="negative extent"):
            load(path)

    @pytest.mark.parametrize(
        ("entries", "said"),
        [
            ({}, "takes bytes 0 to 24 of .* which has 8"),
            ({"offset": "-1"}, "offset is '-1', must be a number"),
            ({"length": "9" * 40}, "must be a number"),
            ({"length": "4"}, "but holds 4 bytes"),
        ],
    )
    def test_ranges_are_checked(self, tmp_path: Path, entries: dict[str, str], said: str) -> None:
        path = self.save(tmp_path / "a", "w.bin", **entries)
        (tmp_path / "a" / "w.bin").write_bytes(bytes(8))
        with pytest.raises(InvalidModelError, match=said):
            load(path)

    def test_missing_file_and_no_folder(self, tmp_path: Path) -> None:
        path = self.save(tmp_path / "a", "w.bin")
        with pytest.raises(InvalidModelError, match="does not exist or is no file"):
            load(path)
        with pytest.raises(InvalidModelError, match="load the model from its path"):
            load(path.read_bytes())

    @pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="missing mkfifo: a POSIX system")
    def test_a_pipe_is_no_file(self, tmp_path: Path) -> None:
        path = self.save(tmp_path / "a", "pipe")
        os.mkfifo(tmp_path / "a" / "pipe")
        with pytest.raises(InvalidModelError, match="is no file"):
            load(path)


class TestInputShapes:
    """Open axes."""

    def model(self, *shapes: tuple[int | str | None, ...] | None) -> bytes:
        b = OnnxBuilder()
        for i, shape in enumerate(shapes):
            b.output(b.node("Relu", b.input(f"x{i}", shape)))
        return b.build()

    def shapes(self, data: bytes, **wanted: tuple[int, ...]) -> list[tuple[int, ...] | None]:
        return [shape_of(v) for v in load(data, input_shapes=wanted).ir.graph.inputs]

    def test_the_batch_becomes_one_and_that_is_said(self) -> None:
        model = load(self.model(("N", 3, 8, 8)))
        assert shape_of(model.ir.graph.inputs[0]) == (1, 3, 8, 8)
        assert model.notes == ("input 'x0': the open batch axis is set to 1",)

    def test_other_axes_are_named_with_the_flag(self) -> None:
        with pytest.raises(UsageError) as caught:
            load(self.model(("N", 3, "height", None), ("seq",), None))
        text = str(caught.value)
        assert "input 'x0' [1, 3, height, ?]: axis 2 ('height'), 3 is open" in text
        assert "--shape x0=1,3,N,N" in text
        assert "input_shapes={'x0': (1, 3, N, N)}" in text
        assert "input 'x1' [seq]: axis 0 ('seq') is open" in text
        assert "input 'x2' has no shape at all" in text

    def test_given_shapes_are_used(self) -> None:
        data = self.model(("N", 3, "h", "w"), None)
        assert self.shapes(data, x0=(2, 3, 4, 5), x1=(7,)) == [(2, 3, 4, 5), (7,)]

    def test_a_symbol_means_the_same_everywhere(self) -> None:
        data = self.model(("N", "t"), ("N", "t", 4))
        assert self.shapes(data, x0=(2, 9)) == [(2, 9), (2, 9, 4)]

    @pytest.mark.parametrize(
        ("wanted", "said"),
        [
            ({"y": (1,)}, r"no input is called \['y'\]; the inputs are \['x0'\]"),
            ({"x0": (1, 4, 8)}, r"does not fit the shape in <bytes>: \[N, 3, h\]"),
            ({"x0": (1, 3)}, "does not fit"),
            ({"x0": (1, 3, 0)}, "must be positive integers"),
            ({"x0": (1, 3, -1)}, "must be positive integers"),
            ({"x0": (1, 3, 2**80)}, "elements, at most 67108864 are supported"),
        ],
    )
    def test_shapes_that_do_not_fit(self, wanted: dict[str, tuple[int, ...]], said: str) -> None:
        with pytest.raises(UsageError, match=said):
            load(self.model(("N", 3, "h")), input_shapes=wanted)

    def test_an_absurd_input_is_refused(self) -> None:
        with pytest.raises(InvalidModelError, match="too large"):
            load(self.model((1, 2**20, 2**20)))
        with pytest.raises(InvalidModelError, match="9 axes"):
            load(self.model((1,) * 9))

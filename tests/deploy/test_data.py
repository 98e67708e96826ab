"""Samples from files: what is found, what is meant, and that corrupt files are refused."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest

from edgekit.bench import dataset
from edgekit.deploy.data import read_arrays, samples_for
from edgekit.errors import InvalidDataError
from edgekit.program.ir import Boundary, DType, Program, Quantization, TensorType
from edgekit.program.operators.elementwise import Add
from edgekit.program.operators.movement import Reshape
from tests.cases.case import one_operator
from tests.support.programs import recurrent_network

Q = Quantization.per_tensor(0.5, 3)


def one_input(name: str = "in0") -> Program:
    """An int8 input [1, 2, 3] with scale 0.5 and zero point 3."""
    program = one_operator(Reshape(shape=(6,)), TensorType((1, 2, 3), DType.INT8))
    tensor = program.tensors["in0"]
    quantised = type(tensor)("in0", tensor.shape, tensor.dtype, Q)
    return program.replace(
        tensors={**program.tensors, "in0": quantised}, inputs=(Boundary("in0", name, (1, 2, 3)),)
    )


def test_values_are_taken_or_quantised() -> None:
    """The input's dtype as it is; others as real numbers, halves away from zero, saturated."""
    raw = np.arange(12, dtype=np.int8).reshape(2, 1, 2, 3)
    assert (samples_for(one_input(), {"in0": raw}).inputs["in0"] == raw).all()
    real = np.array([[[0.0, 0.5, 0.25], [-0.25, 1000, -1000]]])
    (sample,) = samples_for(one_input(), {"x": real})
    assert sample["in0"].ravel().tolist() == [3, 4, 4, 2, 127, -128]


def test_scale_and_zero_point_describe_reals() -> None:
    """A float input reads quantised files."""
    program = one_operator(Reshape(shape=(6,)), TensorType((1, 6), DType.FLOAT32))
    arrays = {"x": np.full((1, 6), 7, np.int8), "scale": np.array(0.5), "zero_point": np.array(3)}
    assert samples_for(program, arrays).inputs["in0"].tolist() == [[[2.0] * 6]]


def test_labels_are_not_inputs() -> None:
    """An input called like the labels is an input."""
    values = np.zeros((4, 2, 3), np.int8)
    assert samples_for(one_input("y"), {"y": values}).labels is None
    labelled = samples_for(one_input(), {"x": values, "y": np.arange(4)})
    assert labelled.labels is not None
    assert labelled.labels.tolist() == [0, 1, 2, 3]
    with pytest.raises(InvalidDataError, match="labels 'y'"):
        samples_for(one_input(), {"x": values, "y": np.arange(5)})


def test_several_inputs_by_name() -> None:
    """Each must be there, with as many samples."""
    kind = TensorType((1, 2), DType.FLOAT32)
    program = one_operator(Add(), kind, kind)
    zeros = np.zeros((3, 2), np.float32)
    assert len(samples_for(program, {"in0": zeros, "in1": zeros})) == 3
    with pytest.raises(InvalidDataError, match="no data for input 'in1'"):
        samples_for(program, {"in0": zeros})
    with pytest.raises(InvalidDataError, match="different numbers"):
        samples_for(program, {"in0": zeros, "in1": zeros[:2]})


@pytest.mark.parametrize(
    ("arrays", "match"),
    [
        ({"x": np.zeros((2, 3, 3), np.int8)}, "shape"),
        ({"x": np.int8(3)}, "shape"),
        ({"x": np.array([["a"] * 6])}, "shape|must be"),
        ({"x": np.full((1, 2, 3), np.inf)}, "NaN or infinity"),
    ],
)
def test_what_does_not_fit(arrays: dict[str, np.ndarray], match: str) -> None:
    """Shape, kind and values."""
    with pytest.raises(InvalidDataError, match=match):
        samples_for(one_input(), arrays)


def test_corrupt_files_are_refused(tmp_path: Path) -> None:
    """Flipped bytes and cuts anywhere: arrays or one typed error."""
    path = tmp_path / "data.npz"
    np.savez_compressed(path, x=np.arange(400).reshape(20, 20), y=np.arange(20))
    good = path.read_bytes()
    rng = np.random.default_rng(0)
    refused = 0
    for _ in range(400):
        bad = bytearray(good)
        for _ in range(int(rng.integers(1, 4))):
            bad[int(rng.integers(len(bad)))] ^= int(rng.integers(1, 256))
        path.write_bytes(bytes(bad[: int(rng.integers(1, len(bad) + 1))]))
        try:
            read_arrays(path)
        except InvalidDataError:
            refused += 1
    assert refused > 100


def test_a_corrupt_lzma_member_is_refused(tmp_path: Path) -> None:
    """Zip files may use it, and its error is of a kind of its own."""
    path, member = tmp_path / "data.npz", io.BytesIO()
    np.save(member, np.random.default_rng(0).normal(size=(50, 4)))
    with zipfile.ZipFile(path, "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("x.npy", member.getvalue())
    assert read_arrays(path)["x"].shape == (50, 4)
    bad = bytearray(path.read_bytes())
    bad[70:120] = bytes(value ^ 0x5A for value in bad[70:120])
    path.write_bytes(bytes(bad))
    with pytest.raises(InvalidDataError, match="not a NumPy array file"):
        read_arrays(path)


def test_a_file_that_unpacks_to_too_much(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Refused by the sizes in its directory, before anything is unpacked."""
    path = tmp_path / "bomb.npz"
    np.savez_compressed(path, x=np.zeros(1_000_000, np.int8))
    monkeypatch.setattr(dataset, "MAX_UNPACKED_BYTES", 500_000)
    with pytest.raises(InvalidDataError, match="unpacks to"):
        read_arrays(path)


def test_integers_of_another_scale_are_rescaled() -> None:
    """A file that says what its integers mean is read by meaning, not by dtype."""
    values = np.array([[[3, 5, 7], [-1, 1, 127]]], np.int8)
    own = {"x": values, "scale": np.array(0.5), "zero_point": np.array(3)}
    assert (samples_for(one_input(), own).inputs["in0"] == values[None]).all()
    other = {"x": values, "scale": np.array(0.25), "zero_point": np.array(1)}
    samples = samples_for(one_input(), other)
    assert samples.inputs["in0"].ravel().tolist() == [4, 5, 6, 2, 3, 66]
    assert samples.real["in0"].ravel().tolist() == [0.5, 1.0, 1.5, -0.5, 0.0, 31.5]


@pytest.mark.parametrize(
    ("scale", "zero_point", "match"),
    [
        (np.array("fine"), np.array(3), "'scale' of the data is .*fine.*finite number"),
        (np.array(0.5), np.array("x"), "'zero_point' of the data"),
        (np.array(np.nan), np.array(3), "'scale' of the data is .*nan"),
        (np.array(0.0), np.array(3), "'scale' of the data is 0.0, must be positive"),
    ],
)
def test_a_scale_that_is_none(scale: np.ndarray, zero_point: np.ndarray, match: str) -> None:
    """Refused by its key."""
    values = np.zeros((1, 2, 3), np.int8)
    with pytest.raises(InvalidDataError, match=match):
        samples_for(one_input(), {"x": values, "scale": scale, "zero_point": zero_point})


def test_inputs_may_be_called_like_a_scale() -> None:
    """Then they describe nothing."""
    values = np.full((1, 2, 3), 7, np.int8)
    arrays = {"scale": values, "zero_point": np.array(1)}
    assert (samples_for(one_input("scale"), arrays).inputs["scale"] == 7).all()


def test_the_float_model_sees_what_the_input_clips() -> None:
    """Real samples are kept beside the quantised ones."""
    real = np.full((1, 1, 2, 3), 1000.0)
    samples = samples_for(one_input(), {"x": real})
    assert samples.inputs["in0"].max() == 127
    assert samples.real["in0"].max() == 1000.0


@pytest.mark.parametrize("shape", [(4, 5, 3), (4, 5, 1, 3), (4, 5, 1, 1, 3)])
def test_sequences_for_a_program_with_state(shape: tuple[int, ...]) -> None:
    """[N, T, ...], with or without axes of extent 1; a label each."""
    values = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    samples = samples_for(recurrent_network(), {"x": values, "y": np.arange(4)})
    assert samples.steps == 5
    assert len(samples) == 4
    assert samples.labels is not None
    assert samples[1]["x"].shape == (5, 1, 3)
    assert (samples[1]["x"].ravel() == values[1].ravel()).all()
    assert (samples.real["x"] == samples.inputs["x"]).all()
    assert samples.first(2).steps == 5
    assert len(samples.first(2)) == 2
    some = samples.spread(2)
    assert (some.steps, len(some)) == (5, 2)
    assert some.labels is not None
    # One of each half, and all that belongs to it.
    assert [label // 2 for label in some.labels] == [0, 1]
    for number, label in enumerate(some.labels):
        assert (some[number]["x"] == samples[int(label)]["x"]).all()
        assert (some.real["x"][number] == samples.real["x"][int(label)]).all()


@pytest.mark.parametrize("shape", [(4, 3), (4, 1, 3), (4, 1, 1, 3)])
def test_one_input_is_no_sequence(shape: tuple[int, ...]) -> None:
    """Where both readings fit, samples are single inputs."""
    samples = samples_for(recurrent_network(), np.zeros(shape, np.float32))
    assert samples.steps is None
    assert samples[0]["x"].shape == (1, 3)


def test_sequences_are_quantised() -> None:
    """By the input's scale, step by step alike."""
    program = one_input().replace(state=recurrent_network().state)
    real = np.stack([np.full((2, 2, 3), 0.5), np.full((2, 2, 3), -1000)], axis=1)
    samples = samples_for(program, {"x": real})
    assert samples.steps == 2
    assert samples[0]["in0"][:, 0, 0, 0].tolist() == [4, -128]
    assert samples.real["in0"][0, :, 0, 0, 0].tolist() == [0.5, -1000]


@pytest.mark.parametrize(
    ("shape", "match"),
    [
        ((4, 5, 2), r"must be \[N, 3\] or, as sequences, \[N, T, 3\]"),
        ((4, 0, 3), r"has shape \[4, 0, 3\]: no steps"),
        ((0, 5, 3), "no samples"),
        ((), "must be"),
    ],
)
def test_what_is_no_sequence(shape: tuple[int, ...], match: str) -> None:
    with pytest.raises(InvalidDataError, match=match):
        samples_for(recurrent_network(), {"x": np.zeros(shape, np.float32)})


def test_sequences_need_state() -> None:
    with pytest.raises(InvalidDataError, match=r"must be \[N, 2, 3\]$"):
        samples_for(one_input(), {"x": np.zeros((4, 5, 2, 3), np.int8)})


def test_inputs_have_as_many_steps() -> None:
    kind = TensorType((1, 2), DType.FLOAT32)
    program = one_operator(Add(), kind, kind).replace(state=recurrent_network().state)
    five = np.zeros((3, 5, 2), np.float32)
    assert samples_for(program, {"in0": five, "in1": five}).steps == 5
    for other, count in ((five[:, :4], 4), (five[:, 0], 1)):
        with pytest.raises(InvalidDataError, match=f"steps: {{'in0': 5, 'in1': {count}}}"):
            samples_for(program, {"in0": five, "in1": other})

"""What a board is told: checked on reading, since it decides which bytes are touched."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgekit.bench.boundary import BoundaryError, convert, from_program, to_program
from edgekit.bench.fields import ReportError
from edgekit.bench.report import Identity
from edgekit.bench.subject import (
    SCHEMA,
    LayerFact,
    LibraryFile,
    ModelFile,
    Port,
    Subject,
    read_subject,
)
from tests.support.reports import MEMORY

SUBJECT = Subject(
    schema=SCHEMA,
    edgekit="0.1.0",
    identity=Identity("net", "raspberry-pi-4", "arm-cpu", "int8", "net.onnx", "onnx", "ab" * 32),
    memory=MEMORY,
    layers=(LayerFact("net_layer_0", "conv", "conv_2d", 100),),
    inputs=(Port("x", "int8", (1, 3, 4, 5), (0, 2, 3, 1), 0, 60, 0.5, -3),),
    outputs=(Port("y", "float32", (1, 2), None, 64, 8, None, None),),
    library=LibraryFile("libnet.so", "net_", 72, 16, 0),
    models=(ModelFile("onnxruntime", "model.onnx", "int8"),),
    vectors="vectors.npz",
)


def test_round_trip(tmp_path: Path) -> None:
    """Through the file."""
    SUBJECT.write(tmp_path)
    assert read_subject(tmp_path) == SUBJECT


@pytest.mark.parametrize(
    ("place", "value", "words"),
    [
        (("vectors",), "/etc/passwd", "no path inside"),
        (("vectors",), "../vectors.npz", "no path inside"),
        (("vectors",), "", "no path inside"),
        (("library", "file"), "a\\..\\b.so", "no path inside"),
        (("library", "weights_file"), "a\nb", "no path inside"),
        (("models", 0, "file"), "x/../../y", "no path inside"),
        (("inputs", 0, "offset"), 13, "'x' lies outside the arena"),
        (("inputs", 0, "offset"), None, "'x' lies outside the arena"),
        (("inputs", 0, "bytes"), 61, "its shape and dtype take 60"),
        (("inputs", 0, "permutation"), [0, 1, 2, 2], "does not order 4 axes"),
        (("inputs", 0, "dtype"), "object", "must be one of int8"),
        (("inputs", 0, "scale"), 0, "scale is 0.0, must be positive"),
        (("inputs", 0, "scale"), None, "stand together"),
        (("library", "prefix"), "system", "is no prefix"),
        (("library", "arena_alignment"), 3, "arena_alignment 3"),
        (("library", "arena_bytes"), 1 << 40, "more memory than any target has"),
        (("layers", 0, "symbol"), "exit", "not the symbol of layer 0"),
        (("inputs",), [], "has inputs and outputs"),
        (("schema",), 9, "schema is 9"),
    ],
)
def test_hostile_subjects(place: tuple[Any, ...], value: Any, words: str) -> None:
    """Nothing outside the folder or the arena can be named."""
    document: Any = copy.deepcopy(SUBJECT.to_json())
    *way, key = place
    inner = document
    for step in way:
        inner = inner[step]
    inner[key] = value
    with pytest.raises(ReportError, match=words):
        Subject.from_json(document)


def test_layouts_go_there_and_back() -> None:
    """NCHW to NHWC and back, contiguous."""
    (port,) = SUBJECT.inputs
    x = np.arange(60, dtype=np.int8).reshape(port.source_shape)
    inside = to_program(port, x)
    assert inside.shape == port.program_shape == (1, 4, 5, 3)
    assert inside[0, 1, 2, 0] == x[0, 0, 1, 2]
    assert (from_program(port, np.frombuffer(inside.tobytes(), np.int8)) == x).all()


def test_integers_and_what_they_mean() -> None:
    """Quantised away from zero at ties, saturated; dequantised exactly."""
    (port,) = SUBJECT.inputs
    real = np.array([0.25, -0.25, 1000, -1000, 0], np.float32)
    assert convert(port, real, "int8").tolist() == [-2, -4, 127, -128, -3]
    assert convert(port, np.array([-3, 1], np.int8), "float32").tolist() == [0, 2]


@pytest.mark.parametrize(
    ("values", "dtype", "words"),
    [
        (np.array([np.nan], np.float32), "int8", "NaN"),
        (np.array([1], np.int32), "int8", "int32, must be int8 or float32"),
        (np.array([1], np.int8), "uint8", "the runtime's file wants uint8"),
    ],
)
def test_values_that_do_not_fit(values: Any, dtype: str, words: str) -> None:
    """Refused by the input's name."""
    with pytest.raises(BoundaryError, match=f"'x'.*{words}"):
        convert(SUBJECT.inputs[0], values, dtype)


def test_integers_without_a_meaning() -> None:
    """Real numbers cannot become token indices."""
    port = Port("ids", "int64", (2,), None, None, 16, None, None)
    with pytest.raises(BoundaryError, match="'ids' is int64 without a scale"):
        convert(port, np.array([1.0, 2.0]), "int64")

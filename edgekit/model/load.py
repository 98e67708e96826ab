"""Load an ONNX file that nobody vouches for.

The protobuf is parsed, checked (:mod:`edgekit.model.validate`) and given static input shapes
(:mod:`edgekit.model.input_shapes`) before anything else looks at it. Pickles are recognised by
their first bytes and never opened.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import onnx
import onnx_ir
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

from edgekit.errors import InvalidModelError
from edgekit.model.external_data import embed_external_data
from edgekit.model.input_shapes import fix_input_shapes
from edgekit.model.model import Model
from edgekit.model.third_party import third_party
from edgekit.model.validate import check_constants, check_structure

_OTHER_FORMATS = (
    (0, b"PK\x03\x04", "a zip archive (a PyTorch checkpoint?), which is never unpickled"),
    (0, b"\x80\x02", "a pickle, which is never loaded"),
    (0, b"\x80\x03", "a pickle, which is never loaded"),
    (0, b"\x80\x04", "a pickle, which is never loaded"),
    (0, b"\x80\x05", "a pickle, which is never loaded"),
    (0, b"\x89HDF", "an HDF5 file"),
    (4, b"TFL3", "a .tflite file"),
    (0, b"version https://git-lfs", "a Git LFS pointer; fetch the file with `git lfs pull`"),
)


def load(
    source: Path | str | bytes, *, input_shapes: Mapping[str, Sequence[int]] | None = None
) -> Model:
    """Load an ONNX model.

    Args:
        source: a path, or the bytes of the file.
        input_shapes: full shape by input name, for inputs whose shape the file leaves open. An
            open batch axis needs none: it becomes 1, and the Model's notes say so.

    Returns:
        A Model with static input shapes, unique names and finite weights in memory.

    Raises:
        InvalidModelError: missing, unreadable, truncated, corrupt or no ONNX model, NaN or
            infinite weights, external data outside the model's folder.
        UsageError: open shapes that `input_shapes` does not settle, or shapes that do not fit.
        UnsupportedError: an opset or tensor type that is not supported.
    """
    where = "<bytes>" if isinstance(source, bytes) else str(source)
    folder = None if isinstance(source, bytes) else Path(source).parent
    data = source if isinstance(source, bytes) else _read(Path(source))
    if not data:
        raise InvalidModelError(f"{where} is empty, must be an ONNX model")
    for offset, magic, what in _OTHER_FORMATS:
        if data[offset : offset + len(magic)] == magic:
            raise InvalidModelError(f"{where} is {what}, not an ONNX model; export it to ONNX")
    proto = onnx.ModelProto()
    try:
        proto.ParseFromString(data)
    except DecodeError as error:
        raise InvalidModelError(
            f"{where} is no ONNX model: it is no protobuf or is truncated"
        ) from error
    digest = hashlib.sha256(data).hexdigest()
    name = where if isinstance(source, bytes) else Path(source).name
    return from_proto(
        proto,
        where=where,
        folder=folder,
        input_shapes=input_shapes,
        source=f"{name} sha256:{digest}",
    )


def from_proto(
    proto: onnx.ModelProto,
    *,
    where: str = "<model>",
    folder: Path | None = None,
    input_shapes: Mapping[str, Sequence[int]] | None = None,
    source: str = "",
) -> Model:
    """Check a parsed model and wrap it; `proto` is changed. See :func:`load`.

    Args:
        proto: the parsed model.
        where: what messages call it.
        folder: where external data may lie; None forbids external data.
        input_shapes: see :func:`load`.
        source: provenance of the Model.
    """
    check_structure(proto, where)
    embed_external_data(proto, where, folder)
    check_constants(proto, where)
    notes = fix_input_shapes(proto, where, input_shapes or {})
    _name_nodes(proto)
    with third_party(f"{where} is no valid ONNX model"):
        ir = onnx_ir.from_proto(proto)
    # Since IR version 4 an input with an initializer is a default value; it is a constant here.
    for value in [v for v in ir.graph.inputs if v.name in ir.graph.initializers]:
        ir.graph.inputs.remove(value)
    for value in ir.graph.initializers.values():
        # Decoded once: some encodings are slow, and passes look at constants often.
        stored = value.const_value
        assert stored is not None
        with third_party(f"{where}: initializer {value.name!r} cannot be decoded"):
            array = stored.numpy()
        value.const_value = onnx_ir.Tensor(array, stored.dtype, name=value.name)
    with third_party(f"{where} is no valid ONNX model"):
        ir.graph.sort()
    return Model(ir, source, notes)


def _read(path: Path) -> bytes:
    try:
        if path.is_dir():
            raise InvalidModelError(f"{path} is a folder, must be an .onnx file")
        return path.read_bytes()
    except FileNotFoundError as error:
        raise InvalidModelError(f"{path} does not exist") from error
    except OSError as error:
        raise InvalidModelError(f"{path} cannot be read: {error.strerror}") from error


def _name_nodes(proto: onnx.ModelProto) -> None:
    """Give every node a unique name, derived from its operator where it has none."""
    taken: set[str] = set()
    for index, node in enumerate(proto.graph.node):
        name = base = node.name or f"{node.op_type}_{index}"
        count = 1
        while name in taken:
            count += 1
            name = f"{base}_{count}"
        taken.add(name)
        node.name = name

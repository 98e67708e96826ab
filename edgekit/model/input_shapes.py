"""Give every input a static shape."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import onnx

from edgekit.errors import InvalidModelError, UsageError
from edgekit.model.model import MAX_ELEMENTS

_Dimension = onnx.TensorShapeProto.Dimension

MAX_RANK = 8
"""Highest rank of an input."""


def fix_input_shapes(
    proto: onnx.ModelProto, where: str, wanted: Mapping[str, Sequence[int]]
) -> tuple[str, ...]:
    """Make every input static, in place, and drop shapes of other values that were open.

    An axis that `wanted` does not settle takes the value that another input gives the same symbol;
    an open first axis of a tensor with at least two axes is the batch and becomes 1.

    Args:
        proto: changed in place.
        where: what messages call the model.
        wanted: full shape by input name.

    Returns:
        What was decided, in sentences for the user.

    Raises:
        UsageError: a wanted shape names no input or contradicts the file, or axes remain open;
            all are listed, with the flag that settles them.
        InvalidModelError: the declared shapes are absurd.
    """
    stored = {tensor.name for tensor in proto.graph.initializer}
    inputs = {i.name: i for i in proto.graph.input if i.name not in stored}
    unknown = sorted(set(wanted) - set(inputs))
    if unknown:
        raise UsageError(f"no input is called {unknown}; the inputs are {sorted(inputs)}")
    for name, shape in wanted.items():
        _apply(inputs[name], tuple(shape), where)
    symbols: dict[str, int] = {}
    for name, shape in wanted.items():
        declared = proto_dims(inputs[name])
        symbols.update(
            {d.dim_param: int(s) for d, s in zip(declared, shape, strict=True) if d.dim_param}
        )
    notes, problems = [], []
    for name, info in inputs.items():
        if not info.type.tensor_type.HasField("shape"):
            problems.append(
                f"input {name!r} has no shape at all; give it with "
                f"--shape {name}=1,... or input_shapes={{{name!r}: (1, ...)}}"
            )
            continue
        dims = proto_dims(info)
        if len(dims) > MAX_RANK:
            raise InvalidModelError(
                f"{where}: input {name!r} has {len(dims)} axes, at most {MAX_RANK} make sense"
            )
        for axis, dim in enumerate(dims):
            if name in wanted:
                dim.dim_value = int(wanted[name][axis])
            elif dim.dim_param and dim.dim_param in symbols:
                dim.dim_value = symbols[dim.dim_param]
            elif axis == 0 and len(dims) >= 2 and not _is_static(dim):
                notes.append(f"input {name!r}: the open batch axis is set to 1")
                if dim.dim_param:
                    symbols[dim.dim_param] = 1
                dim.dim_value = 1
        open_axes = [axis for axis, dim in enumerate(dims) if not _is_static(dim)]
        if open_axes:
            problems.append(_how_to_fix(name, dims, open_axes))
        elif math.prod(d.dim_value for d in dims) > MAX_ELEMENTS:
            raise InvalidModelError(f"{where}: input {name!r} [{_text(dims)}] is too large")
    if problems:
        raise UsageError(f"{where} has dynamic shapes:\n  " + "\n  ".join(problems))
    if notes or wanted:
        _forget_shapes(proto)
    return tuple(notes)


def proto_dims(info: onnx.ValueInfoProto) -> list[_Dimension]:
    """The dimensions of a value, in order."""
    return list(info.type.tensor_type.shape.dim)


def _is_static(dim: _Dimension) -> bool:
    return dim.WhichOneof("value") == "dim_value" and dim.dim_value > 0


def _apply(info: onnx.ValueInfoProto, shape: tuple[int, ...], where: str) -> None:
    """Check a wanted shape against the file's, and create the file's where there is none."""
    given = ",".join(str(s) for s in shape)
    if len(shape) > MAX_RANK or any(not isinstance(s, int) or s < 1 for s in shape):
        raise UsageError(f"--shape {info.name}={given}: extents must be positive integers")
    if math.prod(shape) > MAX_ELEMENTS:
        raise UsageError(
            f"--shape {info.name}={given}: {math.prod(shape)} elements, at most {MAX_ELEMENTS} "
            "are supported"
        )
    if not info.type.tensor_type.HasField("shape"):
        info.type.tensor_type.shape.dim.extend([_Dimension() for _ in shape])
        # An empty list of dimensions would leave the field unset.
        info.type.tensor_type.shape.SetInParent()
    dims = proto_dims(info)
    clash = len(dims) != len(shape) or any(
        _is_static(dim) and dim.dim_value != s for dim, s in zip(dims, shape, strict=False)
    )
    if clash:
        raise UsageError(
            f"--shape {info.name}={given} does not fit the shape in {where}: [{_text(dims)}]"
        )


def _text(dims: Sequence[_Dimension]) -> str:
    return ", ".join(str(d.dim_value) if _is_static(d) else d.dim_param or "?" for d in dims)


def _how_to_fix(name: str, dims: Sequence[_Dimension], open_axes: Sequence[int]) -> str:
    axes = ", ".join(
        f"{a} ({dims[a].dim_param!r})" if dims[a].dim_param else f"{a}" for a in open_axes
    )
    example = [str(d.dim_value) if _is_static(d) else "N" for d in dims]
    return (
        f"input {name!r} [{_text(dims)}]: axis {axes} is open; fix it with "
        f"--shape {name}={','.join(example)} or "
        f"input_shapes={{{name!r}: ({', '.join(example)})}}, N being the size"
    )


def _forget_shapes(proto: onnx.ModelProto) -> None:
    """Drop declared shapes of computed values: they were written for open inputs."""
    del proto.graph.value_info[:]
    for info in proto.graph.output:
        if info.type.WhichOneof("value") == "tensor_type":
            info.type.tensor_type.ClearField("shape")

"""Weights and constants of a ``.pt2`` file: raw tensors within their payloads."""

from __future__ import annotations

import math
import re
from typing import Any

import numpy as np

from edgekit.errors import InvalidModelError, UnsupportedError
from edgekit.model.model import MAX_ELEMENTS

ITEM_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 2, 7: 4, 8: 8, 12: 1, 13: 2}
"""Size by torch's number of an element type: uint8 1, int8 2, int16 3, int32 4, int64 5, float16 6,
float32 7, float64 8, bool 12, bfloat16 13."""

_STRIDED = 7
"""Torch's number of the dense layout."""

_NAME = re.compile(r"[A-Za-z0-9_]+(\.[A-Za-z0-9_]+)*")


def checked_payloads(
    document: Any, members: dict[str, bytes], prefix: str, where: str
) -> tuple[dict[str, Any], dict[str, bytes]]:
    """A copy of a table of tensors, and the payloads that it names.

    Args:
        document: parsed JSON.
        members: of the archive.
        prefix: that payloads of this table have; a number follows.
        where: what messages call the file.

    Raises:
        InvalidModelError: the table is malformed, or a tensor does not lie within its payload.
        UnsupportedError: a tensor is pickled, of an unknown type or on another device.
    """
    table = _mapping(document, "config", where)
    config, payloads = {}, {}
    for name, entry in table.items():
        what = f"{where}: tensor {name!r}"
        if not isinstance(entry, dict) or not _NAME.fullmatch(name):
            raise InvalidModelError(f"{what} is malformed")
        file = entry.get("path_name")
        if not isinstance(file, str):
            raise InvalidModelError(f"{what} has no payload")
        if entry.get("use_pickle") is not False:
            raise UnsupportedError(
                f"{what} is pickled, which is never loaded: it is a tensor of a class of its own "
                "or an object; export the module with plain tensors"
            )
        member = f"{prefix.rpartition('/')[0]}/{file}"
        if not re.fullmatch(rf"{re.escape(prefix)}\d+", member) or member not in members:
            raise InvalidModelError(f"{what} lies in {file!r}, which is no payload of the archive")
        meta = _checked_meta(entry.get("tensor_meta"), len(members[member]), what)
        config[name] = {
            "path_name": file,
            "is_param": entry.get("is_param") is True,
            "use_pickle": False,
            "tensor_meta": meta,
        }
        payloads[member] = members[member]
    return {"config": config}, payloads


def _mapping(document: Any, key: str, where: str) -> dict[str, Any]:
    table = document.get(key) if isinstance(document, dict) else None
    if not isinstance(table, dict):
        raise InvalidModelError(f"{where}: a table of tensors is malformed")
    return table


def _checked_meta(meta: Any, held: int, what: str) -> dict[str, Any]:
    if not isinstance(meta, dict):
        raise InvalidModelError(f"{what} has no description")
    dtype, layout, device = meta.get("dtype"), meta.get("layout"), meta.get("device")
    if dtype not in ITEM_BYTES or isinstance(dtype, bool) or layout != _STRIDED:
        raise UnsupportedError(f"{what} has element type {dtype!r} and layout {layout!r}")
    if not isinstance(device, dict) or device.get("type") != "cpu":
        raise UnsupportedError(f"{what} is on {device!r}; export the module on the CPU")
    sizes = [_number(size, what) for size in _list(meta.get("sizes"), what)]
    strides = [_number(stride, what) for stride in _list(meta.get("strides"), what)]
    offset = _number(meta.get("storage_offset"), what)
    if len(sizes) != len(strides) or math.prod(sizes) > MAX_ELEMENTS:
        raise InvalidModelError(f"{what} has shape {sizes} and strides {strides}")
    last = offset + sum((size - 1) * stride for size, stride in zip(sizes, strides, strict=True))
    if math.prod(sizes) and (last + 1) * ITEM_BYTES[dtype] > held:
        raise InvalidModelError(f"{what} of shape {sizes} does not lie within its {held} bytes")
    if held % ITEM_BYTES[dtype]:
        raise InvalidModelError(f"{what}: its {held} bytes are no whole number of elements")
    return {
        "dtype": dtype,
        "sizes": [{"as_int": size} for size in sizes],
        "requires_grad": False,
        "device": {"type": "cpu", "index": None},
        "strides": [{"as_int": stride} for stride in strides],
        "storage_offset": {"as_int": offset},
        "layout": _STRIDED,
    }


def _list(value: Any, what: str) -> list[Any]:
    if not isinstance(value, list) or len(value) > np.iinfo(np.int8).max // 2:
        raise InvalidModelError(f"{what} has a malformed shape")
    return value


def _number(value: Any, what: str) -> int:
    number = value.get("as_int") if isinstance(value, dict) and len(value) == 1 else None
    if not isinstance(number, int) or isinstance(number, bool) or not 0 <= number <= 2**40:
        raise InvalidModelError(f"{what} has {value!r} in its shape, must be a static extent")
    return number

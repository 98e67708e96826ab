"""One builtin operator in LiteRT's reference kernels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from edgekit.program.ir import Quantization
from tests.support.litert import LiteRT, TFLiteBuilder


@dataclass(frozen=True, eq=False)
class Port:
    """An input or output: shape, dtype, per-tensor quantisation, and the value if constant."""

    shape: tuple[int, ...]
    dtype: str
    quantization: Quantization | None = None
    data: np.ndarray | None = None


def litert_operator(
    builtin: str, inputs: list[Port], output: Port, options: Any = None, version: int = 1
) -> LiteRT:
    """A model of one operator; call it with an array for each input that is not constant."""
    builder = TFLiteBuilder()

    def add(name: str, port: Port) -> int:
        given = port.quantization
        return builder.tensor(
            name,
            port.shape,
            port.dtype,
            scale=None if given is None else given.scalar_scale,
            zero_point=0 if given is None else given.scalar_zero_point,
            data=port.data,
        )

    indices = [add(f"in{i}", port) for i, port in enumerate(inputs)]
    result = add("out", output)
    builder.operator(builtin, indices, [result], options, version)
    fed = [i for i, port in zip(indices, inputs, strict=True) if port.data is None]
    return LiteRT(builder.build(fed, [result]))

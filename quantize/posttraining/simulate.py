"""Run a float Program over all calibration samples at once, with and without quantisation.

The walk goes operation by operation, not sample by sample: when it comes to a layer, everything in
front of it is quantised already, so that the layer's weights can be chosen for the inputs that the
quantised layer will meet. Sums run in BLAS: this is for statistics, never for results.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from edgekit.errors import InvalidDataError
from edgekit.program.interpret import Interpreter, to_program
from edgekit.program.ir import Array, DType, Operation, Program, Quantization
from edgekit.program.operators.convolution import Conv2D, DepthwiseConv2D
from edgekit.program.operators.linear import FullyConnected
from edgekit.program.operators.rules import clamped
from edgekit.quantize.posttraining.objective import Moments

Fake = Callable[[Array], Array]
"""From reals to the reals that their codes mean."""

WEIGHTED = (Conv2D, DepthwiseConv2D, FullyConnected)
"""Operators that are computed from patches."""

_CHUNK = 2**24
"""Most numbers of patches that are held at once, in float32."""


def fake_quantizer(quantization: Quantization) -> Fake:
    """int8 per tensor, as QuantizeLinear and DequantizeLinear."""
    scale = np.float32(quantization.scalar_scale)
    low, high = (float(v - quantization.scalar_zero_point) for v in DType.INT8.limits)

    def fake(x: Array) -> Array:
        return np.clip(np.rint(x / scale), np.float32(low), np.float32(high)) * scale

    return fake


def fake_token_quantizer(floor: float = 1e-5) -> Fake:
    """Symmetric int8 with a scale of its own for every vector along the last axis."""
    limit = np.float32(127)

    def fake(x: Array) -> Array:
        largest = np.maximum(np.abs(x).max(axis=-1, keepdims=True), np.float32(floor))
        codes = np.clip(np.rint(x * (limit / largest)), -limit, limit)
        return np.asarray(codes * (largest / limit))

    return fake


@dataclass(frozen=True, eq=False)
class Rows:
    """New constants of a layer: float32 [R, K] in the Program's order, and its bias."""

    weights: Array
    bias: Array | None


@dataclass(frozen=True, eq=False)
class Meeting:
    """A layer with everything that it reads over all samples.

    Attributes:
        operation: of the Program.
        real: inputs of the float network, [N, ...].
        quantised: inputs of the quantised network; the same array where nothing was quantised.
    """

    operation: Operation
    real: Array
    quantised: Array


Choose = Callable[[Meeting], Rows | None]
"""Told of every layer; gives the constants that the quantised network goes on with."""


def patches(operation: Operation, program: Program, x: Array) -> Array:
    """What every output position of a layer reads.

    Args:
        operation: with an operator of :data:`WEIGHTED`.
        program: it belongs to.
        x: float32 [N, ...] with the Program's shape behind the samples.

    Returns:
        float32 [M, G, K]: G groups of inputs; a row is (kernel row, kernel column, channel).
    """
    operator = operation.operator
    if isinstance(operator, FullyConnected):
        return x.reshape(-1, 1, x.shape[-1])
    assert isinstance(operator, Conv2D | DepthwiseConv2D)
    shape = program.tensors[operation.inputs[1] or ""].shape
    depthwise = isinstance(operator, DepthwiseConv2D)
    kernel = shape[:2] if depthwise else shape[1:3]
    groups = x.shape[-1] if isinstance(operator, DepthwiseConv2D) else operator.groups
    x = x.reshape(-1, *x.shape[-3:])
    top, left, bottom, right = operator.padding
    x = np.pad(x, ((0, 0), (top, bottom), (left, right), (0, 0)))
    reach = [d * (k - 1) + 1 for d, k in zip(operator.dilation, kernel, strict=True)]
    # [N, H, W, C, KH, KW]
    windows = sliding_window_view(x, reach, axis=(1, 2))[
        :, :: operator.stride[0], :: operator.stride[1]
    ][..., :: operator.dilation[0], :: operator.dilation[1]]
    count = int(np.prod(windows.shape[:3]))
    split = windows.reshape(*windows.shape[:3], groups, -1, *kernel)
    return split.transpose(0, 1, 2, 3, 5, 6, 4).reshape(count, groups, -1)


def program_rows(operation: Operation, program: Program) -> Array:
    """The constant weights of a layer as float32 [R, K], K as in :func:`patches`."""
    data = program.tensors[operation.inputs[1] or ""].data
    assert data is not None
    if isinstance(operation.operator, DepthwiseConv2D):
        return np.asarray(data.reshape(-1, data.shape[-1]).T)
    return data.reshape(data.shape[0], -1)


def _weighted(operation: Operation, program: Program, x: Array, rows: Rows) -> Array:
    """What a layer computes with other constants, [N, ...]."""
    shape = program.tensors[operation.outputs[0]].shape
    out = np.empty((x.shape[0], *shape), np.float32)
    per_sample = max(1, program.tensors[operation.outputs[0]].type.size // rows.weights.shape[0])
    step = max(1, _CHUNK // (per_sample * rows.weights.shape[1] * _groups(operation, x)))
    for start in range(0, x.shape[0], step):
        found = patches(operation, program, x[start : start + step])
        groups, columns = found.shape[1:]
        weights = rows.weights.astype(np.float32).reshape(groups, -1, columns)
        # [G, M, R/G] to [M, R]
        sums = found.transpose(1, 0, 2) @ weights.transpose(0, 2, 1)
        y = sums.transpose(1, 0, 2).reshape(found.shape[0], -1)
        if rows.bias is not None:
            y = y + rows.bias.astype(np.float32)
        operator = operation.operator
        assert isinstance(operator, WEIGHTED)
        out[start : start + step] = clamped(y, operator.clamp).reshape(-1, *shape)
    return out


def _groups(operation: Operation, x: Array) -> int:
    operator = operation.operator
    if isinstance(operator, DepthwiseConv2D):
        return int(x.shape[-1])
    return operator.groups if isinstance(operator, Conv2D) else 1


def is_layer(operation: Operation, program: Program) -> bool:
    """Whether an operation is a float layer with constant weights and nothing fused but a clamp."""
    if not isinstance(operation.operator, WEIGHTED) or len(operation.present_inputs) > 3:
        return False
    constants = [program.tensors[n] for n in operation.present_inputs[1:]]
    return all(t.is_constant and t.dtype == DType.FLOAT32 for t in constants)


def stacked(program: Program, samples: Sequence[Sequence[Mapping[str, Array]]]) -> dict[str, Array]:
    """Inputs by tensor, [N, ...], of samples that are one step each."""
    assert all(len(sample) == 1 for sample in samples)
    return {
        b.tensor: np.stack(
            [to_program(b, program.tensors[b.tensor], sample[0][b.name]) for sample in samples]
        )
        for b in program.inputs
    }


def _computed(program: Program, operation: Operation, values: Mapping[str, Array]) -> list[Array]:
    """Results of any operation, sample by sample; constants are not repeated."""
    count = next((values[n].shape[0] for n in operation.present_inputs if n in values), 1)
    results = []
    for i in range(count):
        arguments = [
            None if n is None else values[n][i] if n in values else program.tensors[n].data
            for n in operation.inputs
        ]
        with np.errstate(all="ignore"):
            results.append(operation.operator.reference(*arguments))
    return [np.stack(column) for column in zip(*results, strict=True)]


def compute(
    program: Program, operation: Operation, values: Mapping[str, Array], rows: Rows | None = None
) -> list[Array]:
    """Results of an operation over all samples.

    Args:
        program: it belongs to; without state.
        operation: to compute.
        values: computed tensors, [N, ...].
        rows: constants instead of a layer's own.
    """
    if is_layer(operation, program):
        if rows is None:
            bias = operation.inputs[2] if len(operation.inputs) > 2 else None
            data = None if bias is None else program.tensors[bias].data
            rows = Rows(program_rows(operation, program), data)
        return [_weighted(operation, program, values[operation.inputs[0] or ""], rows)]
    return _computed(program, operation, values)


def last_uses(program: Program) -> dict[str, int]:
    """Index of the last operation that reads a tensor; outputs are read behind the end."""
    last = {n: i for i, op in enumerate(program.operations) for n in op.present_inputs}
    return last | {b.tensor: len(program.operations) for b in program.outputs}


def walk(
    program: Program,
    samples: Sequence[Sequence[Mapping[str, Array]]],
    fakes: Mapping[str, Fake],
    choose: Choose,
) -> None:
    """Run the float and the quantised network side by side.

    Args:
        program: a float Program without state.
        samples: of one step each.
        fakes: quantisers of tensors, by name; the others stay real.
        choose: told of every layer in execution order.

    Raises:
        InvalidDataError: the data makes a layer's input infinite or NaN.
    """
    real: dict[str, Array] = stacked(program, samples)
    seen = {n: fakes[n](x) if n in fakes else x for n, x in real.items()}
    last = last_uses(program)
    for index, operation in enumerate(program.operations):
        rows = None
        if is_layer(operation, program):
            source = operation.inputs[0] or ""
            if not (np.isfinite(real[source]).all() and np.isfinite(seen[source]).all()):
                raise InvalidDataError(f"calibration data makes {source!r} infinite or NaN")
            rows = choose(Meeting(operation, real[source], seen[source]))
        results = compute(program, operation, real)
        same = rows is None and all(
            real[n] is seen[n] for n in operation.present_inputs if n in real
        )
        others = results if same else compute(program, operation, seen, rows)
        for name, result, other in zip(operation.outputs, results, others, strict=True):
            real[name] = result
            seen[name] = fakes[name](other) if name in fakes else other
        for name in operation.present_inputs:
            if last[name] == index:
                real.pop(name, None)
                seen.pop(name, None)


def step_through(
    program: Program,
    samples: Sequence[Sequence[Mapping[str, Array]]],
    fakes: Mapping[str, Fake],
    operations: Mapping[str, Operation],
) -> dict[str, Moments]:
    """Moments of what layers read while a float Program with state runs.

    Args:
        program: a float Program.
        samples: each the steps it consists of.
        fakes: quantisers of tensors, by name; the others stay real.
        operations: layers by any name.

    Returns:
        By the same names.
    """
    found = {name: Moments() for name in operations}
    readers: dict[str, list[str]] = {}
    for name, operation in operations.items():
        readers.setdefault(operation.inputs[0] or "", []).append(name)

    def see(tensor: str, value: Array) -> None:
        for name in readers.get(tensor, ()):
            real = patches(operations[name], program, value[np.newaxis])
            seen = real
            if tensor in fakes:
                seen = patches(operations[name], program, fakes[tensor](value)[np.newaxis])
            found[name].update(real, seen)

    interpreter = Interpreter(program)
    for sample in samples:
        interpreter.reset()
        for inputs in sample:
            interpreter.step(inputs, see)
    return found

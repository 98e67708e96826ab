"""What a node's attributes and constant inputs say about shapes, resolved and checked.

Shape inference and the lowering to Programs both work on these results. Source: the ONNX operator
specification, "Operators.md".
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir

from edgekit.errors import InvalidModelError, UnsupportedError
from edgekit.model.nodes import (
    Shape,
    const,
    const_ints,
    find_input,
    find_int,
    find_ints,
    get_int,
    get_output,
    get_string,
    label,
)

_MAX_EXTENT = 2**31 - 1


def check(condition: bool, node: onnx_ir.Node, message: str) -> None:
    """Refuse a malformed node.

    Raises:
        InvalidModelError: `condition` does not hold.
    """
    if not condition:
        raise InvalidModelError(f"{label(node)}: {message}")


def check_supported(condition: bool, node: onnx_ir.Node, message: str) -> None:
    """Refuse a legal node that edgekit cannot do.

    Raises:
        UnsupportedError: `condition` does not hold.
    """
    if not condition:
        raise UnsupportedError(f"{label(node)}: {message}")


@dataclass(frozen=True)
class Window:
    """A window that slides over (or, transposed, spreads) the spatial axes.

    Attributes:
        kernel, stride, dilation: one number per spatial axis.
        before, after: padding; for a transposed convolution, what is cut off.
        output: extents of the result.
        output_padding: rows added behind the result; transposed convolutions only.
        overhang: how much of `after` only completes windows that ``ceil_mode`` added.
    """

    kernel: Shape
    stride: Shape
    dilation: Shape
    before: Shape
    after: Shape
    output: Shape
    output_padding: Shape = ()
    overhang: Shape = ()

    @property
    def padding(self) -> Shape:
        """All `before`, then all `after`."""
        return (*self.before, *self.after)


def _per_axis(node: onnx_ir.Node, name: str, count: int, default: int, minimum: int) -> Shape:
    values = find_ints(node, name)
    if values is None:
        return (default,) * count
    check(
        len(values) == count and all(minimum <= v <= _MAX_EXTENT for v in values),
        node,
        f"{name} is {list(values)}, must be {count} numbers of at least {minimum}",
    )
    return values


def kernel_of(node: onnx_ir.Node, spatial: int) -> Shape:
    """``kernel_shape`` of a pool."""
    check(find_ints(node, "kernel_shape") is not None, node, "kernel_shape is missing")
    return _per_axis(node, "kernel_shape", spatial, 1, 1)


def conv_kernel(node: onnx_ir.Node, weights: Shape) -> Shape:
    """Kernel extents from the weights' shape; ``kernel_shape`` must agree."""
    kernel = weights[2:]
    declared = find_ints(node, "kernel_shape")
    check(
        declared in (None, kernel),
        node,
        f"kernel_shape is {declared}, the weights have {list(kernel)}",
    )
    check(all(k >= 1 for k in kernel), node, f"the kernel {list(kernel)} is empty")
    return kernel


def window(node: onnx_ir.Node, extents: Shape, kernel: Shape) -> Window:
    """Resolve strides, dilations, pads, auto_pad and ceil_mode of Conv and pools.

    Args:
        node: Conv, AveragePool or MaxPool.
        extents: spatial extents of the input.
        kernel: spatial extents of the kernel.

    Raises:
        InvalidModelError: attributes that do not fit, or a kernel larger than the padded input.
    """
    n = len(extents)
    check(len(kernel) == n, node, f"has a {len(kernel)}-D kernel on {n} spatial axes")
    stride = _per_axis(node, "strides", n, 1, 1)
    dilation = _per_axis(node, "dilations", n, 1, 1)
    reach = tuple(d * (k - 1) + 1 for d, k in zip(dilation, kernel, strict=True))
    mode = get_string(node, "auto_pad", "NOTSET")
    if mode in ("NOTSET", "VALID"):
        pads = _per_axis(node, "pads", 2 * n, 0, 0) if mode == "NOTSET" else (0,) * (2 * n)
        before, after = pads[:n], pads[n:]
    else:
        check(mode in ("SAME_UPPER", "SAME_LOWER"), node, f"auto_pad {mode!r} is unknown")
        totals = [
            max(0, (-(-e // s) - 1) * s + r - e)
            for e, s, r in zip(extents, stride, reach, strict=True)
        ]
        small, large = tuple(t // 2 for t in totals), tuple(t - t // 2 for t in totals)
        before, after = (small, large) if mode == "SAME_UPPER" else (large, small)
    ceil = get_int(node, "ceil_mode", 0) == 1
    output, overhang = [], []
    for axis in range(n):
        padded = extents[axis] + before[axis] + after[axis]
        check(
            padded >= reach[axis],
            node,
            f"the kernel reaches over {reach[axis]} of {padded} padded values of axis {axis + 2}",
        )
        count = (padded - reach[axis]) // stride[axis] + 1
        if ceil:
            count = -(-(padded - reach[axis]) // stride[axis]) + 1
            # A window that would start in the padding behind the data is dropped.
            if (count - 1) * stride[axis] >= extents[axis] + before[axis]:
                count -= 1
        output.append(count)
        overhang.append(max(0, (count - 1) * stride[axis] + reach[axis] - padded))
    return Window(
        kernel,
        stride,
        dilation,
        before,
        tuple(a + o for a, o in zip(after, overhang, strict=True)),
        tuple(output),
        overhang=tuple(overhang),
    )


def transposed_window(node: onnx_ir.Node, extents: Shape, kernel: Shape) -> Window:
    """Resolve the attributes of ConvTranspose; see :func:`window`."""
    n = len(extents)
    check(len(kernel) == n, node, f"has a {len(kernel)}-D kernel on {n} spatial axes")
    stride = _per_axis(node, "strides", n, 1, 1)
    dilation = _per_axis(node, "dilations", n, 1, 1)
    extra = _per_axis(node, "output_padding", n, 0, 0)
    full = [
        (e - 1) * s + d * (k - 1) + 1 + p
        for e, s, d, k, p in zip(extents, stride, dilation, kernel, extra, strict=True)
    ]
    mode = get_string(node, "auto_pad", "NOTSET")
    wanted = find_ints(node, "output_shape")
    if wanted is None and mode in ("SAME_UPPER", "SAME_LOWER"):
        wanted = tuple(e * s for e, s in zip(extents, stride, strict=True))
    if wanted is not None:
        check(len(wanted) == n, node, f"output_shape {list(wanted)} must have {n} numbers")
        totals = [f - w for f, w in zip(full, wanted, strict=True)]
        check_supported(
            min(totals) >= 0, node, f"output_shape {list(wanted)} is larger than {full}"
        )
        small, large = tuple(t // 2 for t in totals), tuple(t - t // 2 for t in totals)
        before, after = (small, large) if mode == "SAME_UPPER" else (large, small)
    else:
        check(mode in ("NOTSET", "VALID"), node, f"auto_pad {mode!r} is unknown")
        pads = _per_axis(node, "pads", 2 * n, 0, 0) if mode == "NOTSET" else (0,) * (2 * n)
        before, after = pads[:n], pads[n:]
    output = tuple(f - b - a for f, b, a in zip(full, before, after, strict=True))
    check(min(output, default=1) >= 1, node, f"pads leave an output of {list(output)}")
    return Window(kernel, stride, dilation, before, after, output, output_padding=extra)


def axis_of(node: onnx_ir.Node, rank: int, default: int, *, end: int = 0) -> int:
    """Attribute ``axis``, counted from the front; `end` = 1 admits the axis behind the last."""
    axis = get_int(node, "axis", default)
    check(-rank <= axis < rank + end, node, f"axis {axis} is outside a tensor with {rank} axes")
    return axis + rank if axis < 0 else axis


def axes_of(node: onnx_ir.Node, axes: Sequence[int], rank: int) -> Shape:
    """Axes counted from the front, sorted, each once."""
    check(all(-rank <= a < rank for a in axes), node, f"axes {list(axes)} are outside {rank} axes")
    positive = sorted(a % rank for a in axes) if rank else []
    check(len(set(positive)) == len(positive), node, f"axes {list(axes)} repeat")
    return tuple(positive)


def broadcast(node: onnx_ir.Node, *shapes: Shape) -> Shape:
    """NumPy's broadcasting."""
    try:
        return tuple(int(d) for d in np.broadcast_shapes(*shapes))
    except ValueError:
        raise InvalidModelError(
            f"{label(node)}: shapes {[list(s) for s in shapes]} do not broadcast"
        ) from None


def reshape_target(node: onnx_ir.Node, source: Shape, wanted: Shape) -> Shape:
    """Resolve 0 (copy) and −1 (whatever is left) of Reshape."""
    if get_int(node, "allowzero", 0) == 0:
        check(
            all(d != 0 or i < len(source) for i, d in enumerate(wanted)),
            node,
            f"shape {list(wanted)} copies an axis that {list(source)} lacks",
        )
        wanted = tuple(source[i] if d == 0 else d for i, d in enumerate(wanted))
    size, known = math.prod(source), math.prod(d for d in wanted if d != -1)
    check(
        wanted.count(-1) <= 1 and all(d >= -1 for d in wanted),
        node,
        f"shape {list(wanted)} is not valid",
    )
    if -1 in wanted:
        check(known > 0 and size % known == 0, node, f"shape {list(wanted)} does not hold {size}")
        wanted = tuple(size // known if d == -1 else d for d in wanted)
    check(math.prod(wanted) == size, node, f"shape {list(wanted)} does not hold {list(source)}")
    return wanted


@dataclass(frozen=True)
class Box:
    """A resolved Slice: per axis the first index, the count and the step."""

    begin: Shape
    count: Shape
    step: Shape

    @property
    def end(self) -> Shape:
        """Bounds that are not reached; −1 means through element 0."""
        return tuple(
            b + (c - 1) * s + (1 if s > 0 else -1)
            for b, c, s in zip(self.begin, self.count, self.step, strict=True)
        )


def box_of(node: onnx_ir.Node, shape: Shape) -> Box | None:
    """Resolve Slice's constant inputs; None where one is not constant."""
    starts, ends = const_ints(node, 1), const_ints(node, 2)
    axes, steps = const_ints(node, 3), const_ints(node, 4)
    if starts is None or ends is None:
        return None
    for index, given in ((3, axes), (4, steps)):
        if given is None and find_input(node, index) is not None:
            return None
    axes = axes if axes is not None else tuple(range(len(starts)))
    steps = steps if steps is not None else (1,) * len(starts)
    rank = len(shape)
    check(
        len(starts) == len(ends) == len(axes) == len(steps)
        and all(-rank <= a < rank for a in axes)
        and len({a % rank for a in axes}) == len(axes)
        and 0 not in steps,
        node,
        "starts, ends, axes and steps do not fit each other",
    )
    begin, count, step = [0] * rank, list(shape), [1] * rank
    for start, end, axis, stride in zip(starts, ends, axes, steps, strict=True):
        axis %= rank
        first, last, jump = slice(start, end, stride).indices(shape[axis])
        begin[axis], step[axis] = first, jump
        count[axis] = len(range(first, last, jump))
    check_supported(0 not in count, node, "selects nothing; empty tensors are not supported")
    return Box(tuple(begin), tuple(count), tuple(step))


def split_sizes(node: onnx_ir.Node, extent: int) -> Shape | None:
    """Sizes of Split's outputs; None where they are not constant."""
    pieces = len(node.outputs)
    if find_input(node, 1) is not None:
        sizes = const_ints(node, 1)
    else:
        pieces = get_int(node, "num_outputs", pieces)
        check(1 <= pieces <= max(1, extent), node, f"cannot split {extent} into {pieces}")
        size = -(-extent // pieces)
        sizes = tuple(max(0, min(size, extent - i * size)) for i in range(pieces))
    if sizes is not None:
        check(
            sum(sizes) == extent and len(sizes) >= len(node.outputs) and min(sizes) >= 0,
            node,
            f"sizes {list(sizes)} do not split an axis of {extent} into {len(node.outputs)}",
        )
        check_supported(min(sizes) > 0, node, f"sizes {list(sizes)}: empty pieces")
    return sizes


def pad_pairs(node: onnx_ir.Node, rank: int) -> tuple[tuple[int, int], ...] | None:
    """Padding per axis of Pad; None where it is not constant. Negative padding is refused."""
    pads, axes = const_ints(node, 1), const_ints(node, 3)
    if pads is None or (axes is None and find_input(node, 3) is not None):
        return None
    axes = tuple(range(rank)) if axes is None else axes
    check(
        len(pads) == 2 * len(axes) and all(-rank <= a < rank for a in axes),
        node,
        f"pads {list(pads)} do not fit axes {list(axes)} of {rank}",
    )
    check_supported(min(pads, default=0) >= 0, node, f"pads {list(pads)}: negative padding")
    check(max(pads, default=0) <= _MAX_EXTENT, node, f"pads {list(pads)} are absurd")
    pairs = [(0, 0)] * rank
    for i, axis in enumerate(axes):
        pairs[axis % rank] = (pads[i], pads[len(axes) + i])
    return tuple(pairs)


def resize_extents(node: onnx_ir.Node, shape: Shape) -> tuple[Shape, tuple[float, ...]] | None:
    """Output shape and scales of Resize; None where they are not constant."""
    axes = find_ints(node, "axes")
    axes = tuple(range(len(shape))) if axes is None else axes_of(node, axes, len(shape))
    sizes, given = const_ints(node, 3), const(find_input(node, 2))
    policy = get_string(node, "keep_aspect_ratio_policy", "stretch")
    check_supported(policy == "stretch", node, f"keep_aspect_ratio_policy {policy!r}")
    output, scales = list(shape), [1.0] * len(shape)
    if sizes is not None and sizes:
        check(len(sizes) == len(axes) and min(sizes) >= 1, node, f"sizes {list(sizes)}")
        for axis, size in zip(axes, sizes, strict=True):
            output[axis], scales[axis] = size, size / shape[axis]
    elif given is not None and given.size:
        check(
            given.dtype == np.float32 and given.size == len(axes) and bool((given > 0).all()),
            node,
            "scales must be one positive float32 per axis",
        )
        for axis, scale in zip(axes, given.reshape(-1), strict=True):
            # float32, as the operator is specified: 10 times 0.7 is 7.
            with np.errstate(over="ignore"):
                extent = float(np.float32(shape[axis]) * scale)
            output[axis], scales[axis] = math.floor(min(_MAX_EXTENT, extent)), float(scale)
    else:
        return None
    check(min(output) >= 1, node, f"gives an empty tensor {output}")
    return tuple(output), tuple(scales)


def matmul_shape(node: onnx_ir.Node, a: Shape, b: Shape) -> Shape:
    """NumPy's ``matmul`` on tensors with at least one axis each."""
    check(len(a) >= 1 and len(b) >= 1, node, "operands must not be scalars")
    left = a if len(a) > 1 else (1, *a)
    right = b if len(b) > 1 else (*b, 1)
    check(left[-1] == right[-2], node, f"shapes {list(a)} and {list(b)} do not multiply")
    batch = broadcast(node, left[:-2], right[:-2])
    rows = left[-2:-1] if len(a) > 1 else ()
    columns = right[-1:] if len(b) > 1 else ()
    return (*batch, *rows, *columns)


def gemm_extents(node: onnx_ir.Node, a: Shape, b: Shape) -> tuple[int, int, int]:
    """Rows, inner extent and columns of Gemm."""
    check(len(a) == len(b) == 2, node, f"operands {list(a)} and {list(b)} must have two axes")
    rows, inner = a[::-1] if get_int(node, "transA", 0) else a
    other, columns = b[::-1] if get_int(node, "transB", 0) else b
    check(inner == other, node, f"shapes {list(a)} and {list(b)} do not multiply")
    return rows, inner, columns


def reduced_axes(node: onnx_ir.Node, rank: int) -> Shape | None:
    """Axes of a Reduce operator, empty where it does nothing; None where they are not constant."""
    axes = const_ints(node, 1)
    if axes is None and find_input(node, 1) is not None:
        return None
    if not axes:
        return () if get_int(node, "noop_with_empty_axes", 0) else tuple(range(rank))
    return axes_of(node, axes, rank)


def unused_outputs(node: onnx_ir.Node, first: int) -> bool:
    """Whether nobody reads the outputs from index `first` on."""
    return all(not o.uses() and not o.is_graph_output() for o in node.outputs[first:])


def permutation_of(node: onnx_ir.Node, rank: int) -> Shape:
    """Permutation of Transpose."""
    perm = find_ints(node, "perm")
    perm = tuple(reversed(range(rank))) if perm is None else perm
    check(sorted(perm) == list(range(rank)), node, f"perm {list(perm)} permutes no {rank} axes")
    return perm


def batch_norm_channels(node: onnx_ir.Node) -> None:
    """Refuse BatchNormalization that is not in inference mode."""
    check_supported(get_int(node, "training_mode", 0) == 0, node, "training_mode must be 0")
    check_supported(find_int(node, "spatial") in (None, 1), node, "spatial must be 1")
    check_supported(unused_outputs(node, 1), node, "outputs other than the first are used")
    get_output(node)


@dataclass(frozen=True)
class RecurrentExtents:
    """What an LSTM or GRU node is made of.

    Attributes:
        steps, batch, inputs, units: of the sequence and of its results.
        directions: 1, or 2 for both.
        batch_first: ``layout`` 1: the batch, not the steps, is the first axis.
    """

    steps: int
    batch: int
    inputs: int
    units: int
    directions: int
    batch_first: bool

    @property
    def sequence(self) -> Shape:
        """Shape of Y."""
        if self.batch_first:
            return (self.batch, self.steps, self.directions, self.units)
        return (self.steps, self.directions, self.batch, self.units)

    @property
    def state(self) -> Shape:
        """Shape of Y_h and Y_c, and of the initial states."""
        if self.batch_first:
            return (self.batch, self.directions, self.units)
        return (self.directions, self.batch, self.units)


RECURRENT_GATES = {"LSTM": 4, "GRU": 3}
"""Gates of a unit by operator."""


def recurrent_extents(node: onnx_ir.Node, x: Shape, w: Shape, r: Shape) -> RecurrentExtents:
    """Resolve an LSTM or GRU node from the shapes of its first three inputs.

    Raises:
        InvalidModelError: they do not fit each other or the attributes.
    """
    gates = RECURRENT_GATES[node.op_type]
    direction, layout = get_string(node, "direction", "forward"), get_int(node, "layout", 0)
    known = ("forward", "reverse", "bidirectional")
    check(direction in known, node, f"direction is {direction!r}, must be one of {list(known)}")
    check(layout in (0, 1), node, f"layout is {layout}, must be 0 or 1")
    directions = 2 if direction == "bidirectional" else 1
    for label_, shape in (("X", x), ("W", w), ("R", r)):
        check(
            len(shape) == 3 and min(shape) >= 1,
            node,
            f"{label_} has shape {list(shape)}, must have three axes that are not empty",
        )
    units = r[2]
    check(
        get_int(node, "hidden_size", units) == units,
        node,
        f"hidden_size is {get_int(node, 'hidden_size', units)}, R has {units} columns",
    )
    for label_, shape, columns in (("W", w, x[2]), ("R", r, units)):
        wanted = (directions, gates * units, columns)
        check(shape == wanted, node, f"{label_} has shape {list(shape)}, must have {list(wanted)}")
    steps, batch = (x[1], x[0]) if layout else (x[0], x[1])
    return RecurrentExtents(steps, batch, x[2], units, directions, bool(layout))

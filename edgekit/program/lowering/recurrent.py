"""LSTM and GRU.

A forward layer whose initial state is absent, zero, one number, or declared by the user keeps its
state in the Program, so that the network can be stepped. A reversed direction starts at the end of
its input and cannot be; neither can a layer whose initial state is computed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import onnx_ir

from edgekit.errors import InvalidModelError
from edgekit.model.geometry import RecurrentExtents, check, check_supported, recurrent_extents
from edgekit.model.nodes import (
    Array,
    const,
    find_floats,
    find_input,
    get_float,
    get_input,
    get_int,
    get_string,
    is_op,
    label,
    name_of,
)
from edgekit.program.ir import DType, Quantization
from edgekit.program.lowering import affine
from edgekit.program.lowering.arrangement import Arrangement
from edgekit.program.lowering.carried import initial_states
from edgekit.program.lowering.lowerer import Lowerer
from edgekit.program.lowering.table import lowering
from edgekit.program.lowering.value import Value, Weights
from edgekit.program.lowering.weighted import integer_bias
from edgekit.program.operators.movement import Concat, Slice
from edgekit.program.operators.quantization import Dequantize, Requantize
from edgekit.program.operators.recurrent import (
    CELL_EXPONENTS,
    DEFAULT_CELL_EXPONENT,
    UNIT,
    Gru,
    Lstm,
    Recurrent,
    cell_quantization,
)

CELL_EXPONENT = "edgekit.cell_exponent"
"""Metadata of an LSTM node in a quantised Model: logarithm of the step of its int16 cell."""

_DEFAULT_ACTIVATIONS = {"LSTM": ("Sigmoid", "Tanh", "Tanh"), "GRU": ("Sigmoid", "Tanh")}


@dataclass(frozen=True)
class _Form:
    """How a layer holds one of its states.

    Attributes:
        label: ``h`` or ``c``.
        dtype: of the tensor.
        quantization: what its integers mean; None for float32.
    """

    label: str
    dtype: DType
    quantization: Quantization | None = None

    @property
    def zero(self) -> int:
        """What means 0."""
        return 0 if self.quantization is None else self.quantization.scalar_zero_point

    def encode(self, array: Array) -> Array:
        """Reals as the tensor holds them; integers to nearest, saturated."""
        if self.quantization is None:
            return array.astype(np.float32)
        codes = np.rint(array.astype(np.float64) / self.quantization.scalar_scale) + self.zero
        encoded: Array = np.clip(codes, *self.dtype.limits).astype(self.dtype.numpy)
        return encoded


@dataclass(frozen=True, eq=False)
class _Layer:
    """A node, resolved.

    Attributes:
        low, node: the lowering and the node.
        extents: of its tensors.
        x: the sequence [T,N,I].
        w, r: weights of all directions.
        bias: float32 [D, 2·G·H], or None.
        y: quantisation of the result; None for float32.
    """

    low: Lowerer
    node: onnx_ir.Node
    extents: RecurrentExtents
    x: Value
    w: Weights
    r: Weights
    bias: Array | None
    y: Quantization | None

    @property
    def is_lstm(self) -> bool:
        """LSTM or GRU."""
        return is_op(self.node, "LSTM")

    @property
    def state_axes(self) -> tuple[int, ...]:
        """Axes of an ONNX state in the order direction, batch, units."""
        return (1, 0, 2) if self.extents.batch_first else (0, 1, 2)

    def keeps(self, value: onnx_ir.Value | None) -> bool:
        """Whether the Program keeps the state that starts as `value`."""
        carried = self.low.declared.carried
        if value in carried:
            return True
        forward = get_string(self.node, "direction", "forward") == "forward"
        starts = (v for _, v in initial_states(self.node))
        return forward and all(v is None or const(v) is not None or v in carried for v in starts)

    def forms(self) -> tuple[_Form, ...]:
        """Of h, and of an LSTM's c."""
        if self.y is None:
            return tuple(_Form(name, DType.FLOAT32) for name in ("h", "c")[: 1 + self.is_lstm])
        if not self.is_lstm:
            return (_Form("h", DType.INT16, UNIT),)
        cell = cell_quantization(_cell_exponent(self.node))
        return _Form("h", DType.INT8, self.y), _Form("c", DType.INT16, cell)


@lowering("LSTM", "GRU")
def recurrent(low: Lowerer, node: onnx_ir.Node) -> None:
    """One operation per direction; both directions are joined."""
    _refuse(node)
    layer = _resolved(low, node)
    reverse = get_string(node, "direction", "forward") == "reverse"
    directions = [reverse] if layer.extents.directions == 1 else [False, True]
    found = [_direction(layer, index, backwards) for index, backwards in enumerate(directions)]
    _define_sequence(layer, [f[0] for f in found])
    _define_states(layer, found, directions)


def _refuse(node: onnx_ir.Node) -> None:
    """Refuse what neither operator has."""
    found = tuple(_texts(node, "activations"))
    expected = _DEFAULT_ACTIVATIONS[node.op_type]
    names = tuple(f.capitalize() for f in found)
    check_supported(
        not found or names in (expected, expected * 2),
        node,
        f"activations are {list(found)}, supported: {list(expected)}",
    )
    for name in ("activation_alpha", "activation_beta"):
        check_supported(not find_floats(node, name), node, f"{name} is set")
    check_supported(get_float(node, "clip", 0.0) == 0.0, node, "clip is set")
    check_supported(get_int(node, "input_forget", 0) == 0, node, "input_forget is set")
    check_supported(find_input(node, 4) is None, node, "sequence_lens is given")
    check_supported(
        not is_op(node, "LSTM") or find_input(node, 7) is None, node, "it has peepholes (P)"
    )


def _texts(node: onnx_ir.Node, name: str) -> Sequence[str]:
    attribute = node.attributes.get(name)
    if attribute is None:
        return ()
    kind = onnx_ir.AttributeType.STRINGS
    if attribute.is_ref() or attribute.type != kind:
        raise InvalidModelError(
            f"{label(node)}: attribute {name!r} is {attribute.type.name}, must be {kind.name}"
        )
    return attribute.as_strings()


def _cell_exponent(node: onnx_ir.Node) -> int:
    """What the quantiser has found; a cell up to ±16 where nothing is said."""
    text = node.metadata_props.get(CELL_EXPONENT, str(DEFAULT_CELL_EXPONENT))
    low, high = CELL_EXPONENTS
    valid = [e for e in range(low, high + 1) if str(e) == text]
    check(bool(valid), node, f"metadata {CELL_EXPONENT} is {text!r}, must be {low} to {high}")
    return valid[0]


def _resolved(low: Lowerer, node: onnx_ir.Node) -> _Layer:
    x = low.value(get_input(node, 0))
    constants = [low.weights(node, get_input(node, i)) for i in (1, 2)]
    b = find_input(node, 3)
    stored = None if b is None else low.weights(node, b)
    w, r = constants
    check_supported(
        w is not None and r is not None and (b is None or stored is not None),
        node,
        "W, R and B must be constant",
    )
    assert w is not None
    assert r is not None
    extents = recurrent_extents(node, x.shape, w.data.shape, r.data.shape)
    bias = None if stored is None else affine.real_data(stored)
    wanted = (extents.directions, 2 * w.data.shape[1])
    check(
        bias is None or bias.shape == wanted,
        node,
        f"B has shape {list(() if bias is None else bias.shape)}, must have {list(wanted)}",
    )
    y = _integer_plan(low, node, x, w, r)
    if y is None:
        x = low.real(node, x)
        w, r = Weights(affine.real_data(w)), Weights(affine.real_data(r))
    x = low.arrange(node, x, (1, 0, 2) if extents.batch_first else (0, 1, 2))
    return _Layer(low, node, extents, x, w, r, bias, y)


def _integer_plan(
    low: Lowerer, node: onnx_ir.Node, x: Value, w: Weights, r: Weights
) -> Quantization | None:
    """The result's quantisation if the node can become an integer operation, else None."""
    results = [o for o in node.outputs[:2] if low.declared.is_read(o)]
    targets = {low.target(o) for o in results}
    y = next(iter(targets)) if len(targets) == 1 else None
    computed = [
        low.value(v)
        for _, v in initial_states(node)
        if v is not None and const(v) is None and v not in low.declared.carried
    ]
    quantised = (x.quantization, w.quantization, r.quantization, *targets)
    if not any(q is not None for q in quantised):
        return None
    if x.quantization is None:
        reason = "its input is not quantised"
    elif any(m.quantization is None or m.data.dtype != np.int8 for m in (w, r)):
        reason = "its weights are not int8"
    elif any(m.quantization is not None and any(m.quantization.zero_point) for m in (w, r)):
        reason = "its weights have zero points that are not 0 (128 for uint8)"
    elif any(m.quantization is not None and m.quantization.axis not in (None, 1) for m in (w, r)):
        reason = "its weights are not quantised along axis 1"
    elif any(v.quantization is None for v in computed):
        reason = "its initial state is not quantised"
    elif y is None:
        reason = "its result is not quantised, or differently for several readers"
    else:
        return y
    low.stay_real(node, reason)
    return None


def _direction(layer: _Layer, index: int, reverse: bool) -> list[str]:
    """Emit one direction; names of the operation's outputs."""
    low, node = layer.low, layer.node
    forms = layer.forms()
    values = [value for _, value in initial_states(node)]
    starts = [_start(layer, f, v, index) for f, v in zip(forms, values, strict=True)]
    w, r = (m.moved(m.data[index], axis=0) for m in (layer.w, layer.r))
    suffix = f".{index}" if layer.extents.directions > 1 else ""
    operator = _operator(layer, w, r, reverse=reverse)
    names = [f"{node.name}{suffix}.{name}" for name in ("y", "h_next", "c_next")]
    names = names[: 2 + layer.is_lstm]
    if not suffix and node.outputs[0].name:
        names[0] = name_of(node.outputs[0])
    outputs = low.emit_all(
        node,
        operator,
        layer.x.tensor,
        low.constant(w.data, f"{node.name}{suffix}.w", w.quantization),
        low.constant(r.data, f"{node.name}{suffix}.r", r.quantization),
        *_biases(layer, w, r, index),
        *(name for name, _ in starts),
        names=names,
    )
    meanings = (layer.y, *(form.quantization for form in forms))
    for name, meaning in zip(outputs, meanings, strict=True):
        low.tensors[name] = replace(low.tensors[name], quantization=meaning)
    for value, (read, initial), write in zip(values, starts, outputs[1:], strict=True):
        if layer.keeps(value):
            assert read is not None
            low.carry(read, write, initial)
    return outputs


def _operator(layer: _Layer, w: Weights, r: Weights, *, reverse: bool) -> Recurrent:
    after = get_int(layer.node, "linear_before_reset", 0) != 0
    if layer.y is None:
        return Lstm(reverse=reverse) if layer.is_lstm else Gru(reverse=reverse, reset_after=after)
    x = layer.x.quantization
    assert x is not None
    assert w.quantization is not None
    assert r.quantization is not None
    if layer.is_lstm:
        return Lstm.quantized(
            x=x,
            w=w.quantization,
            r=r.quantization,
            y=layer.y,
            cell_exponent=_cell_exponent(layer.node),
            reverse=reverse,
        )
    return Gru.quantized(
        x=x, w=w.quantization, r=r.quantization, y=layer.y, reset_after=after, reverse=reverse
    )


def _biases(layer: _Layer, w: Weights, r: Weights, index: int) -> list[str | None]:
    """Constants for the operator's biases: one for an LSTM, two for a GRU.

    The two biases that ONNX has are added, but for that which a reset gate multiplies.
    """
    names = ["bias"] if layer.is_lstm else ["bias", "r_bias"]
    if layer.bias is None:
        return [None] * len(names)
    units, after = layer.extents.units, get_int(layer.node, "linear_before_reset", 0) != 0
    own, recurrent_ = np.split(layer.bias[index], 2)
    apart = None
    if not layer.is_lstm and after:
        apart = recurrent_[2 * units :]
        recurrent_ = np.concatenate([recurrent_[: 2 * units], np.zeros(units, np.float32)])
    arrays = [own + recurrent_, apart][: len(names)]
    if layer.y is not None:
        assert layer.x.quantization is not None
        x_steps, h_steps = _steps(layer.x.quantization, w), _steps(layer.y, r)
        steps = (x_steps, h_steps[2 * units :])
        arrays = [
            None if a is None else integer_bias(Weights(a), s)
            for a, s in zip(arrays, steps, strict=False)
        ]
    return [
        None if a is None else layer.low.constant(a, f"{layer.node.name}.{name}")
        for a, name in zip(arrays, names, strict=True)
    ]


def _steps(operand: Quantization, weights: Weights) -> Array:
    """What one step of a sum of products is worth, per row."""
    assert weights.quantization is not None
    scale = np.array(weights.quantization.scale, np.float64)
    return np.broadcast_to(operand.scalar_scale * scale, weights.data.shape[:1])


def _start(
    layer: _Layer, form: _Form, value: onnx_ir.Value | None, index: int
) -> tuple[str | None, float]:
    """The tensor that a state is before the first step (None for 0), and its initial value."""
    low, extents = layer.low, layer.extents
    shape = (extents.batch, extents.units)
    array = const(value)
    if array is not None:
        check(
            array.shape == extents.state,
            layer.node,
            f"initial_{form.label} has shape {list(array.shape)}, must have {list(extents.state)}",
        )
        array = form.encode(array.transpose(layer.state_axes)[index])
    if layer.keeps(value):
        initial: float = form.zero
        if array is not None:
            check_supported(
                bool((array == array.flat[0]).all()),
                layer.node,
                f"initial_{form.label} holds different numbers; one number, an input or a "
                "computed value is supported",
            )
            initial = float(array.flat[0]) if form.quantization is None else int(array.flat[0])
        name = low.declared.carried.get(value) if value is not None else None
        name = name or f"{layer.node.name}.{form.label}"
        return low.state_tensor(name, shape, form.dtype, form.quantization), initial
    if array is not None:
        if (array == form.zero).all():
            return None, 0
        name = f"{layer.node.name}.initial_{form.label}"
        return low.constant(np.ascontiguousarray(array), name, form.quantization), 0
    if value is None:
        return None, 0
    return _computed_start(layer, form, value, index), 0


def _computed_start(layer: _Layer, form: _Form, value: onnx_ir.Value, index: int) -> str:
    """A computed initial state of one direction as the layer holds it, [N,H]."""
    low, node, extents = layer.low, layer.node, layer.extents
    found = low.value(value)
    check(
        found.shape == extents.state,
        node,
        f"initial_{form.label} has shape {list(found.shape)}, must have {list(extents.state)}",
    )
    if form.quantization is None:
        found = low.real(node, found)
    found = low.arrange(node, found, layer.state_axes)
    tensor, given = found.tensor, found.quantization
    if extents.directions > 1:
        begin, end = (index, 0, 0), (index + 1, extents.batch, extents.units)
        name = f"{node.name}.initial_{form.label}.{index}"
        tensor = low.emit(node, Slice(begin, end, (1, 1, 1)), tensor, name=name, quantization=given)
    tensor = low.view(node, tensor, (extents.batch, extents.units))
    if form.quantization is not None and given != form.quantization:
        assert given is not None
        operator = Requantize.quantized(x=given, y=form.quantization, dtype=form.dtype)
        name, meaning = f"{node.name}.initial_{form.label}", form.quantization
        tensor = low.emit(node, operator, tensor, name=name, quantization=meaning)
    return tensor


def _define_sequence(layer: _Layer, tensors: Sequence[str]) -> None:
    """Y, whose directions lie behind the steps."""
    low, node, extents = layer.low, layer.node, layer.extents
    shape = (extents.steps, 1, extents.batch, extents.units)
    tensor = _joined(layer, [low.view(node, t, shape) for t in tensors], axis=1, output=0)
    axes = (1, 2, 0, 3) if extents.batch_first else (0, 1, 2, 3)
    arrangement = Arrangement.permuted(extents.sequence, axes)
    low.define(node.outputs[0], Value(tensor, arrangement, layer.y))


def _define_states(
    layer: _Layer, found: Sequence[Sequence[str]], directions: Sequence[bool]
) -> None:
    """Y_h and Y_c, where anybody reads them."""
    low, node = layer.low, layer.node
    for output in range(1, len(node.outputs)):
        value = node.outputs[output]
        if not low.declared.is_read(value):
            continue
        tensors = [outputs[output] for outputs in found]
        if output == 1 and not layer.is_lstm and layer.y is not None:
            tensors = [
                _last(layer, outputs[0], reverse)
                for outputs, reverse in zip(found, directions, strict=True)
            ]
        shape = (1, layer.extents.batch, layer.extents.units)
        tensor = _joined(layer, [low.view(node, t, shape) for t in tensors], axis=0, output=output)
        arrangement = Arrangement.permuted(layer.extents.state, layer.state_axes)
        result = Value(tensor, arrangement, layer.y)
        if output == 2 and layer.y is not None:
            result = _shown_cell(layer, value, result)
        low.define(value, result)


def _joined(layer: _Layer, tensors: Sequence[str], *, axis: int, output: int) -> str:
    if len(tensors) == 1:
        return tensors[0]
    name, quantization = layer.node.outputs[output].name, layer.low.tensors[tensors[0]].quantization
    name = name or f"{layer.node.name}.{output}"
    return layer.low.emit(layer.node, Concat(axis), *tensors, name=name, quantization=quantization)


def _last(layer: _Layer, sequence: str, reverse: bool) -> str:
    """The last step's int8 result: a GRU's own state has another type."""
    extents = layer.extents
    step = 0 if reverse else extents.steps - 1
    operator = Slice((step, 0, 0), (step + 1, extents.batch, extents.units), (1, 1, 1))
    name = layer.node.outputs[1].name or f"{layer.node.name}.h"
    return layer.low.emit(layer.node, operator, sequence, name=name, quantization=layer.y)


def _shown_cell(layer: _Layer, value: onnx_ir.Value, result: Value) -> Value:
    """An int16 cell for its readers: as int8 where they want that, else as float32."""
    low, y = layer.low, layer.low.target(value)
    held = low.tensors[result.tensor].quantization
    assert held is not None
    operator: Requantize | Dequantize = Dequantize.quantized(x=held)
    if y is not None:
        operator = Requantize.quantized(x=held, y=y)
    name = name_of(value)
    tensor = low.emit(layer.node, operator, result.tensor, name=name, quantization=y)
    return Value(tensor, result.arrangement, y)

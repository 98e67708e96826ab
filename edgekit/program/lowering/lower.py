"""Lower a whole Model."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import onnx_ir

from edgekit.errors import UnsupportedError
from edgekit.model.domain import DOMAIN
from edgekit.model.model import Model
from edgekit.model.nodes import const, is_op, label, name_of, shape_of
from edgekit.model.passes import optimize
from edgekit.program.ir import Boundary, DType, Program, Quantization, State, Tensor
from edgekit.program.lowering.arrangement import CHANNELS_LAST, Arrangement
from edgekit.program.lowering.carried import declared_state
from edgekit.program.lowering.in_float import in_float, notes
from edgekit.program.lowering.lowerer import Lowerer
from edgekit.program.lowering.spiking import carry_spikes, prepare, read_values
from edgekit.program.lowering.spiking_format import MembraneFormat
from edgekit.program.lowering.spiking_options import SpikingOptions
from edgekit.program.lowering.spiking_readers import reading
from edgekit.program.lowering.table import LOWERINGS, REWRITTEN, supported
from edgekit.program.lowering.value import Value
from edgekit.program.operators.base import Operator
from edgekit.program.operators.movement import Concat, Reshape
from edgekit.program.operators.quantization import Dequantize, Quantize
from edgekit.program.verify import verify

log = logging.getLogger("edgekit")

_SPATIAL = (
    *("Conv", "ConvTranspose", "AveragePool", "MaxPool", "GlobalAveragePool", "GlobalMaxPool"),
    "Resize",
)

_ANY_ORDER = (
    *("Add", "Sub", "Mul", "Div", "Relu", "Clip", "LeakyRelu", "HardSwish", "Sigmoid", "Tanh"),
    *("Pad", "Concat", "Split", "Slice", "QuantizeLinear", "DequantizeLinear", "Identity"),
)

_OURS = ((DOMAIN, "Binarize"),)
"""Operators of the ``edgekit`` domain that do not care how elements lie."""


@dataclass(frozen=True, eq=False)
class Lowered:
    """A Program with what the lowering knows beyond it.

    Attributes:
        program: the verified Program.
        values: what stands for an ONNX value, by its name, for values that have a tensor in the
            Program; the tensor may have another shape than the arrangement, not another order.
        origins: name of the node that an operation belongs to, by the operation's name.
        in_float: what a quantised Model leaves in float32, one sentence each; empty for a float
            Model. Where activations are quantised dynamically, the network is float between its
            matrix products by design: then only products are listed whose weights or input are
            quantised in vain.
        unpacked: what has weights of a narrow format in int8, one sentence each.
        notes: what the user should hear of.
        membranes: how integer populations hold their membranes, by the population's name.
        spikes: bit sets of the populations' spikes, by the population's name.
    """

    program: Program
    values: Mapping[str, Value]
    origins: Mapping[str, str]
    in_float: tuple[str, ...]
    unpacked: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    membranes: Mapping[str, MembraneFormat] = field(default_factory=dict)
    spikes: Mapping[str, Value] = field(default_factory=dict)


def lower(
    model: Model,
    *,
    allow_fallback: bool = False,
    state: Mapping[str, str] | None = None,
    spiking: SpikingOptions | None = None,
) -> Program:
    """Lower a Model to a Program.

    Args:
        model: float, or with QuantizeLinear and DequantizeLinear; not changed.
        allow_fallback: let parts of a quantised Model stay in float32, between quantize and
            dequantize operations.
        state: name of an input to name of the output that becomes its next value. Both become
            state of the Program, which starts from 0, instead of input and output.
        spiking: scales of inputs and measured activity of a spiking network; see
            :mod:`edgekit.program.lowering.spiking`.

    Returns:
        A verified Program. Its inputs and outputs carry the Model's names; those of a quantised
        Model are int8 (uint8 less 128) where the Model quantises them. What the user should hear
        of is logged as warnings; :func:`lower_noted` returns it instead.

    Raises:
        UnsupportedError: lists every node that cannot be lowered with the supported operators, or
            every operation that would stay in float without `allow_fallback`.
        InvalidModelError: a node that does not fit its inputs.
        UsageError: `state` or `spiking` names what the Model has not, or tensors that differ.
    """
    lowered = lower_noted(model, allow_fallback=allow_fallback, state=state, spiking=spiking)
    for note in lowered.notes:
        log.warning("%s: %s", model.name, note)
    return lowered.program


def lower_noted(
    model: Model,
    *,
    allow_fallback: bool = False,
    state: Mapping[str, str] | None = None,
    spiking: SpikingOptions | None = None,
) -> Lowered:
    """What :func:`lower` does, with the notes that the user should hear of."""
    lowered = lower_optimized(optimize(model, keep=LOWERINGS), state=state, spiking=spiking)
    for what, lines in (
        ("parts of the quantised model would stay in float32", lowered.in_float),
        ("packed weights would be unpacked", lowered.unpacked),
    ):
        if lines and not allow_fallback:
            listed = "\n  ".join(lines)
            raise UnsupportedError(
                f"{model.name}: {what} "
                f"(allow it with --allow-fallback or allow_fallback=True):\n  {listed}"
            )
    return lowered


def lower_optimized(
    model: Model,
    *,
    state: Mapping[str, str] | None = None,
    spiking: SpikingOptions | None = None,
) -> Lowered:
    """Lower a Model that :func:`edgekit.model.passes.optimize` has prepared; see :func:`lower`."""
    graph = model.ir.graph
    low = Lowerer(graph, declared_state(graph, state), spiking)
    low.absorbed.update(low.declared.nodes)
    prepare(low)
    inputs = _inputs(low)
    _nodes(low, model.name)
    carry_spikes(low)
    for read, write in low.declared.pairs:
        if read not in low.declared.inputs:
            _declared_state(low, read, write)
    outputs = tuple(
        _output(low, value) for value in graph.outputs if value not in low.declared.outputs
    )
    program = _without_unused(
        Program(
            name=model.name,
            tensors=low.tensors,
            operations=tuple(low.operations),
            inputs=inputs,
            outputs=outputs,
            state=tuple(low.state),
            source=model.source,
        )
    )
    verify(program, stage="lowering")
    return Lowered(
        program,
        low.defined(program.tensors),
        low.origins,
        in_float(low, program),
        tuple(dict.fromkeys(low.unpacked)),
        notes(low, program),
        low.membranes,
        low.populations(program.tensors),
    )


def _inputs(low: Lowerer) -> tuple[Boundary, ...]:
    boundaries, problems = [], []
    state = {read for read, _ in low.declared.pairs}
    for value in low.graph.inputs:
        if value in low.declared.inputs:
            continue
        name, shape = name_of(value), shape_of(value)
        assert shape is not None, f"the loader left the shape of {name!r} open"
        known = None if value.dtype is None else value.dtype.name.lower()
        dtype = {"float": "float32", "double": "float64"}.get(known or "", known)
        if dtype not in set(DType) or 0 in shape:
            problems.append(
                f"input {name!r} is {dtype}{list(shape)}; supported: {', '.join(DType)}, not empty"
            )
            continue
        quantization = low.target(value) if dtype == DType.FLOAT32 and value.uses() else None
        coded = DType.INT8
        if dtype == DType.FLOAT32 and name in low.options.input_scale:
            quantization = Quantization.per_tensor(low.options.input_scale[name])
            coded = DType.INT16
        axes = CHANNELS_LAST.get(len(shape)) if _reaches_spatial(value) else None
        arrangement = Arrangement.plain(shape)
        if axes is not None:
            arrangement = Arrangement.permuted(shape, axes)
        tensor = Tensor(
            name,
            arrangement.stored,
            DType(dtype) if quantization is None else coded,
            quantization,
        )
        low.tensors[name] = tensor
        low.define(value, Value(name, arrangement, quantization))
        if value not in state:
            boundaries.append(Boundary(name, name, shape, axes))
    if problems:
        raise UnsupportedError("\n".join(problems))
    return tuple(boundaries)


def _reaches_spatial(value: onnx_ir.Value) -> bool:
    """Whether a convolution or pool reads a value, directly or behind operators of any order."""
    pending, seen = [value], {value}
    while pending:
        for use in pending.pop().uses():
            if is_op(use.node, *_SPATIAL) and use.idx == 0:
                return True
            if is_op(use.node, *_ANY_ORDER) or use.node.op_identifier()[:2] in _OURS:
                fresh = [o for o in use.node.outputs if o not in seen]
                seen.update(fresh)
                pending.extend(fresh)
    return False


def _nodes(low: Lowerer, name: str) -> None:
    """Lower every node; what cannot be lowered is collected and reported at once."""
    problems: list[str] = []
    unknown = False
    for node in low.graph:
        if node in low.absorbed:
            continue
        function = reading(low, node) or LOWERINGS.get((node.domain, node.op_type))
        if function is None:
            form = REWRITTEN.get(node.op_type) if node.domain == "" else None
            problems.append(label(node) + (f": supported only {form}" if form else ""))
            unknown |= form is None
            continue
        if not all(low.knows(v) for v in read_values(low, node)):
            # It needs the result of a node that is among the problems.
            continue
        try:
            with np.errstate(over="ignore"):
                function(low, node)
        except OverflowError as error:
            problems.append(f"{label(node)}: its scales or constants overflow: {error}")
        except UnsupportedError as error:
            text = str(error)
            problems.append(text if label(node) in text else f"{label(node)}: {text}")
    if problems:
        hint = f"\nsupported operators: {', '.join(supported())}" if unknown else ""
        lines = "\n  ".join(problems)
        raise UnsupportedError(f"{name}: not supported:\n  {lines}{hint}")


def _declared_state(low: Lowerer, read: onnx_ir.Value, write: onnx_ir.Value) -> None:
    """Bring the next value of a declared state to the state's order and quantisation.

    Raises:
        UnsupportedError: it is a constant.
    """
    name, what = name_of(read), "state"
    if const(write) is not None:
        raise UnsupportedError(
            f"state {name!r}: its next value {name_of(write)!r} is a constant, "
            "must depend on an input"
        )
    state, result = low.value(read), low.value(write)
    tensor = low.tensors[state.tensor]
    held = tensor.quantization
    result = low.arrange(what, result, low.axes_of(state))
    given = low.tensors[result.tensor]
    if held is None and result.quantization is not None:
        operator: Operator = Dequantize.quantized(x=result.quantization)
        result = Value(low.emit(what, operator, result.tensor, name=name), result.arrangement)
    elif held is not None and given.dtype == DType.FLOAT32:
        operator = Quantize.quantized(y=held)
        update = low.emit(what, operator, result.tensor, name=name, quantization=held)
        result = Value(update, result.arrangement)
    elif held is not None and result.quantization not in (None, held):
        result = low.requantized(what, result, held)
    update = low.view(what, result.tensor, tensor.shape)
    low.carry(tensor.name, _own_bytes(low, what, update), 0 if held is None else _zero(held))


def _zero(quantization: Quantization) -> int:
    return quantization.scalar_zero_point


def _own_bytes(low: Lowerer, what: str, tensor: str) -> str:
    """The tensor, or a copy where it is state under another shape."""
    producers = {name: op for op in low.operations for name in op.outputs}
    root = tensor
    while root in producers and producers[root].operator.alias:
        root = producers[root].present_inputs[0]
    if root in producers or root not in {name_of(r) for r, _ in low.declared.pairs}:
        return tensor
    return low.emit(
        what, Concat(0), tensor, name=tensor, quantization=low.tensors[tensor].quantization
    )


def _output(low: Lowerer, value: onnx_ir.Value) -> Boundary:
    name = name_of(value)
    if const(value) is not None:
        raise UnsupportedError(f"output {name!r} is a constant, must depend on an input")
    if value.dtype == onnx_ir.DataType.UINT8:
        raise UnsupportedError(
            f"output {name!r} is uint8; end the model with DequantizeLinear, or use int8"
        )
    result = low.value(value)
    axes = _output_axes(low, result)
    result = low.plain("output", result) if axes is None else low.arrange("output", result, axes)
    tensor = low.tensors[_own_bytes(low, "output", result.tensor)]
    written = any(tensor.name in op.outputs for op in low.operations)
    if not written:
        # The model returns an input (or a constant) as it is; an output must be computed.
        if tensor.is_constant:
            raise UnsupportedError(f"output {name!r} is a constant, must depend on an input")
        copied = low.emit(
            "output",
            Reshape(tensor.shape),
            tensor.name,
            name=name,
            quantization=tensor.quantization,
        )
        tensor = low.tensors[copied]
    if result.quantization is not None and tensor.quantization != result.quantization:
        low.tensors[tensor.name] = tensor = replace(tensor, quantization=result.quantization)
    return Boundary(tensor.name, name, result.shape, axes)


def _output_axes(low: Lowerer, result: Value) -> tuple[int, ...] | None:
    """Channels-last where an output lies so already, None for the source's order.

    With axes of extent 1 it may lie both ways; then the shape that its tensor has decides.
    """
    shape, stored = result.shape, low.tensors[result.tensor].shape
    axes = CHANNELS_LAST.get(len(shape))
    if axes is None or not result.arrangement.lies_as(axes):
        return None
    plain = result.arrangement.lies_as(range(len(shape)))
    return None if plain and stored != tuple(shape[a] for a in axes) else axes


def _without_unused(program: Program) -> Program:
    """Drop operations whose results nobody reads, and constants and state likewise."""
    needed = {b.tensor for b in program.outputs}
    state: tuple[State, ...] = ()
    while True:
        # What a state becomes is needed once the state is read, by whatever stands before it.
        needed.update(s.write for s in state)
        for operation in reversed(program.operations):
            if needed.intersection(operation.outputs):
                needed.update(operation.present_inputs)
                needed.update(operation.outputs)
        read = tuple(s for s in program.state if s.read in needed)
        if read == state:
            break
        state = read
    kept = tuple(op for op in program.operations if needed.intersection(op.outputs))
    needed.update(b.tensor for b in program.inputs)
    tensors = {name: t for name, t in program.tensors.items() if name in needed}
    return program.replace(tensors=tensors, operations=kept, state=state)

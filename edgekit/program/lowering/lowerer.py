"""The state of one lowering: what lowering functions read from and write to."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Container, Hashable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import onnx_ir

from edgekit.errors import UnsupportedError
from edgekit.model.coded import is_quantized
from edgekit.model.nodes import Array, const, is_op, label, name_of
from edgekit.program.fixed_point import clamp_between
from edgekit.program.ir import DType, Operation, Quantization, State, Tensor
from edgekit.program.lowering import affine, coded
from edgekit.program.lowering.arrangement import Arrangement
from edgekit.program.lowering.carried import Declared
from edgekit.program.lowering.fusion import Tail, tail_of
from edgekit.program.lowering.spiking_format import Held, MembraneFormat
from edgekit.program.lowering.spiking_options import SpikingOptions
from edgekit.program.lowering.spiking_sets import SpikeSets
from edgekit.program.lowering.spiking_sums import Sum
from edgekit.program.lowering.value import Value, Weights
from edgekit.program.operators.base import Operator, OperatorError
from edgekit.program.operators.movement import MAX_RANK, Reshape, Transpose
from edgekit.program.operators.quantization import Dequantize, Requantize
from edgekit.program.operators.spiking_neurons import Leaky, Synaptic
from edgekit.program.operators.spiking_values import SpikeValues


@dataclass(frozen=True)
class Dynamic:
    """A value that a dynamic_quantize operation has quantised.

    Attributes:
        codes: tensor of int8 codes, in the source's shape and order.
        scale: tensor of float32 scales, one per row.
    """

    codes: str
    scale: str


class Lowerer:
    """A Program under construction.

    Attributes:
        graph: the ONNX graph.
        tensors: the Program's tensors by name.
        operations: the Program's operations in order.
        absorbed: nodes that an earlier node took with it.
        origins: name of the node that an operation belongs to, by the operation's name.
        reasons: why a node computes in float, by the node's name.
        unpacked: what has weights of a narrower format as int8, one sentence each.
        notes: what the user should hear of, each once.
        dynamic: values that are quantised with a scale per row, by the value that they mean.
        declared: inputs and outputs that are state.
        state: the Program's state.
        options: what the caller says of a spiking network.
        is_quantised: whether the graph quantises anything.
        sets: which values are spikes.
        sums: what populations read, by their node.
        spikes: bit sets, by the value whose spikes they hold.
        spike_states: declared state that is a bit set, and its next value.
        membranes: formats of integer populations, by their name.
        held: integer membranes, by the value that they mean.
        codes: tensors of int16 codes of integer membranes, by the membranes' tensor.
    """

    def __init__(
        self,
        graph: onnx_ir.Graph,
        declared: Declared | None = None,
        options: SpikingOptions | None = None,
    ) -> None:
        self.graph = graph
        self.declared = declared or Declared()
        self.options = options or SpikingOptions()
        self.is_quantised = is_quantized(graph)
        self.sets = SpikeSets(graph, self.declared)
        self.sums: dict[onnx_ir.Node, Sum] = {}
        self.spikes: dict[onnx_ir.Value, Value] = {}
        self.spike_states: list[tuple[onnx_ir.Value, onnx_ir.Value]] = []
        self.membranes: dict[str, MembraneFormat] = {}
        self.held: dict[onnx_ir.Value, Held] = {}
        self.codes: dict[str, str] = {}
        self.state: list[State] = []
        self.tensors: dict[str, Tensor] = {}
        self.operations: list[Operation] = []
        self.absorbed: set[onnx_ir.Node] = set()
        self.origins: dict[str, str] = {}
        self.reasons: dict[str, str] = {}
        self.unpacked: list[str] = []
        self.notes: dict[str, None] = {}
        self.dynamic: dict[onnx_ir.Value, Dynamic] = {}
        self._values: dict[onnx_ir.Value, Value] = {}
        self._operation_names: set[str] = set()
        self._populations = {node.name for node in self.sets.populations}
        self._real: dict[tuple[str, Quantization], str] = {}
        self._producers: dict[str, Operation] = {}
        self._constants: dict[Hashable, str] = {}
        self._transposed: dict[tuple[str, tuple[int, ...], tuple[int, ...]], str] = {}
        self._requantized: dict[tuple[str, Quantization, Quantization], str] = {}

    # Values

    def knows(self, value: onnx_ir.Value) -> bool:
        """Whether a value is defined, constant, spikes, or state that a layer keeps."""
        kept = value in self.declared.carried or value in self.spikes
        return kept or value in self._values or const(value) is not None

    def value(self, value: onnx_ir.Value | None) -> Value:
        """What stands for an ONNX value.

        Raises:
            UnsupportedError: a constant of a type that Programs do not have, or without elements.
        """
        assert value is not None
        if value not in self._values and value in self.spikes:
            self._values[value] = self._spike_values(value)
        if value not in self._values:
            array = const(value)
            assert array is not None, f"{value.name} is read before it is lowered"
            self._values[value] = self._constant_value(name_of(value), array)
        return self._values[value]

    def define(self, value: onnx_ir.Value, result: Value) -> None:
        """Say what stands for an ONNX value."""
        self._values[value] = result

    def define_plain(
        self, value: onnx_ir.Value, tensor: str, quantization: Quantization | None = None
    ) -> None:
        """Say that a tensor, in the source's shape and order, stands for an ONNX value.

        Args:
            value: the ONNX value.
            tensor: name of the Program's tensor.
            quantization: where the tensor holds integers that mean the value, see :class:`Value`.
        """
        arrangement = Arrangement.plain(self.tensors[tensor].shape)
        self.define(value, Value(tensor, arrangement, quantization))

    def defined(self, kept: Container[str]) -> dict[str, Value]:
        """What stands for ONNX values, by the values' names.

        Args:
            kept: tensors of the finished Program; one that is not among them because it is another
                shape of a tensor that is, is represented by that.
        """
        found = {}
        for value, known in self._values.items():
            tensor = known.tensor
            while tensor not in kept and self._viewed_from(tensor) != tensor:
                tensor = self._viewed_from(tensor)
            if tensor in kept:
                found[name_of(value)] = replace(known, tensor=tensor)
        return found

    def populations(self, kept: Container[str]) -> dict[str, Value]:
        """Bit sets of populations, by the populations' names.

        Args:
            kept: tensors of the finished Program.
        """
        found = {node.name: self.spikes.get(node.outputs[0]) for node in self.sets.populations}
        return {name: bits for name, bits in found.items() if name and bits and bits.tensor in kept}

    def _constant_value(self, name: str, array: Array) -> Value:
        if array.dtype.name not in set(DType) or array.size == 0:
            raise UnsupportedError(
                f"constant {name!r} is {array.dtype.name}{list(array.shape)}; "
                f"supported: {', '.join(DType)}, not empty"
            )
        return Value(self.constant(array, name), Arrangement.plain(array.shape))

    def _spike_values(self, value: onnx_ir.Value) -> Value:
        """Spikes as 0 and 1: int8 in a quantised graph, else float32."""
        bits, name = self.spikes[value], name_of(value)
        meaning = Quantization.per_tensor(1.0) if self.is_quantised else None
        operator = SpikeValues(
            shape=(math.prod(bits.shape),), dtype=DType.INT8 if meaning else DType.FLOAT32
        )
        numbers = self.emit(name, operator, bits.tensor, name=name, quantization=meaning)
        stored = self.view(name, numbers, bits.arrangement.stored)
        return Value(stored, bits.arrangement, meaning)

    # Tensors and operations

    def constant(self, array: Array, name: str, quantization: Quantization | None = None) -> str:
        """Add a constant tensor; returns its name, `name` or one like it.

        A constant with the same content that is there already is shared.
        """
        tensor = Tensor.constant(self._free_name(name), array, quantization)
        assert tensor.data is not None
        content = hashlib.sha256(tensor.data.tobytes()).digest()
        key = tensor.dtype, tensor.shape, quantization, content
        if key not in self._constants:
            self.tensors[tensor.name] = tensor
            self._constants[key] = tensor.name
        return self._constants[key]

    def state_tensor(
        self,
        name: str,
        shape: tuple[int, ...],
        dtype: DType,
        quantization: Quantization | None = None,
    ) -> str:
        """Add a tensor that is read as state; returns its name, `name` or one like it.

        What it becomes is said with :meth:`carry`.
        """
        tensor = Tensor(self._free_name(name), shape, dtype, quantization)
        self.tensors[tensor.name] = tensor
        return tensor.name

    def carry(self, read: str, write: str, initial: float = 0) -> None:
        """Say which tensor a state becomes, and what its elements are after a reset."""
        self.state.append(State(read, write, initial))

    def emit(
        self,
        node: onnx_ir.Node | str,
        operator: Operator,
        *inputs: str | None,
        name: str,
        quantization: Quantization | None = None,
    ) -> str:
        """Add an operation with one output; returns the output's name.

        Args:
            node: what the operation is named after.
            operator: the operator.
            inputs: tensor names.
            name: wanted name of the output.
            quantization: of the output, where it holds integers that mean something.

        Raises:
            UnsupportedError: the operator refuses the inputs.
        """
        return self.emit_all(node, operator, *inputs, names=[name], quantization=quantization)[0]

    def emit_all(
        self,
        node: onnx_ir.Node | str,
        operator: Operator,
        *inputs: str | None,
        names: Sequence[str],
        quantization: Quantization | None = None,
    ) -> list[str]:
        """Add an operation with any number of outputs; see :meth:`emit`."""
        what = node if isinstance(node, str) else label(node)
        types = [None if i is None else self.tensors[i].type for i in inputs]
        try:
            results = operator.infer(*types)
        except OperatorError as error:
            raise UnsupportedError(f"{what}: {error}") from error
        assert len(results) == len(names), what
        outputs = []
        for wanted, result in zip(names, results, strict=True):
            tensor = Tensor(self._free_name(wanted), result.shape, result.dtype, quantization)
            self.tensors[tensor.name] = tensor
            outputs.append(tensor.name)
        base = node if isinstance(node, str) else (node.name or node.op_type)
        unique = self._unique_operation_name(base, operator)
        operation = Operation(unique, operator, inputs, tuple(outputs))
        self.origins[unique] = base
        self.operations.append(operation)
        self._producers.update(dict.fromkeys(outputs, operation))
        return outputs

    def _free_name(self, wanted: str) -> str:
        name, count = wanted, 1
        while name in self.tensors:
            count += 1
            name = f"{wanted}:{count}"
        return name

    def _unique_operation_name(self, base: str, operator: Operator) -> str:
        # A population's name is that of the operation that updates it.
        updates = isinstance(operator, Leaky | Synaptic) or base not in self._populations
        for name in (base, f"{base}/{operator.name}")[0 if updates else 1 :]:
            if name not in self._operation_names:
                break
        else:
            count = 2
            while f"{name}:{count}" in self._operation_names:
                count += 1
            name = f"{name}:{count}"
        self._operation_names.add(name)
        return name

    # Layout

    def view(self, node: onnx_ir.Node | str, tensor: str, shape: tuple[int, ...]) -> str:
        """The tensor under another shape, without an operation where one is there already."""
        if self.tensors[tensor].shape == shape:
            return tensor
        source = self.tensors[tensor]
        if source.data is not None:
            return self.constant(source.data.reshape(shape), tensor, source.quantization)
        origin = self._viewed_from(tensor)
        if self.tensors[origin].shape == shape:
            return origin
        return self.emit(
            node, Reshape(shape), origin, name=tensor, quantization=source.quantization
        )

    def _viewed_from(self, tensor: str) -> str:
        """The tensor that a reshape made this one of, or the tensor itself."""
        producer = self._producers.get(tensor)
        if producer is None or not producer.operator.alias:
            return tensor
        return producer.present_inputs[0]

    def arrange(self, node: onnx_ir.Node | str, value: Value, axes: Sequence[int]) -> Value:
        """The value with its elements as if its axes were transposed by `axes`.

        Its tensor then has one axis per source axis, in that order.
        """
        shape = tuple(value.shape[a] for a in axes)
        wanted = Arrangement.permuted(value.shape, axes)
        arrangement = value.arrangement
        tensor = value.tensor
        if not arrangement.lies_as(axes):
            tensor = self._transpose(node, value, axes)
        return Value(self.view(node, tensor, shape), wanted, value.quantization)

    def _transpose(self, node: onnx_ir.Node | str, value: Value, axes: Sequence[int]) -> str:
        source = self.tensors[value.tensor]
        extents, permutation = _permutation(value.arrangement, source.shape, axes)
        if source.data is not None:
            data = source.data.reshape(extents).transpose(permutation)
            return self.constant(data, value.tensor, source.quantization)
        key = value.tensor, extents, permutation
        if key not in self._transposed:
            self._transposed[key] = self.emit(
                node,
                Transpose(permutation),
                self.view(node, value.tensor, extents),
                name=value.tensor,
                quantization=source.quantization,
            )
        return self._transposed[key]

    def plain(self, node: onnx_ir.Node | str, value: Value) -> Value:
        """The value in the source's own order and shape."""
        return self.arrange(node, value, range(len(value.shape)))

    def axes_of(self, value: Value) -> tuple[int, ...]:
        """The order of source axes in which the value lies, the source's own where it has none."""
        axes = value.arrangement.axes
        return tuple(range(len(value.shape))) if axes is None else axes

    # Quantisation

    def real(self, node: onnx_ir.Node, value: Value) -> Value:
        """The value as float32, through a dequantize operation where it is quantised."""
        if value.quantization is None:
            return value
        key = value.tensor, value.quantization
        if key not in self._real:
            operator = Dequantize.quantized(x=value.quantization)
            data = self.tensors[value.tensor].data
            if data is not None:
                self._real[key] = self.constant(operator.reference(data)[0], value.tensor)
            else:
                self._real[key] = self.emit(node, operator, value.tensor, name=value.tensor)
        return Value(self._real[key], value.arrangement)

    def requantized(
        self, node: onnx_ir.Node | str, value: Value, quantization: Quantization
    ) -> Value:
        """A quantised value brought to another quantisation."""
        assert value.quantization is not None
        if value.quantization == quantization:
            return value
        key = value.tensor, value.quantization, quantization
        if key not in self._requantized:
            operator = Requantize.quantized(x=value.quantization, y=quantization)
            name, data = value.tensor, self.tensors[value.tensor].data
            if data is not None:
                tensor = self.constant(operator.reference(data)[0], name, quantization)
            else:
                tensor = self.emit(node, operator, name, name=name, quantization=quantization)
            self._requantized[key] = tensor
        return Value(self._requantized[key], value.arrangement, quantization)

    def weights(
        self, node: onnx_ir.Node, value: onnx_ir.Value, *, packed: bool = False
    ) -> Weights | None:
        """A constant operand: float32, int8, or coded; None if it is computed.

        Args:
            node: the reader.
            value: the operand.
            packed: whether the reader can run coded weights; else they become int8, or float32
                where they have scales for groups or exceed int8.

        Raises:
            UnsupportedError: its type or quantisation is not supported.
            InvalidModelError: coded weights that are not what they say.
        """
        array = const(value)
        if array is not None:
            if array.dtype != np.float32:
                raise UnsupportedError(
                    f"{label(node)}: constant {value.name!r} is {array.dtype.name}, "
                    "must be float32 or quantised int8"
                )
            return Weights(array)
        found = coded.read(value)
        if found is not None:
            return found if packed and found.blocks is not None else self._plain(node, found)
        producer = value.producer()
        if not is_op(producer, "DequantizeLinear"):
            return None
        assert producer is not None
        return affine.dequantized_constant(producer)

    def _plain(self, node: onnx_ir.Node, found: Weights) -> Weights:
        """Coded weights for an operator that has no kernel for them."""
        if found.blocks is None:
            return found
        plain, element = coded.as_int8(found), found.blocks.element
        if plain is None:
            problem = f"{element} weights can be packed for {coded.PACKED} only"
            self.stay_real(node, problem)
            return Weights(affine.real_data(found), problem=problem)
        if element != "int8":
            self.unpacked.append(
                f"{label(node)}: its {element} weights would be stored as int8; "
                f"packed weights run in {coded.PACKED}"
            )
        return plain

    def tail(self, node: onnx_ir.Node) -> Tail:
        """What fuses behind a node; those nodes are not lowered on their own."""
        tail = tail_of(node)
        self.absorbed.update(tail.absorbed)
        return tail

    def target(self, value: onnx_ir.Value) -> Quantization | None:
        """The quantisation that all readers of a value give it, None for none or several."""
        return affine.target_quantization(value, self.declared)

    def stay_real(self, node: onnx_ir.Node, reason: str) -> None:
        """Note why a node cannot become an integer operation."""
        self.reasons.setdefault(node.name or node.op_type, reason)


def integer_clamp(tail: Tail, y: Quantization) -> tuple[int, int]:
    """Bounds of a fused clamp in units of an int8 output."""
    return clamp_between(
        tail.low, tail.high, y.scalar_scale, y.scalar_zero_point, DType.INT8.limits
    )


def _permutation(
    arrangement: Arrangement, stored: tuple[int, ...], axes: Sequence[int]
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """A shape for a tensor, and the permutation of it, that bring it into the order of `axes`.

    The tensor's own shape where it has one axis per source axis, else one with as few as possible.

    >>> image = Arrangement.permuted((1, 2, 3, 4), (0, 2, 3, 1))
    >>> _permutation(image, (1, 3, 4, 2), (0, 1, 2, 3))
    ((1, 3, 4, 2), (0, 3, 1, 2))
    >>> _permutation(image, (12, 2), (0, 1, 2, 3))
    ((12, 2), (1, 0))
    """
    current = arrangement.axes
    whole = current is not None and stored == tuple(arrangement.shape[a] for a in current)
    if current is not None and whole and len(stored) <= MAX_RANK:
        return stored, tuple(current.index(a) for a in axes)
    groups = arrangement.groups
    wanted = [a for axis in axes for a in groups[axis] if arrangement.atoms[a] != 1]
    runs = _runs([a for a in arrangement.order if arrangement.atoms[a] != 1], wanted)
    extents = tuple(math.prod(arrangement.atoms[a] for a in run) for run in runs)
    place = {run[0]: k for k, run in enumerate(runs)}
    return extents, tuple(place[a] for a in wanted if a in place)


def _runs(order: Sequence[int], wanted: Sequence[int]) -> list[list[int]]:
    """Split `order` into the longest runs that are adjacent in `wanted` too.

    >>> _runs([0, 2, 3, 1], [0, 1, 2, 3])
    [[0], [2, 3], [1]]
    """
    follows = dict(pairwise(wanted))
    runs: list[list[int]] = []
    for atom in order:
        if runs and follows.get(runs[-1][-1]) == atom:
            runs[-1].append(atom)
        else:
            runs.append([atom])
    return runs

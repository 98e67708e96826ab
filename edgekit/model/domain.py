"""Operators of the ``edgekit`` domain: what ONNX has no operator for.

Each is an ONNX *model-local function*: a body of standard operators that any runtime executes. The
compiler recognises the call by its name and does not look at the body. A new operator is one entry
of :data:`FUNCTIONS` and a pass or a lowering that knows it.
"""

from __future__ import annotations

from typing import Literal

import onnx
import onnx.parser
import onnx_ir

DOMAIN = "edgekit"

VERSION = 1
"""Version of the domain that models import."""

_EXPAND_FACTORS = """
            factor = Gather <axis: int = 0> (factor_levels, factor_indices)
            last = Constant <value_ints = [-1]> ()
            columns = Constant <value_int: int = @columns> ()
            group = Constant <value_int: int = @group> ()
            group_extent = Reshape (group, last)
            columns_end = Reshape (columns, last)
            begin = Constant <value_ints = [0]> ()
            ones = Constant <value_ints = [1, 1]> ()
            repeat = Concat <axis: int = 0> (ones, group_extent)
            rows = Constant <value_ints = [0, -1]> ()
            standing = Unsqueeze (factor, last)
            repeated = Expand (standing, repeat)
            all_factors = Reshape (repeated, rows)
            factors = Slice (all_factors, begin, columns_end, last)
            product = Mul (levels_of_codes, factors)
            row_scale = Unsqueeze (scale, last)
            y = Mul (product, row_scale)
"""
"""From ``levels_of_codes`` [R,K] and ``factor_indices`` [R,G] to reals.

The factor of a group stands under each of its columns, the last group is cut, and only the last
product rounds.
"""

FUNCTIONS: dict[str, str] = {
    # Fake quantisation to codes low…high of int8, halves to even. `scale` (float32, positive) and
    # `zero_point` (int8) have one element for the whole tensor or one per index of `axis`.
    # QuantizeLinear saturates to int8; a second, narrower saturation gives the same as one.
    "QuantizeDequantize": """
        QuantizeDequantize <low: int = -128, high: int = 127, axis: int = 0>
            (x, scale, zero_point) => (y)
        {
            wide = QuantizeLinear <axis: int = @axis> (x, scale, zero_point)
            low_number = Constant <value_int: int = @low> ()
            high_number = Constant <value_int: int = @high> ()
            low_code = CastLike (low_number, zero_point)
            high_code = CastLike (high_number, zero_point)
            codes = Clip (wide, low_code, high_code)
            y = DequantizeLinear <axis: int = @axis> (codes, scale, zero_point)
        }
    """,
    # Weights of the element `element` with the factors `factors`, both names of edgekit.formats:
    # y[r,k] = (levels[code[r,k]] * factor_levels[factor_codes[r,k / group]]) * scale[r].
    # packed uint8[R,B]: a row is a little-endian bit string, code k in its bits k*bits and
    # following. levels float32[2^bits], scale float32[R] or [1], factor_codes uint8[R,G],
    # factor_levels float32[F]. Every byte falls into bits, which are grouped again: so any width
    # runs on types that every runtime has.
    "DequantizeBits": f"""
        DequantizeBits <element, factors, bits, columns, group>
            (packed, levels, scale, factor_codes, factor_levels) => (y)
        {{
            bits_number = Constant <value_int: int = @bits> ()
            zero = Constant <value_int = 0> ()
            one = Constant <value_int = 1> ()
            eight = Constant <value_int = 8> ()
            places = Range (zero, eight, one)
            byte_places = Cast <to: int = 2> (places)
            one_byte = Cast <to: int = 2> (one)
            last_axis = Constant <value_ints = [-1]> ()
            bytes = Unsqueeze (packed, last_axis)
            moved = BitShift <direction: string = "RIGHT"> (bytes, byte_places)
            bits_of_bytes = BitwiseAnd (moved, one_byte)
            flat_rows = Constant <value_ints = [0, -1]> ()
            string = Reshape (bits_of_bytes, flat_rows)
            columns_number = Constant <value_int: int = @columns> ()
            used = Mul (columns_number, bits_number)
            used_end = Reshape (used, last_axis)
            first = Constant <value_ints = [0]> ()
            meaning = Slice (string, first, used_end, last_axis)
            row_extent = Constant <value_ints = [0]> ()
            bits_extent = Reshape (bits_number, last_axis)
            code_shape = Concat <axis: int = 0> (row_extent, last_axis, bits_extent)
            code_bits = Reshape (meaning, code_shape)
            code_places = Range (zero, bits_number, one)
            code_byte_places = Cast <to: int = 2> (code_places)
            placed = BitShift <direction: string = "LEFT"> (code_bits, code_byte_places)
            numbers = Cast <to: int = 6> (placed)
            codes = ReduceSum <keepdims: int = 0> (numbers, last_axis)
            levels_of_codes = Gather <axis: int = 0> (levels, codes)
            factor_indices = Cast <to: int = 6> (factor_codes)
{_EXPAND_FACTORS}
        }}
    """,
    # As DequantizeBits, with five digits of base 3 in a byte: byte = Σ_i digit_i * 3^i, and a digit
    # is the index of its level.
    "DequantizeTrits": f"""
        DequantizeTrits <element, factors, columns, group>
            (packed, levels, scale, factor_codes, factor_levels) => (y)
        {{
            powers = Constant <value_ints = [1, 3, 9, 27, 81]> ()
            three = Constant <value_int = 3> ()
            last_axis = Constant <value_ints = [-1]> ()
            numbers = Cast <to: int = 7> (packed)
            bytes = Unsqueeze (numbers, last_axis)
            moved = Div (bytes, powers)
            digits = Mod (moved, three)
            flat_rows = Constant <value_ints = [0, -1]> ()
            string = Reshape (digits, flat_rows)
            columns_number = Constant <value_int: int = @columns> ()
            used_end = Reshape (columns_number, last_axis)
            first = Constant <value_ints = [0]> ()
            codes = Slice (string, first, used_end, last_axis)
            levels_of_codes = Gather <axis: int = 0> (levels, codes)
            factor_indices = Cast <to: int = 6> (factor_codes)
{_EXPAND_FACTORS}
        }}
    """,
    # Symmetric int8 codes with a scale of their own per row along the last axis, chosen from the
    # row's largest magnitude, which counts as `floor` at least; halves to even.
    "DynamicQuantizeDequantize": """
        DynamicQuantizeDequantize <floor: float = 1e-5> (x) => (y)
        {
            last_axis = Constant <value_ints = [-1]> ()
            least = Constant <value_float: float = @floor> ()
            limit = Constant <value_float = 127.0> ()
            lowest = Constant <value_float = -127.0> ()
            magnitude = Abs (x)
            largest = ReduceMax <keepdims: int = 1> (magnitude, last_axis)
            absmax = Max (largest, least)
            factor = Div (limit, absmax)
            scaled = Mul (x, factor)
            inside = Clip (scaled, lowest, limit)
            codes = Round (inside)
            scale = Div (absmax, limit)
            y = Mul (codes, scale)
        }
    """,
    # One step of leaky integrate-and-fire neurons, in snnTorch's order of operations. The old
    # membrane decides the reset, the new one the spike, both strictly above the threshold. `reset`
    # 0 subtracts the threshold from the new membrane, 1 makes the old one 0, 2 does nothing; only 0
    # reads the threshold as a number, so that an integrator that never spikes has an infinite one.
    # beta in 0…1 and threshold broadcast against current.
    "Leaky": """
        Leaky <reset: int = 0>
            (current, membrane, beta, threshold) => (spikes, next_membrane)
        {
            mode = Constant <value_int: int = @reset> ()
            subtract_mode = Constant <value_int = 0> ()
            zero_mode = Constant <value_int = 1> ()
            subtracts = Equal (mode, subtract_mode)
            zeroes = Equal (mode, zero_mode)
            nothing = Constant <value_float = 0.0> ()
            one = Constant <value_float = 1.0> ()
            fired = Greater (membrane, threshold)
            fired_number = Cast <to: int = 1> (fired)
            cleared = Where (zeroes, fired_number, nothing)
            left = Sub (one, cleared)
            held = Mul (left, membrane)
            decayed = Mul (beta, held)
            raised = Add (decayed, current)
            fired_threshold = Mul (fired_number, threshold)
            taken = Where (subtracts, fired_threshold, nothing)
            next_membrane = Sub (raised, taken)
            fires = Greater (next_membrane, threshold)
            spikes = Cast <to: int = 1> (fires)
        }
    """,
    # As Leaky, with a synaptic current that decays by `alpha` in front of the membrane. `reset` 1
    # makes the new membrane 0, what arrives in that step is lost; the synaptic current stays.
    "Synaptic": """
        Synaptic <reset: int = 0>
            (current, synaptic, membrane, alpha, beta, threshold)
            => (spikes, next_synaptic, next_membrane)
        {
            mode = Constant <value_int: int = @reset> ()
            subtract_mode = Constant <value_int = 0> ()
            zero_mode = Constant <value_int = 1> ()
            subtracts = Equal (mode, subtract_mode)
            zeroes = Equal (mode, zero_mode)
            nothing = Constant <value_float = 0.0> ()
            fired = Greater (membrane, threshold)
            fired_number = Cast <to: int = 1> (fired)
            decayed_synaptic = Mul (alpha, synaptic)
            next_synaptic = Add (decayed_synaptic, current)
            decayed = Mul (beta, membrane)
            raised = Add (decayed, next_synaptic)
            fired_threshold = Mul (fired_number, threshold)
            fired_membrane = Mul (fired_number, raised)
            cleared = Where (zeroes, fired_membrane, nothing)
            taken = Where (subtracts, fired_threshold, cleared)
            next_membrane = Sub (raised, taken)
            fires = Greater (next_membrane, threshold)
            spikes = Cast <to: int = 1> (fires)
        }
    """,
    # Two levels, ± one scale (float32, one element); 0 counts as positive.
    "Binarize": """
        Binarize (x, scale) => (y)
        {
            zero = Constant <value_float = 0.0> ()
            low = Neg (scale)
            positive = GreaterOrEqual (x, zero)
            y = Where (positive, scale, low)
        }
    """,
}
"""Definitions in ONNX's text form, by operator, without their header."""

RESETS: tuple[Literal["subtract", "zero", "none"], ...] = ("subtract", "zero", "none")
"""What a neuron does after a spike, by the number that `reset` of Leaky and Synaptic has for it;
snnTorch's names and numbers."""

NEURONS = ("Leaky", "Synaptic")
"""Operators that are spiking neurons; their first output is spikes, their last one membranes."""

DEQUANTIZERS = ("DequantizeBits", "DequantizeTrits")
"""Operators that weights stand behind; :mod:`edgekit.model.coded` reads and writes their inputs."""


def function(op_type: str, opset: int) -> onnx.FunctionProto:
    """The function that defines an operator.

    Args:
        op_type: key of :data:`FUNCTIONS`.
        opset: version of the standard operators in its body, 18 or newer.

    >>> function("QuantizeDequantize", 21).domain
    'edgekit'
    """
    header = f'<domain: "{DOMAIN}", opset_import: ["" : {opset}]>'
    return onnx.parser.parse_function(header + FUNCTIONS[op_type])


def attach_functions(model: onnx_ir.Model) -> tuple[onnx_ir.Model, bool]:
    """Give a model the definitions of the operators of this domain that it calls.

    Rules:

    1. An operator that a node of the graph, of its subgraphs or of a function calls gets the
       function of :data:`FUNCTIONS`, in the model's own opset.
    2. A definition that the model carries already, and that is another, is replaced by ours, which
       the name stands for.
    3. The model imports the domain in :data:`VERSION`.
    """
    graphs: list[onnx_ir.Graph | onnx_ir.Function] = [model.graph, *model.functions.values()]
    nodes = (node for graph in graphs for node in graph.all_nodes())
    used = {node.op_type for node in nodes if node.domain == DOMAIN} & FUNCTIONS.keys()
    opset = model.graph.opset_imports.get("", 0)
    modified = False
    for op_type in sorted(used):
        definition = onnx_ir.serde.deserialize_function(function(op_type, opset))
        carried = model.functions.get(definition.identifier())
        if carried is None or not _same(carried, definition):
            model.functions[definition.identifier()] = definition
            modified = True
    if used and model.graph.opset_imports.get(DOMAIN) != VERSION:
        model.graph.opset_imports[DOMAIN] = VERSION
        modified = True
    return model, modified


def _same(carried: onnx_ir.Function, definition: onnx_ir.Function) -> bool:
    """Whether a definition, which a file may have made up, is ours."""
    try:
        return bool(onnx_ir.to_proto(carried) == onnx_ir.to_proto(definition))
    except onnx_ir.serde.SerdeError:
        return False

"""Kinds of AArch64 instructions: what takes the same units for the same time."""

from __future__ import annotations

import re
from enum import StrEnum


class Kind(StrEnum):
    """What instructions have in common, in words."""

    NOTHING = "hint or barrier"
    BRANCH = "branch"
    INTEGER = "integer arithmetic"
    SHIFTED_LITTLE = "sum with an operand shifted left by 4 at most, logic with any shift"
    SHIFTED = "integer arithmetic with another shift or an extension, insertion of bits"
    MULTIPLY = "32-bit or widening multiplication"
    MULTIPLY_64 = "64-bit multiplication"
    MULTIPLY_HIGH = "upper half of a 128-bit product"
    DIVIDE = "32-bit division"
    DIVIDE_64 = "64-bit division"
    LOAD = "load"
    LOAD_PAIR = "load of two registers"
    STORE = "store"
    STORE_PAIR = "store of two registers"
    NEW_ADDRESS = "new address of a load or store"
    OFFSET = "register offset of a load or store"
    VECTOR = "vector arithmetic"
    VECTOR_SHIFT = "vector shift or widening"
    VECTOR_COMPLEX = "vector shift that rounds, saturates or accumulates, sums of pairs"
    VECTOR_MULTIPLY = "vector multiplication"
    DOT = "dot products of four bytes"
    REDUCE = "sum or extreme of a vector"
    PERMUTE = "permutation of vectors"
    TO_VECTOR = "integer register to vector"
    TO_LANE = "integer register to a lane of a vector"
    FROM_VECTOR = "vector to integer register"
    VECTOR_LOAD = "load of a vector register"
    VECTOR_LOAD_LANE = "load of lanes"
    VECTOR_STORE = "store of a vector register"
    FLOAT = "floating-point arithmetic"
    FLOAT_MULTIPLY = "floating-point multiplication"
    FLOAT_MULTIPLY_ADD = "floating-point multiplication and addition"
    FLOAT_DIVIDE = "floating-point division or root"
    FLOAT_CONVERT = "conversion between integer and floating-point registers"


_INTEGER = (
    (r"b(\..*)?|blr?|br|ret|cbn?z|tbn?z", Kind.BRANCH),
    (r"nop|hint|yield|bti|d[ms]b|isb|prfu?m", Kind.NOTHING),
    (r"ldn?p(sw)?", Kind.LOAD_PAIR),
    (r"ld.*", Kind.LOAD),
    (r"stn?p", Kind.STORE_PAIR),
    (r"st.*", Kind.STORE),
    (r"[su]m(ul|neg|add|sub)l", Kind.MULTIPLY),
    (r"[su]mulh", Kind.MULTIPLY_HIGH),
    (r"m(ul|neg|add|sub)", Kind.MULTIPLY),
    (r"[su]div", Kind.DIVIDE),
    (r"bf(i|xil|c|m)", Kind.SHIFTED),
    (r"mov[zkn]?", Kind.INTEGER),
)
"""Instructions on integer registers by mnemonic; the first that fits counts."""

_VECTOR = (
    (r"ld[1-4]r|ld[2-4]", Kind.VECTOR_LOAD_LANE),
    (r"ld.*", Kind.VECTOR_LOAD),
    (r"st.*", Kind.VECTOR_STORE),
    (r"fn?m(add|sub)|fml[as]l?2?", Kind.FLOAT_MULTIPLY_ADD),
    (r"fn?mulx?|frecps|frsqrts", Kind.FLOAT_MULTIPLY),
    (r"fdiv|fsqrt", Kind.FLOAT_DIVIDE),
    (r"f(mov|abs|neg|csel|cmpe?|ccmpe?)", Kind.VECTOR),
    (r"(f(max|min)(nm)?|[su](max|min)|[su]?addl?)v", Kind.REDUCE),
    (r"f.*|[su]cvtf", Kind.FLOAT),
    (r"(s|u|us|su)dot", Kind.DOT),
    (r"mul|p?mull?2?|ml[as]|[su]ml[as]l2?|[su]mull2?|sqr?dm.*", Kind.VECTOR_MULTIPLY),
    (r"shl|[su]?shll2?|[su]xtl2?|[su]sh[lr]|shrn2?|s[lr]i", Kind.VECTOR_SHIFT),
    (
        r"[su]qr?shlu?|[su]rsh[lr]|rshrn2?|[su]qr?shru?n2?|[su]qxtu?n2?|[su]r?sra|[su]adalp"
        r"|[su]abal2?|[su]aba",
        Kind.VECTOR_COMPLEX,
    ),
    (r"(zip|uzp|trn)[12]|tb[lx]", Kind.PERMUTE),
)
"""Instructions on vector registers by mnemonic; others are plain vector arithmetic."""

_LOGIC = re.compile(r"and|orr|eor|bic|orn|eon|mvn")
_LITTLE = re.compile(r"lsl #(0x)?[1-4]$")
_SHIFT = re.compile(r", (lsl|lsr|asr|ror|[su]xt[bhwx])( #\w+)?$")


def integer_kind(mnemonic: str, operands: str) -> Kind:
    """Kind of an instruction without vector registers.

    >>> integer_kind("add", "x0, x1, x2, lsl #3").name, integer_kind("mul", "x0, x1, x2").name
    ('SHIFTED_LITTLE', 'MULTIPLY_64')
    """
    kind = _first(_INTEGER, mnemonic)
    is_64_bit = operands.startswith("x")
    if kind is Kind.MULTIPLY and is_64_bit and mnemonic.startswith("m"):
        return Kind.MULTIPLY_64
    if kind is Kind.DIVIDE and is_64_bit:
        return Kind.DIVIDE_64
    if kind is not None:
        return kind
    if not _SHIFT.search(operands):
        return Kind.INTEGER
    little = _LOGIC.fullmatch(mnemonic) or _LITTLE.search(operands)
    return Kind.SHIFTED_LITTLE if little else Kind.SHIFTED


def vector_kind(mnemonic: str, operands: str, integers: tuple[bool, ...]) -> Kind:
    """Kind of an instruction with vector registers.

    Args:
        mnemonic: its name.
        operands: as disassembled.
        integers: of every register among the operands, whether it is an integer register.

    >>> vector_kind("fmov", "w0, s1", (True, False)).value
    'vector to integer register'
    """
    kind = _first(_VECTOR, mnemonic) or Kind.VECTOR
    if mnemonic.startswith(("ld", "st")):
        return Kind.VECTOR_LOAD_LANE if "}[" in operands and mnemonic[0] == "l" else kind
    if not any(integers):
        return kind
    if kind is Kind.FLOAT:
        return Kind.FLOAT_CONVERT
    if integers[0]:
        return Kind.FROM_VECTOR
    return Kind.TO_LANE if "[" in operands else Kind.TO_VECTOR


def _first(table: tuple[tuple[str, Kind], ...], mnemonic: str) -> Kind | None:
    return next((kind for words, kind in table if re.fullmatch(words, mnemonic)), None)

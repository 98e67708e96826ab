"""Rows of codes as bytes, and back.

Every row starts on a byte border, so that kernels address output channels without shifting.

``pack_bits``: a row is one little-endian string of bits; code j holds bits ``j*b`` to
``j*b + b - 1``, its least significant bit first. Codes may cross byte borders. Two bits::

    byte 0                          byte 1
    7   6   5   4   3   2   1   0   7   6   5   4   3   2   1   0
    [code 3][code 2][code 1][code 0][code 7][code 6][code 5][code 4]

Three bits, where every eight codes fill three bytes::

    byte 0                          byte 1
    7   6   5   4   3   2   1   0   7   6   5   4   3   2   1   0
    [ 2 lo ][  code 1  ][  code 0  ][5][  code 4  ][  code 3  ][2 hi]
                                     lo

Four bits are ONNX's INT4: the low nibble first::

    byte 0                          byte 1
    7   6   5   4   3   2   1   0   7   6   5   4   3   2   1   0
    [    code 1    ][    code 0    ][    code 3    ][    code 2    ]

``pack_trits``: five codes of 0, 1, 2 a byte, the first one the least significant digit to base 3::

    byte = c0 + 3*c1 + 9*c2 + 27*c3 + 81*c4        0 to 242

Bits after a row's last code are 0. Digits after it are 1, the code of the weight 0: a kernel that
works on whole bytes adds nothing for them.

Source: ONNX IR specification, "TensorProto", packing of INT4 and INT2; five trits per byte as in
"1.58-bit" formats of llama.cpp (TQ1), whose digits lie in another order.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edgekit.errors import InvalidDataError

Bytes = NDArray[np.uint8]

TRITS = 5
"""Codes per byte: 3**5 = 243 of 256 values."""

_DIGITS = np.array([3**digit for digit in range(TRITS)], np.int16)
_ZERO_TRIT = 1


def bits_row_bytes(columns: int, bits: int) -> int:
    """Bytes of a row of `columns` codes of `bits` bits.

    >>> bits_row_bytes(3, 3), bits_row_bytes(0, 4)
    (2, 0)
    """
    return (columns * bits + 7) // 8


def trits_row_bytes(columns: int) -> int:
    """Bytes of a row of `columns` codes of 0, 1, 2.

    >>> trits_row_bytes(5), trits_row_bytes(6)
    (1, 2)
    """
    return (columns + TRITS - 1) // TRITS


def pack_bits(codes: Bytes, bits: int) -> Bytes:
    """uint8[R, K] codes below ``2**bits`` to uint8[R, B].

    >>> [f"{byte:08b}" for byte in pack_bits(np.array([[1, 2, 7]], np.uint8), 3)[0]]
    ['11010001', '00000001']
    """
    rows, columns = codes.shape
    if bits == 8:
        return np.ascontiguousarray(codes)
    string = (codes[:, :, None] >> np.arange(bits, dtype=np.uint8)) & np.uint8(1)
    return np.packbits(string.reshape(rows, columns * bits), axis=1, bitorder="little")


def unpack_bits(packed: Bytes, *, bits: int, columns: int) -> Bytes:
    """The codes uint8[R, K] that `pack_bits` was given.

    Args:
        packed: uint8[R, B], B as `bits_row_bytes` says.
        bits: of one code, 1 to 8.
        columns: K.

    Raises:
        InvalidDataError: rows of another length; a bit after the last code is set.

    >>> unpack_bits(np.array([[0b11010001, 1]], np.uint8), bits=3, columns=3).tolist()
    [[1, 2, 7]]
    """
    _check_packed(packed, bits_row_bytes(columns, bits))
    rows = packed.shape[0]
    string = np.unpackbits(packed, axis=1, bitorder="little")
    used = columns * bits
    _check_rest(string[:, used:] != 0, "bits", 0)
    places = string[:, :used].reshape(rows, columns, bits) << np.arange(bits, dtype=np.uint8)
    return np.asarray(np.bitwise_or.reduce(places, axis=2, dtype=np.uint8))


def pack_trits(codes: Bytes) -> Bytes:
    """uint8[R, K] codes 0, 1, 2 to uint8[R, B].

    >>> pack_trits(np.array([[2, 0, 0, 0, 1, 2]], np.uint8)).tolist()
    [[83, 122]]
    """
    rows, columns = codes.shape
    row_bytes = trits_row_bytes(columns)
    digits = np.full((rows, row_bytes * TRITS), _ZERO_TRIT, np.int16)
    digits[:, :columns] = codes
    values = digits.reshape(rows, row_bytes, TRITS) * _DIGITS
    return np.asarray(values.sum(axis=2, dtype=np.int16), np.uint8)


def unpack_trits(packed: Bytes, columns: int) -> Bytes:
    """The codes uint8[R, K] that `pack_trits` was given.

    Args:
        packed: uint8[R, B], B as `trits_row_bytes` says.
        columns: K.

    Raises:
        InvalidDataError: rows of another length, a byte above 242, a digit after the last code
            that is not 1.

    >>> unpack_trits(np.array([[83, 122]], np.uint8), 6).tolist()
    [[2, 0, 0, 0, 1, 2]]
    """
    _check_packed(packed, trits_row_bytes(columns))
    beyond = packed >= 3**TRITS
    if beyond.any():
        row, byte = np.argwhere(beyond)[0]
        raise InvalidDataError(
            f"packed trits: byte {byte} of row {row} is {packed[row, byte]}; five trits reach 242"
        )
    digits = (packed[:, :, None].astype(np.int16) // _DIGITS % 3).astype(np.uint8)
    digits = digits.reshape(packed.shape[0], packed.shape[1] * TRITS)
    _check_rest(digits[:, columns:] != _ZERO_TRIT, "digits", _ZERO_TRIT)
    return digits[:, :columns]


def _check_packed(packed: Bytes, row_bytes: int) -> None:
    if packed.dtype != np.uint8 or packed.ndim != 2 or packed.shape[1] != row_bytes:
        raise InvalidDataError(
            f"packed weights are {packed.dtype}{list(packed.shape)}; rows of this format and "
            f"length are uint8[R, {row_bytes}]"
        )


def _check_rest(wrong: NDArray[np.bool_], what: str, right: int) -> None:
    if wrong.any():
        row = int(np.argwhere(wrong)[0, 0])
        raise InvalidDataError(
            f"packed weights: {what} after the last code of row {row} are not all {right}: "
            "damaged, or the number of columns is another"
        )

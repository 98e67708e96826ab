"""Coded weights in C: every code both ways, packed bytes in the image and nothing else of them."""

from __future__ import annotations

import ctypes
import math
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgekit.errors import UnsupportedError
from edgekit.formats.elements import ELEMENTS
from edgekit.formats.factors import FACTORS, FactorName
from edgekit.program.ir import Array, DType, Program, Tensor, TensorType
from edgekit.program.operators.coding import Coding
from edgekit.program.operators.linear import DynamicFullyConnected
from edgekit.targets.c.bindings.coded import Decoder, coding_parameters
from edgekit.targets.c.emit import Emission, emit
from edgekit.targets.c.kernel import KERNEL_FOLDER
from edgekit.targets.image import Image, build_image
from edgekit.targets.target import target
from tests.cases.case import one_operator
from tests.cases.coded import Layer, pairs
from tests.support.chain import check_host, combine, emulate

STACK_LIMIT = 1600
"""Bytes of stack that the largest case may use: totals of a block, one tile, and frames."""

PROBE = """
#include "ek_coded.h"
#include "ek_coded_dense.h"
#include "ek_coded_convolution.h"

/* `count` integers of a row, from `first` on, decoded a tile at a time. */
void probe_decode(const ek_coding *c, const uint8_t *w, const int16_t *levels,
                  int32_t first, int32_t count, int64_t *integers)
{
    const ek_coded coded = {c, w, NULL, levels};
    while (count > 0) {
        const int32_t now = count < EK_TILE ? count : EK_TILE;
        ek_narrow narrow[EK_TILE];
        ek_wide wide[EK_TILE];
        if (c->wide) {
            ek_coded_decode_wide(&coded, 0, first, now, wide);
        } else {
            ek_coded_decode(&coded, 0, first, now, narrow);
        }
        for (int32_t i = 0; i < now; ++i) {
            *integers++ = c->wide ? wide[i] : narrow[i];
        }
        first += now;
        count -= now;
    }
}

/* The layout of ek_coded.h, written. */
void probe_encode(const ek_coding *c, const uint8_t *codes, int32_t count, uint8_t *row)
{
    if (c->decoder == EK_TRITS) {
        static const int32_t digit[5] = {1, 3, 9, 27, 81};
        for (int32_t i = 0; i < (count + 4) / 5 * 5; ++i) {
            row[i / 5] = (uint8_t)(row[i / 5] + (i < count ? codes[i] : 1) * digit[i % 5]);
        }
        return;
    }
    for (int32_t i = 0; i < count * c->bits; ++i) {
        const int32_t bit = (codes[i / c->bits] >> (i % c->bits)) & 1;
        row[i >> 3] = (uint8_t)(row[i >> 3] | bit << (i & 7));
    }
}

int32_t probe_factor(const ek_coding *c, uint8_t code)
{
    const ek_coded coded = {c, NULL, &code, NULL};
    return ek_coded_factor(&coded, 0, 0);
}
"""


class EkCoding(ctypes.Structure):
    """``ek_coding``; its fields are in the order of the header."""

    _fields_ = [
        (name, ctypes.c_int32)
        for name in ("decoder", "bits", "mantissa", "wide", "row_bytes", "factors", "group")
    ] + [("groups", ctypes.c_int32)]


@pytest.fixture(scope="module")
def probe(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    """The kernels' own decoding, and an encoder by the layout that their header draws."""
    folder = tmp_path_factory.mktemp("probe")
    (folder / "ek_config.h").write_text("#define EK_PREFIX probe_\n")
    (folder / "probe.c").write_text(PROBE)
    command = ["cc", "-std=c99", "-O1", "-shared", "-fPIC", "-fsanitize=undefined"]
    command += ["-fno-sanitize-recover=all", "-I.", f"-I{KERNEL_FOLDER}"]
    subprocess.run([*command, "-o", "probe.so", "probe.c"], cwd=folder, check=True, timeout=120)
    return ctypes.CDLL(str(folder / "probe.so"))


def structure(element: str, terms: int) -> EkCoding:
    """The parameters that a binding gives."""
    wide = ELEMENTS[element].dtype.itemsize > 2
    accumulator = DType.INT64 if wide else DType.INT32
    return EkCoding(**coding_parameters(Coding(element, accumulator=accumulator), terms))


def pointer(array: Array) -> ctypes.c_void_p:
    """Address of an array."""
    return ctypes.c_void_p(array.ctypes.data)


def used_codes(element: str) -> Array:
    """Codes that mean something, each twice, in an order without pattern."""
    codes = [c for c, i in enumerate(ELEMENTS[element].integers) if i is not None]
    return np.random.default_rng(7).permutation(np.uint8(codes * 2))


@pytest.mark.needs("cc")
@pytest.mark.parametrize("element", ELEMENTS)
@pytest.mark.parametrize("cut", [0, 1, 3])
def test_every_code_from_c_to_python_and_back(probe: ctypes.CDLL, element: str, cut: int) -> None:
    """What C packs Python unpacks, to the same integers that C decodes; from any column on."""
    codes = used_codes(element)
    codes = codes[: max(1, len(codes) - cut)]
    count = len(codes)
    coding = structure(element, count)
    row = np.zeros(coding.row_bytes, np.uint8)
    probe.probe_encode(ctypes.byref(coding), pointer(codes), count, pointer(row))
    unpacked = ELEMENTS[element].unpack(row[None], count)[0]
    wanted = [ELEMENTS[element].integers[c] for c in codes]
    assert unpacked.tolist() == wanted
    levels = np.array([i or 0 for i in ELEMENTS[element].integers[:16]]).astype(np.int16)
    for first in range(min(count, 12)):
        found = np.zeros(count - first, np.int64)
        probe.probe_decode(
            *(ctypes.byref(coding), pointer(row), pointer(levels)),
            *(first, count - first, pointer(found)),
        )
        assert found.tolist() == wanted[first:], first


@pytest.mark.needs("cc")
@pytest.mark.parametrize("element", ELEMENTS)
def test_what_python_packs_c_packs(probe: ctypes.CDLL, element: str) -> None:
    """To the same bytes."""
    integers = ELEMENTS[element].integers_of(used_codes(element))
    packed = ELEMENTS[element].pack(integers[None])[0]
    codes = ELEMENTS[element].codes(integers)
    coding = structure(element, len(codes))
    row = np.zeros(coding.row_bytes, np.uint8)
    probe.probe_encode(ctypes.byref(coding), pointer(codes), len(codes), pointer(row))
    assert row.tobytes() == packed.tobytes()


@pytest.mark.needs("cc")
@pytest.mark.parametrize("kind", FACTORS)
def test_every_factor(probe: ctypes.CDLL, kind: str) -> None:
    """Every code of every kind of factors."""
    coding = structure("int4", 1)
    coding.factors = ["none", "uint8", "shift", "e4m3"].index(kind)
    for code, integer in enumerate(FACTORS[kind].integers):
        if integer is not None:
            assert probe.probe_factor(ctypes.byref(coding), ctypes.c_uint8(code)) == integer


SMALL = (
    Layer(name="dense", x=(1, 40), outputs=6),
    Layer(name="conv", operator="conv", x=(1, 5, 4, 8), fields=pairs(padding=(1, 1, 1, 1))),
    Layer(name="depthwise", operator="depthwise", x=(1, 5, 4, 8), outputs=8),
)
"""One layer for each operator."""


def small(element: str) -> list[Layer]:
    """These with weights of an element, the last with factors."""
    factors = ("none", "none", "uint8")
    return [
        replace(layer, element=element, factors=kind)
        for layer, kind in zip(SMALL, factors, strict=True)
    ]


ALONE = {
    "int2": {"INTEGER", "2_BITS"},
    "int3": {"INTEGER", "3_BITS"},
    "int5": {"INTEGER"},
    "int8": {"INTEGER", "8_BITS"},
    "ternary-p5": {"TRITS"},
    "binary": {"SIGN"},
    "shift3": {"LEVELS", "3_BITS"},
    "shift4": {"LEVELS", "4_BITS", "INT16"},
    "fp6-e2m3": {"FLOAT"},
    "fp8-e3m4": {"FLOAT", "INT16"},
    "fp8-e4m3": {"FLOAT", "WIDE", "INT64_TOTALS"},
    "fp8-e5m2": {"FLOAT", "WIDE", "INT64", "INT64_TOTALS"},
}
"""Elements that differ in what the kernels compile, and what that is."""


@pytest.mark.needs("cc")
@pytest.mark.parametrize("element", ALONE)
def test_a_library_holds_only_the_decoders_that_it_needs(element: str) -> None:
    """And is exact with these alone, every warning an error."""
    program, samples = combine([layer.case() for layer in small(element)])
    config = emit(program, version="test").library.files["ek_config.h"]
    assert isinstance(config, str)
    chosen = {
        line.removeprefix("#define EK_CODED_").removesuffix(" 1")
        for line in config.splitlines()
        if line.startswith("#define EK_CODED_")
    }
    assert chosen == {"CHOSEN", *ALONE[element]}
    check_host(program, samples)


def test_libraries_without_coded_weights_say_nothing_of_them() -> None:
    """Their ``ek_config.h`` is as it was."""
    plain = one_operator(
        replace(SMALL[0].case().program.operations[0].operator, coding=None),
        TensorType((1, 40), DType.INT8),
        ("const", np.ones((6, 40), np.int8)),
    )
    emission = emit(plain, version="test")
    assert "EK_CODED" not in str(emission.library.files["ek_config.h"])
    assert [layer.kernel for layer in emission.layers] == ["fully_connected_s8"]


@pytest.mark.parametrize("element", ELEMENTS)
def test_only_packed_bytes_are_emitted(element: str) -> None:
    """The constants of a library are packed rows, codes of factors, and what plain layers have."""
    for layer in small(element):
        rows, factors = layer.constants()
        emission = emit(layer.case().program, version="test")
        members = {m.name.split("_0_")[-1]: m.data for m in emission.weights.members}
        assert members.pop("weights").tobytes() == ELEMENTS[element].pack(rows).tobytes()
        if factors is not None:
            codes = FACTORS[layer.factors].codes(factors)
            assert members.pop("factors").tobytes() == codes.tobytes()
        if Decoder.of(ELEMENTS[element]) is Decoder.LEVELS:
            assert members.pop("levels").size == len(ELEMENTS[element].integers) <= 16
        assert members.keys() == {"bias", "multiplier", "shift"}
        assert all(data.size == layer.outputs for data in members.values())


def large(element: str) -> Emission:
    """A layer whose weights outweigh everything else."""
    layer = Layer(name="large", element=element, operator="conv", x=(1, 6, 6, 32), outputs=16)
    return emit(layer.case().program, version="test")


@pytest.mark.needs("cortex-m compiler")
@pytest.mark.parametrize("element", ["ternary", "ternary-p5", "int3", "fp4-e2m1", "fp8-e4m3"])
def test_the_image_holds_the_packed_bytes_and_no_buffer(element: str, tmp_path: Path) -> None:
    """Section of the weights, bss, arena and stack, as the linker and the emulator say."""
    emission = large(element)
    packed = next(m.data for m in emission.weights.members if m.name.endswith("_weights"))
    assert packed.nbytes == 16 * ELEMENTS[element].row_bytes(9 * 32)
    image = build_image(emission.library, target("cortex-m4"), folder=tmp_path)
    others = sum(m.data.nbytes for m in emission.weights.members) - packed.nbytes
    # A struct's end is padded to its widest element.
    assert 0 <= image.sizes.weights - (16 + packed.nbytes + others) < 8
    assert any(packed.tobytes() in segment.data for segment in image.elf.segments)
    decoded = 16 * 9 * 32
    assert image.sizes.arena == emission.plan.arena_bytes == 6 * 6 * 32 + 4 * 4 * 16
    assert image.sizes.data == 0
    assert image.sizes.bss < 64
    assert image.sizes.rodata < 512
    machine = emulate(image)
    assert machine.stack_bytes() < STACK_LIMIT < decoded
    machine.close()


ROWS: dict[str, tuple[dict[str, Any], ...]] = {
    "dense": ({"x": (1, 1024)}, {"x": (1, 4096)}),
    "dynamic": ({"operator": "dynamic", "x": (1, 1024)}, {"operator": "dynamic", "x": (1, 4096)}),
    "conv": tuple(
        {"operator": "conv", "x": (1, 4, 4, depth), "fields": pairs(padding=(1, 1, 1, 1))}
        for depth in (128, 512)
    ),
    "conv-groups": tuple(
        {"operator": "conv", "x": (1, 3, 3, depth), "outputs": 4, "fields": pairs(groups=2)}
        for depth in (256, 1024)
    ),
    "depthwise": tuple(
        {
            "operator": "depthwise",
            "x": (1, taps + 1, taps, 2),
            "outputs": 2,
            "kernel": (taps, taps),
        }
        for taps in (32, 64)
    ),
}
"""Layers whose rows have a thousand weights at least, and the same with four times as many."""


@pytest.mark.needs("cortex-m compiler")
@pytest.mark.parametrize(
    ("rows", "element", "factors"),
    [
        ("dense", "int4", "none"),
        ("dense", "int3", "uint8"),
        ("dense", "ternary-p5", "none"),
        ("dense", "fp8-e4m3", "uint8"),
        ("dynamic", "fp4-e2m1", "shift"),
        ("conv", "int4", "none"),
        ("conv", "fp6-e2m3", "uint8"),
        ("conv-groups", "ternary-p5", "none"),
        ("conv-groups", "int4", "e4m3"),
        ("depthwise", "int4", "none"),
        ("depthwise", "fp8-e4m3", "none"),
        ("depthwise", "binary", "uint8"),
    ],
)
def test_longer_rows_need_no_more_memory(
    rows: str, element: str, factors: FactorName, tmp_path: Path
) -> None:
    """Stack, bss and scratch of a layer are the same for four times as many weights in a row.

    What grows is what is stored: every array, in the image as packed, and nothing between.
    """
    found = []
    for number, fields in enumerate(ROWS[rows]):
        # Totals in int64 take more stack: both lengths have them, or neither.
        wide = factors != "none"
        layer = Layer(element=element, factors=factors, group=32, wide=wide, **fields)
        assert layer.terms >= 1024 * 4**number
        emission = emit(layer.case().program, version="test")
        folder = tmp_path / str(number)
        folder.mkdir()
        image = build_image(emission.library, target("cortex-m4"), folder=folder)
        _check_arrays(layer, emission, image)
        inputs = emission.plan.arena_bytes - math.prod(layer.x)
        machine = emulate(image)
        found.append((machine.stack_bytes(), image.sizes.bss, image.sizes.data, inputs))
        machine.close()
    assert found[0] == found[1]
    assert found[0][0] < STACK_LIMIT


def _check_arrays(layer: Layer, emission: Emission, image: Image) -> None:
    """The weights' section holds every array's own bytes one behind the other."""
    (section,) = (s for s in image.elf.sections if s.name == ".ek_weights")
    offsets = [(section.address - s.address, s.data) for s in image.elf.segments]
    (stored,) = (data[at : at + section.bytes] for at, data in offsets if 0 <= at < len(data))
    integers, numbers = layer.constants()
    packed = {"weights": ELEMENTS[layer.element].pack(integers)}
    if numbers is not None:
        packed["factors"] = FACTORS[layer.factors].codes(numbers)
    offset = 16
    for member in emission.weights.members:
        name = member.name.split("_0_")[-1]
        data = packed.pop(name, member.data)
        assert stored[offset : offset + data.nbytes] == data.tobytes(), name
        offset += data.nbytes
    assert not packed
    assert 0 <= len(stored) - offset < 8


def test_computed_weights_have_no_kernel() -> None:
    """They cannot be packed; an error names the operation."""
    inputs = [
        TensorType((1, 4), DType.INT8),
        TensorType((1, 1), DType.FLOAT32),
        TensorType((2, 4), DType.INT8),
        ("const", np.float32([1])),
    ]
    program: Program = one_operator(DynamicFullyConnected(), *inputs)
    with pytest.raises(UnsupportedError, match="no kernel for dynamic_fully_connected"):
        emit(program, version="test")


def test_plain_int8_is_packed_as_it_is() -> None:
    """A dynamic layer's int8 weights, all 256 values."""
    w = np.arange(-128, 128).astype(np.int8).reshape(2, 128)
    program = one_operator(
        DynamicFullyConnected(),
        TensorType((1, 128), DType.INT8),
        TensorType((1, 1), DType.FLOAT32),
        ("const", w),
        ("const", np.float32([1])),
    )
    assert isinstance(program.tensors["in2"], Tensor)
    (member,) = (m for m in emit(program, version="test").weights.members if m.data.size == 256)
    assert member.data.dtype == np.uint8
    assert member.data.tobytes() == w.tobytes()

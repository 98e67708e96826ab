"""An operator that edgekit knows nothing of: a NumPy reference, a C file, nothing else."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper

from edgekit.errors import UnsupportedError
from edgekit.program.ir import Array, DType, TensorType
from edgekit.program.operators.base import OPERATORS, Operator, operator, require
from edgekit.targets.c.emit import emit
from edgekit.targets.c.kernel import KERNELS, Bound, Call, Scratch, kernel
from edgekit.targets.image import build_image
from edgekit.targets.target import target
from tests.cases.case import Case, one_operator
from tests.support.chain import check, check_host, emulate

HEADER = """\
#ifndef EK_ACME_REVERSE_S8_H
#define EK_ACME_REVERSE_S8_H
#include "ek_common.h"
typedef struct {
    int32_t size;
    int32_t offset;
} ek_acme_reverse_s8_params;
void EK_FN(acme_reverse_s8)(
    const ek_acme_reverse_s8_params *p, const int8_t *x, int8_t *y, void *scratch);
#endif
"""
SOURCE = """\
#include "ek_acme.h"
#include "acme_reverse_s8.h"
void EK_FN(acme_reverse_s8)(
    const ek_acme_reverse_s8_params *p, const int8_t *x, int8_t *y, void *scratch)
{
    int8_t *copy = scratch;
    memcpy(copy, x, (size_t)p->size);
    for (int32_t i = 0; i < p->size; ++i) {
        y[i] = (int8_t)ek_clamp_s32(copy[p->size - 1 - i] + p->offset, ACME_LOW, 127);
    }
}
"""
SHARED = "#define ACME_LOW (-100)\n"


@pytest.fixture
def reverse(tmp_path: Path) -> Iterator[type[Operator]]:
    """The operator, registered for one test."""
    (tmp_path / "acme_reverse_s8.h").write_text(HEADER)
    (tmp_path / "acme_reverse_s8.c").write_text(SOURCE)
    (tmp_path / "ek_acme.h").write_text(SHARED)

    @operator("acme_reverse", inputs="x")
    @dataclass(frozen=True)
    class Reverse(Operator):
        """``y[i] = max(x[n-1-i] + offset, -100)``, saturated."""

        offset: int = 0

        def infer(self, *inputs: TensorType | None) -> tuple[TensorType, ...]:
            (x,) = inputs
            assert x is not None
            require(x.dtype == DType.INT8, "x must be int8")
            return (x,)

        def reference(self, *inputs: Array | None) -> tuple[Array, ...]:
            (x,) = inputs
            assert x is not None
            flat = x.reshape(-1)[::-1].astype(np.int32) + self.offset
            return (np.clip(flat, -100, 127).astype(np.int8).reshape(x.shape),)

    @kernel("acme_reverse_s8", Reverse, DType.INT8, folder=tmp_path)
    def bind(bound: Bound) -> Call:
        size = bound.input(0).type.size
        offset = bound.operation.operator.offset  # type: ignore[attr-defined]
        return Call(
            {"size": size, "offset": offset}, (bound.value(0), bound.result(), Scratch(size))
        )

    yield Reverse
    del OPERATORS["acme_reverse"]
    KERNELS[:] = [k for k in KERNELS if k.operator != "acme_reverse"]


@pytest.mark.needs("cc")
def test_it_runs_on_the_host(reverse: type[Operator]) -> None:
    """Bit-identical, its scratch planned, its header copied."""
    program = one_operator(reverse(offset=5), TensorType((3, 7), DType.INT8))
    check_host(program, Case("reverse", program).inputs())
    emission = emit(program, version="test")
    assert "ek_acme.h" in emission.library.files
    assert emission.library.arena_bytes >= 3 * 21


@pytest.mark.needs("cortex-m compiler")
def test_it_runs_on_an_emulated_core(reverse: type[Operator], tmp_path: Path) -> None:
    """The same bits on a Cortex-M0+."""
    program = one_operator(reverse(offset=-9), TensorType((2, 5), DType.INT8))
    emission = emit(program, version="test")
    machine = emulate(
        build_image(emission.library, target("cortex-m0plus"), folder=tmp_path / "build")
    )
    check(machine, emission, Case("reverse", program).inputs())


def test_a_taken_name_is_refused(reverse: type[Operator]) -> None:
    """Neither operators nor kernels are replaced silently."""
    with pytest.raises(ValueError, match="registered already"):
        operator("acme_reverse", inputs="x")(reverse)
    with pytest.raises(ValueError, match="registered already"):
        kernel("acme_reverse_s8", reverse, DType.INT8)(lambda bound: Call({}, ()))


def test_without_a_kernel_it_is_named() -> None:
    """The message says which operation, which operator, and what is supported."""

    @operator("acme_nothing", inputs="x")
    @dataclass(frozen=True)
    class Nothing(Operator):
        """The identity."""

        def infer(self, *inputs: TensorType | None) -> tuple[TensorType, ...]:
            assert inputs[0] is not None
            return (inputs[0],)

    try:
        program = one_operator(Nothing(), TensorType((2,), DType.INT8))
        with pytest.raises(UnsupportedError, match="op: no kernel for acme_nothing on int8"):
            emit(program, version="test")
    finally:
        del OPERATORS["acme_nothing"]


PLUGIN = """
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgekit.program.ir import DType
from edgekit.program.lowering import lowering
from edgekit.program.operators.base import Operator, operator
from edgekit.targets.c.kernel import Call, kernel


@operator("acme_double", inputs="x")
@dataclass(frozen=True)
class Double(Operator):
    def infer(self, *inputs):
        return (inputs[0],)

    def reference(self, *inputs):
        return ((inputs[0] + inputs[0]).astype(np.float32),)


@kernel("acme_double_f32", Double, DType.FLOAT32, folder=Path(__file__).parent)
def bind(bound):
    return Call({"size": bound.input(0).type.size}, (bound.value(0), bound.result()))


@lowering("Double", domain="acme")
def double(low, node):
    x = low.plain(node, low.real(node, low.value(node.inputs[0])))
    low.define_plain(node.outputs[0], low.emit(node, Double(), x.tensor, name=node.outputs[0].name))
"""
DOUBLE_H = """\
#ifndef EK_ACME_DOUBLE_F32_H
#define EK_ACME_DOUBLE_F32_H
#include "ek_common.h"
typedef struct {
    int32_t size;
} ek_acme_double_f32_params;
void EK_FN(acme_double_f32)(const ek_acme_double_f32_params *p, const float *x, float *y);
#endif
"""
DOUBLE_C = """\
#include "acme_double_f32.h"
void EK_FN(acme_double_f32)(const ek_acme_double_f32_params *p, const float *x, float *y)
{
    for (int32_t i = 0; i < p->size; ++i) {
        y[i] = x[i] + x[i];
    }
}
"""


@pytest.mark.needs("cc", "cortex-m compiler")
def test_a_plugin_on_the_command_line(tmp_path: Path) -> None:
    """From an ONNX node of another domain to the emulated core, by the command line alone."""
    (tmp_path / "acme.py").write_text(PLUGIN)
    (tmp_path / "acme_double_f32.h").write_text(DOUBLE_H)
    (tmp_path / "acme_double_f32.c").write_text(DOUBLE_C)
    graph = helper.make_graph(
        [helper.make_node("Double", ["x"], ["y"], name="double", domain="acme")],
        "twice",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 5])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 5])],
    )
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid("acme", 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=10)
    (tmp_path / "twice.onnx").write_bytes(model.SerializeToString())

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-P", "-c", "from edgekit.cli import main; main()"]
        return subprocess.run(
            [*command, *arguments], cwd=tmp_path, capture_output=True, text=True, check=False
        )

    export = ("export", "twice.onnx", "-t", "cortex-m4", "--precision", "float32", "-o", "out")
    refused = run(*export)
    assert refused.returncode == 3
    assert "acme" in refused.stderr
    made = run("--plugin", "acme.py", *export)
    assert made.returncode == 0, made.stderr
    verified = run("--plugin", "acme.py", "verify", "out")
    assert verified.returncode == 0, verified.stderr
    assert "yes" in verified.stdout
    (tmp_path / "broken.py").write_text("1 / 0")
    broken = run("--plugin", "broken.py", "doctor")
    assert broken.returncode == 2
    assert "ZeroDivisionError" in broken.stderr
    assert "Traceback" not in broken.stderr

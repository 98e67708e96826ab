"""What the lowering emits has kernels, and host C gives the interpreter's bits."""

from __future__ import annotations

import numpy as np
import pytest

import edgekit.targets.c.bindings  # noqa: F401 - fills the kernel table
from edgekit.model import load
from edgekit.program.ir import Program
from edgekit.program.lowering import lower
from edgekit.quantize.static import quantize_static
from edgekit.targets.c.kernel import Bound, select
from tests.support.chain import check_host
from tests.support.onnx_cases import OnnxCase, float_cases
from tests.support.quantized import program_feeds

CASES = {case.id: case for case in float_cases()}

COMPILED = (
    *("layout-flatten_gemm", "layout-attention", "layout-axis_operators", "layout-conv1d-chain"),
    *("Mul-gate", "LayerNormalization", "ConvTranspose-groups", "Resize-floor"),
)


def programs(case: OnnxCase) -> tuple[Program, Program]:
    """The float and the int8 form."""
    samples = [case.feeds(seed) for seed in range(2)]
    calibration = {name: np.stack([s[name] for s in samples]) for name in case.shapes}
    model = load(case.model)
    return lower(model), lower(quantize_static(model, calibration))


@pytest.mark.parametrize("case", CASES.values(), ids=lambda c: c.id)
def test_every_operation_has_a_kernel(case: OnnxCase) -> None:
    for program in programs(case):
        for operation in program.operations:
            if not operation.operator.alias:
                bound = Bound.of(program, operation)
                select(bound).binding(bound)


@pytest.mark.needs("cc")
@pytest.mark.parametrize("case_id", COMPILED)
def test_host_c_gives_the_same_bits(case_id: str) -> None:
    case = CASES[case_id]
    for program in programs(case):
        check_host(program, [program_feeds(program, case.feeds(seed)) for seed in (5, 6)])

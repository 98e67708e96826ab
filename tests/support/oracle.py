"""The interpreter against LiteRT's reference kernels, on the same file."""

from __future__ import annotations

import numpy as np

from edgekit.program.interpret import Interpreter
from edgekit.program.ir import Array, Program
from edgekit.program.tflite import read
from tests.cases.case import random_array
from tests.support.chain import assert_identical
from tests.support.litert import LiteRT


def assert_equals_litert(
    model: bytes,
    *,
    seed: int = 0,
    samples: int = 3,
    inputs: list[list[Array]] | None = None,
    tolerance: float = 0,
) -> Program:
    """Read a model, run it both ways, demand the same bits, and return the Program.

    Args:
        model: bytes of a .tflite file; the builder's names are unique, so outputs come in order.
        seed: of the inputs that are drawn.
        samples: how many to draw.
        tolerance: largest difference allowed for float32 outputs of a size about 1.
        inputs: used instead of drawn ones: for each sample one array per input.
    """
    program = read(model, allow_int16=True)
    rng = np.random.default_rng(seed)
    if inputs is None:
        inputs = [
            [random_array(rng, tensor.type) for tensor in program.input_tensors]
            for _ in range(samples)
        ]
    reference, interpreter = LiteRT(model), Interpreter(program)
    for number, arrays in enumerate(inputs):
        named = {b.name: a for b, a in zip(program.inputs, arrays, strict=True)}
        got = interpreter.run(named)
        want = {b.name: value for b, value in zip(program.outputs, reference(*arrays), strict=True)}
        if tolerance == 0:
            assert_identical(want, got, f"sample {number}", seed)
            continue
        for name, value in want.items():
            np.testing.assert_allclose(got[name], value, rtol=tolerance, atol=tolerance)
    return program

"""Pre-processing as C: one raw sample of a sensor to what the network's input takes.

A network that is fed sample by sample needs its declared steps on the device, and the codes of its
input. They are a Program of their own and become a library of their own beside the network's:
whoever has a sensor that delivers codes leaves it away, and what it costs is counted apart.

A deviation is multiplied by its rounded reciprocal instead of being divided by: a value may differ
from NumPy's in its last bit, and so its code by one. Everything else is the same.
"""

from __future__ import annotations

import numpy as np

from edgekit.data.preprocessing import Clip, Preprocessing, Scale, Standardize, Step
from edgekit.deploy.layout import FRONTEND
from edgekit.errors import UnsupportedError
from edgekit.program.ir import Array, Boundary, DType, Operation, Program, Tensor
from edgekit.program.operators.activation import Clip as ClipOperator
from edgekit.program.operators.base import Operator
from edgekit.program.operators.elementwise import Add, Mul, Sub
from edgekit.program.operators.quantization import Quantize
from edgekit.program.verify import verify
from edgekit.targets.c.emit import Emission, emit
from edgekit.targets.library import Library
from edgekit.targets.target import Target
from edgekit.version import edgekit_version

SUFFIX = "_input"
"""What the library of the pre-processing has behind the network's name."""

Sample = tuple[Operator, Array | None]
"""An operator, and the constant that it takes beside the value."""


def frontend(program: Program, preprocessing: Preprocessing) -> Program | None:
    """The steps of one sample, then the codes of the network's input.

    Args:
        program: of a network's step, with one input.
        preprocessing: declared for raw samples, whose channels are the first axis behind the
            batch.

    Returns:
        A Program from float32 to the input's dtype, both in the network's layout; None where
        there is nothing to do.

    Raises:
        UnsupportedError: several inputs, or a step without an operator.
    """
    if len(program.inputs) != 1:
        raise UnsupportedError(
            f"{program.name}: pre-processing becomes C for one input, there are "
            f"{len(program.inputs)}"
        )
    boundary = program.inputs[0]
    tensor = program.tensors[boundary.tensor]
    chain = [part for step in preprocessing.steps for part in _parts(step, boundary)]
    if tensor.dtype.is_integer:
        assert tensor.quantization is not None
        quantize = Quantize.quantized(y=tensor.quantization, dtype=tensor.dtype)
        chain.append((quantize, None))
    if not chain:
        return None
    tensors = {"raw": Tensor("raw", tensor.shape, DType.FLOAT32)}
    operations: list[Operation] = []
    value = "raw"
    for number, (operator, constant) in enumerate(chain):
        name = f"{operator.name}{number}"
        inputs = [value]
        if constant is not None:
            tensors[f"{name}.c"] = Tensor.constant(f"{name}.c", constant)
            inputs.append(f"{name}.c")
        tensors[name] = Tensor(name, tensor.shape, DType.FLOAT32)
        operations.append(Operation(name, operator, tuple(inputs), (name,)))
        value = name
    tensors[value] = Tensor(value, tensor.shape, tensor.dtype, tensor.quantization)
    shape, axes = boundary.source_shape, boundary.permutation
    made = Program(
        name=f"{program.name}{SUFFIX}",
        tensors=tensors,
        operations=tuple(operations),
        inputs=(Boundary("raw", "raw", shape, axes),),
        outputs=(Boundary(value, boundary.name, shape, axes),),
        source=f"pre-processing of {program.name}",
    )
    return verify(made, stage="pre-processing")


def emit_frontend(
    program: Program, preprocessing: Preprocessing, target: Target
) -> Emission | None:
    """The pre-processing of one sample as a library; None where there is nothing to do.

    Args:
        program: see :func:`frontend`.
        preprocessing: likewise.
        target: for the choice of kernels.

    Raises:
        UnsupportedError: see :func:`frontend`.
    """
    made = frontend(program, preprocessing)
    if made is None:
        return None
    return emit(made, features=target.features, version=edgekit_version())


def frontend_section(library: Library) -> str:
    """What the artifact's README says of it."""
    name = library.name
    return (
        f"\n## Pre-processing\n\n"
        f"`{FRONTEND}/` is a library of its own, `{name}`: one raw sample (float32) in, what the\n"
        f"network's input takes out. Fill `{name}_input_0`, call `{name}_run`, copy\n"
        f"`{name}_output_0` to the network's input before `step`. Leave it away where the sensor\n"
        "delivers such codes. Its headers have the names of the network's: compile it with an\n"
        "include path of its own.\n"
    )


def _parts(step: Step, boundary: Boundary) -> list[Sample]:
    """The operators of one step."""
    if isinstance(step, Standardize):
        mean, std = (np.asarray(values, np.float32) for values in (step.mean, step.std))
        factor = np.float32(1) / std
        return [(Sub(), _spread(mean, boundary)), (Mul(), _spread(factor, boundary))]
    if isinstance(step, Scale):
        scaled: list[Sample] = [(Mul(), _spread(np.array([step.factor], np.float32), boundary))]
        if step.offset:
            scaled.append((Add(), _spread(np.array([step.offset], np.float32), boundary)))
        return scaled
    if isinstance(step, Clip):
        return [(ClipOperator((step.low, step.high)), None)]
    raise UnsupportedError(f"no C for the step {type(step).__name__} of the pre-processing")


def _spread(values: Array, boundary: Boundary) -> Array:
    """One value for each channel, or one for all, as a constant that broadcasts over a sample."""
    axes = len(boundary.source_shape)
    shape = [1] * axes
    shape[1 if axes > 1 else 0] = values.size
    spread = values.reshape(shape)
    if boundary.permutation is not None:
        spread = spread.transpose(boundary.permutation)
    return np.ascontiguousarray(spread)

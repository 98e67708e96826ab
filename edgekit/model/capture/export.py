"""From a module, or an exported program, to a Model."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeGuard

import torch
from torch import nn
from torch.export import ExportedProgram
from torch.utils import _pytree as pytree

from edgekit.errors import UnsupportedError, UsageError
from edgekit.model.capture import diagnosis
from edgekit.model.capture.batch import single_batch
from edgekit.model.capture.effects import check_effects
from edgekit.model.capture.examples import REFUSED, bind_example, dtype_name, path_names
from edgekit.model.capture.onnx_form import to_proto
from edgekit.model.capture.quiet import quiet
from edgekit.model.domain import attach_functions
from edgekit.model.load import from_proto
from edgekit.model.model import Model


def is_module(model: object) -> TypeGuard[nn.Module]:
    """Whether an object is a torch module."""
    return isinstance(model, nn.Module)


def is_exported(model: object) -> TypeGuard[ExportedProgram]:
    """Whether an object is what ``torch.export`` makes."""
    return isinstance(model, ExportedProgram)


def capture(module: nn.Module, example_inputs: object, *, name: str = "") -> Model:
    """Capture a module as a Model.

    The module is traced in eval mode and left as it was. Its inputs get the names of the arguments
    of ``forward``; outputs are called ``output``, or after their place in what ``forward`` returns:
    ``output_0`` in a tuple, the key in a dict, the field in a named tuple.

    Args:
        module: with float32 parameters on the CPU.
        example_inputs: a tensor or array, a tuple of them by position, a mapping by argument; see
            :func:`~edgekit.model.capture.examples.bind_example`.
        name: of the Model; default the class of the module.

    Returns:
        A Model for a batch of 1. Its notes say whether the example was cut to its first sample.

    Raises:
        UsageError: inputs that do not fit, parameters of a type that cannot be deployed, a forward
            that fails on the example.
        UnsupportedError: control flow that depends on data, state inside the module, or operators
            without an ONNX form; the message names the place in the user's source.
    """
    if not isinstance(module, nn.Module):
        raise UsageError(f"{type(module).__name__} is no torch.nn.Module")
    name = name or type(module).__name__
    _check_packed(module)
    _check_tensors([*module.named_parameters(), *module.named_buffers()])
    with _in_eval_mode(module):
        example = single_batch(module, bind_example(module, example_inputs))
        try:
            with quiet():
                program = torch.export.export(module, example.args, dict(example.kwargs))
        except Exception as error:
            raise diagnosis.export_failure(name, error) from error
    return _finish(program, name, example.names, example.notes, {})


def capture_exported(
    program: ExportedProgram,
    *,
    name: str,
    input_shapes: Mapping[str, Sequence[int]] | None = None,
) -> Model:
    """Capture a program that ``torch.export`` made.

    Args:
        program: exported in eval mode.
        name: of the Model.
        input_shapes: full shape by input name, for axes that were exported as dynamic; a dynamic
            batch axis becomes 1.

    Raises:
        UsageError: types that cannot be deployed, shapes that stay open.
        UnsupportedError: state inside the program, or operators without an ONNX form.
    """
    _check_tensors([*program.state_dict.items(), *program.constants.items()])
    names = tuple(str(n) for n in program.graph_signature.user_inputs if isinstance(n, str))
    return _finish(program, name, names, (), input_shapes or {})


def _finish(
    program: ExportedProgram,
    name: str,
    inputs: Sequence[str],
    notes: tuple[str, ...],
    input_shapes: Mapping[str, Sequence[int]],
) -> Model:
    check_effects(program, name)
    proto = to_proto(program, name=name, inputs=inputs, outputs=_output_names(program))
    model = from_proto(
        proto, where=name, input_shapes=input_shapes, source=f"{name} torch {torch.__version__}"
    )
    ir, _ = attach_functions(model.ir)
    return Model(ir, model.source, notes + model.notes)


@contextlib.contextmanager
def _in_eval_mode(module: nn.Module) -> Iterator[None]:
    """Eval mode inside, every part's own mode restored behind."""
    modes = [(part, part.training) for part in module.modules()]
    # A module that came out of an export has the mode that it was exported in, and says so.
    with contextlib.suppress(NotImplementedError):
        module.eval()
    try:
        yield
    finally:
        for part, training in modes:
            part.training = training


def _check_tensors(named: Sequence[tuple[str, Any]]) -> None:
    problems = []
    for name, tensor in named:
        if not isinstance(tensor, torch.Tensor):
            raise UnsupportedError(f"{name!r} is a {type(tensor).__name__}, must be a tensor")
        if tensor.dtype in REFUSED:
            right = REFUSED[tensor.dtype]
            problems.append(f"{name} is {dtype_name(tensor.dtype)}, must be {right}")
        elif tensor.device.type != "cpu":
            problems.append(f"{name} is on {tensor.device}, must be on the CPU")
    if problems:
        raise UsageError(
            "parameters that cannot be deployed (module.float() and module.cpu() convert them):\n  "
            + "\n  ".join(problems)
        )


def _check_packed(module: nn.Module) -> None:
    """Refuse modules whose weights torch has packed for its own kernels."""
    for name, part in module.named_modules():
        kind = type(part)
        if kind.__module__.startswith(_PACKED) and ".reference." not in kind.__module__:
            raise UnsupportedError(
                f"module {name!r} is a {kind.__module__}.{kind.__name__}, whose weights are packed "
                "for this machine; quantise with torchao's PT2E (convert_pt2e), or give the float "
                "module and calibration data"
            )


_PACKED = ("torch.ao.nn.quantized", "torch.ao.nn.intrinsic.quantized")


def _output_names(program: ExportedProgram) -> list[str]:
    """Names of the outputs that are tensors, after their place in what ``forward`` returns."""
    spec = program.call_spec.out_spec
    values = list(program.graph_signature.user_outputs)
    if spec is None or spec.num_leaves != len(values):
        return [f"output_{i}" for i, value in enumerate(values) if isinstance(value, str)]
    paths = pytree.tree_leaves_with_path(pytree.tree_unflatten(list(range(len(values))), spec))
    names = []
    for (path, _), value in zip(paths, values, strict=True):
        if not isinstance(value, str):
            continue
        parts = path_names(path)
        if not parts or parts[0][0].isdigit():
            parts = ["output", *parts]
        names.append("_".join(parts))
    return names

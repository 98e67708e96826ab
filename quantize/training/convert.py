"""From a trained network to the module that computes what the device computes."""

from __future__ import annotations

from collections.abc import Mapping

from torch import nn

from edgekit.errors import UnsupportedError, UsageError
from edgekit.model.capture import capture
from edgekit.program.lowering import lower
from edgekit.quantize.converted import ConvertedModule
from edgekit.quantize.training.brevitas import from_brevitas, is_brevitas
from edgekit.quantize.training.freeze import freeze
from edgekit.quantize.training.legality import deployment_problems
from edgekit.quantize.training.prepared import prepared_of
from edgekit.quantize.training.recurrent import encode_recurrent_weights


def convert(
    prepared: nn.Module,
    *,
    example_inputs: object = None,
    allow_fallback: bool = False,
    state: Mapping[str, str] | None = None,
) -> ConvertedModule:
    """Freeze a trained network, capture it as a Model and lower that to an integer Program.

    Args:
        prepared: from :func:`~edgekit.quantize.training.prepare.prepare`, inside
            DistributedDataParallel or ``torch.compile`` too; or a network with Brevitas layers,
            see :func:`~edgekit.quantize.training.brevitas.from_brevitas`; not changed.
        example_inputs: what the network is captured with; None for what it was prepared with.
            Brevitas layers need one.
        allow_fallback: let parts stay in float32, and weights that no kernel reads packed be
            stored unpacked.
        state: inputs that carry state, each with the output that becomes its next value: where
            what was prepared is one step of a network.

    Returns:
        A module whose results are the device's, to the bit; ``edgekit.export`` deploys it.

    Raises:
        UnsupportedError: layers whose weights no integer operator reads in their format, each
            named with what would do, or steps without an integer form, without `allow_fallback`.
        UsageError: the module is not prepared, or the example does not fit.
        InvalidModelError: weights or statistics that are not finite.
    """
    if is_brevitas(prepared):
        if example_inputs is None:
            raise UsageError(f"{type(prepared).__name__} has Brevitas layers: give example_inputs")
        plain = from_brevitas(prepared, example_inputs, allow_fallback=allow_fallback)
        model = capture(plain, example_inputs, name=type(prepared).__name__)
        program = lower(model, allow_fallback=allow_fallback, state=state)
        return ConvertedModule(model, program)
    source = prepared_of(prepared)
    problems = deployment_problems(source, source.plan)
    if problems and not allow_fallback:
        lines = "\n  ".join(problems)
        raise UnsupportedError(
            f"{type(source).__name__}: trained formats that no integer operator has "
            f"(allow_fallback=True computes these layers in float32):\n  {lines}"
        )
    example = source.example if example_inputs is None else example_inputs
    model = capture(freeze(source), example, name=type(source).__name__)
    model = encode_recurrent_weights(model)
    program = lower(model, allow_fallback=allow_fallback, state=state)
    return ConvertedModule(model, program)

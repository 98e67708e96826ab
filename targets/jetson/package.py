"""What an artifact for Jetson holds of the network: three ONNX models, each checked.

Engines are built on the device, by the scripts in ``ondevice/``: TensorRT's engines fit one GPU
and one version.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from edgekit.errors import UnsupportedError, UsageError
from edgekit.model.coded import is_dequantizer
from edgekit.model.model import Model
from edgekit.model.passes.inline_functions import inline_functions
from edgekit.program.ir import Array
from edgekit.targets.jetson.derive import (
    derive,
    emulated_operators,
    first_quantization,
    is_quantizer,
    written_out,
)
from edgekit.targets.jetson.formats import check_formats
from edgekit.targets.jetson.half import to_float16
from edgekit.targets.jetson.modules import Module
from edgekit.targets.jetson.opset import OPSET, to_opset
from edgekit.targets.jetson.rules import check, rules_for

Precision = Literal["int8", "float16", "float32"]


@dataclass(frozen=True)
class JetsonPackage:
    """The models for a Jetson module.

    Attributes:
        model: what is deployed: ONNX with Q/DQ, or in float where that was asked for.
        precision: of `model`.
        float32: ONNX of the float model, a baseline; None where it is `model` itself, or the source
            is quantised already.
        float16: the same computing in float16; None likewise, or where that is impossible, see
            `notes`.
        tensorrt: major versions whose rules all of them keep.
        rules: names of the rules.
        emulated: operators of edgekit's that run as float operators.
        notes: what the user should hear of.
    """

    model: bytes
    precision: Precision
    float32: bytes | None
    float16: bytes | None
    tensorrt: tuple[int, ...]
    rules: tuple[str, ...]
    emulated: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def package(
    model: Model,
    calibration: Mapping[str, Array] | None,
    module: Module,
    *,
    precision: Precision = "int8",
    observer: str = "minmax",
    seed: int = 0,
    limit: int | None = None,
    state: Mapping[str, str] | None = None,
) -> JetsonPackage:
    """Derive and check the models for a module.

    A source with Q/DQ of its own is taken as it is, where it keeps the rules.

    Args:
        model: float, or with QuantizeLinear and DequantizeLinear; not changed.
        calibration: see :func:`edgekit.quantize.static.quantize_static`; None for a quantised one.
        module: what to build for.
        precision: of what is deployed; float ones need no calibration.
        observer: name of the observer.
        seed: of the choice of samples.
        limit: how many samples to use at most, None for all.
        state: see :func:`edgekit.targets.jetson.derive.derive`.

    Raises:
        InvalidDataError: the calibration data does not fit the model.
        UnsupportedError: the model has a format that TensorRT's model cannot say, cannot be
            derived, or breaks a rule; every violation is listed.
        UsageError: a float model without calibration data for int8, a quantised one in float, or
            an unknown observer.
    """
    check_formats(model)
    emulated = emulated_operators(model)
    notes = [f"{name} runs as float operators" for name in emulated]
    models: dict[Precision, Model] = {}
    if first_quantization(model) is not None:
        if precision != "int8":
            raise UsageError(f"{model.name} is quantised; {precision} cannot be had from it")
        models["int8"] = _written_out_quantised(model)
        notes.append("the source is quantised already: there are no float baselines")
    else:
        if precision == "int8":
            if calibration is None:
                raise UsageError(f"{model.name} is a float model: int8 needs calibration data")
            models["int8"] = derive(
                model, calibration, observer=observer, seed=seed, limit=limit, state=state
            )
        models["float32"] = written_out(model)
        try:
            models["float16"] = to_float16(models["float32"])
        except UnsupportedError as error:
            if precision == "float16":
                raise
            notes.append(f"there is no float16 baseline: {error}")
    majors = module.tensorrt_majors
    for each in models.values():
        for major in majors:
            check(each, tensorrt=major, module=module)
    files = {name: each.to_bytes() for name, each in models.items()}
    return JetsonPackage(
        model=files.pop(precision),
        precision=precision,
        float32=files.get("float32"),
        float16=files.get("float16"),
        tensorrt=majors,
        rules=tuple(rule.name for rule in rules_for(majors[-1])),
        emulated=emulated,
        notes=tuple(notes),
    )


def _written_out_quantised(model: Model) -> Model:
    """A quantised Model in an opset that every TensorRT reads, if it can be said in it.

    Quantisers of edgekit's domain become QuantizeLinear and DequantizeLinear.
    """
    if any(is_quantizer(node) or is_dequantizer(node) for node in model.ir.graph):
        return written_out(model)
    ir, _ = inline_functions(model.ir.clone())
    try:
        return to_opset(model.with_ir(ir), OPSET)
    except UnsupportedError:
        # The rules say which TensorRT reads the newer one.
        return model.with_ir(ir)

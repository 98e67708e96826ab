"""From a model, a file or an object, to the Program that will be deployed."""

from __future__ import annotations

import hashlib
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from edgekit.deploy.data import Samples, samples_for
from edgekit.deploy.file_format import file_format
from edgekit.deploy.manifest import (
    ELEMENT_PRECISIONS,
    CalibrationUse,
    Configuration,
    ModelRecord,
    SpikingRecord,
)
from edgekit.deploy.modules import Calibration as Calibration
from edgekit.deploy.modules import (
    converted_of,
    is_factory,
    made_of,
    read_module,
    read_pt2,
    refuse_factory_options,
)
from edgekit.errors import InvalidModelError, UsageError
from edgekit.model import Model
from edgekit.model import load as load_onnx
from edgekit.model.domain import DEQUANTIZERS, DOMAIN, FUNCTIONS, NEURONS
from edgekit.model.nodes import is_op
from edgekit.program import serialize, tflite
from edgekit.program.ir import DType, Program
from edgekit.program.lowering import lower, lower_noted
from edgekit.program.verify import verify
from edgekit.quantize.static import calibration_record, quantize_static
from edgekit.targets import legality
from edgekit.targets.target import JETSON, Target

if TYPE_CHECKING:
    from edgekit.deploy.spiking import Found
    from edgekit.quantize.converted import ConvertedModule

FLOAT = ("float16", "float32")
"""Precisions that need no calibration."""

SPIKING = "edgekit.spiking.graph"
"""Module that whoever has a spiking network as an object has imported."""


@dataclass(frozen=True)
class Source:
    """A model, read.

    Attributes:
        program: what will be deployed.
        reference: the float model that it was quantised from, None where there is none.
        record: file name, hash, format.
        float_model: the Model with real weights, None where there is none (a quantised source).
        quantised_model: the Model with QuantizeLinear and DequantizeLinear: what was made of the
            float one, or the source's own; None for float32 and where there is no Model.
        samples: calibration samples that were used, None without calibration.
        calibration: how it was quantised here, None where it was not.
        fallbacks: operations that stay in float32 although int8 was asked for.
        notes: decisions that the user should hear of.
        spiking: of a spiking network, whose `samples` are windows; None for any other.
    """

    program: Program
    reference: Program | None
    record: ModelRecord
    calibration: CalibrationUse | None = None
    fallbacks: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    float_model: Model | None = None
    quantised_model: Model | None = None
    samples: Samples | None = None
    spiking: SpikingRecord | None = None


def read_source(
    model: object,
    target: Target,
    configuration: Configuration,
    calibration: Calibration | None,
    *,
    example_inputs: object = None,
    weights: Path | str | None = None,
) -> Source:
    """Read, check against the target, quantise where asked.

    Args:
        model: path of a ``.tflite``, ``.onnx``, ``.pt2`` or ``.nir`` file,
            ``package.module:factory``, a ``torch.nn.Module`` (a converted one is deployed as it
            is), an ``ExportedProgram`` or a ``SpikingGraph``.
        target: what to deploy to.
        configuration: of the export.
        calibration: samples that quantise a float Model, None for none.
        example_inputs: what a module is captured with, see
            :func:`~edgekit.deploy.modules.read_module`.
        weights: ``.safetensors`` file for a factory's module.

    Raises:
        InvalidModelError: no model, or a broken one.
        UnsupportedError: operators that cannot be read, or that the target cannot run.
        UsageError: the precision and the model do not go together.
        InvalidDataError: calibration data that does not fit.
    """
    if is_factory(model) or not isinstance(model, str | Path):
        if configuration.dequantize_weights:
            raise UsageError("dequantize_weights is for hybrid .tflite files")
        model, name, example = made_of(model, configuration, weights)
        given = example if example_inputs is None else example_inputs
        if (found := _spiking_object(model, name, calibration, given)) is not None:
            return _spiking(found, target, configuration, calibration)
        _refuse_elements(configuration)
        if (converted := converted_of(model)) is not None:
            extras = (calibration, example_inputs, weights)
            return _converted(converted, extras, target, configuration)
        captured, record = read_module(
            model, name, configuration, calibration, example_inputs=example_inputs, own=example
        )
        return _from_model(captured, target, configuration, calibration, record)
    path = Path(model)
    kind = file_format(path)
    refuse_factory_options(configuration, weights, path.name)
    if example_inputs is not None:
        raise UsageError("example_inputs belong to modules; a model file knows its inputs")
    if path.exists() and not path.is_file():
        raise InvalidModelError(f"{path} is no file")
    if kind == "nir":
        from edgekit.deploy.spiking import read_nir_file

        found = read_nir_file(path, dict(configuration.nir))
        return _spiking(found, target, configuration, calibration)
    _refuse_elements(configuration)
    if kind == "pt2":
        captured, record = read_pt2(path, configuration)
        return _from_model(captured, target, configuration, calibration, record)
    try:
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise InvalidModelError(f"{path}: cannot be read: {error.strerror}") from error
    record = ModelRecord(path.name, digest, kind)
    if kind == "tflite":
        return _tflite(path, target, configuration, calibration, record)
    shapes = dict(configuration.input_shapes)
    loaded = load_onnx(path, input_shapes=shapes or None)
    return _from_model(loaded, target, configuration, calibration, record)


def _spiking_object(
    model: object, name: str, calibration: Calibration | None, example: object
) -> Found | None:
    """A spiking network among objects; None for any other, of which nothing is imported."""
    if SPIKING not in sys.modules and "snntorch" not in sys.modules:
        return None
    from edgekit.deploy.spiking import graph_of

    return graph_of(model, name, calibration, example=example)


def _spiking(
    found: Found,
    target: Target,
    configuration: Configuration,
    calibration: Calibration | None,
) -> Source:
    from edgekit.deploy.spiking import spiking_source

    return spiking_source(found, target, configuration, calibration)


def _refuse_elements(configuration: Configuration) -> None:
    """Refuse a precision that only weights of spiking networks are given here.

    Raises:
        UsageError: says what gives others such weights.
    """
    if configuration.precision in ELEMENT_PRECISIONS:
        raise UsageError(
            f"precision {configuration.precision} is for the weights of spiking networks; others "
            "get such formats from `edgekit quantize` or from training"
        )


def _converted(
    module: ConvertedModule,
    given: tuple[object, ...],
    target: Target,
    configuration: Configuration,
) -> Source:
    """A converted module: its own Program, as it ran in torch.

    Raises:
        UsageError: options that belong to models which are yet to be quantised.
        UnsupportedError: operators that the target cannot run.
    """
    asked = configuration.precision in FLOAT or configuration.input_shapes or configuration.state
    if asked or any(what is not None for what in given):
        raise UsageError(
            "a converted module is deployed as it is: leave calibration data, example inputs, "
            "input shapes, state, weights and float precisions out"
        )
    legality.check(module.program, target)
    digest = hashlib.sha256(module.model.to_bytes()).hexdigest()
    program = module.program.replace(name=configuration.name)
    return Source(
        program,
        None,
        ModelRecord(type(module).__name__, digest, "torch"),
        fallbacks=_float_operations(program),
        notes=module.model.notes,
        quantised_model=module.model,
    )


def take_program(program: Program, target: Target, configuration: Configuration) -> Source:
    """A Program as the source: with state, int16 activations or operators of one's own.

    Raises:
        InvalidModelError: the verifier refuses it.
        UnsupportedError: operators that the target cannot run.
    """
    verify(program, stage="export")
    text, blob = serialize.dump(program)
    digest = hashlib.sha256(text.encode("utf-8") + blob).hexdigest()
    legality.check(program, target)
    record = ModelRecord(program.name, digest, "program")
    return Source(program.replace(name=configuration.name), None, record)


def _tflite(
    path: Path,
    target: Target,
    configuration: Configuration,
    calibration: Calibration | None,
    record: ModelRecord,
) -> Source:
    if configuration.input_shapes or configuration.observer != "minmax":
        raise UsageError(
            f"{path.name}: input shapes and the observer are for float .onnx models; a .tflite "
            "file has its own"
        )
    program = tflite.read(
        path, name=configuration.name, dequantize_weights=configuration.dequantize_weights
    )
    is_float = any(not t.dtype.is_integer for t in program.input_tensors)
    if calibration is not None:
        raise UsageError(
            f"{path.name}: calibration data is for float .onnx models; a .tflite file is deployed "
            "as it is"
        )
    if configuration.precision == "int8" and is_float:
        raise UsageError(
            f"{path.name} is a float .tflite model; give an int8 one, or the .onnx model with "
            "calibration data"
        )
    if configuration.precision == "float32" and not is_float:
        raise UsageError(f"{path.name} is quantised; float32 cannot be had from it")
    legality.check(program, target)
    return Source(program, None, record)


def _from_model(
    model: Model,
    target: Target,
    configuration: Configuration,
    calibration: Calibration | None,
    record: ModelRecord,
) -> Source:
    if _is_quantised(model):
        if calibration is not None:
            raise UsageError(f"{record.file} is quantised already; leave the calibration data out")
        if configuration.precision in FLOAT:
            raise UsageError(
                f"{record.file} is quantised; {configuration.precision} cannot be had from it"
            )
        program, notes = _lowered(model, target, configuration)
        fallbacks = _float_operations(program)
        notes = model.notes + notes
        return Source(program, None, record, None, fallbacks, notes, quantised_model=model)
    if configuration.precision in FLOAT:
        if calibration is not None and record.format != "torch":
            raise UsageError(
                f"{configuration.precision} needs no calibration data; leave it out or ask for int8"
            )
        program, notes = _lowered(model, target, configuration)
        return Source(program, None, record, notes=model.notes + notes, float_model=model)
    state = dict(configuration.state) or None
    # Coded weights alone are no reason to refuse: calibration makes the rest integers.
    reference = lower(model, allow_fallback=True, state=state).replace(name=configuration.name)
    if calibration is None:
        raise UsageError(
            f"{record.file} is a float model: give calibration data for int8 (--calib FILE.npz, "
            "a few hundred training samples), or ask for --precision float32"
            + (" or float16" if target.family == JETSON else "")
        )
    legality.check(reference, target, (DType.INT8, DType.FLOAT32))
    samples = samples_for(reference, calibration)
    quantised = quantize_static(
        model,
        samples.inputs,
        observer=configuration.observer,
        seed=configuration.seed,
        limit=configuration.calibration_limit,
        state=state,
    )
    used = calibration_record(
        samples.inputs,
        observer=configuration.observer,
        seed=configuration.seed,
        limit=configuration.calibration_limit,
    )
    program, notes = _lowered(quantised, target, configuration)
    return Source(
        program,
        reference,
        record,
        CalibrationUse(used.sha256, used.samples, used.observer, used.seed),
        _float_operations(program),
        model.notes + notes,
        float_model=model,
        quantised_model=quantised,
        samples=samples,
    )


def _is_quantised(model: Model) -> bool:
    """Whether a Model quantises activations on its own; coded weights alone leave them float."""
    ours = FUNCTIONS.keys() - {*DEQUANTIZERS, *NEURONS}
    return any(
        is_op(node, "QuantizeLinear") or (node.domain == DOMAIN and node.op_type in ours)
        for node in model.ir.graph
    )


def _lowered(
    model: Model, target: Target, configuration: Configuration
) -> tuple[Program, tuple[str, ...]]:
    """The Program of a Model, under the network's name, checked against the target; and notes."""
    lowered = lower_noted(
        model,
        allow_fallback=configuration.allow_fallback,
        state=dict(configuration.state) or None,
    )
    program = lowered.program.replace(name=configuration.name)
    legality.check(program, target)
    return program, lowered.notes


def _float_operations(program: Program) -> tuple[str, ...]:
    """Operations that compute in float32, other than conversions at the border."""
    return tuple(
        op.name
        for op in program.operations
        if op.operator.name not in ("quantize", "dequantize")
        and not program.tensors[op.present_inputs[0]].dtype.is_integer
    )

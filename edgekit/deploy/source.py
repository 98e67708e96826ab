"""From a model file to the Program that will be deployed."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from edgekit.deploy.data import samples_for
from edgekit.deploy.manifest import CalibrationUse, Configuration, ModelRecord
from edgekit.errors import InvalidModelError, UnsupportedError, UsageError
from edgekit.model import Model
from edgekit.model import load as load_onnx
from edgekit.program import serialize, tflite
from edgekit.program.ir import Array, DType, Program
from edgekit.program.lowering import lower
from edgekit.program.verify import verify
from edgekit.quantize.static import calibration_record, quantize_static
from edgekit.targets import legality
from edgekit.targets.target import Target

FileFormat = Literal["tflite", "onnx"]
Calibration = Path | str | Mapping[str, Array] | Array


@dataclass(frozen=True)
class Source:
    """A model, read.

    Attributes:
        program: what will be deployed.
        reference: the float model that it was quantised from, None where there is none.
        record: file name, hash, format.
        calibration: how it was quantised here, None where it was not.
        fallbacks: operations that stay in float32 although int8 was asked for.
        notes: decisions that the user should hear of.
    """

    program: Program
    reference: Program | None
    record: ModelRecord
    calibration: CalibrationUse | None = None
    fallbacks: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def read_source(
    path: Path, target: Target, configuration: Configuration, calibration: Calibration | None
) -> Source:
    """Read, check against the target, quantise where asked.

    Raises:
        InvalidModelError: no model, or a broken one.
        UnsupportedError: operators that cannot be read, or that the target cannot run.
        UsageError: the precision and the model do not go together.
        InvalidDataError: calibration data that does not fit.
    """
    kind = _format(path)
    if path.exists() and not path.is_file():
        raise InvalidModelError(f"{path} is no file")
    try:
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise InvalidModelError(f"{path}: cannot be read: {error.strerror}") from error
    record = ModelRecord(path.name, digest, kind)
    if kind == "tflite":
        return _tflite(path, target, configuration, calibration, record)
    shapes = dict(configuration.input_shapes)
    model = load_onnx(path, input_shapes=shapes or None)
    return _onnx(model, target, configuration, calibration, record)


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


def _format(path: Path) -> FileFormat:
    kinds: dict[str, FileFormat] = {".tflite": "tflite", ".onnx": "onnx"}
    if path.suffix.lower() not in kinds:
        hint = {
            ".pt": "a pickle, which is never loaded; export it with torch.onnx.export",
            ".pth": "a pickle, which is never loaded; export it with torch.onnx.export",
            ".pkl": "a pickle, which is never loaded",
        }.get(path.suffix.lower(), "of an unknown kind")
        raise InvalidModelError(f"{path}: {hint}; edgekit reads .tflite and .onnx")
    return kinds[path.suffix.lower()]


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


def _onnx(
    model: Model,
    target: Target,
    configuration: Configuration,
    calibration: Calibration | None,
    record: ModelRecord,
) -> Source:
    notes = model.notes
    quantised = any(node.op_type == "QuantizeLinear" for node in model.ir.graph)
    if quantised:
        if calibration is not None:
            raise UsageError(f"{record.file} is quantised already; leave the calibration data out")
        if configuration.precision == "float32":
            raise UsageError(f"{record.file} is quantised; float32 cannot be had from it")
        program = _named(lower(model, allow_fallback=configuration.allow_fallback), configuration)
        legality.check(program, target)
        return Source(program, None, record, None, _float_operations(program), notes)
    if configuration.precision == "float32":
        if calibration is not None:
            raise UsageError("float32 needs no calibration data; leave it out, or ask for int8")
        program = _named(lower(model), configuration)
        legality.check(program, target)
        return Source(program, None, record, notes=notes)
    reference = _named(lower(model), configuration)
    if calibration is None:
        raise UsageError(
            f"{record.file} is a float model: give calibration data for int8 (--calib FILE.npz, "
            "a few hundred training samples), or ask for --precision float32"
        )
    legality.check(reference, target, (DType.INT8, DType.FLOAT32))
    samples = samples_for(reference, calibration)
    model = quantize_static(
        model,
        samples.inputs,
        observer=configuration.observer,
        seed=configuration.seed,
        limit=configuration.calibration_limit,
    )
    used = calibration_record(
        samples.inputs,
        observer=configuration.observer,
        seed=configuration.seed,
        limit=configuration.calibration_limit,
    )
    program = _named(lower(model, allow_fallback=configuration.allow_fallback), configuration)
    legality.check(program, target)
    use = CalibrationUse(used.sha256, used.samples, used.observer, used.seed)
    return Source(program, reference, record, use, _float_operations(program), notes)


def _named(program: Program, configuration: Configuration) -> Program:
    return program.replace(name=configuration.name)


def _float_operations(program: Program) -> tuple[str, ...]:
    """Operations that compute in float32, other than conversions at the border."""
    return tuple(
        op.name
        for op in program.operations
        if op.operator.name not in ("quantize", "dequantize")
        and not program.tensors[op.present_inputs[0]].dtype.is_integer
    )


def refuse_module(model: object) -> None:
    """Say what to do with an object that is no path.

    Raises:
        UnsupportedError: always.
    """
    raise UnsupportedError(
        f"cannot export a {type(model).__module__}.{type(model).__qualname__}: give the path of a "
        ".tflite or .onnx file (torch.onnx.export(module, args, 'model.onnx') makes one)"
    )

"""Jetson: models for TensorRT, and scripts that build engines and measure them on the device."""

from __future__ import annotations

import numpy as np

from edgekit.deploy.benchmark import seeded_inputs
from edgekit.deploy.comparison import coded_layers
from edgekit.deploy.families import library
from edgekit.deploy.families.family import Family, Job, Parts
from edgekit.deploy.manifest import ModelFile
from edgekit.deploy.ondevice import OnDevice
from edgekit.deploy.readme import jetson_readme
from edgekit.errors import UnsupportedError
from edgekit.model.load import load
from edgekit.model.model import Model
from edgekit.program.ir import Array, Program
from edgekit.program.to_onnx import to_onnx
from edgekit.targets.jetson.package import JetsonPackage, package
from edgekit.targets.jetson.scripts import device_scripts

MODEL, FLOAT16, FLOAT32 = "model.onnx", "float16.onnx", "float.onnx"


def _build(job: Job) -> Parts:
    """Derive the model that TensorRT takes, check it, and lay the scripts beside it.

    Nothing here runs TensorRT: engines are built on the device.
    """
    assert job.target.module is not None
    _refuse_coded(job)
    source, configuration = job.source, job.configuration
    asked = configuration.precision
    made = package(
        _model(job),
        None if source.samples is None else source.samples.inputs,
        job.target.module,
        precision=asked if asked == "float16" or asked == "float32" else "int8",
        observer=configuration.observer,
        seed=configuration.seed,
        limit=configuration.calibration_limit,
        state=dict(configuration.state) or None,
    )
    program = source.reference or source.program
    library.write_programs(job.stage, program)
    vectors = _vectors(job, program)
    library.save_vectors(job, vectors)
    models = _write(job, made)
    text = jetson_readme(
        configuration.name,
        job.target,
        source=source.record.file,
        models=models,
        majors=made.tensorrt,
        notes=made.notes,
    )
    (job.stage / "README.md").write_text(text, encoding="utf-8", newline="\n")
    return Parts(
        check=library.unchecked(vectors),
        models=models,
        notes=made.notes,
        ondevice=OnDevice(program, scripts=device_scripts()),
    )


def _refuse_coded(job: Job) -> None:
    """Packed weights are for generated C; TensorRT has formats of its own.

    Raises:
        UnsupportedError: lists the layers, and what the module runs.
    """
    coded = coded_layers(job.source.program)
    if coded:
        lines = "\n".join(f"  {layer.operation}: {layer.format}" for layer in coded)
        raise UnsupportedError(
            f"{job.target.name} cannot run these formats of weights:\n{lines}\n"
            "it runs int8 (of a float model with calibration data, or int8 weights of its own), "
            "float16 and float32"
        )


def _model(job: Job) -> Model:
    """The float Model; of a source that is quantised already, its own, for the rules to judge."""
    source = job.source
    model = source.float_model or source.quantised_model
    return model or load(to_onnx(source.program))


def _write(job: Job, made: JetsonPackage) -> tuple[ModelFile, ...]:
    (job.stage / MODEL).write_bytes(made.model)
    files = [ModelFile("tensorrt", MODEL, made.precision)]
    if made.float16 is not None:
        (job.stage / FLOAT16).write_bytes(made.float16)
        files.append(ModelFile("tensorrt", FLOAT16, "float16"))
    if made.float32 is not None:
        (job.stage / FLOAT32).write_bytes(made.float32)
        files.append(ModelFile("tensorrt", FLOAT32, "float32"))
    return tuple(files)


def _vectors(job: Job, program: Program) -> dict[str, Array]:
    """Seeded inputs, over the range of the calibration samples where there are any.

    There are no outputs beside them: nothing here says TensorRT's bits.
    """
    seed = job.configuration.seed
    arrays: dict[str, list[Array]] = {b.name: [] for b in program.inputs}
    for number in range(library.COUNT):
        rng = np.random.default_rng(seed + number)
        for name, drawn in seeded_inputs(program, seed + number).items():
            known = None if job.source.samples is None else job.source.samples.real[name]
            if known is not None and drawn.dtype == np.float32:
                drawn = rng.uniform(known.min(), known.max(), drawn.shape).astype(np.float32)
            arrays[name].append(drawn)
    return {f"input/{name}": np.stack(parts) for name, parts in arrays.items()}


FAMILY = Family(lambda target, configuration: None, _build)

"""Export: a model becomes an artifact for a target."""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

from edgekit.data.preprocessing import Preprocessing
from edgekit.deploy.artifact import Artifact, load
from edgekit.deploy.data import read_preprocessing
from edgekit.deploy.families import FAMILIES
from edgekit.deploy.families.family import Job, Parts
from edgekit.deploy.frontend import emit_frontend, frontend_section
from edgekit.deploy.layout import BOARD, FRONTEND, PREPROCESSING
from edgekit.deploy.manifest import PRECISION_NAMES, SCHEMA, Configuration, Manifest
from edgekit.deploy.ondevice import write_kit
from edgekit.deploy.source import SPIKING, Calibration, Source, read_source, take_program
from edgekit.deploy.staging import check_destination, staged
from edgekit.errors import InvalidDataError, UsageError
from edgekit.program import serialize
from edgekit.program.ir import Program
from edgekit.targets.c.emit import library_name
from edgekit.targets.host import write_files
from edgekit.targets.target import JETSON, Target
from edgekit.targets.target import target as find_target
from edgekit.version import edgekit_version, library_versions


def export(
    model: object,
    example_inputs: object = None,
    *,
    target: str,
    calibration: Calibration | None = None,
    weights: Path | str | None = None,
    preprocessing: Path | str | None = None,
    output: Path | str | None = None,
    name: str | None = None,
    **options: object,
) -> Artifact:
    """Turn a model into an artifact: what runs on the target, vectors, a manifest.

    Args:
        model: path of a ``.tflite``, ``.onnx``, ``.pt2`` or ``.nir`` file, a ``torch.nn.Module``
            (a converted one is deployed as it is; one with snnTorch neurons is a spiking network),
            an ``ExportedProgram``, ``"package.module:factory"``, a ``SpikingGraph`` or a Program.
        example_inputs: what a module's ``forward`` takes: a tensor or array, a tuple of them, or
            a dict by argument. Deployment is for a batch of 1; files know their inputs.
        target: name of a target (``edgekit targets list``), or the path of a board's TOML file.
        calibration: representative inputs that quantise a float model: the path of an ``.npz``
            file, arrays by input name, or one array. First axis counts samples. A spiking network
            needs windows [N, T, ...] in every precision.
        weights: ``.safetensors`` file with the state of the factory's module.
        preprocessing: JSON file that says what happens to raw data before it becomes the input;
            the artifact carries it, and benchmarks time it apart.
        output: folder to make; default ``build/<name>-<target>``. An artifact there is replaced.
        name: of the network, prefix of every C symbol; default the file's name.
        options: further fields of :class:`~edgekit.deploy.manifest.Configuration`.

    Returns:
        The artifact, on disk whole.

    Raises:
        UsageError: wrong options, no usable model or data, an output that cannot be written.
        UnsupportedError: operators that cannot run on the target, or a model that does not fit it.
        ToolchainMissingError: no compiler for the target.
        VerificationError: the compiled code differs from its reference; a bug, please report it.
    """
    if not isinstance(target, str):
        raise UsageError(f"target is {target!r}, must be the name of one")
    if output is not None and not isinstance(output, str | Path):
        raise UsageError(f"output is {output!r}, must be a path")
    where = find_target(target)
    if weights is not None:
        options["weights"] = Path(weights).name
    configuration = _configuration(_stem(model), where, name, options)
    folder = Path(output) if output is not None else _default_output(configuration, where)
    check_destination(folder)
    for what, path in (("calibration", calibration), ("weights", weights)):
        # Before anything slow.
        if isinstance(path, str | Path) and not Path(path).is_file():
            raise InvalidDataError(f"{what} {path}: no such file")
    declared = None if preprocessing is None else read_preprocessing(Path(preprocessing))
    family = FAMILIES[where.family]
    tools = family.find_tools(where, configuration)
    if isinstance(model, Program):
        if calibration is not None or example_inputs is not None or weights is not None:
            raise UsageError("a Program is deployed as it is: leave calibration and weights out")
        source = take_program(model, where, configuration)
    else:
        source = read_source(
            model,
            where,
            configuration,
            calibration,
            example_inputs=example_inputs,
            weights=weights,
        )
    with staged(folder) as stage:
        if target.endswith(".toml"):
            shutil.copyfile(target, stage / BOARD)
        if declared is not None:
            text = declared.to_json()
            (stage / PREPROCESSING).write_text(text, encoding="utf-8", newline="\n")
        parts = family.build(Job(stage, source, configuration, where, tools))
        if source.spiking is not None:
            made = emit_frontend(source.program, declared or Preprocessing(), where)
            if made is not None:
                write_files(made.library, stage / FRONTEND)
                with (stage / "README.md").open("a", encoding="utf-8", newline="\n") as readme:
                    readme.write(frontend_section(made.library))
        manifest = _manifest(source, configuration, where, parts).with_files(stage)
        if parts.ondevice is not None:
            write_kit(manifest, parts.ondevice, stage)
        manifest.with_files(stage).write(stage)
    return load(folder)


def _stem(model: object) -> str:
    """The name that a model suggests for itself."""
    if isinstance(model, Program):
        return model.name
    if isinstance(model, Path):
        return model.stem
    if SPIKING in sys.modules and isinstance(own := getattr(model, "name", None), str):
        return own
    if isinstance(model, str):
        return model.rpartition(":")[2] if ":" in model else Path(model).stem
    return type(model).__name__.lower()


def _configuration(
    stem: str, where: Target, name: str | None, options: Mapping[str, object]
) -> Configuration:
    if name is not None and not isinstance(name, str):
        raise UsageError(f"name is {name!r}, must be a text")
    network = library_name(name if name is not None else stem)
    known = Configuration.__dataclass_fields__.keys() - {"target", "name"}
    unknown = sorted(options.keys() - known)
    if unknown:
        raise UsageError(f"unknown options {unknown}; known: {sorted(known)}")
    text = serialize.encode(Configuration(where.name, network)) | dict(options)
    asked = text["precision"]
    text["precision"] = PRECISION_NAMES.get(asked, asked) if isinstance(asked, str) else asked
    for key in ("input_shapes", "state", "factory_args", "nir"):
        text[key] = _pairs(key, options.get(key, {}))
    try:
        configuration: Configuration = serialize.decode_dataclass(Configuration, text, "options")
    except serialize.FieldError as error:
        raise UsageError(str(error)) from error
    if configuration.seed < 0:
        raise UsageError(f"seed is {configuration.seed}, must not be negative")
    limit = configuration.calibration_limit
    if limit is not None and limit < 1:
        raise UsageError(f"calibration_limit is {limit}, must be positive")
    if configuration.precision == "float16" and where.family != JETSON:
        raise UsageError(f"float16 is a precision of Jetsons; {where.name} has int8 and float32")
    if not 256 <= configuration.stack_bytes <= 1 << 20:
        raise UsageError(f"stack_bytes is {configuration.stack_bytes}, must be in 256…1048576")
    return configuration


def _pairs(key: str, given: object) -> list[list[object]]:
    """A mapping, or pairs as the configuration keeps them, as pairs sorted by name."""
    try:
        items = dict(given)  # type: ignore[call-overload]
    except (TypeError, ValueError):
        raise UsageError(f"{key} is {given!r}, must be a mapping") from None
    if not all(isinstance(name, str) for name in items):
        raise UsageError(f"{key} is {given!r}, its keys must be names")
    return [
        [name, list(value) if isinstance(value, list | tuple) else value]
        for name, value in sorted(items.items())
    ]


def _default_output(configuration: Configuration, where: Target) -> Path:
    return Path("build") / f"{configuration.name}-{re.sub(r'[^a-z0-9.-]', '-', where.name)}"


def _manifest(
    source: Source, configuration: Configuration, where: Target, parts: Parts
) -> Manifest:
    return Manifest(
        schema=SCHEMA,
        edgekit=edgekit_version(),
        model=source.record,
        configuration=configuration,
        family=where.family,
        versions=library_versions(),
        calibration=source.calibration,
        build=parts.build,
        interface=parts.interface,
        layers=parts.layers,
        coded=parts.coded,
        models=parts.models,
        fallbacks=source.fallbacks,
        notes=source.notes + parts.notes,
        memory=parts.memory,
        check=parts.check,
        spiking=source.spiking,
    )

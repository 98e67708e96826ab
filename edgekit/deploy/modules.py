"""Torch models as sources: modules, exported programs, factories and ``.pt2`` files.

torch is imported here on use only: deploying a file of another kind does without it.
"""

from __future__ import annotations

import hashlib
import importlib.util
import inspect
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from edgekit.bench.dataset import INPUT_KEYS, LABEL_KEYS
from edgekit.deploy.data import read_arrays
from edgekit.deploy.manifest import Configuration, ModelRecord
from edgekit.errors import InvalidModelError, UnsupportedError, UsageError
from edgekit.model import Model
from edgekit.program.ir import Array

if TYPE_CHECKING:
    from edgekit.quantize.converted import ConvertedModule

Calibration = Path | str | Mapping[str, Array] | Array

CONVERTED = "edgekit.quantize.converted"
"""Package of what is quantised in torch and deployed as it is."""

BREVITAS = "brevitas"
"""Package of layers that are read instead of captured."""

_WAYS = (
    "give example_inputs, --shape NAME=1,3,32,32 for every argument, a factory that returns "
    "(module, example_inputs), or calibration data"
)


def is_factory(model: object) -> bool:
    """Whether a model is named as ``package.module:factory``.

    >>> is_factory("nets.mobile:small"), is_factory("nets/mobile.onnx")
    (True, False)
    """
    return isinstance(model, str) and ":" in model and not Path(model).exists()


def converted_of(model: object) -> ConvertedModule | None:
    """A model that is a converted module, as such; None where it is something else.

    Whoever has one has imported its package; nothing is imported for others.
    """
    if f"{CONVERTED}.module" not in sys.modules:
        return None
    from edgekit.quantize.converted import ConvertedModule

    return model if isinstance(model, ConvertedModule) else None


def made_of(
    model: object, configuration: Configuration, weights: Path | str | None
) -> tuple[object, str, object]:
    """What a factory makes, with weights where they are given; any other object as it is.

    Args:
        model: the object, or ``package.module:factory``.
        configuration: of the export.
        weights: ``.safetensors`` file for the factory's module, or None.

    Returns:
        The object, its name for the manifest, and the example that was made with it, or None.

    Raises:
        UsageError: torch is missing, or the factory fails; arguments for an object at hand.
    """
    if not isinstance(model, str):
        refuse_factory_options(configuration, weights, "a model that is at hand")
        return model, type(model).__name__, None
    require_torch("modules")
    from edgekit.model import capture

    arguments = dict(configuration.factory_args)
    made = capture.make_module(model, arguments, seed=configuration.seed, other=_graph_kinds())
    if weights is not None:
        if not capture.is_module(made.module):
            raise UsageError(f"{model} makes no torch module, which weights would be loaded into")
        capture.load_weights(made.module, Path(weights))
    return made.module, model, made.example_inputs


def _graph_kinds() -> tuple[type, ...]:
    """What a factory may make beside torch modules."""
    from edgekit.spiking.graph import SpikingGraph

    return (SpikingGraph,)


def read_module(
    model: object,
    name: str,
    configuration: Configuration,
    calibration: Calibration | None,
    *,
    example_inputs: object,
    own: object,
) -> tuple[Model, ModelRecord]:
    """Capture a module or an exported program.

    The example that a module is traced with is the first of: `example_inputs`; seeded numbers of
    the configuration's input shapes; what the factory returned beside the module, or the module's
    attribute ``example_inputs``; the first sample of the calibration data.

    Args:
        model: the object.
        name: of it, or the factory that made it.
        configuration: of the export.
        calibration: data whose first sample may be the example.
        example_inputs: of the module, or None.
        own: what the factory returned beside it, or None.

    Raises:
        UsageError: no example, arguments that do not belong together, or torch is missing.
        UnsupportedError: an object of another kind, or what cannot be captured.
    """
    if "torch" not in sys.modules:
        _refuse(model)
    require_torch("modules")
    from edgekit.model import capture

    if own is None and capture.is_module(model):
        own = capture.own_example(model)
    if capture.is_exported(model):
        if example_inputs is not None:
            raise UsageError("an exported program knows its inputs: leave example_inputs out")
        shapes = dict(configuration.input_shapes)
        captured = capture.capture_exported(model, name=name, input_shapes=shapes)
        return captured, _record(name, captured)
    if (converted := converted_of(model)) is not None:
        return converted.model, _record(name, converted.model)
    if not capture.is_module(model):
        _refuse(model)
    if example_inputs is not None and configuration.input_shapes:
        raise UsageError("give example_inputs or input shapes, not both: examples have shapes")
    if example_inputs is None:
        example_inputs = _example(model, configuration, own, calibration)
    module: Any = model
    if BREVITAS in sys.modules:
        module = _without_brevitas(model, example_inputs, configuration)
    captured = capture.capture(module, example_inputs, name=name)
    return captured, _record(name, captured)


def _without_brevitas(model: Any, example_inputs: object, configuration: Configuration) -> Any:
    """A network of plain layers where there are Brevitas layers; any other as it is."""
    from edgekit.quantize.training.brevitas import from_brevitas, is_brevitas

    if not is_brevitas(model):
        return model
    return from_brevitas(model, example_inputs, allow_fallback=configuration.allow_fallback)


def _refuse(model: object) -> NoReturn:
    raise UnsupportedError(
        f"cannot export a {type(model).__module__}.{type(model).__qualname__}: give the path "
        "of a .tflite, .onnx, .pt2 or .nir file, a torch.nn.Module, an ExportedProgram, a "
        "Program, a SpikingGraph, or 'package.module:factory'"
    )


def read_pt2(path: Path, configuration: Configuration) -> tuple[Model, ModelRecord]:
    """Capture the program in a ``.pt2`` file, of which nothing is run.

    Raises:
        InvalidModelError: no program, or a broken one.
        UnsupportedError: what cannot be read without trust, or has no ONNX form.
        UsageError: torch is missing, or axes stay open.
    """
    require_torch(".pt2 files")
    from edgekit.model import capture

    try:
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise InvalidModelError(f"{path}: cannot be read: {error.strerror}") from error
    model = capture.capture_exported(
        capture.load_pt2(path), name=path.stem, input_shapes=dict(configuration.input_shapes)
    )
    return model, ModelRecord(path.name, digest, "pt2")


def require_torch(what: str) -> None:
    """Say how to get torch where it is missing.

    Raises:
        UsageError: it is not installed.
    """
    if "torch" not in sys.modules and importlib.util.find_spec("torch") is None:
        raise UsageError(f"{what} need torch: pip install 'edgekit[torch]'")


def refuse_factory_options(
    configuration: Configuration, weights: Path | str | None, what: str
) -> None:
    """Weights and arguments belong to factories.

    Raises:
        UsageError: they are given for something else.
    """
    if weights is not None:
        raise UsageError(f"weights are for 'package.module:factory'; {what} has its own")
    if configuration.factory_args:
        names = [name for name, _ in configuration.factory_args]
        raise UsageError(f"arguments {names} are for 'package.module:factory', not for {what}")


def _record(name: str, model: Model) -> ModelRecord:
    return ModelRecord(name, hashlib.sha256(model.to_bytes()).hexdigest(), "torch")


def _example(
    module: Any, configuration: Configuration, own: object, calibration: Calibration | None
) -> object:
    from edgekit.model import capture

    if configuration.input_shapes:
        shapes = dict(configuration.input_shapes)
        return capture.example_from_shapes(module, shapes, configuration.seed)
    if own is not None:
        return own
    if calibration is None:
        raise UsageError(f"{type(module).__name__} needs an example to be captured with: {_WAYS}")
    return _first_sample(module, read_arrays(calibration))


def _first_sample(module: Any, arrays: Mapping[str, Array]) -> dict[str, Array]:
    """One sample by argument, with a batch axis of 1; integers of up to 16 bits become reals."""
    parameters = inspect.signature(module.forward).parameters
    found = {name: arrays[name] for name in parameters if name in arrays}
    needed = [name for name, p in parameters.items() if p.default is p.empty and p.kind < 2]
    if not found and len(needed) == 1:
        keys = [key for key in INPUT_KEYS if key in arrays]
        keys += [key for key in arrays if key not in LABEL_KEYS and arrays[key].ndim > 1]
        found = dict(zip(needed, (arrays[key] for key in keys), strict=False))
    if missing := [name for name in needed if name not in found]:
        raise UsageError(
            f"the calibration data {sorted(arrays)} has no array {missing[0]!r}, an argument of "
            f"{type(module).__name__}.forward; name it so, or {_WAYS}"
        )
    return {name: _sample(array) for name, array in found.items()}


def _sample(array: Array) -> Array:
    first = np.asarray(array[:1])
    whole = first.dtype.kind in "iu" and first.dtype.itemsize > 2
    return first if whole else first.astype(np.float32)

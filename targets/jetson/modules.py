"""Jetson modules: frozen values, checked at construction.

A module is one TOML file, ``targets/jetson/boards/<name>.toml``::

    name = "jetson-agx-orin"
    description = "Jetson AGX Orin 64 GB, Ampere GPU"
    compute_capability = [8, 7]
    memory_bytes = 68_719_476_736
    dla_cores = 2
    formats = ["int8", "fp16"]   # that the GPU computes in, besides fp32
    power_modes = ["15W", "30W"] # optional: names that nvpmodel gives
    source = "where the facts are from"

    [[jetpack]]                  # oldest first
    version = "6.2"
    tensorrt = "10.3"
    dla = true                   # whether this TensorRT drives the module's DLA

>>> MODULES["jetson-orin-nano"].tensorrt_majors
(10,)
>>> MODULES["jetson-orin-nano"].support("fp4")
'emulated'
"""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from types import MappingProxyType
from typing import Any

from edgekit.errors import InvalidBoardError

MODULE_FOLDER = Path(__file__).parent / "boards"

DEFAULT = "jetson-orin-nano"
"""What ``--target jetson`` means."""

FORMATS: Mapping[str, tuple[int, int]] = MappingProxyType(
    {"fp16": (5, 3), "int8": (6, 1), "fp8": (8, 9), "fp4": (10, 0)}
)
"""Number formats with the oldest compute capability that multiplies in them.

Source: TensorRT support matrix, "Hardware and Precision".
"""

TENSORRT_MAJORS = (10, 11)
"""Major versions of TensorRT that are served."""


@dataclass(frozen=True)
class JetPack:
    """A release of NVIDIA's software for Jetson.

    Attributes:
        version: of JetPack; this one or later ones of the same minor version.
        tensorrt: version of the TensorRT that it brings or is the first to take.
        dla: whether this TensorRT drives the module's DLA.
    """

    version: str
    tensorrt: str
    dla: bool = False

    def __post_init__(self) -> None:
        where, problems = f"jetpack {self.version}", []
        for name in ("version", "tensorrt"):
            value = getattr(self, name)
            if not (isinstance(value, str) and re.fullmatch(r"\d+(\.\d+)+", value)):
                problems.append(f"{name}: must be numbers with dots between, not {value!r}")
        if self.dla not in (True, False):
            problems.append(f"dla: must be true or false, not {self.dla!r}")
        if not problems and self.major not in TENSORRT_MAJORS:
            majors = " or ".join(map(str, TENSORRT_MAJORS))
            problems.append(f"tensorrt: must be version {majors}, not {self.tensorrt!r}")
        _refuse(where, problems)

    @property
    def major(self) -> int:
        """Major version of its TensorRT."""
        return int(self.tensorrt.partition(".")[0])


@dataclass(frozen=True)
class Module:
    """A Jetson module or developer kit.

    Attributes:
        name: as users write it.
        description: one line for people.
        compute_capability: of its GPU, major and minor.
        memory_bytes: DRAM, shared by CPU and GPU.
        formats: keys of :data:`FORMATS` in which its GPU computes.
        jetpack: releases with a served TensorRT, oldest first.
        dla_cores: deep-learning accelerators.
        power_modes: names that nvpmodel gives; empty where no trustworthy list is known.
        source: where the facts are from.

    Raises:
        InvalidBoardError: values that no module can have; every problem has a line.
    """

    name: str
    description: str
    compute_capability: tuple[int, int]
    memory_bytes: int
    formats: tuple[str, ...]
    jetpack: tuple[JetPack, ...]
    source: str
    dla_cores: int = 0
    power_modes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _refuse(str(self.name), _problems(self))

    @property
    def tensorrt_majors(self) -> tuple[int, ...]:
        """Major versions of TensorRT that its JetPack releases bring, ascending."""
        return tuple(sorted({release.major for release in self.jetpack}))

    def support(self, number_format: str) -> str:
        """How the GPU computes in a format: ``native``, or ``emulated`` in a wider one.

        TensorRT takes weights of an emulated format where it can decompress them, but the products
        are those of a wider one: such a format is no faster.
        """
        return "native" if number_format in self.formats else "emulated"


def load_module(path: Path) -> Module:
    """Read a module from a TOML file.

    Raises:
        InvalidBoardError: no such file, no TOML, unknown or missing keys, impossible values.
    """
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InvalidBoardError(f"{path}: cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InvalidBoardError(f"{path}: is not TOML: {error}") from error
    releases = data.get("jetpack", [])
    problems = _key_problems(Module, data, "")
    if not isinstance(releases, list) or not all(isinstance(r, dict) for r in releases):
        problems.append("jetpack: must be an array of tables, [[jetpack]]")
        releases = []
    for index, release in enumerate(releases):
        problems += _key_problems(JetPack, release, f"jetpack[{index}].")
    _refuse(str(path), problems)
    data["jetpack"] = [JetPack(**release) for release in releases]
    values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in data.items()}
    return Module(**values)


def _problems(module: Module) -> list[str]:
    """Everything that is wrong with a module's values, each line beginning with the field."""
    problems = []
    name, capability = module.name, module.compute_capability
    if not (isinstance(name, str) and re.fullmatch(r"jetson(-[a-z0-9]+)+", name)):
        problems.append(f"name: must be 'jetson-' and lower-case words, not {name!r}")
    for key in ("description", "source"):
        value = getattr(module, key)
        if not (isinstance(value, str) and value.strip()):
            problems.append(f"{key}: must be text, not {value!r}")
    if not (_is_tuple(capability, int) and len(capability) == 2):
        problems.append(f"compute_capability: must be [major, minor], not {capability!r}")
        capability = (0, 0)
    if not _is_integer(module.memory_bytes, 2**30, 2**40):
        problems.append(f"memory_bytes: must be from 2^30 to 2^40, not {module.memory_bytes!r}")
    if not _is_integer(module.dla_cores, 0, 8):
        problems.append(f"dla_cores: must be from 0 to 8, not {module.dla_cores!r}")
    if not _is_tuple(module.power_modes, str):
        problems.append(f"power_modes: must be a list of names, not {module.power_modes!r}")
    formats = module.formats if _is_tuple(module.formats, str) else ()
    if formats != module.formats or not formats:
        problems.append(f"formats: must be a list of names, not {module.formats!r}")
    for each in formats:
        if each not in FORMATS:
            problems.append(f"formats: must be of {', '.join(FORMATS)}, not {each!r}")
        elif capability < FORMATS[each]:
            needed = ".".join(map(str, FORMATS[each]))
            problems.append(f"formats: {each} needs compute capability {needed} or newer")
    if not (_is_tuple(module.jetpack, JetPack) and module.jetpack):
        problems.append("jetpack: there must be a release")
    elif not module.dla_cores and any(release.dla for release in module.jetpack):
        problems.append("jetpack: a release drives a DLA, but dla_cores is 0")
    return problems


def _key_problems(kind: type, values: Mapping[str, Any], where: str) -> list[str]:
    """Keys that are missing from, or unknown to, the dataclass `kind`."""
    known = {field.name: field.default is MISSING for field in fields(kind)}
    problems = []
    for key in values:
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            problems.append(f"{where}{key}: unknown{hint} (known: {', '.join(known)})")
    missing = [key for key, required in known.items() if required and key not in values]
    return problems + [f"{where}{key}: missing" for key in missing]


def _refuse(where: str, problems: list[str]) -> None:
    if problems:
        raise InvalidBoardError("\n  ".join([f"{where}: not a possible Jetson module", *problems]))


def _is_integer(value: Any, low: int, high: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and low <= value <= high


def _is_tuple(value: Any, kind: type) -> bool:
    """Whether a value is a tuple of one kind; True is no integer here."""
    return isinstance(value, tuple) and all(
        isinstance(v, kind) and not isinstance(v, bool) for v in value
    )


def _load_all() -> Mapping[str, Module]:
    found = {path.stem: load_module(path) for path in sorted(MODULE_FOLDER.glob("*.toml"))}
    assert all(name == module.name for name, module in found.items()), "file name is module name"
    ordered = {DEFAULT: found.pop(DEFAULT), **found}
    return MappingProxyType(ordered)


MODULES: Mapping[str, Module] = _load_all()
"""Every known module by name; the first is what ``--target jetson`` means."""

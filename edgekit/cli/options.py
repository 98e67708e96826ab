"""Options that several verbs have, from text to values."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, TypeAlias

import typer

from edgekit.errors import UsageError

Config: TypeAlias = Annotated[
    Path | None, typer.Option(help="TOML with these options; flags override it.")
]
Seed: TypeAlias = Annotated[int | None, typer.Option(help="Of everything drawn; default 0.")]
CalibrationLimit: TypeAlias = Annotated[
    int | None,
    typer.Option("--calib-limit", "--limit", help="Calibration samples to use; default all."),
]
Shapes: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--shape",
        "--input-shape",
        help="NAME=1,3,32,32: fixes an open input shape; the example a factory's module is "
        "captured with.",
    ),
]
Weights: TypeAlias = Annotated[
    Path | None, typer.Option(help="Weights (.safetensors) of the factory's module.")
]
FactoryArguments: TypeAlias = Annotated[
    list[str] | None, typer.Option(help="NAME=VALUE: an argument of the factory.")
]
States: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(help="INPUT=OUTPUT: an input that carries state, and its next value."),
]
AllowFallback: TypeAlias = Annotated[
    bool | None, typer.Option("--allow-fallback", help="Keep in float32 what cannot be int8.")
]


def read_shapes(given: list[str]) -> dict[str, tuple[int, ...]]:
    """``NAME=1,3,32,32`` as a mapping.

    Raises:
        UsageError: a text that reads otherwise.

    >>> read_shapes(["x=1,3"])
    {'x': (1, 3)}
    """
    shapes = {}
    for text in given:
        name, separator, extents = text.rpartition("=")
        try:
            shapes[name] = tuple(int(e) for e in extents.split(","))
        except ValueError:
            separator = ""
        if not separator or not name:
            raise UsageError(f"--shape {text!r} must read NAME=1,3,32,32")
    return shapes


def read_nir_options(given: list[str]) -> dict[str, str]:
    """``NAME=VALUE`` as a mapping.

    Raises:
        UsageError: a text that reads otherwise.

    >>> read_nir_options(["dt=0.05"])
    {'dt': '0.05'}
    """
    options = {}
    for text in given:
        name, separator, value = text.partition("=")
        if not separator or not name:
            raise UsageError(f"--nir {text!r} must read NAME=VALUE")
        options[name] = value
    return options


def read_arguments(given: list[str]) -> dict[str, str]:
    """``NAME=VALUE`` as a mapping.

    Raises:
        UsageError: a text that reads otherwise.

    >>> read_arguments(["depth=8"])
    {'depth': '8'}
    """
    arguments = {}
    for text in given:
        name, separator, value = text.partition("=")
        if not separator or not name.isidentifier():
            raise UsageError(f"--factory-arg {text!r} must read NAME=VALUE")
        arguments[name] = value
    return arguments


def read_states(given: list[str]) -> dict[str, str]:
    """``INPUT=OUTPUT`` as a mapping.

    Raises:
        UsageError: a text that reads otherwise.

    >>> read_states(["h=h_next"])
    {'h': 'h_next'}
    """
    pairs = [text.partition("=")[::2] for text in given]
    if not all(name and following for name, following in pairs):
        raise UsageError(f"--state {given} must read INPUT=OUTPUT")
    return dict(pairs)

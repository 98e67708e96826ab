"""Options of ``edgekit quantize``: of a TOML file, then of the flags."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgekit.errors import UsageError


@dataclass(frozen=True, kw_only=True)
class Configured:
    """The resolved options: of the file, then of the flags."""

    precision: Any = None
    calibration: str | None = None
    output: str | None = None
    method: str = "rtn"
    observer: str = "minmax"
    bias_correction: bool = False
    equalize: bool = False
    seed: int = 0
    calibration_limit: int | None = None
    keep_ends: bool | None = None
    budget_bytes: int | None = None
    metric: str = "mse"
    allow_fallback: bool = False
    weights: str | None = None
    input_shapes: tuple[tuple[str, tuple[int, ...]], ...] = ()
    factory_args: tuple[tuple[str, str], ...] = ()
    state: tuple[tuple[str, str], ...] = ()


def read_config(path: Path) -> dict[str, Any]:
    """Options from a TOML file.

    Raises:
        UsageError: it cannot be read, is no TOML, holds an unknown key or a value of another kind.
    """
    try:
        options = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: is not TOML: {error}") from error
    kinds = _KINDS | {"input_shapes": dict, "factory_args": dict, "state": dict}
    unknown = sorted(options.keys() - kinds.keys())
    if unknown:
        raise UsageError(f"{path}: unknown keys {unknown}; known: {sorted(kinds)}")
    for key, value in options.items():
        if not isinstance(value, kinds[key]):
            raise UsageError(f"{path}: {key} is {value!r}, which is of another kind")
        if kinds[key] is dict:
            pairs = value.items()
            options[key] = tuple((k, tuple(v) if isinstance(v, list) else v) for k, v in pairs)
    return options


_KINDS: dict[str, Any] = {
    "precision": (str, dict),
    **dict.fromkeys(("calibration", "output", "method", "observer", "metric", "weights"), str),
    **dict.fromkeys(("bias_correction", "equalize", "keep_ends", "allow_fallback"), bool),
    **dict.fromkeys(("seed", "calibration_limit", "budget_bytes"), int),
}
"""What a value of the configuration file is, by key."""

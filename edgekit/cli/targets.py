"""``edgekit targets list`` and ``edgekit targets show NAME``."""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from typing import Annotated, Any

import typer

from edgekit.cli.render import Format, cell, facts_as, rows_as, show
from edgekit.targets import legality
from edgekit.targets.target import Target, builtin_targets, target

app = typer.Typer(help="What networks can be built for.", no_args_is_help=True)

FormatOption = Annotated[Format, typer.Option("--format", help="How to print.")]


@app.command("list")
def list_targets(style: FormatOption = Format.TABLE) -> None:
    """Families, boards, memories and whether they run here."""
    rows = [
        {
            "target": t.name,
            "family": t.family,
            "core": processor(t),
            "flash_bytes": _bytes(t, program=True),
            "ram_bytes": _bytes(t, program=False),
            "clock_mhz": t.clock_hz / 1e6 if t.clock_hz else None,
            "formats": formats(t),
            "devices": t.devices,
            "status": t.status,
        }
        for t in builtin_targets().values()
    ]
    show(rows_as(rows, style))


@app.command("show")
def show_target(
    name: Annotated[str, typer.Argument(help="A target, or the path of a board's TOML file.")],
    style: FormatOption = Format.TABLE,
) -> None:
    """Everything known about one target."""
    t = target(name)
    facts: dict[str, Any] = {
        "name": t.name,
        "family": t.family,
        "description": t.description,
        "status": t.status,
        "devices": t.devices,
        "formats": formats(t),
    }
    if t.core is not None:
        facts |= {
            "core": t.core.name,
            "fpu": t.fpu,
            "features": tuple(sorted(t.features)),
            "clock_hz": t.clock_hz,
        }
    if t.cpu is not None:
        facts |= {
            "cpu": t.cpu.name,
            "architecture": t.cpu.architecture,
            "features": tuple(sorted(t.features)),
            "clock_hz": t.clock_hz,
        }
    for part in (t.computer, t.module):
        facts |= _facts(part) if part is not None else {}
    for memory in t.memories:
        waits = "" if memory.wait_states is None else f", {memory.wait_states} wait states"
        facts[f"memory {memory.name}"] = (
            f"{memory.kind}, {memory.bytes:,} bytes at {memory.origin:#010x}{waits}"
        )
    power = t.board.power if t.board else None
    if t.board is not None:
        facts["power"] = (
            f"{power.picojoules_per_cycle:g} pJ/cycle ({power.conditions}; {power.source})"
            if power
            else None
        )
    show(facts_as(facts, style))


def processor(t: Target) -> str | None:
    """Core of a microcontroller or processor of a computer, None where neither says enough."""
    part = t.core or t.cpu
    return None if part is None else part.name


def formats(t: Target) -> tuple[str, ...]:
    """Activation formats with kernels, and how floats are computed; a GPU's number formats."""
    if t.module is not None:
        return (*t.module.formats, "fp32")
    hardware = legality.has_hardware_float(t)
    return ("int8", "int16", "float32" if hardware else "float32 (soft-float)")


def _facts(part: Any) -> dict[str, Any]:
    """The fields of a frozen value that a target has beside its own."""
    own = ("name", "description", "formats")
    return {f.name: _value(getattr(part, f.name)) for f in fields(part) if f.name not in own}


def _value(value: Any) -> Any:
    """A field as plain data; a value with fields of its own as text."""
    if is_dataclass(value):
        return " ".join(f"{f.name} {cell(_value(getattr(value, f.name)))}" for f in fields(value))
    if isinstance(value, tuple):
        return tuple(map(_value, value))
    return value


def _bytes(t: Target, *, program: bool) -> int | None:
    if not t.memories:
        return None
    return t.program_bytes if program else t.data_bytes

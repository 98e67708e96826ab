"""``edgekit targets list`` and ``edgekit targets show NAME``."""

from __future__ import annotations

from dataclasses import asdict, fields, is_dataclass
from typing import Annotated, Any

import typer

from edgekit.cli.render import Format, cell, facts_as, rows_as, show
from edgekit.targets import legality
from edgekit.targets.board import Cache, Power
from edgekit.targets.cores import Memory
from edgekit.targets.target import Target, builtin_targets, target

app = typer.Typer(help="What networks can be built for.", no_args_is_help=True)

FormatOption = Annotated[Format, typer.Option("--format", help="How to print.")]


@app.command("list")
def list_targets(style: FormatOption = Format.TABLE) -> None:
    """Families, boards, memories, whether they run here and what is modelled of a run."""
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
            "modelled": modelled(t),
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
        "modelled": modelled(t),
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
        facts |= _facts(part, style) if part is not None else {}
    facts |= board_data(t) if style is Format.JSON else board_words(t)
    show(facts_as(facts, style))


def board_data(t: Target) -> dict[str, Any]:
    """Memories, caches, timing and power as a board's file has them, units in the keys."""
    board = t.board
    facts: dict[str, Any] = {
        "memories": {memory.name: _unnamed(memory) for memory in t.memories},
        "caches": {cache.name: _unnamed(cache) for cache in t.caches},
    }
    if board is not None:
        facts["timing"] = {"basis": board.timing_basis, "source": board.timing_source or None}
        facts["power"] = None if board.power is None else asdict(board.power)
    return facts


def board_words(t: Target) -> dict[str, Any]:
    """The same for people."""
    facts: dict[str, Any] = {f"memory {m.name}": memory_words(m) for m in t.memories}
    facts |= {f"cache {cache.name}": cache_words(cache) for cache in t.caches}
    if t.board is not None:
        facts["timing"] = t.board.timing_words
        facts["timing source"] = t.board.timing_source or None
        facts |= power_facts(t.board.power)
    return facts


def _unnamed(part: Memory | Cache) -> dict[str, Any]:
    """The fields of a part that is listed by its name."""
    return {key: value for key, value in asdict(part).items() if key != "name"}


def processor(t: Target) -> str | None:
    """Core of a microcontroller or processor of a computer, None where neither says enough."""
    part = t.core or t.cpu
    return None if part is None else part.name


def modelled(t: Target) -> tuple[str, ...]:
    """What is modelled of a run where the device itself is not at hand, from cycles to energy."""
    core = None if t.core is None else t.core.cycles
    cpu = None if t.cpu is None else t.cpu.processor
    if core is None and cpu is None:
        return ()
    if not t.clock_hz or not timed(t):
        return ("cycles",)
    energy = ("energy",) if t.board and t.board.power else ()
    return ("cycles", "latency", *energy)


def timed(t: Target) -> bool:
    """Whether an image can be timed: wait states are known where programs and variables go first.

    An image that reaches into further memories may have no latency all the same.
    """
    flash = [memory for memory in t.memories if memory.kind == "flash"]
    program = flash or [memory for memory in t.memories if memory.is_program]
    data = [memory for memory in t.memories if memory.is_data]
    return all(memory.wait_states is not None for memory in (*program[:1], *data[:1]))


def memory_words(memory: Memory) -> str:
    """One address range and what an access takes.

    >>> memory_words(Memory("flash", "flash", 0, 1024, wait_states=5, line_bytes=8))
    'flash, 1,024 bytes at 0x00000000, 5 wait states for 8 bytes'
    >>> memory_words(Memory("ram", "ram", 0, 1024))
    'ram, 1,024 bytes at 0x00000000, timing not known: modelled without wait states'
    """
    words = f"{memory.kind}, {memory.bytes:,} bytes at {memory.origin:#010x}"
    if memory.wait_states is None:
        return f"{words}, timing not known: modelled without wait states"
    width = f" for {memory.line_bytes} bytes" if memory.line_bytes else ""
    ahead = ", next line prefetched" if memory.prefetch else ""
    states = "wait state" if memory.wait_states == 1 else "wait states"
    return f"{words}, {memory.wait_states} {states}{width}{ahead}"


def cache_words(cache: Cache) -> str:
    """One cache: whose, what and how.

    >>> cache_words(Cache("xip", "both", ("flash",), bytes=16384, line_bytes=8, ways=2))
    'instructions and data of flash, 16,384 bytes, 8-byte lines, 2 ways'
    """
    serves = "instructions and data" if cache.serves == "both" else cache.serves
    ways = "fully associative" if cache.sets == 1 else f"{cache.ways} ways"
    return (
        f"{serves} of {', '.join(cache.memories)}, {cache.bytes:,} bytes, "
        f"{cache.line_bytes}-byte lines, {ways}"
    )


def power_facts(power: Power | None) -> dict[str, Any]:
    """What is known of a board's power; nothing of it where there is no trustworthy figure."""
    if power is None:
        return {"power": None}
    spread = power.spread_picojoules_per_cycle
    return {
        "power": f"{power.picojoules_per_cycle:g} pJ/cycle",
        "power spread": f"{spread[0]:g} to {spread[1]:g} pJ/cycle" if spread else None,
        "power at the clock": f"{power.milliwatts:g} mW" if power.milliwatts else None,
        "power conditions": power.conditions,
        "power source": power.source,
    }


def formats(t: Target) -> tuple[str, ...]:
    """Activation formats with kernels, and how floats are computed; a GPU's number formats."""
    if t.module is not None:
        return (*t.module.formats, "fp32")
    hardware = legality.has_hardware_float(t)
    return ("int8", "int16", "float32" if hardware else "float32 (soft-float)")


def _facts(part: Any, style: Format) -> dict[str, Any]:
    """The fields of a frozen value that a target has beside its own."""
    own = ("name", "description", "formats")
    if style is Format.JSON:
        return {key: value for key, value in asdict(part).items() if key not in own}
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

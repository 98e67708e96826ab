"""Where the cycles of one layer go: its hot loops, instruction by instruction.

Regions are disjoint pieces of what ran for the layer: loops without the loops inside them, and what
is in no loop. Those that cost most are listed; everything else is summed up by function, so that
all of it adds up to the layer.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from edgekit.bench.costs import Causes, CycleModel, FunctionCost, LayerCost
from edgekit.bench.fields import encode
from edgekit.deploy.costs import Functions
from edgekit.deploy.session import Inputs, Session
from edgekit.errors import UnsupportedError, UsageError
from edgekit.targets.arm_cpu.cpus import CPUS
from edgekit.targets.c.emit import LayerInfo
from edgekit.targets.cycles.costs import FunctionCount, InstructionCost
from edgekit.targets.cycles.loops import Region, regions
from edgekit.targets.target import MICROCONTROLLER, Target

LEAST = 0.04
"""Share of the layer from which a region is listed, beside the most expensive one."""

MOST = 5
"""Regions that are listed."""

WHOLE_BLOCKS = "the model times whole blocks: no cycles of single instructions, and no causes"
"""Of the models of application processors."""


@dataclass(frozen=True)
class Line:
    """All executions of one instruction.

    Attributes:
        address: of the instruction.
        text: disassembly.
        executions: how often it was issued.
        cycles: of all executions; None where the model only knows whole blocks, or there is none.
        causes: of the cycles.
    """

    address: int
    text: str
    executions: int
    cycles: float | None
    causes: Causes | None


@dataclass(frozen=True)
class HotRegion:
    """A loop without the loops inside it, or what a function has in no loop.

    Attributes:
        cost: of all executions, with the function that holds it.
        depth: of the loop, 1 for an outermost one; 0 for what is in no loop.
        entries: how often it was entered from outside.
        iterations: how often its head ran; 0 outside of loops.
        lines: by ascending address; neighbours need not follow each other in memory.
    """

    cost: FunctionCost
    depth: int
    entries: int
    iterations: int
    lines: tuple[Line, ...]


@dataclass(frozen=True)
class Explanation:
    """One layer, taken apart.

    Attributes:
        device: that ran it.
        index: of the layer.
        layer: what it took.
        share: of the network's cycles; of its instructions where there is no model.
        cycle_model: what modelled the cycles; None where nothing did.
        regions: the most expensive ones, with their instructions.
        rest: what is not in them, by function.
        notes: why there is not more.
    """

    device: str
    index: int
    layer: LayerCost
    share: float
    cycle_model: CycleModel | None
    regions: tuple[HotRegion, ...]
    rest: tuple[FunctionCost, ...]
    notes: tuple[str, ...] = ()

    def share_of(self, cost: FunctionCost) -> float:
        """Of the layer's cycles; of its instructions where there is no model."""
        whole = _spent(self.layer.cycles, self.layer.instructions or 0)
        return _spent(cost.cycles, cost.instructions) / whole if whole else 0.0

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        plain: dict[str, Any] = encode(self)
        return plain


def explain(
    session: Session, inputs: Inputs, layer: str | int, *, notes: tuple[str, ...] = ()
) -> Explanation:
    """Take one layer apart.

    Args:
        session: on a device with a trace.
        inputs: as for :meth:`~edgekit.deploy.session.Session.run`; cost may depend on the data.
        layer: see :func:`find_layer`.
        notes: why there is not more, known before anything runs.

    Raises:
        UsageError: no such layer; lists those there are.
        UnsupportedError: the device has no trace.
    """
    index = find_layer(session.layers, layer)
    counts = session.count_layers(inputs)
    info, count = session.layers[index], counts[index]
    functions = Functions(session.library)
    whole = _spent(count.cycles, count.instructions)
    everything = sum(_spent(c.cycles, c.instructions) for c in counts)
    found = regions(count)
    by_line = any(line.causes is not None for region in found for line in region.lines)
    first = found[:MOST]
    hot = [r for r in first if _spent(r.cycles, r.instructions) >= LEAST * whole] or first[:1]
    rest: dict[str, FunctionCount] = {}
    for region in found[len(hot) :]:
        cost = _cost(region)
        rest[cost.name] = rest[cost.name] + cost if cost.name in rest else cost
    return Explanation(
        device=session.device,
        index=index,
        layer=functions.layer_cost(info, count),
        share=whole / everything if everything else 0.0,
        cycle_model=None if count.cycles is None else session.cycle_model,
        regions=tuple(
            HotRegion(
                cost=functions.cost(info, _cost(region)),
                depth=region.depth,
                entries=region.entries,
                iterations=region.iterations,
                lines=tuple(map(_line, region.lines)),
            )
            for region in hot
        ),
        rest=tuple(functions.cost(info, cost) for cost in rest.values()),
        notes=notes if by_line or not count.cycles else (*notes, WHOLE_BLOCKS),
    )


def _spent(cycles: float | None, instructions: int) -> float:
    """Cycles, or instructions where there is no model."""
    return instructions if cycles is None else cycles


def _cost(region: Region) -> FunctionCount:
    return FunctionCount(region.function, region.instructions, region.cycles, region.causes)


def _line(line: InstructionCost) -> Line:
    cycles = None if line.causes is None else line.causes.total
    return Line(line.address, line.text, line.times, cycles, line.causes)


def find_layer(layers: Sequence[LayerInfo], wanted: str | int) -> int:
    """Index of a layer.

    Args:
        layers: of the network.
        wanted: name of an operation, a part of one that no other has, or an index.

    Raises:
        UsageError: no such layer, or several; lists them.
    """
    names, text = [layer.operation for layer in layers], str(wanted)
    if text in names:
        return names.index(text)
    if text.isascii() and text.isdecimal() and int(text) < len(names):
        return int(text)
    parts = [index for index, name in enumerate(names) if text and text in name]
    if len(parts) == 1:
        return parts[0]
    near = difflib.get_close_matches(text, names, n=1)
    words = f"{text!r} is a part of {len(parts)} names" if parts else f"there is no layer {text!r}"
    if near and not parts:
        words += f"; did you mean {near[0]!r}"
    rows = (f"\n  {i}  {layer.operation} ({layer.operator})" for i, layer in enumerate(layers))
    raise UsageError(f"{words}. Layers by index and name:{''.join(rows)}")


def no_cycle_model(target: Target) -> str:
    """That nothing models a target's cycles, and which targets like it have a model.

    >>> from edgekit.targets.target import target
    >>> no_cycle_model(target("armv7"))
    'nothing models cycles of armv7; targets with a model: cortex-a53, cortex-a72, cortex-a76'
    """
    words = f"nothing models cycles of {target.name}"
    if target.cpu is None:
        return words
    able = (cpu.name for cpu in CPUS.values() if cpu.processor is not None)
    return f"{words}; targets with a model: {', '.join(able)}"


def tracing_devices(target: Target) -> tuple[str, ...]:
    """Devices of a target that see every instruction of every layer, the best first."""
    able = ("emulator", "qemu") if target.family == MICROCONTROLLER else ("emulator",)
    return tuple(device for device in target.devices if device in able)


def tracing_device(target: Target, wanted: str | None) -> str:
    """The device to explain a layer on.

    Args:
        target: that the network was built for.
        wanted: device that was asked for; None for the best.

    Raises:
        UnsupportedError: it sees no single instructions; says which devices do.
    """
    able = tracing_devices(target)
    if wanted in able or (wanted is None and able):
        return wanted or able[0]
    if able:
        raise UnsupportedError(
            f"device {wanted} cannot tell what single instructions cost; "
            f"of {target.name} {', '.join(able)} can"
        )
    raise UnsupportedError(
        f"nothing tells what single instructions cost on {target.name}; export for a "
        "microcontroller, or for an ARM computer that is emulated"
    )

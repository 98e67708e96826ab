"""Under what two reports were made, and where that differs: what figures alone do not say."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

from edgekit.bench.environment import Environment
from edgekit.bench.protocol import Protocol
from edgekit.bench.report import Report, Run

NONE = "none"
"""What a note says where a report says nothing."""

PART = re.compile(r"^first (?:sample|one|\d+) of ")
"""How a run says that it did not reach all inputs."""


def conditions(before: Run, after: Run) -> str:
    """Why two times are answers to different questions, in words; empty where they are not."""
    pairs: dict[str, tuple[str | None, str | None]] = {
        "stands for the target": (_yes(before.on_target), _yes(after.on_target)),
        "threads": (_threads(before), _threads(after)),
        "input": _inputs(before, after),
    }
    return "; ".join(_differences(pairs))


def cycle_model(run: Run) -> Mapping[str, str | None]:
    """What gave a run's cycles, as far as figures depend on it."""
    model = run.cycle_model
    if model is None:
        return {"cycle model": None}
    return {
        "cycle model": f"version {model.version} of {model.core}",
        "modelled": model.what,
        "memory": model.memory,
    }


def energy_model(run: Run) -> Mapping[str, str | None]:
    """What gave a run's energy where nothing measured it."""
    energy = run.energy_uj
    return {**cycle_model(run), "energy": None if energy is None else energy.source}


def differing(before: Mapping[str, str | None], after: Mapping[str, str | None]) -> str:
    """The names of what differs between two runs; empty where nothing does."""
    pairs = _paired(before, after)
    return ", ".join(name for name, (old, new) in pairs.items() if (old or NONE) != (new or NONE))


def _paired(
    before: Mapping[str, str | None], after: Mapping[str, str | None]
) -> dict[str, tuple[str | None, str | None]]:
    return {name: (before.get(name), after.get(name)) for name in {**before, **after}}


def _threads(run: Run) -> str:
    return NONE if run.protocol is None else str(run.protocol.threads)


def _inputs(before: Run, after: Run) -> tuple[str, str]:
    """The inputs of two runs.

    A clock stops after so much time, and then how many inputs were reached is chance: of measured
    runs only where inputs come from counts.
    """
    if before.protocol is None or after.protocol is None:
        return before.input, after.input
    return PART.sub("", before.input), PART.sub("", after.input)


def _differences(pairs: Mapping[str, tuple[str | None, str | None]]) -> list[str]:
    return [
        f"{what}: {old or NONE} before, {new or NONE} after"
        for what, (old, new) in pairs.items()
        if (old or NONE) != (new or NONE)
    ]


def notes_of_reports(before: Report, after: Report) -> list[str]:
    """What differs between two artifacts, and between the machines that ran them."""
    old, new = before.environment, after.environment
    return _differences(
        {
            "network": (before.artifact.name, after.artifact.name),
            "target": (before.artifact.target, after.artifact.target),
            "edgekit": (before.edgekit, after.edgekit),
            "source model": (before.artifact.model_sha256[:12], after.artifact.model_sha256[:12]),
            "board": (old.board, new.board),
            "machine": (f"{old.cpu or NONE} ({old.machine})", f"{new.cpu or NONE} ({new.machine})"),
            "CPUs": (str(old.cpus), str(new.cpus)),
            "power mode": (old.power_mode, new.power_mode),
            "governor": (governors(old), governors(new)),
            "throttled": (", ".join(old.throttled or ()), ", ".join(new.throttled or ())),
        }
    )


def governors(environment: Environment) -> str:
    """The governors of all CPUs; empty where none tells."""
    return ", ".join(sorted({c.governor for c in environment.clocks if c.governor is not None}))


def notes_of_run(before: Run, after: Run) -> list[str]:
    """What differs in how two runs of a kind were made."""
    pairs = {
        "stands for the target": (_yes(before.on_target), _yes(after.on_target)),
        "input": _inputs(before, after),
        "runtime": (before.backend_version, after.backend_version),
        "kernels": (before.kernels, after.kernels),
        "compiler": (
            before.toolchain_version or before.toolchain,
            after.toolchain_version or after.toolchain,
        ),
        "flags": _only(before.flags, after.flags),
        "clock": (_megahertz(before.clock_hz), _megahertz(after.clock_hz)),
        **_paired(energy_model(before), energy_model(after)),
        **_protocols(before.protocol, after.protocol),
    }
    return _differences(pairs)


def _protocols(
    before: Protocol | None, after: Protocol | None
) -> dict[str, tuple[str | None, str | None]]:
    """Field by field, so that none can be forgotten; nothing where only one run was timed."""
    if before is None or after is None:
        return {}
    return {
        field.name.replace("_", " "): (
            _plain(getattr(before, field.name)),
            _plain(getattr(after, field.name)),
        )
        for field in fields(Protocol)
    }


def _only(before: Sequence[str], after: Sequence[str]) -> tuple[str, str]:
    """Flags that the other run lacks; all of them where only their order differs."""
    old = [flag for flag in before if flag not in after]
    new = [flag for flag in after if flag not in before]
    if not old and not new:
        return " ".join(before), " ".join(after)
    return " ".join(old), " ".join(new)


def _plain(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _yes(value: bool) -> str:
    return "yes" if value else "no"


def _megahertz(hertz: int | None) -> str | None:
    return None if hertz is None else f"{hertz / 1e6:g} MHz"

"""``edgekit targets``: what is modelled of a board, with what, and where the figures are from."""

from __future__ import annotations

import json
from typing import Any

from typer.testing import CliRunner

from edgekit.cli.targets import app
from edgekit.targets.target import builtin_targets


def answer(*arguments: str) -> Any:
    """What the command prints as JSON."""
    done = CliRunner().invoke(app, [*arguments, "--format", "json"])
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def test_the_list_says_what_is_modelled() -> None:
    """Cycles need a table, latency a clock, energy a source of power."""
    modelled = {row["target"]: row["modelled"] for row in answer("list")}
    assert modelled["cortex-m4"] == ["cycles"]
    assert modelled["nrf52840-dk"] == ["cycles", "latency"]
    assert modelled["nucleo-l4r5zi"] == ["cycles", "latency", "energy"]
    assert modelled["raspberry-pi-5"] == ["cycles", "latency"]
    assert modelled["aarch64"] == modelled["host"] == modelled["jetson-thor"] == []
    assert modelled.keys() == builtin_targets().keys()


def test_a_board_with_everything() -> None:
    """Wait states with what they buy, caches, power with its spread, and both sources."""
    facts = answer("show", "nucleo-l4r5zi")
    assert facts["memory flash"].endswith(", 5 wait states for 8 bytes")
    assert facts["memory sram"].endswith(", 0 wait states")
    assert facts["cache art_data"] == "data of flash, 256 bytes, 8-byte lines, fully associative"
    assert facts["timing source"].startswith("RM0432 ")
    assert facts["power"] == "350 pJ/cycle"
    assert facts["power spread"] == "277 to 650 pJ/cycle"
    assert facts["power at the clock"] == "42 mW"
    assert facts["power conditions"].startswith("1.8 V")
    assert facts["power source"] == "published MLPerf Tiny energy logs"


def test_a_board_without_power() -> None:
    """Nothing is said of power where no figure can be trusted; a prefetch is mentioned."""
    facts = answer("show", "nucleo-g0b1re")
    assert facts["memory flash"].endswith(", 2 wait states for 8 bytes, next line prefetched")
    assert facts["power"] is None
    assert not any(name.startswith("power ") for name in facts)


def test_unknown_timing_is_said() -> None:
    """Of some memories nothing is published, and of a generic core no board is known."""
    assert answer("show", "mps3-an547")["memory sram"].endswith(
        ", timing not known: modelled without wait states"
    )
    facts = answer("show", "cortex-m4")
    assert facts["memory ram"].endswith(", timing not known: modelled without wait states")
    assert "timing source" not in facts

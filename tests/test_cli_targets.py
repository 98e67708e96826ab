"""``edgekit targets``: what is modelled of a board, with what, and where the figures are from."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from typer.testing import CliRunner

from edgekit.cli.targets import app
from edgekit.targets.board import BOARD_FOLDER
from edgekit.targets.target import builtin_targets


def answer(*arguments: str) -> Any:
    """What the command prints as JSON."""
    done = CliRunner().invoke(app, [*arguments, "--format", "json"])
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def words(name: str) -> dict[str, str]:
    """What the command prints of a target for people, by name."""
    done = CliRunner().invoke(app, ["show", name])
    assert done.exit_code == 0, done.output
    pairs = (re.split(r" {2,}", line, maxsplit=1) for line in done.stdout.splitlines())
    return {parts[0]: parts[1] for parts in pairs}


def test_the_list_says_what_is_modelled() -> None:
    """Cycles need a table, latency a clock, energy a source of power."""
    modelled = {row["target"]: row["modelled"] for row in answer("list")}
    assert modelled["cortex-m4"] == ["cycles"]
    assert modelled["nrf52840-dk"] == ["cycles", "latency"]
    assert modelled["nucleo-l4r5zi"] == ["cycles", "latency", "energy"]
    assert modelled["raspberry-pi-5"] == ["cycles", "latency"]
    assert modelled["cortex-a53"] == modelled["cortex-a72"] == ["cycles"]
    assert modelled["aarch64"] == modelled["host"] == modelled["jetson-thor"] == []
    assert modelled.keys() == builtin_targets().keys()


def test_a_board_with_everything() -> None:
    """Wait states with what they buy, caches, power with its spread, and both sources."""
    text = words("nucleo-l4r5zi")
    assert ", 5 wait states for 8 bytes" in text["memory flash"]
    assert text["memory sram"].endswith(", 0 wait states")
    assert text["cache art_data"] == "data of flash, 256 bytes, 8-byte lines, fully associative"
    assert text["timing"] == "as documented, the configuration assumed"
    assert text["timing source"].startswith("RM0432 ")
    assert text["power"] == "350 pJ/cycle"
    assert text["power spread"] == "277 to 650 pJ/cycle"
    assert text["power at the clock"] == "42 mW"
    assert text["power conditions"].startswith("1.8 V")
    assert text["power source"] == "published MLPerf Tiny energy logs"


def test_a_board_as_data() -> None:
    """Numbers with their units in the keys, and nothing that must be read out of a text."""
    facts = answer("show", "nucleo-l4r5zi")
    flash = facts["memories"]["flash"]
    assert (flash["wait_states"], flash["line_bytes"], flash["prefetch"]) == (5, 8, False)
    assert facts["caches"]["art_data"] == {
        "serves": "data",
        "memories": ["flash"],
        "bytes": 256,
        "line_bytes": 8,
        "ways": 32,
    }
    assert facts["timing"]["basis"] == "documented"
    assert facts["power"]["picojoules_per_cycle"] == 350
    assert facts["power"]["spread_picojoules_per_cycle"] == [277, 650]
    assert answer("show", "nucleo-g0b1re")["power"] is None


def test_a_latency_is_not_promised_without_wait_states(tmp_path: Path) -> None:
    """Of a user's board that lacks them where the program goes."""
    text = (BOARD_FOLDER / "nucleo-l4r5zi.toml").read_text()
    board = tmp_path / "mine.toml"
    board.write_text(text)
    assert answer("show", str(board))["modelled"] == ["cycles", "latency", "energy"]
    board.write_text(text.replace("wait_states = 5\n", ""))
    assert answer("show", str(board))["modelled"] == ["cycles"]


def test_a_board_without_power() -> None:
    """Nothing is said of power where no figure can be trusted; a prefetch is mentioned."""
    facts = words("nucleo-g0b1re")
    assert facts["memory flash"].endswith(", 2 wait states for 8 bytes, next line prefetched")
    assert facts["power"] == "-"
    assert not any(name.startswith("power ") for name in facts)


def test_unknown_timing_is_said() -> None:
    """Of some memories nothing is published, and of a generic core no board is known."""
    assert words("mps3-an547")["memory sram"].endswith(
        ", timing not known: modelled without wait states"
    )
    facts = words("cortex-m4")
    assert facts["memory ram"].endswith(", timing not known: modelled without wait states")
    assert "timing source" not in facts

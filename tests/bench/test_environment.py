"""What boards say of themselves, from folders like theirs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from edgekit.bench import environment
from edgekit.bench.environment import read_environment
from tests.support.reports import ENVIRONMENT


def board(root: Path, files: dict[str, str]) -> Path:
    """A machine's folders with these files."""
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def test_a_raspberry_pi(tmp_path: Path) -> None:
    """Board, CPU, clocks, temperature, load, and the firmware's reasons for a lower clock."""
    found = read_environment(
        board(
            tmp_path,
            {
                "proc/device-tree/model": "Raspberry Pi 4 Model B Rev 1.4\0",
                "proc/cpuinfo": "processor\t: 0\nCPU implementer\t: 0x41\nCPU part\t: 0xd08\n",
                "proc/loadavg": "3.20 1.00 0.50 1/200 999\n",
                "sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq": "600000\n",
                "sys/devices/system/cpu/cpu0/cpufreq/scaling_max_freq": "1800000\n",
                "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor": "powersave\n",
                "sys/devices/system/cpu/cpu10/cpufreq/scaling_governor": "performance\n",
                "sys/class/thermal/thermal_zone0/temp": "82500\n",
                "sys/class/thermal/thermal_zone0/type": "cpu-thermal\n",
                "sys/devices/platform/soc/soc:firmware/get_throttled": "50005\n",
            },
        )
    )
    assert found.board == "Raspberry Pi 4 Model B Rev 1.4"
    assert found.cpu == "implementer 0x41 part 0xd08"
    assert [(c.cpu, c.current_hz, c.governor) for c in found.clocks] == [
        ("cpu0", 600_000_000, "powersave"),
        ("cpu10", None, "performance"),
    ]
    assert [(t.zone, t.celsius) for t in found.temperatures] == [("cpu-thermal", 82.5)]
    assert found.throttled == ("under-voltage", "throttled")
    assert found.load == 3.2
    assert [words.partition(":")[0] for words in found.clock_warnings] == [
        "CPU governor powersave",
        "the firmware lowers the clock",
        "cpu-thermal is at 82 °C",
    ]


def test_a_machine_that_says_nothing(tmp_path: Path) -> None:
    """Null, never a guess."""
    found = read_environment(tmp_path)
    assert (found.board, found.cpu, found.load, found.throttled) == (None, None, None, None)
    assert (found.clocks, found.temperatures) == ((), ())
    assert found.warnings == ()


@pytest.mark.parametrize("text", ["", "warm", "99999999999999999999", "1e3", "\x1b[2J"])
def test_nonsense_in_a_sensor(tmp_path: Path, text: str) -> None:
    """Left out."""
    folder = "sys/class/thermal/thermal_zone0"
    frequency = "sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq"
    found = read_environment(board(tmp_path, {f"{folder}/temp": text, frequency: text}))
    assert found.temperatures == ()
    assert found.clocks[0].current_hz is None


def test_a_busy_machine_is_warned_of() -> None:
    """More runnable processes than half of the CPUs."""
    assert replace(ENVIRONMENT, load=2.0).warnings == ()
    (words,) = replace(ENVIRONMENT, load=2.1).warnings
    assert words == "load 2.1 on 4 CPUs: other programs are running"


def test_power_mode_of_a_jetson(tmp_path: Path) -> None:
    """As its tool names it; null without the tool or without an answer."""
    tool = tmp_path / "nvpmodel"
    tool.write_text("#!/bin/sh\necho 'NV Power Mode: MODE_30W'\necho 2\n")
    tool.chmod(0o755)
    assert environment._power_mode(lambda name: str(tool)) == "MODE_30W"
    tool.write_text("#!/bin/sh\nexit 1\n")
    assert environment._power_mode(lambda name: str(tool)) is None
    assert environment._power_mode(lambda name: None) is None

"""The machine that figures were taken on: what it says of itself, null where it says nothing.

Linux is read through ``/proc`` and ``/sys``, a Jetson's power mode through ``nvpmodel``. Nothing is
changed, nothing needs rights.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from edgekit.bench.fields import Count, Quantity, Real

LIBRARIES = ("numpy", "onnxruntime", "ai-edge-litert", "tflite-runtime", "tensorrt")
"""Distributions whose version can change a figure."""

SLOW_GOVERNORS = ("powersave", "conservative", "userspace")
"""Governors that may hold the clock low; ``performance`` measures what the CPU can do."""

BUSY = 0.5
"""Load per CPU above which other programs disturb a measurement."""

HOT_CELSIUS = 80.0
"""Where boards begin to lower their clocks (Raspberry Pi: 80 °C)."""

THROTTLED_BITS = {
    0: "under-voltage",
    1: "clock capped",
    2: "throttled",
    3: "soft temperature limit",
}
"""Bits of the Raspberry Pi firmware's ``get_throttled`` that say what is so now."""


@dataclass(frozen=True)
class Clock:
    """Frequency of a CPU.

    Attributes:
        cpu: name, such as ``cpu0``.
        current_hz: now.
        minimum_hz: the governor may go down to.
        maximum_hz: the governor may go up to.
        governor: that decides.
    """

    cpu: str
    current_hz: Count | None
    minimum_hz: Count | None
    maximum_hz: Count | None
    governor: str | None


@dataclass(frozen=True)
class Temperature:
    """A thermal zone: its name and degrees Celsius."""

    zone: str
    celsius: Real


@dataclass(frozen=True)
class Version:
    """A library and its version."""

    name: str
    version: str


@dataclass(frozen=True)
class Environment:
    """What can change a figure on this machine.

    Attributes:
        machine: instruction set, as the kernel names it.
        system: kernel and its version.
        board: model of the board, from the device tree.
        cpu: model of the CPU.
        cpus: logical CPUs that this process may use.
        python: version of the interpreter.
        libraries: versions of what takes part.
        clocks: of every CPU that tells.
        temperatures: of every zone that tells.
        load: average number of runnable processes over the last minute.
        power_mode: of a Jetson, from ``nvpmodel``.
        throttled: reasons for a lowered clock that a Raspberry Pi's firmware gives; empty for none.
    """

    machine: str
    system: str
    board: str | None
    cpu: str | None
    cpus: Count
    python: str
    libraries: tuple[Version, ...]
    clocks: tuple[Clock, ...]
    temperatures: tuple[Temperature, ...]
    load: Quantity | None
    power_mode: str | None
    throttled: tuple[str, ...] | None

    @property
    def warnings(self) -> tuple[str, ...]:
        """What makes a measurement that begins now doubtful."""
        if self.load is None or self.load <= BUSY * max(self.cpus, 1):
            return self.clock_warnings
        busy = f"load {self.load:.1f} on {self.cpus} CPUs: other programs are running"
        return (*self.clock_warnings, busy)

    @property
    def clock_warnings(self) -> tuple[str, ...]:
        """What may hold the clock low."""
        words = []
        slow = sorted({c.governor for c in self.clocks if c.governor in SLOW_GOVERNORS})
        if slow:
            words.append(f"CPU governor {', '.join(map(str, slow))}: the clock may be held low")
        if self.throttled:
            words.append(f"the firmware lowers the clock: {', '.join(self.throttled)}")
        hot = [t for t in self.temperatures if t.celsius >= HOT_CELSIUS]
        words += [f"{t.zone} is at {t.celsius:.0f} °C: the clock may be lowered" for t in hot]
        return tuple(words)


def read_environment(root: Path = Path("/")) -> Environment:
    """What this machine says.

    Args:
        root: where ``proc`` and ``sys`` lie.
    """
    return Environment(
        machine=platform.machine(),
        system=f"{platform.system()} {platform.release()}",
        board=_text(root / "proc/device-tree/model"),
        cpu=_cpu_model(root),
        cpus=_usable_cpus(),
        python=platform.python_version(),
        libraries=tuple(_versions(LIBRARIES)),
        clocks=tuple(_clocks(root)),
        temperatures=tuple(_temperatures(root)),
        load=_load(root),
        power_mode=_power_mode(),
        throttled=_throttled(root),
    )


def _text(path: Path) -> str | None:
    """The words of a small file without what cannot be printed; None where there are none."""
    try:
        raw = path.read_bytes()[:4096].decode("utf-8", "replace")
    except OSError:
        return None
    text = "".join(c for c in raw.partition("\0")[0] if c.isprintable()).strip()
    return text or None


def _number(path: Path, factor: int = 1) -> int | None:
    text = _text(path)
    return int(text) * factor if text and re.fullmatch(r"[0-9]{1,12}", text) else None


def _cpu_model(root: Path) -> str | None:
    """From ``/proc/cpuinfo``; ARM kernels name an implementer and a part instead of a model."""
    try:
        lines = (root / "proc/cpuinfo").read_text("utf-8", "replace").splitlines()
    except OSError:
        return None
    fields = dict(reversed([_field(line) for line in lines if ":" in line]))
    if "model name" in fields:
        return fields["model name"]
    if "CPU part" in fields:
        return f"implementer {fields.get('CPU implementer', '?')} part {fields['CPU part']}"
    return None


def _field(line: str) -> tuple[str, str]:
    key, _, value = line.partition(":")
    return key.strip(), value.strip()


def _usable_cpus() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _versions(names: Sequence[str]) -> Iterable[Version]:
    for name in names:
        try:
            yield Version(name, metadata.version(name))
        except metadata.PackageNotFoundError:
            continue


def _clocks(root: Path) -> Iterable[Clock]:
    folders = (root / "sys/devices/system/cpu").glob("cpu[0-9]*/cpufreq")
    for folder in sorted(folders, key=lambda f: int(f.parent.name[3:])):
        yield Clock(
            cpu=folder.parent.name,
            current_hz=_number(folder / "scaling_cur_freq", 1000),
            minimum_hz=_number(folder / "scaling_min_freq", 1000),
            maximum_hz=_number(folder / "scaling_max_freq", 1000),
            governor=_text(folder / "scaling_governor"),
        )


def _temperatures(root: Path) -> Iterable[Temperature]:
    for folder in sorted((root / "sys/class/thermal").glob("thermal_zone[0-9]*")):
        milli = _text(folder / "temp")
        if milli and re.fullmatch(r"-?[0-9]{1,7}", milli):
            yield Temperature(_text(folder / "type") or folder.name, int(milli) / 1000)


def _load(root: Path) -> float | None:
    words = (_text(root / "proc/loadavg") or "").split()
    return float(words[0]) if words and re.fullmatch(r"[0-9]+\.[0-9]+", words[0]) else None


def _throttled(root: Path) -> tuple[str, ...] | None:
    text = _text(root / "sys/devices/platform/soc/soc:firmware/get_throttled")
    if text is None or not re.fullmatch(r"(0x)?[0-9a-fA-F]{1,8}", text):
        return None
    bits = int(text, 16)
    return tuple(words for bit, words in THROTTLED_BITS.items() if bits >> bit & 1)


def _power_mode(which: Callable[[str], str | None] = shutil.which) -> str | None:
    """A Jetson's, as ``nvpmodel`` names it."""
    tool = which("nvpmodel")
    if tool is None:
        return None
    try:
        done = subprocess.run([tool, "-q"], capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.SubprocessError):
        return None
    named = re.search(r"Power Mode:\s*(\S+)", done.stdout)
    return named[1] if named else None

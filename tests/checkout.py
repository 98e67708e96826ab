"""A clean copy of the checkout, and wheels built from it.

Building in place leaves folders behind whose stale files end up in the next wheel.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def tracked_files() -> list[str]:
    """Files of the checkout, committed or new, that git does not ignore."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    return [name for name in listed.splitlines() if (ROOT / name).is_file()]


def copy_checkout(folder: Path) -> None:
    """Copy every file of the checkout that git does not ignore."""
    for name in tracked_files():
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, target)


def build_wheel(folder: Path) -> Path:
    """Build the wheel from a clean copy below `folder`."""
    source, output = folder / "source", folder / "wheel"
    copy_checkout(source)
    command = [sys.executable, "-P", "-m", "pip", "wheel", "-q", "--no-deps"]
    command += ["--no-build-isolation", "-w", str(output), str(source)]
    subprocess.run(command, check=True)
    (wheel,) = output.glob("*.whl")
    return wheel

"""Type-check the package as it is installed, and make sure that no module was left out.

Two of the packages live outside ``edgekit/`` in the checkout: a checker pointed at the checkout
skips them without a word. So the wheel is unpacked, checked as ``-p edgekit``, and counted.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from checkout import ROOT, build_wheel, tracked_files

FOLDERS = ("edgekit/", "quantize/", "targets/")


def main() -> int:
    """Run mypy on the unpacked wheel; 0 when it is clean and complete."""
    modules = [n for n in tracked_files() if n.startswith(FOLDERS) and n.endswith(".py")]
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        installed = folder / "installed"
        with zipfile.ZipFile(build_wheel(folder)) as archive:
            archive.extractall(installed)
        done = subprocess.run(
            [
                *(sys.executable, "-P", "-m", "mypy", "-p", "edgekit"),
                *("--config-file", str(ROOT / "pyproject.toml")),
                *("--cache-dir", os.devnull, "--no-namespace-packages"),
            ],
            cwd=installed,
            env={**os.environ, "MYPYPATH": str(installed)},
            capture_output=True,
            text=True,
            check=False,
        )
    sys.stdout.write(done.stdout + done.stderr)
    seen = re.search(r"(?:checked|in) (\d+) source files?", done.stdout)
    if done.returncode == 0 and (seen is None or int(seen[1]) != len(modules)):
        sys.stdout.write(f"the wheel has {seen and seen[1]} modules, the checkout {len(modules)}\n")
        return 1
    return done.returncode


if __name__ == "__main__":
    sys.exit(main())

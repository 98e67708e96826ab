"""Test the built wheel instead of the checkout: from another folder, without torch.

The development environment, which has torch, runs the whole suite on the checkout's sources. Here
the wheel goes into a fresh environment that has the product, the oracles and pytest, but no torch,
and the suite runs against it from a temporary folder, without the comparisons of arithmetic: what
they compare is the same code, and what could be missing from a wheel shows in the others.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from checkout import ROOT, build_wheel

COMPARISONS = (
    "test_reference_models.py",
    "test_networks.py",
    "test_grid.py",
    "formats",
    "program/lowering",
    "quantize/test_mlperf_tiny.py",
    "targets/arm_cpu/test_devices.py",
    "targets/test_coded.py",
    "targets/test_in_place.py",
    "targets/test_qemu.py",
    "targets/test_spiking_kernels.py",
    "targets/test_state_in_place.py",
    "targets/test_watchdog.py",
)
"""Tests and folders of them whose subject is arithmetic: the checkout has run them on the same
sources, for minutes, and what a wheel can lack the others need too."""

NO_TORCH = "import importlib.util as u, sys; sys.exit(u.find_spec('torch') is not None)"
FROM_WHEEL = "import edgekit, sys; sys.exit('site-packages' not in edgekit.__file__)"


def main() -> int:
    """Build, install, run; the exit code of the first step that fails."""
    with tempfile.TemporaryDirectory(prefix="edgekit-wheel-") as temporary:
        folder = Path(temporary)
        wheel = build_wheel(folder)
        environment = folder / "environment"
        venv.create(environment, with_pip=True)
        python = environment / "bin" / "python"
        install = ["-m", "pip", "install", "-q", "--disable-pip-version-check"]
        constraints = ["-c", str(ROOT / "constraints.txt"), f"{wheel}[test]"]
        pytest = ["-m", "pytest", "--import-mode=importlib", "-n", "2", "-q"]
        pytest += [f"--ignore={ROOT / 'tests' / name}" for name in COMPARISONS]
        data = os.environ.get("EDGEKIT_DATA", str(ROOT.parent / "shared" / "data"))
        steps = [
            [*install, *constraints],
            ["-c", NO_TORCH],
            ["-c", FROM_WHEEL],
            [*pytest, "-m", "not torch", "-p", "no:cacheprovider", str(ROOT / "tests")],
        ]
        for step in steps:
            done = subprocess.run(
                [python, "-P", *step],
                cwd=folder,
                env={**os.environ, "EDGEKIT_DATA": data},
                check=False,
            )
            if done.returncode != 0:
                return done.returncode
        tool = environment / "bin" / "edgekit"
        return subprocess.run([tool, "doctor"], cwd=folder, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())

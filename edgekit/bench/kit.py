"""What an artifact carries so that a board without edgekit can measure it."""

from __future__ import annotations

from pathlib import Path

LAUNCHER = '''\
"""What one inference costs on this machine; --help says more."""
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
from edgekit.bench.main import launch

launch(__file__)
'''
"""``ondevice/bench.py``: its own folder comes first, before any edgekit that is installed."""

PACKAGE = '"""The part of edgekit that runs on a board."""\n'
"""``ondevice/edgekit/__init__.py``: a package of its own, or an installed one would win."""

WITH_PREPROCESSING = ("errors.py", "data/preprocessing.py")
"""Modules that only a declared chain of pre-processing needs, from edgekit's folder."""


def kit_files(*, preprocessing: bool = False) -> dict[str, str]:
    """Files by their POSIX path in an artifact.

    Args:
        preprocessing: whether the artifact declares a chain.

    >>> sorted(kit_files())[:3]
    ['ondevice/bench.py', 'ondevice/edgekit/__init__.py', 'ondevice/edgekit/bench/__init__.py']
    """
    own = Path(__file__).resolve().parent
    files = {"ondevice/bench.py": LAUNCHER, "ondevice/edgekit/__init__.py": PACKAGE}
    for path in sorted(own.rglob("*.py")):
        inside = path.relative_to(own.parent).as_posix()
        files[f"ondevice/edgekit/{inside}"] = path.read_text("utf-8")
    if preprocessing:
        files["ondevice/edgekit/data/__init__.py"] = PACKAGE
        for name in WITH_PREPROCESSING:
            files[f"ondevice/edgekit/{name}"] = (own.parent / name).read_text("utf-8")
    return files

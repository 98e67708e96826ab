"""edgekit: deploy quantised networks to microcontrollers, exact to the bit.

>>> import edgekit
>>> sorted(edgekit.__all__)
['Artifact', 'EdgekitError', 'export', 'load']
"""

from typing import TYPE_CHECKING, Any

from edgekit.errors import EdgekitError

if TYPE_CHECKING:
    from edgekit.deploy.artifact import Artifact, load
    from edgekit.deploy.exporter import export

__all__ = ["Artifact", "EdgekitError", "export", "load"]

_LAZY = {
    "Artifact": "edgekit.deploy.artifact",
    "export": "edgekit.deploy.exporter",
    "load": "edgekit.deploy.artifact",
}
"""Where the public names live; loaded on first use, so that the command line starts fast."""


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(_LAZY[name]), name)
    globals()[name] = value
    return value

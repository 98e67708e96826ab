"""Where files lie that can be fetched or made again."""

from __future__ import annotations

import os
from pathlib import Path

from edgekit.errors import UsageError


def cache_folder() -> Path:
    """``EDGEKIT_CACHE``, else ``edgekit`` in the user's cache folder; it may not exist yet.

    The user's is ``XDG_CACHE_HOME``, else ``.cache`` at home. A relative ``XDG_CACHE_HOME`` is
    ignored, as the XDG Base Directory Specification demands: whoever wrote the working folder would
    choose what is found there.

    Raises:
        UsageError: there is no home.
    """
    chosen = os.environ.get("EDGEKIT_CACHE")
    if chosen:
        return Path(chosen)
    users = Path(os.environ.get("XDG_CACHE_HOME", ""))
    if not users.is_absolute():
        users = _home() / ".cache"
    return users / "edgekit"


def _home() -> Path:
    try:
        home = Path.home()
    except RuntimeError:
        home = Path()
    if not home.is_absolute():
        raise UsageError("there is no home folder to keep files in; set EDGEKIT_CACHE to a folder")
    return home

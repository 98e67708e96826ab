"""The folder of what can be fetched or made again."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgekit.data import DATASETS, cache_folder, load
from edgekit.errors import UsageError

VARIABLES = ("EDGEKIT_CACHE", "XDG_CACHE_HOME", "HOME")


@pytest.mark.parametrize(
    ("values", "wanted"),
    [
        (("/chosen", "/xdg", "/home/me"), "/chosen"),
        (("here", "/xdg", "/home/me"), "here"),
        (("", "/xdg", "/home/me"), "/xdg/edgekit"),
        (("", "", "/home/me"), "/home/me/.cache/edgekit"),
        (("", "relative", "/home/me"), "/home/me/.cache/edgekit"),
        (("", "./x", "/"), "/.cache/edgekit"),
    ],
)
def test_where_it_is(values: tuple[str, ...], wanted: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What users choose is taken as it is; what the system chooses must be absolute."""
    for name, value in zip(VARIABLES, values, strict=True):
        monkeypatch.setenv(name, value)
    assert cache_folder() == Path(wanted)


@pytest.mark.parametrize("home", ["relative", None])
def test_without_a_home(home: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """A usage error that says what to set."""
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    if home is not None:
        monkeypatch.setenv("HOME", home)
    else:

        def homeless() -> Path:
            raise RuntimeError("Could not determine home directory.")

        monkeypatch.setattr(Path, "home", homeless)
    with pytest.raises(UsageError, match="set EDGEKIT_CACHE"):
        cache_folder()
    name = next(name for name, known in DATASETS.items() if known.files)
    with pytest.raises(UsageError, match="set EDGEKIT_CACHE"):
        load(name)

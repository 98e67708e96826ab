"""Every example in a docstring of the installed packages runs.

By module name: two packages lie elsewhere in the checkout than their names say, and a collector
that goes by files would import them twice.
"""

from __future__ import annotations

import doctest
import importlib
import pkgutil
from typing import Any

import pytest

import edgekit.quantize
import edgekit.targets

PACKAGES = (edgekit, edgekit.quantize, edgekit.targets)
MODULES = sorted(
    {
        module.name
        for package in PACKAGES
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")
    }
)


def test_the_mapped_packages_are_there() -> None:
    """None of the three folders of the checkout was missed."""
    for name in ("edgekit.targets.c.emit", "edgekit.quantize.static", "edgekit.program.ir"):
        assert name in MODULES


TORCH = (
    "edgekit.model.capture",
    "edgekit.quantize.converted",
    "edgekit.quantize.training",
    "edgekit.spiking.imported",
    "edgekit.spiking.layers",
    "edgekit.zoo.",
)
"""Prefixes of modules that may import torch."""


def parameter(name: str) -> Any:
    """A module, marked where it needs torch."""
    marks = [pytest.mark.torch, pytest.mark.needs("torch", "safetensors", "snntorch")]
    return pytest.param(name, marks=marks if name.startswith(TORCH) else ())


@pytest.mark.parametrize("name", [parameter(name) for name in ("edgekit", *MODULES)])
def test_examples(name: str) -> None:
    """As printed."""
    results = doctest.testmod(importlib.import_module(name))
    assert results.failed == 0


def test_there_are_examples() -> None:
    """The collector finds some; otherwise the test above could not fail."""
    finder = doctest.DocTestFinder(exclude_empty=True)
    found = sum(
        len(test.examples)
        for name in MODULES
        if not name.startswith(TORCH)
        for test in finder.find(importlib.import_module(name))
    )
    assert found > 100

"""NIR files for tests: written past the package nir where it would refuse, and compared."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from edgekit.spiking.nir.container import read_tree
from edgekit.spiking.nir.tree import NirNode, NirTree


def write_raw(path: Path, nodes: Mapping[str, Any], edges: Any, **root: Any) -> Path:
    """A .nir file of exactly these groups and datasets, sense or not.

    Args:
        path: of the file.
        nodes: dictionaries of fields; one within another is a group, a callable is given the group
            and the name and writes what it likes.
        edges: pairs of names.
        root: further entries of the outermost graph; None leaves an entry out.
    """
    graph = {"type": "NIRGraph", "nodes": nodes, "edges": edges, **root}
    with h5py.File(path, "w") as file:
        file["version"] = "1.0.8"
        _fill(file.create_group("node"), graph)
    return path


def _fill(group: h5py.Group, values: Mapping[str, Any]) -> None:
    for name, value in values.items():
        if callable(value):
            value(group, name)
        elif isinstance(value, Mapping):
            _fill(group.create_group(name), value)
        elif value is not None:
            group.create_dataset(name, data=value)


def lif(count: int = 2, **changed: Any) -> dict[str, Any]:
    """A LIF node of beta 0.9 at 1e-4 s and gain 1, with fields changed or, if None, left out."""
    ones = np.ones(count)
    fields = {"tau": 1e-3 * ones, "r": 10 * ones, "v_leak": 0 * ones, "v_threshold": ones}
    return {"type": "LIF", **fields, "v_reset": 0 * ones, **changed}


def chain(middle: Mapping[str, Any], shape: Any = (2,), given: Any = (2,)) -> dict[str, Any]:
    """Input, one node called ``n``, Output: the arguments of :func:`write_raw`."""
    return {
        "nodes": {
            "input": {"type": "Input", "shape": np.array(shape)},
            "n": middle,
            "output": {"type": "Output", "shape": np.array(given)},
        },
        "edges": [("input", "n"), ("n", "output")],
    }


def assert_same_file(one: Path, other: Path) -> None:
    """Two files hold the same graphs: names, types, fields to the bit, edges, metadata."""
    _assert_same(read_tree(one), read_tree(other), ())


def _assert_same(one: NirTree | NirNode, other: NirTree | NirNode, path: tuple[str, ...]) -> None:
    assert type(one) is type(other), path
    assert dict(one.metadata) == dict(other.metadata), path
    if isinstance(one, NirTree):
        assert isinstance(other, NirTree)
        assert sorted(one.edges) == sorted(other.edges), path
        assert set(one.nodes) == set(other.nodes), path
        for name, node in one.nodes.items():
            _assert_same(node, other.nodes[name], (*path, name))
        return
    assert isinstance(other, NirNode)
    assert (one.type, set(one.fields)) == (other.type, set(other.fields)), path
    for name, value in one.fields.items():
        twin = other.fields[name]
        if isinstance(value, str) or isinstance(twin, str):
            assert value == twin, (*path, name)
            continue
        assert (value.dtype, value.shape) == (twin.dtype, twin.shape), (*path, name)
        assert value.tobytes() == twin.tobytes(), (*path, name)

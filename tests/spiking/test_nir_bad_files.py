"""NIR files that are none, or that mean harm: typed errors that say what and where."""

from __future__ import annotations

import builtins
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from edgekit.errors import (
    EdgekitError,
    InvalidModelError,
    ToolchainMissingError,
    UnsupportedError,
    UsageError,
)
from edgekit.spiking.graph import SpikingGraph
from edgekit.spiking.nir import read_nir, write_nir
from tests.support.nir_files import chain, lif, write_raw

W = {"type": "Linear", "weight": np.eye(2)}


def with_nodes(edges: list[tuple[str, str]], **nodes: Any) -> dict[str, Any]:
    graph = chain(lif())
    graph["nodes"].update(nodes)
    graph["edges"] += edges
    return graph


def external(group: h5py.Group, name: str) -> None:
    group.create_dataset(name, (2,), "f4", external=[("/etc/hostname", 0, 8)])


def huge(group: h5py.Group, name: str) -> None:
    group.create_dataset(name, (2**20, 2**20), "f4", chunks=(1024, 1024), compression="gzip")


def one_huge_chunk(group: h5py.Group, name: str) -> None:
    group.create_dataset(name, (2,), "f4", chunks=(2**29,), maxshape=(None,))


def soft(group: h5py.Group, name: str) -> None:
    group[name] = h5py.SoftLink("/node/nodes/n/r")


def ancestor(group: h5py.Group, name: str) -> None:
    group[name] = group.parent


def void(group: h5py.Group, name: str) -> None:
    group.create_dataset(name, data=np.zeros(2, [("a", "f4")]))


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "unknown type": (chain({"type": "LSTM"}), r"node 'n' is a 'LSTM'; supported: Affine, .*LIF"),
    "unknown field": (chain(lif(refractory=np.ones(2))), "has the field 'refractory'; known: tau"),
    "missing field": (chain(lif(tau=None)), "a LIF, lacks the field 'tau'"),
    "type is a number": (chain({"type": 3}), "node 'n': type must be text"),
    "NaN": (chain(lif(r=np.array([1, np.nan]))), r"node 'n': r at \[1\] is NaN"),
    "NaN in weights": (chain({**W, "weight": np.full((2, 2), np.nan)}), "weight at .* is NaN"),
    "infinite weights": (chain({**W, "weight": np.eye(2) * 1e39}), "weight is not finite"),
    "infinite threshold": (chain(lif(v_threshold=np.full(2, np.inf))), "v_threshold is not finite"),
    "negative time constant": (
        chain(lif(tau=np.array([1e-3, -1e-3]))),
        r"-0.001 at \[1\], must be",
    ),
    "step longer than tau": (
        chain(lif(tau=np.full(2, 1e-5))),
        r"node 'n', a LIF: the membrane: a step of 0.0001 s is longer .* decay -9 is outside",
    ),
    "other shapes": (chain(lif(r=np.ones(3))), "must have one shape"),
    "wrong population": (chain(lif(3)), r"states the shape \[3\], but \[2\] arrives"),
    "wrong weights": (chain({**W, "weight": np.eye(3)}), r"reads the shape \[2\], must be \[3\]"),
    "no matrix": (chain({**W, "weight": np.ones((2, 2, 2))}), r"the shape \[2, 2, 2\]; supported"),
    "wrong output": (chain(lif(), given=(7,)), r"'output', a Output, states the shape \[7\]"),
    "input of no size": (chain(lif(), shape=()), "shape"),
    "input of shape 0": (chain(lif(), shape=(0,)), "at least 1"),
    "no output": (
        {"nodes": {"input": {"type": "Input", "shape": np.array([2])}}, "edges": []},
        "no Output",
    ),
    "no nodes": ({"nodes": {}, "edges": []}, "no Input"),
    "nodes is a number": (
        {"nodes": {}, "edges": [], "type": "NIRGraph"} | {"nodes": None},
        "nodes",
    ),
    "unknown end": (with_nodes([("n", "ghost")]), "no node 'ghost'"),
    "edge twice": (with_nodes([("input", "n")]), "stands twice"),
    "edges of three": (chain(lif()) | {"edges": [("a", "b", "c")]}, "edges must be pairs"),
    "layers in a circle": (
        with_nodes([("n", "a"), ("a", "b"), ("b", "a")], a=W, b=W),
        "nothing keeps a state: a -> b -> a; a cycle must go through a neuron",
    ),
    "threshold in a circle": (
        with_nodes(
            [("n", "t"), ("t", "w"), ("w", "t")],
            w=W,
            t={"type": "Threshold", "threshold": np.ones(2)},
        ),
        "nothing keeps a state: t -> w -> t",
    ),
    "delay of itself": (
        with_nodes([("n", "d"), ("d", "d")], d={"type": "Delay", "delay": np.full(2, 1e-4)}),
        "'d' reads itself",
    ),
    "delay of half a step": (
        with_nodes([("n", "d")], d={"type": "Delay", "delay": np.full(2, 5e-5)}),
        r"Delay 'd' of \[0.5\] steps",
    ),
    "two inputs within": (
        chain(
            {
                "type": "NIRGraph",
                "nodes": {
                    "a": {"type": "Input", "shape": np.array([2])},
                    "b": {"type": "Input", "shape": np.array([2])},
                },
                "edges": np.zeros(0),
            }
        ),
        "'n' has 2 nodes Input",
    ),
    "flatten of some axes": (
        chain(
            {"type": "Flatten", "start_dim": 1, "end_dim": -1, "input_type": np.array([2, 3, 4])},
            (2, 3, 4),
            (2, 12),
        ),
        r"flattens the axes 1 to -1 of \[2, 3, 4\]",
    ),
    "padding": (
        chain(
            {
                "type": "Conv1d",
                "weight": np.ones((1, 2, 3)),
                "bias": np.ones(1),
                "stride": 1,
                "padding": "reflect",
                "dilation": 1,
                "groups": 1,
            },
            (2, 9),
            (1, 7),
        ),
        "padding is 'reflect'",
    ),
    "external storage": (chain(lif(r=external)), "keeps its values in another file"),
    "soft link": (chain(lif(tau=soft)), "'tau' is a link to somewhere else"),
    "a terabyte of zeros": (chain({"type": "Linear", "weight": huge}), "numbers in the file"),
    "a chunk of gigabytes": (chain(lif(r=one_huge_chunk)), "pieces of a size"),
    "structures": (chain(lif(r=void)), "must be numbers"),
    "text for numbers": (chain(lif(r="ten")), "must be numbers"),
    "name with a line break": (with_nodes([], **{"a\nb": W}), "printable"),
    "long name": (with_nodes([], **{"n" * 300: W}), "1 to 256 printable"),
    "endless depth": (
        chain({"type": "NIRGraph", "edges": np.zeros(0), "nodes": ancestor}),
        "graphs|must be|lacks",
    ),
    "metadata of another reset": (
        chain(lif(metadata={"edgekit_reset": "softly"})),
        "edgekit_reset must be one of zero, zero-next, subtract",
    ),
    "metadata of no step": (
        chain(lif()) | {"metadata": {"edgekit_dt_seconds": -1.0}},
        "edgekit_dt_seconds must be a positive",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_file_is_refused_by_name(name: str, tmp_path: Path) -> None:
    graph, message = BAD[name]
    path = write_raw(tmp_path / "bad.nir", **graph)
    with pytest.raises((InvalidModelError, UnsupportedError), match=message) as caught:
        read_nir(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "does not begin as HDF5"),
        (b"PK\x03\x04" + bytes(100), "does not begin as HDF5"),
        (b"\x89HDF\r\n\x1a\n", "8 bytes"),
        (b"\x89HDF\r\n\x1a\n\0\0\0\0\0\x08\x08" + bytes(200), "no HDF5, or it is truncated"),
    ],
)
def test_what_is_no_hdf5(content: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "bad.nir"
    path.write_bytes(content)
    with pytest.raises(InvalidModelError, match=message):
        read_nir(path)


def test_places_that_cannot_be_read(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "missing.nir"):
        with pytest.raises(InvalidModelError, match="cannot be read"):
            read_nir(path)
    empty = tmp_path / "hdf5.nir"
    with h5py.File(empty, "w"):
        pass
    with pytest.raises(InvalidModelError, match="lacks the group 'node'"):
        read_nir(empty)


@pytest.mark.parametrize(
    "arguments",
    [{"dt": 0}, {"dt": float("nan")}, {"reset": "soft"}, {"method": "rk4"}, {"convention": "lava"}],
)
def test_arguments_that_are_none(arguments: dict[str, Any], tmp_path: Path) -> None:
    path = write_raw(tmp_path / "n.nir", **chain(lif()))
    with pytest.raises(UsageError, match=f"{next(iter(arguments))} is .*must be"):
        read_nir(path, **arguments)


def test_without_the_package_both_ways_name_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_raw(tmp_path / "n.nir", **chain(lif()))
    graph = read_nir(path)
    real = builtins.__import__

    def without(name: str, *args: Any, **kwargs: Any) -> Any:
        if name in ("nir", "h5py"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    actions: list[Callable[[], Any]] = [
        lambda: read_nir(path),
        lambda: write_nir(graph, tmp_path / "out.nir"),
    ]
    for action in actions:
        with pytest.raises(ToolchainMissingError, match=r"pip install 'edgekit\[nir\]'"):
            action()
    assert not (tmp_path / "out.nir").exists()


def damaged(data: bytes, seed: int) -> bytes:
    """A file with bytes changed, copied, or cut off."""
    rng = random.Random(seed)
    changed = bytearray(data)
    kind = rng.randrange(4)
    if kind == 0:
        return bytes(changed[: rng.randrange(len(changed))])
    for _ in range(rng.choice((1, 4, 32))):
        place = rng.randrange(len(changed) - 8)
        if kind == 1:
            changed[place] = rng.randrange(256)
        elif kind == 2:
            changed[place : place + 8] = rng.choice(
                (b"\xff" * 8, bytes(8), b"\xff\xff\xff\x7f" * 2)
            )
        else:
            other = rng.randrange(len(changed) - 64)
            length = rng.randrange(1, 64)
            changed[place : place + length] = changed[other : other + length]
    return bytes(changed[: len(data)])


def test_damaged_files_are_read_or_refused(tmp_path: Path) -> None:
    graph = with_nodes([("n", "w"), ("w", "n")], w=W)
    graph["metadata"] = {"who": "a test"}
    data = write_raw(tmp_path / "good.nir", **graph).read_bytes()
    path = tmp_path / "bad.nir"
    outcomes = {"read": 0, "refused": 0}
    for seed in range(300):
        path.write_bytes(damaged(data, seed))
        try:
            assert isinstance(read_nir(path), SpikingGraph)
            outcomes["read"] += 1
        except EdgekitError as error:
            assert isinstance(error, InvalidModelError | UnsupportedError), (seed, error)
            outcomes["refused"] += 1
    assert min(outcomes.values()) > 30, outcomes


def test_a_text_that_hdf5_never_returns_from(tmp_path: Path) -> None:
    """A free object of size 0 in the heap of texts, and a text of gigabytes."""
    data = write_raw(tmp_path / "good.nir", **chain(lif())).read_bytes()
    heap = data.index(b"GCOL")
    path = tmp_path / "bad.nir"
    path.write_bytes(data[: heap + 16] + bytes(16) + data[heap + 32 :])
    with pytest.raises(InvalidModelError, match="is damaged: a text at byte"):
        read_nir(path)
    reference = heap.to_bytes(8, "little")
    places = [place for place in range(4, len(data)) if data[place : place + 8] == reference]
    refused = 0
    for place in places:
        path.write_bytes(data[: place - 4] + b"\xff\xff\xff\x7f" + data[place:])
        try:
            read_nir(path)
        except InvalidModelError:
            refused += 1
    # The version of the writer is a text that nobody asks for.
    assert refused == len(places) - 1 > 5

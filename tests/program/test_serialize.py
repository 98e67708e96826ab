"""Programs on disk: every type round-trips, nothing else is accepted."""

from __future__ import annotations

import importlib
import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgekit.errors import InvalidModelError
from edgekit.program import serialize
from edgekit.program.ir import Program
from tests.support.programs import recurrent_network, residual_network

CASES = Path(__file__).resolve().parents[1] / "cases"
MODULES = sorted(p.stem for p in CASES.glob("*.py") if p.stem not in ("__init__", "case"))


def assert_equal(one: Program, two: Program) -> None:
    """Structure, fields and constants."""
    assert one.operations == two.operations
    assert (one.name, one.inputs, one.outputs, one.state) == (
        two.name,
        two.inputs,
        two.outputs,
        two.state,
    )
    assert list(one.tensors) == list(two.tensors)
    for name, tensor in one.tensors.items():
        other = two.tensors[name]
        assert (tensor.type, tensor.quantization) == (other.type, other.quantization)
        assert (tensor.data is None) == (other.data is None)
        if tensor.data is not None:
            assert tensor.data.tobytes() == other.data.tobytes()


@pytest.mark.parametrize("make", [residual_network, recurrent_network])
def test_networks_round_trip(make: Any, tmp_path: Path) -> None:
    """Through files, with names that need escaping, state and permutations."""
    program = make()
    serialize.save(program, tmp_path)
    assert_equal(program, serialize.read(tmp_path))


@pytest.mark.parametrize("name", MODULES)
def test_every_operator_round_trips(name: str) -> None:
    """Every case of the grid, so every field of every operator."""
    for case in importlib.import_module(f"tests.cases.{name}").cases():
        assert_equal(case.program, serialize.load(*serialize.dump(case.program)))


def _paths(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    found = [path] if path else []
    if isinstance(value, dict | list):
        items = value.items() if isinstance(value, dict) else enumerate(value)
        for key, inner in items:
            found += _paths(inner, (*path, key))
    return found


DOCUMENT, BLOB = serialize.dump(residual_network())
PATHS = _paths(json.loads(DOCUMENT))
JUNK = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(allow_nan=False),
    st.text(max_size=5),
    st.lists(st.integers(-3, 3), max_size=3),
    st.dictionaries(st.text(max_size=3), st.integers(), max_size=2),
)


@given(path=st.sampled_from(PATHS), junk=JUNK)
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_a_changed_document_is_refused_or_valid(path: tuple[Any, ...], junk: Any) -> None:
    """Any value anywhere: a typed error or a Program, never another exception."""
    document = json.loads(DOCUMENT)
    place = document
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = junk
    try:
        serialize.load(json.dumps(document), BLOB)
    except InvalidModelError:
        return


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "null", '{"schema": 2}', '{"schema": 1}', "[" * 5000]
)
def test_no_program(text: str) -> None:
    """Not JSON, another schema, nothing in it, nested without end."""
    with pytest.raises(InvalidModelError):
        serialize.load(text, b"")


@pytest.mark.parametrize("number", ["1e400", "NaN", "-Infinity", "9" * 400, "9" * 5000])
def test_numbers_out_of_range(number: str) -> None:
    """As a scale and as a shape: refused, whatever Python's parser makes of them."""
    for pattern in (r'"scale": \[\s*[0-9.]+', r'"source_shape": \[\s*[0-9]+'):
        changed, count = re.subn(
            pattern, lambda m: m[0].rsplit("\n", 1)[0] + number, DOCUMENT, count=1
        )
        assert count == 1
        with pytest.raises(InvalidModelError):
            serialize.load(changed, BLOB)


def test_a_cut_blob_is_refused() -> None:
    """A constant must lie inside the blob."""
    with pytest.raises(InvalidModelError, match="inside the blob"):
        serialize.load(DOCUMENT, BLOB[:-1])


def test_missing_files(tmp_path: Path) -> None:
    """Named."""
    with pytest.raises(InvalidModelError, match=r"program\.json"):
        serialize.read(tmp_path)

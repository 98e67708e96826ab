"""Reports come back as they were written, and nothing else comes back."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekit.bench.fields import ReportError, parse
from edgekit.bench.report import (
    Report,
    SchemaVersionError,
    as_text,
    read_report,
    write_text,
)
from tests.support.reports import BASELINE, REPORT, report_with

Document = dict[str, Any]


def test_round_trip(tmp_path: Path) -> None:
    """Every field of every class, through a file in a folder that is made."""
    path = tmp_path / "runs" / "today" / "net.json"
    write_text(path, as_text(REPORT))
    assert read_report(path) == REPORT
    assert [p.name for p in path.parent.iterdir()] == ["net.json"]


def test_names_that_are_not_utf8(tmp_path: Path) -> None:
    """As Python hands over a file name of other bytes: escaped, in reports and in pages."""
    name = b"net\xff.npz".decode("utf-8", "surrogateescape")
    path = tmp_path / "net.json"
    write_text(path, as_text(replace(REPORT, command=f"edgekit bench {name}")))
    assert read_report(path).command == r"edgekit bench net\udcff.npz"
    write_text(path, name)
    assert path.read_text("utf-8") == r"net\udcff.npz"


def test_a_failed_write_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whole or not at all."""
    path = tmp_path / "net.json"
    write_text(path, "old")

    def full(source: str, target: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    with pytest.raises(OSError, match="No space"):
        write_text(path, "new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_subject_is_the_deployed_network() -> None:
    """Baselines are not."""
    assert REPORT.subject.backend == "c"
    with pytest.raises(LookupError, match="no run of the deployed network"):
        _ = report_with(BASELINE).subject


def _set(*path: Any) -> Callable[[Document], None]:
    """Put the last element at the place that the others lead to."""

    def change(document: Any) -> None:
        *way, key, value = path
        for step in way:
            document = document[step]
        document[key] = value

    return change


HOSTILE: list[tuple[Callable[[Document], Any], str]] = [
    (_set("edgekit", 1), "report.edgekit is 1, must be a text"),
    (_set("runs", {}), "report.runs is dict, must be a list"),
    (_set("runs", 0, "role", "hero"), r"runs\[0\].role is 'hero', must be one of subject, base"),
    (_set("runs", 0, "role", ["subject"]), "role is list"),
    (_set("runs", 0, "macs", -1), r"runs\[0\].macs is -1, must be a whole number in 0"),
    (_set("runs", 0, "macs", 1.5), "macs is 1.5, must be a whole number"),
    (_set("runs", 0, "macs", True), "macs is True"),
    (_set("runs", 0, "macs", 10**400), "macs is a huge number"),
    (_set("runs", 0, "cycles", float("nan")), "cycles is nan, must be a number"),
    (_set("runs", 0, "cycles", float("inf")), "cycles is inf"),
    (_set("runs", 0, "latency_ms", "p50", None), "latency_ms.p50 is None"),
    (_set("runs", 0, "latency_ms", "samples", 0, "fast"), r"samples\[0\] is 'fast'"),
    (_set("runs", 0, "latency_ms", "provenance", "guessed"), "must be one of measured, modelled"),
    (_set("runs", 0, "protocol", "iterations", 0), "protocol: iterations is 0"),
    (_set("runs", 0, "accuracy", "value", 1.1), "accuracy.value is 1.1"),
    (_set("runs", 0, "agreement", "mismatches", 21), "more differences than there are"),
    (_set("memory", "blocks", 0, "last_layer", None), "both a first and a last layer"),
    (_set("memory", "blocks", 0, "first_layer", 7), "run backwards"),
    (_set("memory", "blocks", 0, "kind", "heap"), "must be one of activation"),
    (_set("runs", 2, "causes", "issue", 1.0), r"runs\[2\]: the causes add up to"),
    (_set("runs", 2, "causes", "load", -1.0), "causes.load is -1.0, must be a number in 0"),
    (_set("runs", 2, "layers", 0, "cycles", 1.0), r"layers\[0\]: the causes add up to"),
    (_set("runs", 2, "cycle_model", "error", "cases", 0), "error: an error that no case showed"),
    (_set("runs", 2, "cycle_model", "version", None), "cycle_model.version is None"),
    (_set("runs", 2, "energy_uj", "source", None), "energy_uj: an energy that nothing measured"),
    (_set("runs", 2, "energy_uj", "high_uj", 1.0), "energy_uj: 213.11 uJ lie outside"),
    (_set("created", "yesterday"), "created is 'yesterday', must be UTC"),
    (_set("created", "2026-01-31T12:00:00Z\n"), "created is .*, must be UTC in ISO"),
    (_set("surprise", 1), "fields unknown 'surprise'"),
    (lambda d: d.pop("runs"), "fields missing runs"),
    (lambda d: d["environment"].pop("cpus"), "report.environment: fields missing cpus"),
]


@pytest.mark.parametrize(("change", "words"), HOSTILE)
def test_hostile_reports(change: Callable[[Document], Any], words: str) -> None:
    """One message that says where, and what would be right."""
    document = copy.deepcopy(REPORT.to_json())
    change(document)
    with pytest.raises(ReportError, match=words):
        Report.from_json(document)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (_set("artifact", "name", "a\ud800"), "artifact.name is .*must be a text"),
        (_set("runs", 0, "cycles", (1 << 53) + 1), "cycles is a huge number, must be a number"),
    ],
)
def test_what_would_come_back_otherwise(change: Callable[[Document], Any], words: str) -> None:
    """Text that no file can hold, and whole numbers that a float rounds; no schema can say it."""
    document = copy.deepcopy(REPORT.to_json())
    change(document)
    with pytest.raises(ReportError, match=words):
        Report.from_json(document)


@pytest.mark.parametrize("schema", [0, 1, 2, "3", None, True, 1.5])
def test_another_version(schema: Any) -> None:
    """Told before any field is looked at."""
    with pytest.raises(SchemaVersionError, match="this edgekit reads 3; make the report again"):
        Report.from_json({"schema": schema})


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "1", "null", "[" * 100_000, '{"schema": ' + "9" * 5000 + "}", "\0"]
)
def test_not_even_reports(tmp_path: Path, text: str) -> None:
    """No traceback, whatever the bytes."""
    path = tmp_path / "r.json"
    path.write_text(text)
    with pytest.raises(ReportError):
        read_report(path)


def test_missing_and_binary_files(tmp_path: Path) -> None:
    """The file is named."""
    with pytest.raises(ReportError, match=r"gone\.json: No such file"):
        read_report(tmp_path / "gone.json")
    (tmp_path / "b.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ReportError, match=r"b\.json is not JSON"):
        read_report(tmp_path / "b.json")


_ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=5,
)


def _places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Where something stands in a document."""
    items: list[tuple[Any, Any]] = []
    if isinstance(value, dict):
        items = list(value.items())
    elif isinstance(value, list):
        items = list(enumerate(value))
    return [p for key, inner in items for p in ((*path, key), *_places(inner, (*path, key)))]


PLACES = _places(REPORT.to_json())


@given(st.sampled_from(PLACES), _ANYTHING)
def test_anything_anywhere(place: tuple[Any, ...], value: Any) -> None:
    """Refused with the one error, or a report that says exactly what the document says."""
    document = json.loads(as_text(REPORT))
    _set(*place, value)(document)
    try:
        report = Report.from_json(document)
    except ReportError:
        return
    assert json.loads(as_text(report)) == document


def test_a_huge_file_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before it is parsed."""
    monkeypatch.setattr("edgekit.bench.fields.MAX_BYTES", 10)
    with pytest.raises(ReportError, match="more than 10"):
        parse("[" + " " * 20 + "]", "it")

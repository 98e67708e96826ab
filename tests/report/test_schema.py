"""The committed JSON Schema, the dataclasses and the reader agree."""

from __future__ import annotations

import copy
import json
from typing import Any

import jsonschema
import pytest

from edgekit.bench.fields import ReportError
from edgekit.bench.report import Report, as_text
from edgekit.report.schema import FILE, report_schema
from tests.bench.test_report import HOSTILE
from tests.support.reports import REPORT

VALIDATOR = jsonschema.Draft202012Validator(report_schema())


def test_committed_schema_is_in_step() -> None:
    """Written from the dataclasses; to renew it write `report_schema()` into the file."""
    assert json.loads(FILE.read_text("utf-8")) == report_schema()


def test_schema_is_one() -> None:
    """And takes a complete report."""
    jsonschema.Draft202012Validator.check_schema(report_schema())
    VALIDATOR.validate(json.loads(as_text(REPORT)))


def test_every_attribute_is_described() -> None:
    """Classes that document their attributes document all of them."""
    for name, definition in report_schema()["$defs"].items():
        described = ["description" in p for p in definition["properties"].values()]
        assert all(described) or not any(described), name


def _objects(value: Any) -> list[dict[str, Any]]:
    """Every object of a document."""
    if isinstance(value, dict):
        return [value, *(o for inner in value.values() for o in _objects(inner))]
    return [o for inner in value for o in _objects(inner)] if isinstance(value, list) else []


@pytest.mark.parametrize("number", range(len(_objects(REPORT.to_json()))))
def test_unknown_and_missing_fields_are_refused_everywhere(number: int) -> None:
    """By the schema and by the reader, in every object."""
    for change in ("add", "remove"):
        document = copy.deepcopy(REPORT.to_json())
        target = _objects(document)[number]
        if change == "add":
            target["surprise"] = 1
        else:
            target.pop(next(iter(target)))
        assert not VALIDATOR.is_valid(document)
        with pytest.raises(ReportError):
            Report.from_json(document)


BEYOND_A_SCHEMA = (
    "more differences",
    "both a first",
    "run backwards",
    "iterations is 0",
    "cycles is nan",
    "must be UTC in ISO",
    "artifact.name is",
    "cycles is a huge",
    "the causes add up",
    "that no case showed",
    "that nothing measured",
    "lie outside",
)
"""What only the reader sees: fields that contradict each other, sums that do not add up, numbers
that JSON lacks or that no float holds, the newline that Python's ``$`` lets pass, and half a
character."""


@pytest.mark.parametrize(
    "change", [c for c, words in HOSTILE if not any(part in words for part in BEYOND_A_SCHEMA)]
)
def test_the_schema_refuses_what_the_reader_refuses(change: Any) -> None:
    """The same hostile reports."""
    document = copy.deepcopy(REPORT.to_json())
    change(document)
    assert not VALIDATOR.is_valid(document)

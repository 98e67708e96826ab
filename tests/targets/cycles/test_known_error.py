"""The error that reports print is that of the results file, which is whole and of this model."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from edgekit.targets.cycles.costs import MODEL_VERSION
from edgekit.targets.cycles.described import cycle_model, in_order_model
from edgekit.targets.cycles.known_error import KNOWN_ERRORS
from edgekit.targets.target import of_board, target
from tests.support.scripts import script

cycles: Any = script("cycles")
published: Any = script("published")

RESULTS = Path(__file__).resolve().parents[3] / "results" / "cycles.json"
DOCUMENT = json.loads(RESULTS.read_text(encoding="utf-8"))
ROWS = DOCUMENT["rows"]
COLUMNS = {"kind", "case", "core", "board", "unit", "modelled", "expected", "source", "error"}


def test_known_errors_are_those_of_the_results() -> None:
    """Lowest and highest error, cases and boards by core, to the last digit."""
    assert cycles.known_errors(ROWS) == KNOWN_ERRORS
    assert KNOWN_ERRORS


def test_an_error_holds_where_it_was_seen() -> None:
    """Not behind other memories of the same core, nor on another board of the same name."""
    board = target("nucleo-l4r5zi")
    assert board.board is not None
    other = of_board(replace(board.board, clock_hz=16_000_000, power=None))
    boards = {"nucleo-l4r5zi": True, "nrf52840-dk": False, "cortex-m4": False, "rp2350": False}
    for name, holds in boards.items():
        where = target(name)
        model = in_order_model(where, "flash")
        assert model.version == MODEL_VERSION
        assert model.error == KNOWN_ERRORS[where.cortex.name]
        assert (model.error_holds, model.bound) == (holds, model.error if holds else None)
    assert not in_order_model(other, "flash").error_holds
    assert in_order_model(target("cortex-m3"), "flash").error is None
    assert cycle_model("cortex-a72", what="", memory="").error is None


def test_results_are_of_this_model() -> None:
    """A new version of the model means new results."""
    assert DOCUMENT["model_version"] == MODEL_VERSION


def test_rows_are_whole() -> None:
    """Every kind is there, every column is filled, the error follows from the figures."""
    assert {row["kind"] for row in ROWS} == {"micro-kernel", "flash", "published"}
    for row in ROWS:
        assert set(row) >= COLUMNS
        assert row["source"]
        if isinstance(row["expected"], list):
            low, high = row["expected"]
            assert row["error"] is None and low <= row["modelled"] <= high
        else:
            assert row["error"] == pytest.approx(row["modelled"] / row["expected"] - 1, abs=1e-4)
    of_others = {row["case"]: row for row in ROWS if row["kind"] == "published"}
    assert set(of_others) == {case.case for case in published.PUBLISHED}
    for case in published.PUBLISHED:
        assert of_others[case.case]["outputs_equal"] == (1 if case.exact else None)


def test_micro_kernels_in_the_results() -> None:
    """The file says what is demanded: exact, but for the M7 and for flash."""
    for row in ROWS:
        if row["kind"] == "micro-kernel" and row["core"] != "cortex-m7":
            assert not row["error"], row
        elif row["kind"] in ("micro-kernel", "flash"):
            assert abs(row["error"] or 0) <= 0.1, row


def test_rows_are_not_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without images, the script names the missing cases and leaves a whole file alone."""
    output = tmp_path / "cycles.json"
    output.write_text(RESULTS.read_text(encoding="utf-8"), encoding="utf-8")
    monkeypatch.setattr("sys.argv", ["cycles.py", "--output", str(output)])
    assert cycles.main() == 1
    words = capsys.readouterr().err
    assert all(case.case in words for case in published.PUBLISHED)
    assert "stays as it is" in words
    assert output.read_text(encoding="utf-8") == RESULTS.read_text(encoding="utf-8")


def test_images_that_are_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A folder without an image is refused by name, and nothing is written."""
    output = tmp_path / "cycles.json"
    monkeypatch.setattr(
        "sys.argv", ["cycles.py", "--images", str(tmp_path), "--output", str(output)]
    )
    assert cycles.main() == 1
    assert published.PUBLISHED[0].case in capsys.readouterr().err
    assert not output.exists()

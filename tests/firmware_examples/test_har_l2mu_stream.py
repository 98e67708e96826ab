"""The streaming example, used as its README says, on a small network with random weights."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import edgekit
from edgekit.data import Clip, Dataset, Preprocessing, Standardize, load
from edgekit.data.readers.wisdm import ACTIVITIES
from edgekit.deploy.frontend import frontend
from edgekit.errors import InvalidDataError, UsageError, VerificationError
from edgekit.program.interpret import Interpreter
from edgekit.targets.cores import CORES
from edgekit.targets.target import target
from tests.conftest import ROOT
from tests.support.spiking_graphs import l2mu_graph
from tests.support.stream_example import EXAMPLE, Workshop, recording, records, stream

Array = NDArray[Any]

BOARDS = {"mps2-an386": "cortex-m4", "mps3-an547": "cortex-m55"}
"""And the cores on them."""

CLASSES = tuple(ACTIVITIES.values())

GAP = re.compile(r"s  gap: samples missing (\d+), dropped of the unfinished window (\d+)$", re.M)

SECONDS, STEPS = 12, 40
"""Of each activity in the recording, and samples of a window."""


def builds(test: Any) -> Any:
    """Marks of everything that needs images."""
    needs = pytest.mark.needs("torch", "cc", "arm-none-eabi-gcc", "qemu-system-arm")
    return pytest.mark.torch(needs(test))


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory, data_folder: Path) -> Workshop:
    """Images fed with the recording of one person.

    The Cortex-M4's is made by commands alone; the other's artifact is exported here, which saves
    another start of everything.
    """
    path = data_folder / "har" / "wisdm_watch7_w40.npz"
    made = Workshop(tmp_path_factory.mktemp("stream"), load("wisdm-watch", path=path))
    run, train = made.folder / "run", made.data.x[made.data.train]
    run.mkdir()
    preprocessing = Preprocessing((Standardize.fitted(train), Clip(-8.0, 8.0)), made.data.window)
    (run / "preprocessing.json").write_text(preprocessing.to_json(), encoding="utf-8")
    some = preprocessing.apply(train[:: len(train) // 8]).transpose(0, 2, 1)
    np.savez(run / "calibration.npz", x=some)
    shutil.copy(ROOT / "tests" / "support" / "spiking_graphs.py", made.folder / "small.py")
    made.make("recording", f"DATA={path}", f"SECONDS={SECONDS}")
    text = made.make("check")
    assert re.search(r"^identical +all, class and scores$", text, re.MULTILINE)
    other = "mps3-an547"
    edgekit.export(
        l2mu_graph(),
        target=other,
        precision="int8",
        calibration=run / "calibration.npz",
        preprocessing=run / "preprocessing.json",
        name="har_l2mu",
        output=made.artifact(other),
    )
    made.output(other).write_text(made.make("-s", "run", f"BOARD={other}"), encoding="utf-8")
    return made


def test_it_names_the_activities() -> None:
    """In the order of the labels."""
    text = (EXAMPLE / "main.c").read_text("utf-8")
    (names,) = re.findall(r"activities\[\] = \{(.*?)\};", text, re.DOTALL)
    assert tuple(re.findall(r'"(\w+)"', names)) == CLASSES


@pytest.mark.parametrize("board", BOARDS)
def test_boards_are_edgekits(board: str) -> None:
    """Compiled as edgekit compiles for the core, at the addresses of QEMU's board."""
    core = CORES[BOARDS[board]]
    assert core.qemu is not None
    assert core.qemu.machine == board
    make = (EXAMPLE / f"boards/{board}.mk").read_text("utf-8")
    values = dict(re.findall(r"^(\w+) := (.*)$", make, re.MULTILINE))
    assert target(values["TARGET"]).cortex is core
    assert sorted(values["CORE"].split()) == sorted(core.gcc_flags())
    script = (EXAMPLE / f"boards/{board}.ld").read_text()
    origins = {int(text, 16) for text in re.findall(r"ORIGIN = (\w+)", script)}
    assert origins == {memory.origin for memory in core.qemu.memories[:2]}


@builds
@pytest.mark.parametrize("board", BOARDS)
class TestImages:
    """What a board's image says of the recording."""

    def test_every_window_is_the_hosts(self, workshop: Workshop, board: str) -> None:
        """By the interpreter on the data set's windows, which nothing of the example has seen."""
        text = workshop.output(board).read_text("utf-8")
        names, scores = recording.image_windows(text)
        x, y = expected(workshop.data)
        assert len(names) == len(x) == 7 * SECONDS // 2
        assert len(set(names)) > 1
        artifact = edgekit.load(workshop.artifact(board))
        before = frontend(artifact.program, artifact.preprocessing)
        assert before is not None
        first, network = Interpreter(before), Interpreter(artifact.program)
        for number in range(0, len(x), 4):
            codes = [first.run({"raw": sample[None]})["samples"] for sample in x[number].T]
            got = network.run_sequence({"samples": np.stack(codes)})["scores"][-1, 0]
            assert scores[number].tolist() == got.tolist()
            assert names[number] == CLASSES[got.argmax()]
        right = round(float(np.mean([CLASSES.index(name) for name in names] == y)), 4)
        facts = workshop.check(board)
        assert (facts["accuracy_image"], facts["accuracy_host"]) == (right, right)
        assert facts["windows"] == len(x)
        for name in CLASSES:
            assert re.search(rf"^ +{names.count(name)} {name}$", text, re.MULTILINE)

    def test_once_a_second(self, workshop: Workshop, board: str) -> None:
        """A line each, every other one a decision; gaps where the activity changes."""
        text = workshop.output(board).read_text("utf-8")
        spoken = [line for line in text.splitlines() if " s  " in line and " gap" not in line]
        matches = [re.match(r" *([\d.]+) s  [a-z]+ *(window)?", line) for line in spoken]
        assert [match and (float(match[1]), match[2]) for match in matches] == [
            (activity * (SECONDS + recording.PAUSE_S) + second, None if second % 2 else "window")
            for activity in range(len(CLASSES))
            for second in range(1, SECONDS + 1)
        ]
        assert GAP.findall(text) == [("20", "0")] * 6


def expected(data: Dataset) -> tuple[Array, Array]:
    """The windows of the first person of the test part, as the recording should have them."""
    subject = data.groups[data.test[0]]  # type: ignore[index]
    found = np.concatenate(
        [
            np.flatnonzero((data.groups == subject) & (data.y == label))[: SECONDS // 2]
            for label in range(len(data.classes))
        ]
    )
    return data.x[found], data.y[found]


def decided(text: str) -> list[list[int]]:
    """Scores of every window in an image's output."""
    found: list[list[int]] = recording.image_windows(text)[1].tolist()
    return found


@builds
class TestStreams:
    """What an image does with streams that are not as they should be."""

    def test_a_gap_drops_the_window(self, workshop: Workshop) -> None:
        """And a new one begins behind it, as if nothing had been before."""
        whole = records(125)
        status, text = workshop.fed(stream(whole[40:]))
        assert status == 0
        want = decided(text)
        assert len(want) == 2
        assert re.search(r"^ +5 samples of an unfinished window$", text, re.MULTILINE)
        torn = np.concatenate([whole[:33], whole[40:]])
        status, text = workshop.fed(stream(torn))
        assert status == 0
        assert GAP.findall(text) == [("7", "33")]
        assert decided(text) == want
        assert decided(workshop.fed(stream(whole))[1]) != want

    def test_the_counter_wraps_around(self, workshop: Workshop) -> None:
        status, text = workshop.fed(stream(records(80, first=2**32 - 50)))
        assert status == 0
        assert GAP.findall(text) == []
        assert decided(text) == decided(workshop.fed(stream(records(80)))[1])

    @pytest.mark.parametrize(
        ("change", "status", "words"),
        [
            ({"samples": 46}, 4, "cut off"),
            ({"samples": 2**32 - 1}, 4, "cut off"),
            ({"samples": 44}, 6, "longer than its header says"),
            ({"samples": 0}, 3, "no recording"),
            ({"magic": 0}, 3, "no recording"),
            ({"channels": 3}, 3, "no recording"),
            ({"millihertz": 50_000}, 3, "no recording"),
            ({"scale": [1, 1, 1, 1, 1, np.nan]}, 3, "no recording"),
            ({"scale": np.inf}, 3, "no recording"),
            ({"scale": [1, 0, 1, 1, 1, 1]}, 3, "no recording"),
        ],
        ids=str,
    )
    def test_headers_that_lie(
        self, workshop: Workshop, change: dict[str, Any], status: int, words: str
    ) -> None:
        """End the run; windows up to there were decided."""
        got, text = workshop.fed(stream(records(45), **change))
        assert got == status
        assert re.search(rf"^recording {words}", text, re.MULTILINE)
        assert re.search(rf"^ +{int(status != 3)} windows$", text, re.MULTILINE)

    @pytest.mark.parametrize(
        ("data", "status", "windows"),
        [
            (None, 2, 0),
            (b"", 4, 0),
            (stream(records(45))[:39], 4, 0),
            (stream(records(45))[:-1], 4, 1),
            (stream(records(45)) + b"x", 6, 1),
            (stream(records(45)[[*range(42), 41, 42]]), 5, 1),
            (stream(records(45)[::-1]), 5, 0),
        ],
        ids=["none", "empty", "header", "sample", "surplus", "twice", "backwards"],
    )
    def test_streams_that_break(
        self, workshop: Workshop, data: bytes | None, status: int, windows: int
    ) -> None:
        got, text = workshop.fed(data)
        assert got == status
        assert re.search(rf"^ +{windows} windows$", text, re.MULTILINE)

    def test_units_beyond_floats(self, workshop: Workshop) -> None:
        """An overflow is clipped like any large value."""
        status, text = workshop.fed(stream(records(40), scale=3e38))
        assert status == 0
        assert len(decided(text)) == 1


class TestScript:
    """Recordings, and how an output is held against the host."""

    def test_samples_are_the_watchs(self, data_folder: Path, tmp_path: Path) -> None:
        """To the bit those of the whole recordings; the last, unfinished windows apart."""
        data = load("wisdm-watch", path=data_folder / "har" / "wisdm_watch7_w40.npz")
        made, labels = recording.recording_of(data, None, None)
        recording.write(tmp_path / "r.bin", made)
        pieces = recording.read(tmp_path / "r.bin")
        with np.load(data_folder / "har" / "wisdm_watch_20hz_seq.npz") as stored:
            whole = {name: stored[name] for name in stored.files}
        subject = data.groups[data.test[0]]  # type: ignore[index]
        begin = 0
        for piece, code, name in zip(pieces, "POFQRGS", data.classes, strict=True):
            (found,) = np.flatnonzero(
                (whole["subject"] == subject) & (whole["class_codes"][whole["y"]] == code)
            )
            want = whole["X"][whole["offsets"][found] :][: len(piece)]
            assert whole["class_names"][whole["y"][found]] == name
            assert whole["offsets"][found + 1] - whole["offsets"][found] - len(piece) < STEPS
            assert (made["counts"][begin : begin + len(piece)] == want).all()
            assert piece.tobytes() == (want * whole["scale"]).tobytes()
            begin += len(piece)
        assert len(labels) * STEPS == len(made) == begin

    @pytest.mark.parametrize("change", [b"", b"\0" * 16], ids=["short", "long"])
    def test_refuses_what_is_no_recording(self, tmp_path: Path, change: bytes) -> None:
        (tmp_path / "r.bin").write_bytes(stream(records(3))[: -1 if not change else None] + change)
        with pytest.raises(InvalidDataError, match="is no recording|is not that of 4 samples"):
            recording.read(tmp_path / "r.bin")

    @pytest.mark.parametrize(
        ("subject", "seconds", "message"),
        [
            (7, None, "no windows of subject 7; there are 1600, "),
            (None, 1, "1 s of each activity is less than a window of 40 samples"),
            (None, -2, "-2 s of each activity"),
        ],
    )
    def test_refuses_recordings_of_nothing(
        self, data_folder: Path, subject: int | None, seconds: int | None, message: str
    ) -> None:
        data = load("wisdm-watch", path=data_folder / "har" / "wisdm_watch7_w40.npz")
        with pytest.raises(UsageError, match=message):
            recording.recording_of(data, subject, seconds)

    @builds
    def test_refuses_another_score(self, workshop: Workshop, tmp_path: Path) -> None:
        """One spike more in one window."""
        board = "mps2-an386"
        text, changed = re.subn(
            r"(window +9 .* )(\d+)$",
            lambda found: f"{found[1]}{int(found[2]) + 1}",
            workshop.output(board).read_text("utf-8"),
            flags=re.MULTILINE,
        )
        assert changed == 1
        (tmp_path / "output.txt").write_text(text, encoding="utf-8")
        with pytest.raises(VerificationError, match=r"1 of \d+ windows differ; first window 9: "):
            workshop.check(board, tmp_path / "output.txt")

    @pytest.mark.parametrize("text", ["", "window 0"])
    def test_refuses_an_output_without_windows(self, text: str) -> None:
        with pytest.raises(InvalidDataError, match="has 0 windows"):
            recording.image_windows(text)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["image", "RUN=nothing"], "nothing/calibration.npz is missing: train first"),
        (["image", "BOARD=pdp-11"], "no board pdp-11; there are mps2-an386 mps3-an547"),
        (["run", "RECORDING=nothing"], "nothing is missing: prepare one"),
    ],
    ids=["run", "board", "recording"],
)
def test_make_says_what_is_missing(tmp_path: Path, words: list[str], message: str) -> None:
    done = subprocess.run(
        ["make", "-C", str(EXAMPLE), f"BUILD={tmp_path}", *words],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode != 0
    assert message in done.stderr
    assert not list(tmp_path.iterdir())

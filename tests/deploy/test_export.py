"""Export from files: what is made, that it repeats, and that failures leave nothing behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import edgekit
from edgekit.deploy.families import library
from edgekit.errors import (
    DoesNotFitError,
    InvalidDataError,
    InvalidModelError,
    OutputError,
    UnsupportedError,
    UsageError,
)
from edgekit.program.interpret import Interpreter
from edgekit.program.ir import DType, TensorType
from edgekit.program.operators.movement import Reshape
from tests.cases.case import one_operator
from tests.support.models import tiny_onnx, tiny_tflite
from tests.support.programs import recurrent_network
from tests.support.signals import hear_interrupts

pytestmark = pytest.mark.needs("cc", "cortex-m compiler", "litert")

THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A small int8 ``.tflite`` file."""
    path = tmp_path / "tiny.tflite"
    path.write_bytes(tiny_tflite())
    return path


@pytest.fixture
def float_model(tmp_path: Path) -> Path:
    """A small float ``.onnx`` file."""
    path = tmp_path / "tiny.onnx"
    path.write_bytes(tiny_onnx())
    return path


def calibration(count: int = 16) -> np.ndarray:
    """Inputs for the ONNX model."""
    return np.random.default_rng(1).standard_normal((count, 2, 6, 6)).astype(np.float32)


def contents(folder: Path) -> dict[str, bytes]:
    """Every file by relative path."""
    return {
        p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()
    }


def test_round_trip_on_an_emulated_board(model: Path, tmp_path: Path) -> None:
    """Export, load, run, verify and bench; host and emulator agree with the interpreter."""
    made = edgekit.export(model, target="nucleo-l4r5zi", output=tmp_path / "out")
    artifact = edgekit.load(tmp_path / "out")
    assert artifact.manifest == made.manifest
    assert artifact.manifest.check.identical is True
    assert artifact.devices[0] == "emulator"
    rng = np.random.default_rng(5)
    x = rng.integers(-128, 128, (1, 6, 6, 2)).astype(np.int8)
    with artifact.open() as emulated, artifact.open("local") as local:
        y = emulated.run(x)
        assert y.dtype == np.int8
        assert y.shape == (1, 3)
        assert (local.run(x) == y).all()
        profile = emulated.profile(x)
        assert profile.instructions is not None
        assert profile.instructions > profile.layers[0].macs
        assert profile.stack_bytes is not None
        assert 0 < profile.stack_bytes <= artifact.manifest.memory.stack_reserved
    data = {"x": rng.integers(-128, 128, (7, 6, 6, 2)).astype(np.int8), "y": np.arange(7) % 3}
    report = artifact.verify(data)
    assert report.identical
    assert report.samples == 7
    assert report.accuracy is not None
    bench = artifact.bench(data).subject
    assert bench.latency_ms is not None
    assert bench.latency_ms.provenance == "modelled"
    assert bench.cycles is not None
    assert bench.latency_ms.p50 == pytest.approx(1e3 * bench.cycles / 120e6)


def test_host_target_measures(model: Path, tmp_path: Path) -> None:
    """On the host latency is measured and nothing is counted."""
    artifact = edgekit.export(model, target="host", output=tmp_path / "out")
    report = artifact.bench().subject
    assert report.instructions is None
    assert report.latency_ms is not None
    assert report.latency_ms.provenance == "measured"
    assert len(report.latency_ms.samples) >= 50


def test_float_onnx_becomes_int8(float_model: Path, tmp_path: Path) -> None:
    """Post-training int8 carries its float reference and its calibration record."""
    artifact = edgekit.export(
        float_model, target="cortex-m0plus", calibration=calibration(), output=tmp_path / "out"
    )
    assert artifact.reference is not None
    assert artifact.manifest.calibration is not None
    assert artifact.manifest.calibration.samples == 16
    report = artifact.verify({"x": calibration(20)})
    assert report.identical
    (closeness,) = report.closeness
    assert closeness.cosine > 0.99


def test_float32_needs_no_calibration(float_model: Path, tmp_path: Path) -> None:
    """Asked for by name, a float model is deployed as it is."""
    artifact = edgekit.export(
        float_model, target="cortex-m4", precision="float32", output=tmp_path / "out"
    )
    assert artifact.verify({"x": calibration(3)}).identical


def test_export_is_the_same_everywhere(model: Path, float_model: Path, tmp_path: Path) -> None:
    """Another folder, locale, time zone, hash seed and thread count give the same bytes."""
    np.savez(tmp_path / "calib.npz", x=calibration())
    program = (
        "import sys, edgekit\n"
        "edgekit.export(sys.argv[1], target='cortex-m4', output='a')\n"
        "edgekit.export(sys.argv[2], target='cortex-m4', calibration=sys.argv[3], output='b')\n"
    )
    results = []
    for number, environment in enumerate(
        (
            {"LC_ALL": "C", "TZ": "UTC", "PYTHONHASHSEED": "1"},
            {"LC_ALL": "C.UTF-8", "TZ": "Asia/Tokyo", "PYTHONHASHSEED": "77", "USER": "other"},
        )
    ):
        folder = tmp_path / f"elsewhere-{number}" / ("deep" * number or "flat")
        folder.mkdir(parents=True)
        subprocess.run(
            [sys.executable, "-P", "-c", program, model, float_model, tmp_path / "calib.npz"],
            cwd=folder,
            env={**os.environ, **dict.fromkeys(THREADS, str(number + 1)), **environment},
            check=True,
        )
        results.append({n: contents(folder / n) for n in ("a", "b")})
    assert results[0] == results[1]


def test_sizes_equal_the_image(model: Path, tmp_path: Path) -> None:
    """The manifest's bytes are the linked image's sections."""
    from edgekit.targets.elf import Elf

    artifact = edgekit.export(model, target="nucleo-l4r5zi", output=tmp_path / "out")
    memory = artifact.manifest.memory
    sections = {s.name: s.bytes for s in Elf.read(tmp_path / "out" / "image.elf").sections}
    assert memory.activations == sections[".ek_arena"]
    assert memory.weights == sections[".ek_weights"]
    assert memory.stack_reserved == sections[".stack"]
    assert memory.code == sections[".ek_code"] + sections[".ek_rodata"]
    assert memory.flash == memory.code + memory.runtime + memory.weights
    assert memory.ram == memory.activations + memory.state + memory.stack_reserved


def test_a_replaced_artifact_and_refused_places(model: Path, tmp_path: Path) -> None:
    """An artifact is replaced; other folders and files are not touched."""
    out = tmp_path / "out"
    edgekit.export(model, target="host", output=out)
    edgekit.export(model, target="cortex-m4", output=out)
    assert edgekit.load(out).target.name == "cortex-m4"
    other = tmp_path / "other"
    other.mkdir()
    (other / "thesis.txt").write_text("precious")
    with pytest.raises(OutputError, match="something else"):
        edgekit.export(model, target="host", output=other)
    with pytest.raises(OutputError, match="no folder"):
        edgekit.export(model, target="host", output=other / "thesis.txt")
    assert contents(other) == {"thesis.txt": b"precious"}
    with pytest.raises(OutputError, match="cannot be written"):
        edgekit.export(model, target="host", output=Path("/proc/nowhere/out"))


def test_only_artifacts_are_replaced(model: Path, tmp_path: Path) -> None:
    """A folder that happens to hold a manifest.json, or an artifact with guests, is not touched."""
    web = tmp_path / "web"
    web.mkdir()
    (web / "manifest.json").write_text('{"name": "a web page"}')
    (web / "precious.js").write_text("1")
    with pytest.raises(OutputError, match="something else"):
        edgekit.export(model, target="host", output=web)
    assert (web / "precious.js").exists()
    out = tmp_path / "out"
    edgekit.export(model, target="host", output=out)
    (out / "src" / "mine.c").write_text("int mine;")
    with pytest.raises(OutputError, match=r"src/mine\.c"):
        edgekit.export(model, target="host", output=out)
    assert "mine.c" not in edgekit.load(out).library.files


def test_an_interrupt_between_the_renames_keeps_the_old(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C after the old artifact was moved away: it is moved back."""
    out = tmp_path / "out"
    edgekit.export(model, target="host", output=out)
    before = contents(out)

    def interrupted(self: Path, target: Path) -> Path:
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "rename", interrupted)
    with pytest.raises(KeyboardInterrupt):
        edgekit.export(model, target="host", output=out)
    monkeypatch.undo()
    assert contents(out) == before
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".out")] == []


@pytest.mark.parametrize(
    "name", ["conv_2d_s8", "ek_common", "pad", "stdint", "ek", "int", "9 lives"]
)
def test_names_that_belong_to_others(model: Path, tmp_path: Path, name: str) -> None:
    """A network may be called like a kernel, a helper or a C header."""
    artifact = edgekit.export(model, target="cortex-m4", name=name, output=tmp_path / "out")
    assert artifact.verify().identical
    assert artifact.verify(device="local").identical


@pytest.mark.parametrize(
    "options",
    [
        {"input_shapes": 5},
        {"input_shapes": "abc"},
        {"input_shapes": {"x": ["a"]}},
        {"name": 5},
        {"output": 5},
        {"target": 5},
        {"seed": "x"},
        {"stack_bytes": 1},
        {"allow_fallback": 1},
    ],
)
def test_options_of_the_wrong_type(model: Path, tmp_path: Path, options: dict[str, object]) -> None:
    """Named, whatever their type."""
    given = {"target": "host", "output": tmp_path / "out", **options}
    with pytest.raises(UsageError, match=next(iter(options))):
        edgekit.export(model, **given)


def test_a_hostile_manifest_is_refused(model: Path, tmp_path: Path) -> None:
    """Paths outside the folder, impossible sizes, foreign symbols: one typed error each."""
    out = tmp_path / "out"
    edgekit.export(model, target="host", output=out)
    text = (out / "manifest.json").read_text()
    for old, new in (
        ('"path": "src/tiny.c"', '"path": "../../etc/passwd"'),
        ('"path": "src/tiny.c"', '"path": "/etc/passwd"'),
        ('"path": "src/tiny.c"', '"path": "src/\\u0000"'),
        ('"prefix": "tiny_"', '"prefix": "tiny; rm -rf"'),
        ('"prefix": "tiny_"', '"prefix": "other_"'),
        ('"symbol": "tiny_layer_0"', '"symbol": "system"'),
        ('"arena_alignment": 16', '"arena_alignment": 3'),
        ('"state_bytes": 0', '"state_bytes": -1'),
        ('"state_bytes": 0', '"state_bytes": 1e999'),
    ):
        assert old in text
        (out / "manifest.json").write_text(text.replace(old, new, 1))
        with pytest.raises(OutputError):
            edgekit.load(out)


def test_a_full_disk_leaves_nothing(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error says so and the old artifact stays."""
    out = tmp_path / "out"
    edgekit.export(model, target="host", output=out)
    before = contents(out)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(library, "write_files", full)
    with pytest.raises(OutputError, match="No space left"):
        edgekit.export(model, target="host", output=out)
    assert contents(out) == before
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".out")] == []


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
def test_an_interrupted_export_leaves_nothing(
    model: Path, tmp_path: Path, number: signal.Signals, code: int
) -> None:
    """Ctrl-C or a signal in the middle: no artifact, no temporary folder, no traceback."""
    slow = (
        "import sys, time\n"
        "from edgekit.deploy.families import library\n"
        "def wait(*a, **k):\n"
        "    print('staged', flush=True)\n"
        "    time.sleep(60)\n"
        "library.write_files = wait\n"
        "from edgekit.cli import main\n"
        "sys.argv = ['edgekit', 'export', sys.argv[1], '--target', 'host', '-o', sys.argv[2]]\n"
        "main()\n"
    )
    out = tmp_path / "place" / "out"
    process = subprocess.Popen(
        [sys.executable, "-P", "-c", slow, model, out],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=hear_interrupts,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "staged\n"
    time.sleep(0.2)
    process.send_signal(number)
    _, error = process.communicate(timeout=60)
    assert process.returncode == code
    assert ("interrupted" in error) == (number == signal.SIGINT)
    assert "Traceback" not in error
    assert list((tmp_path / "place").iterdir()) == []


def test_a_damaged_artifact_is_refused(model: Path, tmp_path: Path) -> None:
    """Changed, missing and foreign folders; the message names the file."""
    out = tmp_path / "out"
    edgekit.export(model, target="host", output=out)
    source = out / "src" / "tiny.c"
    source.write_text(source.read_text() + "\n")
    with pytest.raises(OutputError, match=r"src/tiny.c \(changed\)"):
        edgekit.load(out)
    source.unlink()
    with pytest.raises(OutputError, match=r"src/tiny.c \(missing\)"):
        edgekit.load(out)
    with pytest.raises(OutputError, match="no edgekit artifact"):
        edgekit.load(tmp_path)
    (out / "manifest.json").write_text("{")
    with pytest.raises(OutputError, match="not JSON"):
        edgekit.load(out)
    (out / "manifest.json").write_text('{"schema": 99}')
    with pytest.raises(OutputError, match="schema is 99"):
        edgekit.load(out)


@pytest.mark.parametrize("name", ["board.toml", "reference/program.json", "preprocessing.json"])
def test_an_added_file_is_refused(model: Path, tmp_path: Path, name: str) -> None:
    """What an artifact reads only where it is there cannot be slipped in."""
    edgekit.export(model, target="host", output=tmp_path / "out")
    path = tmp_path / "out" / name
    path.parent.mkdir(exist_ok=True)
    path.write_text("", encoding="utf-8")
    with pytest.raises(OutputError, match=rf"{name} \(added\)"):
        edgekit.load(tmp_path / "out")


def test_a_model_too_large_for_the_board(tmp_path: Path) -> None:
    """Says by how many bytes, in which memory, and what is in it."""
    path = tmp_path / "wide.tflite"
    path.write_bytes(tiny_tflite(channels=4_000, classes=9))
    with pytest.raises(DoesNotFitError, match=r"\d+ bytes too many") as caught:
        edgekit.export(path, target="nucleo-g0b1re", output=tmp_path / "out")
    assert ".ek_weights" in str(caught.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("content", "name", "error", "match"),
    [
        (None, "absent.tflite", InvalidModelError, "No such file"),
        (b"", "empty.tflite", InvalidModelError, "empty|truncated|too short|bytes"),
        (b"hello world, no model", "text.tflite", InvalidModelError, "text.tflite"),
        (b"\x80\x04]q\x00.", "pickle.onnx", InvalidModelError, "pickle"),
        (b"x", "model.pt", InvalidModelError, "never loaded"),
        (b"x", "model.h5", InvalidModelError, r"reads \.tflite, \.onnx, \.pt2 and \.nir"),
    ],
)
def test_no_model(
    tmp_path: Path, content: bytes | None, name: str, error: type[Exception], match: str
) -> None:
    """One typed error, nothing made."""
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(error, match=match):
        edgekit.export(tmp_path / name, target="host", output=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_options_that_make_no_sense(model: Path, float_model: Path, tmp_path: Path) -> None:
    """Each names what is wrong and what would be right."""
    out = tmp_path / "out"
    with pytest.raises(UsageError, match="did you mean cortex-m4"):
        edgekit.export(model, target="cortex-m44", output=out)
    with pytest.raises(UsageError, match="unknown options"):
        edgekit.export(model, target="host", output=out, colour="red")
    with pytest.raises(UsageError, match="precision int3 is for the weights of spiking"):
        edgekit.export(model, target="host", output=out, precision="int3")
    with pytest.raises(UsageError, match="give calibration data"):
        edgekit.export(float_model, target="host", output=out)
    with pytest.raises(UsageError, match="as it is"):
        edgekit.export(model, target="host", output=out, calibration=calibration())
    with pytest.raises(UsageError, match="quantised"):
        edgekit.export(model, target="host", output=out, precision="float32")
    with pytest.raises(UnsupportedError, match=r"cannot export a builtins\.object"):
        edgekit.export(object(), target="host", output=out)
    assert not out.exists()


@pytest.mark.parametrize(
    ("data", "match"),
    [
        (np.zeros((4, 3, 6, 6), np.float32), "shape"),
        (np.full((4, 2, 6, 6), np.nan, np.float32), "NaN"),
        (np.zeros((0, 2, 6, 6), np.float32), "no samples"),
        ({"wrong": np.zeros((4, 1), np.float32), "other": np.zeros((4, 2))}, "no data for input"),
    ],
)
def test_bad_calibration(float_model: Path, tmp_path: Path, data: object, match: str) -> None:
    """Shape, NaN, emptiness and names are refused before any work."""
    with pytest.raises(InvalidDataError, match=match):
        edgekit.export(float_model, target="host", calibration=data, output=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_pickled_calibration_is_not_loaded(float_model: Path, tmp_path: Path) -> None:
    """An array file with objects inside is refused, not unpickled."""
    path = tmp_path / "calib.npz"
    np.savez(path, x=np.array([{"a": 1}], dtype=object))
    with pytest.raises(InvalidDataError, match="pickle"):
        edgekit.export(float_model, target="host", calibration=path, output=tmp_path / "out")


def test_separate_weights_run_everywhere(model: Path, tmp_path: Path) -> None:
    """The blob lies beside the code; host and emulator are given its address."""
    artifact = edgekit.export(
        model, target="cortex-m33", separate_weights=True, output=tmp_path / "out"
    )
    blob = (tmp_path / "out" / "src" / "tiny_weights.bin").read_bytes()
    assert artifact.manifest.memory.weights == len(blob)
    assert artifact.verify().identical
    assert artifact.verify(device="local").identical


@pytest.mark.needs("qemu-system-arm")
@pytest.mark.parametrize("target", ["cortex-m55", "mps3-an547", "nucleo-g0b1re"])
def test_qemu_boots_what_was_exported(model: Path, tmp_path: Path, target: str) -> None:
    """Verified over a batch and counted layer by layer; single layers cannot be called."""
    artifact = edgekit.export(model, target=target, output=tmp_path / "out")
    assert artifact.manifest.check.identical is True
    x = np.random.default_rng(2).integers(-128, 128, (6, 6, 6, 2)).astype(np.int8)
    report = artifact.verify({"x": x}, device="qemu")
    assert report.identical
    assert report.samples == 6
    assert report.layers == ()
    measured = artifact.bench({"x": x}, device="qemu").subject
    assert measured.instructions == sum(layer.instructions or 0 for layer in measured.layers)
    assert [layer.operation for layer in measured.layers] == ["conv", "logits"]
    with artifact.open("qemu") as session, pytest.raises(UnsupportedError, match="not layers"):
        session.trace(x[:1])


def test_calibration_options_and_notes(tmp_path: Path) -> None:
    """Observer, limit and the open batch axis that became 1 stand in the manifest."""
    path = tmp_path / "open.onnx"
    path.write_bytes(tiny_onnx(batch="N"))
    artifact = edgekit.export(
        path,
        target="host",
        calibration=calibration(),
        observer="percentile:99.5",
        calibration_limit=5,
        output=tmp_path / "out",
    )
    record = artifact.manifest.calibration
    assert record is not None
    assert (record.observer, record.samples) == ("percentile:99.5", 5)
    assert any("batch" in note for note in artifact.manifest.notes)
    for wrong in ({"observer": "magic"}, {"calibration_limit": 0}):
        with pytest.raises(UsageError):
            edgekit.export(
                path, target="host", calibration=calibration(), output=tmp_path / "x", **wrong
            )
    assert not (tmp_path / "x").exists()


def test_a_board_of_ones_own(model: Path, tmp_path: Path) -> None:
    """Its description travels with the artifact; the file may be gone afterwards."""
    board = tmp_path / "mine.toml"
    board.write_text(
        """
name = "my-board"
vendor = "me"
mcu = "X1"
core = "cortex-m4"
clock_hz = 48_000_000
[[memory]]
name = "flash"
kind = "flash"
origin = 0x0800_0000
bytes = 65_536
[[memory]]
name = "sram"
kind = "ram"
origin = 0x2000_0000
bytes = 16_384
"""
    )
    edgekit.export(model, target=str(board), output=tmp_path / "out")
    board.unlink()
    artifact = edgekit.load(tmp_path / "out")
    assert artifact.target.name == "my-board"
    assert artifact.verify().identical
    assert artifact.bench().subject.clock_hz == 48_000_000


def test_a_program_with_state_is_exported(tmp_path: Path) -> None:
    """Steps carry state and equal the interpreter's; reset starts over."""
    program = recurrent_network()
    artifact = edgekit.export(program, target="cortex-m4", output=tmp_path / "out")
    assert artifact.manifest.model.format == "program"
    assert artifact.manifest.memory.state == 16
    interpreter = Interpreter(program)
    stream = np.random.default_rng(4).standard_normal((5, 1, 3)).astype(np.float32)
    with artifact.open("emulator") as session:
        first = [session.step(x) for x in stream]
        want = [interpreter.step({"x": x})["h"] for x in stream]
        assert [y.tobytes() for y in first] == [y.tobytes() for y in want]
        session.reset()
        assert session.step(stream[0]).tobytes() == first[0].tobytes()
        assert session.run(stream[0]).tobytes() == first[0].tobytes()


def test_a_network_without_kernels(tmp_path: Path) -> None:
    """Nothing but a reshape still compiles and runs."""
    program = one_operator(Reshape(shape=(6,)), TensorType((1, 2, 3), DType.FLOAT32), name="view")
    artifact = edgekit.export(program, target="cortex-m0plus", output=tmp_path / "out")
    assert artifact.verify().identical
    assert artifact.verify(device="local").identical


def test_what_is_no_regular_file(tmp_path: Path) -> None:
    """A named pipe does not hang."""
    os.mkfifo(tmp_path / "pipe.tflite")
    with pytest.raises(InvalidModelError, match="no file"):
        edgekit.export(tmp_path / "pipe.tflite", target="host", output=tmp_path / "out")


def test_options_that_would_be_ignored(model: Path, float_model: Path, tmp_path: Path) -> None:
    """Refused instead."""
    out = tmp_path / "out"
    for options in ({"observer": "mse"}, {"input_shapes": {"x": (1, 6, 6, 2)}}, {"seed": -1}):
        with pytest.raises(UsageError):
            edgekit.export(model, target="host", output=out, **options)
    with pytest.raises(UsageError, match="float32 needs no calibration"):
        edgekit.export(
            float_model,
            target="host",
            output=out,
            precision="float32",
            calibration=calibration(),
        )
    artifact = edgekit.export(model, target="host", output=out)
    with pytest.raises(UsageError, match="limit"):
        artifact.verify(limit=0)

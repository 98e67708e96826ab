"""The files that a board gets run in a folder of their own, isolated from everything else."""

from __future__ import annotations

import ast
import hashlib
import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import edgekit
from edgekit.bench.kit import kit_files
from edgekit.bench.report import Report
from edgekit.bench.runners.c import CRunner
from edgekit.bench.subject import LibraryFile, ModelFile, Subject
from edgekit.deploy.artifact import Artifact
from edgekit.deploy.benchmark import subject_for
from edgekit.program.interpret import Interpreter
from edgekit.targets.host import compile_shared
from tests.support.models import tiny_tflite
from tests.support.programs import recurrent_network

QUICK = ("--warmup", "1", "--iters", "3", "--min-seconds", "0")

RUNTIMES = {"onnxruntime", "ai_edge_litert", "tflite_runtime", "tensorrt"}
"""What only exists where a runner is used."""


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    """The small int8 model, exported for this machine."""
    folder = tmp_path_factory.mktemp("artifact")
    (folder / "tiny.tflite").write_bytes(tiny_tflite())
    return edgekit.export(folder / "tiny.tflite", target="host", output=folder / "out")


@pytest.fixture(scope="module")
def pattern(artifact: Artifact, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a shared object, vectors, the model for LiteRT, and the kit."""
    folder = tmp_path_factory.mktemp("pattern") / "board"
    for name, text in kit_files().items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")
    built = compile_shared(artifact.library, folder.parent / "build")
    shutil.copyfile(built, folder / "libtiny.so")
    shutil.copyfile(artifact.folder / "vectors.npz", folder / "vectors.npz")
    (folder / "tiny.tflite").write_bytes(tiny_tflite())
    interface = artifact.manifest.interface
    assert interface is not None
    library = LibraryFile(
        "libtiny.so",
        interface.prefix,
        interface.arena_bytes,
        interface.arena_alignment,
        interface.state_bytes,
    )
    models = (ModelFile("litert", "tiny.tflite", "int8"),)
    replace(subject_for(artifact), library=library, models=models).write(folder)
    return folder


@pytest.fixture
def board(pattern: Path, tmp_path: Path) -> Path:
    """A copy of its own."""
    return Path(shutil.copytree(pattern, tmp_path / "board"))


def run(board: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The board's command, without anything of this environment but its packages."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
    return subprocess.run(
        [sys.executable, "-I", str(board / "ondevice" / "bench.py"), *arguments],
        capture_output=True,
        text=True,
        cwd=board,
        env=environment,
        timeout=120,
        check=False,
    )


@pytest.mark.needs("cc")
def test_generated_c_on_a_board(board: Path) -> None:
    """Exact on the vectors, measured per layer, written as a report that the host reads."""
    done = run(board, "--backend", "c", *QUICK, "--output", "runs/r.json", "--format", "json")
    assert done.returncode == 0, done.stderr
    report = Report.from_json(json.loads((board / "runs" / "r.json").read_text()))
    assert report == Report.from_json(json.loads(done.stdout))
    assert report.subject.agreement is not None
    assert (report.subject.agreement.mismatches, report.subject.agreement.samples) == (0, 2)
    assert report.subject.latency_ms is not None
    assert report.subject.latency_ms.provenance == "measured"
    assert len(report.subject.latency_ms.samples) == 3
    assert [layer.operator for layer in report.subject.layers] == ["conv_2d", "fully_connected"]
    assert all(layer.latency_ms is not None for layer in report.subject.layers)
    assert report.memory is not None
    assert report.memory.blocks


@pytest.mark.needs("cc")
def test_the_kit_is_what_runs(board: Path) -> None:
    """Not an edgekit that happens to be installed."""
    (board / "ondevice" / "edgekit" / "bench" / "main.py").write_text(
        "def launch(path):\n    print('mine')\n"
    )
    assert run(board).stdout == "mine\n"


@pytest.mark.needs("cc")
def test_other_bits_are_a_failure(board: Path) -> None:
    """Exit code 1, and nothing is written."""
    with np.load(board / "vectors.npz") as loaded:
        arrays = dict(loaded)
    (name,) = (key for key in arrays if key.startswith("output/"))
    arrays[name] = arrays[name] ^ np.int8(1)
    np.savez(board / "vectors.npz", allow_pickle=False, **arrays)
    done = run(board, "--backend", "c", "--output", "r.json")
    assert done.returncode == 1
    assert "differ from the exact reference" in done.stderr
    assert not (board / "r.json").exists()


@pytest.mark.needs("cc", "litert")
def test_litert_beside_c_with_labels(board: Path, artifact: Artifact) -> None:
    """Both runtimes over the same samples: how many elements differ, how many labels are right."""
    shape = artifact.program.inputs[0].source_shape
    x = np.random.default_rng(1).integers(-128, 128, (7, *shape)).astype(np.int8)
    with artifact.open() as session:
        y = np.array([session.run(sample).argmax() for sample in x])
    np.savez(board / "data.npz", x=x, y=y)
    done = run(board, "--backend", "c,litert", "--input", "data.npz", *QUICK, "--format", "json")
    assert done.returncode == 0, done.stderr
    c, litert = Report.from_json(json.loads(done.stdout)).runs
    assert c.accuracy is not None
    assert (c.accuracy.value, c.accuracy.samples, c.input) == (1.0, 7, "first 5 of data.npz")
    assert (litert.backend, litert.kernels, litert.file) == ("litert", "XNNPACK", "tiny.tflite")
    assert litert.agreement is not None
    assert litert.agreement.largest_step is not None
    assert litert.agreement.largest_step <= 1


@pytest.mark.needs("cc")
@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("--backend", "abacus"), 2, "nothing for abacus int8"),
        (("--backend", "onnxruntime"), 2, "the artifact holds litert int8, c"),
        (("--backend", "c", "--baseline", "fp32"), 2, "holds no float32 model"),
        (("--backend", "c", "--input", "gone.npz"), 2, "gone.npz"),
        (("--backend", "c", "--input", "ondevice.json"), 2, "not a NumPy array file"),
        (("--backend", "c", "--iters", "0"), 2, "iterations is 0"),
        (("--backend", "c", "--limit", "0"), 2, "no positive number"),
    ],
)
def test_wrong_use_is_one_line(
    board: Path, arguments: tuple[str, ...], code: int, words: str
) -> None:
    """No traceback."""
    done = run(board, *arguments)
    assert done.returncode == code
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def described(board: Path) -> Path:
    """The board with a manifest that lists its files."""
    files = [
        {
            "path": path.relative_to(board).as_posix(),
            "bytes": path.stat().st_size,
            "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        }
        for path in sorted(board.rglob("*"))
        if path.is_file()
    ]
    (board / "manifest.json").write_text(json.dumps({"schema": 2, "files": files}))
    return board


@pytest.mark.needs("cc")
def test_an_artifact_is_that_of_its_manifest(board: Path) -> None:
    """The report has the manifest's hash; files that the run does not need may be missing."""
    manifest = described(board) / "manifest.json"
    (board / "tiny.tflite").unlink()
    done = run(board, "--backend", "c", *QUICK, "--format", "json")
    assert done.returncode == 0, done.stderr
    found = Report.from_json(json.loads(done.stdout)).artifact.artifact_sha256
    assert found == hashlib.sha256(manifest.read_bytes()).hexdigest()


@pytest.mark.needs("cc")
@pytest.mark.parametrize("name", ["libtiny.so", "vectors.npz", "ondevice.json"])
def test_a_changed_file_is_not_the_artifact(board: Path, name: str) -> None:
    """Another build would else be reported under this artifact's hash."""
    path = described(board) / name
    path.write_bytes(path.read_bytes() + b"\n")
    done = run(board, "--backend", "c", *QUICK, "--output", "r.json")
    assert done.returncode == 2
    assert f"is not the artifact of its manifest.json: {name} (changed)" in done.stderr
    assert not (board / "r.json").exists()


@pytest.mark.needs("cc")
def test_a_file_that_the_manifest_does_not_know(board: Path) -> None:
    """It could be anything."""
    document = json.loads((described(board) / "manifest.json").read_text())
    document["files"] = [f for f in document["files"] if f["path"] != "libtiny.so"]
    (board / "manifest.json").write_text(json.dumps(document))
    done = run(board, "--backend", "c", *QUICK)
    assert (done.returncode, "libtiny.so (added)" in done.stderr) == (2, True)


@pytest.mark.needs("cc")
@pytest.mark.parametrize(
    ("document", "words"),
    [
        ([], "lists no files"),
        ({"files": {}}, "lists no files"),
        ({"files": [{"path": "x"}]}, "files[0]: fields missing bytes, sha256"),
        ({"files": [{"path": "../x", "bytes": 0, "sha256": ""}]}, "no path inside an artifact"),
    ],
)
def test_hostile_manifests(board: Path, document: Any, words: str) -> None:
    """One line."""
    (board / "manifest.json").write_text(json.dumps(document))
    done = run(board, "--backend", "c", *QUICK)
    assert done.returncode == 2
    assert words in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.needs("cc")
def test_vectors_of_another_network(board: Path) -> None:
    """Told before anything is run."""
    with np.load(board / "vectors.npz") as loaded:
        arrays = dict(loaded)
    (name,) = (key for key in arrays if key.startswith("input/"))
    np.savez(board / "vectors.npz", **{k: v for k, v in arrays.items() if k != name})
    done = run(board, "--backend", "c", *QUICK)
    assert done.returncode == 2
    assert f"the test vectors lack '{name}'" in done.stderr


@pytest.mark.needs("cc")
def test_sequences_on_a_board(tmp_path: Path) -> None:
    """A network with state is stepped: the last step of every sequence names its label."""
    folder, network = tmp_path / "board", recurrent_network()
    for name, text in kit_files().items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, "utf-8")
    artifact = edgekit.export(network, target="host", output=tmp_path / "out", name="rnn")
    built = compile_shared(artifact.library, tmp_path / "build")
    shutil.copyfile(built, folder / "librnn.so")
    shutil.copyfile(artifact.folder / "vectors.npz", folder / "vectors.npz")
    code = artifact.library
    library = LibraryFile(
        *("librnn.so", code.prefix, code.arena_bytes, code.arena_alignment, code.state_bytes)
    )
    replace(subject_for(artifact), library=library).write(folder)
    x = np.random.default_rng(1).standard_normal((6, 5, 3)).astype(np.float32)
    interpreter = Interpreter(network)
    ends = [interpreter.run_sequence({"x": s})["h"][-1] for s in x[:, :, None]]
    np.savez(folder / "data.npz", x=x, y=np.array([end.argmax() for end in ends]))
    done = run(folder, "--input", "data.npz", *QUICK, "--format", "json")
    assert done.returncode == 0, done.stderr
    report = Report.from_json(json.loads(done.stdout)).subject
    assert report.input == "first 5 of the steps of 6 sequences of data.npz"
    assert report.accuracy is not None
    assert (report.accuracy.value, report.accuracy.samples) == (1.0, 6)
    with CRunner(
        folder, Subject.from_json(json.loads((folder / "ondevice.json").read_text()))
    ) as c:
        for sequence, end in zip(x[:, :, None], ends, strict=True):
            got = c.end_of([{"x": step} for step in sequence])
            assert got is not None
            assert got["h"].tobytes() == end.tobytes()


@pytest.mark.needs("cc")
def test_a_library_for_another_machine(board: Path) -> None:
    """The loader's words, no crash."""
    (board / "libtiny.so").write_bytes(b"\x7fELF" + bytes(60))
    done = run(board, "--backend", "c")
    assert done.returncode == 2
    assert "libtiny.so cannot be loaded on this machine" in done.stderr


@pytest.mark.needs("cc")
def test_a_table_for_people(board: Path) -> None:
    """One line a run."""
    done = run(board, "--backend", "c", *QUICK)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].split() == ["artifact", "tiny", "for", "host"]
    assert lines[-1].split()[0::2][:2] == ["c", "int8"]


def test_everything_that_a_board_gets_is_old_enough_python() -> None:
    """Python 3.10 parses it; its modules come from the standard library, NumPy or the kit."""
    allowed = set(sys.stdlib_module_names) | {"numpy", "edgekit"} | RUNTIMES
    for name, text in kit_files(preprocessing=True).items():
        tree = ast.parse(text, name, feature_version=(3, 10))
        imported: list[str] = []
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                imported += [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0, name
                imported += [f"{node.module}.{alias.name}" for alias in node.names]
        assert {module.partition(".")[0] for module in imported} <= allowed, name
        newer = {"typing.Self", "enum.StrEnum", "datetime.UTC", "tomllib", "typing.assert_never"}
        assert not newer & set(imported), name


def test_the_kit_has_what_it_imports() -> None:
    """Every module of edgekit that a file of the kit names is in the kit."""
    files = kit_files(preprocessing=True)
    for name, text in files.items():
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("edgekit"):
                path = "ondevice/" + str(node.module).replace(".", "/")
                assert {f"{path}.py", f"{path}/__init__.py"} & files.keys(), (name, node.module)


@pytest.mark.needs("cc")
def test_a_declared_chain_is_timed_apart(board: Path) -> None:
    """The kit then holds the modules that it needs."""
    for name, text in kit_files(preprocessing=True).items():
        (board / name).parent.mkdir(parents=True, exist_ok=True)
        (board / name).write_text(text, "utf-8")
    from edgekit.data.preprocessing import Preprocessing, Scale

    chain: Any = Preprocessing((Scale(0.5, 1.0),)).to_json()
    (board / "preprocessing.json").write_text(
        chain if isinstance(chain, str) else json.dumps(chain)
    )
    document = json.loads((board / "ondevice.json").read_text())
    subject = replace(Subject.from_json(document), preprocessing="preprocessing.json")
    subject.write(board)
    done = run(board, "--backend", "c", *QUICK, "--format", "json")
    assert done.returncode == 0, done.stderr
    timed = Report.from_json(json.loads(done.stdout)).preprocessing
    assert timed is not None
    assert timed.latency_ms is not None
    assert timed.latency_ms.provenance == "measured"
    assert "scale" in timed.specification

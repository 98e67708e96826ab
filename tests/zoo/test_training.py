"""Training: repeatable, resumable to the bit, and leaving what a deployment needs."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from edgekit.data import Preprocessing, load
from edgekit.errors import EdgekitError, InvalidDataError, OutputError, UsageError
from edgekit.zoo import build
from edgekit.zoo.result import TrainResult
from tests.support.signals import hear_interrupts

if TYPE_CHECKING:
    from click.testing import Result

pytestmark = [pytest.mark.torch, pytest.mark.needs("torch", "safetensors", "sklearn")]

QUICK = {"epochs": 3, "batch_size": 256}

FILES = {
    *("config.toml", "history.json", "checkpoint.safetensors", "model.safetensors"),
    *("preprocessing.json", "calibration.npz", "test.npz", "metrics.json"),
}


class StopError(Exception):
    """Raised in the middle of an epoch."""


def train(name: str = "digits-cnn", config: object = QUICK, **options: object) -> TrainResult:
    """Train with one thread."""
    from edgekit.zoo.training import train as run

    return run(name, config, **{"threads": 1, **options})  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run; nobody changes it."""
    folder = tmp_path_factory.mktemp("zoo") / "run"
    train(output=folder)
    return folder


def interrupted(folder: Path, *, epoch: int, config: object = QUICK) -> None:
    """A run that ends in the middle of an epoch."""

    def stop(at: int, epochs: int, step: int, steps: int) -> None:
        if at == epoch and step == 2:
            raise StopError

    with pytest.raises(StopError):
        train(config=config, output=folder, on_step=stop)


def test_a_run_folder_is_whole(run: Path) -> None:
    """Every file, and each says what the others say."""
    assert {p.name for p in run.iterdir()} == FILES
    text = (run / "metrics.json").read_text()
    result = TrainResult.from_json(text)
    assert result.to_json() == text
    history = json.loads((run / "history.json").read_text())
    assert [row["epoch"] for row in history] == [1, 2, 3]
    best = max(history, key=lambda row: row["validation_accuracy"])
    assert result.validation.accuracy == best["validation_accuracy"]
    assert result.best_epoch == best["epoch"]
    assert sum(c.n for c in result.classes) == result.test.n == 359
    hits = sum(round((c.recall or 0) * c.n) for c in result.classes)
    assert hits / result.test.n == pytest.approx(result.test.accuracy)
    assert result.test.accuracy > 0.5


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"schema": 1, "train": 3}', "[" * 100_000])
def test_other_metrics_are_refused(text: str) -> None:
    with pytest.raises(InvalidDataError, match="none of a training"):
        TrainResult.from_json(text)


def test_the_files_give_the_reported_accuracy(run: Path) -> None:
    """Weights on ``test.npz`` alone, without edgekit's preprocessing, give the figure."""
    import torch
    from safetensors.torch import load_file

    model = build("digits-cnn")
    model.load_state_dict(load_file(run / "model.safetensors"))
    with np.load(run / "test.npz") as stored, torch.no_grad():
        x, y = stored["x"], stored["y"]
        given = model.eval()(torch.from_numpy(x)).argmax(1).numpy()
    result = TrainResult.from_json((run / "metrics.json").read_text())
    assert (given == y).mean() == result.test.accuracy
    steps = Preprocessing.from_json((run / "preprocessing.json").read_text())
    data = load("digits")
    np.testing.assert_array_equal(steps.apply(data.x[data.test]), x)


def test_calibration_is_of_training_samples(run: Path) -> None:
    steps = Preprocessing.from_json((run / "preprocessing.json").read_text())
    data = load("digits")
    known = {sample.tobytes() for sample in steps.apply(data.x[data.train])}
    with np.load(run / "calibration.npz") as stored:
        assert len(stored["x"]) == 256
        assert {sample.tobytes() for sample in stored["x"]} <= known


def test_the_weights_carry_the_preprocessing(run: Path) -> None:
    from safetensors import safe_open

    with safe_open(run / "model.safetensors", framework="np") as file:
        about = json.loads(file.metadata()["edgekit"])
    assert about["network"] == "digits-cnn"
    assert about["classes"] == [str(digit) for digit in range(10)]
    assert about["preprocessing"] == json.loads((run / "preprocessing.json").read_text())


def test_the_same_seed_gives_the_same_weights(run: Path, tmp_path: Path) -> None:
    import torch

    torch.manual_seed(123)
    before = torch.get_rng_state()
    train(output=tmp_path / "again")
    assert torch.equal(before, torch.get_rng_state())
    train(config=QUICK | {"seed": 1}, output=tmp_path / "other")
    weights = [p / "model.safetensors" for p in (run, tmp_path / "again", tmp_path / "other")]
    first, again, other = (path.read_bytes() for path in weights)
    assert first == again
    assert first != other


@pytest.mark.parametrize("epoch", [1, 2, 3])
def test_resuming_gives_the_same_weights(run: Path, tmp_path: Path, epoch: int) -> None:
    """Stopped in the first, second or last epoch: all tensors of the checkpoint are equal."""
    interrupted(tmp_path / "run", epoch=epoch)
    assert (tmp_path / "run" / "history.json").exists() == (epoch > 1)
    assert not (tmp_path / "run" / "model.safetensors").exists()
    train(config=None, resume=tmp_path / "run")
    assert {p.name for p in (tmp_path / "run").iterdir()} == FILES
    assert_same(run, tmp_path / "run")


def assert_same(one: Path, two: Path) -> None:
    """Two runs have the same tensors, weights and files of data."""
    from safetensors.numpy import load_file

    tensors = [load_file(folder / "checkpoint.safetensors") for folder in (one, two)]
    assert tensors[0].keys() == tensors[1].keys()
    for name, value in tensors[0].items():
        np.testing.assert_array_equal(value, tensors[1][name], err_msg=name)
    for name in ("model.safetensors", "preprocessing.json", "calibration.npz", "test.npz"):
        assert (one / name).read_bytes() == (two / name).read_bytes()


def test_resuming_with_everything_random_and_sgd(tmp_path: Path) -> None:
    config = QUICK | {
        "optimizer": {"name": "sgd", "learning_rate": 0.05},
        "schedule": {"warmup_epochs": 1.0},
        "augmentation": {"noise": 0.1, "mixup": 0.4, "flip": 0.5, "gain": 0.1},
        "label_smoothing": 0.1,
        "average": 0.95,
    }
    train(config=config, output=tmp_path / "whole")
    interrupted(tmp_path / "parts", epoch=3, config=config)
    train(config=None, resume=tmp_path / "parts")
    assert_same(tmp_path / "whole", tmp_path / "parts")


def test_the_mean_of_the_weights_is_kept(tmp_path: Path) -> None:
    """It is validated and written in their place, batch normalisation's statistics with it."""
    from safetensors.numpy import load_file

    train(config=QUICK | {"epochs": 1, "average": 0.95}, output=tmp_path / "run")
    stored = load_file(tmp_path / "run" / "checkpoint.safetensors")
    kept = load_file(tmp_path / "run" / "model.safetensors")
    for name, value in kept.items():
        np.testing.assert_array_equal(value, stored[f"average/module.{name}"], err_msg=name)
    trained = [name for name in kept if not np.array_equal(kept[name], stored[f"model/{name}"])]
    assert any(name.endswith("weight") for name in trained)
    assert any(name.endswith("running_mean") for name in trained)


def test_the_mean_falls_behind_by_its_decay() -> None:
    """It begins with the first weights, then every step moves it by 1 - decay of the distance."""
    import torch

    from edgekit.zoo.loop import make_average

    network = torch.nn.BatchNorm1d(3)
    average = make_average(0.9, network)
    assert average is not None
    wanted = None
    for step in range(4):
        with torch.no_grad():
            network.weight.normal_(generator=torch.Generator().manual_seed(step))
            network.running_mean.fill_(step)
        average.update_parameters(network)
        now = np.stack([network.weight.detach().numpy(), network.running_mean.numpy()])
        wanted = now if wanted is None else 0.9 * wanted + 0.1 * now
    kept = average.module
    found = np.stack([kept.weight.detach().numpy(), kept.running_mean.numpy()])
    np.testing.assert_allclose(found, wanted, rtol=1e-5)
    assert make_average(0.0, network) is None


def windows_file(path: Path) -> Path:
    """Windows made up for har-cnn; people are on one side each."""
    rng = np.random.default_rng(0)
    subject = np.repeat(np.arange(5), 40)
    np.savez(
        path,
        X=rng.integers(-1000, 1000, (200, 40, 6)).astype(np.int16),
        scale=np.full(6, 0.01),
        y=np.arange(200) % 7,
        class_names=np.array(list("abcdefg")),
        subject=subject,
        split=np.array([0, 0, 0, 1, 2])[subject],
    )
    return path


def test_dropout_resumes_too(tmp_path: Path) -> None:
    """A network with dropout."""
    options = {"data": windows_file(tmp_path / "windows.npz"), "output": tmp_path / "whole"}
    train("har-cnn", {"epochs": 2}, **options)

    def stop(epoch: int, *_: int) -> None:
        if epoch == 2:
            raise StopError

    with pytest.raises(StopError):
        train("har-cnn", {"epochs": 2}, **(options | {"output": tmp_path / "parts"}), on_step=stop)
    train("har-cnn", None, resume=tmp_path / "parts")
    assert_same(tmp_path / "whole", tmp_path / "parts")


def test_the_data_is_known_before_an_epoch_is_finished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A path that was given once is gone back to, or to the one that was given last."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EDGEKIT_CACHE", str(tmp_path / "cache"))
    windows_file(Path("windows.npz"))

    def stop(*_: int) -> None:
        raise StopError

    with pytest.raises(StopError):
        train("har-cnn", {"epochs": 1}, data="windows.npz", output="run", on_step=stop)
    assert {p.name for p in Path("run").iterdir()} == {"config.toml", "checkpoint.safetensors"}
    Path("windows.npz").rename("moved.npz")
    with pytest.raises(InvalidDataError, match="windows.npz: no such file"):
        train("har-cnn", None, resume="run")
    with pytest.raises(StopError):
        train("har-cnn", None, resume="run", data="moved.npz", on_step=stop)
    train("har-cnn", None, resume="run")
    train("har-cnn", {"epochs": 1}, data="moved.npz", output="whole")
    assert_same(Path("run"), Path("whole"))


def test_resuming_refuses_what_does_not_belong(run: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(run, copy)
    with pytest.raises(UsageError, match="resuming cannot change epochs"):
        train(config={"epochs": 9}, resume=copy)
    with pytest.raises(UsageError, match="is a training of digits-cnn, not of har-cnn"):
        train("har-cnn", None, resume=copy)
    with pytest.raises(OutputError, match="is no run folder"):
        train(config=None, resume=tmp_path)
    with pytest.raises(UsageError, match="not both"):
        train(config=None, resume=copy, output=tmp_path / "x")
    text = (copy / "config.toml").read_text()
    (copy / "config.toml").write_text(text.replace("seed = 0", "seed = 5"))
    with pytest.raises(UsageError, match="was changed since the training began"):
        train(config=None, resume=copy)


def test_resuming_takes_the_threads_along(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    import torch

    before = torch.get_num_threads()
    interrupted(tmp_path / "run", epoch=2)
    assert train(config=None, resume=tmp_path / "run", threads=None).threads == 1
    assert not caplog.records
    train(config=None, resume=tmp_path / "run", threads=2)
    assert "may differ in their last bits" in caplog.text
    assert torch.get_num_threads() == before


def test_resuming_with_other_data(tmp_path: Path) -> None:
    from edgekit.zoo import checkpoint

    interrupted(tmp_path / "run", epoch=2)
    progress = checkpoint.read_progress(tmp_path / "run")
    assert progress is not None and len(progress.history) == 1
    path = tmp_path / "run" / checkpoint.FILE_NAME
    path.write_bytes(path.read_bytes().replace(progress.dataset_sha256.encode(), b"0" * 64))
    with pytest.raises(UsageError, match="was trained on data with sha256 0000"):
        train(config=None, resume=tmp_path / "run")


@pytest.mark.parametrize("cut", [0, 4, 100, 5000, -1])
def test_a_damaged_checkpoint(run: Path, tmp_path: Path, cut: int) -> None:
    shutil.copytree(run, tmp_path / "copy")
    path = tmp_path / "copy" / "checkpoint.safetensors"
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(OutputError, match="no checkpoint of edgekit|does not fit"):
        train(config=None, resume=tmp_path / "copy")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('\\"epoch\\": 1', '\\"epoch\\": 7'),
        ('\\"threads\\": 1', '\\"threads\\": 0'),
        ('\\"schema\\": 1', '\\"schema\\": 9'),
        ('\\"history\\"', '\\"mystery\\"'),
    ],
)
def test_a_changed_header(run: Path, tmp_path: Path, old: str, new: str) -> None:
    shutil.copytree(run, tmp_path / "copy")
    path = tmp_path / "copy" / "checkpoint.safetensors"
    assert old.encode() in path.read_bytes()
    path.write_bytes(path.read_bytes().replace(old.encode(), new.encode(), 1))
    with pytest.raises(OutputError, match="schema is 9|no checkpoint of edgekit"):
        train(config=None, resume=tmp_path / "copy")


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ('"x"', "its header holds a str"),
        ("[1]", "its header holds a list"),
        ("null", "its header holds a NoneType"),
        ("[" * 100_000, "is no checkpoint of edgekit"),
        ('{"schema": true}', "schema is True"),
        ('{"schema": 1, "history": {}}', "is no checkpoint of edgekit"),
        (
            '{"schema": 1, "history": [], "recipe": "", "dataset_sha256": "", "data": null, '
            '"threads": true}',
            "threads is True",
        ),
    ],
)
def test_a_foreign_header(tmp_path: Path, header: str, message: str) -> None:
    """Whatever JSON stands there."""
    from safetensors.numpy import save_file

    from edgekit.zoo.checkpoint import FILE_NAME, read_progress

    save_file({"a": np.zeros(1)}, tmp_path / FILE_NAME, metadata={"edgekit": header})
    with pytest.raises(OutputError, match=message):
        read_progress(tmp_path)


def test_a_checkpoint_of_another_network(run: Path, tmp_path: Path) -> None:
    from safetensors import safe_open
    from safetensors.numpy import load_file, save_file

    shutil.copytree(run, tmp_path / "copy")
    path = tmp_path / "copy" / "checkpoint.safetensors"
    with safe_open(path, framework="np") as file:
        header = file.metadata()
    tensors = load_file(path)
    tensors["model/5.bias"] = np.zeros(3, np.float32)
    save_file(tensors, path, metadata=header)
    with pytest.raises(OutputError, match="does not fit the network"):
        train(config=None, resume=tmp_path / "copy")


def test_data_that_does_not_fit(data_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidDataError, match=r"takes \[6, 40\] and gives 7 scores"):
        train("har-cnn", {"dataset": "digits", "split": ""}, output=tmp_path / "run")
    with pytest.raises(InvalidDataError, match="no data in"):
        train("resnet8", None, output=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_folder_with_something_in_it(run: Path, tmp_path: Path) -> None:
    (tmp_path / "note.txt").write_text("mine")
    for folder in (run, tmp_path, tmp_path / "note.txt", tmp_path / "note.txt" / "run"):
        with pytest.raises(OutputError):
            train(output=folder)
    assert {p.name for p in tmp_path.iterdir()} == {"note.txt"}


def test_divergence_is_told(tmp_path: Path) -> None:
    grows = {"name": "sgd", "learning_rate": 10.0, "weight_decay": 1.0, "momentum": 0.0}
    config = QUICK | {"optimizer": grows, "schedule": {"name": "constant"}, "epochs": 30}
    with pytest.raises(UsageError, match="the training diverged"):
        train(config=config, output=tmp_path / "run")


def invoke(*arguments: object) -> Result:
    """Run the verb in this process."""
    import typer
    from typer.testing import CliRunner

    from edgekit.cli.train import train as verb

    app = typer.Typer()
    app.command()(verb)
    return CliRunner().invoke(app, [*map(str, arguments)])


def test_command_line(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Results on stdout, progress on stderr, and the very weights that Python gives."""
    monkeypatch.chdir(tmp_path)
    Path("quick.toml").write_text("epochs = 9\nbatch_size = 256\n")
    options = ("--config", "quick.toml", "--epochs", 3, "--threads", 1)
    done = invoke("digits-cnn", *options, "-o", "run")
    assert done.exit_code == 0, done.output
    assert "test_accuracy" in done.stdout
    assert "edgekit export edgekit.zoo:load_run --factory-arg folder=run" in done.stdout
    assert "--name digits_cnn --calib run/calibration.npz" in done.stdout
    assert "--preprocessing run/preprocessing.json --target NAME" in done.stdout
    assert "epoch 3" in done.stderr
    assert_same(run, tmp_path / "run")
    again = invoke("digits-cnn", "--resume", "run", "-q", "--format", "json")
    assert TrainResult.from_json(again.stdout).folder == "run"
    assert again.stderr == ""


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("digits",), "no network 'digits'; did you mean digits-cnn"),
        (("digits-cnn", "--epochs", 0), "epochs: must be an integer from 1"),
        (("digits-cnn", "--split", "subject"), "split: digits has random"),
        (("digits-cnn", "--threads", 0), "threads is 0"),
        (("har-cnn",), "no data in"),
        (("har-cnn", "--download"), "no checksum"),
        (("har-cnn", "--data", "absent.npz"), "absent.npz: no such file"),
        (("autoencoder",), "has no recipe"),
    ],
)
def test_command_line_errors(
    tmp_path: Path, arguments: tuple[object, ...], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Typed errors before anything is made."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EDGEKIT_CACHE", str(tmp_path / "cache"))
    done = invoke(*arguments, "-q")
    assert isinstance(done.exception, EdgekitError)
    assert message in str(done.exception)
    assert list(tmp_path.iterdir()) == []


COMMAND = [
    *(sys.executable, "-P", "-c"),
    "import typer; from edgekit.cli.train import train; typer.run(train)",
]


def test_ctrl_c_leaves_a_run_to_resume(tmp_path: Path) -> None:
    """A real interrupt, at a moment that nobody chose."""
    arguments = ["digits-cnn", "--epochs", "500", "--threads", "1", "-o", "run", "-q"]
    running = subprocess.Popen(
        [*COMMAND, *arguments],
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=hear_interrupts,
    )
    history = tmp_path / "run" / "history.json"
    deadline = time.monotonic() + 600
    while not history.exists() and time.monotonic() < deadline and running.poll() is None:
        time.sleep(0.05)
    running.send_signal(signal.SIGINT)
    _, told = running.communicate(timeout=600)
    assert running.returncode != 0
    assert "go on with: edgekit train digits-cnn --resume run" in told
    names = {p.name for p in (tmp_path / "run").iterdir()}
    assert names <= {"config.toml", "history.json", "checkpoint.safetensors"}
    from edgekit.zoo.checkpoint import read_progress

    progress = read_progress(tmp_path / "run")
    assert progress is not None and len(progress.history) >= 1
    assert len(progress.history) < 500


def test_ctrl_c_before_anything_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """While data loads there is no run, and no command that would go on with it."""
    from edgekit.cli.train import train as verb
    from edgekit.zoo import training

    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(training, "load", interrupt)
    with pytest.raises(KeyboardInterrupt):
        verb("digits-cnn", output=tmp_path / "run")
    assert f"interrupted; nothing was trained yet in {tmp_path / 'run'}" in capsys.readouterr().err

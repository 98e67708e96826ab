"""Training spiking and recurrent networks: repeatable, sparse where asked, with coded weights."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgekit.errors import EdgekitError, OutputError, UsageError
from edgekit.zoo import build
from edgekit.zoo.result import TrainResult

pytestmark = [pytest.mark.torch, pytest.mark.needs("torch", "safetensors", "sklearn")]

QUICK: dict[str, Any] = {"epochs": 2, "batch_size": 20}


class StopError(Exception):
    """Raised in the middle of an epoch."""


def train(name: str, config: Any, **options: Any) -> TrainResult:
    """Train with one thread."""
    from edgekit.zoo.training import train as run

    return run(name, config, **{"threads": 1, **options})


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Windows in WISDM's format whose classes are frequencies; people are on one side each."""
    rng = np.random.default_rng(0)
    label, subject = np.arange(140) % 7, np.repeat(np.arange(5), 28)
    phase = rng.uniform(0, 6, (140, 1, 6))
    waves = np.sin(0.25 * (1 + label[:, None, None]) * np.arange(40)[:, None] + phase)
    path = tmp_path_factory.mktemp("data") / "windows.npz"
    np.savez(
        path,
        X=(800 * waves + rng.normal(0, 100, waves.shape)).astype(np.int16),
        scale=np.full(6, 0.01),
        y=label,
        class_names=np.array(list("abcdefg")),
        subject=subject,
        split=np.array([0, 0, 0, 1, 2])[subject],
    )
    return path


@pytest.fixture(scope="module")
def run(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished float training of the L2MU; nobody changes it."""
    folder = tmp_path_factory.mktemp("zoo") / "run"
    train("har-l2mu", QUICK, data=data, output=folder)
    return folder


def header(folder: Path) -> dict[str, Any]:
    """What stands in front of a run's weights."""
    from safetensors import safe_open

    with safe_open(folder / "model.safetensors", framework="np") as file:
        about: dict[str, Any] = json.loads(file.metadata()["edgekit"])
    return about


def loaded(folder: Path, name: str = "har-l2mu", precision: str = "") -> Any:
    """The network of a run, from its files alone."""
    import torch
    from safetensors.torch import load_file

    from edgekit.zoo.quantized import quantized

    with np.load(folder / "calibration.npz") as stored:
        example = torch.from_numpy(as_trained(stored["x"][:20]))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(77)  # what is drawn is replaced
        model = build(name)
    if precision:
        model = quantized(model, precision, example)
    model.load_state_dict(load_file(folder / "model.safetensors"))
    return model.eval()


def scores(model: Any, folder: Path) -> tuple[Any, Any]:
    """Scores of the test windows, and their labels."""
    import torch

    with np.load(folder / "test.npz") as stored, torch.no_grad():
        return model(torch.from_numpy(as_trained(stored["x"]))).numpy(), stored["y"]


def as_trained(x: Any) -> Any:
    """Windows [N,6,40] again of what a device takes: a sample a step, or the window in each."""
    if x.ndim == 4:
        assert all((x[:, step] == x[:, 0]).all() for step in range(x.shape[1]))
        return x[:, 0]
    return x if x.shape[1] == 6 else np.ascontiguousarray(x.transpose(0, 2, 1))


def rate(folder: Path) -> float:
    """Spikes per neuron and step over the test windows, the mean of all populations."""
    model = loaded(folder)
    scores(model, folder)
    return float(np.mean([float(value) for value in model.rates.values()]))


def assert_same(one: Path, two: Path) -> None:
    """Two runs have the same tensors and the same files but for times."""
    from safetensors.numpy import load_file

    tensors = [load_file(folder / "checkpoint.safetensors") for folder in (one, two)]
    assert tensors[0].keys() == tensors[1].keys()
    for name, value in tensors[0].items():
        np.testing.assert_array_equal(value, tensors[1][name], err_msg=name)
    for name in ("model.safetensors", "preprocessing.json", "calibration.npz", "test.npz"):
        assert (one / name).read_bytes() == (two / name).read_bytes()


def test_the_files_give_the_reported_scores(run: Path) -> None:
    """Weights on ``test.npz``; the loss is of scores times the recipe's factor."""
    result = TrainResult.from_json((run / "metrics.json").read_text())
    given, labels = scores(loaded(run), run)
    assert (given.argmax(1) == labels).mean() == result.test.accuracy
    scaled = 0.5 * given.astype(np.float64)
    chosen = scaled[np.arange(len(labels)), labels]
    loss = (np.log(np.exp(scaled).sum(1)) - chosen).mean()
    assert loss == pytest.approx(result.test.loss, abs=1e-12)
    history = json.loads((run / "history.json").read_text())
    assert history[1]["train_loss"] < history[0]["train_loss"]
    about = header(run)
    assert (about["network"], about["precision"]) == ("har-l2mu", "")
    assert about["classes"] == list("abcdefg")
    assert about["preprocessing"] == json.loads((run / "preprocessing.json").read_text())


def test_a_run_is_read_back(run: Path) -> None:
    """Recipe and network as they were trained, ready to run."""
    from edgekit.zoo import load_run, read_run

    recipe, model = read_run(run)
    assert (recipe.network, recipe.epochs, model.training) == ("har-l2mu", 2, False)
    np.testing.assert_array_equal(scores(model, run)[0], scores(loaded(run), run)[0])
    np.testing.assert_array_equal(scores(load_run(str(run)), run)[0], scores(model, run)[0])


@pytest.mark.parametrize("broken", ["model.safetensors", "calibration.npz", "config.toml"])
@pytest.mark.parametrize("content", [None, b"", b"PK no archive"])
def test_a_folder_that_is_no_run(
    broken: str, content: bytes | None, run: Path, tmp_path: Path
) -> None:
    """Of a quantised run every file is needed; whichever is not one, the folder is named."""
    from edgekit.zoo import read_run

    shutil.copytree(run, tmp_path / "run")
    config = tmp_path / "run" / "config.toml"
    config.write_text(config.read_text().replace('precision = ""', 'precision = "w8"'))
    (tmp_path / "run" / broken).unlink()
    if content is not None:
        (tmp_path / "run" / broken).write_bytes(content)
    with pytest.raises(EdgekitError, match=str(tmp_path / "run")):
        read_run(tmp_path / "run")


@pytest.mark.parametrize(
    ("name", "precision"),
    [("har-l2mu", ""), ("har-l2mu", "w158"), ("har-l2mu", "shift3"), ("har-lmu", "w8")],
)
def test_resuming_gives_the_same_weights(
    name: str, precision: str, run: Path, data: Path, tmp_path: Path
) -> None:
    """Stopped in the last epoch and gone on with: every tensor is equal to the bit."""
    start = str(run) if name == "har-l2mu" else ""
    config = QUICK | ({"precision": precision, "start": start} if precision else {})
    whole = tmp_path / "whole" if precision else run
    if precision:
        train(name, config, data=data, output=whole)

    def stop(epoch: int, _: int, step: int, __: int) -> None:
        if (epoch, step) == (2, 2):
            raise StopError

    with pytest.raises(StopError):
        train(name, config, data=data, output=tmp_path / "parts", on_step=stop)
    assert not (tmp_path / "parts" / "model.safetensors").exists()
    train(name, None, resume=tmp_path / "parts")
    assert_same(whole, tmp_path / "parts")


@pytest.mark.parametrize("precision", ["w8", "w158", "shift3"])
def test_quantised_from_float(precision: str, run: Path, data: Path, tmp_path: Path) -> None:
    """It begins with the float weights, keeps them on their grid, and says so in its files."""
    import torch

    config = {"epochs": 1, "batch_size": 60, "precision": precision, "start": str(run)}
    slow = {"optimizer": {"name": "sgd", "learning_rate": 1e-7, "momentum": 0.0}}
    result = train("har-l2mu", config | slow, data=data, output=tmp_path / "run")
    assert header(tmp_path / "run")["precision"] == precision
    model = loaded(tmp_path / "run", precision=precision)
    given, labels = scores(model, tmp_path / "run")
    assert (given.argmax(1) == labels).mean() == result.test.accuracy
    weight = model.output.weight.detach()
    floats = loaded(run).output.weight.detach()
    levels = {"w8": 255, "w158": 3, "shift3": 8}[precision]
    for row in weight:
        assert len(row.unique()) <= levels
    # As good as not trained, so the start shows: rounding is all that happened to it.
    alike = torch.nn.functional.cosine_similarity(weight.flatten(), floats.flatten(), 0)
    assert float(alike) > {"w8": 0.999, "w158": 0.8, "shift3": 0.85}[precision]
    nodes: dict[str, Any] = dict(model.graph().nodes)
    element = {"w8": "int8", "w158": "ternary", "shift3": "shift3"}[precision]
    assert nodes["w_o"].weight.element == element
    assert nodes["a"].weight.element == "int8"


@pytest.mark.parametrize(
    ("name", "precision"),
    [("har-l2mu-synaptic", "w8"), ("har-scnn", "shift3"), ("har-lmu", "w8"), ("har-cnn", "w158")],
)
def test_every_network_of_the_study(name: str, precision: str, data: Path, tmp_path: Path) -> None:
    """Float, then quantised from there; the files give the reported accuracy."""
    config: dict[str, Any] = {"epochs": 1, "batch_size": 60}
    train(name, config, data=data, output=tmp_path / "float")
    config |= {"precision": precision, "start": str(tmp_path / "float")}
    result = train(name, config, data=data, output=tmp_path / "run")
    given, labels = scores(loaded(tmp_path / "run", name, precision), tmp_path / "run")
    assert (given.argmax(1) == labels).mean() == result.test.accuracy
    assert np.isfinite(given).all()


def test_spikes_cost(run: Path, data: Path, tmp_path: Path) -> None:
    """A penalty without a free rate silences a network; one below the target costs nothing."""
    config = QUICK | {"spikes": {"penalty": 200.0, "target": 0.0}}
    train("har-l2mu", config, data=data, output=tmp_path / "sparse")
    free = QUICK | {"spikes": {"penalty": 0.0}}
    train("har-l2mu", free, data=data, output=tmp_path / "free")
    assert rate(tmp_path / "sparse") < 0.8 * rate(tmp_path / "free")
    generous = QUICK | {"spikes": {"penalty": 200.0, "target": 1.0}}
    train("har-l2mu", generous, data=data, output=tmp_path / "generous")
    weights = [(tmp_path / name / "model.safetensors") for name in ("free", "generous")]
    assert weights[0].read_bytes() == weights[1].read_bytes()


def test_gradients_are_clipped(run: Path, data: Path, tmp_path: Path) -> None:
    """With plain gradient descent a step is no longer than the rate times the limit."""
    import torch
    from safetensors.torch import load_file

    config = QUICK | {
        "epochs": 1,
        "gradient_clip": 1e-3,
        "optimizer": {"name": "sgd", "learning_rate": 1.0, "momentum": 0.0, "weight_decay": 0.0},
        "schedule": {"name": "constant", "warmup_epochs": 0.0},
        "start": str(run),
    }
    steps = []
    options = {"data": data, "output": tmp_path / "run"}
    train("har-l2mu", config, **options, on_step=lambda *at: steps.append(at))
    before, after = (load_file(f / "model.safetensors") for f in (run, tmp_path / "run"))
    trained = dict(loaded(run).named_parameters())
    moved = torch.cat([(after[name] - before[name]).flatten() for name in trained])
    assert 0 < float(moved.norm()) <= len(steps) * 1e-3 * 1.01


def test_patience_ends_a_training(data: Path, tmp_path: Path) -> None:
    """After epochs without a better validation; resuming what ended changes nothing."""
    still = {"name": "sgd", "learning_rate": 1e-7, "momentum": 0.0}  # nothing is learned
    config = QUICK | {"epochs": 50, "batch_size": 84, "patience": 2, "optimizer": still}
    result = train("har-scnn", config, data=data, output=tmp_path / "run")
    assert result.epochs == result.best_epoch + 2 < 50
    assert len(json.loads((tmp_path / "run" / "history.json").read_text())) == result.epochs
    files = ("model.safetensors", "history.json", "metrics.json")
    before = {name: (tmp_path / "run" / name).read_bytes() for name in files}
    train("har-scnn", None, resume=tmp_path / "run")
    assert {name: (tmp_path / "run" / name).read_bytes() for name in files} == before

    def stop(epoch: int, *_: int) -> None:
        if epoch == result.epochs:
            raise StopError

    options = {"data": data, "output": tmp_path / "parts"}
    with pytest.raises(StopError):
        train("har-scnn", config, **options, on_step=stop)
    train("har-scnn", None, resume=tmp_path / "parts")
    assert_same(tmp_path / "run", tmp_path / "parts")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"precision": "w3"}, "precision: must be empty or one of w8, w4, w158"),
        ({"precision": "w8a8"}, "precision: must be empty or one of"),
        ({"precision": 8}, "precision: must be text"),
        ({"start": 3}, "start: must be text"),
        ({"patience": -1}, "patience: must be an integer from 0"),
        ({"gradient_clip": -1.0}, "gradient_clip: must be a number from 0"),
        ({"score_scale": 0}, "score_scale: must be a number from 1e-06"),
        ({"spikes": {"target": 2}}, "spikes.target: must be a number from 0 to 1"),
        ({"spikes": {"penality": 1.0}}, "spikes.penality: unknown; did you mean penalty"),
        ({"spikes": 1.0}, "spikes: must be a table"),
        ({"network": "har-cnn", "spikes": {"penalty": 0.1}}, "spikes.penalty: har-cnn has no"),
    ],
)
def test_impossible_recipes(
    changes: dict[str, Any], message: str, data: Path, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=message):
        train("har-l2mu", QUICK | changes, data=data, output=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def broken_start(kind: str, run: Path, folder: Path) -> None:
    """A folder that no training begins with."""
    from safetensors import safe_open
    from safetensors.numpy import load_file, save_file

    shutil.copytree(run, folder)
    path = folder / "model.safetensors"
    with safe_open(path, framework="np") as file:
        about = json.loads(file.metadata()["edgekit"])
    tensors = load_file(path)
    if kind == "gone":
        path.unlink()
    elif kind == "cut":
        path.write_bytes(path.read_bytes()[:1000])
    elif kind == "another network":
        save_file(tensors, path, metadata={"edgekit": json.dumps(about | {"network": "har-scnn"})})
    elif kind == "quantised":
        save_file(tensors, path, metadata={"edgekit": json.dumps(about | {"precision": "w8"})})
    elif kind == "other tensors":
        tensors["output.bias"] = np.zeros(3, np.float32)
        save_file(tensors, path, metadata={"edgekit": json.dumps(about)})
    elif kind == "no header":
        save_file(tensors, path)
    else:
        save_file(tensors, path, metadata={"edgekit": kind})


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("gone", "no training to begin with"),
        ("cut", "no training to begin with"),
        ("another network", "holds har-scnn fp32, must be har-l2mu fp32"),
        ("quantised", "holds har-l2mu w8, must be har-l2mu fp32"),
        ("other tensors", "output.bias"),
        ("no header", "holds None fp32, must be har-l2mu fp32"),
        ("[1]", "no training to begin with"),
        ("{", "no training to begin with"),
        ("[" * 100_000, "no training to begin with"),
    ],
    ids=lambda value: value[:16] if isinstance(value, str) else None,
)
def test_a_start_that_is_none(
    kind: str, message: str, run: Path, data: Path, tmp_path: Path
) -> None:
    """Refused with the file's path, before anything is written."""
    broken_start(kind, run, tmp_path / "start")
    config = QUICK | {"precision": "w8", "start": str(tmp_path / "start")}
    with pytest.raises(OutputError, match="start: .*model.safetensors") as refused:
        train("har-l2mu", config, data=data, output=tmp_path / "run")
    assert message in str(refused.value)
    assert not (tmp_path / "run").exists()


def test_another_shape_of_windows_is_told(tmp_path: Path) -> None:
    """What the networks take is checked against the data, with the axes in their order."""
    from edgekit.errors import InvalidDataError

    path = tmp_path / "windows.npz"
    np.savez(
        path,
        X=np.zeros((20, 6, 40), np.int16),
        scale=np.full(40, 0.01),
        y=np.arange(20) % 7,
        class_names=np.array(list("abcdefg")),
        subject=np.arange(20) % 5,
        split=np.array([0, 0, 0, 1, 2])[np.arange(20) % 5],
    )
    with pytest.raises(EdgekitError) as refused:
        train("har-l2mu", QUICK, data=path, output=tmp_path / "run")
    assert isinstance(refused.value, InvalidDataError)
    assert not (tmp_path / "run").exists()

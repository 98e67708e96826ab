"""What snnTorch's exporter writes: read, run as the module runs, written again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import nir
import nirtorch
import numpy as np
import pytest
import snntorch as snn
import torch
from snntorch import import_nir as snn_import
from snntorch.export_nir import export_to_nir

from edgekit.errors import VerificationError
from edgekit.spiking.drift import Trace
from edgekit.spiking.nir import check_drift, import_nir, write_nir
from edgekit.spiking.simulate import Simulator
from tests.support.nir_files import assert_same_file

pytestmark = [
    pytest.mark.torch,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:divide by zero:RuntimeWarning"),
    pytest.mark.filterwarnings("ignore:Using padding:UserWarning"),
]

STEPS = 60


def neuron(kind: str, count: int, *, beta: float = 0.9, threshold: float = 0.5, **more: Any) -> Any:
    """A population with one value per neuron: of one for all, nir 1.0.8 infers no type."""
    decays = {"beta": torch.full((count,), beta)}
    if "Synaptic" in kind:
        decays["alpha"] = torch.full((count,), 0.7)
    limit = torch.full((count,), threshold)
    return getattr(snn, kind)(**decays, threshold=limit, init_hidden=True, **more)


def sequence(*modules: Any) -> Any:
    return torch.nn.Sequential(*modules)


def dense(*modules: Any) -> Any:
    return sequence(torch.nn.Linear(6, 5), *modules)


def convolutional() -> Any:
    beta, limit = torch.full((4, 8, 8), 0.8), torch.full((4, 8, 8), 0.3)
    return sequence(
        torch.nn.Conv2d(2, 4, 3, padding=1, groups=2),
        snn.Leaky(beta=beta, threshold=limit, init_hidden=True),
        torch.nn.AvgPool2d(2),
        torch.nn.Conv2d(4, 3, 2, stride=(1, 2), dilation=(1, 2), bias=False),
        torch.nn.AvgPool2d((2, 1), stride=(1, 1)),
        torch.nn.Flatten(),
        torch.nn.Linear(6, 4),
        neuron("Leaky", 4),
    )


class Nested(torch.nn.Module):
    """Names with dots."""

    def __init__(self) -> None:
        super().__init__()
        self.body = dense(snn.Leaky(beta=torch.rand(5), threshold=torch.rand(5), init_hidden=True))
        self.head = torch.nn.Linear(5, 3, bias=False)

    def forward(self, x: Any) -> Any:
        return self.head(self.body(x))


NETWORKS: dict[str, tuple[Callable[[], Any], tuple[int, ...]]] = {
    "linear": (lambda: dense(torch.nn.Linear(5, 3, bias=False)), (6,)),
    "leaky": (lambda: dense(neuron("Leaky", 5)), (6,)),
    "leaky without decay": (lambda: dense(neuron("Leaky", 5, beta=1.0)), (6,)),
    "leaky without memory": (lambda: dense(neuron("Leaky", 5, beta=0.0)), (6,)),
    "leaky of any beta": (Nested, (6,)),
    "synaptic": (lambda: dense(neuron("Synaptic", 5)), (6,)),
    "rleaky": (lambda: dense(neuron("RLeaky", 5, linear_features=5)), (6,)),
    "rleaky one to one": (
        lambda: dense(neuron("RLeaky", 5, all_to_all=False, V=torch.rand(5))),
        (6,),
    ),
    "rsynaptic": (
        lambda: dense(
            neuron("RSynaptic", 5, linear_features=5), torch.nn.Linear(5, 3), neuron("Leaky", 3)
        ),
        (6,),
    ),
    "rsynaptic one to one": (
        lambda: dense(neuron("RSynaptic", 5, all_to_all=False, V=torch.rand(5))),
        (6,),
    ),
    "convolution": (convolutional, (2, 8, 8)),
    "convolution same": (
        lambda: sequence(torch.nn.Conv2d(2, 3, (4, 3), padding="same"), torch.nn.Flatten()),
        (2, 8, 8),
    ),
}
"""Every kind of module that export_to_nir knows, in every form that it can write."""


def exported(name: str, folder: Path, seed: int = 0) -> tuple[Any, Path, tuple[int, ...]]:
    """A module and the file that snnTorch makes of it."""
    torch.manual_seed(seed)
    make, shape = NETWORKS[name]
    module = make()
    path = folder / "network.nir"
    nir.write(path, export_to_nir(module, torch.randn(3, *shape), ignore_dims=[0]))
    return module, path, shape


def run_module(module: Any, window: np.ndarray) -> np.ndarray:
    """What the module gives for [T,...], from zero."""
    for part in module.modules():
        if hasattr(part, "reset_mem"):
            part.reset_mem()
    with torch.no_grad():
        return np.stack([module(torch.from_numpy(x[None]))[0].numpy() for x in window])


def window_of(shape: tuple[int, ...], seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 1.5, (STEPS, *shape)).astype(np.float32)


@pytest.mark.parametrize("name", NETWORKS)
def test_a_file_of_snntorch_is_written_again_to_the_bit(name: str, tmp_path: Path) -> None:
    _, path, _ = exported(name, tmp_path)
    imported = import_nir(path, convention="snntorch")
    again = write_nir(imported.graph, tmp_path / "again.nir", like=imported)
    assert_same_file(path, again)


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("convention", ["nir", "snntorch"])
def test_written_in_our_own_terms_it_is_the_same_network(
    name: str, convention: str, tmp_path: Path
) -> None:
    _, path, shape = exported(name, tmp_path)
    graph = import_nir(path, convention=convention).graph
    again = import_nir(write_nir(graph, tmp_path / "again.nir")).graph
    window = window_of(shape)
    for key, value in Simulator(graph).run(window).items():
        assert value.tobytes() == Simulator(again).run(window)[key].tobytes()


@pytest.mark.parametrize("name", NETWORKS)
def test_it_runs_as_the_module_does(name: str, tmp_path: Path) -> None:
    module, path, shape = exported(name, tmp_path)
    window = window_of(shape)
    graph = import_nir(path, convention="snntorch").graph
    assert np.allclose(
        Simulator(graph).run(window)["output"], run_module(module, window), atol=1e-5
    )


@pytest.mark.parametrize("name", ["rleaky", "rleaky one to one", "rsynaptic"])
def test_a_recurrent_graph_runs_as_the_reference_runs_it(name: str, tmp_path: Path) -> None:
    """The executor of nirtorch with the neurons of snnTorch's importer, on the same file.

    The executor hands the recurrent layer's value on, whose bias is thus missing in the first step
    where an equation, and snnTorch's own RLeaky, have it: the bias is 0 here.
    """
    module, path, shape = exported(name, tmp_path)
    with torch.no_grad():
        for part in module.modules():
            if isinstance(getattr(part, "recurrent", None), torch.nn.Linear):
                part.recurrent.bias.zero_()
    nir.write(path, export_to_nir(module, torch.randn(3, *shape), ignore_dims=[0]))

    def mapped(node: Any) -> Any:
        return snn_import._nir_to_snntorch_module(node, init_hidden=True)

    types = (nir.Affine, nir.Linear, nir.LIF, nir.CubaLIF)
    reference = nirtorch.nir_to_torch(nir.read(path), dict.fromkeys(types, mapped))
    window, state, expected = window_of(shape), None, []
    with torch.no_grad():
        for x in window:
            y, state = reference(torch.from_numpy(x[None]), state)
            expected.append(y[0].numpy())
    assert 0 < np.mean(expected) < 1
    ours = Simulator(import_nir(path).graph).run(window)["output"]
    np.testing.assert_array_equal(ours, np.stack(expected))


def test_the_reset_that_the_file_cannot_say_shows_as_drift(tmp_path: Path) -> None:
    module, path, shape = exported("leaky", tmp_path)
    windows = np.stack([window_of(shape, seed) for seed in range(3)])
    module[1].output = True
    membranes, spikes = [], []
    for window in windows:
        module[1].reset_mem()
        with torch.no_grad():
            steps = [module(torch.from_numpy(x[None])) for x in window]
        spikes.append([spike[0].numpy() > 0 for spike, _ in steps])
        membranes.append([membrane[0].numpy() for _, membrane in steps])
    reference = {"1": Trace(np.array(membranes), np.array(spikes))}
    drift = check_drift(import_nir(path, convention="snntorch"), windows, reference)
    drift.raise_if()
    assert drift.spikes > 50 and drift.membrane_difference < 1e-5
    with pytest.raises(VerificationError, match="fires on one side only|membranes are up to"):
        check_drift(import_nir(path, reset="zero"), windows, reference).raise_if()


@pytest.mark.parametrize(
    ("kind", "reset"), [("Leaky", "zero"), ("Synaptic", "zero-next"), ("RSynaptic", "zero-next")]
)
def test_each_reset_to_zero_of_snntorch_has_its_name(kind: str, reset: str, tmp_path: Path) -> None:
    torch.manual_seed(3)
    more = {"linear_features": 5} if kind[0] == "R" else {}
    module = dense(neuron(kind, 5, reset_mechanism="zero", **more))
    path = tmp_path / "network.nir"
    nir.write(path, export_to_nir(module, torch.randn(3, 6), ignore_dims=[0]))
    window = window_of((6,))
    expected = run_module(module, window)
    assert 0 < expected.mean() < 1
    ours = Simulator(import_nir(path, reset=reset).graph).run(window)["output"]
    np.testing.assert_array_equal(ours, expected)


def test_rleaky_that_zeroes_in_the_next_step(tmp_path: Path) -> None:
    torch.manual_seed(4)
    module = dense(neuron("RLeaky", 5, reset_mechanism="zero", linear_features=5))
    path = tmp_path / "network.nir"
    nir.write(path, export_to_nir(module, torch.randn(3, 6), ignore_dims=[0]))
    window = window_of((6,))
    ours = Simulator(import_nir(path, reset="zero-next").graph).run(window)["output"]
    np.testing.assert_array_equal(ours, run_module(module, window))

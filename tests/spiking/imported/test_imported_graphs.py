"""What imported networks become: nodes and edges, and the network they came from left alone."""

from __future__ import annotations

import copy
import sys
from typing import Any

import numpy as np
import pytest
import snntorch
import torch
from torch import Tensor, nn

from edgekit.errors import UnsupportedError, VerificationError
from edgekit.spiking import (
    Conv,
    Count,
    Edge,
    Flatten,
    Input,
    Leaky,
    Linear,
    Output,
    Scale,
    SpikingGraph,
    Synaptic,
    Weight,
)
from edgekit.spiking.imported import check_drift, from_snntorch, is_spiking

pytestmark = [pytest.mark.torch, pytest.mark.needs("torch")]

SAMPLE = torch.linspace(-1, 1, 12).reshape(2, 6)


def leaky(**kwargs: Any) -> nn.Module:
    return snntorch.Leaky(**{"beta": 0.9, "init_hidden": True, **kwargs})


def kinds(graph: SpikingGraph) -> dict[str, str]:
    return {name: type(node).__name__ for name, node in graph.nodes.items()}


def test_names_come_from_modules() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.features = nn.Sequential(nn.Linear(6, 4), leaky())
            self.input = snntorch.RLeaky(beta=0.5, linear_features=4, init_hidden=True)

        def forward(self, x: Tensor) -> Tensor:
            return self.input(self.features(x))

    graph = from_snntorch(Net(), SAMPLE)
    assert graph.name == "Net"
    assert kinds(graph) == {
        "input": "Input",
        "features_1": "Leaky",
        "input_2": "Leaky",
        "features_0": "Linear",
        "input_recurrent": "Linear",
        "spikes": "Output",
    }
    assert Edge("input_2", "input_recurrent", 1) in graph.edges
    assert Edge("features_1", "input_2", 0) in graph.edges


def test_batch_norm_dropout_and_identity_leave_no_node() -> None:
    network = nn.Sequential(
        *(nn.Conv2d(1, 4, 3, bias=False), nn.BatchNorm2d(4), nn.Dropout2d(), nn.Identity()),
        *(leaky(), nn.AvgPool2d(2), nn.Flatten(), nn.BatchNorm1d(16), nn.Linear(16, 3)),
        *(nn.BatchNorm1d(3), leaky()),
    )
    for part in network:
        if isinstance(part, nn.BatchNorm1d | nn.BatchNorm2d):
            nn.init.uniform_(part.running_mean, -1, 1)
            nn.init.uniform_(part.running_var, 0.5, 2)
            nn.init.uniform_(part.weight, -1, 1)
    graph = from_snntorch(network, torch.randn(2, 1, 6, 6))
    assert kinds(graph) == {
        "input": "Input",
        "leaky_4": "Leaky",
        "leaky_10": "Leaky",
        "conv2d_0": "Conv",
        "avg_pool": "AvgPool",
        "flatten": "Flatten",
        "linear_8": "Linear",
        "spikes": "Output",
    }
    norm = network[1]
    factor = norm.weight / torch.sqrt(norm.running_var + norm.eps)
    expected = network[0].weight * factor.reshape(-1, 1, 1, 1)
    conv = graph.nodes["conv2d_0"]
    np.testing.assert_allclose(conv.weight.values, expected.detach().numpy(), rtol=1e-6)
    np.testing.assert_allclose(
        conv.bias, (norm.bias - norm.running_mean * factor).detach().numpy(), rtol=1e-5
    )


def test_a_batch_norm_that_no_weight_takes_is_one_weight_per_channel() -> None:
    network = nn.Sequential(nn.BatchNorm2d(2), leaky())
    nn.init.uniform_(network[0].running_mean, -1, 1)
    node = from_snntorch(network, torch.randn(1, 2, 3, 3)).nodes["batch_norm_0"]
    assert isinstance(node, Conv)
    assert (node.weight.shape, node.groups) == ((2, 1, 1, 1), 2)


def test_graded_spikes_go_into_the_weights_that_read_them() -> None:
    factor = torch.linspace(0.5, 2, 6)
    network = nn.Sequential(
        leaky(graded_spikes_factor=factor), nn.Linear(6, 4), leaky(graded_spikes_factor=3.0)
    )
    graph = from_snntorch(network, SAMPLE)
    expected = (network[1].weight * factor).detach().numpy()
    np.testing.assert_allclose(graph.nodes["linear_1"].weight.values, expected, rtol=1e-6)
    grade = graph.nodes["leaky_2_grade"]
    assert isinstance(grade, Linear)
    assert grade.weight.values.tolist() == [[3.0]] * 4


@pytest.mark.parametrize(
    ("neuron", "expected"),
    [
        (snntorch.Leaky(beta=0.5, reset_mechanism="zero"), Leaky),
        (snntorch.RLeaky(beta=0.5, linear_features=6, reset_mechanism="zero"), Synaptic),
        (snntorch.RLeaky(beta=0.5, linear_features=6), Leaky),
        (snntorch.Lapicque(R=1.0, C=4.0, reset_mechanism="zero"), Synaptic),
        (snntorch.Lapicque(R=1.0, C=4.0, reset_mechanism="none"), Leaky),
    ],
)
def test_which_membrane_a_reset_zeroes(neuron: Any, expected: type) -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lif = neuron

        def forward(self, x: Tensor) -> Tensor:
            self.lif.reset_mem()
            return torch.stack([self.lif(x * 2)[0] for _ in range(20)])

    graph = from_snntorch(Net(), SAMPLE)
    node = graph.nodes["lif"]
    assert type(node) is expected
    if isinstance(node, Synaptic):
        assert node.alpha.tolist() == [0.0]
    if isinstance(neuron, snntorch.Lapicque):
        assert node.beta.tolist() == [0.75]


def test_parameters_are_as_small_as_they_can_be() -> None:
    beta = torch.rand(4, 1, 1)
    full = torch.rand(4, 3, 3)
    network = nn.Sequential(
        *(nn.Conv2d(1, 4, 1), leaky(beta=beta, threshold=torch.full((3,), 0.5))),
        *(nn.Conv2d(4, 4, 1), leaky(beta=torch.rand(1), threshold=full)),
    )
    graph = from_snntorch(network, torch.randn(1, 1, 3, 3))
    first, second = graph.nodes["leaky_1"], graph.nodes["leaky_3"]
    np.testing.assert_array_equal(first.beta, beta.flatten().numpy())
    assert first.threshold.tolist() == [0.5]
    np.testing.assert_array_equal(second.threshold, full.numpy())
    assert second.beta.shape == (1,)


class Results(nn.Module):
    """Whatever a test wants to see of two layers."""

    def __init__(self, pick: Any, **kwargs: Any) -> None:
        super().__init__()
        self.fc, self.lif = nn.Linear(6, 5), snntorch.Leaky(beta=0.9, threshold=0.3, **kwargs)
        self.pick = pick

    def forward(self, x: Tensor) -> Any:
        self.lif.reset_mem()
        spikes, membranes = zip(*(self.lif(self.fc(x)) for _ in range(30)), strict=True)
        return self.pick(torch.stack(spikes), torch.stack(membranes))


def test_totals_are_counts() -> None:
    graph = from_snntorch(Results(lambda s, _: (s.sum(0), s)), SAMPLE)
    assert graph.outputs() == ("scores", "spikes")
    assert graph.incoming("scores") == (Edge("lif_count", "scores"),)
    assert isinstance(graph.nodes["lif_count"], Count)


def test_means_are_counts_and_a_factor() -> None:
    graph = from_snntorch(Results(lambda s, _: s.mean(0)), SAMPLE)
    (edge,) = graph.incoming("scores")
    node = graph.nodes[edge.source]
    assert isinstance(node, Scale)
    assert node.factor.tolist() == [np.float32(1 / 30)]
    assert isinstance(graph.nodes[graph.incoming(edge.source)[0].source], Count)


@pytest.mark.parametrize("how", ["sum", "mean"])
@pytest.mark.parametrize(
    "away",
    [
        lambda kept: kept.squeeze(0),
        lambda kept: kept[0],
        lambda kept: kept.reshape(-1, 5),
        lambda kept: kept.transpose(0, 1)[:, 0],
        lambda kept: kept.sum(0),
    ],
)
def test_an_axis_that_totals_keep_may_go_later(how: str, away: Any) -> None:
    """With keepdim=True a total is the same once its axis of 1 is gone."""
    plain = from_snntorch(Results(lambda s, _: getattr(s, how)(0)), SAMPLE)
    kept = from_snntorch(Results(lambda s, _: away(getattr(s, how)(0, keepdim=True))), SAMPLE)
    assert kinds(kept) == kinds(plain)
    assert kept.edges == plain.edges
    numpys = from_snntorch(Results(lambda s, _: away(getattr(s, how)(0, keepdims=True))), SAMPLE)
    assert numpys.edges == plain.edges


def test_an_axis_that_totals_keep_must_go() -> None:
    """As it is, it would stand for steps."""
    with pytest.raises(UnsupportedError, match=r"axis of 1 in place of its 30 steps.*squeeze"):
        from_snntorch(Results(lambda s, _: s.sum(0, keepdim=True)), SAMPLE)


def test_axes_may_have_numpys_names() -> None:
    graph = from_snntorch(Results(lambda s, _: torch.stack([*s], axis=1).sum(axis=1)), SAMPLE)
    assert isinstance(graph.nodes["lif_count"], Count)
    assert graph.outputs() == ("scores",)


def test_the_same_result_twice_is_one_output() -> None:
    graph = from_snntorch(Results(lambda s, _: {"all": s, "last": s[-1]}), SAMPLE)
    assert graph.outputs() == ("spikes",)


def test_membranes_leave_only_where_they_are_wanted() -> None:
    network = Results(lambda s, u: (s, u))
    assert from_snntorch(network, SAMPLE).outputs() == ("spikes",)
    both = from_snntorch(network, SAMPLE, membranes=True)
    assert both.outputs() == ("spikes", "membranes")
    assert both.populations() == ("lif",)
    assert not both.nodes["lif_membrane"].spiking
    alone = from_snntorch(Results(lambda _, u: u), SAMPLE)
    assert alone.outputs() == ("membranes",)


def test_an_integrator_has_no_spikes() -> None:
    graph = from_snntorch(Results(lambda _, u: u[-1], reset_mechanism="none"), SAMPLE)
    assert kinds(graph) == {"input": "Input", "lif": "Leaky", "fc": "Linear", "membranes": "Output"}
    assert not graph.nodes["lif"].spiking


def test_a_sum_of_membranes_is_an_integrator() -> None:
    graph = from_snntorch(Results(lambda _, u: u.sum(0), reset_mechanism="none"), SAMPLE)
    node = graph.nodes["lif_sum"]
    assert isinstance(node, Leaky)
    assert (node.beta.tolist(), node.spiking) == ([1.0], False)


def test_views_of_the_input_are_its_shape() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.lif = nn.Conv1d(2, 3, 2), leaky()

        def forward(self, x: Tensor) -> Tensor:
            return self.lif(self.conv(x.view(-1, 2, 3)))

    graph = from_snntorch(Net(), SAMPLE)
    assert graph.nodes["input"] == Input((2, 3))
    assert not any(isinstance(node, Flatten) for node in graph.nodes.values())


def test_layers_that_nothing_reads_are_left_out() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc, self.lif = nn.Linear(6, 3), leaky()
            self.side, self.other = nn.Linear(6, 3), leaky()

        def forward(self, x: Tensor) -> Tensor:
            self.other(self.side(x))
            return self.lif(self.fc(x))

    assert set(from_snntorch(Net(), SAMPLE).nodes) == {"input", "lif", "fc", "spikes"}


def test_the_network_is_left_as_it_was() -> None:
    network = nn.Sequential(nn.Linear(6, 4), nn.BatchNorm1d(4), nn.Dropout(), leaky()).train()
    network(SAMPLE)
    membrane, before = network[3].mem, copy.deepcopy(network.state_dict())
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    from_snntorch(network, SAMPLE)
    assert torch.equal(torch.rand(3), expected)
    assert network[3].mem is membrane
    assert all(part.training for part in network.modules())
    assert "forward" not in vars(network[3])
    after = network.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())
    network[3].register_forward_hook(lambda *_: (_ for _ in ()).throw(RuntimeError("no")))
    with pytest.raises(Exception, match="RuntimeError: no"):
        from_snntorch(network, SAMPLE)
    assert network[3].mem is membrane
    assert "forward" not in vars(network[3])
    assert network.training


def test_samples_of_a_batch_do_not_change_the_graph() -> None:
    torch.manual_seed(1)
    network = nn.Sequential(nn.Linear(6, 4), leaky())
    one, two = (from_snntorch(network, SAMPLE[:n]) for n in (1, 2))
    assert (kinds(one), one.edges) == (kinds(two), two.edges)
    for name in ("weight", "bias"):
        left, right = (getattr(g.nodes["linear_0"], name) for g in (one, two))
        values = (left.values, right.values) if isinstance(left, Weight) else (left, right)
        np.testing.assert_array_equal(*values)


def test_a_changed_graph_drifts() -> None:
    torch.manual_seed(2)
    network = nn.Sequential(nn.Linear(6, 16), leaky(), nn.Linear(16, 4), leaky())
    graph = from_snntorch(network, SAMPLE)
    node = graph.nodes["linear_2"]
    moved = Linear(Weight(node.weight.values * np.float32(1.05)), node.bias)
    samples = torch.randn(80, 4, 6)
    assert check_drift(graph, network, samples, time_axis=0).differing == 0
    drift = check_drift(graph.with_nodes({"linear_2": moved}), network, samples, time_axis=0)
    assert drift.differing > 0
    assert drift.first is not None
    assert drift.first.population == "leaky_3"
    with pytest.raises(VerificationError, match="leaky_3"):
        drift.raise_if()


def test_a_wrong_import_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    network = nn.Sequential(nn.Linear(6, 16), leaky(), nn.Linear(16, 4), leaky())
    monkeypatch.setattr(
        "edgekit.spiking.imported.layers._bias", lambda bias: np.zeros(len(bias), np.float32)
    )
    with pytest.raises(VerificationError, match="networks differ"):
        from_snntorch(network, SAMPLE)
    assert isinstance(from_snntorch(network, SAMPLE, check=False).nodes["spikes"], Output)


def test_is_spiking() -> None:
    assert is_spiking(nn.Sequential(nn.Linear(2, 2), leaky()))
    assert is_spiking(snntorch.Alpha(alpha=0.9, beta=0.8))
    assert not is_spiking(nn.Linear(2, 2))
    assert not is_spiking("snntorch")


def test_is_spiking_imports_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    network = leaky()
    monkeypatch.delitem(sys.modules, "snntorch")
    assert not is_spiking(network)
    assert "snntorch" not in sys.modules

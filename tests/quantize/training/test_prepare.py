"""Preparing networks for quantised training: places of quantisers, plans, and any training loop."""

from __future__ import annotations

import copy
import io
import logging
import os
import pickle
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from edgekit.errors import (
    InvalidDataError,
    InvalidModelError,
    UnsupportedError,
    UsageError,
)
from edgekit.quantize import Recipe
from edgekit.quantize.training import (
    PreparedModule,
    QuantizationSchedule,
    calibrate,
    freeze_observers,
    prepare,
)
from edgekit.quantize.training.activations import StaticQuantizer, quantizers_of
from edgekit.zoo.table import build
from tests.support.trainable_networks import (
    Convolutions,
    Recurrent,
    Tokens,
    Upsampling,
    disturb,
    small_cnn,
)

pytestmark = [pytest.mark.torch, pytest.mark.needs("torch")]

IMAGES = (32, 2, 6, 6)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def labels(count: int = 32, classes: int = 4) -> Tensor:
    return torch.randint(0, classes, (count,), generator=torch.Generator().manual_seed(1))


def train(model: nn.Module, x: Any, steps: int = 8, **settings: Any) -> list[float]:
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3, **settings)
    losses = []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = functional.cross_entropy(model(x), labels(len(x)))
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


@pytest.fixture
def cnn() -> nn.Module:
    torch.manual_seed(0)
    return small_cnn()


# Places


def test_names_hierarchy_and_unused_parts_stay() -> None:
    plain = Convolutions()
    plain.unused = nn.Linear(3, 3)  # type: ignore[assignment]
    prepared = prepare(plain, "w4a8", normal(4, 3, 12))
    names = [name for name, _ in plain.named_modules()]
    assert [n for n, _ in prepared.named_modules() if n in names] == names
    assert {n for n in plain.state_dict() if "weight" not in n} <= set(prepared.state_dict())
    assert "unused: forward does not use it" in prepared.plan.in_float
    assert type(prepared.get_submodule("norm")) is nn.BatchNorm1d


def test_residual_network_is_quantised_like_the_integer_one() -> None:
    prepared = prepare(build("resnet8"), "w4a8", normal(2, 3, 32, 32))
    values = prepared.plan.activations
    assert len(values) == 14
    # The average pool keeps the scale of what it reads; flattening has none.
    assert "_3_activation+_4" in values
    assert not prepared.plan.in_float


def test_functions_share_and_prescribe_scales() -> None:
    prepared = prepare(Convolutions(), "w8a8", normal(4, 3, 12))
    values = prepared.plan.activations
    # Concat shares its scale with the ReLU, not with the sigmoid, whose scale is prescribed.
    assert "relu+cat" in values
    assert "sigmoid" in values
    assert "relu6" in values
    assert not any("pool1d" in v and "max" in v for v in values)
    fixed = prepared.get_submodule("activation_quantizers.sigmoid")
    assert float(fixed.scale) == 1 / 256  # type: ignore[arg-type]
    # Its own mode decides about dropout, not that of the trace.
    x = normal(4, 3, 12)
    prepared.eval()
    assert torch.equal(prepared(x), prepared(x))
    prepared.train()
    freeze_observers(prepared)
    assert not torch.equal(prepared(x), prepared(x))


def test_quantised_values_are_on_their_grids() -> None:
    prepared = prepare(Convolutions(), "w4a8", normal(4, 3, 12)).eval()
    seen = []
    for name, part in prepared.named_modules():
        if isinstance(part, StaticQuantizer):
            part.register_forward_hook(lambda m, _, y, name=name: seen.append((name, m, y)))
    prepared(normal(4, 3, 12))
    assert seen
    for name, quantizer, value in seen:
        codes = value / quantizer.scale
        assert torch.allclose(codes, codes.round(), atol=1e-4), name


def test_tokens_stay_float_between_their_layers() -> None:
    prepared = prepare(Tokens(), "w158a8-token", normal(4, 5, 8))
    inner = [v for v in prepared.plan.activations if v.endswith("_input")]
    assert len(inner) == 4
    # The last layer has a constant scale and reads a float.
    assert "mean" in prepared.plan.activations
    alone = prepare(Tokens(), "w158a8-token", normal(4, 5, 8), keep_ends=False)
    assert len(alone.plan.activations) == 6


def test_signs_take_the_place_of_relu() -> None:
    prepared = prepare(small_cnn(), {"0": "w8a8", "7": "w8a8", "*": "w1a1"}, normal(*IMAGES))
    assert "2" not in [str(n.target) for n in prepared.graph.nodes]
    assert "5" in [str(n.target) for n in prepared.graph.nodes]
    assert any("sign takes the place" in note for note in prepared.plan.layer("3").notes)


def test_layers_that_cannot_be_traced_stay_whole() -> None:
    class Loops(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(4, 4)

        def forward(self, x: Tensor) -> Tensor:
            while bool((x.abs() > 1).any()):
                x = x / 2
            return self.linear(x)  # type: ignore[no-any-return]

    model = nn.Sequential(nn.Linear(4, 4), Loops(), nn.Linear(4, 2))
    prepared = prepare(model, "w4a8", normal(8, 4))
    assert "1: its forward cannot be traced" in prepared.plan.in_float
    assert "1.linear" in [layer.name for layer in prepared.plan.layers]
    with pytest.raises(UnsupportedError, match=r"Loops.forward cannot be traced.*submodule"):
        prepare(Loops(), "w4a8", normal(8, 4))


def test_branches_on_the_mode_are_refused() -> None:
    class Branches(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(4, 4)

        def forward(self, x: Tensor) -> Tensor:
            y = self.linear(x)
            return y + 1 if self.training else y  # type: ignore[no-any-return]

    with pytest.raises(UnsupportedError, match=r"branches on self.training"):
        prepare(Branches(), "w4a8", normal(8, 4))


# Plans


def test_plan_says_what_every_layer_got(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "edgekit"):
        prepared = prepare(small_cnn(), "w4a8-g32", normal(*IMAGES))
    plan = prepared.plan
    assert [str(layer.recipe) for layer in plan.layers] == ["w8a8", "w4a8-g32", "w8a8"]
    assert plan.layer("0").kept_wider
    assert "rows of 72: their last groups hold 8" in str(plan.layer("3"))
    assert "kept wider" in caplog.text
    assert "3 (Conv2d): w4a8-g32" in caplog.text
    every = prepare(small_cnn(), "w4a8", normal(*IMAGES), keep_ends=False)
    assert {str(layer.recipe) for layer in every.plan.layers} == {"w4a8"}
    wide = prepare(small_cnn(), {nn.Linear: "w4a8-g128", "*": "w8a8"}, normal(*IMAGES))
    assert "rows of 72: one group holds each" in str(wide.plan.layer("7"))


def test_tied_weights_stay_tied() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = nn.Linear(6, 6, bias=False)
            self.again = nn.Linear(6, 6, bias=False)
            self.last = nn.Linear(6, 4)
            self.again.weight = self.inner.weight

        def forward(self, x: Tensor) -> Tensor:
            y = torch.relu(self.again(torch.relu(self.inner(x))))
            return self.last(y)  # type: ignore[no-any-return]

    prepared = prepare(Tied(), "shift3a8", normal(32, 6), keep_ends=False)
    first, second = (prepared.get_submodule(name) for name in ("inner", "again"))
    assert first.parametrizations.weight is second.parametrizations.weight  # type: ignore[union-attr]
    train(prepared, normal(32, 6), 3)
    assert torch.equal(first.weight, second.weight)  # type: ignore[arg-type]
    # The first layer is kept wider, so the one that shares its weight is too.
    ends = prepare(Tied(), "w4a8", normal(8, 6))
    assert str(ends.plan.layer("again").recipe) == "w8a8"
    assert "that of inner" in str(ends.plan.layer("again"))
    with pytest.raises(UsageError, match=r"inner and again share one weight"):
        prepare(Tied(), {"inner": "w4a8", "*": "w3a8"}, normal(8, 6))


class _Autoencoder(nn.Module):
    """A kernel that one convolution reads by outputs and the other by inputs."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.Conv1d(3, 5, 3)
        self.up = nn.ConvTranspose1d(5, 3, 3)
        self.up.weight = self.down.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.up(torch.relu(self.down(x)))  # type: ignore[no-any-return]


class _Borrowed(nn.Module):
    """A weight that the network holds under a name of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(6, 6)
        self.matrix = self.inner.weight

    def forward(self, x: Tensor) -> Tensor:
        return functional.linear(torch.relu(self.inner(x)), self.matrix)


def test_ties_that_no_quantiser_can_keep_are_refused() -> None:
    for recipe in ("w4a8", "w158a8", "shift3a8"):
        with pytest.raises(UnsupportedError, match=r'down and up share one.*"up": "fp32"'):
            prepare(_Autoencoder(), recipe, normal(8, 3, 9), keep_ends=False)
    prepare(_Autoencoder(), "fp32", normal(8, 3, 9))
    with pytest.raises(UnsupportedError, match=r"inner\.weight is matrix too.* such as w4"):
        prepare(_Borrowed(), "shift3a8", normal(8, 6), keep_ends=False)
    train(prepare(_Borrowed(), "w4a8", normal(8, 6), keep_ends=False), normal(8, 6), 2)


def test_frozen_parameters_stay_frozen(cnn: nn.Module) -> None:
    cnn.get_submodule("3").requires_grad_(False)
    for recipe in ("w4a8", "shift3a8", "w4a8-lsq"):
        prepared = prepare(cnn, recipe, normal(*IMAGES))
        layer = prepared.get_submodule("3")
        before = layer.weight.clone()  # type: ignore[operator,union-attr]
        assert not any(p.requires_grad for p in layer.parameters()), recipe
        train(prepared, normal(*IMAGES), 3)
        assert torch.equal(layer.weight, before)  # type: ignore[arg-type]
        assert "frozen" in str(prepared.plan.layer("3"))


@pytest.mark.parametrize("inputs", ["tensor", "tuple", "mapping", "numpy"])
def test_example_inputs_in_every_form(inputs: str) -> None:
    x = normal(4, 3, 12)
    forms: dict[str, Any] = {"tensor": x, "tuple": (x,), "mapping": {"x": x}, "numpy": x.numpy()}
    prepared = prepare(Convolutions(), "w8a8", forms[inputs])
    assert prepared(x).shape == (4, 4)
    assert prepared(x=x, mask=None).shape == (4, 4)
    masked = prepare(Convolutions(), "w8a8", {"x": x, "mask": torch.ones(8, 4)})
    assert masked(x, torch.ones(8, 4)).shape == (4, 4)


class _Plain(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.relu()


def _broken(value: float) -> nn.Module:
    model = small_cnn()
    with torch.no_grad():
        model.get_submodule("3").weight[1, 2, 0, 0] = value  # type: ignore[index,operator]
    return model


@pytest.mark.parametrize(
    ("model", "recipe", "example", "error", "message"),
    [
        (small_cnn, "w9a8", normal(*IMAGES), UsageError, "known"),
        (small_cnn, {"convv1": "w4a8", "*": "w8a8"}, normal(*IMAGES), UsageError, "no layer"),
        (small_cnn, {"Conv3d": "w4a8", "*": "w8a8"}, normal(*IMAGES), UsageError, "did you mean"),
        (small_cnn, {"0": "w4a8"}, normal(*IMAGES), UsageError, "no rule for layer"),
        (small_cnn, "w4a8", normal(4, 3, 6, 6), UsageError, "forward fails .* 2 channels"),
        (small_cnn, "w4a8", {"images": normal(*IMAGES)}, UsageError, "no argument 'images'"),
        (small_cnn, "w4a8", torch.full(IMAGES, float("nan")), InvalidDataError, "NaN"),
        (
            lambda: _broken(torch.nan),
            "w4a8",
            normal(*IMAGES),
            InvalidModelError,
            "3.weight: nan",
        ),
        (
            lambda: _broken(torch.inf),
            "w4a8",
            normal(*IMAGES),
            InvalidModelError,
            "3.weight: inf",
        ),
        (lambda: nn.Linear(4, 4), "w4a8", normal(4, 4), UsageError, "Sequential"),
        (_Plain, "w4a8", normal(4, 4), UsageError, "no layers with weights"),
        (lambda: np.zeros(3), "w4a8", normal(4, 4), UsageError, "no torch.nn.Module"),
    ],
)
def test_bad_input_is_refused(
    model: Any, recipe: Any, example: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        prepare(model(), recipe, example)


def test_preparing_twice_is_refused(cnn: nn.Module) -> None:
    prepared = prepare(cnn, "w4a8", normal(*IMAGES))
    with pytest.raises(UsageError, match="parametrised already"):
        prepare(prepared, "w4a8", normal(*IMAGES))


def test_constant_channels_and_zeros_train() -> None:
    model = small_cnn()
    with torch.no_grad():
        for name in ("0", "3"):
            weight = model.get_submodule(name).weight
            weight[0], weight[1] = 0, 0.25  # type: ignore[index,operator]
    for recipe in ("w2a8", "w158a8", "w1a8", "shift3a8", "mxfp4a8"):
        prepared = prepare(model, recipe, torch.zeros(IMAGES), keep_ends=False)
        assert np.isfinite(train(prepared, normal(*IMAGES), 2)).all(), recipe


# Training

RECIPES = ("w8a8", "w4a8-g32", "w2a8", "w158a8", "w158-mean-a8", "shift3a8", "w1a8", "w1a1")
RECIPES += ("w1a1-reste", "fp4-e2m1-g32a8", "mxfp4a8", "nvfp4a8", "w4a8-lsq", "w158a8-token")


@pytest.mark.parametrize("recipe", RECIPES)
def test_training_reduces_the_loss(recipe: str, cnn: nn.Module) -> None:
    prepared = prepare(cnn, recipe, normal(*IMAGES), keep_ends=False)
    losses = train(prepared, normal(*IMAGES), 12)
    assert min(losses[-3:]) < losses[0]
    for parameter in prepared.parameters():
        assert parameter.grad is not None


@pytest.mark.parametrize(
    ("model", "shape"),
    [
        (lambda: Recurrent(nn.LSTM), (32, 10, 6)),
        (lambda: Recurrent(nn.GRU), (32, 10, 6)),
        (Tokens, (32, 5, 8)),
        (Upsampling, (32, 1, 8, 8)),
        (Convolutions, (32, 3, 12)),
    ],
)
def test_every_kind_of_layer_trains(model: Any, shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    prepared = prepare(model(), "w4a8", normal(*shape), keep_ends=False)
    losses = train(prepared, normal(*shape), 10)
    assert min(losses[-3:]) < losses[0]
    again = pickle.loads(pickle.dumps(copy.deepcopy(prepared)))
    prepared.eval()
    again.eval()
    assert torch.equal(again(normal(*shape)), prepared(normal(*shape)))


def test_a_users_cell_and_an_embedding_train() -> None:
    class Cell(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.e = nn.Parameter(torch.randn(6, 6) * 0.3)
            self.offset = nn.Parameter(torch.zeros(1, 6))

        def forward(self, x: Tensor) -> Tensor:
            return torch.tanh(x @ self.e + self.offset)

    model = nn.Sequential(nn.Embedding(9, 6), Cell(), nn.Flatten(), nn.Linear(18, 4))
    words = torch.randint(0, 9, (32, 3), generator=torch.Generator().manual_seed(0))
    prepared = prepare(model, "w4a8", words, keep_ends=False)
    assert prepared.plan.layer("1").tensors == ("e",)
    losses = train(prepared, words)
    assert losses[-1] < losses[0]


def test_training_resumes_from_a_state_dict(cnn: nn.Module) -> None:
    x = normal(*IMAGES)
    prepared = prepare(cnn, "w4a8-lsq", x)
    train(prepared, x, 3)
    file = io.BytesIO()
    torch.save(prepared.state_dict(), file)
    file.seek(0)
    resumed = prepare(small_cnn(), "w4a8-lsq", x)
    resumed.load_state_dict(torch.load(file))
    assert train(resumed, x, 3) == train(prepared, x, 3)


def test_copies_are_independent(cnn: nn.Module) -> None:
    x = normal(*IMAGES)
    prepared = prepare(cnn, "w158a8", x)
    copied = copy.deepcopy(prepared)
    loaded: PreparedModule = pickle.loads(pickle.dumps(prepared))
    assert loaded.plan == prepared.plan
    train(prepared, x, 3)
    assert not torch.equal(prepared.eval()(x), copied.eval()(x))
    assert train(copied.train(), x, 2) == train(loaded, x, 2)


def test_original_is_left_alone_unless_in_place(cnn: nn.Module) -> None:
    x, before = normal(*IMAGES), copy.deepcopy(cnn.state_dict())
    train(prepare(cnn, "w4a8", x), x, 2)
    for name, value in cnn.state_dict().items():
        assert torch.equal(value, before[name])
    bias = cnn.get_submodule("3").bias
    prepared = prepare(cnn, "w4a8", x, inplace=True)
    assert prepared.get_submodule("3").bias is bias


def test_compiled_training_is_the_same(cnn: nn.Module) -> None:
    x = normal(*IMAGES)
    prepared = prepare(cnn, "w4a8", x)
    eager = copy.deepcopy(prepared)
    compiled = torch.compile(prepared, backend="eager")
    assert train(compiled, x, 4) == pytest.approx(train(eager, x, 4), rel=1e-3)
    assert calibrate(compiled, [x]) == 32


def test_autocast_trains_in_float32_where_it_must(cnn: nn.Module) -> None:
    x = normal(*IMAGES)
    prepared = prepare(cnn, "w158a8", x)
    optimizer = torch.optim.SGD(prepared.parameters(), lr=0.05)
    losses = []
    for _ in range(8):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = functional.cross_entropy(prepared(x), labels())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    for quantizer in quantizers_of(prepared):
        assert all(b.dtype in (torch.float32, torch.int32) for b in quantizer.buffers())


def test_processes_agree(tmp_path: Path) -> None:
    script = tmp_path / "train.py"
    script.write_text(
        textwrap.dedent(
            """
            import sys, torch
            from torch import nn
            from edgekit.quantize import prepare
            torch.distributed.init_process_group("gloo")
            rank = torch.distributed.get_rank()
            torch.manual_seed(0)
            model = nn.Sequential(
                nn.Conv1d(2, 4, 3), nn.BatchNorm1d(4), nn.ReLU(), nn.Flatten(), nn.Linear(24, 3)
            )
            prepared = prepare(model, "w4a8-lsq", torch.randn(4, 2, 8), keep_ends=False)
            parallel = nn.parallel.DistributedDataParallel(prepared)
            optimizer = torch.optim.SGD(parallel.parameters(), lr=0.1)
            torch.manual_seed(rank)
            for _ in range(4):
                optimizer.zero_grad()
                parallel(torch.randn(8, 2, 8) * (1 + rank)).square().mean().backward()
                optimizer.step()
            parallel.eval()
            parallel(torch.randn(1, 2, 8))
            parameters = torch.cat([p.detach().reshape(-1) for p in prepared.parameters()])
            both = [torch.empty_like(parameters) for _ in range(2)]
            torch.distributed.all_gather(both, parameters)
            assert torch.equal(*both), "parameters differ"
            # Whoever is first to leave must not take the connection from the other.
            torch.distributed.barrier()
            torch.distributed.destroy_process_group()
            """
        )
    )
    command = [sys.executable, "-P", "-m", "torch.distributed.run", "--nproc_per_node=2"]
    command += ["--master_port=0", "--rdzv_backend=c10d", "--rdzv_endpoint=localhost:0"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*command, str(script)], env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr[-3000:]


def test_schedule_warms_weights_and_activations_up_together(cnn: nn.Module) -> None:
    prepared = prepare(cnn, "w158a8", normal(*IMAGES))
    schedule = QuantizationSchedule(prepared, steps=4, warmup=1.0)
    with torch.no_grad():
        # Nothing is quantised yet.
        torch.testing.assert_close(prepared(normal(*IMAGES)), cnn(normal(*IMAGES)))
    schedule.step()
    assert {float(q.blend) for q in quantizers_of(prepared)} == {0.25}


# Calibration


def test_calibration_replaces_ranges_and_nothing_else(cnn: nn.Module) -> None:
    prepared = prepare(disturb(cnn), "w4a8", normal(*IMAGES))
    before = {n: v.clone() for n, v in prepared.state_dict().items()}
    batches = [normal(8, 2, 6, 6, seed=i) * 5 for i in range(3)]
    assert calibrate(prepared, iter(batches)) == 24
    first = prepared.get_submodule("activation_quantizers.input_1")
    lowest = torch.stack([b.min() for b in batches]).mean()
    torch.testing.assert_close(first.extremes[0, 0], lowest)  # type: ignore[index]
    assert float(first.seen) == 3  # type: ignore[arg-type]
    for name, value in prepared.state_dict().items():
        if not name.startswith("activation_quantizers"):
            assert torch.equal(value, before[name]), name
    assert prepared.training


def test_calibration_of_one_sample_is_warned_of(
    cnn: nn.Module, caplog: pytest.LogCaptureFixture
) -> None:
    prepared = prepare(cnn, "w4a8", normal(*IMAGES))
    assert calibrate(prepared, [normal(1, 2, 6, 6)]) == 1
    assert "single sample" in caplog.text
    with pytest.raises(InvalidDataError, match="no samples"):
        calibrate(prepared, [])
    with pytest.raises(InvalidDataError, match="batch 0"):
        calibrate(prepared, [torch.full(IMAGES, float("inf"))])
    with pytest.raises(UsageError, match="is not prepared"):
        calibrate(cnn, [normal(*IMAGES)])


def test_recipe_objects_are_taken_too(cnn: nn.Module) -> None:
    recipe = Recipe.parse("w3a8", keep_ends=False)
    assert str(prepare(cnn, recipe, normal(*IMAGES)).plan.layer("0").recipe) == "w3a8"

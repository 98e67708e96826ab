"""Quantised weights over many steps: schedules, freezing, resuming."""

from __future__ import annotations

import io

import pytest
import torch
from torch import nn

from edgekit.errors import UsageError
from edgekit.formats import Format
from edgekit.quantize.training.freezing import Freezing
from edgekit.quantize.training.quantizers import (
    quantize_parameter,
    quantized_parameters,
)
from edgekit.quantize.training.schedule import (
    OscillationRule,
    QuantizationSchedule,
)

pytestmark = [pytest.mark.torch, pytest.mark.needs("torch")]


METHODS = (
    *(("ternary", "ste"), ("int4-g8", "ste"), ("shift3", "ste"), ("int3", "lsq")),
    *(("fp4-e2m1", "points"), ("shift2", "points"), ("binary", "reste"), ("nvfp4", "ste")),
)
OSCILLATION = OscillationRule(start=0.1, momentum=0.3, threshold=0.25)


def network(fmt: str, method: str) -> nn.Module:
    torch.manual_seed(0)
    found = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(64, 3))
    for layer in (found[0], found[3]):
        quantize_parameter(layer, "weight", Format.parse(fmt), method=method)  # type: ignore[arg-type]
    return found


class Training:
    """A network with all that its training needs."""

    def __init__(self, fmt: str, method: str) -> None:
        self.model = network(fmt, method)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=0.01)
        self.schedule = QuantizationSchedule(
            self.model, steps=20, warmup=0.3, oscillation=OSCILLATION
        )

    def run(self, first: int, last: int) -> None:
        for step in range(first, last):
            generator = torch.Generator().manual_seed(step)
            x = torch.randn(8, 1, 6, 6, generator=generator)
            y = (x.mean((1, 2, 3)) * 9).long().clamp(-1, 1) + 1
            loss = nn.functional.cross_entropy(self.model(x), y)
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            self.schedule.step()

    def save(self) -> bytes:
        file = io.BytesIO()
        torch.save([x.state_dict() for x in (self.model, self.optimizer, self.schedule)], file)
        return file.getvalue()

    def load(self, state: bytes) -> None:
        for x, part in zip(
            (self.model, self.optimizer, self.schedule),
            torch.load(io.BytesIO(state), weights_only=True),
            strict=True,
        ):
            x.load_state_dict(part)


@pytest.mark.parametrize(("fmt", "method"), METHODS)
@pytest.mark.parametrize("stop", [3, 12])
def test_a_training_that_resumes_goes_on_as_if_it_had_not_stopped(
    fmt: str, method: str, stop: int
) -> None:
    whole = Training(fmt, method)
    whole.run(0, stop)
    state = whole.save()
    whole.run(stop, 20)
    again = Training(fmt, method)
    again.run(0, 2)
    again.load(state)
    again.run(stop, 20)
    wanted, got = whole.model.state_dict(), again.model.state_dict()
    assert wanted.keys() == got.keys()
    for name, tensor in wanted.items():
        assert torch.equal(tensor, got[name]), name


def test_a_state_without_frozen_weights_removes_them() -> None:
    training = Training("ternary", "ste")
    state = training.save()
    training.run(0, 6)
    assert any("freezing" in name for name in training.model.state_dict())
    training.load(state)
    assert not any("freezing" in name for name in training.model.state_dict())


@pytest.mark.parametrize(("fmt", "method"), METHODS)
def test_training_learns(fmt: str, method: str) -> None:
    model = network(fmt, method)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    torch.manual_seed(1)
    x, y = torch.randn(64, 1, 6, 6), torch.arange(64) % 3
    losses = []
    for _ in range(60):
        loss = nn.functional.cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert min(losses[-5:]) < 0.75 * losses[0]


class TestSchedule:
    """What moves when."""

    def test_lambda_rises_to_one_over_the_warm_up(self) -> None:
        model = network("ternary", "ste")
        schedule = QuantizationSchedule(model, steps=10, warmup=0.4)
        (first, _) = quantized_parameters(model)
        seen = [first.quantizer.blend.item()]
        for _ in range(6):
            schedule.step()
            seen.append(first.quantizer.blend.item())
        assert seen == [0.0, 0.25, 0.5, 0.75, 1.0, 1.0, 1.0]

    def test_without_warm_up_training_sees_what_is_deployed(self) -> None:
        model = network("ternary", "ste")
        QuantizationSchedule(model, steps=10)
        trained = model[0].weight
        assert torch.equal(trained, model.eval()[0].weight)

    def test_the_exponent_of_reste_rises(self) -> None:
        model = network("binary", "reste")
        schedule = QuantizationSchedule(model, steps=4)
        seen = []
        for _ in range(6):
            schedule.step()
            seen.append(model[0].parametrizations.weight[0].exponent.item())
        assert seen == sorted(seen) and seen[0] > 1
        assert seen[3:] == pytest.approx([3.0] * 3)

    def test_weights_are_watched_from_the_start_on(self) -> None:
        model = network("ternary", "ste")
        rule = OscillationRule(start=0.5)
        schedule = QuantizationSchedule(model, steps=4, oscillation=rule)
        for wanted in (False, True, True):
            schedule.step()
            quantizers = [p.quantizer for p in quantized_parameters(model)]
            assert all((q.freezing is not None) == wanted for q in quantizers)
        assert schedule.frozen_share() == 0

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"steps": 0}, "0 steps, must be at least 1"),
            ({"steps": 5, "warmup": 1.5}, "warmup is 1.5, must be from 0 to 1"),
        ],
    )
    def test_refusals(self, arguments: dict[str, float], message: str) -> None:
        with pytest.raises(UsageError, match=message):
            QuantizationSchedule(network("ternary", "ste"), **arguments)  # type: ignore[arg-type]

    def test_a_network_without_quantised_weights(self) -> None:
        with pytest.raises(UsageError, match="has no quantised weight"):
            QuantizationSchedule(nn.Linear(2, 2), steps=5)

    @pytest.mark.parametrize("state", [{}, {"done": -1}, {"done": "x"}])
    def test_a_state_of_something_else(self, state: dict[str, object]) -> None:
        schedule = QuantizationSchedule(network("ternary", "ste"), steps=5)
        with pytest.raises(UsageError, match="is none of its states"):
            schedule.load_state_dict(state)

    @pytest.mark.parametrize("values", [{"start": -1}, {"momentum": 0}, {"threshold": 2}])
    def test_an_impossible_rule(self, values: dict[str, float]) -> None:
        with pytest.raises(UsageError, match="must be from 0 to 1"):
            OscillationRule(**values)


class TestFreezing:
    """Which weights are frozen, and what that does."""

    def test_only_what_turns_round_oscillates(self) -> None:
        columns = torch.tensor(
            [[0, 0, 0], [1, 1, 0], [0, 2, 0], [1, 3, 1], [0, 4, 1], [1, 5, 1]]
        ).float()
        guard = Freezing(columns[0], momentum=0.5, threshold=0.6)
        for row in columns[1:]:
            guard.update(row, torch.round)
        # The first turns at steps 2, 3, 4, 5; the second climbs; the third moves once.
        assert guard.frequency.tolist() == pytest.approx([0.9375, 0, 0])
        assert guard.frozen.tolist() == [True, False, False]
        # Frozen at step 3 with average 0.5 * 1 + 0.5 * (0.5 * 0 + 0.5 * 0.5) = 0.625.
        assert guard.held.tolist()[0] == 1
        assert guard.hold(torch.zeros(3)).tolist() == [1, 0, 0]

    @pytest.mark.parametrize(("fmt", "method"), [*METHODS, ("int4", "ste"), ("fp4-e2m1", "ste")])
    def test_a_frozen_weight_keeps_its_level_and_takes_no_gradient(
        self, fmt: str, method: str
    ) -> None:
        torch.manual_seed(0)
        layer = nn.ConvTranspose1d(4, 6, 3, groups=2)
        quantizer = quantize_parameter(layer, "weight", Format.parse(fmt), method=method)  # type: ignore[arg-type]
        (parameter,) = quantized_parameters(layer)
        quantizer.enable_freezing(parameter.latent, momentum=0.5, threshold=0.5)
        guard = quantizer.freezing
        assert guard is not None
        guard.frozen.view(-1)[::2] = True
        mask = quantizer.integer_mask(guard.frozen)
        before = parameter.coded().integers
        layer.weight.square().sum().backward()
        gradient = parameter.latent.grad
        assert gradient is not None
        assert not torch.where(mask, gradient, 0.0).any()
        assert torch.where(mask, 0.0, gradient).any()
        with torch.no_grad():
            parameter.latent.neg_()
        after = parameter.coded().integers
        held = quantizer.rows(mask).numpy()
        assert (before[held] == after[held]).all()
        assert (before[~held] != after[~held]).any()

    def test_a_weight_on_a_border_is_frozen_by_the_schedule(self) -> None:
        layer = nn.Linear(2, 1, bias=False)
        with torch.no_grad():
            layer.weight.copy_(torch.tensor([[0.5, 1.0]]))
        quantize_parameter(layer, "weight", Format.parse("int3-unit"))
        rule = OscillationRule(start=0.0, momentum=0.2, threshold=0.3)
        schedule = QuantizationSchedule(layer, steps=20, oscillation=rule)
        (parameter,) = quantized_parameters(layer)
        for step in range(20):
            with torch.no_grad():
                parameter.latent[0, 0] = 0.5 + (0.1 if step % 2 else -0.1)
            schedule.step()
        guard = parameter.quantizer.freezing
        assert guard is not None and guard.frozen.tolist() == [[True, False]]
        assert schedule.frozen_share() == 0.5

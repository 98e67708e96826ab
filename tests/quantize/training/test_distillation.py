"""The loss of a student, and its teacher."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from edgekit.errors import UsageError
from edgekit.quantize.training.distillation import Teacher, distillation_loss

pytestmark = [pytest.mark.torch, pytest.mark.needs("torch")]


def softmax(logits: list[float], temperature: float) -> list[float]:
    powers = [math.exp(x / temperature) for x in logits]
    return [p / sum(powers) for p in powers]


def test_the_loss_is_the_formula() -> None:
    student, teacher, temperature = [1.0, -0.5, 0.3], [2.0, 0.1, -1.0], 3.0
    p, q = softmax(teacher, temperature), softmax(student, temperature)
    soft = 9 * sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))
    hard = -math.log(softmax(student, 1.0)[2])
    loss = distillation_loss(
        torch.tensor([student]),
        torch.tensor([teacher]),
        torch.tensor([2]),
        temperature=temperature,
        weight=0.8,
    )
    assert loss.item() == pytest.approx(0.8 * soft + 0.2 * hard, rel=1e-5)


def test_it_is_a_mean_over_samples_and_places() -> None:
    torch.manual_seed(0)
    student, teacher = torch.randn(4, 3, 5), torch.randn(4, 3, 5)
    targets = torch.randint(0, 3, (4, 5))
    whole = distillation_loss(student, teacher, targets)
    single = [
        distillation_loss(student[n : n + 1, :, k], teacher[n : n + 1, :, k], targets[n : n + 1, k])
        for n in range(4)
        for k in range(5)
    ]
    assert whole.item() == pytest.approx(torch.stack(single).mean().item(), rel=1e-5)


def test_ends_of_the_weight() -> None:
    torch.manual_seed(0)
    student, teacher, targets = torch.randn(4, 3), torch.randn(4, 3), torch.tensor([0, 1, 2, 0])
    hard = distillation_loss(student, teacher, targets, weight=0.0, label_smoothing=0.1)
    wanted = nn.functional.cross_entropy(student, targets, label_smoothing=0.1)
    assert hard.item() == pytest.approx(wanted.item())
    soft = distillation_loss(student, teacher, None, weight=1.0)
    assert torch.equal(soft, distillation_loss(student, teacher, targets, weight=1.0))


def test_only_the_student_has_a_gradient() -> None:
    student = torch.randn(2, 3, requires_grad=True)
    teacher = torch.randn(2, 3, requires_grad=True)
    distillation_loss(student, teacher, torch.tensor([0, 1])).backward()
    assert student.grad is not None and student.grad.any() and teacher.grad is None


def test_half_logits_are_compared_in_float32() -> None:
    student, teacher = torch.randn(2, 3).bfloat16(), torch.randn(2, 3).bfloat16()
    loss = distillation_loss(student, teacher, torch.tensor([0, 1]))
    wanted = distillation_loss(student.float(), teacher.float(), torch.tensor([0, 1]))
    assert loss.dtype == torch.float32 and torch.equal(loss, wanted)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"temperature": 0.0}, "temperature is 0.0, must be above 0"),
        ({"temperature": math.nan}, "temperature is nan"),
        ({"weight": 1.1}, "weight is 1.1, must be from 0 to 1"),
        ({"targets": None}, "without targets the weight of the teacher must be 1"),
        ({"teacher_logits": torch.zeros(2, 4)}, r"student gives \(2, 3\), the teacher \(2, 4\)"),
    ],
)
def test_refusals(changes: dict[str, object], message: str) -> None:
    arguments = {
        "student_logits": torch.zeros(2, 3),
        "teacher_logits": torch.zeros(2, 3),
        "targets": torch.tensor([0, 1]),
    } | changes
    with pytest.raises(UsageError, match=message):
        distillation_loss(**arguments)  # type: ignore[arg-type]


class TestTeacher:
    """A frozen copy."""

    def test_it_stays_in_eval_mode_and_has_no_gradient(self) -> None:
        network = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.Dropout(0.5))
        teacher = Teacher(network)
        nn.ModuleList([teacher]).train()
        x = torch.randn(8, 4)
        result = teacher(x)
        assert not result.requires_grad and torch.equal(result, network.eval()(x))
        assert not any(p.requires_grad for p in teacher.parameters())
        assert all(p.requires_grad for p in network.parameters())
        assert torch.equal(teacher.network[1].running_mean, torch.zeros(3))  # type: ignore[index]

    def test_training_the_original_leaves_it_alone(self) -> None:
        network = nn.Linear(2, 2)
        teacher = Teacher(network)
        x = torch.ones(1, 2)
        before = teacher(x)
        with torch.no_grad():
            network.weight.add_(1)
        assert torch.equal(teacher(x), before)

"""A teacher during quantised training.

Quantised distillation (Polino, Pascanu, Alistarh 2018, arXiv 1802.05668) trains a quantised student
on what a float teacher says, softened by a temperature (Hinton, Vinyals, Dean 2015, arXiv
1503.02531), beside the labels::

    teacher = Teacher(float_model)                    # a frozen copy
    student = prepare(float_model, "w158a8", example_inputs)
    for x, y in batches:
        loss = distillation_loss(student(x), teacher(x), y, temperature=4.0, weight=0.7)
        optimizer.zero_grad(); loss.backward(); optimizer.step()
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from edgekit.errors import UsageError


def distillation_loss(
    student_logits: Tensor,
    teacher_logits: Tensor,
    targets: Tensor | None,
    *,
    temperature: float = 4.0,
    weight: float = 0.7,
    label_smoothing: float = 0.0,
) -> Tensor:
    """The mean over samples of ``weight * T² * KL(teacher ‖ student) + (1 - weight) * CE``.

    The divergence is between softmaxes of ``logits / T``; the factor T² keeps its gradient at the
    size of the cross entropy's, whatever the temperature. Computed in float32 under autocast too.

    Args:
        student_logits: ``[N, C]``, or ``[N, C, …]`` as for
            :func:`torch.nn.functional.cross_entropy`.
        teacher_logits: of the same shape; no gradient flows into it.
        targets: labels ``[N, …]`` or probabilities of the shape of the logits; None with weight 1.
        temperature: T, above 0; 1 leaves the teacher's certainty as it is.
        weight: share of the teacher, 0 to 1.
        label_smoothing: of the cross entropy.

    Raises:
        UsageError: shapes that differ, a temperature or weight outside its limits, no targets.

    >>> logits = torch.tensor([[1.0, -1.0]])
    >>> distillation_loss(logits, logits, None, weight=1.0).item()
    0.0
    """
    if student_logits.shape != teacher_logits.shape:
        raise UsageError(
            f"distillation: the student gives {tuple(student_logits.shape)}, "
            f"the teacher {tuple(teacher_logits.shape)}; both must give the same logits"
        )
    if not temperature > 0:
        raise UsageError(f"distillation: temperature is {temperature}, must be above 0")
    if not 0 <= weight <= 1:
        raise UsageError(f"distillation: weight is {weight}, must be from 0 to 1")
    if targets is None and weight != 1:
        raise UsageError("distillation: without targets the weight of the teacher must be 1")
    student, teacher = student_logits.float(), teacher_logits.detach().float()
    # Axis 1 holds the classes; what follows it counts like samples.
    divergence = functional.kl_div(
        functional.log_softmax(student / temperature, dim=1),
        functional.log_softmax(teacher / temperature, dim=1),
        reduction="none",
        log_target=True,
    ).sum(dim=1)
    soft = divergence.mean() * temperature**2
    if targets is None or weight == 1:
        return soft
    hard = functional.cross_entropy(student, targets, label_smoothing=label_smoothing)
    return weight * soft + (1 - weight) * hard


class Teacher(nn.Module):
    """A frozen copy of a network that is asked and never trained.

    It stays in eval mode whatever ``train()`` is called on the modules around it, gives tensors
    without gradient, and is a copy: preparing the original for quantised training, in place or
    not, leaves it alone.

    Args:
        network: in float, trained.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = copy.deepcopy(network).eval().requires_grad_(False)

    def train(self, mode: bool = True) -> Teacher:
        """Stays in eval mode: its batch statistics and dropout belong to its own training."""
        del mode
        super().train(False)
        return self

    @torch.no_grad()
    def forward(self, *inputs: Any, **keywords: Any) -> Any:
        """What the network gives."""
        return self.network(*inputs, **keywords)

"""Freezing of weights that oscillate between two levels.

Nagel, Fournarakis, Bondarenko, Blankevoort 2022, "Overcoming Oscillations in Quantization-Aware
Training", arXiv 2203.11086: with a straight-through gradient a weight near the middle between two
levels jumps to and fro, which never settles and spoils batch statistics. A step oscillates where
the integer changes and the change before went the other way::

    o_t = x_t != x_(t-1)  and  sign(x_t - x_(t-1)) == -sign(of the change before)
    f_t = m * o_t + (1 - m) * f_(t-1)           frequency
    a_t = m * x_t + (1 - m) * a_(t-1)           average integer

Where ``f_t`` exceeds a threshold the weight is frozen: it stays at the level nearest to ``a_t`` and
takes no gradient.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn


class Freezing(nn.Module):
    """Watches the integers of one weight; all state is in buffers.

    Args:
        integers: float32, what the weight is now.
        momentum: m, share of the newest step in both averages, above 0 to 1.
        threshold: frequency above which a weight is frozen.
    """

    previous: Tensor
    direction: Tensor
    frequency: Tensor
    average: Tensor
    frozen: Tensor
    held: Tensor
    momentum: Tensor
    threshold: Tensor

    def __init__(self, integers: Tensor, *, momentum: float, threshold: float) -> None:
        super().__init__()
        self.register_buffer("previous", integers.clone())
        self.register_buffer("direction", torch.zeros_like(integers))
        self.register_buffer("frequency", torch.zeros_like(integers))
        self.register_buffer("average", integers.clone())
        self.register_buffer("frozen", torch.zeros_like(integers, dtype=torch.bool))
        self.register_buffer("held", integers.clone())
        self.register_buffer("momentum", integers.new_tensor(momentum))
        self.register_buffer("threshold", integers.new_tensor(threshold))

    def hold(self, integers: Tensor) -> Tensor:
        """Integers with the frozen ones where they were frozen."""
        return torch.where(self.frozen, self.held, integers)

    @torch.no_grad()
    def update(self, integers: Tensor, nearest: Callable[[Tensor], Tensor]) -> None:
        """Take the integers after a step of the optimiser into account.

        Args:
            integers: float32, as if nothing were frozen.
            nearest: rounds the average to a level.
        """
        change = (integers - self.previous).sign_()
        oscillated = (change != 0) & (change == -self.direction)
        self.frequency.lerp_(oscillated.to(integers.dtype), self.momentum)
        self.average.lerp_(integers, self.momentum)
        self.direction.copy_(torch.where(change != 0, change, self.direction))
        self.previous.copy_(integers)
        fresh = (self.frequency > self.threshold) & ~self.frozen
        self.held.copy_(torch.where(fresh, nearest(self.average), self.held))
        self.frozen.logical_or_(fresh)

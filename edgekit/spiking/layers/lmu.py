"""The Legendre memory unit itself, on real numbers.

Source: Voelker, Kajić, Eliasmith 2019, "Legendre Memory Units: continuous-time representation in
recurrent neural networks", equations 3 to 6.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from edgekit.errors import InvalidDataError
from edgekit.spiking.layers.legendre import Discretization, discrete

LMUState = tuple[Tensor, Tensor]
"""h [N,n_h] and m [N,n_m·d]."""


class LMUCell(nn.Module):
    """One step of a Legendre memory unit.

    In this order::

        u = e_x x + e_h h[t-1] + e_m m[t-1]                 n_m values
        m = Ā m[t-1] + B̄ u, for each of the n_m memories    n_m·d values
        h = tanh(W_x x + W_h h[t-1] + W_m m + b)            n_h values

    Ā and B̄ are the discretised memory and stay as they are. Every source has a matrix of its own:
    quantised, x, h and m keep scales of their own. Initial values: e_x and e_h LeCun-uniform, e_m
    0, W Xavier-normal, b 0.

    Args:
        inputs: values of a sample.
        hidden: n_h.
        memories: n_m; the paper has 1.
        order: d, Legendre polynomials per memory.
        theta: remembered window in steps.
        discretization: of the memory.

    Attributes:
        u_x, u_h, u_m: e_x, e_h, e_m.
        h_x, h_h, h_m: W_x with b, W_h, W_m.
        memory: block-diagonal Ā and B̄ side by side, [n_m·d, n_m·d + n_m]; not trained.
    """

    def __init__(
        self,
        inputs: int,
        hidden: int,
        *,
        memories: int = 1,
        order: int,
        theta: float,
        discretization: Discretization = "zoh",
    ) -> None:
        super().__init__()
        a, b = discrete(order, theta, method=discretization)
        identity = np.eye(memories)
        system = np.concatenate([np.kron(identity, a), np.kron(identity, b[:, None])], axis=1)
        self.memory = nn.Linear(system.shape[1], system.shape[0], bias=False)
        self.memory.weight = nn.Parameter(torch.from_numpy(system).float(), requires_grad=False)
        self.inputs, self.hidden, self.memory_size = inputs, hidden, memories * order
        self.u_x = nn.Linear(inputs, memories, bias=False)
        self.u_h = nn.Linear(hidden, memories, bias=False)
        self.u_m = nn.Linear(self.memory_size, memories, bias=False)
        self.h_x = nn.Linear(inputs, hidden)
        self.h_h = nn.Linear(hidden, hidden, bias=False)
        self.h_m = nn.Linear(self.memory_size, hidden, bias=False)
        self._start_weights()

    @torch.no_grad()
    def _start_weights(self) -> None:
        for layer in (self.u_x, self.u_h):
            bound = math.sqrt(3 / layer.in_features)
            nn.init.uniform_(layer.weight, -bound, bound)
        nn.init.zeros_(self.u_m.weight)
        for layer in (self.h_x, self.h_h, self.h_m):
            nn.init.xavier_normal_(layer.weight)
        nn.init.zeros_(self.h_x.bias)

    def forward(self, x: Tensor, h: Tensor, m: Tensor) -> LMUState:
        """The next h [N,n_h] and m [N,n_m·d] of a sample [N,inputs] and the state."""
        u = self.u_x(x) + self.u_h(h) + self.u_m(m)
        m = self.memory(torch.cat([m, u], 1))
        return torch.tanh(self.h_x(x) + self.h_h(h) + self.h_m(m)), m


class LMUStep(nn.Module):
    """One step of an :class:`LMU` with its state as arguments: what a device runs.

    The memory is ``cell.memory``, which no training changes: round it to int8 whatever the other
    layers get.

    Declare its state when it is exported: ``h=output_1`` and ``m=output_2``.
    """

    def __init__(self, cell: LMUCell, output: nn.Linear) -> None:
        super().__init__()
        self.cell, self.output = cell, output

    def forward(self, x: Tensor, h: Tensor, m: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Scores [N,classes] after this sample, the next h and the next m."""
        h, m = self.cell(x, h, m)
        return self.output(h), h, m


class LMU(nn.Module):
    """Windows of sensor samples in, scores per class out, read from the last hidden state.

    Args:
        channels: sensor axes.
        classes: scores that come out.
        hidden, memories, order, theta, discretization: see :class:`LMUCell`.

    Attributes:
        step: the :class:`LMUStep` that a device runs, or what quantisation made of it.
    """

    def __init__(
        self,
        channels: int = 6,
        classes: int = 7,
        *,
        hidden: int = 180,
        memories: int = 4,
        order: int = 8,
        theta: float = 20.0,
        discretization: Discretization = "zoh",
    ) -> None:
        super().__init__()
        self.channels = channels
        cell = LMUCell(
            channels,
            hidden,
            memories=memories,
            order=order,
            theta=theta,
            discretization=discretization,
        )
        self.hidden, self.memory_size = hidden, cell.memory_size
        self.step: nn.Module = LMUStep(cell, nn.Linear(hidden, classes))

    def forward(self, x: Tensor) -> Tensor:
        """Scores float32[N,classes] of windows float32[N,channels,T].

        Raises:
            InvalidDataError: another number of dimensions or channels, or no step at all; a time
                axis in the place of the channels is one.
        """
        if x.ndim != 3 or x.shape[1] != self.channels or x.shape[2] == 0:
            swapped = x.ndim == 3 and x.shape[2] == self.channels
            hint = "; time is the last axis, not the second" if swapped else ""
            raise InvalidDataError(
                f"windows are {list(x.shape)}, must be [batch, {self.channels}, steps]{hint}"
            )
        h, m = self.zeros(len(x))
        scores = x
        for sample in x.unbind(2):
            scores, h, m = self.step(sample, h, m)
        return scores

    def windows(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        """Windows [N,channels,T] as a device takes them: one sample a step, [N,T,channels]."""
        return np.ascontiguousarray(x.transpose(0, 2, 1))

    def samples(self, windows: NDArray[np.float32]) -> NDArray[np.float32]:
        """The inverse of :meth:`windows`."""
        return np.ascontiguousarray(windows.transpose(0, 2, 1))

    def zeros(self, batch: int) -> LMUState:
        """The state before the first step."""
        return torch.zeros(batch, self.hidden), torch.zeros(batch, self.memory_size)

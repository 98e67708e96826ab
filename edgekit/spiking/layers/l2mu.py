"""L2MU: a Legendre memory unit whose every part is a population of spiking neurons.

Source: Fra et al. 2024, arXiv 2407.04076; the memory: Voelker, Kajić, Eliasmith 2019.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from edgekit.errors import InvalidDataError, UnsupportedError, UsageError
from edgekit.formats import ELEMENTS, find_element
from edgekit.spiking.layers.legendre import Discretization, discrete
from edgekit.spiking.layers.populations import NeuronKind, Population, State
from edgekit.spiking.layers.scan import CellWeights, cell
from edgekit.spiking.layers.synapses import SequenceNorm, Synapses
from edgekit.spiking.weight import Weight

RECURRENT_GAIN = 0.3
"""Of the initial recurrent weights over Xavier's: neurons integrate, so less feedback suffices."""


NEURONS: Mapping[str, tuple[float, float]] = {"u": (0.6, 0.5), "m": (0.5, 0.3), "h": (0.9, 1.0)}
"""β and ϑ of a cell's populations; the memory's threshold is low since B̄ is of the order of 1/θ."""

ALPHA: Mapping[str, float] = {"u": 0.3, "m": 0.3, "h": 0.5}
"""α of synaptic neurons, likewise."""


@dataclass(frozen=True)
class CellState:
    """An L2MU cell between two steps.

    Attributes:
        h: spikes of the hidden population, [N,n_h].
        m: spikes of the memory, [N,n_m·d].
        neurons: states of the populations u, m and h.
    """

    h: Tensor
    m: Tensor
    neurons: tuple[State, State, State]


class L2MUCell(nn.Module):
    """The recurrent part of an L2MU: what recurs are spikes S, not membranes.

    In every step, in this order::

        S_u = LIF_u(e_x S_x + e_h S_h[t-1] + e_m S_m[t-1])                    n_m neurons
        S_m = LIF_m(Ā S_m[t-1] + B̄ S_u), Ā and B̄ for each of the n_m memories   n_m·d neurons
        S_h = LIF_h(W_x S_x + W_h S_h[t-1] + W_m S_m)                         n_h neurons

    Neurons are those of :class:`~edgekit.spiking.layers.populations.Population`. Ā and B̄ are the
    discretised Legendre memory and stay as they are. Initial values: e_x and e_h LeCun-uniform,
    e_m 0, W Xavier-normal.

    Args:
        inputs: spikes of S_x.
        hidden: n_h.
        memories: n_m.
        order: d, Legendre polynomials per memory.
        theta: remembered window in steps.
        kind: of all neurons.
        discretization: of the memory.
        transposed: apply Āᵀ, as the authors' code does, instead of Ā.
        norm: whether the currents that W_x gives are normalised over a batch in training.
        neurons: β and ϑ of the populations ``u``, ``m`` and ``h``, at the start where they are
            trained; :data:`NEURONS` where there are none.
        memory_gradient: see :func:`~edgekit.spiking.layers.scan.cell`.
        spread: of the membranes' decays at the start, see :class:`Population`.
        learn: whether decays and thresholds are trained.

    Attributes:
        u: weights e_x, e_h, e_m.
        h: weights W_x, W_h, W_m.
        memory: buffer float32[d, d+1], Ā with B̄ as the last column.
        memory_element: what they are rounded to, None where they are not.
    """

    memory: Tensor

    def __init__(
        self,
        inputs: int,
        hidden: int,
        *,
        memories: int,
        order: int,
        theta: float,
        kind: NeuronKind = "leaky",
        discretization: Discretization = "zoh",
        transposed: bool = False,
        norm: bool = False,
        neurons: Mapping[str, tuple[float, float]] | None = None,
        memory_gradient: float = 1.0,
        spread: float = 1.0,
        learn: bool = True,
    ) -> None:
        super().__init__()
        if unknown := sorted((neurons or {}).keys() - NEURONS.keys()):
            raise UsageError(f"no populations {', '.join(unknown)}; there are {', '.join(NEURONS)}")
        a, b = discrete(order, theta, method=discretization)
        system = np.column_stack([a.T if transposed else a, b])
        self.register_buffer("memory", torch.from_numpy(system).float())
        self.inputs, self.hidden = inputs, hidden
        self.memories, self.order = memories, order
        self.memory_gradient = memory_gradient
        self.memory_element: str | None = None
        sources = {"x": inputs, "h": hidden, "m": memories * order}
        self.u = Synapses(sources, memories)
        self.h = Synapses(sources, hidden, bias=norm)
        self.norm = SequenceNorm(hidden) if norm else nn.Identity()
        values = dict(NEURONS) | dict(neurons or {})
        sizes = {"u": memories, "m": memories * order, "h": hidden}
        self.neurons_u, self.neurons_m, self.neurons_h = (
            Population(
                size,
                kind,
                beta=values[name][0],
                threshold=values[name][1],
                alpha=ALPHA[name],
                spread=spread,
                learn=learn,
            )
            for name, size in sizes.items()
        )
        self._start_weights()

    @torch.no_grad()
    def _start_weights(self) -> None:
        for source in ("x", "h"):
            part = self.u.part(source)
            bound = math.sqrt(3 / part.shape[1])
            nn.init.uniform_(part, -bound, bound)
        nn.init.zeros_(self.u.part("m"))
        for source, gain in (("x", 1.0), ("h", RECURRENT_GAIN), ("m", 1.0)):
            nn.init.xavier_normal_(self.h.part(source), gain)
        if self.h.bias is not None:
            nn.init.zeros_(self.h.bias)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Spikes S_u, S_m and S_h, float32[T,N,·], from a state of zeros.

        Args:
            x: spikes S_x, float32[T,N,inputs].

        Raises:
            InvalidDataError: another number of dimensions or inputs.
        """
        if x.ndim != 3 or x.shape[-1] != self.inputs:
            raise InvalidDataError(
                f"spikes are {list(x.shape)}, must be [steps, batch, {self.inputs}]"
            )
        u, h = self.u.weight, self.h.weight  # once: they may be quantised when they are read
        columns = self.u.columns
        a, b = self._memory_matrices()
        weights = CellWeights(
            u_h=u[:, columns["h"]],
            u_m=u[:, columns["m"]],
            m_m=a,
            m_u=b,
            h_h=h[:, columns["h"]],
            h_m=h[:, columns["m"]],
        )
        return cell(
            nn.functional.linear(x, u[:, columns["x"]]),
            self.norm(nn.functional.linear(x, h[:, columns["x"]], self.h.bias)),
            weights,
            u=self.neurons_u.neurons,
            m=self.neurons_m.neurons,
            h=self.neurons_h.neurons,
            memory_gradient=self.memory_gradient,
        )

    def _memory_matrices(self) -> tuple[Tensor, Tensor]:
        """Block-diagonal Ā [n_m·d, n_m·d] and B̄ [n_m·d, n_m]."""
        a, b = self.memory[:, :-1], self.memory[:, -1:]
        whole_a, whole_b = (
            torch.block_diag(*[part] * self.memories)  # type: ignore[no-untyped-call]
            for part in (a, b)
        )
        return whole_a, whole_b

    @torch.no_grad()
    def quantize_memory(self, element: str) -> None:
        """Round Ā and B̄, in place, to an element with one scale for each row of both.

        The memory is constant: nothing trains it, so it is rounded once, to the nearest.

        Raises:
            UsageError: an unknown element.
            UnsupportedError: one whose levels leave integers out.
        """
        levels = find_element(element).levels
        if len(levels) <= max(levels) - min(levels):
            raise UnsupportedError(
                f"a memory in {element}, whose levels leave integers out; supported: elements "
                "with all integers of a range, as int8"
            )
        self.memory_element = element
        codes, scale = self._memory_codes(element)
        self.memory.copy_(codes * scale[:, None])

    def _memory_codes(self, element: str) -> tuple[Tensor, Tensor]:
        """Integers [d, d+1] and scales [d]; those of a memory that is rounded already are exact."""
        levels = ELEMENTS[element].levels
        scale = self.memory.abs().amax(1) / max(levels)
        codes = torch.round(self.memory / scale[:, None])
        return codes.clamp(min(levels), max(levels)), scale

    @torch.no_grad()
    def memory_weight(self) -> Weight:
        """Ā and B̄ of all memories, [n_m·d, d+1]; with codes after :meth:`quantize_memory`."""
        if self.memory_element is None:
            return Weight(np.tile(self.memory.cpu().numpy(), (self.memories, 1)))
        codes, scale = (t.cpu().numpy() for t in self._memory_codes(self.memory_element))
        repeated = np.tile(codes.astype(ELEMENTS[self.memory_element].dtype), (self.memories, 1))
        return Weight.of_codes(repeated, np.tile(scale, self.memories), self.memory_element)

    def start(self, batch: int) -> CellState:
        """The state before the first step."""
        like = self.memory
        return CellState(
            h=like.new_zeros(batch, self.hidden),
            m=like.new_zeros(batch, self.memories * self.order),
            neurons=(
                self.neurons_u.start(batch),
                self.neurons_m.start(batch),
                self.neurons_h.start(batch),
            ),
        )

    def step(self, x: Tensor, state: CellState) -> tuple[Tensor, CellState]:
        """One step by snnTorch's own code: spikes S_h [N,n_h] and the next state."""
        a, b = self._memory_matrices()
        before_u, before_m, before_h = state.neurons
        s_u, u = self.neurons_u.step(self.u(torch.cat([x, state.h, state.m], 1)), before_u)
        s_m, m = self.neurons_m.step(state.m @ a.t() + s_u @ b.t(), before_m)
        columns = self.h.columns
        weight = self.h.weight
        from_x = nn.functional.linear(x, weight[:, columns["x"]], self.h.bias)
        recurrent = torch.cat([state.h, s_m], 1)
        both = slice(columns["h"].start, columns["m"].stop)
        current = self.norm(from_x[None])[0] + recurrent @ weight[:, both].t()
        s_h, h = self.neurons_h.step(current, before_h)
        return s_h, CellState(h=s_h, m=s_m, neurons=(u, m, h))

    @torch.no_grad()
    def fold(self) -> None:
        """Take the normalisation into W_x and the bias, in place."""
        if isinstance(self.norm, SequenceNorm):
            factor, offset = self.norm.affine_form()
            part = self.h.part("x")
            part.copy_(part.double() * factor[:, None])
            self.h.bias.copy_(self.h.bias.double() * factor + offset)
            self.norm = nn.Identity()

"""Block-wise reconstruction: learn which way weights round, for what whole blocks give.

After training, on prepared networks: for one block after the other, soft roundings of the weights
of all its layers are optimised together, so that the block gives what the float block gives. What
the block reads comes from the blocks before it, which are quantised already.

Sources: Nagel et al. 2020, arXiv 2004.10568 (AdaRound); Li et al. 2021, "BRECQ", arXiv 2102.05426
(blocks); "FP4DiT", 2025, arXiv 2503.15465 (the scale-aware form, token-wise activations).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn
from torch import Tensor, fx, nn
from torch.nn.utils import parametrize
from torch.utils import _pytree as pytree

from edgekit.errors import InvalidDataError, UnsupportedError, UsageError
from edgekit.formats import Coded, Format
from edgekit.quantize.posttraining.adaround import GAMMA, ZETA, RoundingSettings
from edgekit.quantize.posttraining.coding import grid_of
from edgekit.quantize.training.activations import quantizers_of
from edgekit.quantize.training.layout import RowLayout
from edgekit.quantize.training.modes import in_mode, observing
from edgekit.quantize.training.prepared import QUANTIZERS, PreparedModule, prepared_of
from edgekit.quantize.training.weights import WeightQuantizer

Tell = Callable[[str, int, int], None]
"""Called with a block's name, and steps done and in all for it."""

BATCH = 16
"""Samples of one step, FP4DiT's."""

SETTINGS = RoundingSettings(iterations=2500)
"""FP4DiT's number of steps; ``finish`` plays no part here."""


@dataclass(frozen=True)
class BlockResult:
    """What reconstruction made of a block.

    Attributes:
        name: of the submodule.
        layers: names of the layers whose weights were rounded.
        error_rounded: mean squared error of what the block gives, over its mean square, with
            every weight rounded to nearest.
        error: the same as it is now.
    """

    name: str
    layers: tuple[str, ...]
    error_rounded: float
    error: float


class LearnedRounding(WeightQuantizer):
    """A weight whose integers are decided, or are being decided between two neighbours.

    Args:
        fmt: of the weight.
        layout: of the weight.
        latent: the float weight.
        coded: its scales, and its integers rounded to nearest.

    Attributes:
        v: what is optimised, ``[R, K]`` in typical steps of a row; None once all is decided.
    """

    codes: Tensor
    scale: Tensor
    factors: Tensor | None

    def __init__(self, fmt: Format, layout: RowLayout, latent: Tensor, coded: Coded) -> None:
        super().__init__(fmt, layout)
        device = latent.device
        self.register_buffer("codes", torch.from_numpy(coded.integers.astype(np.float32)))
        self.register_buffer("scale", torch.from_numpy(coded.scale.copy()).reshape(-1, 1))
        factors = None
        if coded.factors is not None:
            factors = torch.from_numpy(coded.factors.astype(np.float32))
        self.register_buffer("factors", factors)
        rows = layout.rows(latent.detach().float()).cpu().numpy()
        grid = grid_of(coded, fmt)
        below, above = grid.neighbours(rows)
        low, distance = grid.real(below), grid.real(above - below)
        free = distance > 0
        ratio = np.where(free, (rows - low) / np.where(free, distance, 1.0), 0.5)
        start = -np.log((ZETA - GAMMA) / (np.clip(ratio, 0, 1) - GAMMA) - 1)
        counts = np.maximum(free.sum(axis=1, keepdims=True), 1)
        typical = distance.sum(axis=1, keepdims=True) / counts
        # V/s of the papers, with V in typical steps: one learning rate for all layers.
        relative = np.where(free, distance / np.where(typical > 0, typical, 1.0), 1.0)
        self._below = torch.from_numpy(below.astype(np.float32))
        self._above = torch.from_numpy(above.astype(np.float32))
        self._low, self._distance, self._inverse = (
            torch.from_numpy(a.astype(np.float32)).to(device) for a in (low, distance, 1 / relative)
        )
        self._free = torch.from_numpy(free).to(device)
        self.v: nn.Parameter | None = nn.Parameter(
            torch.from_numpy((start * relative).astype(np.float32)).to(device)
        )
        self.to(device)

    def soft(self) -> Tensor:
        """h, 0 to 1, ``[R, K]``."""
        assert self.v is not None
        return (torch.sigmoid(self.v * self._inverse) * (ZETA - GAMMA) + GAMMA).clamp(0, 1)

    def indecision(self, exponent: float) -> Tensor:
        """The regulariser ``Σ (1 - |2h - 1|**b)`` over the weights with a choice."""
        terms = 1 - (2 * self.soft() - 1).abs() ** exponent
        return (terms * self._free).sum()

    @property
    def choices(self) -> int:
        """Number of weights with a choice."""
        return int(self._free.sum())

    @torch.no_grad()
    def decide(self, *, learned: bool) -> None:
        """Round as V says, or keep nearest rounding; the other way cannot be had again."""
        if learned:
            assert self.v is not None
            up = (self.v >= 0).cpu()
            chosen = torch.where(up, self._above, self._below).to(self.codes.device)
            self.codes.copy_(torch.where(self._free, chosen, self.codes))
        self.v = None

    def integers(self, latent: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """See :class:`WeightQuantizer`."""
        del latent
        return self.codes, self.scale, self.factors

    def real(self, integers: Tensor, scale: Tensor, factors: Tensor | None) -> Tensor:
        """See :class:`WeightQuantizer`."""
        if factors is not None:
            wide = factors.repeat_interleave(self.format.group, 1)[:, : self.layout.columns]
            integers = integers * wide
        return self.layout.weight(integers * scale).contiguous()

    def integer_rows(self, integers: Tensor) -> Tensor:
        """See :class:`WeightQuantizer`."""
        return integers

    def integer_mask(self, mask: Tensor) -> Tensor:
        """See :class:`WeightQuantizer`."""
        return self.layout.weight(mask)

    def forward(self, latent: Tensor) -> Tensor:
        """The weight: between its neighbours while it is being decided."""
        floating = self.training and self._blending
        if self.v is None or floating or not torch.is_grad_enabled():
            return super().forward(latent)
        rows = self._low + self.soft() * self._distance
        return self.layout.weight(rows).to(latent.dtype)


def reconstruct(
    prepared: nn.Module,
    batches: Iterable[Any],
    *,
    blocks: Sequence[str] | None = None,
    settings: RoundingSettings = SETTINGS,
    batch: int = BATCH,
    seed: int = 0,
    progress: Tell | None = None,
    bar: bool = True,
) -> tuple[BlockResult, ...]:
    """Round the weights of a prepared network for what its blocks give, in place.

    Minimised by Adam, per block: ``choices · MSE / MSE of nearest rounding + weight · Σ (1 − |2h −
    1|^b)`` over all weights of the block that have a choice, with b annealed after the warm-up.
    Scales and ranges stay as they are: calibrate first. Per-token activations are quantised on the
    way as always. A block that ends worse than nearest rounding keeps that. Weights of a
    reconstructed network do not train any more; it freezes and converts like any.

    Args:
        prepared: from :func:`~edgekit.quantize.training.prepare.prepare`.
        batches: calibration samples, each a tensor, a tuple of the arguments or a mapping; all of
            them are kept in memory, with what the blocks read and give.
        blocks: names of submodules in any order; default every child of the network. Layers
            outside are rounded to nearest. What runs between two blocks belongs to the first.
        settings: of AdaRound.
        batch: samples of one step.
        seed: of the choice of samples.
        progress: told of every step.
        bar: show a progress bar on stderr, where that is a terminal.

    Returns:
        One result per block that has weights to round, in the order in which they run.

    Raises:
        InvalidDataError: no samples, NaN or infinity.
        UnsupportedError: weights without a float weight behind them, as those of DenseShift.
        UsageError: the network is not prepared, or has no such block.
    """
    network = prepared_of(prepared)
    names = _blocks(network, blocks)
    if batch < 1:
        raise UsageError(f"batch is {batch}, must be at least 1")
    arguments = _whole(network, batches)
    generator = torch.Generator().manual_seed(seed)
    results, known = list[BlockResult](), set[int]()
    with (
        in_mode(network, training=False),
        observing(network, "never"),
        _told(progress, bar) as tell,
    ):
        for parameter in network.parameters():
            parameter.grad = None
        real, seen = dict(arguments), dict(arguments)
        for region in _regions(network, names):
            layers = {} if region.block is None else _layers(network, region, known)
            entries = {n: seen[n] for n in region.inputs(seen)}
            with _in_float(network), torch.no_grad():
                _run(network, region.nodes, real)
            if layers:
                targets = {n: real[n] for n in region.outputs}
                work = _Block(network, region, entries, targets, layers)
                results.append(work.optimise(settings, batch, generator, tell))
            with torch.no_grad():
                _run(network, region.nodes, seen)
            for values in (real, seen):
                for node in region.finished:
                    values.pop(node, None)
    return tuple(results)


def _blocks(network: PreparedModule, blocks: Sequence[str] | None) -> tuple[str, ...]:
    if blocks is None:
        return tuple(name for name, _ in network.named_children() if name != QUANTIZERS)
    modules = dict(network.named_modules())
    unknown = [name for name in blocks if not name or name not in modules]
    if unknown or isinstance(blocks, str):
        children = ", ".join(name for name, _ in network.named_children() if name != QUANTIZERS)
        raise UsageError(f"no blocks {unknown or blocks}; children of the network: {children}")
    return tuple(blocks)


def _whole(network: PreparedModule, batches: Iterable[Any]) -> dict[fx.Node, Any]:
    """All samples as the values of the graph's arguments."""
    nodes = [node for node in network.graph.nodes if node.op == "placeholder"]
    parts: dict[fx.Node, list[Tensor]] = {}
    for number, given in enumerate(batches):
        if isinstance(given, Mapping):
            values = {node: given[node.target] for node in nodes if node.target in given}
        else:
            listed = given if isinstance(given, tuple | list) else (given,)
            values = dict(zip(nodes, listed, strict=False))
        for node, value in values.items():
            tensor = torch.as_tensor(value)
            if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
                raise InvalidDataError(f"calibration batch {number} holds NaN or infinity")
            parts.setdefault(node, []).append(tensor)
    if not parts or not all(sum(len(t) for t in found) for found in parts.values()):
        raise InvalidDataError("reconstruction has no samples; give a few hundred")
    found: dict[fx.Node, Any] = {node: node.args[0] for node in nodes if node.args}
    return found | {node: torch.cat(tensors) for node, tensors in parts.items()}


@dataclass(frozen=True, eq=False)
class _Region:
    """Nodes that run one after the other for one block.

    Attributes:
        block: its name; None for what belongs to none.
        nodes: in order.
        outputs: nodes whose tensors are read behind the region.
        finished: nodes, of any region, that nobody reads behind this one.
    """

    block: str | None
    nodes: tuple[fx.Node, ...]
    outputs: tuple[fx.Node, ...]
    finished: tuple[fx.Node, ...]

    def inputs(self, values: Mapping[fx.Node, Any]) -> tuple[fx.Node, ...]:
        """Nodes before the region whose values it reads."""
        own = set(self.nodes)
        read = dict.fromkeys(n for node in self.nodes for n in node.all_input_nodes)
        return tuple(n for n in read if n not in own and n in values)


def _regions(network: PreparedModule, names: Sequence[str]) -> Iterator[_Region]:
    """The graph cut into runs of nodes of the same block."""
    current: str | None = None
    runs: list[tuple[str | None, list[fx.Node]]] = []
    for node in network.graph.nodes:
        if node.op in ("placeholder", "output"):
            continue
        target = str(node.target)
        if node.op in ("call_module", "get_attr") and not target.startswith(f"{QUANTIZERS}."):
            inside = [n for n in names if target == n or target.startswith(f"{n}.")]
            module = network.get_submodule(target) if node.op == "call_module" else None
            if inside:
                current = max(inside, key=len)
            elif module is not None and any(True for _ in module.parameters()):
                current = None
        if not runs or runs[-1][0] != current:
            runs.append((current, []))
        runs[-1][1].append(node)
    place = {node: i for i, (_, nodes) in enumerate(runs) for node in nodes}
    last = {
        node: max((place.get(user, len(runs)) for user in node.users), default=-1)
        for node in network.graph.nodes
    }
    for i, (block, nodes) in enumerate(runs):
        outputs = tuple(node for node in nodes if last[node] > i)
        finished = tuple(
            node for node, end in last.items() if end <= i and place.get(node, -1) <= i
        )
        yield _Region(block, tuple(nodes), outputs, finished)


def _run(network: PreparedModule, nodes: Sequence[fx.Node], values: dict[fx.Node, Any]) -> None:
    """Compute nodes from values, which grow."""
    machine = fx.Interpreter(network)
    for node in nodes:
        args, kwargs = (fx.map_arg(a, values.__getitem__) for a in (node.args, node.kwargs))
        values[node] = getattr(machine, node.op)(node.target, args, kwargs)


def _layers(
    network: PreparedModule, region: _Region, known: set[int]
) -> dict[str, LearnedRounding]:
    """Put roundings that learn into the layers of a region that have none yet."""
    found: dict[str, LearnedRounding] = {}
    for node in region.nodes:
        if node.op != "call_module":
            continue
        top = network.get_submodule(str(node.target))
        for inner, module in top.named_modules(prefix=str(node.target)):
            if not parametrize.is_parametrized(module):
                continue
            chains = module.parametrizations
            assert isinstance(chains, nn.ModuleDict)
            for tensor, chain in chains.items():
                assert isinstance(chain, nn.ModuleList)
                quantizer = chain[0]
                if not isinstance(quantizer, WeightQuantizer) or id(chain) in known:
                    continue
                known.add(id(chain))
                name = inner if tensor == "weight" else f"{inner}.{tensor}"
                latent = getattr(chain, "original", None)
                if latent is None or tuple(latent.shape) != quantizer.layout.shape:
                    raise UnsupportedError(
                        f"{name}: {type(quantizer).__name__} has no float weight to round; "
                        "its weights are trained"
                    )
                coded = quantizer.coded(latent)
                learned = LearnedRounding(quantizer.format, quantizer.layout, latent, coded)
                chain[0] = learned.train(quantizer.training)
                found[name] = learned
    return found


@contextmanager
def _in_float(network: PreparedModule) -> Iterator[None]:
    """The network computes what it would without quantisation."""
    weights = [part for part in network.modules() if isinstance(part, WeightQuantizer)]
    parts: list[Any] = [*quantizers_of(network), *weights]
    before = [(part, float(part.blend), part.training) for part in parts]
    for part in parts:
        part.set_blend(0.0)
        part.training = True
    try:
        yield
    finally:
        for part, blend, training in before:
            part.set_blend(blend)
            part.training = training


class _Block:
    """One block while its roundings are learned."""

    def __init__(
        self,
        network: PreparedModule,
        region: _Region,
        entries: Mapping[fx.Node, Any],
        targets: Mapping[fx.Node, Any],
        layers: Mapping[str, LearnedRounding],
    ) -> None:
        self.network, self.region, self.layers = network, region, layers
        self.targets = {n: v for n, v in targets.items() if _is_float(v)}
        self.entries = entries
        tensors = [v for v in (*entries.values(), *self.targets.values()) if _is_float(v)]
        self.samples = min((len(t) for t in tensors), default=0)
        if any(type(v) is int and v == self.samples for v in entries.values()):
            raise UnsupportedError(
                f"block {region.block} reads the number of samples from a block before it; name a "
                "block that holds both"
            )

    def _values(self, chosen: Tensor) -> dict[fx.Node, Any]:
        return {
            node: _samples_of(value, chosen, self.samples) for node, value in self.entries.items()
        }

    def _error(self, chosen: Tensor) -> Tensor:
        """Mean squared error over the samples, of all outputs, each over its mean square."""
        values = self._values(chosen)
        _run(self.network, self.region.nodes, values)
        errors = []
        for node, target in self.targets.items():
            wanted = _samples_of(target, chosen, self.samples)
            size = target.square().mean().clamp_min(torch.finfo(torch.float32).tiny)
            errors.append((values[node] - wanted).square().mean() / size)
        return torch.stack(errors).mean()

    @torch.no_grad()
    def _whole_error(self, batch: int) -> float:
        parts = torch.split(torch.arange(self.samples), max(batch, 64))
        total = sum(float(self._error(part)) * len(part) for part in parts)
        return total / self.samples

    def optimise(
        self, settings: RoundingSettings, batch: int, generator: torch.Generator, tell: Tell
    ) -> BlockResult:
        """Learn, decide, report."""
        block = self.region.block or ""
        rounded = self._whole_error(batch)
        variables = [layer.v for layer in self.layers.values() if layer.v is not None]
        choices = sum(layer.choices for layer in self.layers.values())
        error = rounded
        if rounded > 0 and choices and self.targets:
            optimizer = torch.optim.Adam(variables, lr=settings.rate)
            begin = int(settings.warm_up * settings.iterations)
            for step in range(settings.iterations):
                chosen = torch.randint(
                    self.samples, (min(batch, self.samples),), generator=generator
                )
                with torch.enable_grad():
                    loss = self._error(chosen) * (choices / rounded)
                    if step >= begin:
                        done = (step - begin) / max(1, settings.iterations - begin)
                        exponent = settings.first + (settings.last - settings.first) * done
                        terms = [layer.indecision(exponent) for layer in self.layers.values()]
                        loss = loss + settings.weight * torch.stack(terms).sum()
                    gradients = torch.autograd.grad(loss, variables, allow_unused=True)
                for variable, gradient in zip(variables, gradients, strict=True):
                    variable.grad = gradient
                optimizer.step()
                tell(block, step + 1, settings.iterations)
            error = self._decide(rounded, batch)
        else:
            for layer in self.layers.values():
                layer.decide(learned=False)
        return BlockResult(block, tuple(self.layers), rounded, error)

    def _decide(self, rounded: float, batch: int) -> float:
        nearest = {name: layer.codes.clone() for name, layer in self.layers.items()}
        for layer in self.layers.values():
            layer.decide(learned=True)
        error = self._whole_error(batch)
        if error <= rounded:
            return error
        for name, layer in self.layers.items():
            layer.codes.copy_(nearest[name])
        return rounded


def _is_float(value: Any) -> bool:
    return isinstance(value, Tensor) and value.is_floating_point() and value.ndim > 0


def _samples_of(value: Any, chosen: Tensor, samples: int) -> Any:
    """Some samples of a value that has them all along its first axis; others as they are."""

    def pick(leaf: Any) -> Any:
        whole = isinstance(leaf, Tensor) and leaf.ndim > 0 and len(leaf) == samples
        return leaf[chosen.to(leaf.device)] if whole else leaf

    return pytree.tree_map(pick, value)


@contextmanager
def _told(progress: Tell | None, bar: bool) -> Iterator[Tell]:
    """What is told of steps: the caller, and a bar where somebody can see it."""
    console = Console(stderr=True, highlight=False, markup=False)
    columns = (TextColumn("{task.description}", markup=False), BarColumn())
    shown = bar and console.is_terminal
    with Progress(*columns, console=console, disable=not shown, transient=True) as display:
        task = display.add_task("", total=None)

        def tell(block: str, done: int, total: int) -> None:
            if progress is not None:
                progress(block, done, total)
            display.update(task, description=block, completed=done, total=total)

        yield tell

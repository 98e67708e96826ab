"""Integer spiking networks in plain NumPy, written from the arithmetic's description alone.

Populations are arrays in the graph's own order, without bit sets, running totals or layouts. Only
the bits that a population's format chooses (fraction, shift), its limit, and the steps in which it
reads membranes of others come from what is stated of it.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping

import numpy as np

from edgekit.program.lowering import MembraneFormat
from edgekit.spiking.graph import SpikingGraph
from edgekit.spiking.nodes import (
    AvgPool,
    Conv,
    Count,
    Flatten,
    Input,
    Leaky,
    Linear,
    MaxPool,
    Output,
    Scale,
    SumPool,
    Synaptic,
    spread_over,
)

Array = np.ndarray


class IntegerNetwork:
    """A graph with coded weights, in integers.

    Args:
        graph: the graph.
        formats: of its populations.
        scales: what one step of an input's codes is worth.
    """

    def __init__(
        self,
        graph: SpikingGraph,
        formats: Mapping[str, MembraneFormat],
        scales: Mapping[str, float],
    ) -> None:
        self.graph, self.formats, self.scales = graph, formats, scales
        self.shapes = graph.shapes()
        self.before: dict[str, Array] = {}
        self.state: dict[str, Array] = {}

    def step(self, codes: Mapping[str, Array]) -> dict[str, Array]:
        """Values of all nodes, int64; those of integrators are membranes."""
        values: dict[str, Array] = {}
        worth: dict[str, Array] = {}
        bias: dict[str, Array] = {}
        # Integrators whose membranes values are.
        holder: dict[str, str] = {}
        for name in self.graph.order():
            node, shape = self.graph.nodes[name], self.shapes[name]
            zero = np.zeros(shape, np.float32)
            read = [self._edge(e.source, e.delay, values) for e in self.graph.incoming(name)]
            units = [worth.get(e.source, np.ones(1)) for e in self.graph.incoming(name)]
            biases = [bias.get(e.source, zero) for e in self.graph.incoming(name)]
            sources = [holder.get(e.source) for e in self.graph.incoming(name)]
            if isinstance(node, Input):
                values[name] = codes[name].astype(np.int64)
                worth[name] = np.full(1, self.scales[name])
            elif isinstance(node, Leaky | Synaptic):
                values[name] = self._neurons(name, node, read, units, biases, sources)
                if not node.spiking:
                    holder[name] = name
                    worth[name] = self.formats[name].step.reshape(shape)
            elif isinstance(node, Linear | Conv):
                totals = linear if isinstance(node, Linear) else convolution
                rows = (-1, *[1] * (len(shape) - 1))
                assert node.weight.scale is not None
                if sources[0] is not None and is_diagonal(node):
                    holder[name], values[name] = sources[0], read[0]
                    assert node.weight.codes is not None
                    units[0] = units[0] * node.weight.codes[:, 0]
                else:
                    if sources[0] is not None:
                        read[0], units[0] = self._codes(name, sources[0], read[0], units[0])
                    values[name] = totals(node, read[0])
                worth[name] = node.weight.scale.astype(np.float64).reshape(rows) * units[0]
                if node.bias is not None:
                    bias[name] = np.broadcast_to(node.bias.reshape(rows), shape)
            elif isinstance(node, Scale):
                values[name] = read[0]
                if sources[0] is not None:
                    holder[name] = sources[0]
                worth[name] = node.factor.astype(np.float64) * units[0]
                bias[name] = biases[0].astype(np.float64) * node.factor
            elif isinstance(node, MaxPool | SumPool | AvgPool):
                places = np.prod(node.kernel) if isinstance(node, AvgPool) else 1
                total, unit = added(read, units)
                values[name], worth[name] = pool(node, total), unit / places
                known = [bias[e.source] for e in self.graph.incoming(name) if e.source in bias]
                if known:
                    total = sum(known[1:], known[0]).astype(np.float64)
                    bias[name] = pool(node, total) / places
            elif isinstance(node, Count):
                values[name] = self.state.get(name, 0) + read[0]
                self.state[name] = values[name]
            else:
                assert isinstance(node, Flatten | Output)
                values[name] = read[0].reshape(shape)
                if sources[0] is not None:
                    holder[name], worth[name] = sources[0], units[0].reshape(shape)
                elif units[0].size == 1:
                    worth[name] = units[0]
                else:
                    worth[name] = np.broadcast_to(units[0], read[0].shape).reshape(shape)
                source = self.graph.incoming(name)[0].source
                if source in bias:
                    bias[name] = bias[source].reshape(shape)
        self.before = values
        return values

    def _edge(self, source: str, delay: int, values: Mapping[str, Array]) -> Array:
        if not delay:
            return values[source]
        return self.before.get(source, np.zeros(self.shapes[source], np.int64))

    def _neurons(
        self,
        name: str,
        node: Leaky | Synaptic,
        read: list[Array],
        units: list[Array],
        biases: list[Array],
        sources: list[str | None],
    ) -> Array:
        shape, form = self.shapes[name], self.formats[name]
        full = [np.broadcast_to(unit, shape) for unit in units]
        plain = [k for k, source in enumerate(sources) if source is None]
        # Membranes come last, in the unit that is stated of them.
        stated = [r.step.reshape(shape) for r in form.reads if r.dtype == "int32"]
        assert len(stated) == len(read) - len(plain)
        base = min((full[k] for k in plain), key=lambda u: float(u.flat[0])) if plain else None
        unit = stated[0] if stated else base
        assert unit is not None
        current = np.zeros(shape, np.int64)
        for k in plain:
            current += read[k] << round(float(np.log2(full[k].flat[0] / unit.flat[0])))
        for k in (k for k, source in enumerate(sources) if source is not None):
            current += in_steps(read[k], full[k] / unit)
        current = half_up(current, form.shift)
        step = unit * 2.0 ** (form.shift - form.fraction)
        np.testing.assert_allclose(form.step.reshape(shape), step, rtol=1e-6)
        drive = (current << form.fraction) + np.rint(sum(biases[1:], biases[0]) / step).astype(int)
        threshold = np.rint(spread_over(node.threshold, shape) / step).astype(np.int64)
        membrane = self.state.get(name, np.zeros(shape, np.int64))
        fired = (membrane > threshold) if node.spiking else np.zeros(shape, bool)
        reset = node.reset if node.spiking else "none"
        if isinstance(node, Synaptic):
            kept = self.state.get(f"{name}.i", np.zeros(shape, np.int64))
            drive = self._within(name, fade(node.alpha, kept) + drive)
            self.state[f"{name}.i"] = drive
        held = np.where(fired, 0, membrane) if (reset, type(node)) == ("zero", Leaky) else membrane
        new = fade(node.beta, held) + drive
        if reset == "subtract":
            new = np.where(fired, new - threshold, new)
        if reset == "zero" and isinstance(node, Synaptic):
            new = np.where(fired, 0, new)
        self.state[name] = self._within(name, new)
        return (self.state[name] > threshold).astype(np.int64) if node.spiking else self.state[name]

    def _codes(self, reader: str, source: str, membrane: Array, unit: Array) -> tuple[Array, Array]:
        """A membrane as the codes that weights multiply, and what one of them is worth."""
        (edge,) = self.graph.outgoing(reader)
        (stated,) = (
            r for r in self.formats[edge.target].reads if r.source == source and r.dtype == "int16"
        )
        scale = float(stated.step[0])
        assert (stated.step == scale).all()
        assert np.log2(scale) == round(np.log2(scale))
        codes = in_steps(membrane, np.broadcast_to(unit, membrane.shape) / scale)
        assert np.abs(codes).max() <= stated.bound < 2**15
        return codes, np.full(1, scale)

    def _within(self, name: str, value: Array) -> Array:
        """Clipped to the population's limit, or checked against its proved bound."""
        form = self.formats[name]
        if form.limit is not None:
            return np.clip(value, -form.limit, form.limit)
        assert form.bound is not None
        assert np.abs(value).max() <= form.bound < 2**31
        return value


def half_up(value: Array, bits: int) -> Array:
    """Divided by a power of two, to nearest, halves up."""
    return (value + (1 << bits >> 1)) >> bits


def in_steps(value: Array, ratio: Array) -> Array:
    """Times ratios, as integers of which the largest has 30 bits; exactly as they are if all 1."""
    if (ratio == 1).all():
        return value
    bits = min(30 - int(np.ceil(np.log2(ratio.max()))), 61)
    factors = np.rint(ratio * 2.0**bits).astype(np.int64)
    return half_up(factors * value, bits)


def added(values: list[Array], units: list[Array]) -> tuple[Array, Array]:
    """Integers in the finest of units that are powers of two apart, and that unit."""
    finest = min(units, key=lambda unit: float(unit.flat[0]))
    shifts = [round(float(np.log2(unit.flat[0] / finest.flat[0]))) for unit in units]
    return sum(v << shift for v, shift in zip(values, shifts, strict=True)), finest


def is_diagonal(node: Linear | Conv) -> bool:
    """Whether a node hands on each value by itself, with a positive weight."""
    assert node.weight.codes is not None
    alone = isinstance(node, Linear) and node.groups == len(node.weight.codes)
    return alone and node.weight.shape[1] == 1 and bool((node.weight.codes > 0).all())


def fade(decay: Array, value: Array) -> Array:
    """A decay in steps of 2**-15, halves up."""
    factor = np.rint(spread_over(decay, value.shape).astype(np.float64) * 32768).astype(np.int64)
    return np.floor_divide(factor * value + 16384, 32768)


def linear(node: Linear, x: Array) -> Array:
    """Integer totals of a Linear."""
    assert node.weight.codes is not None
    parts = np.split(x, node.groups)
    weights = np.split(node.weight.codes.astype(np.int64), node.groups)
    return np.concatenate([w @ p for w, p in zip(weights, parts, strict=True)])


def convolution(node: Conv, x: Array) -> Array:
    """Integer totals of a Conv, place by place."""
    assert node.weight.codes is not None
    weights = node.weight.codes.astype(np.int64)
    axes = x.ndim - 1
    padded = np.pad(x, [(0, 0), *zip(node.padding[:axes], node.padding[axes:], strict=True)])
    outputs, depth = weights.shape[:2]
    extents = node.output_shape(x.shape)[1:]
    result = np.zeros((outputs, *extents), np.int64)
    for place in itertools.product(*map(range, extents)):
        window = tuple(
            slice(p * s, p * s + d * (k - 1) + 1, d)
            for p, s, d, k in zip(place, node.stride, node.dilation, node.kernel, strict=True)
        )
        for o in range(outputs):
            first = o // (outputs // node.groups) * depth
            patch = padded[(slice(first, first + depth), *window)]
            result[(o, *place)] = (patch * weights[o]).sum()
    return result


def pool(node: MaxPool | SumPool | AvgPool, x: Array) -> Array:
    """Largest or sum of windows, place by place, of what is there."""
    result = np.zeros(node.output_shape(x.shape), x.dtype)
    before = node.padding[: x.ndim - 1]
    for place in itertools.product(*map(range, result.shape[1:])):
        window = tuple(
            slice(max(p * s - b, 0), p * s - b + k)
            for p, s, b, k in zip(place, node.stride, before, node.kernel, strict=True)
        )
        patch = x[(slice(None), *window)].reshape(len(x), -1)
        result[(slice(None), *place)] = (
            patch.max(axis=1) if isinstance(node, MaxPool) else patch.sum(axis=1)
        )
    return result

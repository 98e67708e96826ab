"""Spiking operators: hand-computed values and properties of the arithmetic."""

from __future__ import annotations

import json
import math
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgekit.program.ir import Array, DType
from edgekit.program.operators.convolution import Conv2D
from edgekit.program.operators.spiking_bits import bit_set, pack_spikes, unpack_spikes
from edgekit.program.operators.spiking_neurons import Leaky, Reset, Synaptic
from edgekit.program.operators.spiking_pools import CurrentPool2D
from edgekit.program.operators.spiking_rescale import Rescale
from edgekit.program.operators.spiking_schedule import CROSSOVER, schedule_for
from edgekit.program.operators.spiking_values import (
    SpikeCount,
    SpikeMaxPool2D,
    SpikeSumPool2D,
    SpikeValues,
)
from edgekit.program.operators.spiking_weighted import (
    CurrentConv2D,
    SpikeConv2D,
    SpikeDense,
)
from edgekit.program.serialize import dump, load
from tests.cases import spiking

ROOT = Path(__file__).resolve().parents[2]

INT8, INT16, INT32, FLOAT32 = DType.INT8, DType.INT16, DType.INT32, DType.FLOAT32
RESETS: tuple[Reset, ...] = ("subtract", "zero", "none")


def drawn_spikes(neurons: int, seed: int = 0, batch: int = 2) -> tuple[Array, Array]:
    """Truth values and their bit set, with rubbish in the bits that belong to no neuron."""
    values = np.random.default_rng(seed).random((batch, neurons)) < 0.3
    packed = pack_spikes(values)
    if neurons % 32:
        packed[:, -1] |= np.int32(-1) << np.int32(neurons % 32)
    return values, packed


class TestBitSets:
    """Packing and unpacking, both directions."""

    @pytest.mark.parametrize("neurons", [1, 31, 32, 33, 180])
    def test_round_trip(self, neurons: int) -> None:
        """Every neuron has its bit; those behind the last are written 0 and not read."""
        values, packed = drawn_spikes(neurons)
        assert (unpack_spikes(packed, neurons) == values).all()
        clean = pack_spikes(values)
        assert (clean.dtype, clean.shape) == (np.int32, bit_set(2, neurons).shape)
        for n in range(2):
            assert int.from_bytes(clean[n].astype("<u4").tobytes(), "little") == sum(
                1 << int(i) for i in np.flatnonzero(values[n])
            )


class TestSums:
    """Sums of spikes are sums of spikes as numbers."""

    @pytest.mark.parametrize("groups", [1, 3])
    @pytest.mark.parametrize("dtype", [np.int8, np.float32])
    def test_dense(self, groups: int, dtype: type) -> None:
        """Against a loop over outputs and inputs."""
        rng = np.random.default_rng(1)
        values, packed = drawn_spikes(45)
        w = (rng.standard_normal((6, 45 // groups)) * 50).astype(dtype)
        acc = (rng.standard_normal((2, 6)) * 50).astype(np.float32 if dtype != np.int8 else "i4")
        (got,) = SpikeDense(neurons=(45,), groups=groups).reference(w, acc, packed)
        (other,) = SpikeDense(neurons=(45,), groups=groups, schedule="dense").reference(
            w, acc, packed
        )
        inputs, outputs = 45 // groups, 6 // groups
        for n in range(2):
            for o in range(6):
                total = acc[n, o]
                for k in range(inputs):
                    if values[n, o // outputs * inputs + k]:
                        total = total + w[o, k].astype(acc.dtype)
                assert got[n, o] == total == other[n, o]

    @pytest.mark.parametrize("groups", [1, 3])
    @pytest.mark.parametrize("dtype", [np.int8, np.float32])
    def test_several_sets_are_a_chain(self, groups: int, dtype: type) -> None:
        """To the bit what as many operations give that continue each other's currents."""
        rng = np.random.default_rng(3)
        populations = (45, 33, 6)
        sets = [drawn_spikes(neurons, seed)[1] for seed, neurons in enumerate(populations)]
        weights = [
            (rng.standard_normal((9, neurons // groups)) * 50).astype(dtype)
            for neurons in populations
        ]
        total: Array | None = None
        for s, w, neurons in zip(sets, weights, populations, strict=True):
            (total,) = SpikeDense(neurons=(neurons,), groups=groups).reference(w, total, s)
        at_once = SpikeDense(neurons=populations, groups=groups)
        (got,) = at_once.reference(np.concatenate(weights, axis=1), None, *sets)
        assert total is not None
        assert got.tobytes() == total.tobytes()

    def test_integers_wrap(self) -> None:
        """Beyond int32 a current is taken modulo 2**32."""
        (got,) = SpikeDense(neurons=(1,)).reference(
            np.int8([[1]]), np.int32([[2**31 - 1]]), np.int32([[1]])
        )
        assert got.tolist() == [[-(2**31)]]

    def test_no_sum_is_minus_zero(self) -> None:
        """An accumulator of -0 starts as +0, whatever the schedule."""
        (got,) = SpikeDense(neurons=(1,)).reference(
            np.float32([[1]]), np.float32([[-0.0]]), np.int32([[0]])
        )
        assert not np.signbit(got).any()

    @pytest.mark.parametrize(
        "fields",
        [{}, {"padding": (1, 0, 2, 1), "stride": (2, 1)}, {"dilation": (2, 2)}, {"groups": 2}],
        ids=str,
    )
    def test_convolutions(self, fields: dict[str, Any]) -> None:
        """Against the float convolution, which is exact on small integers."""
        rng = np.random.default_rng(2)
        image = (6, 5, 4)
        values, packed = drawn_spikes(120)
        w = rng.integers(-9, 9, (4, 3, 2, 4 // fields.get("groups", 1))).astype(np.int8)
        x = values.reshape(2, *image).astype(np.float32)
        (want,) = Conv2D(**fields).reference(x, w.astype(np.float32))
        (got,) = SpikeConv2D(input_shape=image, **fields).reference(packed, w)
        assert (got == want).all() and got.dtype == np.int32
        shifted = (x.astype(np.int8) * 100 - 28).astype(np.int8)
        (current,) = CurrentConv2D(x_zero_point=-28, **fields).reference(shifted, w)
        assert (current == 100 * want).all()


def expected_leaky(
    x: int, u: int, beta: int, threshold: int, bias: int, fraction: int, reset: Reset
) -> tuple[int, int]:
    """Spike and membrane, in exact rationals."""
    spiked = u > threshold
    kept = 0 if reset == "zero" and spiked else u
    decayed = (Fraction(beta * kept, 2**15) + Fraction(1, 2)).__floor__()
    after = decayed + x * 2**fraction + bias
    after -= threshold if reset == "subtract" and spiked else 0
    return int(after > threshold), after


class TestNeurons:
    """The arithmetic of both neurons."""

    @pytest.mark.parametrize("reset", RESETS)
    def test_leaky_integers(self, reset: Reset) -> None:
        """Against rationals, halves rounded up."""
        rng = np.random.default_rng(3)
        n = 400
        x, u = rng.integers(-900, 900, (2, 1, n)).astype(np.int32)
        u[0, :8] = [1, -1, 3, -3, 2**28, -(2**28), 0, 500]
        beta = rng.integers(0, 2**15 + 1, n).astype(np.int32)
        beta[:4], beta[4:8] = 2**14, [0, 2**15, 2**15, 2**15 - 1]
        threshold, bias = rng.integers(-100, 600, (2, n)).astype(np.int32)
        s, after = Leaky(reset=reset, fraction=5).reference(x, u, beta, threshold, bias)
        spikes = unpack_spikes(s, n)
        for i in range(n):
            given = (x[0, i], u[0, i], beta[i], threshold[i], bias[i])
            want = expected_leaky(*map(int, given), 5, reset)
            assert (int(spikes[0, i]), int(after[0, i])) == want

    @pytest.mark.parametrize("reset", RESETS)
    def test_floats_in_order(self, reset: Reset) -> None:
        """float32, operation by operation."""
        rng = np.random.default_rng(4)
        x, u, i = rng.standard_normal((3, 1, 99)).astype(np.float32)
        alpha, beta = np.float32([0.9]), rng.random(99).astype(np.float32)
        threshold = np.float32([0.3])
        one = np.float32(1)
        r = (u > threshold).astype(np.float32)
        s, after = Leaky(reset=reset).reference(x, u, beta, threshold)
        want = {
            "subtract": (beta * u + x) - r * threshold,
            "zero": beta * ((one - r) * u) + x,
            "none": beta * u + x,
        }[reset]
        assert after.tobytes() == want.tobytes()
        assert (unpack_spikes(s, 99) == (want > threshold)).all()
        s, after, current = Synaptic(reset=reset).reference(x, u, i, alpha, beta, threshold)
        syn = alpha * i + x
        base = beta * u + syn
        want = {"subtract": base - r * threshold, "zero": base - base * r, "none": base}[reset]
        assert (after.tobytes(), current.tobytes()) == (want.tobytes(), syn.tobytes())
        assert (unpack_spikes(s, 99) == (want > threshold)).all()

    def test_integer_synaptic_is_two_leaky_stages(self) -> None:
        """The current is an integrator of the input, the membrane one of the current."""
        rng = np.random.default_rng(5)
        x, u, i = rng.integers(-4000, 4000, (3, 1, 70)).astype(np.int32)
        alpha, beta = np.int32([20000]), np.int32([30000])
        threshold = np.int32([1500])
        s, after, current = Synaptic(fraction=3).reference(x, u, i, alpha, beta, threshold)
        integrator = Leaky(reset="none", fraction=3)
        assert (integrator.reference(x, i, alpha)[1] == current).all()
        spikes, membrane = Leaky().reference(current, u, beta, threshold)
        assert (spikes == s).all() and (membrane == after).all()

    def test_limit(self) -> None:
        """Membranes stay within it on both sides."""
        x, u = np.int32([[900, -900, 5]]), np.int32([[900, -900, 0]])
        _, after = Leaky(limit=1000).reference(x, u, np.int32([2**15]), np.int32([2**30]))
        assert after.tolist() == [[1000, -1000, 5]]

    def test_parameters_of_channels(self) -> None:
        """One parameter for every channel is that parameter at every place."""
        x = np.random.default_rng(6).integers(-99, 99, (1, 2, 3, 4)).astype(np.int32)
        threshold = np.int32([1, 10, 20, 30])
        beta = np.int32([2**14])
        got = Leaky().reference(x, x, beta, threshold)
        want = Leaky().reference(x, x, beta, np.tile(threshold, 6))
        assert all((a == b).all() for a, b in zip(got, want, strict=True))

    def test_integrator(self) -> None:
        """Without a threshold nothing spikes and nothing is reset."""
        x = np.int32([[2**30, 5]])
        s, after = Leaky(reset="none").reference(x, x, np.int32([2**14]))
        assert s.tolist() == [[0]] and after.tolist() == [[2**30 + 2**29, 8]]


class TestValues:
    """Numbers, counts and pools."""

    def test_rescaled_membranes(self) -> None:
        """Against Python's integers of any size; sums wrap."""
        rng = np.random.default_rng(0)
        u = rng.integers(-(2**31), 2**31, (1, 2, 3), dtype=np.int64).astype(np.int32)
        acc = rng.integers(-(2**31), 2**31, (1, 2, 3), dtype=np.int64).astype(np.int32)
        for shift in (0, 1, 31, 61):
            for length in (1, 3, 6):
                factor = rng.integers(0, 2**31, length).astype(np.int32)
                got = Rescale(shift=shift).reference(u, factor, acc)[0].reshape(-1)
                for i, value in enumerate(u.reshape(-1)):
                    own = int(factor[i % length])
                    exact = math.floor(Fraction(own * int(value), 2**shift) + Fraction(1, 2))
                    total = exact + int(acc.reshape(-1)[i])
                    assert got[i] == (total + 2**31) % 2**32 - 2**31

    def test_values_and_counts(self) -> None:
        """Both count what spikes; int32 saturates."""
        values, packed = drawn_spikes(45)
        (numbers,) = SpikeValues(shape=(9, 5), dtype=INT8).reference(packed)
        assert (numbers.reshape(2, 45) == values).all()
        most = np.full((2, 45), 2**31 - 1, np.int32)
        assert (SpikeCount(neurons=45).reference(packed, most)[0] == most).all()
        zero = np.zeros((2, 45), np.float32)
        assert (SpikeCount(neurons=45).reference(packed, zero)[0] == values).all()

    def test_pools(self) -> None:
        """Against the windows written out."""
        values, packed = drawn_spikes(4 * 6 * 3)
        x = values.reshape(2, 2, 2, 3, 2, 3)
        fields: dict[str, Any] = {"input_shape": (4, 6, 3), "kernel": (2, 2), "stride": (2, 2)}
        (total,) = SpikeSumPool2D(dtype=INT8, **fields).reference(packed)
        (largest,) = SpikeMaxPool2D(**fields).reference(packed)
        assert (total == x.sum(axis=(2, 4))).all()
        assert (unpack_spikes(largest, 18) == (total.reshape(2, 18) > 0)).all()

    def test_pools_of_currents(self) -> None:
        """Place by place with Python's integers; sums wrap, padding is not there."""
        rng = np.random.default_rng(0)
        x = rng.integers(-(2**31), 2**31, (2, 5, 4, 3), dtype=np.int64).astype(np.int32)
        fields: dict[str, Any] = {"kernel": (3, 2), "stride": (2, 1), "padding": (1, 1, 1, 0)}
        (largest,) = CurrentPool2D(kind="max", **fields).reference(x)
        (total,) = CurrentPool2D(kind="sum", **fields).reference(x)
        assert largest.shape == total.shape == (2, 3, 4, 3)
        for n, row, column, c in np.ndindex(largest.shape):
            rows, columns = (
                slice(max(2 * row - 1, 0), 2 * row + 2),
                slice(max(column - 1, 0), column + 1),
            )
            there = [int(value) for value in x[n, rows, columns, c].reshape(-1)]
            assert largest[n, row, column, c] == max(there)
            assert total[n, row, column, c] == (sum(there) + 2**31) % 2**32 - 2**31


def test_every_case_survives_serialisation() -> None:
    """All operators, with all their fields, one of each."""
    seen: dict[str, Any] = {
        case.program.operations[0].operator.name: case for case in spiking.cases()
    }
    assert len(seen) == 12
    for case in seen.values():
        again = load(*dump(case.program))
        assert again.operations == case.program.operations


def test_crossovers_are_the_benchmarks() -> None:
    """The table is what results/spiking_kernels.json says of the Cortex-M4."""
    rows = json.loads((ROOT / "results" / "spiking_kernels.json").read_text())["rows"]
    smallest: dict[str, float] = {}
    for row in rows:
        if row["kind"] == "crossover" and row["core"] == "cortex-m4":
            share = row["crossover_activity"]
            if share is not None:
                smallest[row["element"]] = min(share, smallest.get(row["element"], 1.0))
    assert {e: math.floor(100 * share) / 100 for e, share in smallest.items()} == CROSSOVER


def test_schedule() -> None:
    """Event-driven unless the table says that the dense kernel is cheaper."""
    assert schedule_for("int8", None) == schedule_for("ternary", 0.02) == "event"
    for element, share in CROSSOVER.items():
        assert 0 < share < 1
        assert schedule_for(element, share / 2) == "event"
        assert schedule_for(element, (1 + share) / 2) == "dense"

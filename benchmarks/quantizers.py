"""What quantisation costs: training steps beside float and Brevitas, AdaRound per layer.

::

    python benchmarks/quantizers.py                  # writes results/quantizers.json, two minutes
    python benchmarks/quantizers.py --rounds 200     # steadier

A step is forward, loss, backward and AdamW on one batch, in one thread. All networks of a table
take turns, one step each a round in a drawn order, and a ratio is the median over rounds of a
step's time over that of the float network in the same round: other work on the machine disturbs
both alike. Numbers are drawn with a seed; times do not depend on data.

Brevitas runs the same network with its own layers in the place of torch's, the same formats and the
same ends of 8 bits: quantised weights, an activation quantiser in the place of every ReLU, one in
front and one behind.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from results_file import ROOT, write
from torch import Tensor, nn
from torch.nn import functional

from edgekit.model.capture import capture
from edgekit.quantize import Recipe, prepare, quantize_model
from edgekit.zoo import build, read_recipe
from edgekit.zoo.table import network

NETWORKS = ("mnist-cnn", "har-cnn")
RECIPES = ("w4a8", "w158a8", "shift3a8", "fp4-e2m1-g32a8", "w1a8", "mxfp4a8")
ROUNDED = ("ds-cnn", "har-cnn")
ROUNDED_RECIPE = "fp4-e2m1-g32a8"
WARMUP = 5
CALIBRATION_SAMPLES = 256
SEED = 0
LEARNING_RATE = 1e-3


def brevitas_formats() -> dict[str, dict[str, Any]]:
    """Settings of Brevitas layers that mean the same as a recipe, for those that have a like."""
    from brevitas import quant

    return {
        "w4a8": {"weight_quant": quant.Int8WeightPerChannelFloat, "weight_bit_width": 4},
        "w158a8": {"weight_quant": quant.SignedTernaryWeightPerTensorConst},
        "w1a8": {"weight_quant": quant.SignedBinaryWeightPerTensorConst},
    }


def with_brevitas(model: nn.Module, inner: dict[str, Any]) -> nn.Module:
    """A network with Brevitas layers in the place of torch's, 8 bits at both ends."""
    import brevitas.nn as qnn
    from brevitas import quant

    ends = {"weight_quant": quant.Int8WeightPerChannelFloat}
    kinds = (nn.Conv1d, nn.Conv2d, nn.Linear)
    names = [name for name, part in model.named_modules() if isinstance(part, kinds)]
    for name, part in list(model.named_modules()):
        if isinstance(part, nn.ReLU):
            model.set_submodule(name, qnn.QuantReLU())
        elif name in names:
            settings = ends if name in (names[0], names[-1]) else inner
            model.set_submodule(name, _quantised(part, settings))
    return nn.Sequential(qnn.QuantIdentity(), model, qnn.QuantIdentity())


def _quantised(layer: nn.Module, settings: dict[str, Any]) -> nn.Module:
    import brevitas.nn as qnn

    bias = layer.bias is not None
    if isinstance(layer, nn.Linear):
        return qnn.QuantLinear(layer.in_features, layer.out_features, bias=bias, **settings)
    assert isinstance(layer, nn.Conv1d | nn.Conv2d)
    kind = qnn.QuantConv1d if isinstance(layer, nn.Conv1d) else qnn.QuantConv2d
    made: nn.Module = kind(
        layer.in_channels,
        layer.out_channels,
        layer.kernel_size,
        stride=layer.stride,
        padding=layer.padding,
        bias=bias,
        **settings,
    )
    return made


def stepper(model: nn.Module, x: Tensor, y: Tensor) -> Callable[[], None]:
    """One step of training."""
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE)

    def step() -> None:
        loss = functional.cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step


def subjects(name: str, x: Tensor) -> Iterator[tuple[str, str, nn.Module]]:
    """Library, recipe and network, the float one first."""
    yield "torch", "fp32", build(name)
    formats = brevitas_formats()
    for recipe in RECIPES:
        yield "edgekit", recipe, prepare(build(name), recipe, x)
        if recipe in formats:
            yield "brevitas", recipe, with_brevitas(build(name), formats[recipe])


def steps(name: str, rounds: int) -> list[dict[str, Any]]:
    """A row for every network of a table."""
    torch.manual_seed(SEED)
    batch = read_recipe(name).batch_size
    known = network(name)
    x = torch.randn(batch, *known.input_shape[1:])
    y = torch.randint(known.outputs, (batch,))
    runs = {(lib, recipe): stepper(model, x, y) for lib, recipe, model in subjects(name, x)}
    seconds: dict[tuple[str, str], list[float]] = {key: [] for key in runs}
    order = np.random.default_rng(SEED)
    keys = list(runs)
    for number in range(WARMUP + rounds):
        # In another order every round: what a step finds in the caches is what the last one left.
        for index in order.permutation(len(keys)):
            key = keys[index]
            begin = time.perf_counter()
            runs[key]()
            if number >= WARMUP:
                seconds[key].append(time.perf_counter() - begin)
    base = seconds["torch", "fp32"]
    rows = []
    for (library, recipe), taken in seconds.items():
        ratios = [t / b for t, b in zip(taken, base, strict=True)]
        rows.append(
            {
                "what": "training step",
                "network": name,
                "library": library,
                "precision": recipe,
                "batch": batch,
                "step_ms": round(1e3 * statistics.median(taken), 3),
                "step_over_float": round(statistics.median(ratios), 3),
            }
        )
    return rows


def rounding(name: str) -> dict[str, Any]:
    """A row: scale-aware AdaRound of a network, beside rounding to nearest."""
    torch.manual_seed(SEED)
    shape = network(name).input_shape
    model = capture(build(name), torch.randn(shape), name=name)
    draw = np.random.default_rng(SEED).standard_normal
    data = {
        model.ir.graph.inputs[0].name or "": draw(
            (CALIBRATION_SAMPLES, *shape[1:]), dtype=np.float32
        )
    }
    seconds = {}
    for method in ("rtn", "adaround"):
        begin = time.perf_counter()
        quantize_model(model, Recipe.parse(ROUNDED_RECIPE), data, method=method, seed=SEED)
        seconds[method] = time.perf_counter() - begin
    layers = sum(isinstance(p, nn.Conv1d | nn.Conv2d | nn.Linear) for p in build(name).modules())
    return {
        "what": "scale-aware adaround",
        "network": name,
        "library": "edgekit",
        "precision": ROUNDED_RECIPE,
        "samples": CALIBRATION_SAMPLES,
        "layers": layers,
        "seconds": round(seconds["adaround"], 2),
        "rtn_seconds": round(seconds["rtn"], 2),
        "seconds_per_layer": round((seconds["adaround"] - seconds["rtn"]) / layers, 2),
    }


def main() -> int:
    """Write a row per network and format."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=ROOT / "results" / "quantizers.json")
    parser.add_argument("--rounds", type=int, default=60, help="steps of each network")
    given = parser.parse_args()
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore", module="brevitas")
    rows = []
    for name in NETWORKS:
        for row in steps(name, given.rounds):
            rows.append(row)
            sys.stderr.write(
                f"{name} {row['library']} {row['precision']}: {row['step_ms']} ms, "
                f"{row['step_over_float']} of the float step\n"
            )
    for name in ROUNDED:
        rows.append(rounding(name))
        sys.stderr.write(
            f"{name} adaround: {rows[-1]['seconds_per_layer']} s a layer "
            f"({rows[-1]['seconds']} s, {rows[-1]['layers']} layers)\n"
        )
    write(
        given.output,
        rows,
        command="python benchmarks/quantizers.py",
        seed=SEED,
        libraries=("torch", "brevitas"),
        provenance="measured",
        threads=torch.get_num_threads(),
        rounds=given.rounds,
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())

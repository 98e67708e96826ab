"""Formats through the whole chain: NumPy, torch, host C and emulated cores give the same bits.

A generated network per format, and a network of many formats over hundreds of recorded windows.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from edgekit.deploy.data import samples_for
from edgekit.program.interpret import Interpreter
from edgekit.program.ir import Array, Boundary
from edgekit.targets.arm_cpu.cpus import CPUS
from edgekit.targets.arm_cpu.machine import SharedMachine
from edgekit.targets.c.emit import Emission, emit
from edgekit.targets.host import HostMachine
from edgekit.targets.image import build_image
from edgekit.targets.machine import Machine
from edgekit.targets.target import target
from tests.cases.case import Case
from tests.support.chain import STRICT, assert_identical, combine, emulate, run_machine
from tests.support.coded_network import FORMATS, coded_network
from tests.support.shared import shared_of

if TYPE_CHECKING:
    from edgekit.quantize import ConvertedModule

SAMPLES = 3

WINDOWS = 500

LAYERS = ("features.0.0", "features.1.0", "features.2.0", "features.3.0", "classifier")
"""Of the activity network."""

ROUNDED = ("w4a8", "w158a8", "fp4-e3m0a8", "fp4-e2m1-g32a8", "nvfp4a8")
TRAINED = ("w158-mean-a8", "shift3a8", "w1a8", "w1a1", "w4a8-g32")
"""A recipe of another kind for every layer."""


@cache
def networks() -> tuple[Emission, list[dict[str, Array]], list[dict[str, Array]]]:
    """A network per format as one library, its inputs, and the interpreter's outputs."""
    cases = []
    for number, weights in enumerate(FORMATS):
        program = coded_network(weights, seed=number)
        (given,), (result,) = program.inputs, program.outputs
        named = program.replace(
            inputs=(Boundary(given.tensor, "x", given.source_shape),),
            outputs=(Boundary(result.tensor, "y", result.source_shape),),
        )
        cases.append(Case(weights, named, seed=number, samples=SAMPLES))
    program, samples = combine(cases, "formats")
    interpreter = Interpreter(program)
    return emit(program, version="test"), samples, [interpreter.run(s) for s in samples]


def check(machine: Machine) -> None:
    """The machine gives the interpreter's outputs."""
    emission, samples, wanted = networks()
    for sample, want in zip(samples, wanted, strict=True):
        assert_identical(want, run_machine(machine, emission, sample))
    machine.close()


@pytest.mark.torch
@pytest.mark.needs("torch")
def test_torch() -> None:
    """The converted module's own execution, all samples at once."""
    import torch

    from edgekit.quantize.converted.batched import BatchedProgram

    emission, samples, wanted = networks()
    program = emission.program
    batch = {
        b.tensor: torch.from_numpy(np.stack([s[b.name] for s in samples])) for b in program.inputs
    }
    results, _ = BatchedProgram(program)(batch)
    for boundary in program.outputs:
        got = results[boundary.tensor].numpy()
        assert np.array_equal(got, np.stack([w[boundary.name] for w in wanted])), boundary.name


@pytest.mark.needs("cc")
def test_host() -> None:
    """Compiled here, every warning an error."""
    check(HostMachine(networks()[0].library, flags=STRICT))


@pytest.mark.parametrize("core", ["cortex-m0plus", "cortex-m4", "cortex-m33"])
@pytest.mark.needs("cortex-m compiler")
def test_microcontrollers(core: str, tmp_path: Path) -> None:
    """Emulated."""
    check(emulate(build_image(networks()[0].library, target(core), folder=tmp_path)))


@pytest.mark.needs("aarch64 compiler")
def test_aarch64() -> None:
    """The shared object that ships, emulated."""
    library = networks()[0].library
    check(SharedMachine(library, CPUS["aarch64"], shared_of(library, "aarch64")))


def rounded(x: Array) -> ConvertedModule:
    """The activity network with random weights, each layer rounded to another format."""
    import torch

    from edgekit.model.capture import capture
    from edgekit.quantize import ConvertedModule, Recipe, quantize_model
    from edgekit.zoo import har_cnn

    model = capture(har_cnn().eval(), torch.from_numpy(x[:1]), name="har")
    (name,) = (str(value.name) for value in model.ir.graph.inputs)
    recipe = Recipe.parse(dict(zip(LAYERS, ROUNDED, strict=True)), keep_ends=False)
    return ConvertedModule.from_model(quantize_model(model, recipe, {name: x[::8]}))


def trained(x: Array) -> ConvertedModule:
    """The same after a few steps of training, each layer in another format."""
    import torch
    from torch.nn import functional

    from edgekit.quantize import Recipe, convert, prepare
    from edgekit.zoo import har_cnn

    recipe = Recipe.parse(dict(zip(LAYERS, TRAINED, strict=True)), keep_ends=False)
    samples = torch.from_numpy(x[::4])
    prepared = prepare(har_cnn(), recipe, samples)
    prepared.train()
    optimizer = torch.optim.Adam(prepared.parameters(), lr=1e-3)
    for _ in range(4):
        optimizer.zero_grad()
        loss = functional.cross_entropy(prepared(samples), torch.arange(len(samples)) % 7)
        loss.backward()
        optimizer.step()
    return convert(prepared)


@pytest.mark.torch
@pytest.mark.needs("torch", "cortex-m compiler")
@pytest.mark.parametrize("made", [rounded, trained])
def test_recorded_windows(
    made: Callable[[Array], ConvertedModule], data_folder: Path, tmp_path: Path
) -> None:
    """Torch and the artifact on the emulated board agree on every logit of hundreds of windows."""
    import torch

    import edgekit

    with np.load(data_folder / "har" / "wisdm_watch7_w40.npz") as arrays:
        kept = arrays["X"][:: len(arrays["X"]) // WINDOWS][:WINDOWS]
        x = (kept * arrays["scale"]).astype(np.float32).transpose(0, 2, 1)
    x = x / np.abs(x).std(axis=(0, 2), keepdims=True)
    assert x.shape == (WINDOWS, 6, 40)
    torch.manual_seed(0)
    converted = made(x)
    artifact = edgekit.export(converted, target="nucleo-l4r5zi", output=tmp_path / "board")
    assert len(artifact.manifest.coded) == len(LAYERS)
    codes = converted.codes(torch.from_numpy(x))
    assert isinstance(codes, torch.Tensor)
    assert len(np.unique(codes.numpy())) > 20
    (inputs,) = samples_for(converted.program, x).inputs.values()
    with artifact.open("emulator") as session:
        for sample, want in zip(inputs, codes.numpy(), strict=True):
            assert np.array_equal(session.run(sample), want[np.newaxis])

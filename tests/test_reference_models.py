"""The main job: the MLPerf Tiny networks, the same bits in every link of the chain.

LiteRT's reference kernels are the oracle; the interpreter, host C, every emulated core and QEMU's
boards must give its bytes on a hundred inputs, real ones where there are any.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import pytest

from edgekit.program import tflite
from edgekit.program.fuse import fuse_residual
from edgekit.program.interpret import Interpreter
from edgekit.program.ir import Program
from edgekit.targets.booted import BootedMachine
from edgekit.targets.c.emit import Emission, emit
from edgekit.targets.cores import CORES
from edgekit.targets.host import HostMachine
from edgekit.targets.image import build_image
from edgekit.targets.target import target
from tests.support.chain import emulate, run_machine

pytestmark = pytest.mark.needs("cc", "litert")

INT8 = ("kws_dscnn_int8", "ic_resnet8_int8", "vww_96_int8", "ad01_int8")
FLOAT = ("kws_dscnn_fp32", "ic_resnet8_fp32", "vww_96_fp32", "ad01_fp32")
EMULATED = [name for name, core in CORES.items() if core.unicorn_model is not None]
SAMPLES = 100
FLOAT_SAMPLES = 2

FLOAT_BOUND = 2e-5
"""Largest difference to LiteRT relative to the largest output: another order of summation."""


@cache
def program_of(model: Path) -> Program:
    """The Program, its residual additions fused. The float KWS file holds hybrid weights."""
    return fuse_residual(tflite.read(model, dequantize_weights="fp32" in model.stem))[0]


@cache
def emission_of(model: Path) -> Emission:
    """The generated library."""
    return emit(program_of(model), version="test")


def path_of(data_folder: Path, name: str) -> Path:
    """File of a model."""
    return data_folder / "models" / "mlperf_tiny" / f"{name}.tflite"


@cache
def inputs_of(data_folder: Path, name: str, count: int) -> np.ndarray:
    """[count, ...] in the model's dtype: real where there are any, else seeded."""
    (tensor,) = program_of(path_of(data_folder, name)).input_tensors
    integer = tensor.dtype.is_integer
    if name.startswith("kws"):
        with np.load(data_folder / "kws" / "gsc_test_mfcc.npz") as arrays:
            values = arrays["X"][:: len(arrays["X"]) // count][:count]
            real = (values.astype(np.float64) - arrays["zero_point"]) * arrays["scale"]
            chosen = values if integer else real
    elif name.startswith("ic"):
        with np.load(data_folder / "images" / "cifar10_lossless_calib500.npz") as arrays:
            chosen = arrays["x"][:count].astype(np.int16) - (128 if integer else 0)
    elif integer:
        chosen = np.random.default_rng(11).integers(-128, 128, (count, *tensor.shape))
    else:
        chosen = np.random.default_rng(11).standard_normal((count, *tensor.shape))
    return chosen.astype(tensor.dtype.value).reshape(count, *tensor.shape)


@cache
def oracle(data_folder: Path, name: str, count: int) -> np.ndarray:
    """LiteRT's reference outputs."""
    from tests.support.litert import LiteRT

    model = LiteRT(path_of(data_folder, name).read_bytes())
    return np.stack([model(x)[0] for x in inputs_of(data_folder, name, count)])


@cache
def interpreted(data_folder: Path, name: str, count: int) -> np.ndarray:
    """The interpreter's outputs."""
    program = program_of(path_of(data_folder, name))
    interpreter = Interpreter(program)
    source, result = program.inputs[0].name, program.outputs[0].name
    inputs = inputs_of(data_folder, name, count)
    return np.stack([interpreter.run({source: x})[result] for x in inputs])


def outputs_on(machine: object, emission: Emission, inputs: np.ndarray) -> np.ndarray:
    """A machine's outputs."""
    source, result = emission.program.inputs[0].name, emission.program.outputs[0].name
    return np.stack([run_machine(machine, emission, {source: x})[result] for x in inputs])


def assert_same_bytes(got: np.ndarray, want: np.ndarray) -> None:
    """Equal to the bit, floats too."""
    differ = [i for i in range(len(want)) if got[i].tobytes() != want[i].tobytes()]
    assert not differ, f"samples {differ[:5]} differ, the first: {got[differ[0]]} {want[differ[0]]}"


@pytest.mark.parametrize("name", INT8)
def test_interpreter_equals_litert(data_folder: Path, name: str) -> None:
    """A hundred inputs, to the bit."""
    assert_same_bytes(interpreted(data_folder, name, SAMPLES), oracle(data_folder, name, SAMPLES))


@pytest.mark.parametrize("name", INT8)
def test_host_equals_litert(data_folder: Path, name: str) -> None:
    """A hundred inputs, to the bit."""
    emission = emission_of(path_of(data_folder, name))
    got = outputs_on(HostMachine(emission.library), emission, inputs_of(data_folder, name, SAMPLES))
    assert_same_bytes(got, oracle(data_folder, name, SAMPLES))


@pytest.mark.parametrize("core", EMULATED)
@pytest.mark.parametrize("name", INT8)
@pytest.mark.needs("cortex-m compiler")
def test_emulated_equals_litert(data_folder: Path, tmp_path: Path, name: str, core: str) -> None:
    """A hundred inputs on every emulated core, to the bit."""
    emission = emission_of(path_of(data_folder, name))
    machine = emulate(build_image(emission.library, target(core), folder=tmp_path))
    got = outputs_on(machine, emission, inputs_of(data_folder, name, SAMPLES))
    assert_same_bytes(got, oracle(data_folder, name, SAMPLES))


@pytest.mark.parametrize("core", ["cortex-m4", "cortex-m55"])
@pytest.mark.parametrize("name", INT8)
@pytest.mark.needs("cortex-m compiler", "qemu-system-arm")
def test_booted_equals_litert(data_folder: Path, name: str, core: str) -> None:
    """A complete image boots on QEMU's board and gives the same bytes on a hundred inputs."""
    emission = emission_of(path_of(data_folder, name))
    machine = BootedMachine(emission.library, target(core))
    inputs = inputs_of(data_folder, name, SAMPLES)
    outputs = machine.run_batch([[x.tobytes()] for x in inputs])
    machine.close()
    want = oracle(data_folder, name, SAMPLES)
    assert [o[0] for o in outputs] == [w.tobytes() for w in want]


@pytest.mark.parametrize(
    ("name", "file", "key", "shift", "right", "total"),
    [
        ("kws_dscnn_int8", "kws/gsc_test_mfcc.npz", "X", 0, 4489, 4890),
        ("ic_resnet8_int8", "images/cifar10_lossless_calib500.npz", "x", 128, 441, 500),
    ],
)
def test_known_accuracy(
    data_folder: Path, name: str, file: str, key: str, shift: int, right: int, total: int
) -> None:
    """Host C gets exactly as many right as the reference kernels are known to."""
    emission = emission_of(path_of(data_folder, name))
    with np.load(data_folder / file) as arrays:
        inputs = (arrays[key].astype(np.int16) - shift).astype(np.int8)
        labels = arrays["y"]
    (boundary,) = emission.program.inputs
    shaped = inputs.reshape(len(inputs), *boundary.source_shape)
    outputs = outputs_on(HostMachine(emission.library), emission, shaped)
    found = outputs.reshape(total, -1).argmax(axis=1)
    assert int(np.sum(found == labels)) == right


@pytest.mark.parametrize("name", [n for n in FLOAT if not n.startswith("kws")])
def test_float_is_near_litert(data_folder: Path, name: str) -> None:
    """The interpreter's floats differ from LiteRT's by the order of summation only.

    Not the KWS file: LiteRT rounds the activations of hybrid models, so it is no float oracle.
    """
    want = oracle(data_folder, name, 10)
    got = interpreted(data_folder, name, 10)
    assert np.abs(got - want).max() <= FLOAT_BOUND * np.abs(want).max()


@pytest.mark.parametrize("name", FLOAT)
def test_float_host_equals_interpreter(data_folder: Path, name: str) -> None:
    """To the bit."""
    emission = emission_of(path_of(data_folder, name))
    inputs = inputs_of(data_folder, name, 10)
    got = outputs_on(HostMachine(emission.library), emission, inputs)
    assert_same_bytes(got, interpreted(data_folder, name, 10))


@pytest.mark.parametrize("core", EMULATED)
@pytest.mark.parametrize("name", FLOAT)
@pytest.mark.needs("cortex-m compiler")
def test_float_emulated_equals_interpreter(
    data_folder: Path, tmp_path: Path, name: str, core: str
) -> None:
    """To the bit, with an FPU and in software."""
    emission = emission_of(path_of(data_folder, name))
    machine = emulate(build_image(emission.library, target(core), folder=tmp_path))
    got = outputs_on(machine, emission, inputs_of(data_folder, name, 10)[:FLOAT_SAMPLES])
    assert_same_bytes(got, interpreted(data_folder, name, 10)[:FLOAT_SAMPLES])

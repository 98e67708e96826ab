"""What every weight format costs and how exactly it runs, on the activity network.

::

    python benchmarks/coded_formats.py --data FOLDER               # trains the network first
    python benchmarks/coded_formats.py --data FOLDER --runs DIR    # takes the study's training

Rows of kind ``kernel`` count instructions per multiply-accumulate of one layer, int8 beside it.
Rows of kind ``network`` round every layer of the trained network to the format, then compare, over
real test windows: the converted torch module with the emulated Cortex-M4 to the bit, and ONNX
Runtime, which requantises in float, by rate, step and top-1.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from results_file import arguments, write
from study_tasks import Trained, accuracy, trained

import edgekit
from edgekit.deploy.artifact import Artifact
from edgekit.deploy.benchmark import seeded_inputs
from edgekit.deploy.data import samples_for
from edgekit.deploy.session import Session
from edgekit.formats import ELEMENTS
from edgekit.model.capture import capture
from edgekit.program.ir import Boundary, DType, Operation, Program, Quantization, Tensor, TensorType
from edgekit.program.operators.base import Operator
from edgekit.program.operators.coding import Coding, accumulator_for
from edgekit.program.operators.convolution import Conv2D, DepthwiseConv2D
from edgekit.program.operators.linear import FullyConnected
from edgekit.quantize import ConvertedModule, Recipe, quantize_model
from edgekit.targets.c.emit import emit
from edgekit.targets.emulated import EmulatedMachine
from edgekit.targets.image import build_image
from edgekit.targets.target import target
from edgekit.version import edgekit_version

SEED = 0
CORES = ("cortex-m0plus", "cortex-m4")
CALIBRATION_SAMPLES = 256

PRECISIONS = (
    *(f"w{bits}a8" for bits in range(2, 9)),
    *("w4a8-g32", "w158a8", "w158-mean-a8", "w158-p5-a8", "shift2a8", "shift3a8", "shift4a8"),
    *("w1a8", "fp4-e2m1-g32a8", "fp4-e1m2-g32a8", "fp4-e3m0-g32a8", "fp6-e2m3a8"),
    *("fp8-e3m4a8", "fp8-e4m3a8", "fp8-e5m2a8", "mxfp4a8", "nvfp4a8"),
)
"""A recipe for every format."""

ONE = Quantization.per_tensor(1.0)

LAYERS = {
    "dense": ((1, 256), (64, 256), FullyConnected, {}),
    "conv": ((1, 16, 16, 32), (32, 3, 3, 32), Conv2D, {"padding": (1, 1, 1, 1)}),
    "depthwise": ((1, 16, 16, 32), (3, 3, 32), DepthwiseConv2D, {"padding": (1, 1, 1, 1)}),
}
"""Input, weights, operator and fields of the layers whose instructions are counted."""


def layer_program(kind: str, element: str | None) -> Program:
    """One layer with seeded weights of an element, or of plain int8."""
    x_shape, w_shape, operator_class, fields = LAYERS[kind]
    rng = np.random.default_rng(SEED)
    levels = np.arange(-127, 128) if element is None else np.array(ELEMENTS[element].levels)
    dtype = np.int8 if element is None else ELEMENTS[element].dtype
    w = rng.choice(levels, w_shape).astype(dtype)
    channels = w_shape[-1] if kind == "depthwise" else w_shape[0]
    coding, bias_dtype = None, DType.INT32
    if element is not None:
        rows = np.moveaxis(w, -1, 0) if kind == "depthwise" else w
        bias_dtype = accumulator_for(element, rows.reshape(channels, -1))
        coding = Coding(element, accumulator=bias_dtype)
    scales = Quantization((1e-3,) * channels, (0,) * channels, 0)
    operator: Operator = operator_class.quantized(x=ONE, w=scales, y=ONE, coding=coding, **fields)
    tensors = {
        "x": Tensor("x", x_shape, DType.INT8),
        "w": Tensor.constant("w", w, scales),
        "bias": Tensor.constant("bias", np.zeros(channels, bias_dtype.numpy)),
    }
    (y,) = operator.infer(*(tensors[name].type for name in ("x", "w", "bias")))
    assert isinstance(y, TensorType)
    tensors["y"] = Tensor("y", y.shape, y.dtype)
    return Program(
        kind,
        tensors,
        (Operation(kind, operator, ("x", "w", "bias"), ("y",)),),
        (Boundary("x", "x", x_shape),),
        (Boundary("y", "y", y.shape),),
    )


def instructions_per_mac(program: Program, core: str, folder: Path) -> float:
    """Issued instructions of a one-layer network on an emulated core, per product."""
    emission = emit(program, version=edgekit_version())
    image = build_image(emission.library, target(core), folder=folder)
    machine = EmulatedMachine(image.library, image.target, image.elf)
    given = emission.program, emission.library, emission.layers, machine, "emulator"
    with Session(*given) as session:
        (layer,) = session.profile(seeded_inputs(program, SEED)).layers
    assert layer.instructions is not None
    return round(layer.instructions / emission.layers[0].macs, 3)


def kernel_row(element: str | None, folder: Path) -> dict[str, Any]:
    """Instructions per MAC of every layer on every core."""
    name = "int8, plain" if element is None else element
    row: dict[str, Any] = {"kind": "kernel", "format": name}
    row["bits_per_weight"] = 8 if element is None else ELEMENTS[element].bits_per_weight
    for core in CORES:
        for kind in LAYERS:
            program = layer_program(kind, element)
            where = folder / f"{name}-{core}-{kind}"
            key = f"{core.removeprefix('cortex-')}_{kind}_instructions_per_mac"
            row[key] = instructions_per_mac(program, core, where)
    return row


def network_row(given: Trained, precision: str, windows: int, folder: Path) -> dict[str, Any]:
    """Round every layer of the trained network, deploy it, compare."""
    model = capture(given.model(), torch.from_numpy(given.calibration(1)), name="har")
    (boundary,) = model.ir.graph.inputs
    calibration = {str(boundary.name): given.calibration(CALIBRATION_SAMPLES)}
    recipe = Recipe.parse(precision, keep_ends=False)
    converted = ConvertedModule.from_model(quantize_model(model, recipe, calibration, seed=SEED))
    x, y = given.part("test")
    chosen = np.sort(np.random.default_rng(SEED).permutation(len(x))[:windows])
    x, y = x[chosen], y[chosen]
    microcontroller = edgekit.export(
        converted, target="nucleo-l4r5zi", output=folder / "m4", name="har"
    )
    coded = microcontroller.manifest.coded
    identical = same_codes(converted, microcontroller, x)
    computer = edgekit.export(converted, target="x86-64", output=folder / "x86", name="har")
    data = {"x": x, "y": y}
    report = computer.verify(data, device="local", backend="onnxruntime", limit=windows)
    (output,) = report.outputs
    macs = sum(layer.macs for layer in coded) or 1
    int8 = [layer.int8_instructions for layer in coded]
    return {
        "kind": "network",
        "precision": precision,
        "test_windows": windows,
        "packed_bytes": sum(layer.packed_bytes for layer in coded) or None,
        "m4_identical_to_torch": identical,
        "m4_instructions_per_mac": round(sum(c.instructions or 0 for c in coded) / macs, 3)
        if coded
        else None,
        "m4_int8_instructions_per_mac": round(sum(i or 0 for i in int8) / macs, 3)
        if coded
        else None,
        "accuracy": round(accuracy(converted, x, y), 5),
        "onnxruntime_accuracy": report.accuracy,
        "mismatch_rate": round(output.mismatch_rate, 6),
        "largest_step": output.largest_step,
        "top1_changes": output.top1_changes,
    }


def same_codes(converted: ConvertedModule, artifact: Artifact, x: NDArray[np.float32]) -> bool:
    """Whether torch and the emulated artifact give the same integers for every sample."""
    codes = converted.codes(torch.from_numpy(x))
    assert isinstance(codes, torch.Tensor)
    (inputs,) = samples_for(converted.program, x).inputs.values()
    with artifact.open("emulator") as session:
        return all(
            np.array_equal(session.run(sample), code[np.newaxis])
            for sample, code in zip(inputs, codes.numpy(), strict=True)
        )


def main() -> int:
    """Write one row per element, and one per recipe."""
    parser = arguments(__doc__, "coded_formats")
    parser.add_argument("--runs", type=Path, default=Path("runs/study"), help="float trainings")
    parser.add_argument("--windows", type=int, default=500)
    given = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    with tempfile.TemporaryDirectory() as temporary:
        for element in (None, *ELEMENTS):
            rows.append(kernel_row(element, Path(temporary)))
            sys.stderr.write(f"{rows[-1]}\n")
        run = trained("wisdm-cnn", "subject", SEED, given.data, given.runs)
        for precision in PRECISIONS:
            folder = Path(temporary) / precision
            rows.append(network_row(run, precision, given.windows, folder))
            sys.stderr.write(f"{rows[-1]}\n")
    write(
        given.output,
        rows,
        command="python benchmarks/coded_formats.py --data $EDGEKIT_DATA",
        seed=SEED,
        libraries=("torch", "onnxruntime"),
        provenance="counted in emulation; compared over real test windows",
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Published latencies whose code is published too, and what the model says of the same code.

The latencies are throughputs in logs of MLPerf Tiny submissions, inverted. Only submissions whose
kernels can be had as source are here: nothing can be said of a closed library's cycles. The code is
not edgekit's and not part of this repository. Who wants these rows again gives a folder of images::

    CASE.elf    linked by edgekit.targets.image.build_image for the case's target, with the symbols
                pub_input and pub_output (buffers) and pub_step (a function that runs once)
    CASE.npz    x: bytes of the input as pub_input takes them; y: the interpreter's outputs

What was run is what was submitted, compiled by GCC 12.2 instead of the submission's compiler but
at its level of optimisation; the timer's interrupts and the console are not modelled.

- microTVM (v1.0): generated C with its stack allocator and, for ``cmsis-nn``, CMSIS-NN of CMSIS_5
  at 5126318 (August 2022); -O2, submitted with Zephyr SDK 0.13.2 (GCC 10.3). Outputs of
  ``cmsis-nn`` equal the interpreter's; ``native`` rounds in its own way.
- ONNC (v1.1, Skymizer): generated calls of CMSIS-NN's older q7 functions, CMSIS_5 at b966796; under
  mbed OS with -O3, under Zephyr with -O2 (GCC 10.3). Its quantisation, to powers of two, is not the
  interpreter's, so that outputs cannot be compared.
- The anomaly network has float inputs and outputs and other quantisation parameters in microTVM's
  submissions than the int8 file that the interpreter runs: outputs are close, not equal.
- The flash of the nRF5340 is behind a cache (two ways, 16-byte lines, for instructions and data);
  how long a miss takes is not published: modelled at zero wait states.

The row that is often called TFLM's reference (v0.5: 182, 704, 601 and 10.1 ms on the same board) is
not here: its scripts build TFLM 2.3.1 with CMSIS-NN, of a version and with flags that they do not
record.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgekit.targets.board import Board
from edgekit.targets.cores import Memory
from edgekit.targets.elf import Elf
from edgekit.targets.emulator import Emulator
from edgekit.targets.target import Target, of_board, target

NRF5340 = of_board(
    Board(
        name="nrf5340-dk",
        vendor="Nordic Semiconductor",
        mcu="nRF5340",
        core="cortex-m33",
        clock_hz=128_000_000,
        memories=(
            Memory("flash", "flash", 0, 1 << 20),
            Memory("ram", "ram", 0x2000_0000, 512 << 10),
        ),
    )
)
"""No board of edgekit's: here for what was measured on it."""


@dataclass(frozen=True)
class Published:
    """A measured latency.

    Attributes:
        case: name; images are called so.
        target: board that was measured.
        inferences_per_s: throughput in the log.
        source: where it was published.
        exact: whether the outputs are to be those of the interpreter.
    """

    case: str
    target: Target
    inferences_per_s: float
    source: str
    exact: bool = True

    @property
    def expected_ms(self) -> float:
        """One inference.

        >>> round(PUBLISHED[0].expected_ms, 1)
        99.8
        """
        return 1000 / self.inferences_per_s


def _microtvm(kind: str, board: Target, folder: str, **throughput: float) -> Iterator[Published]:
    results = f"results/microtvm_{kind.replace('-', '_')}/{folder}"
    for network, value in throughput.items():
        source = f"MLPerf Tiny v1.0, closed, OctoML, {results}/{network}"
        exact = kind == "cmsis-nn" and network != "ad"
        yield Published(f"microtvm-{kind}-{board.name}-{network}", board, value, source, exact)


def _onnc(system: str, **throughput: float) -> Iterator[Published]:
    results = f"results/NUCLEO_L4R5ZI-{system.replace('-', '_')}"
    for network, value in throughput.items():
        source = f"MLPerf Tiny v1.1, closed, Skymizer, {results}/{network}"
        yield Published(f"onnc-{system}-{_L4R5.name}-{network}", _L4R5, value, source, exact=False)


_L4R5 = target("nucleo-l4r5zi")

PUBLISHED = (
    *_microtvm("cmsis-nn", _L4R5, "NUCLEO_L4R5ZI", kws=10.018, ic=2.567, vww=3.320, ad=116.212),
    *_microtvm("native", _L4R5, "NUCLEO_L4R5ZI", kws=6.939, ic=2.569, vww=2.971, ad=85.339),
    *_onnc("mbed-os", kws=12.195, ic=3.348, vww=5.808, ad=123.875),
    *_onnc("zephyr", kws=10.679, ic=3.372, vww=5.056, ad=124.906),
    *_microtvm("cmsis-nn", NRF5340, "NRF5340-DK", kws=13.140, ic=3.163, vww=4.310, ad=159.579),
)
"""Every published latency that the model is compared with."""


def row(published: Published, folder: Path) -> dict[str, Any]:
    """Run and model one image.

    Raises:
        FileNotFoundError: the image is not in the folder.
    """
    where, clock = published.target, published.target.clock_hz
    assert clock is not None
    with np.load(folder / f"{published.case}.npz") as arrays:
        x, y = arrays["x"], arrays["y"]
    with Emulator(where, Elf.read(folder / f"{published.case}.elf")) as emulator:
        # What was published is the mean of many runs: caches hold what the run before left.
        for _ in range(2):
            emulator.write(emulator.symbol("pub_input"), x.tobytes())
            _, count = emulator.count("pub_step", 0)
        got = np.frombuffer(emulator.read(emulator.symbol("pub_output"), y.nbytes), y.dtype)
    assert count.cycles is not None
    equal = float(np.mean(got.reshape(y.shape) == y))
    return {
        "kind": "published",
        "case": published.case,
        "core": where.cortex.name,
        "board": where.name,
        "unit": "ms",
        "modelled": round(1000 * count.cycles / clock, 3),
        "expected": round(published.expected_ms, 3),
        "source": published.source,
        "error": round(1000 * count.cycles / clock / published.expected_ms - 1, 4),
        "outputs_equal": round(equal, 4) if published.exact else None,
    }

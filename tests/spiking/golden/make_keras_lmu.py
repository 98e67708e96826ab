"""Write ``keras_lmu.npz``: a layer of the LMU's authors' implementation, its input and its output.

Run once, in an environment of its own::

    pip install keras-lmu==0.9.0 tensorflow-cpu==2.21.0 keras==3.15.1
    python make_keras_lmu.py

All weights, also those that start at 0 otherwise, are drawn, so that every term counts.
"""

from __future__ import annotations

from pathlib import Path

import keras
import keras_lmu
import numpy as np
import tensorflow as tf

BATCH, STEPS, INPUTS, HIDDEN = 2, 30, 3, 5
MEMORIES, ORDER, THETA = 2, 6, 12.0


def layer(discretizer: str) -> keras_lmu.LMU:
    """A layer with every connection that there is; its hidden cell is the paper's tanh."""
    return keras_lmu.LMU(
        memory_d=MEMORIES,
        order=ORDER,
        theta=THETA * (4 if discretizer == "euler" else 1),  # shorter, Euler's step is unstable
        hidden_cell=keras.layers.SimpleRNNCell(HIDDEN, activation="tanh"),
        hidden_to_memory=True,
        memory_to_memory=True,
        input_to_hidden=True,
        discretizer=discretizer,
        return_sequences=True,
    )


def main() -> None:
    """Write the file next to this one."""
    rng = np.random.default_rng(0)
    x = rng.normal(0, 1, (BATCH, STEPS, INPUTS)).astype(np.float32)
    arrays = {
        "x": x,
        "theta": np.float64(THETA),
        "theta_euler": np.float64(4 * THETA),
        "keras_lmu_version": np.array(keras_lmu.__version__),
        "keras_version": np.array(keras.__version__),
        "tensorflow_version": np.array(tf.__version__),
    }
    drawn: dict[str, np.ndarray] = {}
    for discretizer in ("zoh", "euler"):
        lmu = layer(discretizer)
        lmu(x)
        cell = lmu.layer.cell
        parts = {
            "kernel": cell.kernel,
            "recurrent_kernel": cell.recurrent_kernel,
            "hidden_kernel": cell.hidden_cell.kernel,
            "hidden_recurrent_kernel": cell.hidden_cell.recurrent_kernel,
            "hidden_bias": cell.hidden_cell.bias,
        }
        for name, variable in parts.items():
            if name not in drawn:
                drawn[name] = rng.normal(0, 0.4, tuple(variable.shape)).astype(np.float32)
            variable.assign(drawn[name])
        arrays[f"h_{discretizer}"] = np.asarray(lmu(x))
    np.savez_compressed(Path(__file__).with_name("keras_lmu.npz"), **arrays, **drawn)


if __name__ == "__main__":
    main()

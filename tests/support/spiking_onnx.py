"""Runs spiking Models in ONNX Runtime: step by step with state, or a window at once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import onnxruntime

from edgekit.model import Model
from edgekit.spiking.to_model import SpikingModel


def session_of(model: Model, *, optimized: bool = True) -> onnxruntime.InferenceSession:
    """A session on one CPU thread."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    level = onnxruntime.GraphOptimizationLevel
    options.graph_optimization_level = level.ORT_ENABLE_ALL if optimized else level.ORT_DISABLE_ALL
    return onnxruntime.InferenceSession(model.to_bytes(), options, ["CPUExecutionProvider"])


def run_steps(
    spiking: SpikingModel, window: Mapping[str, np.ndarray], *, optimized: bool = True
) -> Iterator[dict[str, np.ndarray]]:
    """All outputs of every step, the next state included, from a state of 0.

    Args:
        spiking: a step graph.
        window: [T,...] by input.
        optimized: whether ONNX Runtime may rewrite the graph.
    """
    session = session_of(spiking.model, optimized=optimized)
    names = [value.name for value in session.get_outputs()]
    state = {
        value.name: np.zeros(value.shape, np.float32)
        for value in session.get_inputs()
        if value.name in spiking.state
    }
    assert set(state) == set(spiking.state)
    for step in range(len(next(iter(window.values())))):
        fed = {name: array[step][None] for name, array in window.items()}
        results = dict(zip(names, session.run(names, {**fed, **state}), strict=True))
        state = {name: results[after] for name, after in spiking.state.items()}
        yield results


def run_window(model: Model, window: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """All outputs of a window model.

    Args:
        model: with a Scan.
        window: [T,...] by input, without batch.
    """
    session = session_of(model)
    names = [value.name for value in session.get_outputs()]
    fed = {name: array[:, None] for name, array in window.items()}
    return dict(zip(names, session.run(names, fed), strict=True))

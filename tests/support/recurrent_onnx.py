"""Recurrent models as ONNX: single nodes, and PyTorch modules with declared state."""

from __future__ import annotations

import io
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np

from edgekit.model import load
from edgekit.program.ir import Array
from tests.support.onnx_models import OnnxBuilder, run_onnx

GATES = {"LSTM": 4, "GRU": 3}


def build(
    kind: str,
    extents: tuple[int, int, int, int] = (4, 1, 3, 5),
    *,
    layout: int = 0,
    bias: bool = True,
    initial: tuple[Any, ...] = (),
    fed: bool = False,
    seed: int = 0,
    outputs: tuple[int, ...] | None = None,
    extra: tuple[str, ...] = (),
    **attributes: Any,
) -> bytes:
    """A model of one node.

    Args:
        kind: LSTM or GRU.
        extents: steps, batch, inputs and units.
        layout: as in ONNX.
        bias: whether there is one.
        initial: constant initial states.
        fed: initial states are inputs `h` and `c`.
        seed: of the weights.
        outputs: which are the model's, by index; None for all.
        extra: inputs behind the initial states.
        attributes: of the node.
    """
    steps, batch, inputs, units = extents
    rng = np.random.default_rng(seed)
    both = attributes.get("direction") == "bidirectional"
    directions, rows = 1 + both, GATES[kind] * units
    b = OnnxBuilder()

    def weights(*shape: int) -> str:
        return b.constant(rng.uniform(-0.8, 0.8, shape).astype(np.float32))

    x = b.input("x", (batch, steps, inputs) if layout else (steps, batch, inputs))
    state = (batch, directions, units) if layout else (directions, batch, units)
    names = ["h", "c"][: GATES[kind] - 2]
    starts = (
        [b.input(name, state) for name in names]
        if fed
        else [b.constant(np.broadcast_to(np.float32(v), state)) for v in initial]
    )
    given_bias = weights(directions, 2 * rows) if bias else ""
    count = GATES[kind] - 1
    results = b.node_all(
        kind,
        x,
        weights(directions, rows, inputs),
        weights(directions, rows, units),
        given_bias,
        "",
        *starts,
        *extra,
        outputs=count,
        name="rnn",
        hidden_size=units,
        layout=layout,
        **attributes,
    )
    for index in range(count) if outputs is None else outputs:
        b.output(results[index])
    return b.build()


def exported(module: Any, *example: Any) -> bytes:
    """A torch module as ONNX."""
    import torch

    program = torch.onnx.export(module.eval(), example, dynamo=True, verbose=False)
    assert program is not None
    stream = io.BytesIO()
    program.save(stream)
    return stream.getvalue()


def streaming(kind: str, layers: int) -> Any:
    """The same network for one step at a time: its states are inputs and outputs."""
    import torch
    from torch import nn

    class Streaming(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rnn = getattr(nn, kind)(3, 6, num_layers=layers, batch_first=True)
            self.head = nn.Linear(6, 4)

        def forward(self, x: Any, *state: Any) -> Any:
            y, last = self.rnn(x, state if kind == "LSTM" else state[0])
            return self.head(y[:, -1]), *(last if kind == "LSTM" else [last])

    torch.manual_seed(layers)
    return Streaming()


def cell(kind: str) -> Any:
    """LSTMCell or GRUCell with a head; the exporter writes them out gate by gate."""
    import torch
    from torch import nn

    class Cell(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.cell = getattr(nn, f"{kind}Cell")(3, 6)
            self.head = nn.Linear(6, 4)

        def forward(self, x: Any, *state: Any) -> Any:
            after = self.cell(x, state if kind == "LSTM" else state[0])
            after = after if kind == "LSTM" else (after,)
            return self.head(after[0]), *after

    torch.manual_seed(9)
    return Cell()


def declared(data: bytes) -> dict[str, str]:
    """Inputs but for the first, with the outputs but for the first."""
    graph = load(data).ir.graph
    names = [[str(v.name) for v in values][1:] for values in (graph.inputs, graph.outputs)]
    return dict(zip(*names, strict=True))


def carried_by_hand(
    data: bytes, xs: Array, states: dict[str, str], output: str | None = None
) -> Array:
    """An output (None: the first) of every step, ONNX Runtime's state carried by the caller."""
    graph = load(data).ir.graph
    feeds = {
        str(v.name): np.zeros([int(d) for d in v.shape or ()], np.float32) for v in graph.inputs
    }
    first, output = str(graph.inputs[0].name), output or str(graph.outputs[0].name)
    results = []
    for x in xs:
        got = run_onnx(data, {**feeds, first: x})
        feeds.update({read: got[write] for read, write in states.items()})
        results.append(got[output])
    return np.stack(results)


MODULES: dict[str, tuple[Callable[[], Any], int, tuple[int, ...], tuple[int, ...]]] = {
    "lstm": (lambda: streaming("LSTM", 1), 2, (1, 1, 3), (1, 1, 6)),
    "lstm of two layers": (lambda: streaming("LSTM", 2), 2, (1, 1, 3), (2, 1, 6)),
    "gru": (lambda: streaming("GRU", 1), 1, (1, 1, 3), (1, 1, 6)),
    "gru of two layers": (lambda: streaming("GRU", 2), 1, (1, 1, 3), (2, 1, 6)),
    "lstm cell": (lambda: cell("LSTM"), 2, (1, 3), (1, 6)),
    "gru cell": (lambda: cell("GRU"), 1, (1, 3), (1, 6)),
}
"""A module, the number of its states, the shapes of its input and of a state."""


@cache
def exported_module(name: str) -> tuple[bytes, tuple[int, ...]]:
    """The file, and the shape of its input."""
    import torch

    create, count, x, state = MODULES[name]
    return exported(create(), torch.zeros(x), *(torch.zeros(state) for _ in range(count))), x

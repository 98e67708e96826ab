"""The converted module: what the deployed artifact computes, as a torch module."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import numpy as np
import onnx
import onnx_ir
import torch
from torch import Tensor, nn

from edgekit import model as models
from edgekit.errors import InvalidDataError
from edgekit.model import Model
from edgekit.model.nodes import name_of
from edgekit.program import ir
from edgekit.program.ir import Boundary, Program
from edgekit.program.lowering import lower
from edgekit.quantize.converted.batched import TORCH, BatchedProgram, Values
from edgekit.quantize.converted.rounding import divided, rounded_away

Outputs = Tensor | tuple[Tensor, ...]


class ConvertedModule(nn.Module):
    """A quantised network whose forward runs its Program's own integer requantisation, in batches.

    It takes what the source model took and returns what a user of the deployed artifact sees: real
    inputs are quantised as ``edgekit verify`` and ``edgekit bench`` quantise them, outputs mean
    ``scale * (code - zero_point)``. :meth:`codes` gives the integers themselves. The first axis of
    an input counts samples; the artifact's batch is 1.

    It is frozen. ``train()`` leaves it in eval mode, ``half()`` and ``double()`` change nothing,
    and no gradient flows; :meth:`save` writes the Model, :meth:`load` makes a module of it again. A
    state dict is loaded only into a module of the same values. It is deployed with
    ``edgekit.export(module, target=...)``.

    A Program with state starts every :meth:`forward` from reset; :meth:`step` carries the state of
    each sample on, until :meth:`reset`.

    Args:
        model: the quantised Model.
        program: what the Model was lowered to.

    Raises:
        InvalidModelError: the verifier refuses the Program.

    Example::

        converted = ConvertedModule.load("net.q.onnx")
        logits = converted(images)          # float32[N, 10]
        edgekit.export(converted, target="cortex-m4")
    """

    def __init__(self, model: Model, program: Program) -> None:
        super().__init__()
        self.model = model
        self.batched = BatchedProgram(program)
        self._state: Values | None = None
        self.eval()

    @classmethod
    def from_model(
        cls,
        model: Model,
        *,
        allow_fallback: bool = False,
        state: Mapping[str, str] | None = None,
    ) -> Self:
        """Lower a quantised Model; see :func:`edgekit.program.lowering.lower`.

        Args:
            model: with quantisers of its own.
            allow_fallback: let parts stay in float32.
            state: inputs that carry state, each with the output that becomes its next value.
        """
        return cls(model, lower(model, allow_fallback=allow_fallback, state=state))

    @classmethod
    def load(
        cls,
        path: Path | str,
        *,
        allow_fallback: bool = False,
        state: Mapping[str, str] | None = None,
    ) -> Self:
        """Read an ``.onnx`` file, one that :meth:`save` wrote for instance; see :meth:`from_model`.

        Raises:
            InvalidModelError: no ONNX model, or a broken one.
            UnsupportedError: nodes that cannot be lowered.
        """
        return cls.from_model(models.load(Path(path)), allow_fallback=allow_fallback, state=state)

    def save(self, path: Path | str) -> None:
        """Write the Model as an ``.onnx`` file, whole or not at all.

        Raises:
            OutputError: it cannot be written.
        """
        models.save(self.model, Path(path))

    @property
    def program(self) -> Program:
        """What is computed, and deployed."""
        return self.batched.program

    def forward(self, *inputs: Tensor) -> Outputs:
        """What the artifact answers, each sample from the initial state.

        Args:
            inputs: in the source model's order and layout, the samples along the first axis; real
                numbers, or codes in the Program's own dtype.

        Returns:
            The output, or a tuple of them in the source model's order, in its shapes and dtypes.

        Raises:
            InvalidDataError: the inputs do not fit, or hold NaN or infinity.
        """
        results, _ = self._run(inputs, None)
        return self._real(results)

    def codes(self, *inputs: Tensor) -> Outputs:
        """Like :meth:`forward`, but the integers that the artifact itself returns."""
        results, _ = self._run(inputs, None)
        return _unwrapped([self._outside(b, results[b.tensor]) for b in self.program.outputs])

    def step(self, *inputs: Tensor) -> Outputs:
        """Like :meth:`forward`, but from the state that the step before left, which is carried on.

        Raises:
            InvalidDataError: as :meth:`forward`, and another number of samples than before.
        """
        results, self._state = self._run(inputs, self._state)
        return self._real(results)

    def reset(self) -> None:
        """Let the next :meth:`step` begin from the initial state."""
        self._state = None

    def train(self, mode: bool = True) -> Self:
        """Leave it in eval mode; see :meth:`BatchedProgram.train`."""
        return super().train(False)

    def extra_repr(self) -> str:
        """The network, its size, and what its weights are."""
        return f"{self.program.name}, {len(self.program.operations)} operations"

    def _run(self, inputs: tuple[Tensor, ...], state: Values | None) -> tuple[Values, Values]:
        """Values of the Program's outputs by tensor, and the state behind them."""
        boundaries = self.program.inputs
        if len(inputs) != len(boundaries):
            raise InvalidDataError(
                f"{len(inputs)} inputs, must be {len(boundaries)}: {[b.name for b in boundaries]}"
            )
        given = {b.tensor: self._inside(b, x) for b, x in zip(boundaries, inputs, strict=True)}
        counts = {b.name: len(given[b.tensor]) for b in boundaries}
        if len(set(counts.values())) > 1:
            raise InvalidDataError(f"numbers of samples differ: {counts}")
        if state and (held := len(next(iter(state.values())))) not in counts.values():
            raise InvalidDataError(
                f"there are {counts} samples, the state is that of {held}; reset() first"
            )
        return self.batched(given, state)  # type: ignore[no-any-return]

    def _inside(self, boundary: Boundary, x: Tensor) -> Tensor:
        """An input as the Program takes it, [S, *shape]."""
        tensor = self.program.tensors[boundary.tensor]
        if not isinstance(x, Tensor):
            raise InvalidDataError(
                f"input {boundary.name!r} is a {type(x).__name__}, must be a tensor"
            )
        x = _samples(boundary, x.detach())
        x = x if x.dtype == TORCH[tensor.dtype] else _quantized(boundary, tensor, x)
        if x.is_floating_point() and not bool(x.isfinite().all()):
            raise InvalidDataError(f"input {boundary.name!r} holds NaN or infinity")
        if boundary.permutation is not None:
            x = x.permute(0, *(axis + 1 for axis in boundary.permutation))
        return x.reshape(len(x), *tensor.shape)

    @staticmethod
    def _outside(boundary: Boundary, y: Tensor) -> Tensor:
        """An output of the Program in the source's layout, the samples along its first axis."""
        shape = boundary.source_shape
        if boundary.permutation is not None:
            y = y.reshape(len(y), *(shape[axis] for axis in boundary.permutation))
            y = y.permute(0, *(int(axis) + 1 for axis in np.argsort(boundary.permutation)))
        y = y.reshape(len(y), *shape)
        batched = shape[:1] == (1,) or len(y) == 1
        return y.flatten(0, 1) if batched and shape else y

    def _real(self, results: Values) -> Outputs:
        """Outputs as the source model has them."""
        kinds = {name_of(v): v.dtype for v in self.model.ir.graph.outputs}
        outputs = []
        for boundary in self.program.outputs:
            y = self._outside(boundary, results[boundary.tensor])
            tensor, kind = self.program.tensors[boundary.tensor], kinds.get(boundary.name)
            meaning = tensor.quantization
            if kind is onnx_ir.DataType.INT64:
                y = y.long()
            elif (
                kind in (None, onnx_ir.DataType.FLOAT)
                and tensor.dtype.is_integer
                and meaning is not None
                and meaning.axis is None
            ):
                moved = y.double() - meaning.scalar_zero_point
                y = (moved * meaning.scalar_scale).float()
            outputs.append(y)
        return _unwrapped(outputs)

    def __getstate__(self) -> dict[str, Any]:
        """Pickles and copies hold the Model's bytes, not the objects of its graph."""
        whole = self.model
        return {**self.__dict__, "model": (whole.to_bytes(), whole.source, whole.notes)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        content, source, notes = state["model"]
        graph = onnx_ir.from_proto(onnx.ModelProto.FromString(content))
        self.__dict__.update(state, model=Model(graph, source, notes))


def _samples(boundary: Boundary, x: Tensor) -> Tensor:
    """[N, ...] as [N, *source_shape].

    Raises:
        InvalidDataError: another shape, or no samples.
    """
    shape, wanted = tuple(x.shape), boundary.source_shape
    if wanted[:1] == (1,) and len(shape) == len(wanted) and shape[1:] == wanted[1:] and shape[0]:
        return x[:, None]
    if shape == wanted:
        return x[None]
    free = ["N", *wanted[1:]] if wanted[:1] == (1,) else list(wanted)
    raise InvalidDataError(
        f"input {boundary.name!r} has shape {list(shape)}, must be [{', '.join(map(str, free))}]"
        + (", N at least 1" if wanted[:1] == (1,) else "")
    )


def _quantized(boundary: Boundary, tensor: ir.Tensor, x: Tensor) -> Tensor:
    """Real numbers as the input's integers, as :func:`edgekit.bench.boundary.quantise` has them.

    Raises:
        InvalidDataError: a dtype that does not fit, NaN or infinity.
    """
    kind, meaning = TORCH[tensor.dtype], tensor.quantization
    if not x.is_floating_point() or (tensor.dtype.is_integer and meaning is None):
        fits = not x.is_floating_point() and x.dtype != torch.bool and tensor.dtype.is_integer
        low, high = tensor.dtype.limits if fits else (0, 0)
        if fits and meaning is None and bool(((x >= low) & (x <= high)).all()):
            return x.to(kind)
        raise InvalidDataError(
            f"input {boundary.name!r} is {str(x.dtype).removeprefix('torch.')}, must be "
            f"{tensor.dtype}{'' if meaning is None else ' or float32'}"
        )
    if not bool(x.isfinite().all()):
        raise InvalidDataError(f"input {boundary.name!r} holds NaN or infinity")
    if meaning is None:
        return x.to(kind)
    scaled = divided(x.double(), meaning.scalar_scale)
    codes = rounded_away(scaled) + meaning.scalar_zero_point
    return codes.clamp(*tensor.dtype.limits).to(kind)


def _unwrapped(outputs: list[Tensor]) -> Outputs:
    return outputs[0] if len(outputs) == 1 else tuple(outputs)

"""A Program on a batch of samples, in torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor, nn

from edgekit.program.ir import Array, Program
from edgekit.program.verify import verify
from edgekit.quantize.converted import (  # noqa: F401  these fill the table
    elementwise,
    movement,
    pooling,
    quantization,
    rows,
    weighted,
)
from edgekit.quantize.converted.table import execute

TORCH = {
    "int8": torch.int8,
    "int16": torch.int16,
    "int32": torch.int32,
    "int64": torch.int64,
    "float32": torch.float32,
}
"""torch's names of the Program's element types."""

Values = dict[str, Tensor]


class BatchedProgram(nn.Module):
    """A Program whose tensors have one axis more, in front: the samples.

    The constants are buffers ``constant_0``, ``constant_1``, … in the Program's order. They are
    frozen: they follow the module from device to device, keep their dtypes under ``half()`` and
    ``double()``, and a state dict is loaded only where it holds the same values, since the
    multipliers of the Program's operations belong to them.

    It needs float64 and int64, which the CPU and CUDA devices have.

    Args:
        program: verified again here.

    Raises:
        InvalidModelError: the verifier refuses the Program.
    """

    def __init__(self, program: Program) -> None:
        super().__init__()
        self.program = verify(program, stage="conversion")
        self._buffer_names: dict[str, str] = {}
        for tensor in program.tensors.values():
            if tensor.data is not None:
                name = f"constant_{len(self._buffer_names)}"
                self._buffer_names[tensor.name] = name
                self.register_buffer(name, torch.from_numpy(_native(tensor.data)))
        self.eval()

    def forward(
        self, inputs: Mapping[str, Tensor], state: Mapping[str, Tensor] | None = None
    ) -> tuple[Values, Values]:
        """Run every sample once.

        Args:
            inputs: by name of the Program's tensor, [S, *shape] in its dtype.
            state: by name of the tensor that is read, likewise; None for the initial one.

        Returns:
            The outputs by name of their tensors, [S, *shape], and the state behind the run.
        """
        values = {n: self.get_buffer(b)[None] for n, b in self._buffer_names.items()}
        values |= inputs
        samples = max((len(x) for x in inputs.values()), default=1)
        device = next((x.device for x in values.values()), torch.device("cpu"))
        values |= self.initial(samples, device) if state is None else state
        with torch.no_grad(), torch.autocast(device.type, enabled=False):
            self._execute(values)
            every = {
                name: values[name].expand(samples, *self.program.tensors[name].shape)
                for name in self._kept
            }
        return (
            {b.tensor: every[b.tensor] for b in self.program.outputs},
            {s.read: every[s.write] for s in self.program.state},
        )

    def initial(self, samples: int, device: torch.device) -> Values:
        """The state that every sample starts from."""
        tensors = self.program.tensors
        return {
            s.read: torch.full(
                (samples, *tensors[s.read].shape),
                s.initial,
                dtype=TORCH[tensors[s.read].dtype],
                device=device,
            )
            for s in self.program.state
        }

    @property
    def _kept(self) -> set[str]:
        """Tensors that outlive a run."""
        kept = {b.tensor for b in self.program.outputs}
        return kept | {s.write for s in self.program.state}

    def _execute(self, values: Values) -> None:
        """Run the operations; what nobody reads any more is let go."""
        last = {n: i for i, op in enumerate(self.program.operations) for n in op.present_inputs}
        for index, op in enumerate(self.program.operations):
            arguments = [None if n is None else values[n] for n in op.inputs]
            results = execute(op.operator, arguments)
            values.update(zip(op.outputs, results, strict=True))
            for name in {*op.present_inputs, *op.outputs} - self._kept:
                if last.get(name, index) <= index:
                    del values[name]

    def train(self, mode: bool = True) -> Self:
        """Leave it in eval mode, so that a larger module that holds it can be trained.

        There is nothing to train here: no parameters, and no gradient through integers.
        """
        return super().train(False)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Move the constants, but never change their dtypes."""

        def moved(tensor: Tensor) -> Tensor:
            result = fn(tensor)
            return result if result.dtype == tensor.dtype else tensor.to(result.device)

        super()._apply(moved, recurse)  # type: ignore[no-untyped-call]
        return self

    def _load_from_state_dict(
        self, state_dict: Mapping[str, Any], prefix: str, *arguments: Any, **keywords: Any
    ) -> None:
        """Refuse constants that are not this Program's, in torch's own list of errors."""
        errors: list[str] = keywords["error_msgs"] if keywords else arguments[-1]
        for name, buffer in self._buffer_names.items():
            given = state_dict.get(prefix + buffer)
            if given is not None and not _same(given, self.get_buffer(buffer)):
                errors.append(
                    f"{prefix}{buffer} (constant {name!r} of {self.program.name}) differs from "
                    "this module's; a converted module is frozen: load another one from its own "
                    ".onnx file"
                )
                return
        super()._load_from_state_dict(dict(state_dict), prefix, *arguments, **keywords)


def _same(given: object, own: Tensor) -> bool:
    return (
        isinstance(given, Tensor)
        and given.dtype == own.dtype
        and torch.equal(given.to(own.device), own)
    )


def _native(array: Array) -> Array:
    """A writable copy in native byte order: torch takes no other."""
    return np.array(array, array.dtype.newbyteorder("="), order="C")

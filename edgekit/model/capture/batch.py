"""The batch of an example: one sample is what is deployed."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn
from torch.utils import _pytree as pytree

from edgekit.model.capture import diagnosis
from edgekit.model.capture.examples import Example
from edgekit.model.capture.quiet import quiet

SEED = 0
"""Of the numbers by which samples are told apart."""


def single_batch(module: nn.Module, example: Example) -> Example:
    """The example with a batch of 1, cut to its first sample where samples are independent.

    The batch is axis 0 of every tensor that is as long there as those of two axes and more are; a
    tensor of another length, such as a vector of weights, stays whole. The note says what was cut.

    Raises:
        UsageError: forward fails on the example.
    """
    _run(module, example)
    extents = {t.shape[0] for t in example.tensors if t.ndim >= 2}
    if extents <= {1}:
        return example
    if len(extents) > 1:
        return example.noted(
            f"axis 0 of the inputs has the extents {sorted(extents)}; none is taken as a batch"
        )
    batch = extents.pop()
    if not samples_are_independent(module, example, batch):
        return example.noted(
            f"axis 0 of the example, {batch}, is not taken as a batch: rows of the outputs depend "
            "on other rows of the inputs"
        )
    whole = [
        name
        for name, tensor in zip(example.names, example.tensors, strict=True)
        if tensor.ndim and tensor.shape[0] != batch
    ]
    kept = f"; whole as in the example: {', '.join(whole)}" if whole else ""
    cut = example.sample(0, batch=batch)
    return cut.noted(f"the batch of the example, {batch}, is fixed to 1{kept}")


def samples_are_independent(module: nn.Module, example: Example, batch: int) -> bool:
    """Whether rows of the outputs come from the same rows of the inputs and from nothing else.

    Samples of the example may be equal, zeros say, which hides any mixing: the judgement is on
    seeded values that differ from row to row. For the first row and for the last:

    1. The sample alone gives the row of every output of the whole.
    2. Other values in all other rows change nothing in it, to the bit.

    Args:
        module: in eval mode.
        example: that it runs on.
        batch: extent of axis 0 of the tensors that have samples, 2 or more.
    """
    generator = torch.Generator().manual_seed(SEED)
    first, second = (example.each(_Varied(generator, batch)) for _ in range(2))
    try:
        whole = _outputs(module, first)
        if not all(output.ndim and output.shape[0] == batch for output in whole):
            return False
        for row in (0, batch - 1):
            alone = _outputs(module, first.sample(row, batch=batch))
            mixed = _outputs(module, _with_row(second, first, row, batch=batch))
            rows = [output[row : row + 1] for output in whole]
            if not (_close(alone, rows) and _equal([m[row : row + 1] for m in mixed], rows)):
                return False
    except Exception:  # Whatever a foreign module raises on one sample: it cannot take one.
        return False
    return True


class _Varied:
    """Gives the tensors that have samples other values, every row its own."""

    def __init__(self, generator: torch.Generator, batch: int) -> None:
        self.generator = generator
        self.batch = batch

    def __call__(self, tensor: torch.Tensor) -> torch.Tensor:
        """Values that the module can take if it takes those of `tensor`.

        Real values keep their signs and get no larger than the largest there is, so that roots,
        logarithms and ranges stay defined; integers, indices as a rule, stay in their range, which
        is widened by one towards zero where it is a single value.
        """
        if not _has_samples(tensor, self.batch):
            return tensor
        if tensor.is_floating_point():
            largest = float(tensor.abs().max()) or 1.0
            share = torch.rand(tensor.shape, generator=self.generator, dtype=tensor.dtype)
            return torch.where(tensor == 0, largest * share, tensor * (0.5 + share / 2))
        low, high = int(tensor.min()), int(tensor.max())
        if low == high:
            low, high = (high - 1, high) if high > 0 else (low, low + 1)
        drawn = torch.randint(low, high + 1, tensor.shape, generator=self.generator)
        return drawn.to(tensor.dtype)


def _with_row(example: Example, source: Example, row: int, *, batch: int) -> Example:
    """The example with one sample from another."""
    samples = iter(source.tensors)

    def put(tensor: torch.Tensor) -> torch.Tensor:
        sample = next(samples)
        if not _has_samples(tensor, batch):
            return tensor
        tensor = tensor.clone()
        tensor[row] = sample[row]
        return tensor

    return example.each(put)


def _has_samples(tensor: torch.Tensor, batch: int) -> bool:
    return tensor.ndim > 0 and tensor.shape[0] == batch


def _close(results: Sequence[torch.Tensor], wanted: Sequence[torch.Tensor]) -> bool:
    """Equal but for other orders of summation."""
    return len(results) == len(wanted) and all(
        one.shape == other.shape and torch.allclose(one, other, rtol=1e-3, atol=1e-5)
        for one, other in zip(results, wanted, strict=True)
    )


def _equal(results: Sequence[torch.Tensor], wanted: Sequence[torch.Tensor]) -> bool:
    return len(results) == len(wanted) and all(map(torch.equal, results, wanted))


def _run(module: nn.Module, example: Example) -> list[torch.Tensor]:
    try:
        return _outputs(module, example)
    except Exception as error:
        raise diagnosis.forward_failure(type(module).__name__, error) from error


def _outputs(module: nn.Module, example: Example) -> list[torch.Tensor]:
    with torch.no_grad(), quiet():
        result = module(*example.args, **example.kwargs)
    return [leaf for leaf in pytree.tree_leaves(result) if isinstance(leaf, torch.Tensor)]

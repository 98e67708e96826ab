"""What an operator is, and the one table that holds them all.

An operator is a frozen dataclass: its fields are the attributes, :meth:`Operator.infer` is the
shape rule and :meth:`Operator.reference` the exact meaning. Registering it with :func:`operator`
is enough for the verifier, the interpreter, serialisation and the documentation; a C kernel is
registered apart, in :mod:`edgekit.targets.c`. Users add operators of their own the same way.

>>> from edgekit.program.operators.base import Operator, operator
>>> OPERATORS["reshape"].inputs
('x',)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, is_dataclass
from typing import ClassVar, TypeVar

from edgekit.program.ir import Array, DType, TensorType


class OperatorError(ValueError):
    """Input types that an operator's shape rule refuses; the message says what would be right."""


def require(condition: bool, message: str) -> None:
    """Refuse with `message` unless `condition` holds."""
    if not condition:
        raise OperatorError(message)


@dataclass(frozen=True)
class Operator:
    """Base of every operator; subclasses are frozen dataclasses of hashable fields.

    Class attributes:
        name: key in the table, snake_case.
        inputs: names of the inputs in order; a trailing ``?`` marks an optional one.
        outputs: names of the outputs in order; ``*`` marks any number of the last.
        in_place: inputs whose bytes an output may overwrite, where shape and dtype agree: an index
            for output 0, a pair (output, input) for any. The kernel reads element i of that input
            before it writes element i of that output, and never reads it afterwards.
        alias: output 0 is input 0 under another shape; no code is emitted.
    """

    name: ClassVar[str]
    inputs: ClassVar[tuple[str, ...]]
    outputs: ClassVar[tuple[str, ...]] = ("y",)
    in_place: ClassVar[tuple[int | tuple[int, int], ...]] = ()
    alias: ClassVar[bool] = False

    def infer(self, *inputs: TensorType | None) -> tuple[TensorType, ...]:
        """Types of the outputs.

        Raises:
            OperatorError: the inputs do not fit each other or the fields.
        """
        raise AssertionError(f"{self.name} has no shape rule")

    def reference(self, *inputs: Array | None) -> tuple[Array, ...]:
        """Exact value of the outputs; every kernel must equal it to the bit."""
        raise AssertionError(f"{self.name} has no reference")

    @classmethod
    def overwritten(cls, output: int) -> tuple[int, ...]:
        """Indices of the inputs whose bytes an output may overwrite, from `in_place`.

        >>> OPERATORS["add"].overwritten(0), OPERATORS["synaptic"].overwritten(2)
        ((0, 1), (2,))
        """
        pairs = (p if isinstance(p, tuple) else (0, p) for p in cls.in_place)
        return tuple(position for of, position in pairs if of == output)

    def weight_rows(self, w: Array) -> Array:
        """Weights [O,K] in the order of the sum, of an operator that has weights."""
        raise AssertionError(f"{self.name} has no weights")

    def constants_problem(self, constants: dict[str, Array]) -> str | None:
        """What the values of constant inputs, by name, have against them; None for nothing."""
        return None

    def macs(self, *inputs: TensorType | None) -> int:
        """Multiply-accumulates of one execution, 0 where the notion does not apply."""
        return 0


OPERATORS: dict[str, type[Operator]] = {}
"""Every known operator by name."""

T = TypeVar("T", bound=type[Operator])


def operator(
    name: str,
    *,
    inputs: str,
    outputs: str = "y",
    in_place: tuple[int | tuple[int, int], ...] = (),
    alias: bool = False,
) -> Callable[[T], T]:
    """Register an operator class.

    Args:
        name: key in the table; a user's own operator should carry a prefix (``acme_fft``).
        inputs: names separated by blanks, ``?`` behind an optional one, ``*`` behind the last for
            any number.
        outputs: likewise.
        in_place: see :class:`Operator`.
        alias: see :class:`Operator`.

    Raises:
        ValueError: the name is taken or the class is no frozen dataclass.
    """

    def register(cls: T) -> T:
        if name in OPERATORS:
            raise ValueError(f"operator {name!r} is registered already, by {OPERATORS[name]!r}")
        if not is_dataclass(cls) or not cls.__dataclass_params__.frozen:  # type: ignore[attr-defined]
            raise ValueError(f"operator {name!r} must be a frozen dataclass")
        cls.name = name
        cls.inputs = tuple(inputs.split())
        cls.outputs = tuple(outputs.split())
        cls.in_place = in_place
        cls.alias = alias
        OPERATORS[name] = cls
        return cls

    return register


def require_dtype(tensor: TensorType, label: str, *allowed: DType) -> None:
    """Refuse a tensor whose dtype is not among `allowed`."""
    require(
        tensor.dtype in allowed,
        f"{label} is {tensor.dtype}, must be {' or '.join(allowed)}",
    )


def require_rank(tensor: TensorType, label: str, rank: int) -> None:
    """Refuse a tensor of another rank."""
    require(
        len(tensor.shape) == rank,
        f"{label} has shape {list(tensor.shape)}, must have rank {rank}",
    )

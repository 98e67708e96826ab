"""From a format and a method to the quantiser of a weight: the table."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn.utils import parametrize

from edgekit.errors import InvalidModelError, UnsupportedError
from edgekit.formats import Coded, Format
from edgekit.quantize.recipe import Method
from edgekit.quantize.training.binary import ResteBinary
from edgekit.quantize.training.direct import DynamicScale, FixedScale
from edgekit.quantize.training.groups import FixedGroups, GroupScale
from edgekit.quantize.training.layout import RowLayout, row_layout
from edgekit.quantize.training.learned import LearnedScale
from edgekit.quantize.training.scales import RULES
from edgekit.quantize.training.shift import DenseShift
from edgekit.quantize.training.weights import WeightQuantizer, check_finite

Make = Callable[[Format, RowLayout, Tensor], WeightQuantizer]


@dataclass(frozen=True)
class Kind:
    """A quantiser and what it is for.

    Attributes:
        make: from format, layout and weight.
        method: how weights are trained.
        suits: whether it can train a format.
        formats: those formats, in words.
    """

    make: Make
    method: Method
    suits: Callable[[Format], bool]
    formats: str


def is_shift(fmt: Format) -> bool:
    """Whether latents of another shape, see :class:`DenseShift`, take the place of the weight."""
    return fmt.element.name.startswith("shift") and fmt.granularity != "group"


def _is_consecutive(fmt: Format) -> bool:
    levels = fmt.element.levels
    direct = fmt.granularity != "group"
    return direct and len(levels) == levels[-1] - levels[0] + 1


KINDS: tuple[Kind, ...] = (
    Kind(
        lambda fmt, layout, weight: DenseShift(fmt, layout, weight),
        "ste",
        is_shift,
        "shift2, shift3, shift4",
    ),
    Kind(
        lambda fmt, layout, weight: DenseShift(fmt, layout, weight, learned=True),
        "points",
        is_shift,
        "shift2, shift3, shift4",
    ),
    Kind(
        lambda fmt, layout, _: GroupScale(fmt, layout),
        "ste",
        lambda fmt: fmt.granularity == "group" and fmt.rule in RULES,
        f"every format in groups, by {', '.join(RULES)}",
    ),
    Kind(
        FixedGroups,
        "ste",
        lambda fmt: fmt.granularity == "group",
        "every format in groups, by any rule",
    ),
    Kind(
        lambda fmt, layout, _: DynamicScale(fmt, layout),
        "ste",
        lambda fmt: fmt.granularity != "group" and fmt.rule in RULES,
        f"every format without groups, by {', '.join(RULES)}",
    ),
    Kind(
        FixedScale,
        "ste",
        lambda fmt: fmt.granularity != "group",
        "every format without groups, by any rule",
    ),
    Kind(
        lambda fmt, layout, weight: LearnedScale(fmt, layout, weight, method="lsq"),
        "lsq",
        _is_consecutive,
        "integers and ternary without groups",
    ),
    Kind(
        lambda fmt, layout, weight: LearnedScale(fmt, layout, weight, method="points"),
        "points",
        lambda fmt: fmt.granularity != "group",
        "every format without groups",
    ),
    Kind(
        lambda fmt, layout, _: ResteBinary(fmt, layout),
        "reste",
        lambda fmt: (
            fmt.element.name == "binary" and fmt.granularity != "group" and fmt.rule in RULES
        ),
        "binary without groups",
    ),
)
"""Every way of training; the first that suits is taken."""


def make_weight_quantizer(
    fmt: Format,
    weight: Tensor,
    *,
    layout: RowLayout | None = None,
    method: Method = "ste",
    where: str = "weight",
) -> WeightQuantizer:
    """The quantiser of a weight, to be registered with ``torch.nn.utils.parametrize``.

    Args:
        fmt: what the weight becomes.
        weight: that training begins with; learned scales are trained if it is.
        layout: of the weight; None for rows along its first axis.
        method: how the weight is trained.
        where: the weight's name for messages.

    Raises:
        InvalidModelError: NaN, infinity, integers, or no weights at all.
        UnsupportedError: no quantiser trains this format by this method; says which formats
            the method is for.

    >>> import torch
    >>> quantizer = make_weight_quantizer(Format.parse("ternary"), torch.tensor([[3.0, -2.0, 0.5]]))
    >>> quantizer(torch.tensor([[3.0, -2.0, 0.5]])).tolist()
    [[2.0, -2.0, 0.0]]
    """
    if not weight.is_floating_point() or weight.numel() == 0:
        raise InvalidModelError(
            f"{where}: {weight.dtype} {list(weight.shape)} cannot be quantised, "
            "must be floats, at least one"
        )
    check_finite(weight, where)
    kinds = [kind for kind in KINDS if kind.method == method]
    for kind in kinds:
        if kind.suits(fmt):
            made = kind.make(fmt, layout or RowLayout(tuple(weight.shape)), weight)
            return made.to(weight.device)
    raise UnsupportedError(
        f"{where}: {fmt} cannot be trained by {method}, which is for "
        f"{'; '.join(kind.formats for kind in kinds)}"
    )


def quantize_parameter(
    module: nn.Module, name: str, fmt: Format, *, method: Method = "ste", where: str | None = None
) -> WeightQuantizer:
    """Put a quantiser on a parameter of a module.

    Args:
        module: that has the parameter.
        name: of the parameter, such as ``weight``.
        fmt: what it becomes.
        method: how it is trained.
        where: the parameter's name for messages; None for `name`.

    Raises:
        InvalidModelError: see :func:`make_weight_quantizer`.
        UnsupportedError: likewise.
    """
    weight: Tensor = getattr(module, name)
    quantizer = make_weight_quantizer(
        fmt, weight, layout=row_layout(module, weight), method=method, where=where or name
    )
    quantizer.train(module.training)
    parametrize.register_parametrization(module, name, quantizer)
    return quantizer


@dataclass(frozen=True)
class QuantizedParameter:
    """A weight with its quantiser.

    Attributes:
        path: dotted path of the weight in the network, such as ``conv1.weight``.
        quantizer: of the weight.
        latent: what the optimiser moves.
    """

    path: str
    quantizer: WeightQuantizer
    latent: Tensor

    def coded(self) -> Coded:
        """See :meth:`WeightQuantizer.coded`; the message names the weight.

        Raises:
            InvalidModelError: NaN or infinity.
        """
        check_finite(self.latent, self.path)
        return self.quantizer.coded(self.latent)


def quantized_parameters(model: nn.Module) -> Iterator[QuantizedParameter]:
    """Every quantised weight of a network, a tied one once, in the order of its modules."""
    seen = set[int]()
    for path, module in model.named_modules():
        if not parametrize.is_parametrized(module):
            continue
        for name, chain in module.parametrizations.items():
            quantizer = chain[0]
            if isinstance(quantizer, WeightQuantizer) and id(quantizer) not in seen:
                seen.add(id(quantizer))
                full = f"{path}.{name}" if path else name
                yield QuantizedParameter(full, quantizer, chain.original)

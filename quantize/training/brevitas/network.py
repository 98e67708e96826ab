"""From a network with Brevitas layers to the same with plain ones."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn

from edgekit.errors import UnsupportedError, UsageError
from edgekit.model.capture import Example, bind_example
from edgekit.quantize.training.brevitas.activations import QUANTIZERS, read_activation
from edgekit.quantize.training.brevitas.coverage import check_scales, product_of, scale_of
from edgekit.quantize.training.brevitas.normalization import fold_normalizations
from edgekit.quantize.training.brevitas.product import Product, read_product
from edgekit.quantize.training.trace import trace

_PACKAGE = "brevitas"


def is_brevitas(model: object) -> bool:
    """Whether a module has Brevitas layers; Brevitas itself is not imported for the question."""
    return isinstance(model, nn.Module) and any(_is_layer(part) for part in model.modules())


def from_brevitas(
    model: nn.Module, example_inputs: object, *, allow_fallback: bool = False
) -> nn.Module:
    """The network with plain layers that hold what its Brevitas layers quantise to.

    ``QuantLinear``, ``QuantConv1d`` and ``QuantConv2d`` with int (2 to 8 bits), ternary, binary,
    minifloat and OCP MX weights become layers with the same integers and scales; ``QuantIdentity``,
    ``QuantReLU``, ``QuantHardTanh``, ``QuantSigmoid``, ``QuantTanh``, ``QuantHardSwish`` and the
    quantisers of layers become constant int8 quantisers; ``QuantEltwiseAdd`` becomes a sum between
    them. Batch normalisation behind a layer goes into its scales. What is not of Brevitas stays as
    it is; ``return_quant_tensor`` changes nothing, tensors take the place of QuantTensors.

    Args:
        model: trained; left as it was, not changed.
        example_inputs: as :func:`edgekit.model.capture.capture` takes them. The network runs on
            them once.
        allow_fallback: let values without a scale stay in float32.

    Returns:
        A module in eval mode, without parameters to train; capture and lowering take it.

    Raises:
        UsageError: a module without Brevitas layers, or that fails on the example; a quantiser
            that never saw data.
        UnsupportedError: names the layer, what of it cannot be deployed, and what can.
    """
    if not is_brevitas(model):
        raise UsageError(f"{type(model).__name__} has no Brevitas layers")
    root = nn.Sequential(model) if _is_layer(model) else model
    example = bind_example(root, example_inputs)
    layers = dict(_layers(root))
    with _in_eval_mode(root), torch.no_grad():
        seen = _run(root, layers, example)
        read = {id(layer): _read(name, layer, seen.get(name)) for name, layer in layers.items()}
    plain = copy.deepcopy(root, read).eval().requires_grad_(False)
    graph, _ = trace(plain, example, whole=(Product, *QUANTIZERS))
    _check_attributes(graph)
    modules = dict(plain.named_modules())
    finished = fold_normalizations(graph, modules)
    if not allow_fallback:
        check_scales(graph, modules, type(model).__name__)
    for node in graph.nodes:
        product = product_of(node, modules)
        if product is not None and id(product) not in finished:
            finished[id(product)] = product.finished(scale_of(node.all_input_nodes[0], modules))
    return copy.deepcopy(plain, finished).eval()


# Finding and running


def _is_layer(module: nn.Module) -> bool:
    """Whether a module is of Brevitas, or of a class derived from one of its classes."""
    return any(kind.__module__.partition(".")[0] == _PACKAGE for kind in type(module).__mro__)


def _layers(module: nn.Module, prefix: str = "") -> Iterator[tuple[str, nn.Module]]:
    """The outermost Brevitas layers by name, each once."""
    found: set[nn.Module] = set()
    inside: set[nn.Module] = set()
    for name, part in module.named_modules(prefix=prefix):
        if _is_layer(part) and part not in inside:
            found.add(part)
            inside.update(part.modules())
            yield name, part


@dataclass
class _Seen:
    """What a layer showed when it ran.

    Attributes:
        weight: what its ``weight_quant`` gave, None where it has none.
        bias: what its ``bias_quant`` gave, None where it has none.
        rank: axes of its result.
    """

    weight: Any
    bias: Any
    rank: int


def _run(root: nn.Module, layers: Mapping[str, nn.Module], example: Example) -> dict[str, _Seen]:
    """Run the network once and note what its layers show; layers that do not run are left out."""
    latest: dict[nn.Module, Any] = {}
    seen: dict[str, _Seen] = {}

    def note(proxy: nn.Module) -> Callable[..., None]:
        def hook(module: nn.Module, args: Any, result: Any) -> None:
            latest[proxy] = result

        return hook

    def finish_layer(name: str, layer: nn.Module) -> Callable[..., None]:
        def hook(module: nn.Module, args: Any, result: Any) -> None:
            # Layers may share a quantiser: what it gave last is what this layer got.
            weight = latest.get(getattr(layer, "weight_quant", layer))
            bias = latest.get(getattr(layer, "bias_quant", layer))
            has_bias = getattr(layer, "bias", None) is not None
            value = getattr(result, "value", result)
            seen[name] = _Seen(weight, bias if has_bias else None, value.ndim)

        return hook

    handles = []
    for name, layer in layers.items():
        for proxy in (getattr(layer, "weight_quant", None), getattr(layer, "bias_quant", None)):
            if isinstance(proxy, nn.Module):
                handles.append(proxy.register_forward_hook(note(proxy)))
        handles.append(layer.register_forward_hook(finish_layer(name, layer)))
    try:
        root(*example.args, **example.kwargs)
    except Exception as error:
        first = str(error).strip().partition("\n")[0]
        raise UsageError(f"{type(root).__name__}.forward fails on the example: {first}") from error
    finally:
        for handle in handles:
            handle.remove()
    return seen


@contextlib.contextmanager
def _in_eval_mode(module: nn.Module) -> Iterator[None]:
    """Eval mode inside, every part's own mode restored behind."""
    modes = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for part, training in modes:
            part.training = training


# Reading


class _Sum(nn.Module):
    """QuantEltwiseAdd: both operands through one quantiser, the sum through another."""

    def __init__(self, operand: nn.Module, result: nn.Module) -> None:
        super().__init__()
        self.operand, self.result = operand, result

    def forward(self, x: Tensor, other: Tensor) -> Tensor:
        """Add."""
        total: Tensor = self.result(self.operand(x) + self.operand(other))
        return total


def _read_product(where: str, layer: Any, seen: _Seen) -> nn.Module:
    product = read_product(where, layer, weight=seen.weight, bias=seen.bias, rank=seen.rank)
    before = read_activation(f"{where}, input_quant", layer.input_quant)
    return _chain(
        [*before, product, *read_activation(f"{where}, output_quant", layer.output_quant)]
    )


def _read_activation(where: str, layer: Any, seen: _Seen) -> nn.Module:
    del seen
    before = read_activation(f"{where}, input_quant", layer.input_quant)
    return _chain([*before, *read_activation(where, layer.act_quant)])


def _read_sum(where: str, layer: Any, seen: _Seen) -> nn.Module:
    del seen
    operand = _chain(read_activation(f"{where}, input_quant", layer.input_quant))
    return _Sum(operand, _chain(read_activation(f"{where}, output_quant", layer.output_quant)))


def _chain(steps: list[nn.Module]) -> nn.Module:
    """Modules one after the other."""
    if len(steps) == 1:
        return steps[0]
    return nn.Sequential(*steps) if steps else nn.Identity()


READERS: dict[str, Callable[[str, Any, _Seen], nn.Module]] = {
    **dict.fromkeys(("QuantLinear", "QuantConv1d", "QuantConv2d"), _read_product),
    **dict.fromkeys(
        (
            *("QuantIdentity", "QuantReLU", "QuantHardTanh", "QuantSigmoid", "QuantTanh"),
            "QuantHardSwish",
        ),
        _read_activation,
    ),
    "QuantEltwiseAdd": _read_sum,
}
"""What reads a layer, by the name of its class in ``brevitas.nn``."""


def _read(name: str, layer: nn.Module, seen: _Seen | None) -> nn.Module:
    """What takes a layer's place."""
    known: Any = next(
        kind for kind in type(layer).__mro__ if kind.__module__.partition(".")[0] == _PACKAGE
    )
    where = f"{name} ({type(layer).__name__})"
    if known.__name__ not in READERS:
        raise UnsupportedError(
            f"{where}: this Brevitas layer cannot be read; there are {', '.join(READERS)}"
        )
    if type(layer).forward is not known.forward:
        raise UnsupportedError(
            f"{where}: has a forward of its own; hold a {known.__name__} and call it instead of "
            "deriving from it"
        )
    if seen is None:
        return nn.Identity()
    return READERS[known.__name__](where, layer, seen)


_QUANT_TENSOR = ("value", "scale", "zero_point", "bit_width", "signed", "tensor", "int")
"""What QuantTensors have and tensors have not, or not as that."""


def _check_attributes(graph: fx.Graph) -> None:
    """Refuse a forward that takes a QuantTensor apart."""
    for node in graph.nodes:
        taken = node.op == "call_function" and node.target is getattr
        if taken and node.args[1] in _QUANT_TENSOR:
            raise UnsupportedError(
                f"forward reads .{node.args[1]} of a QuantTensor ({node.args[0]}); leave that out, "
                "a QuantTensor acts as its value"
            )

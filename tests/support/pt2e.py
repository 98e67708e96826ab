"""Networks quantised by PT2E, as users of torchao export them; needs torch and torchao."""

from __future__ import annotations

import functools

import torch
from torch import nn

from edgekit.model.capture.quiet import quiet

with quiet():
    from torchao.quantization.pt2e import MinMaxObserver, PerChannelMinMaxObserver
    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e
    from torchao.quantization.pt2e.quantizer import (
        QuantizationAnnotation,
        QuantizationSpec,
        Quantizer,
    )

_WEIGHTED = (torch.ops.aten.conv2d.default, torch.ops.aten.linear.default)
_EPS = 2**-12


def activations(low: int) -> QuantizationSpec:
    """Asymmetric int8 per tensor, codes `low`…127."""
    return QuantizationSpec(
        dtype=torch.int8,
        quant_min=low,
        quant_max=127,
        qscheme=torch.per_tensor_affine,
        observer_or_fake_quant_ctr=MinMaxObserver.with_args(eps=_EPS),
    )


WEIGHTS = QuantizationSpec(
    dtype=torch.int8,
    quant_min=-127,
    quant_max=127,
    qscheme=torch.per_channel_symmetric,
    ch_axis=0,
    observer_or_fake_quant_ctr=PerChannelMinMaxObserver.with_args(eps=_EPS),
)


class Int8(Quantizer):
    """Int8 for convolutions and linear layers, with the relu behind them."""

    def __init__(self, low: int) -> None:
        super().__init__()
        self.spec = activations(low)

    def annotate(self, model: torch.fx.GraphModule) -> torch.fx.GraphModule:
        for node in model.graph.nodes:
            if node.target not in _WEIGHTED:
                continue
            relu = next((u for u in node.users if u.target is torch.ops.aten.relu.default), None)
            node.meta["quantization_annotation"] = QuantizationAnnotation(
                input_qspec_map={node.args[0]: self.spec, node.args[1]: WEIGHTS},
                output_qspec=self.spec if relu is None else None,
                _annotated=True,
            )
            if relu is not None:
                relu.meta["quantization_annotation"] = QuantizationAnnotation(
                    output_qspec=self.spec, _annotated=True
                )
        return model

    def validate(self, model: torch.fx.GraphModule) -> None:
        pass


class Small(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.linear = nn.Conv2d(1, 4, 3), nn.Linear(4 * 36, 3)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.linear(self.conv(image).relu().flatten(1))


@functools.cache
def quantised(low: int = -128, *, fold: bool = True) -> torch.fx.GraphModule:
    """A converted module; its weights are int8 buffers where they are folded."""
    torch.manual_seed(0)
    with quiet():
        exported = torch.export.export(Small().eval(), (torch.randn(1, 1, 8, 8),)).module()
        prepared = prepare_pt2e(exported, Int8(low))
        for _ in range(16):
            prepared(torch.randn(1, 1, 8, 8))
        return convert_pt2e(prepared, fold_quantize=fold)

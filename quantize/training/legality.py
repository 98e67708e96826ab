"""Which trained formats can be deployed: known before the training, refused after it."""

from __future__ import annotations

from torch import nn

from edgekit.quantize.training.layout import row_layout
from edgekit.quantize.training.plan import LayerPlan, Plan


def deployment_problems(network: nn.Module, plan: Plan) -> list[str]:
    """Layers whose weights no integer operator reads in their format, each with what would do.

    Args:
        network: the prepared network, whose submodules the plan names.
        plan: what every layer got.
    """
    return [problem for layer in plan.layers for problem in _problems(network, layer)]


def _problems(network: nn.Module, plan: LayerPlan) -> list[str]:
    """Why a layer cannot run with its weights packed, and what can."""
    fmt = plan.recipe.weights
    if fmt is None:
        return []
    module = network.get_submodule(plan.name)
    per_channel = fmt.element.name == "int8" and fmt.granularity == "channel"
    right = f'give it a rule of its own: {{"{plan.name}": "w8a8"}}'
    if isinstance(module, nn.RNNBase) and not per_channel:
        return [f"{plan.name} ({plan.module}): weights are {fmt}, supported: int8 (w8a8); {right}"]
    if isinstance(module, nn.ConvTranspose1d | nn.ConvTranspose2d):
        layout = row_layout(module, module.weight)
        if fmt.element.name != "int8" or fmt.group:
            return [
                f"{plan.name} ({plan.module}): weights are {fmt}, supported: int8 (w8a8); {right}"
            ]
        if layout.channel_axis is None and fmt.granularity != "tensor":
            return [
                f"{plan.name} ({plan.module}): {module.groups} groups share no scale per channel; "
                f'leave it in float: {{"{plan.name}": "fp32"}}'
            ]
    return []

"""Recurrent and spiking networks for windows of inertial sensors."""

from __future__ import annotations

from edgekit.spiking.layers.l2mu_network import L2MU
from edgekit.spiking.layers.lmu import LMU
from edgekit.spiking.layers.populations import NeuronKind
from edgekit.spiking.layers.scnn import SpikingCNN

SAMPLE_SECONDS = 0.05
"""Between two samples of the smartwatch: 20 Hz."""


def har_l2mu() -> L2MU:
    """The L2MU with leaky neurons for [1, 6, 40] windows of 7 activities (WISDM smartwatch)."""
    return _l2mu("leaky")


def har_l2mu_synaptic() -> L2MU:
    """The same with synaptic neurons."""
    return _l2mu("synaptic")


def har_lmu() -> LMU:
    """The Legendre memory unit on real numbers for the same windows."""
    return LMU(hidden=180, memories=4, order=8, theta=20.0)


def har_scnn() -> SpikingCNN:
    """The spiking convolutional network for the same windows."""
    return SpikingCNN(widths=(32, 48, 64), dropout=0.1)


def _l2mu(kind: NeuronKind) -> L2MU:
    return L2MU(
        per_channel=16,
        layers=(128,),
        hidden=180,
        memories=4,
        order=8,
        theta=20.0,
        kind=kind,
        dt_seconds=SAMPLE_SECONDS,
    )

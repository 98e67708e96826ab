"""Trainable layers on snnTorch neurons.

- :class:`LMU`: the Legendre memory unit on real numbers, and :class:`LMUCell`, a step of it,
- :class:`L2MU`: the classifier whose every part is a population of spiking neurons, of
  :class:`InputConversion`, :class:`L2MUCell` and a readout,
- :class:`SpikingCNN`: the feed-forward spiking network,
- :class:`Population`: neurons for networks of one's own,
- :func:`discrete`, :func:`reconstruction`: the Legendre memory itself.

>>> import torch
>>> from edgekit.spiking.layers import L2MU
>>> network = L2MU(channels=6, classes=7, hidden=20, memories=2, order=4).eval()
>>> network(torch.zeros(3, 6, 40)).shape, network.graph().populations()
(torch.Size([3, 7]), ('x0', 'x1', 'u', 'm', 'h', 'o'))
"""

from edgekit.spiking.layers.conversion import InputConversion
from edgekit.spiking.layers.l2mu import L2MUCell
from edgekit.spiking.layers.l2mu_network import L2MU
from edgekit.spiking.layers.legendre import discrete, reconstruction
from edgekit.spiking.layers.lmu import LMU, LMUCell
from edgekit.spiking.layers.populations import Population
from edgekit.spiking.layers.scnn import SpikingCNN

__all__ = [
    "L2MU",
    "LMU",
    "InputConversion",
    "L2MUCell",
    "LMUCell",
    "Population",
    "SpikingCNN",
    "discrete",
    "reconstruction",
]

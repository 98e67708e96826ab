"""Networks of snnTorch neurons in.

- :func:`from_snntorch` makes a graph of one step, whatever way ``forward`` is written in,
- :func:`check_drift` compares the two spike by spike,
- :func:`is_spiking` tells such networks from others.

>>> import snntorch, torch
>>> from edgekit.spiking.imported import from_snntorch
>>> _ = torch.manual_seed(0)
>>> lif = snntorch.Leaky(beta=0.9, init_hidden=True)
>>> network = torch.nn.Sequential(torch.nn.Linear(3, 2), lif)
>>> graph = from_snntorch(network, torch.randn(1, 3))
>>> [(name, type(node).__name__) for name, node in graph.nodes.items()]
[('input', 'Input'), ('leaky_1', 'Leaky'), ('linear_0', 'Linear'), ('spikes', 'Output')]

The package reads snnTorch's modules and does not import snnTorch itself: a process that has such a
module has it already.
"""

from edgekit.spiking.imported.importer import check_drift, from_snntorch
from edgekit.spiking.imported.neurons import is_spiking
from edgekit.spiking.imported.samples import tensor_of

__all__ = ["check_drift", "from_snntorch", "is_spiking", "tensor_of"]

"""Networks: the maps from a factor's parents to its parameters.

A network is declared by a factory that is told the sizes when the model is wired:
``(in_size, out_size) -> nn.Module``, or an object with ``build(in_shape, out_shape)``, for networks over pictures, or
with ``assemble(in_shapes, out_shapes, event)``, which sees the shape of every parent and of every parameter.
"""

from pyro_lfm.sources.networks.applied import Applied, floating, network, promote
from pyro_lfm.sources.networks.convolutional import Convolutional
from pyro_lfm.sources.networks.perceptron import MLP

__all__ = ["MLP", "Applied", "Convolutional", "floating", "network", "promote"]

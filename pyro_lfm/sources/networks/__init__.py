"""Networks: maps from a factor's parents to its parameters, declared without their sizes."""

from pyro_lfm.sources.networks.convolutional import Convolutional
from pyro_lfm.sources.networks.perceptron import MLP

__all__ = ["MLP", "Convolutional"]

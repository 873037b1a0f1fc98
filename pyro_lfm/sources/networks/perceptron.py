"""The multilayer perceptron, a source for vectors."""

from __future__ import annotations

from torch import nn

from pyro_lfm.errors import DeclarationError
from pyro_lfm.shapes import number, whole
from pyro_lfm.sources.source import Network

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "leaky_relu": nn.LeakyReLU,
    "elu": nn.ELU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "sigmoid": nn.Sigmoid,
    "softplus": nn.Softplus,
    "tanh": nn.Tanh,
}
# Units that halve the numbers that they read, for layers of twice the width.
GATES: dict[str, type[nn.Module]] = {"glu": nn.GLU}


def activation_of(name: str, known: dict[str, type[nn.Module]] = ACTIVATIONS) -> type[nn.Module]:
    if not isinstance(name, str) or name not in known:
        raise DeclarationError(f"activation must be one of {', '.join(known)}; got {name!r}")
    return known[name]


class MLP(Network):
    """A multilayer perceptron (B, in) -> (B, out): hidden layers of the given widths, a linear output.

    Args:
        hidden: widths of the hidden layers. None at all gives one linear layer.
        activation: ``relu``, ``tanh``, ``elu``, ``silu``, ``gelu``, ``softplus``, ``sigmoid``, ``leaky_relu``, or ``glu``
            for gated layers h(x) = (A x + a) ⊙ σ(B x + b) (Dauphin, Fan, Auli and Grangier 2017, equation 1). A gated layer
            has twice the weights of another one of its width.
        dropout: probability that a hidden unit is dropped while training.

    Use it for tables, and for encoders and decoders of small pictures.

    Limits: it does not know that neighbouring pixels are alike. ``Convolutional`` does.

    Source: Rumelhart, Hinton and Williams (1986), "Learning representations by back-propagating errors".

    >>> import torch
    >>> MLP(16, 16, activation="tanh")(2, 3)(torch.zeros(5, 2)).shape
    torch.Size([5, 3])
    """

    def __init__(self, *hidden: int, activation: str = "relu", dropout: float = 0.0):
        self.hidden = tuple(whole("hidden widths of an MLP", width) for width in hidden)
        self.activation, self.dropout = activation, number("dropout", dropout, least=0.0)
        if self.dropout >= 1:
            raise DeclarationError(f"dropout must be a probability below 1; got {dropout!r}")
        self._unit = activation_of(activation, ACTIVATIONS | GATES)

    def __call__(self, in_size: int, out_size: int) -> nn.Module:
        layers: list[nn.Module] = []
        for width in self.hidden:
            units = 2 * width if self.activation in GATES else width
            layers += [nn.Linear(in_size, units), self._unit()]
            if self.dropout:
                layers.append(nn.Dropout(self.dropout))
            in_size = width
        return nn.Sequential(*layers, nn.Linear(in_size, out_size))

    def describe(self) -> str:
        return f"MLP({', '.join(map(str, self.hidden))})"

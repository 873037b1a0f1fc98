"""Networks: the maps from a factor's parents to its parameters.

A network is declared by a factory that is told the sizes when the model is wired:
``(in_size, out_size) -> nn.Module``, or, for networks over images, an object with
``build(in_shape, out_shape)``.
"""

from __future__ import annotations

from itertools import chain
from math import prod

import torch
from torch import nn

from pyro_lfm.errors import DeclarationError
from pyro_lfm.shapes import number, whole

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


def _activation(name: str) -> type[nn.Module]:
    if not isinstance(name, str) or name not in ACTIVATIONS:
        raise DeclarationError(f"activation must be one of {', '.join(ACTIVATIONS)}; got {name!r}")
    return ACTIVATIONS[name]


class MLP:
    """A multilayer perceptron (B, in) -> (B, out): hidden layers of the given widths, a linear output.

    Args:
        hidden: widths of the hidden layers; none at all gives one linear layer.
        activation: ``relu``, ``tanh``, ``elu``, ``silu``, ``gelu``, ``softplus``, ``sigmoid``, ``leaky_relu``.
        dropout: probability that a hidden unit is dropped while training.

    >>> MLP(16, 16, activation="tanh")(2, 3)(torch.zeros(5, 2)).shape
    torch.Size([5, 3])
    """

    def __init__(self, *hidden: int, activation: str = "relu", dropout: float = 0.0):
        self.hidden = tuple(whole("hidden widths of an MLP", width) for width in hidden)
        self.activation, self.dropout = activation, number("dropout", dropout, least=0.0)
        if self.dropout >= 1:
            raise DeclarationError(f"dropout must be a probability below 1; got {dropout!r}")
        self._unit = _activation(activation)

    def __call__(self, in_size: int, out_size: int) -> nn.Module:
        layers: list[nn.Module] = []
        for width in self.hidden:
            layers += [nn.Linear(in_size, width), self._unit()]
            if self.dropout:
                layers.append(nn.Dropout(self.dropout))
            in_size = width
        return nn.Sequential(*layers, nn.Linear(in_size, out_size))

    def __repr__(self) -> str:
        return f"MLP({', '.join(map(str, self.hidden))})"


class Convolutional:
    """Strided 3×3 convolutions: an encoder of images (C, H, W), or a decoder to images.

    Each width halves the picture (rounded up) on the way in and doubles it on the way out. Which of the two
    it is follows from the shapes: the event size of the image's factor must be given as (C, H, W).

    >>> Convolutional(8, 16).build((1, 9, 9), (4,))(torch.zeros(5, 1, 9, 9)).shape
    torch.Size([5, 4])
    >>> Convolutional(8, 16).build((4,), (1, 9, 9))(torch.zeros(5, 4)).shape
    torch.Size([5, 1, 9, 9])
    """

    def __init__(self, *channels: int, activation: str = "relu"):
        if not channels:
            raise DeclarationError("channels of a Convolutional must be given, as in Convolutional(16, 32)")
        self.channels = tuple(whole("channels of a Convolutional", width) for width in channels)
        self.activation = activation
        self._unit = _activation(activation)

    def build(self, in_shape: tuple[int, ...], out_shape: tuple[int, ...]) -> nn.Module:
        if len(in_shape) == 3 and len(out_shape) != 3:
            return self._encoder(in_shape, prod(out_shape))
        if len(out_shape) == 3 and len(in_shape) != 3:
            return self._decoder(prod(in_shape), out_shape)
        raise DeclarationError(
            "Convolutional maps an image (C, H, W) to a vector or a vector to an image; got "
            f"{tuple(in_shape)} -> {tuple(out_shape)}: declare the image's factor with its shape, as in "
            "Gaussian((1, 28, 28))"
        )

    def _encoder(self, image: tuple[int, ...], out_size: int) -> nn.Module:
        depth, height, width = image
        layers: list[nn.Module] = []
        for channels in self.channels:
            layers += [nn.Conv2d(depth, channels, 3, stride=2, padding=1), self._unit()]
            depth, height, width = channels, -(-height // 2), -(-width // 2)
        return nn.Sequential(*layers, nn.Flatten(), nn.Linear(depth * height * width, out_size))

    def _decoder(self, in_size: int, image: tuple[int, ...]) -> nn.Module:
        # Sizes on the way out are those of an encoder read backwards, so odd pictures come out right.
        sizes = [tuple(image[1:])]
        for _ in self.channels:
            sizes.append((-(-sizes[-1][0] // 2), -(-sizes[-1][1] // 2)))
        depths = (*self.channels[::-1], image[0])
        sizes.reverse()
        start = (depths[0], *sizes[0])
        layers: list[nn.Module] = [nn.Linear(in_size, prod(start)), nn.Unflatten(1, start)]
        for i in range(len(self.channels)):
            extra = tuple(big - (2 * small - 1) for small, big in zip(sizes[i], sizes[i + 1], strict=True))
            up = nn.ConvTranspose2d(
                depths[i], depths[i + 1], 3, stride=2, padding=1, output_padding=(extra[0], extra[1])
            )
            layers += [self._unit(), up]
        return nn.Sequential(*layers)

    def __repr__(self) -> str:
        return f"Convolutional({', '.join(map(str, self.channels))})"


def floating(module: nn.Module) -> list[torch.Tensor]:
    """The floating parameters and buffers of a module."""
    return [tensor for tensor in chain(module.parameters(), module.buffers()) if tensor.is_floating_point()]


def promote(module: nn.Module) -> None:
    """One floating type throughout: the widest of what was given."""
    kinds = {tensor.dtype for tensor in floating(module)}
    if len(kinds) > 1:
        module.to(max(kinds, key=lambda kind: torch.finfo(kind).bits))


class Applied(nn.Module):
    """A network over any batch shape: draws and rows are flattened to one batch dimension and put back.

    Maps (..., *event) to (..., *out_shape), in the network's own floating type; the network reads each event in
    ``in_shape``. A network that ``broadcasts``, (..., in) to (..., out), is handed all dimensions.
    """

    def __init__(self, network: nn.Module, event_ndim: int, in_shape: torch.Size, out_shape: torch.Size):
        super().__init__()
        self.network, self.event_ndim = network, event_ndim
        self.in_shape, self.out_shape = in_shape, out_shape

    def forward(self, context: torch.Tensor, index: torch.Tensor | None = None) -> torch.Tensor:
        weight = next(chain(self.network.parameters(), self.network.buffers()), context)
        batch = context.shape[: context.dim() - self.event_ndim]
        if getattr(self.network, "broadcasts", False):
            output = self.network(
                context.reshape(*batch, *self.in_shape).flatten(len(batch)).to(weight.dtype)
            )
            return output.reshape(*output.shape[:-1], *self.out_shape)
        flat = context.reshape(-1, *self.in_shape)
        return self.network(flat.to(weight.dtype)).reshape(*batch, *self.out_shape)

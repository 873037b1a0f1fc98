"""Convolutional networks, sources for pictures."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import torch
from torch import nn

from pyro_lfm.errors import DeclarationError
from pyro_lfm.shapes import whole
from pyro_lfm.sources.networks.perceptron import activation_of
from pyro_lfm.sources.source import Network


class Convolutional(Network):
    """Strided 3×3 convolutions: an encoder of pictures (C, H, W), or a decoder to pictures, or both.

    Each layer halves the picture (rounded up) in an encoder and doubles it in a decoder. A variable is a picture if its
    factor has an event (C, H, W).

    - **Encoder**: pictures of the same height and width are channels of one stack of convolutions, those of another size
      have a stack of their own. Other parents (a latent, a covariate, a label) are constant planes beside the channels,
      and are read again after the convolutions.
    - **Decoder**: a parameter whose shape contains that of the event, such as (C, H, W, components) or
      (components, C, H, W), is a picture with more channels. Any other is a linear map of the narrowest layer.

    Args:
        channels: of each layer, from the picture inwards.
        activation: as of ``MLP``.

    Use it for pictures, with an event (C, H, W).

    Limits: every layer halves height and width, so that small pictures allow few layers.

    Source: Radford, Metz and Chintala (2016), "Unsupervised representation learning with deep convolutional GANs", for
    strided convolutions.

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
        self._unit = activation_of(activation)

    def build(self, in_shape: Sequence[int], out_shape: Sequence[int]) -> nn.Module:
        """The network of one input and one output, ``(B, *in_shape)`` to ``(B, *out_shape)``."""
        event = tuple(out_shape) if len(out_shape) == 3 else None
        return nn.Sequential(
            nn.Flatten(), self.assemble([in_shape], [out_shape], event), nn.Unflatten(1, tuple(out_shape))
        )

    def assemble(
        self,
        inputs: Sequence[Sequence[int]],
        outputs: Sequence[Sequence[int]],
        event: Sequence[int] | None = None,
    ) -> nn.Module:
        """The network of several inputs and outputs, each flattened and side by side, (B, in) to (B, out).

        Args:
            event: the shape (C, H, W) of one value, where that is a picture: an output that holds it is one too.
        """
        event = tuple(event) if event is not None and len(event) == 3 else None
        network = _Pictures(
            [tuple(shape) for shape in inputs], [tuple(shape) for shape in outputs], event, self
        )
        if not network.branches and network.up is None:
            shown = " and ".join(str(tuple(shape)) for shape in inputs)
            raise DeclarationError(
                "Convolutional maps an image (C, H, W) to numbers or numbers to an image; got "
                f"{shown} -> {' and '.join(str(tuple(shape)) for shape in outputs)}: declare the image's factor with "
                "its shape, as in Gaussian((1, 28, 28)), or take MLP"
            )
        return network

    def __call__(self, in_size: int, out_size: int) -> nn.Module:
        return self.assemble([(in_size,)], [(out_size,)])

    def down(self, depth: int) -> nn.Sequential:
        """The convolutions of an encoder, followed by flattening."""
        layers: list[nn.Module] = []
        for channels in self.channels:
            layers += [nn.Conv2d(depth, channels, 3, stride=2, padding=1), self._unit()]
            depth = channels
        return nn.Sequential(*layers, nn.Flatten())

    def size(self, height: int, width: int) -> list[tuple[int, int]]:
        """The heights and widths of the layers of an encoder, those of the picture first."""
        sizes = [(height, width)]
        for _ in self.channels:
            sizes.append((-(-sizes[-1][0] // 2), -(-sizes[-1][1] // 2)))
        return sizes

    def start(self, height: int, width: int) -> tuple[int, int, int]:
        """The shape of the narrowest layer."""
        return (self.channels[-1], *self.size(height, width)[-1])

    def upwards(self, depth: int, height: int, width: int) -> nn.Sequential:
        """The convolutions of a decoder, from the flattened narrowest layer before its activation."""
        # The sizes are those of an encoder in reverse order, so that odd sizes are exact.
        sizes, depths = self.size(height, width)[::-1], (*self.channels[::-1], depth)
        layers: list[nn.Module] = [nn.Unflatten(1, self.start(height, width))]
        for i in range(len(self.channels)):
            extra = tuple(big - (2 * small - 1) for small, big in zip(sizes[i], sizes[i + 1], strict=True))
            up = nn.ConvTranspose2d(
                depths[i], depths[i + 1], 3, stride=2, padding=1, output_padding=(extra[0], extra[1])
            )
            layers += [self._unit(), up]
        return nn.Sequential(*layers)

    def unit(self) -> nn.Module:
        return self._unit()

    def describe(self) -> str:
        return f"Convolutional({', '.join(map(str, self.channels))})"


Shape = tuple[int, ...]
# The most planes for numbers of other parents. More numbers are first mapped linearly to this many.
_PLANES = 16


class _Pictures(nn.Module):
    """The network of flattened pictures and numbers, (B, in) to (B, out); see ``Convolutional``."""

    def __init__(
        self, inputs: list[Shape], outputs: list[Shape], event: Shape | None, declared: Convolutional
    ):
        super().__init__()
        self.inputs, self.outputs = inputs, outputs
        self.frames = [_frame(shape, event) for shape in outputs]
        beside = sum(prod(shape) for shape in inputs if len(shape) != 3)
        self.sizes = list(dict.fromkeys(shape[1:] for shape in inputs if len(shape) == 3))
        # Planes stand beside pictures, so a network of numbers alone has none.
        self.planes = nn.Linear(beside, _PLANES) if self.sizes and beside > _PLANES else nn.Identity()
        self.branches = nn.ModuleList()
        width = beside
        for size in self.sizes:
            depth = sum(shape[0] for shape in inputs if len(shape) == 3 and shape[1:] == size)
            self.branches.append(declared.down(depth + min(beside, _PLANES)))
            width += prod(declared.start(*size))
        plain = sum(prod(shape) for shape, frame in zip(outputs, self.frames, strict=True) if frame is None)
        depth = sum(prod(frame) for frame in self.frames if frame is not None)
        self.up: nn.Module | None = None
        self.narrow: nn.Module | None = None
        if depth and event is not None:
            start = prod(declared.start(*event[1:]))
            self.narrow, self.up = nn.Linear(width, start), declared.upwards(depth, *event[1:])
            self.plain = nn.Sequential(declared.unit(), nn.Linear(start, plain)) if plain else None
        else:
            self.plain = nn.Sequential(nn.Linear(width, plain))

    def forward(self, context: torch.Tensor) -> torch.Tensor:
        parts = context.split([prod(shape) for shape in self.inputs], 1)
        by_shape = list(zip(parts, self.inputs, strict=True))
        numbers = [part for part, shape in by_shape if len(shape) != 3]
        features = []
        for size, branch in zip(self.sizes, self.branches, strict=True):
            seen = [p.reshape(-1, *s) for p, s in by_shape if len(s) == 3 and s[1:] == size]
            if numbers:
                beside = self.planes(torch.cat(numbers, 1))
                seen.append(beside[:, :, None, None].expand(-1, -1, *size))
            features.append(branch(torch.cat(seen, 1)))
        narrow = torch.cat([*features, *numbers], 1)
        if self.narrow is not None:
            narrow = self.narrow(narrow)
        plain = None if self.plain is None else self.plain(narrow)
        picture = None if self.up is None else self.up(narrow)
        return self._in_order(picture, plain)

    def _in_order(self, picture: torch.Tensor | None, plain: torch.Tensor | None) -> torch.Tensor:
        """The outputs in the declared order, from the channels of one picture and the other numbers."""
        outputs, channel, number = [], 0, 0
        for shape, frame in zip(self.outputs, self.frames, strict=True):
            if frame is None and plain is not None:
                outputs.append(plain[:, number : number + prod(shape)])
                number += prod(shape)
            elif frame is not None and picture is not None:
                block = picture[:, channel : channel + prod(frame)]
                channel += prod(frame)
                # Dimensions after the event in the parameter's shape move behind height and width.
                outputs.append(block.unflatten(1, frame).movedim(3, -1).flatten(1))
        return outputs[0] if len(outputs) == 1 else torch.cat(outputs, 1)


def _frame(shape: Shape, event: Shape | None) -> tuple[int, int, int] | None:
    """The sizes before the picture, of its channels and behind it, if a shape contains that of the picture, else None.

    >>> _frame((3, 8, 8, 5), (3, 8, 8)), _frame((2, 3, 8, 8), (3, 8, 8)), _frame((2,), (3, 8, 8))
    ((1, 3, 5), (2, 3, 1), None)
    """
    if event is None:
        return None
    for start in range(len(shape) - 2):
        if shape[start : start + 3] == event:
            return prod(shape[:start]), event[0], prod(shape[start + 3 :])
    return None

"""A variational autoencoder in plain PyTorch, as someone who knows PyTorch well writes it, and its bare products."""

import math
import os
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial

import numpy as np
import torch
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits, softplus

from rivals.configuration import BY_HAND, FLOOR, LEARNING_RATE, LIMIT, PIXEL_FLOOR, Configuration
from rivals.taking_part import Turn, take_part

# The first optimizer of a process imports torch's compiler. Imports do not count, so that it is made here.
torch.optim.Adam([torch.zeros(1)])


def begin(c: Configuration, x: np.ndarray) -> torch.Tensor:
    """Sets the seed and the number of threads of PyTorch. Returns the rows as its tensor, on the device."""
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    torch.manual_seed(c.seed)
    return torch.from_numpy(x).to(c.device)


def precision(c: Configuration) -> Callable[[], AbstractContextManager]:
    """What the loss of each step is computed under."""
    kind = torch.device(c.device).type
    return partial(torch.autocast, kind, torch.bfloat16) if c.autocast else nullcontext


def encoder(c: Configuration, out: int) -> nn.Sequential:
    if not c.channels:
        return nn.Sequential(nn.Linear(c.columns, c.hidden), nn.ReLU(), nn.Linear(c.hidden, out))
    layers, depth, side = [], 1, c.event[1]
    for channels in c.channels:
        layers += [nn.Conv2d(depth, channels, 3, stride=2, padding=1), nn.ReLU()]
        depth, side = channels, side // 2
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(depth * side * side, out))


def decoder(c: Configuration) -> nn.Sequential:
    if not c.channels:
        return nn.Sequential(nn.Linear(c.latent, c.hidden), nn.ReLU(), nn.Linear(c.hidden, c.columns))
    depths, side = (*c.channels[::-1], 1), c.event[1] // 2 ** len(c.channels)
    layers = [nn.Linear(c.latent, depths[0] * side**2), nn.Unflatten(1, (depths[0], side, side))]
    for before, after in zip(depths, depths[1:], strict=False):
        up = nn.ConvTranspose2d(before, after, 3, stride=2, padding=1, output_padding=1)
        layers += [nn.ReLU(), up]
    return nn.Sequential(*layers)


class VAE(nn.Module):
    def __init__(self, c: Configuration):
        super().__init__()
        self.latent, self.full, self.gaussian = c.latent, c.covariance == "full", c.likelihood == "Gaussian"
        self.particles = c.particles
        below = torch.tril_indices(c.latent, c.latent, -1)
        self.register_buffer("below", below)
        self.register_buffer("eye", torch.eye(c.latent))
        self.encoder = encoder(c, 2 * c.latent + self.full * below.shape[1])
        self.decoder = nn.ModuleList(decoder(c) for _ in range(1 + self.gaussian))

    def encode(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean and standard deviations of q(z | x), or the triangular factor L of its covariance."""
        raw = self.encoder(x)
        mean, scale = raw[:, : self.latent], FLOOR + softplus(raw[:, self.latent : 2 * self.latent])
        if not self.full:
            return mean, scale
        unit = self.eye.repeat(len(x), 1, 1)
        unit[:, self.below[0], self.below[1]] = raw[:, 2 * self.latent :]
        return mean, scale.unsqueeze(-1) * unit

    def decode(self, z: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """The logits of p(x | z), or its mean and standard deviations."""
        if not self.gaussian:
            return (self.decoder[0](z),)
        return self.decoder[0](z), PIXEL_FLOOR + softplus(self.decoder[1](z))

    def loss(self, x: torch.Tensor) -> torch.Tensor:
        """The negative bound per row, with KL(q ‖ p) in closed form unless there are several draws."""
        mean, scale = self.encode(x)
        if self.particles > 1:
            return self.importance_weighted(x, mean, scale)
        noise = torch.randn_like(mean)
        if self.full:
            z, diagonal = mean + (scale @ noise.unsqueeze(-1)).squeeze(-1), scale.diagonal(dim1=1, dim2=2)
        else:
            z, diagonal = mean + scale * noise, scale
        kl = (mean.square().sum() + scale.square().sum() - mean.numel()) / 2 - diagonal.log().sum()
        if self.gaussian:
            centre, spread = self.decode(z)
            surprise = (((x - centre) / spread).square() / 2 + spread.log()).sum()
            surprise = surprise + x.numel() * math.log(2 * math.pi) / 2
        else:
            surprise = binary_cross_entropy_with_logits(*self.decode(z), x, reduction="sum")
        return (surprise + kl) / len(x)

    def importance_weighted(self, x: torch.Tensor, mean: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
        """−log of the mean weight p(x, z) / q(z | x) of the draws of a row, of binary x, with q of a diagonal covariance."""
        noise = torch.randn(self.particles, *mean.shape, device=x.device, dtype=x.dtype)
        z = mean + scale * noise
        # log p(z) − log q(z | x): the constants of the two cancel.
        ratio = ((noise.square() - z.square()) / 2 + scale.log()).sum(-1)
        (logits,) = self.decode(z)
        surprise = binary_cross_entropy_with_logits(logits, x.expand_as(logits), reduction="none")
        weights = ratio - surprise.sum(-1)
        return math.log(self.particles) - weights.logsumexp(0).mean()


def train(
    c: Configuration,
    x: np.ndarray,
    turn: Turn,
    fused: bool | None = None,
    compiled: bool = False,
    mode: str | None = None,
) -> None:
    rows, under = begin(c, x), precision(c)
    vae = VAE(c).to(c.device)
    optimizer = torch.optim.Adam(vae.parameters(), lr=LEARNING_RATE, fused=fused)
    loss_of = torch.compile(vae.loss, dynamic=False, mode=mode) if compiled else vae.loss
    over = False
    while not over:
        total = torch.zeros((), device=c.device)
        for index in torch.randperm(len(rows), device=c.device).split(c.batch):
            with under():
                loss = loss_of(rows.index_select(0, index))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.detach()
        over = turn(-float(total) / c.steps)


def products(c: Configuration, x: np.ndarray, turn: Turn) -> None:
    """Only the matrix products that a step cannot do without: of each layer forward, to its weights and its input.

    The first layer's input is the data, which needs no gradient.
    """
    begin(c, x)
    vae, layers = VAE(c), []
    for part, draws in ((vae.encoder, 1), (vae.decoder, c.particles)):
        for weight in (m.weight.detach() for m in part.modules() if isinstance(m, nn.Linear)):
            outputs, inputs = weight.shape
            given, wanted = torch.randn(draws * c.batch, inputs), torch.randn(draws * c.batch, outputs)
            back = torch.empty_like(given) if layers else None
            layers.append((given, weight, wanted, torch.empty_like(wanted), torch.empty_like(weight), back))
    over = False
    while not over:
        for _ in range(c.steps):
            for given, weight, gradient, forward, to_weight, to_input in layers:
                torch.mm(given, weight.T, out=forward)
                torch.mm(gradient.T, given, out=to_weight)
                if to_input is not None:
                    torch.mm(gradient, weight, out=to_input)
        over = turn()


CONTESTANTS = {
    BY_HAND: train,
    "by hand, Adam(fused=True)": partial(train, fused=True),
    "by hand, torch.compile, fused": partial(train, fused=True, compiled=True),
    LIMIT: products,
}

if __name__ == "__main__":
    take_part(CONTESTANTS, *sys.argv[1:])

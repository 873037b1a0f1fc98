"""The queries by hand in PyTorch: plain functions of tensors in blocks of a size that stays in the cache."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import softplus

from evaluation_speed.setting import Query, Weights

NUMBERS = 2**18  # of one block of draws: 1 MiB
ROWS = 1024


class Autoencoder:
    """The densities of the model and the guide."""

    def __init__(self, query: Query, weights: Weights):
        self.query = query
        self.encoder, self.decoder = (
            [torch.from_numpy(array) for array in arrays] for arrays in (weights.encoder, weights.decoder)
        )
        self.scale, self.floor = torch.from_numpy(weights.scale), weights.floor
        self.constant = float(-self.scale.log().sum() - 0.5 * query.columns * math.log(2 * math.pi))

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        first, bias, last, shift = self.encoder
        mean, raw = torch.addmm(shift, torch.addmm(bias, x, first).relu_(), last).chunk(2, 1)
        return mean, softplus(raw) + self.floor

    def decode(self, z: Tensor) -> Tensor:
        first, bias, last, shift = self.decoder
        return torch.addmm(shift, torch.addmm(bias, z, first).relu_(), last)

    def log_likelihood(self, z: Tensor, x: Tensor) -> Tensor:
        """log p(x | z), (S, B), of z (S, B, K)."""
        decoded = self.decode(z.flatten(0, 1)).unflatten(0, z.shape[:2])
        if self.query.likelihood == "Bernoulli":
            return (x * decoded - softplus(decoded)).sum(-1)
        return self.constant - 0.5 * ((x - decoded) / self.scale).square().sum(-1)

    def log_weight(self, noise: Tensor, z: Tensor, scale: Tensor, x: Tensor) -> Tensor:
        """log p(x, z) − log q(z | x), (S, B); the constants of both normals cancel."""
        prior = 0.5 * (noise.square() - z.square()).sum(-1) + scale.log().sum(-1)
        return self.log_likelihood(z, x) + prior


def prepared(query: Query, weights: Weights) -> Autoencoder:
    return Autoencoder(query, weights)


@torch.no_grad()
def answer(query: Query, net: Autoencoder, x: np.ndarray) -> float:
    tasks = {"importance": importance, "annealed": annealed, "posterior": posterior}
    tasks |= {"reconstruct": reconstruct, "impute": impute}
    torch.manual_seed(0)
    return float(tasks[query.task](net, torch.from_numpy(x), query).double().mean())


def importance(net: Autoencoder, x: Tensor, query: Query) -> Tensor:
    rows = max(1, min(64, NUMBERS // query.columns))
    most = max(1, NUMBERS // (rows * query.columns))
    result = []
    for part in x.split(rows):
        mean, scale = net.encode(part)
        total = torch.full(part.shape[:1], -torch.inf)
        left = query.draws
        while left:
            noise = torch.randn(min(most, left), *mean.shape)
            z = mean + scale * noise
            total = torch.logaddexp(total, net.log_weight(noise, z, scale, part).logsumexp(0))
            left -= len(noise)
        result.append(total - math.log(query.draws))
    return torch.cat(result)


def annealed(net: Autoencoder, x: Tensor, query: Query, leaps: int = 3, step: float = 0.5) -> Tensor:
    """Neal (2001) with Hamiltonian Monte Carlo of a fixed step: no tuning, which ours includes."""
    result = []
    for part in x.split(64):
        mean, scale = net.encode(part)

        def density(z: Tensor, beta: float) -> tuple[Tensor, Tensor, Tensor]:
            with torch.enable_grad():
                z = z.detach().requires_grad_()
                log_q = (-0.5 * ((z - mean) / scale).square() - scale.log()).sum(-1)  # noqa: B023
                log_w = net.log_likelihood(z, part) - 0.5 * z.square().sum(-1) - log_q  # noqa: B023
                (gradient,) = torch.autograd.grad((log_q + beta * log_w).sum(), z)
            return (log_q + beta * log_w).detach(), log_w.detach(), gradient

        z = mean + scale * torch.randn(query.draws, *mean.shape)
        betas = torch.linspace(0, 1, query.temperatures + 1).tolist()
        total = torch.zeros(z.shape[:2])
        for before, beta in zip(betas, betas[1:], strict=False):
            now, log_w, gradient = density(z, beta)
            total += (beta - before) * log_w
            momentum = torch.randn_like(z)
            energy, length, moved = now - 0.5 * momentum.square().sum(-1), step * scale, z
            momentum = momentum + 0.5 * length * gradient
            for leap in range(leaps):
                moved = moved + length * momentum
                after, _, gradient = density(moved, beta)
                momentum = momentum + (0.5 if leap == leaps - 1 else 1.0) * length * gradient
            chance = (after - 0.5 * momentum.square().sum(-1) - energy).exp()
            z = torch.where((torch.rand_like(chance) < chance).unsqueeze(-1), moved, z)
        result.append(total.logsumexp(0) - math.log(query.draws))
    return torch.cat(result)


def posterior(net: Autoencoder, x: Tensor, query: Query) -> Tensor:
    out = torch.empty(2, len(x), query.latent)
    for start in range(0, len(x), ROWS):
        out[0, start : start + ROWS], out[1, start : start + ROWS] = net.encode(x[start : start + ROWS])
    return out[0]


def reconstruct(net: Autoencoder, x: Tensor, query: Query) -> Tensor:
    out = torch.zeros_like(x)
    for part, into in zip(x.split(ROWS), out.split(ROWS), strict=True):
        mean, scale = net.encode(part)
        for _ in range(query.draws):
            decoded = net.decode(mean + scale * torch.randn_like(mean))
            into += decoded.sigmoid_() if query.likelihood == "Bernoulli" else decoded
    return out.div_(query.draws)


def impute(net: Autoencoder, x: Tensor, query: Query) -> Tensor:
    """Means of the missing entries, and draws of them with the noise of the likelihood."""
    values, missing = x.clone(), x.isnan()
    draws = torch.empty(query.draws, int(missing.sum()))
    at = 0
    for part, gaps, into in zip(x.split(ROWS), missing.split(ROWS), values.split(ROWS), strict=True):
        mean, scale = net.encode(part.nan_to_num())
        total, end = torch.zeros_like(part), at + int(gaps.sum())
        for draw in draws[:, at:end]:
            decoded = net.decode(mean + scale * torch.randn_like(mean))
            if query.likelihood == "Bernoulli":
                decoded = decoded.sigmoid_()
                drawn = decoded.bernoulli()
            else:
                drawn = decoded + net.scale * torch.randn_like(decoded)
            draw[:] = drawn[gaps]
            total += decoded
        into[gaps] = (total / query.draws)[gaps]
        at = end
    return values

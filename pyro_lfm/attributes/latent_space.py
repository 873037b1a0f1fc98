"""Whitened codes of the real latents of a row, in which attributes are read and rows are moved."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.distributions import Transform

from pyro_lfm.distributions.supports import from_reals
from pyro_lfm.errors import DeclarationError
from pyro_lfm.evaluate.decoding.decoder import Decoder

# Directions whose standard deviation is smaller than this part of the largest count as constant.
_LEAST = 1e-6


@dataclass(frozen=True, eq=False)
class LatentSpace:
    """The map between latents z, (B, K) as ``Decoder`` takes them, and codes u = (g(z) − μ) C^(−1/2), (B, U).

    g maps constrained latents, such as positive ones, to the reals; μ and C are the moments of g(z) over all rows. Codes
    have mean 0 and covariance I, so that distances between them are Mahalanobis distances. All in double precision.

    Attributes:
        supports: for each latent the map from the reals, and the shape of its value.
        mean: μ, (U,). root, inverse: C^(1/2) and C^(−1/2), (U, U).
    """

    supports: tuple[tuple[Transform, torch.Size], ...]
    mean: Tensor
    root: Tensor
    inverse: Tensor

    @classmethod
    def of(cls, decoder: Decoder, draws: Tensor) -> LatentSpace:
        """The space in which draws of the posteriors of all rows, (M, K), are white."""
        latents = decoder.model.latents
        supports = tuple((from_reals(latents[n].support), latents[n].shape) for n in decoder.factors)
        for name, (onto, _) in zip(decoder.factors, supports, strict=True):
            if onto is None:
                raise DeclarationError(
                    f"{decoder.function} maps latents to the reals, and no such map of {name} is known: its support is "
                    f"{latents[name].support}"
                )
        free = _to_reals(supports, draws)
        mean = free.mean(0)
        values, vectors = torch.linalg.eigh((free - mean).T @ (free - mean) / max(1, len(free) - 1))
        scale = values.clamp_min(float(values.max()) * _LEAST**2 + torch.finfo(torch.float64).tiny).sqrt()
        # Symmetric roots, so that a code is close to the latent that it is made of.
        return cls(supports, mean, (vectors * scale) @ vectors.T, (vectors / scale) @ vectors.T)

    def codes(self, latents: Tensor) -> Tensor:
        return (_to_reals(self.supports, latents) - self.mean) @ self.inverse

    def latents(self, codes: Tensor) -> Tensor:
        return torch.cat([onto(free).flatten(1) for onto, free in self._pieces(codes)], 1)

    def log_volume(self, codes: Tensor) -> Tensor:
        """ln |det ∂z/∂u| up to a constant, (B,)."""
        total = codes.new_zeros(len(codes))
        for onto, free in self._pieces(codes):
            total = total + onto.log_abs_det_jacobian(free, onto(free)).reshape(len(codes), -1).sum(1)
        return total

    def _pieces(self, codes: Tensor) -> list[tuple[Transform, Tensor]]:
        """The map of each latent from the reals, and the point that it maps."""
        free = codes @ self.root + self.mean
        pieces, start = [], 0
        for onto, shape in self.supports:
            inner = onto.inverse_shape(shape)
            piece = free[:, start : start + inner.numel()]
            start += inner.numel()
            pieces.append((onto, piece.reshape(-1, *inner)))
        return pieces


def _to_reals(supports: tuple[tuple[Transform, torch.Size], ...], latents: Tensor) -> Tensor:
    sizes = [shape.numel() for _, shape in supports]
    pieces = latents.double().split(sizes, 1)
    free = [
        onto.inv(piece.reshape(-1, *shape)).flatten(1)
        for (onto, shape), piece in zip(supports, pieces, strict=True)
    ]
    return torch.cat(free, 1)

"""Positive definite matrices: a bijection of vectors onto them, their inverses, and a Wishart; covariances use them."""

from __future__ import annotations

from math import isqrt, log

import pyro.distributions as dist
import torch
from torch.distributions import Transform, constraints

from pyro_lfm.distributions.interface import Shape
from pyro_lfm.distributions.stirling import wide


def tril_of_precision(precision: torch.Tensor) -> torch.Tensor:
    """The Cholesky factor L of the covariance, L Lᵀ = Λ⁻¹, of a precision matrix Λ (..., D, D).

    It is computed in double precision, if the device has it: rounding makes the inverse of an ill conditioned Λ indefinite.

    >>> tril_of_precision(torch.tensor([[4.0, 0.0], [0.0, 0.25]]))
    tensor([[0.5000, 0.0000],
            [0.0000, 2.0000]])
    """
    # With the order of the entries reversed, Λ = L⁻ᵀ L⁻¹ is a product of a lower triangular matrix and its transpose.
    reversed_root = torch.linalg.cholesky(wide(precision).flip(-2, -1))
    inverse = reversed_root.flip(-2, -1).mT
    identity = torch.eye(precision.shape[-1], dtype=inverse.dtype, device=inverse.device)
    return torch.linalg.solve_triangular(inverse, identity.expand_as(inverse), upper=False).to(
        precision.dtype
    )


class PackedToPositiveDefinite(Transform):
    """r (..., D(D + 1)/2) ↦ L Lᵀ, L lower triangular with diagonal exp(r₁ … r_D) and the other entries of r below it.

    ln |∂Λ/∂r| = D ln 2 + Σᵢ (D − i + 2) rᵢ, i = 1 … D.

    >>> PackedToPositiveDefinite()(torch.tensor([0.0, 0.0, 3.0]))
    tensor([[ 1.,  3.],
            [ 3., 10.]])
    """

    domain = constraints.independent(constraints.real, 1)
    codomain = constraints.positive_definite
    bijective = True

    def __eq__(self, other: object) -> bool:
        return isinstance(other, PackedToPositiveDefinite)

    __hash__ = Transform.__hash__

    def _call(self, x: torch.Tensor) -> torch.Tensor:
        dim = (isqrt(1 + 8 * x.shape[-1]) - 1) // 2
        row, column = torch.tril_indices(dim, dim, -1, device=x.device)
        tril = torch.diag_embed(x[..., :dim].exp())
        tril[..., row, column] = x[..., dim:]
        return tril @ tril.mT

    def _inverse(self, y: torch.Tensor) -> torch.Tensor:
        tril = torch.linalg.cholesky(y)
        row, column = torch.tril_indices(y.shape[-1], y.shape[-1], -1, device=y.device)
        return torch.cat([tril.diagonal(dim1=-2, dim2=-1).log(), tril[..., row, column]], -1)

    def log_abs_det_jacobian(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        dim = y.shape[-1]
        powers = torch.arange(dim + 1, 1, -1, dtype=x.dtype, device=x.device)
        return dim * log(2) + (powers * x[..., :dim]).sum(-1)

    def forward_shape(self, shape: torch.Size) -> torch.Size:
        dim = (isqrt(1 + 8 * shape[-1]) - 1) // 2
        return torch.Size((*shape[:-1], dim, dim))

    def inverse_shape(self, shape: torch.Size) -> torch.Size:
        return torch.Size((*shape[:-2], shape[-1] * (shape[-1] + 1) // 2))


class Wishart(dist.Wishart):
    """torch's Wishart, sampled by Bartlett's decomposition. torch's own sampler takes rounding for singularity.

    >>> Wishart(torch.tensor(5.0), torch.eye(2)).rsample((3,)).shape
    torch.Size([3, 2, 2])
    """

    def rsample(self, sample_shape: Shape = (), max_try_correction: int | None = None) -> torch.Tensor:
        dim = self.event_shape[-1]
        degrees = self.df.unsqueeze(-1) - torch.arange(dim, dtype=self.df.dtype, device=self.df.device)
        diagonal = torch.distributions.Chi2(degrees).rsample(torch.Size(sample_shape)).sqrt()
        noise = torch.randn(*diagonal.shape, dim, dtype=diagonal.dtype, device=diagonal.device)
        factor = self.scale_tril @ (torch.diag_embed(diagonal) + noise.tril(-1))
        return factor @ factor.mT

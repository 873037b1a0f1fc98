"""How many parameters the covariance of a linear Gaussian model identifies, for degrees of freedom and for warnings."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from pyro_lfm.exact.linear.linear_gaussian import LinearGaussian

# Singular values of the Jacobian below this share of the largest count as zero.
_ZERO = 1e-7


@dataclass(frozen=True, eq=False)
class FreeParameters:
    """Which parameters of Σ = W S Wᵀ + Ψ are learned.

    Attributes:
        loadings: (D, K), which entries of W. noise: whether Ψ. covariance: whether S.
    """

    loadings: Tensor
    noise: bool
    covariance: bool

    def count(self, exact: LinearGaussian) -> int:
        """The free parameters. Where W is learned, the factors have variance one, and only their correlations are free."""
        factors = exact.weight.shape[1]
        pairs = factors * (factors - 1) // 2
        scales = 0 if bool(self.loadings.any()) else factors
        return (
            int(self.loadings.sum()) + self.noise * exact.noise.numel() + self.covariance * (pairs + scales)
        )

    def identified(self, exact: LinearGaussian) -> int:
        """The number of directions in which the free parameters move Σ: the rank of its Jacobian at these values.

        It is smaller than their count where other values give the same Σ.

        >>> exact = LinearGaussian(torch.tensor([[0.8], [0.7]]), torch.zeros(2), torch.ones(2))
        >>> free = FreeParameters(torch.ones(2, 1, dtype=torch.bool), True, False)
        >>> free.count(exact), free.identified(exact)  # of a covariance with 3 entries
        (4, 3)
        """
        variance = ((exact.weight @ exact.prior[1]) * exact.weight).sum(1) + exact.noise
        scale = variance.sqrt()
        weight, noise = exact.weight / scale.unsqueeze(1), exact.noise / scale.square()
        dim, factors = weight.shape
        below = torch.tril_indices(dim, dim)
        columns = []
        # ∂Σ for a step in one loading: e_d (S w_k)ᵀ and its transpose.
        pull = weight @ exact.prior[1]
        for d, k in self.loadings.nonzero().tolist():
            step = torch.zeros(dim, dim, dtype=torch.float64)
            step[d] = pull[:, k]
            columns.append(step + step.mT)
        if self.noise:
            own = noise.expand(dim).diag()
            columns += [own] if exact.structure == "isotropic" else list(torch.eye(dim).double().diag_embed())
        if self.covariance:
            lowest = 1 if bool(self.loadings.any()) else 0
            for j in range(factors):
                for k in range(j + 1 - lowest):
                    step = torch.outer(weight[:, j], weight[:, k])
                    columns.append(step + step.mT)
        if not columns:
            return 0
        jacobian = torch.stack([step[below[0], below[1]] for step in columns])
        values = torch.linalg.svdvals(jacobian)
        return int((values > _ZERO * values[0]).sum())

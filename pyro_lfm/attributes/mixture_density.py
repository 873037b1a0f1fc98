"""A mixture of Gaussians fitted to codes of rows, the first approximation of their density; ``Density`` corrects it."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

# Numbers of components to choose among, and the fewest rows that a component has for each entry of a code.
_COMPONENTS, _ROWS = (1, 2, 4, 8, 16, 32, 64), 2
# Most draws that a mixture is fitted to, and the part held out for the choice.
_MOST, _HELD = 12_000, 0.25


@dataclass(frozen=True, eq=False)
class Mixture:
    """m(u) = Σ_c π_c N(u; μ_c, Σ_c), in double precision.

    Attributes:
        log_weights: ln π, (C,). means: (C, U). roots: L_c, lower triangular, with Σ_c = L_c L_cᵀ. whiten: W_c = L_c^(−T), so
            that the rows (u − μ_c) W_c are white.
    """

    log_weights: Tensor
    means: Tensor
    roots: Tensor
    whiten: Tensor

    @classmethod
    def of(cls, draws: Tensor, seed: int) -> Mixture:
        """The mixture fitted to draws of the posteriors of rows, (S, N, U).

        Its number of components is doubled as long as that raises the mean log density of rows that were held out.
        """
        from sklearn.mixture import GaussianMixture

        rows = np.random.default_rng(seed).permutation(draws.shape[1])[: -(-_MOST // len(draws))]
        # All draws of a row stand side by side, so that no row is both fitted and held out.
        points = draws[:, torch.from_numpy(rows)].transpose(0, 1).flatten(0, 1).numpy()
        # Rounding apart, a covariance of few draws is singular: each gets a part of that of all.
        ridge = max(1e-4, 1.0 / len(rows))

        def mixture(count: int, rows: np.ndarray) -> GaussianMixture:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                return GaussianMixture(
                    count, reg_covar=ridge, random_state=seed, max_iter=40, tol=1e-3, init_params="k-means++"
                ).fit(rows)

        held, fitted = np.split(points, [int(_HELD * len(rows)) * len(draws)])
        best, score = 1, -math.inf
        for count in _COMPONENTS:
            if count > 1 and len(rows) < _ROWS * count * draws.shape[2]:
                break
            now = mixture(count, fitted).score(held)
            if now < score:
                break
            best, score = count, now
        done = mixture(best, points)
        roots = torch.linalg.cholesky(torch.from_numpy(done.covariances_))
        whiten = torch.linalg.inv(roots).mT.contiguous()
        return cls(torch.from_numpy(done.weights_).log(), torch.from_numpy(done.means_), roots, whiten)

    def log_prob(self, codes: Tensor) -> Tensor:
        """ln p(u) of codes (B, U), (B,)."""
        return self._joint(self._white(codes)).logsumexp(1)

    def slopes(self, codes: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """ln p(u), (B,), ∇ ln p(u), (B, U), and the mean over codes of Σ_c p(c | u) Σ_c⁻¹, (U, U)."""
        white = self._white(codes)
        joint = self._joint(white)
        share = joint.softmax(1)
        weighted = (share.unsqueeze(2) * white).flatten(1)
        gradient = -weighted @ self.whiten.mT.flatten(0, 1)
        curvature = torch.einsum("c,cuv,cwv->uw", share.mean(0), self.whiten, self.whiten)
        return joint.logsumexp(1), gradient, curvature

    def curvatures(self, codes: Tensor) -> Tensor:
        """Σ_c p(c | u) Σ_c⁻¹ at each code (B, U), (B, U, U)."""
        share = self._joint(self._white(codes)).softmax(1)
        return (share @ (self.whiten @ self.whiten.mT).flatten(1)).reshape(*codes.shape, codes.shape[1])

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        """Draws (n, U)."""
        component = torch.multinomial(self.log_weights.exp(), n, replacement=True, generator=generator)
        noise = torch.randn(n, self.means.shape[1], generator=generator, dtype=torch.float64)
        codes = torch.empty_like(noise)
        for c in range(len(self.means)):
            own = component == c
            codes[own] = self.means[c] + noise[own] @ self.roots[c].T
        return codes

    def _white(self, codes: Tensor) -> Tensor:
        """(u − μ_c) W_c, (B, C, U)."""
        parts, size, _ = self.whiten.shape
        offset = torch.einsum("cu,cuv->cv", self.means, self.whiten)
        # One product of matrices for all components.
        flat = codes @ self.whiten.transpose(0, 1).reshape(size, parts * size)
        return flat.reshape(-1, parts, size) - offset

    def _joint(self, white: Tensor) -> Tensor:
        """ln π_c N(u; μ_c, Σ_c), (B, C)."""
        log_det = self.whiten.diagonal(dim1=1, dim2=2).log().sum(1)
        constant = self.log_weights + log_det - 0.5 * white.shape[2] * math.log(2 * math.pi)
        return constant - 0.5 * white.square().sum(2)

"""``ClusterPrior``, a mixture of Gaussians with full covariances as the prior of the factors, for ``LatentClustering``."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyro.distributions as dist
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import softplus

from pyro_lfm.factors import Prior
from pyro_lfm.sources.floors import raw_scale

# The smallest standard deviation of a cluster along an axis of its own, where the factors spread by about 1.
LEAST_SCALE = 0.05


class ClusterPrior(Prior):
    """p(z) = Σ_c π_c N(z; μ_c, L_c L_cᵀ), whose parameters are learned.

    Args:
        dim: K.
        logits: ln π up to a constant, (C,), at the start. loc: μ, (C, K). scale_tril: L, (C, K, K), lower triangular.

    >>> prior = ClusterPrior(2, torch.zeros(3), torch.zeros(3, 2), torch.eye(2).expand(3, 2, 2))
    >>> prior.build("z", [])().event_shape
    torch.Size([2])
    """

    def __init__(self, dim: int, logits: Tensor, loc: Tensor, scale_tril: Tensor):
        super().__init__(dim)
        self.logits, self.loc = nn.Parameter(logits.clone()), nn.Parameter(loc.clone())
        self.below = nn.Parameter(scale_tril.tril(-1).clone())
        diagonal = scale_tril.diagonal(dim1=-2, dim2=-1).clamp_min(1.01 * LEAST_SCALE)
        self.raw = nn.Parameter(raw_scale(diagonal, torch.tensor(LEAST_SCALE, dtype=diagonal.dtype)))

    def clusters(self) -> Any:
        """The Gaussians of the clusters, batch shape (C,)."""
        diagonal = torch.diag_embed(LEAST_SCALE + softplus(self.raw))
        return dist.MultivariateNormal(self.loc, scale_tril=self.below.tril(-1) + diagonal)

    def forward(self) -> Any:
        return dist.MixtureSameFamily(dist.Categorical(logits=self.logits), self.clusters())

    def probabilities(self, z: Tensor) -> Tensor:
        """p(c | z) of points (..., K): (..., C)."""
        log_prob = self.clusters().log_prob(z.unsqueeze(-2))
        return (self.logits.log_softmax(-1) + log_prob).softmax(-1)

    def shares(self) -> NDArray[Any]:
        """π, (C,)."""
        return self.logits.detach().softmax(-1).numpy().copy()

    def put_in_order(self, order: NDArray[np.int64]) -> None:
        """Numbers the clusters anew: cluster ``order[k]`` becomes cluster k."""
        with torch.no_grad():
            for parameter in (self.logits, self.loc, self.below, self.raw):
                parameter.copy_(parameter[torch.from_numpy(order.copy())].clone())

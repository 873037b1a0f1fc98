"""One estimate of a bound: what every objective returns."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch


@dataclass(frozen=True)
class Bound:
    """One estimate of the bound over a batch, in nats.

    Attributes:
        objective: the value to be maximised, per row: a scalar with gradients. Weights, free bits and penalties are in it.
        per_row: the bound of each row, (B,), without weights and penalties.
        reconstruction: E_q[log p(x | z)] of each row, (B,).
        kl: KL(q ‖ p) of each row, (B,), for every latent. The ELBO is reconstruction − Σ kl. A bound made of importance
            weights lies above that difference.
        total: the number of rows N that the batch stands for, or the sum of their weights.
        penalties: each penalty before its weight, a scalar.

    >>> import torch
    >>> import pyro_lfm as lfm
    >>> model = lfm.Model(z=lfm.StandardNormal(2), x=lfm.Gaussian(5, mean=lfm.MLP(8)))
    >>> guide = lfm.Guide(model, z=lfm.Gaussian(network=lfm.MLP(8)))
    >>> bound = lfm.ELBO().bound(model, guide, torch.zeros(3, 5))
    >>> torch.allclose(bound.per_row, bound.reconstruction - bound.kl["z"])
    True
    """

    objective: torch.Tensor
    per_row: torch.Tensor
    reconstruction: torch.Tensor
    kl: dict[str, torch.Tensor]
    total: float
    penalties: dict[str, torch.Tensor] = field(default_factory=dict)

"""The maximum mean discrepancy between the aggregate of the guide and the prior, as a penalty."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import cast

import torch
from pyro import poutine
from torch import Tensor

from pyro_lfm.objectives.objective import Weight
from pyro_lfm.objectives.penalty import Penalty
from pyro_lfm.objectives.run import Run
from pyro_lfm.shapes import number


class MaximumMeanDiscrepancy(Penalty):
    """MMD² = E[k(z, z′)] + E[k(y, y′)] − 2 E[k(z, y)], z of the aggregate q(z) = 1/N Σₙ q(z | xₙ), y of the prior p(z).

    The kernel is k(a, b) = exp(−‖a − b‖² / (2h²)). The means are over pairs of different rows, so that the estimate is
    unbiased, and may be negative. It takes one more run of the model, for draws from the prior. With
    ELBO(kl_weight=1 − α) and λ = α + λ′ − 1 it is the InfoVAE of that α and λ′.

    Args:
        weight: λ ≥ 0, or a schedule. The discrepancy is at most 2, so that useful weights are large, such as N/100.
        latents: see ``Penalty``. Each is penalised by itself.
        bandwidth: h > 0, in the units of z. By default it is √K, with K the number of entries.

    Raises:
        DeclarationError: an argument out of its range.

    Use it so that the aggregate of the posteriors is near the prior, where the KL of each row is to weigh little.

    Limits: the kernel sees little in many dimensions.

    Source: Zhao, Song and Ermon (2019), equation 6; Gretton et al. (2012), equation 3.

    >>> import pyro_lfm as lfm
    >>> model = lfm.Model(z=lfm.StandardNormal(2), x=lfm.Gaussian(5, mean=lfm.MLP(8)))
    >>> guide = lfm.Guide(model, z=lfm.Gaussian(network=lfm.MLP(8)))
    >>> objective = lfm.Penalised(lfm.ELBO(kl_weight=0.0), lfm.MaximumMeanDiscrepancy(weight=10.0))
    >>> bool(objective.bound(model, guide, model.sample(4)["x"]).objective.isfinite())
    True
    """

    formula = "MMD^2(q({z}), p({z}))"

    def __init__(
        self,
        weight: Weight = 1.0,
        latents: str | Sequence[str] | None = None,
        bandwidth: float | None = None,
    ):
        super().__init__(weight, latents)
        self.bandwidth = None if bandwidth is None else number("bandwidth", bandwidth, least=0.0, above=True)

    def of(self, run: Run, names: Sequence[str]) -> Tensor:
        with run.draws(), poutine.block():
            fresh = poutine.trace(run.model).get_trace(*run.args, **run.kwargs)
        return torch.stack(
            [self._of_one(run, name, cast(Tensor, fresh.nodes[name]["value"])) for name in names]
        ).sum()

    def _of_one(self, run: Run, name: str, prior: Tensor) -> Tensor:
        event = run.q[name]["fn"].event_dim
        rows = run.layout.size
        z, y = (_points(value, event) for value in (run.q[name]["value"], prior))
        bandwidth = math.sqrt(z.shape[-1]) if self.bandwidth is None else self.bandwidth

        def between(a: Tensor, b: Tensor) -> Tensor:
            """The mean of the kernel over pairs of different rows."""
            square = (a.unsqueeze(-2) - b.unsqueeze(-3)).square().sum(-1)
            kernel = (square / (-2 * bandwidth**2)).exp()
            different = 1 - torch.eye(rows, dtype=kernel.dtype, device=kernel.device)
            # A batch of a single row has no pairs, and no discrepancy.
            return (kernel * different).sum((-1, -2)).mean() / max(1, rows * (rows - 1))

        return between(z, z) + between(y, y) - 2 * between(z, y)


def _points(value: Tensor, event: int) -> Tensor:
    """(..., rows, entries)."""
    return value.flatten(value.dim() - event) if event else value.unsqueeze(-1)

"""A penalty that teaches the guide the labels that are known."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from pyro_lfm.distributions.partially_observed import PartiallyObserved
from pyro_lfm.errors import DeclarationError
from pyro_lfm.objectives.objective import Weight
from pyro_lfm.objectives.penalty import Penalty
from pyro_lfm.objectives.run import Run


class Supervised(Penalty):
    """−1/B Σ_{b: y_b known} log q(y_b | x_b), in nats: it teaches the guide a latent that is known in some rows.

    Where y is known q is a point, and the bound gives the guide no gradient. In Kingma's M2 the weight is λ = 0.1 N.

    Args:
        weight: λ ≥ 0, or a schedule.
        latents: the latents with known values, by default all that the data hold.

    Raises:
        DeclarationError: the data do not hold such a latent.

    Use it where a label is known in some rows, and q(y | x) is to serve as the classifier.

    Limits: the weight is chosen on labelled rows that were held out.

    Source: Kingma, Rezende, Mohamed and Welling (2014), "Semi-supervised learning with deep generative models",
    equation 9.

    >>> import pyro_lfm as lfm
    >>> model = lfm.Model(
    ...     y=lfm.Categorical(3),
    ...     z=lfm.StandardNormal(2),
    ...     x=lfm.Bernoulli(5, logits=lfm.MLP(8), given=("y", "z")),
    ... )
    >>> q_of_z = lfm.Gaussian(network=lfm.MLP(8), given=("x", "y"))
    >>> guide = lfm.Guide(model, y=lfm.Categorical(logits=lfm.MLP(8), given="x"), z=q_of_z)
    >>> data = {"x": torch.zeros(4, 5), "y": torch.tensor([0.0, 2.0, torch.nan, torch.nan])}
    >>> bound = lfm.Penalised(lfm.ELBO(), lfm.Supervised(weight=10.0)).bound(model, guide, data)
    >>> bool(bound.penalties["Supervised"] > 0)
    True
    """

    takes_weights = True
    formula = "mean over rows of -log q({z}), where {z} is known"

    def __init__(self, weight: Weight = 1.0, latents: str | Sequence[str] | None = None):
        super().__init__(weight, latents)

    def names(self, run: Run) -> list[str]:
        known = [name for name, site in run.q.items() if isinstance(site["fn"], PartiallyObserved)]
        for name in known if self.latents is None else self.latents:
            if name not in known:
                raise DeclarationError(
                    f"Supervised: latents must be of those that the data hold, {', '.join(known) or 'none'}; got {name!r}"
                )
        if not known:
            raise DeclarationError(
                "Supervised needs known values of a latent: give them with the data, NaN where they are not known"
            )
        return list(known if self.latents is None else self.latents)

    def of(self, run: Run, names: Sequence[str]) -> Tensor:
        return torch.stack([self._of_one(run.q[name]["fn"], run.layout.row_weights) for name in names]).sum()

    @staticmethod
    def _of_one(pinned: PartiallyObserved, weights: Tensor | float) -> Tensor:
        log_q = pinned.distribution.log_prob(pinned.value)
        # If q reads other latents, it has a distribution for each of their draws: the mean is over draws too.
        return -(weights * torch.where(pinned.known, log_q, torch.zeros_like(log_q))).mean()

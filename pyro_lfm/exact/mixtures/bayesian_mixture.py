"""Variational Bayes for mixtures: posteriors of the weights and of the components, and the bound with all constants."""

from __future__ import annotations

from collections.abc import Iterable, Set
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from pyro_lfm.errors import DeclarationError, ShapeError
from pyro_lfm.exact.mixtures.ascent import (
    Iteration,
    LatentClasses,
    Statistics,
    Summary,
    ascend,
    pieces,
    posterior,
)
from pyro_lfm.exact.mixtures.conjugate_components import ConjugateComponents, positive
from pyro_lfm.exact.mixtures.conjugate_probabilities import dirichlet_divergence
from pyro_lfm.exact.mixtures.mixture import Mixture


@dataclass(frozen=True, eq=False)
class BayesianMixture(LatentClasses):
    """π ~ Dir(α₀), η_c ~ p(η), c ~ π, x ~ p(x | η_c), with the posterior q(π) Π_c q(η_c) Π_n q(c_n).

    Args:
        concentration: α (C,) of q(π) = Dir(α).
        components: q(η): ``NormalGammas``, ``NormalWisharts`` or ``Betas`` of C components.
        prior_concentration: α₀ > 0, (C,) or broadcastable to it; below 1 it favours few classes.
        prior: p(η), of the same kind as ``components``, with one component for all or with C.

    Source: Attias (1999); Bishop (2006), section 10.2.
    """

    concentration: Tensor
    components: ConjugateComponents
    prior_concentration: Tensor
    prior: ConjugateComponents

    def __post_init__(self) -> None:
        classes = self.components.size[0]
        if type(self.prior) is not type(self.components):
            raise DeclarationError(
                f"prior must be of the kind of its components, {type(self.components).__name__}; "
                f"got {type(self.prior).__name__}"
            )
        for name in ("concentration", "prior_concentration"):
            object.__setattr__(self, name, positive(name, getattr(self, name), torch.empty(classes)))

    @property
    def size(self) -> tuple[int, int]:
        return self.components.size

    def point(self) -> Mixture:
        """The mixture with the expected parameters."""
        return Mixture(self.concentration, self.components.point())

    def responsibilities(self, x: Tensor) -> Tensor:
        """q(c) of each row of x (N, D), new rows included: (N, C)."""
        return torch.cat([posterior(part, self.log_joint(part)) for part in pieces([x], *self.size)])

    def log_joint(self, x: Tensor) -> Tensor:
        return self.log_weights + self.components.log_density(x)

    @property
    def log_weights(self) -> Tensor:
        """E[ln π], (C,)."""
        return torch.digamma(self.concentration) - torch.digamma(self.concentration.sum())

    def statistics(self, x: Tensor, responsibilities: Tensor) -> Statistics:
        return (responsibilities.sum(0), *self.components.statistics(x, responsibilities))

    def half_steps(self, x: Tensor) -> tuple[Tensor, Summary]:
        log_density, summary = self.components.half_steps(x)
        weights = self.log_weights

        def statistics(responsibilities: Tensor) -> Statistics:
            return (responsibilities.sum(0), *summary(responsibilities))

        return weights + log_density, statistics

    def updated(self, statistics: Statistics, fixed: Set[str]) -> BayesianMixture:
        components = self.components.posterior(statistics[1:], self.prior)
        return replace(self, concentration=self.prior_concentration + statistics[0], components=components)

    def expected_log_joint(self, statistics: Statistics, at: LatentClasses) -> Tensor:
        assert isinstance(at, BayesianMixture)  # for the type checker: both are iterates of one ascent
        of_class = (statistics[0] * at.log_weights).sum()
        return of_class + self.components.expected_log_density(statistics[1:], at.components)

    def penalty(self) -> Tensor:
        """KL(q(π) ‖ p(π)) + Σ_c KL(q(η_c) ‖ p(η)), in nats."""
        of_weights = dirichlet_divergence(self.concentration, self.prior_concentration)
        return of_weights + self.components.divergence(self.prior)

    def at_floor(self) -> int:
        return 0


def fit_bayesian_mixture(
    rows: Iterable[Tensor],
    start: Mixture,
    prior: ConjugateComponents,
    *,
    concentration: Tensor | float = 1.0,
    iterations: int = 1000,
    tolerance: float = 1e-9,
    strength: float = 10.0,
) -> tuple[BayesianMixture, list[Iteration]]:
    """Variational Bayes by coordinate ascent: the best q(c), then the best q(π) and q(η).

    At the best q(c) the bound is L(q) = Σ_n ln Σ_c exp(E[ln π_c] + E[ln p(x_n | η_c)]) − KL(q(π) ‖ p(π)) −
    Σ_c KL(q(η_c) ‖ p(η)), all constants included. It never falls and lies below ln p(all rows). The history has it per row.

    Args:
        rows: blocks x (B, D), NaN = missing, iterated over once per iteration, such as a list of tensors.
        start: the centre of the first q: a mixture of the components that the prior is for, each with its own covariance.
        prior: p(η), ``NormalGammas``, ``NormalWisharts`` or ``Betas``, with one component for all or with C.
        concentration: α₀ of the weights, (C,) or a number.
        iterations: the most updates of q(π) q(η).
        tolerance: the run ends when an iteration gains less, in nats per row.
        strength: the first q is as narrow around ``start`` as after so many rows per class.

    Returns:
        The posterior and its prior, and the history: the start and each iteration.

    Raises:
        DeclarationError: a parameter out of range. DataError, ShapeError: see ``ascend``.

    >>> from pyro_lfm.exact.mixtures.conjugate_components import NormalGammas
    >>> from pyro_lfm.exact.mixtures.gaussians import DiagonalGaussians
    >>> start = Mixture(torch.ones(1), DiagonalGaussians(torch.zeros(1, 1), torch.ones(1, 1)))
    >>> prior = NormalGammas(torch.zeros(1, 1), *torch.ones(3))
    >>> fitted, history = fit_bayesian_mixture([torch.tensor([[1.0], [3.0]])], start, prior)
    >>> round(float(fitted.components.means), 4), float(fitted.components.counts), fitted.concentration.tolist()
    (1.3333, 3.0, [3.0])
    """
    classes = start.size[0]
    if prior.size[0] not in (1, classes) or prior.size[1] != start.size[1]:
        raise ShapeError(f"prior must be of size {(1, start.size[1])} or {start.size}; got {prior.size}")
    prior_concentration = positive("concentration", torch.as_tensor(concentration), start.weights)
    q = BayesianMixture(
        prior_concentration + strength * classes * start.weights,
        prior.centred_on(start.components, strength),
        prior_concentration,
        prior,
    )
    return ascend(rows, q, iterations=iterations, tolerance=tolerance, points=False)

"""Penalties on the aggregate of the guide, taken off any bound."""

from __future__ import annotations

import copy
import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

import torch
from pyro import poutine
from torch import Tensor
from torch.distributions import Independent, Normal
from torch.distributions.transforms import IndependentTransform

from pyro_lfm.distributions.kl import gaussian_moments
from pyro_lfm.distributions.pushforward import Pushforward
from pyro_lfm.errors import DeclarationError
from pyro_lfm.objectives.bound import Bound
from pyro_lfm.objectives.enumeration import Plan
from pyro_lfm.objectives.objective import Names, Objective, Weight, as_weight
from pyro_lfm.objectives.run import Run, distribution_name
from pyro_lfm.objectives.wake_sleep import ReweightedWakeSleep
from pyro_lfm.shapes import number


class Penalty(ABC):
    """A number that is to be small, from one run of guide and model: a class of its own writes ``of`` and ``formula``.

    Args:
        weight: λ ≥ 0, or a schedule: a function of the fraction of the training done.
        latents: the latents of a row whose penalties are added up; by default all that are continuous.
    """

    formula: str  # with {z} for the latent

    def __init__(self, weight: Weight, latents: str | Sequence[str] | None):
        self.weight = as_weight("weight", weight)
        self.latents = (latents,) if isinstance(latents, str) else None if latents is None else tuple(latents)

    @abstractmethod
    def of(self, run: Run, names: Sequence[str]) -> Tensor:
        """The penalty, its gradients attached: a scalar, the sum over the named latents."""

    def names(self, run: Run) -> list[str]:
        """The latents that it is for. Raises DeclarationError for one that it cannot serve."""
        kind = type(self).__name__
        able = [name for name in run.drawn if not run.q[name]["fn"].support.is_discrete]
        for name in self.latents or ():
            if name not in able:
                raise DeclarationError(
                    f"{kind}: latents must be of {', '.join(able) or 'no latent of this model'}, continuous and of a row; "
                    f"got {name!r}"
                )
        names = list(able if self.latents is None else self.latents)
        if not names:
            raise DeclarationError(f"{kind}: no latent of a row is continuous: there is nothing to penalise")
        for other in (*run.scored, *run.layout.values):
            known = getattr(run.guide, "latent_descendants", lambda _: None)(other)
            order = list(run.q)
            later = set(order[order.index(other) + 1 :]) if known is None else known
            if hit := sorted({other, *later} & set(names)):
                raise DeclarationError(
                    f"{kind} takes gradients through draws: the guide may draw {', '.join(hit)} knowing {other}, which "
                    f"has no reparametrization; name others in latents="
                )
        return names

    def __repr__(self) -> str:
        return f"{type(self).__name__}(weight={self.weight!r}, latents={self.latents!r})"


class TotalCorrelation(Penalty):
    """TC = KL(q(z) ‖ ∏ₖ q(zₖ)) of the aggregate q(z) = 1/N Σₙ q(z | xₙ), in nats: factors that do not depend on each other.

    By minibatch-weighted sampling: of rows i, j in a batch of B of N rows, zᵢ ~ q(z | xᵢ),
    1/B Σᵢ [log 1/(NB) Σⱼ q(zᵢ | xⱼ) − Σₖ log 1/(NB) Σⱼ q(zᵢₖ | xⱼ)]. Its level depends on N and B (K − 1 constants
    log NB stand in it) and it is biased: a term to train with, no measure of independence. ELBO − (β − 1) TC is the bound
    of the β-TCVAE.

    Args:
        weight: λ ≥ 0, or a schedule.
        latents: see ``Penalty``; each is penalised for itself. Each needs the distribution of every entry given a row: a Gaussian
            with any covariance, or independent entries, either of them carried onto a support entry by entry.

    Raises:
        DeclarationError: a latent of another kind, at its first use.

    Source: Chen, Li, Grosse and Duvenaud (2018), equations 4 and 5.

    >>> from pyro_lfm import ELBO, Gaussian, Guide, MLP, Model, StandardNormal
    >>> model = Model(z=StandardNormal(2), x=Gaussian(5, mean=MLP(8)))
    >>> guide = Guide(model, z=Gaussian(network=MLP(8)))
    >>> bound = Penalised(ELBO(), TotalCorrelation(weight=5.0)).bound(model, guide, model.sample(4)["x"])
    >>> bool(bound.penalties["TotalCorrelation"].isfinite())
    True
    """

    formula = "KL(q({z}) || prod_k q({z}_k))"

    def __init__(self, weight: Weight = 1.0, latents: str | Sequence[str] | None = None):
        super().__init__(weight, latents)

    def of(self, run: Run, names: Sequence[str]) -> Tensor:
        return torch.stack([self._of_one(run, name) for name in names]).sum()

    @staticmethod
    def _of_one(run: Run, name: str) -> Tensor:
        site = run.q[name]
        distribution, value = _before_bending(site["fn"], site["value"])
        event = distribution.event_dim
        # Row i in front, where rows j stand one value for all of them: log q(zᵢ | xⱼ), (rows i, ..., rows j).
        across = value.movedim(-1 - event, 0).unsqueeze(-1 - event)
        log_count = math.log(run.rows.size * run.rows.total)
        joint = distribution.log_prob(across).logsumexp(-1) - log_count
        each = _entries(distribution, across, name).logsumexp(-2) - log_count
        return joint.mean() - each.sum(-1).mean()


def _before_bending(distribution: Any, value: Tensor) -> tuple[Any, Tensor]:
    """A distribution and its draws before they were carried onto a support entry by entry, which leaves the penalty as it is."""
    while isinstance(distribution, Pushforward) and all(map(_entrywise, distribution.transforms)):
        for transform in reversed(distribution.transforms):
            value = transform.inv(value)
        distribution = distribution.base_dist
    return distribution, value


def _entrywise(transform: Any) -> bool:
    while isinstance(transform, IndependentTransform):
        transform = transform.base_transform
    return transform.domain.event_dim == 0 and transform.codomain.event_dim == 0


def _entries(distribution: Any, value: Tensor, name: str) -> Tensor:
    """log q of each entry, (..., rows, entries)."""
    flat = (
        value.flatten(value.dim() - distribution.event_dim) if distribution.event_dim else value.unsqueeze(-1)
    )
    if (moments := gaussian_moments(distribution)) is not None:
        scale: Any = moments.scale if moments.tril is None else moments.tril.square().sum(-1).sqrt()
        return Normal(moments.loc, scale, validate_args=False).log_prob(flat)
    base = distribution
    while isinstance(base, Independent):
        base = base.base_dist
    if base.event_shape:
        raise DeclarationError(
            f"TotalCorrelation needs the distribution of each entry given a row, of a Gaussian or of independent entries; "
            f"{name} is {distribution_name(distribution)}: name other latents in latents="
        )
    found = base.log_prob(value)
    return (
        found.flatten(found.dim() - distribution.event_dim) if distribution.event_dim else found.unsqueeze(-1)
    )


class MaximumMeanDiscrepancy(Penalty):
    """MMD² = E[k(z, z′)] + E[k(y, y′)] − 2 E[k(z, y)], z of the aggregate q(z) = 1/N Σₙ q(z | xₙ), y of the prior p(z).

    The kernel is k(a, b) = exp(−‖a − b‖² / (2h²)). The means are over pairs of different rows, which makes the estimate
    unbiased, and may make it negative. It needs one more run of the model, for draws of the prior. With
    ELBO(kl_weight=1 − α) and λ = α + λ′ − 1 it is the InfoVAE of that α and λ′.

    Args:
        weight: λ ≥ 0, or a schedule; the discrepancy is at most 2, so that weights are large, such as N/100.
        latents: see ``Penalty``; each is penalised for itself.
        bandwidth: h > 0, in the units of z; √K by default, K the number of entries.

    Raises:
        DeclarationError: an argument out of its range.

    Source: Zhao, Song and Ermon (2019), equation 6; Gretton et al. (2012), equation 3.

    >>> from pyro_lfm import ELBO, Gaussian, Guide, MLP, Model, StandardNormal
    >>> model = Model(z=StandardNormal(2), x=Gaussian(5, mean=MLP(8)))
    >>> guide = Guide(model, z=Gaussian(network=MLP(8)))
    >>> objective = Penalised(ELBO(kl_weight=0.0), MaximumMeanDiscrepancy(weight=10.0))
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
            fresh: Any = poutine.trace(run.model).get_trace(*run.args, **run.kwargs)
        return torch.stack([self._of_one(run, name, fresh.nodes[name]["value"]) for name in names]).sum()

    def _of_one(self, run: Run, name: str, prior: Tensor) -> Tensor:
        event = run.q[name]["fn"].event_dim
        rows = run.rows.size
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


class Penalised(Objective):
    """A bound less weighted penalties, per row, in nats: L − Σ λ · penalty.

    It is below the bound where the penalties are not negative, and is a term to train with rather than a bound to
    report: in the history, bound, reconstruction and kl are those of the bound itself, without penalties;
    ``bound(...).penalties`` has these, before their weights.

    Args:
        objective: the bound: ``ELBO``, ``ImportanceWeightedELBO`` or ``RenyiELBO``.
        penalties: ``TotalCorrelation``, ``MaximumMeanDiscrepancy``, or a ``Penalty`` of your own.

    Raises:
        DeclarationError: another kind of objective, none or something else for a penalty.

    >>> from pyro_lfm import ELBO
    >>> Penalised(ELBO(), TotalCorrelation(weight=lambda fraction: 4 * fraction)).at(0.5).weights
    {'kl_weight': 1.0, 'TotalCorrelation.weight': 2.0}
    """

    def __init__(self, objective: Objective, *penalties: Penalty):
        if not isinstance(objective, Objective) or isinstance(objective, ReweightedWakeSleep | Penalised):
            raise DeclarationError(
                "Penalised takes lfm.ELBO(), lfm.ImportanceWeightedELBO() or lfm.RenyiELBO(), whose draws have "
                f"gradients, and all penalties at once; got {objective!r}"
            )
        if not penalties or not all(isinstance(penalty, Penalty) for penalty in penalties):
            raise DeclarationError(
                f"penalties must be such as lfm.TotalCorrelation(weight=5.0); got {penalties!r}"
            )
        super().__init__(objective.particles, objective.enumerate)
        self.objective = objective
        kinds = [type(penalty).__name__ for penalty in penalties]
        self.penalties = {
            kind if kinds.count(kind) == 1 else f"{kind}{kinds[: k + 1].count(kind)}": penalty
            for k, (kind, penalty) in enumerate(zip(kinds, penalties, strict=True))
        }
        self._weights: dict[str, Any] = {f"{n}.weight": p.weight for n, p in self.penalties.items()}

    @property
    def weights(self) -> dict[str, Weight]:
        return {**self.objective.weights, **self._weights}

    def weighted(self, weights: dict[str, Any]) -> Penalised:
        now: Any = super().weighted({})
        now._weights = {name: weights.get(name, value) for name, value in self._weights.items()}
        now.objective = self.objective.weighted({n: w for n, w in weights.items() if n not in self._weights})
        return now

    def at_end(self) -> Penalised:
        now: Any = super().at_end()
        now.penalties = {name: copy.copy(penalty) for name, penalty in self.penalties.items()}
        for name, penalty in now.penalties.items():
            penalty.weight = now._weights[f"{name}.weight"]
        return now

    def enumerating(self, how: Literal["auto", "never"]) -> Penalised:
        now: Any = super().enumerating(how)
        now.objective = self.objective.enumerating(how)
        return now

    @property
    def weighs_draws(self) -> bool:  # type: ignore[override]
        return self.objective.weighs_draws

    @property
    def leads_guide(self) -> bool:
        return self.objective.leads_guide

    def plan(self, model: Any, guide: Any, args: Any, kwargs: Any) -> Plan:
        return self.objective.plan(model, guide, args, kwargs)

    def run(self, model: Any, guide: Any, args: Any, kwargs: Any) -> Run:
        return self.objective.run(model, guide, args, kwargs)

    def estimate(self, run: Run) -> Bound:
        bound = self.objective.estimate(run)
        objective, found = bound.objective, {}
        for name, penalty in self.penalties.items():
            value = penalty.of(run, penalty.names(run))
            objective = objective - self._weights[f"{name}.weight"] * value
            found[name] = value.detach()
        return replace(bound, objective=objective, penalties=found)

    def describe(self, names: Names, run: Run) -> list[str]:
        lines = self.objective.describe(names, run)
        found = ["objective (no bound on log p): the following, less the penalties"]
        found += [f"  {line}" for line in lines]
        for name, penalty in self.penalties.items():
            weight = self._weights[f"{name}.weight"]
            factor = "lambda(t)" if callable(weight) else f"{weight:g}"
            terms = " + ".join(penalty.formula.format(z=z) for z in penalty.names(run))
            found.append(f"  - {factor} [{terms}]: Monte Carlo over the batch")
        return found

    def __repr__(self) -> str:
        parts = ", ".join(repr(part) for part in (self.objective, *self.penalties.values()))
        return f"Penalised({parts})"

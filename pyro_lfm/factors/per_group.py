"""The factor of a latent that all rows of a group share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.distributions import Distribution

from pyro_lfm.distributions.interface import independent, support_of
from pyro_lfm.distributions.unmodelled import Known
from pyro_lfm.errors import DeclarationError
from pyro_lfm.factors.conditional import Conditional, Deterministic
from pyro_lfm.factors.factor import Factor
from pyro_lfm.factors.prior import Prior
from pyro_lfm.factors.variables import Variable
from pyro_lfm.sources.drawn import Drawn
from pyro_lfm.sources.lookup import LookupTable


@dataclass(frozen=True, eq=False)
class OfEachGroup:
    """The joint prior of all groups: independent, with the same distribution for each."""

    prior: Conditional
    groups: int

    def distribution(self, like: Tensor, unit: Tensor | float = 1.0) -> Distribution:
        return independent(self.prior().expand((self.groups,)), 1)

    def __repr__(self) -> str:
        return f"{self.prior.describe()} for each of {self.groups} groups"


class PerGroup(Prior):
    """g_j ~ prior, j = 1 .. G, drawn once for each group. A row has the value of its own group.

    The values of all groups are one latent of the model, ``g.groups`` of shape ``(G, *event)``, outside the plate over rows.
    It counts once for the whole data. Factors read ``g`` like a latent of the row. Learned parameters of the prior, such as
    its variance, describe the population of groups (empirical Bayes), and small groups are shrunk towards it. By default the
    guide has separate parameters for each group. This is the form of the exact posterior if rows of different groups share
    only θ. To use another factor see ``Guide``.

    Args:
        prior: a factor without parents over continuous values, such as ``StandardNormal(2)``.
        given: the group of each row, a ``Covariate(support=constraints.integer_interval(0, G - 1))``.

    Raises:
        DeclarationError: the prior is no factor, is discrete, or has parameters with priors, or ``given`` is not
            categorical.

    Use it for sites, schools, batches or persons whose own effects are latent.

    Limits: at least a few rows for each group, and groups that are known.

    Source: Gelman and Hill (2006), chapter 12.

    >>> from torch.distributions import constraints
    >>> import pyro_lfm as lfm
    >>> model = lfm.Model(
    ...     site=lfm.Covariate(support=constraints.integer_interval(0, 4)),
    ...     g=lfm.PerGroup(lfm.StandardNormal(2), given="site"),
    ...     z=lfm.StandardNormal(3),
    ...     x=lfm.Gaussian(6, mean=lfm.Linear(), given=("g", "z")),
    ... )
    >>> {name: tuple(latent.shape) for name, latent in model.latents.items()}
    {'g.groups': (5, 2), 'z': (3,)}
    """

    def __init__(self, prior: Factor, *, given: str | Sequence[str] | None = None):
        if not isinstance(prior, Factor) or prior.reads or prior.given:
            raise DeclarationError(
                f"prior of PerGroup must be a factor without parents, such as lfm.StandardNormal(2); got {prior!r}"
            )
        super().__init__(tuple(prior.shape) if prior.shape else None, given=given)
        if self.given is None or len(self.given) != 1:
            raise DeclarationError(f'PerGroup needs the group of each row: given="site"; got {given!r}')
        self.prior = prior

    def build(self, name: str, parents: Sequence[Variable]) -> GroupOfRow:
        return GroupOfRow(self, name, parents)

    def describe(self) -> str:
        return f"PerGroup({self.prior.describe()})"


class GroupOfRow(Deterministic):
    """The value of each row's group, looked up in the values of all groups, ``groups``, a parameter with a prior."""

    declaration: PerGroup

    def __init__(self, declaration: PerGroup, name: str, parents: Sequence[Variable]):
        super().__init__(declaration, name, parents)
        (site,) = parents
        if site.categories is None:
            raise DeclarationError(
                f"{name}: {site.name} must be the number of a group: declare {site.name}=lfm.Covariate("
                "support=constraints.integer_interval(0, G - 1))"
            )
        self.prior = declaration.prior.build(name, [])
        if self.prior.drawn or self.prior.tables:
            raise DeclarationError(f"{name}: a prior of groups cannot have priors of its own, nor rows")
        with torch.no_grad():
            distribution = self.prior()
            start = distribution.sample((site.categories,))
        if support_of(distribution).is_discrete:
            raise DeclarationError(f"{name}: groups have continuous values; got {self.prior.describe()}")
        groups = Drawn("groups", start, OfEachGroup(self.prior, site.categories).distribution)
        self.table = LookupTable(groups, False, 0)
        self.complete()

    def forward(self, site: Tensor) -> Known:
        value = self.table(self.context([site]))
        return Known(value, support_of(self.prior()), len(self.shape))

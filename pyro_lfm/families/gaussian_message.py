"""The family of guides that multiply the prior by a message: q(z | x, ·) ∝ p(z | ·) × a Gaussian in z."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Self

import torch
from torch import Tensor
from torch.distributions import Distribution

from pyro_lfm.distributions.product import product
from pyro_lfm.errors import DeclarationError
from pyro_lfm.factors import Conditional, Seen
from pyro_lfm.factors.conditional import PyroProgram
from pyro_lfm.factors.from_sources import FromSources
from pyro_lfm.factors.prior_of_latent import ModelOfPriors, PriorOfLatent
from pyro_lfm.factors.variables import Variable
from pyro_lfm.factors.views import view
from pyro_lfm.families.gaussian import Gaussian
from pyro_lfm.probes import probing
from pyro_lfm.sources.applied import floating
from pyro_lfm.sources.covariances import Covariance, Diagonal, Isotropic
from pyro_lfm.sources.source import SourceLike


class GaussianMessage(Gaussian):
    """q(z | x, ·) ∝ p(z | ·) N(z; m(x), diag s²(x)): the model's prior of z, times a message from the row.

    It is meant for a latent whose prior reads other latents or covariates, as in a ``GaussianProcess``, grouped rows or
    layers. The guide contains the prior and draws z given the prior's parents. Only the message, m and s, is learned. In a
    row whose variables are all missing there is no message, and q is the prior, so that such rows are predicted from the
    others. If x is Gaussian with a linear mean in one z, the exact posterior has this form.

    Guide and model share the parameters of the prior, which are trained as those of the model.

    Args:
        event: left out. It follows from the model.
        mean: source of m.
        covariance: ``Diagonal`` (default) or ``Isotropic``, holding the source of s².
        given: the parents of the message, by default every observed variable.
        network: see ``Factor``.

    Raises:
        DeclarationError: another covariance, or, when the guide is declared, a prior that is not a Gaussian with
            independent entries.

    Use it for latents of a ``GaussianProcess``, of layers, or of rows in groups. Rows without data are then predicted
    from the others.

    KL: closed form, given the parents of the prior.

    Limits: the prior must be Gaussian with independent entries, and so is q.

    Source: Johnson et al. (2016), "Composing graphical models with neural networks", section 4; Sønderby et al. (2016),
    "Ladder variational autoencoders", equations 17 to 19.

    >>> import torch
    >>> import pyro_lfm as lfm
    >>> times = torch.linspace(0.0, 1.0, 5)
    >>> z = lfm.GaussianProcess(2, inducing=times, given="t")
    >>> model = lfm.Model(t=lfm.Covariate(), z=z, x=lfm.Gaussian(3, mean=lfm.MLP(8), given="z"))
    >>> lfm.Guide(model, z=lfm.GaussianMessage(network=lfm.MLP(8), given="x")).wiring["z"]
    ('x', 't', 'z.inducing')
    """

    def __init__(
        self,
        event: int | Sequence[int] | None = None,
        mean: SourceLike = None,
        covariance: Covariance | None = None,
        *,
        given: str | Sequence[str] | None = None,
        network: SourceLike = None,
    ):
        if covariance is not None and not isinstance(covariance, Diagonal | Isotropic):
            raise DeclarationError(
                f"covariance of a GaussianMessage must be Diagonal or Isotropic; got {covariance!r}"
            )
        super().__init__(event, mean, covariance, given=given, network=network)

    def build(self, name: str, parents: Sequence[Variable]) -> Conditional:
        raise DeclarationError(
            f"{name}: {type(self).__name__} is for guides: it has no distribution of its own"
        )

    def build_in_guide(self, name: str, parents: Sequence[Variable], model: ModelOfPriors) -> Conditional:
        return PriorTimesMessage(self, name, parents, model)

    def describe(self) -> str:
        return f"prior × {super().describe()}"


class PriorTimesMessage(Conditional):
    """The distribution ∝ prior × message, with the model's own prior."""

    def __init__(
        self, declaration: GaussianMessage, name: str, parents: Sequence[Variable], model: ModelOfPriors
    ):
        self.message_parents = tuple(parent.name for parent in parents)
        prior = PriorOfLatent(model, name)
        variables = {parent.name: parent for parent in (*parents, *prior.variables(model))}
        super().__init__(declaration, name, list(variables.values()))
        self.message = FromSources(declaration, name, parents)
        self.prior = prior
        # A covariate is no evidence about the latent, because the model does not explain it.
        self.evidence = tuple(p for p in self.message_parents if p not in model.covariates)
        self.check_prior()

    def check_prior(self) -> None:
        """Raises DeclarationError if a message cannot multiply the prior, whose distribution is computed on zeros."""
        dtype = next((tensor.dtype for tensor in floating(self.prior)), torch.get_default_dtype())
        zeros = {
            name: torch.zeros(*(2,) * variable.per_row, *variable.shape, dtype=dtype)
            for name, variable in self._parents.items()
        }
        with probing(self):
            distribution = self.prior.distribution(zeros, torch.zeros(2, dtype=torch.long))
            try:
                product(distribution, distribution)
            except DeclarationError as error:
                raise DeclarationError(f"{self.variable}: {error}") from None

    def of_rows(self, seen: Mapping[str, Seen], index: Tensor) -> Distribution:
        message = self.message.at([seen[name].value for name in self.message_parents], index)
        masks = [seen[name].mask for name in self.evidence]
        gaps = [mask.flatten(1).any(1) for mask in masks if mask is not None]
        has_evidence = torch.stack(gaps).any(0) if gaps and len(gaps) == len(masks) else None
        prior = self.prior.distribution({name: value for name, (value, _) in seen.items()}, index)
        return product(prior, message, has_evidence)

    def forward(self, *parents: Tensor, index: Tensor | None = None) -> Distribution:
        """The product given the parents, without missing values."""
        values = dict(zip(self.parents, parents, strict=True))
        rows = index if index is not None else torch.zeros(2, dtype=torch.long)
        return self.of_rows({name: Seen(value) for name, value in values.items()}, rows)

    def bound_to(self, model: PyroProgram) -> Self:
        prior = self.prior.bound_to(model)
        return self if prior is self.prior else view(self, prior=prior)

    def own_part(self) -> FromSources:
        return self.message

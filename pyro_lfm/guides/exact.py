"""Guides in closed form, without parameters: the exact posterior of a model, and the best factorised approximation."""

from __future__ import annotations

from abc import abstractmethod

import pyro
import torch
from pyro.distributions.torch_distribution import TorchDistributionMixin as Distribution
from torch import Tensor

from pyro_lfm.closed_form import AnyLikelihoodForm, recognise
from pyro_lfm.data.batch import Batch
from pyro_lfm.errors import DeclarationError
from pyro_lfm.factors.views import view
from pyro_lfm.guides.any_guide import AnyGuide
from pyro_lfm.programs.model import AnyModel, as_model


def rows_of(batch: Batch, observed: str) -> Tensor:
    """The values of an observed factor (B, D), float64 on the CPU, NaN where missing."""
    value, mask = batch[observed], batch.mask(observed)
    if value is None:
        raise DeclarationError(f"the guide reads {observed}, which this batch does not hold")
    x: Tensor = value.detach().to(device="cpu", dtype=torch.float64)
    return (x if mask is None else x.masked_fill(~mask.cpu(), float("nan"))).flatten(1)


class _FromClosedForm(AnyGuide):
    """The base class of guides in closed form. It refers to the model but does not own its parameters."""

    _model: tuple[AnyModel]

    def __init__(self, model: AnyModel):
        super().__init__()
        self._refer_to(model)

    def _refer_to(self, model: AnyModel) -> None:
        # In a tuple, so that nn.Module does not register the parameters, which belong to the model.
        self._model = (as_model(model),)
        # Raises DeclarationError if the model has no such form.
        self.form  # noqa: B018

    @property
    @abstractmethod
    def form(self) -> AnyLikelihoodForm:
        """The closed form of the posterior, at the model's present parameters."""

    @property
    def model(self) -> AnyModel:
        """The model that the guide is computed from."""
        return self._model[0]

    def bound_to(self, model: AnyModel) -> AnyGuide:
        if not isinstance(model, AnyModel) or model is self.model:
            return self
        bound = view(self)
        bound._refer_to(model)
        return bound

    @property
    def dtype(self) -> torch.dtype:
        return self.model.dtype

    @property
    def device(self) -> torch.device:
        return self.model.device

    def latent_descendants(self, name: str) -> set[str] | None:
        return self.form.descendants[name]

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """The Pyro guide: one sample statement per latent, inside the plate over rows."""
        values: dict[str, Tensor] = {}
        with torch.no_grad():
            form = self.form
            distributions = form.distributions(rows_of(batch, form.observed))
        with batch.plate():
            for name, distribution in distributions.items():
                values[name] = pyro.sample(name, distribution(values))
        return values

    def known_marginals(self, batch: Batch) -> dict[str, Distribution]:
        form = self.form
        return form.marginals(rows_of(batch, form.observed))


class ExactPosterior(_FromClosedForm):
    """q = p(latents | x), the exact posterior at the model's present parameters, missing entries marginalised.

    Linear Gaussian models: z | x ~ N(m + M⁻¹WᵀΨ⁻¹(x − b − W m), M⁻¹) with M = S⁻¹ + WᵀΨ⁻¹W. Mixtures: c | x with
    p(c | x) ∝ π_c p(x | c), and for mixtures of factor analysers z | x, c. So KL(q ‖ p(z | x)) = 0, and every single
    draw of log p(x, z) − log q(z) is log p(x).

    It has no parameters, and is computed in float64 without gradients. q is fixed as in an E step, so that
    ``lfm.SVI(lfm.ExactPosterior(model))`` maximises log p(x) itself: ∇ log p(x) = E_q[∇ log p(x, z)].

    Args:
        model: a declared model whose posterior has a closed form (see ``lfm.EM``). The guide does not own its parameters.

    Raises:
        DeclarationError: no closed form is known. The message names the factor that stops it.

    Use it to check other guides, and to train θ of a linear Gaussian model or a mixture by SVI without a gap.

    Limits: only for models that ``EM`` serves. It has no gradients for φ.

    Source: Bishop (2006), sections 12.2 and 9.2; Ghahramani and Hinton (1996).

    >>> import pyro_lfm as lfm
    >>> model = lfm.Model(z=lfm.StandardNormal(2), x=lfm.Gaussian(4, mean=lfm.Linear())).double()
    >>> rows = torch.randn(3, 4).double()
    >>> bound = lfm.ELBO(kl="monte-carlo").bound(model, lfm.ExactPosterior(model), rows).per_row
    >>> torch.allclose(bound, recognise(model).exact().log_likelihood(rows))
    True
    """

    @property
    def form(self) -> AnyLikelihoodForm:
        return recognise(self.model).exact("lfm.ExactPosterior", "use lfm.Guide(model, ...)")

    def describe(self) -> str:
        latents, observed = ", ".join(self.model.latents), ", ".join(self.model.observed)
        return f"the exact posterior p({latents} | {observed}), in closed form"


class FactorisedPosterior(_FromClosedForm):
    """q(z | x) = ∏ⱼ N(zⱼ; mⱼ, 1/Mⱼⱼ), the best mean-field guide of a linear Gaussian model at its present parameters.

    m and M are the mean and precision of the exact posterior. The gap log p(x) − L is the same for all complete
    rows, ``½[Σⱼ ln Mⱼⱼ − ln |M|]`` nats. Like ``ExactPosterior`` it has no parameters and no gradients.

    Args:
        model: a declared linear Gaussian model, x | z ~ N(W z + b, Ψ). The guide does not own its parameters.

    Raises:
        DeclarationError: the model has another form.

    Use it as the best that any mean-field guide can reach.

    Limits: linear Gaussian models only.

    Source: Bishop (2006), section 10.1.2.

    >>> import pyro_lfm as lfm
    >>> mean = lfm.Linear(weight=lfm.Fixed(torch.tensor([[1.0, 1.0]])), bias=lfm.Fixed(0.0))
    >>> model = lfm.Model(z=lfm.StandardNormal(2), x=lfm.Gaussian(1, mean=mean, covariance=lfm.Isotropic(lfm.Fixed(1.0))))
    >>> lfm.FactorisedPosterior(model).known_marginals(lfm.Batch(torch.zeros(1, 1)))["z"].variance
    tensor([[0.5000, 0.5000]])
    """

    @property
    def form(self) -> AnyLikelihoodForm:
        remedy = "use lfm.ExactPosterior(model), or lfm.Guide(model, ...)"
        return recognise(self.model).factorised("lfm.FactorisedPosterior", remedy)

    def describe(self) -> str:
        latents, observed = ", ".join(self.model.latents), ", ".join(self.model.observed)
        return f"the best fully factorised posterior of {latents} given {observed}, in closed form"

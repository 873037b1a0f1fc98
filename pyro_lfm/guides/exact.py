"""Guides without parameters: the exact posterior of a model, or the best factorised one, at its present parameters."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from functools import partial
from typing import Any

import pyro
import torch
from torch import Tensor

from pyro_lfm.closed_form import ClosedForm, LinearForm, recognise
from pyro_lfm.data.batch import Batch
from pyro_lfm.errors import DeclarationError
from pyro_lfm.factors.views import view
from pyro_lfm.guides.any_guide import AnyGuide
from pyro_lfm.programs.model import AnyModel, as_model


class _OfModel(AnyGuide):
    """A guide computed from a model. It looks at the model but does not own its parameters."""

    _looked_at: tuple[Any]

    def _look_at(self, model: Any, name: str) -> None:
        # In a tuple, which nn.Module does not look into: the parameters stay the model's alone.
        self._looked_at = (as_model(model),)
        recognise(self.model, name, "use lfm.Guide(model, ...)")

    @property
    def model(self) -> Any:
        return self._looked_at[0]

    def bound_to(self, model: Any) -> Any:
        if not isinstance(model, AnyModel) or model is self.model:
            return self
        bound = view(self)
        bound._look_at(model, type(self).__name__)
        return bound

    @property
    def form(self) -> ClosedForm:
        return recognise(self.model)

    @property
    def dtype(self) -> torch.dtype:
        return self.model.dtype

    @property
    def device(self) -> torch.device:
        return self.model.device

    def latent_descendants(self, name: str) -> set[str] | None:
        return self.form.later[name]

    def _seen(self, form: ClosedForm, batch: Batch) -> Tensor:
        """The observed rows (B, D), float64 on the CPU, NaN where missing."""
        value, mask = batch[form.observed], batch.mask(form.observed)
        if value is None:
            raise DeclarationError(f"the guide reads {form.observed}, which this batch does not hold")
        x = value.detach().to(device="cpu", dtype=torch.float64)
        return (x if mask is None else x.masked_fill(~mask.cpu(), float("nan"))).flatten(1)

    @abstractmethod
    def distributions(self, batch: Batch) -> dict[str, Callable[[dict[str, Tensor]], Any]]:
        """The distribution of each latent given the rows and the latents drawn before it, in the order of drawing."""

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """The Pyro guide: one sample statement per latent, inside the plate over rows."""
        values: dict[str, Tensor] = {}
        with torch.no_grad():
            distributions = self.distributions(batch)
        with batch.plate():
            for name, distribution in distributions.items():
                values[name] = pyro.sample(name, distribution(values))
        return values


class ExactPosterior(_OfModel):
    """q = p(latents | x), the exact posterior at the model's present parameters; missing entries are marginalised.

    Linear Gaussian models: z | x ~ N(m + M⁻¹WᵀΨ⁻¹(x − b − W m), M⁻¹) with M = S⁻¹ + WᵀΨ⁻¹W. Mixtures: c | x with
    p(c | x) ∝ π_c p(x | c), and for mixtures of factor analysers z | x, c. So KL(q ‖ p(z | x)) = 0, and every single
    draw of log p(x, z) − log q(z) is log p(x).

    It has no parameters and is computed in float64 without gradients: q is held, as in an E step, so that
    ``lfm.SVI(lfm.ExactPosterior(model))`` climbs log p(x) itself, ∇ log p(x) = E_q[∇ log p(x, z)].

    Args:
        model: a declared model whose posterior is closed form: see ``lfm.EM``. It is looked at, not owned.

    Raises:
        DeclarationError: no closed form is known; the message names the factor that stops it.

    Reference: Bishop (2006), sections 12.2 and 9.2; Ghahramani and Hinton (1996).

    >>> from pyro_lfm import ELBO, Gaussian, Linear, Model, StandardNormal
    >>> model = Model(z=StandardNormal(2), x=Gaussian(4, mean=Linear())).double()
    >>> rows = torch.randn(3, 4).double()
    >>> bound = ELBO(kl="monte-carlo").bound(model, ExactPosterior(model), rows).per_row
    >>> torch.allclose(bound, recognise(model).log_likelihood(rows))
    True
    """

    def __init__(self, model: Any):
        super().__init__()
        self._look_at(model, "lfm.ExactPosterior")

    def distributions(self, batch: Batch) -> dict[str, Callable[[dict[str, Tensor]], Any]]:
        form = self.form
        return dict(form.distributions(self._seen(form, batch)))

    def known_marginals(self, batch: Batch) -> dict[str, Any]:
        form = self.form
        return form.marginals(self._seen(form, batch))

    def describe(self) -> str:
        latents, seen = ", ".join(self.model.latents), ", ".join(self.model.observed)
        return f"the exact posterior p({latents} | {seen}), in closed form"


class FactorisedPosterior(_OfModel):
    """q(z | x) = ∏ⱼ N(zⱼ; mⱼ, 1/Mⱼⱼ), the best mean-field guide of a linear Gaussian model at its present parameters.

    m and M are the mean and precision of the exact posterior. The gap log p(x) − L is the same for all complete
    rows, ½[Σⱼ ln Mⱼⱼ − ln |M|] nats. Like ``ExactPosterior`` it has no parameters and no gradients.

    Args:
        model: a declared linear Gaussian model, x | z ~ N(W z + b, Ψ). It is looked at, not owned.

    Raises:
        DeclarationError: the model is another.

    Reference: Bishop (2006), section 10.1.2.

    >>> from pyro_lfm import Fixed, Gaussian, Isotropic, Linear, Model, StandardNormal
    >>> mean = Linear(weight=Fixed(torch.tensor([[1.0, 1.0]])), bias=Fixed(0.0))
    >>> model = Model(z=StandardNormal(2), x=Gaussian(1, mean=mean, covariance=Isotropic(Fixed(1.0))))
    >>> FactorisedPosterior(model).known_marginals(Batch(torch.zeros(1, 1)))["z"].variance
    tensor([[0.5000, 0.5000]])
    """

    def __init__(self, model: Any):
        super().__init__()
        self._look_at(model, "lfm.FactorisedPosterior")
        linear_form(self.model, "lfm.FactorisedPosterior", "use lfm.ExactPosterior(model)")

    def distributions(self, batch: Batch) -> dict[str, Callable[[dict[str, Tensor]], Any]]:
        found = self.known_marginals(batch)
        return {name: partial(_independent_of, distribution) for name, distribution in found.items()}

    def known_marginals(self, batch: Batch) -> dict[str, Any]:
        form = linear_form(self.model)
        return {form.latent: form.mean_field(self._seen(form, batch))}

    def describe(self) -> str:
        latents, seen = ", ".join(self.model.latents), ", ".join(self.model.observed)
        return f"the best fully factorised posterior of {latents} given {seen}, in closed form"


def _independent_of(distribution: Any, values: dict[str, Tensor]) -> Any:
    """The distribution of a latent whatever the values of those before it."""
    return distribution


def linear_form(model: Any, asked: str = "this guide", remedy: str = "use lfm.EM()") -> LinearForm:
    """The closed form of a linear Gaussian model; raises DeclarationError for any other model."""
    form = recognise(model, asked)
    if not isinstance(form, LinearForm):
        raise DeclarationError(
            f"{asked} cannot serve this model. {', '.join(model.latents)} of a mixture: a factorised posterior is for "
            f"linear Gaussian models; {remedy}"
        )
    return form

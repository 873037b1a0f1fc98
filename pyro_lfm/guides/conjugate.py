"""The guide of variational Bayes: conjugate distributions of the parameters, and the latent of each row given them."""

from __future__ import annotations

import pyro
import torch
from pyro.distributions.torch_distribution import TorchDistributionMixin as Distribution
from torch import Tensor

from pyro_lfm.closed_form import ConjugatePosterior
from pyro_lfm.data.batch import Batch
from pyro_lfm.distributions.discrete_values import sum_out_hint
from pyro_lfm.guides.any_guide import AnyGuide
from pyro_lfm.guides.exact import rows_of
from pyro_lfm.programs.model import Model


class ConjugateGuide(AnyGuide):
    """q(parameters) q(latent of a row | x) as variational Bayes returned it. It has no parameters to learn.

    Args:
        model: the model that was fitted, with one observed factor.
        posterior: of its parameters and latents.
    """

    like: Tensor

    def __init__(self, model: Model, posterior: ConjugatePosterior):
        super().__init__()
        (self.observed,) = model.observed
        self._posterior = posterior
        # The tensors of the posterior are float64. Distributions have the floating type and device of ``like``.
        for name, value in posterior.tensors().items():
            self.register_buffer(f"posterior_{name}", value.clone())
        self.register_buffer("like", torch.zeros((), dtype=model.dtype))

    @property
    def posterior(self) -> ConjugatePosterior:
        """The posterior with the present tensors of this module, on the CPU and in float64."""
        tensors = {name: getattr(self, f"posterior_{name}") for name in self._posterior.tensors()}
        return self._posterior.with_tensors(
            {name: value.to("cpu", torch.float64) for name, value in tensors.items()}
        )

    def latent_descendants(self, name: str) -> set[str]:
        return {later for later, read in self._posterior.reads.items() if name in read}

    def latent_parents(self, name: str) -> set[str]:
        return set(self._posterior.reads.get(name, ()))

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """The Pyro guide: parameters, then the latent of each row inside the plate over rows."""
        posterior = self.posterior
        values: dict[str, Tensor] = {}
        for name, distribution in posterior.parameters(self.like).items():
            values[name] = pyro.sample(name, distribution(values))
        with batch.plate():
            for name, of_rows in posterior.latents(rows_of(batch, self.observed), self.like).items():
                values[name] = pyro.sample(name, of_rows, infer=sum_out_hint(of_rows))
        return values

    def known_marginals(self, batch: Batch) -> dict[str, Distribution]:
        return self.posterior.marginals(self.like)

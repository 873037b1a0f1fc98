"""The beta prior of Bernoulli components, for variational Bayes."""

from __future__ import annotations

from collections.abc import Iterable

import pyro.distributions as dist
from pyro.distributions.torch_distribution import TorchDistributionMixin as Distribution
from torch import Tensor

from pyro_lfm.closed_form.form import DistributionGiven, unconditional
from pyro_lfm.closed_form.mixtures.component_prior import ComponentPrior, as_row, for_each_class
from pyro_lfm.closed_form.obstacles import family_obstacle
from pyro_lfm.exact.mixtures.conjugate_probabilities import Betas
from pyro_lfm.exact.mixtures.mixture import Mixture
from pyro_lfm.exact.mixtures.starts import start_bernoullis
from pyro_lfm.factors import Conditional
from pyro_lfm.families import Bernoulli
from pyro_lfm.sources.parameter_priors import Beta


class BetaPrior(ComponentPrior[Betas]):
    """``Bernoulli(D, logits=Lookup(prior=Beta()), given="c")``."""

    family, declared, leading = Bernoulli, Beta, "probs"
    declaration = "Bernoulli(D, logits=Lookup(prior=Beta()), given='c')"

    @classmethod
    def of(cls, name: str, factor: Conditional) -> BetaPrior:
        (dim,) = factor.shape
        probs = factor.drawn["probs"]
        declared = probs.declared
        assert isinstance(declared, Beta)
        if not for_each_class(probs, 1):
            raise family_obstacle(
                name, factor, "a conjugate prior for each category, as by Lookup(prior=Beta())"
            )
        return cls(name, Betas(as_row(declared.ones, dim), as_row(declared.zeros, dim)))

    def start(self, rows: Iterable[Tensor], classes: int, seed: int) -> Mixture:
        return start_bernoullis(rows, classes, seed=seed)

    def parameters(self, posterior: Betas, like: Tensor) -> dict[str, DistributionGiven]:
        probs = dist.Beta(posterior.ones.to(like), posterior.zeros.to(like)).to_event(2)
        return {self.name("probs"): unconditional(probs)}

    def marginals(self, posterior: Betas, like: Tensor) -> dict[str, Distribution]:
        return {}

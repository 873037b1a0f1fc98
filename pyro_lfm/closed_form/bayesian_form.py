"""Models whose parameters all have conjugate priors: what variational Bayes and the conjugate guide ask of them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from pyro.distributions.torch_distribution import TorchDistributionMixin as Distribution
from torch import Tensor

from pyro_lfm.closed_form.form import AnyLikelihoodForm, ClosedForm, DistributionGiven
from pyro_lfm.closed_form.obstacles import Obstacle, point_obstacle, prior_obstacle
from pyro_lfm.closed_form.outline import Outline
from pyro_lfm.errors import DeclarationError
from pyro_lfm.exact.linear.bayesian_posterior import BayesianLinear
from pyro_lfm.exact.linear.rows import Rows
from pyro_lfm.programs.model import Model


class ConjugatePosterior(ABC):
    """q(parameters) q(latents of a row | x), which variational Bayes returns and a ``ConjugateGuide`` samples from.

    Parameters are named as latents of the model, such as ``x.weight``. Arguments ``like`` are tensors of the floating type
    and device of the distributions that are wanted.

    Attributes:
        reads: parameter -> the parameters that are drawn before it and that its distribution depends on.
    """

    reads: Mapping[str, frozenset[str]]

    @abstractmethod
    def tensors(self) -> dict[str, Tensor]:
        """All its tensors by name, float64 on the CPU, without those of the prior."""

    @abstractmethod
    def with_tensors(self, tensors: Mapping[str, Tensor]) -> ConjugatePosterior:
        """The same posterior with other tensors, named as in ``tensors()``."""

    @abstractmethod
    def parameters(self, like: Tensor) -> dict[str, DistributionGiven]:
        """q(parameter | parameters drawn before it), in the order of drawing."""

    @abstractmethod
    def latents(self, x: Tensor, like: Tensor) -> dict[str, Distribution]:
        """q(latent | x) for the rows x (B, D), float64, NaN where missing."""

    @abstractmethod
    def marginals(self, like: Tensor) -> dict[str, Distribution]:
        """q(parameter) of the parameters that depend on others, where it is known in closed form."""

    def rank(self) -> int:
        """How many factors the data need: the model with one fewer has a lower bound."""
        raise DeclarationError("fit.rank needs a linear model with an ARD prior of its weights")


class NoiseFit(NamedTuple):
    """A posterior of noise and its rows, from which a warning sees whether prior or data decide the noise."""

    posterior: BayesianLinear
    rows: Rows


@dataclass(frozen=True)
class BayesianAscent:
    """The end of variational Bayes.

    Attributes:
        posterior: q(parameters) q(latents).
        bounds: the full bound L ≤ ln p(x) at the start and after each iteration, nats per row.
        converged: whether further iterations would gain nothing.
        noise: for a warning about the prior of the noise, where there is one.
    """

    posterior: ConjugatePosterior
    bounds: list[float]
    converged: bool
    noise: NoiseFit | None = None


class BayesianForm(ClosedForm):
    """A model whose parameters all have conjugate priors."""

    model: Model
    observed: str

    @abstractmethod
    def infer(
        self, rows: Iterable[Tensor], *, seed: int, iterations: int, tolerance: float
    ) -> BayesianAscent:
        """Variational Bayes by coordinate ascent, from a start computed from the data.

        Args:
            rows: blocks (B, D), float64, NaN where missing, iterated over repeatedly.
        """

    @abstractmethod
    def restored(self, tensors: Mapping[str, Tensor]) -> ConjugatePosterior:
        """The posterior of an earlier fit, from the tensors that its ``tensors()`` gave."""

    def _exact(self) -> AnyLikelihoodForm:
        raise prior_obstacle(self.model)

    def _factorised(self) -> AnyLikelihoodForm:
        raise prior_obstacle(self.model)

    def _variational(self) -> AnyLikelihoodForm:
        raise prior_obstacle(self.model)

    def _bayesian(self) -> BayesianForm:
        return self


def check_all_have_priors(outline: Outline) -> None:
    """Raises Obstacle where a parameter has no prior, or where rows are not vectors."""
    shape = outline.factor.shape
    if len(shape) != 1:
        raise Obstacle(
            f"{outline.observed} has rows of shape {tuple(shape)}: variational Bayes needs vectors (D,)"
        )
    obstacle = point_obstacle(outline.model)
    if obstacle is not None:
        raise obstacle

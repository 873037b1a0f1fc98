"""Linear Gaussian models under a factorised posterior: the form that variational EM climbs and FactorisedPosterior asks."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

import torch
from pyro.distributions.torch_distribution import TorchDistributionMixin as Distribution
from torch import Tensor

from pyro_lfm.closed_form.form import AnyLikelihoodForm, Ascent, LikelihoodForm, Watch
from pyro_lfm.closed_form.linear.ascents import linear_ascent
from pyro_lfm.distributions.normal import Normal
from pyro_lfm.exact.linear.linear_gaussian import LinearGaussian
from pyro_lfm.exact.linear.mean_field import variational_em
from pyro_lfm.exact.linear.rows import Rows
from pyro_lfm.exact.race import Won

if TYPE_CHECKING:
    from pyro_lfm.closed_form.linear.linear_form import LinearForm


class FactorisedLinear(LikelihoodForm[LinearGaussian, Rows]):
    """q(z | x) = ∏ⱼ N(zⱼ; mⱼ, 1/Mⱼⱼ), the factorised distribution nearest to p(z | x) = N(m, M⁻¹) in KL(q ‖ p).

    Args:
        linear: the form with the exact posterior, which has the parameters.
    """

    def __init__(self, linear: LinearForm):
        self.linear, self.latent = linear, linear.latent
        self.model, self.observed = linear.model, linear.observed
        self.fixed, self.descendants = linear.fixed, linear.descendants

    def read(self) -> LinearGaussian:
        return self.linear.read()

    def write(self, parameters: LinearGaussian) -> None:
        self.linear.write(parameters)

    def rows(self, blocks: Iterable[Tensor]) -> Rows:
        return self.linear.rows(blocks)

    def start(self, rows: Rows, seed: int, restarts: int) -> Won[LinearGaussian]:
        return self.linear.start(rows, seed, restarts)

    def climb(
        self,
        rows: Rows,
        start: LinearGaussian,
        *,
        iterations: int,
        tolerance: float,
        accelerate: bool,
        watch: Watch[LinearGaussian],
    ) -> Ascent[LinearGaussian]:
        end, history = variational_em(
            rows,
            start,
            fixed=self.fixed,
            pattern=self.linear.line.pattern,
            free_prior=self.linear.prior.learned,
            min_scale=self.linear.spread.floor(),
            iterations=iterations,
            tolerance=tolerance,
            accelerate=accelerate,
            watch=watch,
        )
        return linear_ascent(end, history, self.observed)

    def bound(self, parameters: LinearGaussian, x: Tensor) -> Tensor:
        return parameters.log_likelihood(x) - gap(parameters, x)

    def marginals(self, x: Tensor) -> dict[str, Distribution]:
        posterior = self.read().posterior(x)
        scale = per_pattern(_precision, posterior.covariance).rsqrt()
        event = self.model.latents[self.latent].shape
        mean, scale = (self.place(value).reshape(-1, *event) for value in (posterior.mean, scale))
        return {self.latent: Normal(mean, scale, validate_args=False).to_event(len(event))}

    def _factorised(self) -> AnyLikelihoodForm:
        return self


def gap(parameters: LinearGaussian, x: Tensor) -> Tensor:
    """KL of the best factorised distribution to p(z | x) for each row, ½[Σⱼ ln Mⱼⱼ − ln |M|], (N,) nats.

    >>> model = LinearGaussian(torch.tensor([[1.0, 1.0]]), torch.zeros(1), torch.tensor(1.0))
    >>> gap(model, torch.zeros(1, 1)).round(decimals=4)  # M = [[2, 1], [1, 2]]
    tensor([0.1438], dtype=torch.float64)
    """
    covariance = parameters.posterior(x).covariance
    return per_pattern(lambda each: 0.5 * (_precision(each).log().sum(-1) + each.logdet()), covariance)


def per_pattern(function: Callable[[Tensor], Tensor], matrices: Tensor) -> Tensor:
    """A function of each matrix (N, K, K), computed once where all rows share one."""
    rows = matrices.shape[0]
    if rows > 0 and matrices.stride(0) == 0:
        one = function(matrices[:1])
        return one.expand(rows, *one.shape[1:])
    return function(matrices)


def _precision(covariance: Tensor) -> Tensor:
    """Mⱼⱼ (..., K) from M⁻¹ (..., K, K)."""
    tril = torch.linalg.cholesky(covariance)
    return torch.cholesky_inverse(tril).diagonal(dim1=-2, dim2=-1)

"""The kind of linear Gaussian models: z ~ N(m, S), x | z ~ N(W z + b, Ψ), so that z | x and x are Gaussian."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import pyro.distributions as dist
import torch
from pyro.distributions.torch_distribution import TorchDistributionMixin as Distribution
from torch import Tensor
from torch.distributions.transforms import ReshapeTransform

from pyro_lfm.closed_form.form import AnyLikelihoodForm, Ascent, LikelihoodForm, Watch
from pyro_lfm.closed_form.linear.ascents import linear_ascent
from pyro_lfm.closed_form.linear.factorised_linear import FactorisedLinear, per_pattern
from pyro_lfm.closed_form.linear.latent_priors import LatentPrior
from pyro_lfm.closed_form.obstacles import Obstacle, family_obstacle, source_obstacle
from pyro_lfm.closed_form.outline import Outline
from pyro_lfm.closed_form.parts import LinearMap, Spread
from pyro_lfm.distributions.pushforward import Pushforward
from pyro_lfm.exact.linear.expectation_maximisation import em
from pyro_lfm.exact.linear.factor_analysis import factor_analyses
from pyro_lfm.exact.linear.linear_gaussian import Floor, LinearGaussian, noise_floor, principal
from pyro_lfm.exact.linear.linear_starts import linear_starts, pattern_starts
from pyro_lfm.exact.linear.rows import Rows
from pyro_lfm.exact.race import Reached, Won, race
from pyro_lfm.families import Gaussian

# A step of Newton's method for factor analysis costs O(K D³): up to this many columns it is quicker than EM.
_NEWTON = 100
# EM iterations of each round of a race between starts; a start has converged when an iteration gains less, nats per row.
_ROUNDS, _TRIAL = (10, 20, 40), 1e-9


class LinearForm(LikelihoodForm[LinearGaussian, Rows]):
    """``Model(z=StandardNormal(K), x=Gaussian(D, mean=Linear(), covariance=...))`` and its variants.

    Raises:
        Obstacle: the declaration is another.
    """

    parts = frozenset({"latent"})
    declarations = "z=StandardNormal(K) with x=Gaussian(D, mean=Linear())"

    def __init__(self, outline: Outline):
        assert outline.latent is not None  # for the type checker: it is among the parts
        self.model, self.latent, self.observed = outline.model, outline.latent, outline.observed
        self.descendants = {self.latent: set()}
        name, factor = self.observed, outline.factor
        if type(factor.declaration) is not Gaussian:
            raise family_obstacle(name, factor, "Gaussian(mean=Linear())")
        if "network" in factor.parts:
            raise source_obstacle(
                name, factor, "mean", "Linear(), and a covariance that does not depend on z"
            )
        line = LinearMap.of(factor.parts["mean"])
        if line is None:
            raise source_obstacle(name, factor, "mean", "Linear()")
        self.line, self.spread = line, Spread.of(name, factor, tables=False)
        if self.spread.full and not self.spread.slot.fixed:
            raise Obstacle(
                f"{name}.covariance is Full and learned: it cannot be separated from the factors; a closed form needs "
                "Isotropic(), Diagonal() or Full(Fixed(...))"
            )
        self.prior = LatentPrior.of(self.latent, self.model.factors[self.latent])
        if self.spread.full and (line.pattern is not None or self.prior.learned):
            raise Obstacle(
                f"{name}.covariance is Full: a pattern or correlated factors need Isotropic() or Diagonal()"
            )
        if self.prior.learned and line.pattern is None and not line.weight.fixed:
            raise Obstacle(
                f"{self.latent}.covariance is learned, and the weights of {name}.mean have no pattern of zeros: any other "
                f"covariance gives the same likelihood. Declare {self.latent}=StandardNormal(K), or Linear(pattern=...)"
            )
        if (
            self.prior.learned
            and line.bias.fixed
            and (self.prior.mean_learned or bool(self.prior.read()[0].any()))
        ):
            raise Obstacle(
                f"the bias of {name} is fixed, so that a closed form needs {self.latent}.mean to be Fixed(0.0)"
            )
        slots = {"weight": line.weight, "bias": line.bias, "noise": self.spread.slot}
        self.fixed = frozenset(parameter for parameter, slot in slots.items() if slot.fixed)

    def read(self) -> LinearGaussian:
        if self.spread.full:
            tril = self.spread.scale_tril()[0]
            noise = tril @ tril.mT
        else:
            noise = self.spread.variance()[0]
            noise = noise.reshape(()) if self.spread.isotropic else noise
        return LinearGaussian(self.line.weight.read(), self.line.bias.read(), noise, *self.prior.read())

    def write(self, parameters: LinearGaussian) -> None:
        self.line.weight.write(parameters.weight)
        self.line.bias.write(parameters.bias)
        if "noise" not in self.fixed:
            self.spread.write_variance(parameters.noise)
        self.prior.write(parameters.prior[1])

    def rows(self, blocks: Iterable[Tensor]) -> Rows:
        return Rows(lambda: blocks)

    def start(self, rows: Rows, seed: int, restarts: int) -> Won[LinearGaussian]:
        """A start for EM, or the maximum itself.

        Free isotropic noise and complete data: the maximum, in closed form. Diagonal noise and complete data: the best of
        several maxima, by Newton's method. Otherwise the best of several starts of EM.
        """
        now, floor = self.read(), self.spread.floor()
        latent, isotropic = now.weight.shape[1], now.structure != "diagonal"
        complete = not rows.has_missing
        if self.line.pattern is not None and "weight" not in self.fixed:
            drawn = pattern_starts(
                rows, self.line.pattern, now, restarts=restarts, seed=seed, min_scale=floor
            )
            won = self._race(map(self._kept, drawn), rows, floor)
            # A turn of the factors moves the bias where their mean is not zero.
            free = "bias" not in self.fixed or not bool(now.prior[0].any())
            return Won(won.state.with_positive_factors() if free else won.state, won.ends)
        if complete and not isotropic and not self.fixed and rows.dim <= _NEWTON:
            won = factor_analyses(rows, latent, restarts=restarts, seed=seed, min_scale=floor)
            return Won(self._for_prior(now, won.state), won.ends)
        if "weight" in self.fixed:
            return self._race([self._for_weight(now, rows, floor)], rows, floor)
        noise = "isotropic" if isotropic else "diagonal"
        if complete and isotropic and not self.fixed - {"bias"}:
            maximum = principal(rows, latent, noise, min_scale=floor)
            return self._race([self._for_prior(now, maximum)], rows, floor)
        drawn = linear_starts(rows, latent, noise, restarts=restarts, seed=seed, min_scale=floor)
        return self._race((self._for_prior(now, start) for start in drawn), rows, floor)

    def _race(self, starts: Iterable[LinearGaussian], rows: Rows, floor: Floor) -> Won[LinearGaussian]:
        def advance(start: LinearGaussian, iterations: int) -> Reached[LinearGaussian]:
            end, history = em(
                rows,
                start,
                fixed=self.fixed,
                pattern=self.line.pattern,
                free_prior=self.prior.learned,
                min_scale=floor,
                iterations=iterations,
                tolerance=_TRIAL,
            )
            return Reached(end, history.log_likelihood[-1], converged=history.converged)

        return race(starts, advance, _ROUNDS)

    def _for_prior(self, now: LinearGaussian, start: LinearGaussian) -> LinearGaussian:
        """A start for z ~ N(0, I), changed to the model's own prior N(m, S): with S = L Lᵀ the weights are W L⁻¹."""
        mean, covariance = now.prior
        root = torch.linalg.cholesky(covariance)
        weight = torch.linalg.solve_triangular(root, start.weight, upper=False, left=False)
        return self._free(now, weight=weight, bias=start.bias - weight @ mean, noise=start.noise)

    def _for_weight(self, now: LinearGaussian, rows: Rows, floor: Floor) -> LinearGaussian:
        """A start for fixed weights. Its noise is large, because EM is slow to raise noise that starts near zero."""
        noise = torch.maximum(rows.variance, noise_floor(rows, floor, "diagonal"))
        noise = noise if now.structure == "diagonal" else noise.mean()
        return self._free(now, bias=rows.mean - now.weight @ now.prior[0], noise=noise)

    def _kept(self, start: LinearGaussian) -> LinearGaussian:
        """A start with the present values of what is fixed."""
        now = self.read()
        prior = start.prior[1] if self.prior.learned else now.prior[1]
        return replace(
            self._free(now, weight=start.weight, bias=start.bias, noise=start.noise), prior_covariance=prior
        )

    def _free(self, now: LinearGaussian, **values: Tensor) -> LinearGaussian:
        """The present parameters, with new values for those that are not fixed."""
        return replace(now, **{name: value for name, value in values.items() if name not in self.fixed})

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
        end, history = em(
            rows,
            start,
            fixed=self.fixed,
            pattern=self.line.pattern,
            free_prior=self.prior.learned,
            min_scale=self.spread.floor(),
            iterations=iterations,
            tolerance=tolerance,
            accelerate=accelerate,
            watch=watch,
        )
        return linear_ascent(end, history, self.observed)

    def marginals(self, x: Tensor) -> dict[str, Distribution]:
        posterior = self.read().posterior(x)
        tril = per_pattern(torch.linalg.cholesky, posterior.covariance)
        distribution = dist.MultivariateNormal(
            self.place(posterior.mean), scale_tril=self.place(tril), validate_args=False
        )
        event = self.model.latents[self.latent].shape
        if len(event) != 1:
            distribution = Pushforward(distribution, [ReshapeTransform(torch.Size((event.numel(),)), event)])
        return {self.latent: distribution}

    def _factorised(self) -> AnyLikelihoodForm:
        return FactorisedLinear(self)

    def _variational(self) -> AnyLikelihoodForm:
        if self.spread.full:
            raise Obstacle(f"{self.observed}.covariance is Full: it needs Isotropic or Diagonal")
        return self._factorised()

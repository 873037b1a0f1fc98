"""Linear Gaussian models: z ~ N(m, S), x | z ~ N(W z + b, Ψ), so z | x and x are Gaussian."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import pyro.distributions as dist
import torch
from torch import Tensor
from torch.distributions.transforms import ReshapeTransform

from pyro_lfm.closed_form.constants import LinearMap, Obstacle, Slot, Spread, constant, obstacle
from pyro_lfm.closed_form.form import Ascent, ClosedForm, Distribution, Watch
from pyro_lfm.distributions.pushforward import Pushforward
from pyro_lfm.exact.linear.expectation_maximisation import em
from pyro_lfm.exact.linear.factor_analysis import factor_analyses
from pyro_lfm.exact.linear.linear_gaussian import Floor, LinearGaussian, noise_floor, principal
from pyro_lfm.exact.linear.linear_starts import linear_starts
from pyro_lfm.exact.linear.mean_field import variational_em
from pyro_lfm.exact.linear.rows import Rows
from pyro_lfm.exact.race import Reached, Won, race
from pyro_lfm.families import Gaussian
from pyro_lfm.priors import StandardNormal

# Newton's method for factor analysis costs O(K D³) a step: up to so many columns it is the quicker way.
_NEWTON = 100
# EM iterations of a race between starts, and the gain of one, nats per row, below which a start has arrived.
_ROUNDS, _TRIAL = (10, 20, 40), 1e-9


class LinearForm(ClosedForm):
    """``Model(z=StandardNormal(K), x=Gaussian(D, mean=Linear(), covariance=...))`` and its kin.

    Raises:
        Obstacle: the declaration is another.
    """

    def __init__(self, model: Any, latent: str, observed: str):
        self.model, self.latent, self.observed = model, latent, observed
        self.later = {latent: set()}
        factor = model.factors[observed]
        if type(factor.declaration) is not Gaussian:
            raise Obstacle(f"{observed} is {factor.describe()}: a closed form needs Gaussian(mean=Linear())")
        if "network" in factor.parts:
            raise obstacle(observed, factor, "mean", "Linear(), and a covariance that does not depend on z")
        line = LinearMap.of(factor.parts["mean"])
        if line is None:
            raise obstacle(observed, factor, "mean", "Linear()")
        self.line, self.spread = line, Spread.of(observed, factor, tables=False)
        if self.spread.full and not self.spread.slot.fixed:
            raise Obstacle(
                f"{observed}.covariance is Full and learned: factors could not be told from it; a closed form needs "
                "Isotropic(), Diagonal() or Full(Fixed(...))"
            )
        self.prior = gaussian_prior(latent, model.factors[latent])
        slots = {"weight": line.weight, "bias": line.bias, "noise": self.spread.slot}
        self.fixed = frozenset(name for name, slot in slots.items() if slot.fixed)

    def read(self) -> LinearGaussian:
        if self.spread.full:
            tril = self.spread.scale_tril()[0]
            noise = tril @ tril.mT
        else:
            noise = self.spread.variance()[0]
            noise = noise.reshape(()) if self.spread.isotropic else noise
        return LinearGaussian(self.line.weight.read(), self.line.bias.read(), noise, *self.prior())

    def write(self, parameters: LinearGaussian) -> None:
        self.line.weight.write(parameters.weight)
        self.line.bias.write(parameters.bias)
        if "noise" not in self.fixed:
            self.spread.write_variance(parameters.noise)

    def rows(self, blocks: Iterable[Tensor]) -> Rows:
        return Rows(lambda: iter(blocks))

    def start(self, rows: Rows, seed: int, restarts: int) -> Won[LinearGaussian]:
        """The maximum itself for free isotropic noise and complete data, the best of several maxima that Newton steps
        reach for diagonal noise, and elsewhere the best of several starts of EM."""
        now, floor = self.read(), self.spread.floor()
        latent, isotropic = now.weight.shape[1], now.structure != "diagonal"
        complete = not rows.has_missing
        if complete and not isotropic and not self.fixed and rows.dim <= _NEWTON:
            won = factor_analyses(rows, latent, restarts=restarts, seed=seed, min_scale=floor)
            return Won(self._placed(now, won.state), won.ends)
        if "weight" in self.fixed:
            return self._won([self._with_weight(now, rows, floor)], rows, floor)
        noise = "isotropic" if isotropic else "diagonal"
        if complete and isotropic and not self.fixed - {"bias"}:
            return self._won(
                [self._placed(now, principal(rows, latent, noise, min_scale=floor))], rows, floor
            )
        drawn = linear_starts(rows, latent, noise, restarts=restarts, seed=seed, min_scale=floor)
        return self._won((self._placed(now, start) for start in drawn), rows, floor)

    def _won(self, starts: Iterable[LinearGaussian], rows: Rows, floor: Floor) -> Won[LinearGaussian]:
        def advance(start: LinearGaussian, iterations: int) -> Reached[LinearGaussian]:
            end, history = em(
                rows, start, fixed=self.fixed, min_scale=floor, iterations=iterations, tolerance=_TRIAL
            )
            return Reached(end, history.log_likelihood[-1], converged=history.converged)

        return race(starts, advance, _ROUNDS)

    def _placed(self, now: LinearGaussian, start: LinearGaussian) -> LinearGaussian:
        """A start for z ~ N(0, I), for the model's own prior: with S = L Lᵀ, W L⁻¹ does there what W does here."""
        mean, covariance = now.prior
        root = torch.linalg.cholesky(covariance)
        weight = torch.linalg.solve_triangular(root, start.weight, upper=False, left=False)
        return self._free(now, weight=weight, bias=start.bias - weight @ mean, noise=start.noise)

    def _with_weight(self, now: LinearGaussian, rows: Rows, floor: Floor) -> LinearGaussian:
        """A start for given loadings. Noise from above: EM is slow to raise one that starts near zero."""
        noise = torch.maximum(rows.variance, noise_floor(rows, floor, "diagonal"))
        noise = noise if now.structure == "diagonal" else noise.mean()
        return self._free(now, bias=rows.mean - now.weight @ now.prior[0], noise=noise)

    def _free(self, now: LinearGaussian, **values: Tensor) -> LinearGaussian:
        return replace(now, **{name: value for name, value in values.items() if name not in self.fixed})

    def climb(
        self,
        rows: Rows,
        start: LinearGaussian,
        *,
        iterations: int,
        tolerance: float,
        accelerate: bool,
        watch: Watch,
        factorised: bool = False,
    ) -> Ascent:
        ascend: Callable[..., Any] = variational_em if factorised else em
        found, history = ascend(
            rows,
            start,
            fixed=self.fixed,
            min_scale=self.spread.floor(),
            iterations=iterations,
            tolerance=tolerance,
            accelerate=accelerate,
            watch=watch,
        )
        columns = ", ".join(map(str, history.floored[:8])) + ", ..." * (len(history.floored) > 8)
        words = f"the noise of column{'s' * (len(history.floored) > 1)} {columns} of {self.observed}"
        return Ascent(found, history.converged, words if history.floored else None)

    def distributions(self, x: Tensor) -> dict[str, Distribution]:
        distribution = self.marginals(x)[self.latent]
        return {self.latent: lambda values: distribution}

    def marginals(self, x: Tensor) -> dict[str, Any]:
        found = self.read().posterior(x)
        tril = _per_pattern(torch.linalg.cholesky, found.covariance)
        distribution = dist.MultivariateNormal(
            self.place(found.mean), scale_tril=self.place(tril), validate_args=False
        )
        event = self.model.latents[self.latent].shape
        if len(event) != 1:
            distribution = Pushforward(distribution, [ReshapeTransform(torch.Size((event.numel(),)), event)])
        return {self.latent: distribution}

    def mean_field(self, x: Tensor) -> Any:
        """∏ⱼ N(zⱼ; mⱼ, 1/Mⱼⱼ), the factorised distribution nearest to p(z | x) = N(m, M⁻¹) in KL(q ‖ p)."""
        found = self.read().posterior(x)
        scale = _per_pattern(_precision, found.covariance).rsqrt()
        event = self.model.latents[self.latent].shape
        mean, scale = (self.place(value).reshape(-1, *event) for value in (found.mean, scale))
        return dist.Normal(mean, scale, validate_args=False).to_event(len(event))


def gap(parameters: LinearGaussian, x: Tensor) -> Tensor:
    """KL of the best factorised distribution to p(z | x) for each row, ½[Σⱼ ln Mⱼⱼ − ln |M|], (N,) nats.

    >>> distribution = LinearGaussian(torch.tensor([[1.0, 1.0]]), torch.zeros(1), torch.tensor(1.0))
    >>> gap(distribution, torch.zeros(1, 1)).round(decimals=4)  # M = [[2, 1], [1, 2]]
    tensor([0.1438], dtype=torch.float64)
    """
    covariance = parameters.posterior(x).covariance
    return _per_pattern(lambda each: 0.5 * (_precision(each).log().sum(-1) + each.logdet()), covariance)


def _precision(covariance: Tensor) -> Tensor:
    """Mⱼⱼ (..., K) from M⁻¹ (..., K, K)."""
    tril = torch.linalg.cholesky(covariance)
    return torch.cholesky_inverse(tril).diagonal(dim1=-2, dim2=-1)


def _per_pattern(function: Callable[[Tensor], Tensor], matrices: Tensor) -> Tensor:
    """A function of each matrix (N, K, K); once where all rows share one."""
    if len(matrices) and matrices.stride(0) == 0:
        one = function(matrices[:1])
        return one.expand(len(matrices), *one.shape[1:])
    return function(matrices)


def gaussian_prior(name: str, factor: Any) -> Callable[[], tuple[Tensor, Tensor]]:
    """Reads mean (K,) and covariance (K, K) of a prior that is Gaussian and not learned."""
    if type(factor.declaration) is StandardNormal:
        return lambda: (torch.zeros(factor.dim).double(), torch.eye(factor.dim).double())
    wanted = "StandardNormal(K), or Gaussian with Fixed mean and covariance"
    if type(factor.declaration) is not Gaussian or factor.parents:
        given = f" given {', '.join(factor.parents)}" if factor.parents else ""
        raise Obstacle(f"{name} is {factor.describe()}{given}: a closed form needs {wanted}")
    for parameter in ("mean", "covariance"):
        slot: Slot | None = constant(factor.parts[parameter]) if parameter in factor.parts else None
        if slot is None or not slot.fixed:
            raise obstacle(name, factor, parameter, wanted)

    def read() -> tuple[Tensor, Tensor]:
        with torch.no_grad():
            distribution = factor()
        while isinstance(distribution, Pushforward):
            distribution = distribution.base_dist
        mean = distribution.mean.flatten().cpu().double()
        matrix = getattr(distribution, "covariance_matrix", None)
        return (
            mean,
            distribution.variance.flatten().cpu().double().diag()
            if matrix is None
            else matrix.cpu().double(),
        )

    return read

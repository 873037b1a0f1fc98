"""Linear Gaussian models: z ~ N(m, S), x | z ~ N(W z + b, Ψ), so z | x and x are Gaussian."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import pyro.distributions as dist
import torch
from torch import Tensor
from torch.distributions.transforms import ReshapeTransform

from pyro_lfm.closed_form.form import Ascent, ClosedForm, Law, Watch
from pyro_lfm.closed_form.parts import LinearMap, Obstacle, Slot, Spread, constant, obstacle
from pyro_lfm.distributions.pushforward import Pushforward
from pyro_lfm.exact.em import em
from pyro_lfm.exact.factor_analysis import factor_analysis
from pyro_lfm.exact.linear_gaussian import LinearGaussian, principal
from pyro_lfm.exact.rows import Rows
from pyro_lfm.exact.variational_em import variational_em
from pyro_lfm.families import Gaussian
from pyro_lfm.priors import StandardNormal

# Newton's method for factor analysis costs O(K D³) a step: up to so many columns it is the quicker start.
_NEWTON = 300


class LinearForm(ClosedForm):
    """``Model(z=StandardNormal(K), x=Gaussian(D, mean=Linear(), covariance=...))`` and its kin.

    Raises:
        Obstacle: the declaration is another.
    """

    def __init__(self, model: Any, latent: str, observed: str):
        self.model, self.latent, self.observed = model, latent, observed
        self.later = {latent: set()}
        factor = model.factors[observed]
        if type(factor) is not Gaussian:
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

    def start(self, rows: Rows, seed: int, restarts: int) -> LinearGaussian:
        """Principal components, which are the maximum itself for free isotropic noise and complete data, or Newton
        steps in diagonal noise."""
        now, floor = self.read(), self.spread.min_scale
        latent = now.weight.shape[1]
        if now.structure == "diagonal" and not self.fixed and rows.dim <= _NEWTON:
            found = factor_analysis(rows, latent, min_scale=floor)
        else:
            isotropic = now.structure != "diagonal"
            found = principal(rows, latent, "isotropic" if isotropic else "diagonal", min_scale=floor)
        # Found for z ~ N(0, I): with S = L Lᵀ, W L⁻¹ does for z ~ N(m, S) what W does there.
        mean, covariance = now.prior
        root = torch.linalg.cholesky(covariance)
        weight = torch.linalg.solve_triangular(root, found.weight, upper=False, left=False)
        noise = found.noise
        if "weight" in self.fixed:
            weight = now.weight
            # From above: EM is slow to raise a noise that starts near zero.
            whole = rows.variance.clamp_min(floor**2)
            noise = whole if now.structure == "diagonal" else whole.mean()
        values = {"weight": weight, "bias": found.bias - weight @ mean, "noise": noise}
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
            min_scale=self.spread.min_scale,
            iterations=iterations,
            tolerance=tolerance,
            accelerate=accelerate,
            watch=watch,
        )
        columns = ", ".join(map(str, history.floored[:8])) + ", ..." * (len(history.floored) > 8)
        words = f"the noise of column{'s' * (len(history.floored) > 1)} {columns} of {self.observed}"
        return Ascent(found, words if history.floored else None)

    def laws(self, x: Tensor) -> dict[str, Law]:
        law = self.marginals(x)[self.latent]
        return {self.latent: lambda values: law}

    def marginals(self, x: Tensor) -> dict[str, Any]:
        found = self.read().posterior(x)
        tril = _per_pattern(torch.linalg.cholesky, found.covariance)
        law = dist.MultivariateNormal(
            self.place(found.mean), scale_tril=self.place(tril), validate_args=False
        )
        event = self.model.latents[self.latent].shape
        if len(event) != 1:
            law = Pushforward(law, [ReshapeTransform(torch.Size((event.numel(),)), event)])
        return {self.latent: law}

    def mean_field(self, x: Tensor) -> Any:
        """∏ⱼ N(zⱼ; mⱼ, 1/Mⱼⱼ), the factorised law nearest to p(z | x) = N(m, M⁻¹) in KL(q ‖ p)."""
        found = self.read().posterior(x)
        scale = _per_pattern(_precision, found.covariance).rsqrt()
        event = self.model.latents[self.latent].shape
        mean, scale = (self.place(value).reshape(-1, *event) for value in (found.mean, scale))
        return dist.Normal(mean, scale, validate_args=False).to_event(len(event))


def gap(parameters: LinearGaussian, x: Tensor) -> Tensor:
    """KL of the best factorised law to p(z | x) for each row, ½[Σⱼ ln Mⱼⱼ − ln |M|], (N,) nats.

    >>> law = LinearGaussian(torch.tensor([[1.0, 1.0]]), torch.zeros(1), torch.tensor(1.0))
    >>> gap(law, torch.zeros(1, 1)).round(decimals=4)  # M = [[2, 1], [1, 2]]
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
    if type(factor) is StandardNormal:
        return lambda: (torch.zeros(factor.dim).double(), torch.eye(factor.dim).double())
    wanted = "StandardNormal(K), or Gaussian with Fixed mean and covariance"
    if type(factor) is not Gaussian or factor.parents:
        given = f" given {', '.join(factor.parents)}" if factor.parents else ""
        raise Obstacle(f"{name} is {factor.describe()}{given}: a closed form needs {wanted}")
    for parameter in ("mean", "covariance"):
        slot: Slot | None = constant(factor.parts[parameter]) if parameter in factor.parts else None
        if slot is None or not slot.fixed:
            raise obstacle(name, factor, parameter, wanted)

    def read() -> tuple[Tensor, Tensor]:
        with torch.no_grad():
            law = factor()
        while isinstance(law, Pushforward):
            law = law.base_dist
        mean = law.mean.flatten().cpu().double()
        matrix = getattr(law, "covariance_matrix", None)
        return mean, law.variance.flatten().cpu().double().diag() if matrix is None else matrix.cpu().double()

    return read

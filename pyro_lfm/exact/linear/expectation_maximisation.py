"""EM for linear Gaussian models: factor analysis and probabilistic PCA, with fixed parameters and missing entries."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, replace
from typing import TypeVar

import torch
from torch import Tensor

from pyro_lfm.errors import DeclarationError, ShapeError
from pyro_lfm.exact.history import History, Step
from pyro_lfm.exact.linear.coordinate_ascent import Problem, coordinate_ascent
from pyro_lfm.exact.linear.full_noise import FullMoments, FullNoise
from pyro_lfm.exact.linear.latent_posterior import Moments, expect
from pyro_lfm.exact.linear.linear_gaussian import Floor, LinearGaussian, noise_floor
from pyro_lfm.exact.linear.m_step import free_step
from pyro_lfm.exact.linear.quasi_newton_ascent import QuasiNewtonAscent, Slope
from pyro_lfm.exact.linear.rows import Piece, Rows

PARAMETERS = ("weight", "bias", "noise")
Result = TypeVar("Result", "_EStep", FullMoments)
Watch = Callable[[LinearGaussian, tuple[Step, ...]], bool]


def em(
    rows: Rows,
    start: LinearGaussian,
    *,
    fixed: Collection[str] = (),
    pattern: Tensor | None = None,
    free_prior: bool = False,
    min_scale: Floor = 1e-3,
    iterations: int = 5000,
    tolerance: float = 1e-11,
    accelerate: bool = True,
    watch: Watch | None = None,
) -> tuple[LinearGaussian, History]:
    """Maximum likelihood of x = W z + b + ε by expectation maximisation (Rubin and Thayer, 1982).

    E step: q(z) = p(z | x_observed), so L = ln p(x). M step: W, b and Ψ maximise E_q[ln p(x_observed, z)] in closed
    form, so ln p(x) = L + KL never falls. Plain EM is slow near the maximum. With ``accelerate`` the M step is replaced
    by a quasi-Newton step if ln p there is at least the bound that the M step guarantees, so the log-likelihood
    still never falls. Plain EM stalls where a diagonal noise variance tends to zero (a Heywood case), the accelerated
    one does not.

    Complete data are read once by ``Rows``, and an iteration costs O(D²K). With missing entries an iteration reads all
    blocks, O(N D K²), and the marginal likelihood of the observed entries is exact: nothing is imputed.

    With a pattern of zeros in W, and a free prior covariance S, this is confirmatory factor analysis with correlated
    factors. The M step of S is the mean of E[z zᵀ]. As the scales of W and S are not separately identified where W is
    free, S is returned as correlations.

    The maximum that EM reaches depends on the start. For isotropic noise and complete data ``principal`` is the maximum.

    Rounding: with missing entries ln |I + WᵀΨ⁻¹W| loses the digits of the largest signal to noise ratio. Where the noise
    is far below 1e-3 of a column's standard deviation, recorded numbers are accurate to about 1e-6 nats only.

    Args:
        rows: the data.
        start: the first parameters. The prior of z is kept, its covariance unless it is free. The noise decides the
            structure: isotropic, diagonal, or full, which must be fixed.
        fixed: which of "weight", "bias", "noise" keep their value.
        pattern: (D, K), which weights are free; the others keep their value. None for all.
        free_prior: whether the prior covariance of z is free.
        min_scale: the smallest noise standard deviation, > 0, in units of x, one number or one per column. A likelihood
            with free noise is unbounded without a floor. Float64 resolves no noise below 1e-6 of a column's standard
            deviation, which is a floor too (``noise_floor``). Fixed noise has no floor.
        iterations: the most iterations.
        tolerance: the run ends when three iterations in a row gain less, in nats per row.
        accelerate: False for plain EM.
        watch: called with the parameters and the steps of each iteration; ends the run where it returns True.

    Returns:
        The parameters and the history: two steps per iteration, E (kl = 0) and M (kl > 0).
        ``history.floored`` lists the columns whose noise is at the floor.

    Raises:
        DeclarationError: an unknown name in ``fixed``, or full noise that is not fixed, or has a pattern or a free prior.
        ShapeError: the start is not for D columns.

    >>> x = torch.tensor([[2.0, 1.0], [-2.0, 1.0], [2.0, -1.0], [-2.0, -1.0]])
    >>> start = LinearGaussian(torch.ones(2, 1), torch.zeros(2), torch.tensor(1.0))
    >>> model, history = em(Rows.of(x), start)
    >>> round(float(model.noise), 6), history.converged
    (1.0, True)
    """
    return maximise(
        rows,
        start,
        fixed,
        min_scale,
        pattern=pattern,
        free_prior=free_prior,
        iterations=iterations,
        tolerance=tolerance,
        accelerate=accelerate,
        factorised=False,
        watch=watch,
    )


def maximise(
    rows: Rows,
    start: LinearGaussian,
    fixed: Collection[str],
    min_scale: Floor,
    *,
    pattern: Tensor | None = None,
    free_prior: bool = False,
    iterations: int,
    tolerance: float,
    accelerate: bool,
    factorised: bool,
    watch: Watch | None,
) -> tuple[LinearGaussian, History]:
    """EM with the exact posterior, or with the best factorised one; see ``em`` and ``variational_em``."""
    unknown = set(fixed) - set(PARAMETERS)
    if unknown:
        raise DeclarationError(f"fixed may name {', '.join(PARAMETERS)}; got {', '.join(sorted(unknown))}")
    if len(start.bias) != rows.dim:
        raise ShapeError(f"start must be for the {rows.dim} columns of x; it has {len(start.bias)}")
    floor = noise_floor(rows, min_scale, start.structure)
    free = [name for name in PARAMETERS if name not in fixed] + ["prior"] * free_prior
    scale = torch.maximum(rows.variance, floor).sqrt()
    acceleration = QuasiNewtonAscent(free, pattern, scale, floor, rows.count) if accelerate else None

    # The loop works on differences from the column means.
    def run(
        problem: Problem[LinearGaussian, Result], model: LinearGaussian
    ) -> tuple[LinearGaussian, History]:
        return coordinate_ascent(
            problem,
            replace(model, bias=model.bias - rows.mean),
            acceleration,
            rows=rows.count,
            iterations=iterations,
            tolerance=tolerance,
            watch=watch and (lambda state, steps: watch(replace(state, bias=state.bias + rows.mean), steps)),
        )

    if start.structure != "full":
        pieces = None if rows.has_missing else list(rows.pieces())
        problem = _Problem(
            lambda: rows.pieces() if pieces is None else pieces, free, floor, factorised, pattern
        )
        noise = torch.maximum(start.noise, floor) if "noise" in free else start.noise
        model, history = run(problem, replace(start, noise=noise))
    elif "noise" in free:
        raise DeclarationError(
            "full noise must be fixed: with free full noise the factors are not identifiable"
        )
    elif pattern is not None or free_prior:
        raise DeclarationError("a pattern or a free prior needs isotropic or diagonal noise; got full")
    elif factorised:
        raise DeclarationError("variational EM serves isotropic and diagonal noise; got full: use em")
    else:
        model, history = run(FullNoise(rows, free), start)
    floored = (model.noise <= floor * (1 + 1e-6)).expand(rows.dim) if "noise" in free else torch.zeros(0)
    history = replace(history, floored=tuple(floored.nonzero().flatten().tolist()))
    model = replace(model, bias=model.bias + rows.mean)
    return model.with_unit_factors() if free_prior and "weight" in free else model, history


@dataclass(frozen=True)
class _EStep:
    """The moments of an E step, with the bound and the gradient of ln p."""

    moments: Moments

    @property
    def gap(self) -> float:
        return self.moments.gap

    def bound_at(self, model: LinearGaussian) -> float:
        return self.moments.bound(model.lines())

    def slope(self, model: LinearGaussian) -> Slope:
        """∂ ln p of all rows at the model of the E step."""
        moments, noise = self.moments, model.noise.expand(len(model.bias))
        of_noise = 0.5 * (moments.square / noise - moments.observed) / noise
        of_noise = of_noise if model.noise.dim() else of_noise.sum()
        mean, covariance = model.prior
        inverse = torch.cholesky_inverse(torch.linalg.cholesky(covariance))
        excess = moments.rows * (moments.spread_of_latents(mean) - covariance)
        return Slope(moments.cross / noise.unsqueeze(1), of_noise, 0.5 * inverse @ excess @ inverse)


@dataclass(frozen=True)
class _Problem:
    """E and M step for isotropic or diagonal noise."""

    pieces: Callable[[], Iterable[Piece]]
    free: Collection[str]
    floor: Tensor
    factorised: bool
    pattern: Tensor | None

    def expect(self, model: LinearGaussian) -> _EStep:
        return _EStep(expect(model.lines(), self.pieces(), factorised=self.factorised))

    def improve(self, model: LinearGaussian, e_step: _EStep) -> LinearGaussian:
        """Solves least squares for the free coefficients of each column. The noise is the residual, or the floor."""
        moments = e_step.moments
        line = moments.lines.line + free_step(moments.latent, moments.cross, self.free, self.pattern)
        noise, prior = model.noise, model.prior[1]
        if "noise" in self.free:
            residual, count = moments.residual(line), moments.observed
            ratio = residual / count if noise.dim() else residual.sum() / count.sum()
            noise = torch.maximum(ratio, self.floor)
        if "prior" in self.free:
            prior = moments.spread_of_latents(model.prior[0])
        return replace(model, weight=line[:, :-1], bias=line[:, -1], noise=noise, prior_covariance=prior)

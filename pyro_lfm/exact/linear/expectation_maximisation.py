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
from pyro_lfm.exact.linear.rows import Piece, Rows
from pyro_lfm.exact.quasi_newton import QuasiNewton

PARAMETERS = ("weight", "bias", "noise")
# The steps that the quasi-Newton ascent keeps, and the number of refused proposals in a row after which it drops them.
_MEMORY, _FAILURES = 15, 5
Result = TypeVar("Result", "_EStep", FullMoments)
Watch = Callable[[LinearGaussian, tuple[Step, ...]], bool]


def em(
    rows: Rows,
    start: LinearGaussian,
    *,
    fixed: Collection[str] = (),
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

    The maximum that EM reaches depends on the start. For isotropic noise and complete data ``principal`` is the maximum.

    Rounding: with missing entries ln |I + WᵀΨ⁻¹W| loses the digits of the largest signal to noise ratio. Where the noise
    is far below 1e-3 of a column's standard deviation, recorded numbers are accurate to about 1e-6 nats only.

    Args:
        rows: the data.
        start: the first parameters. Its prior of z is kept, and its noise decides the structure: isotropic, diagonal,
            or full, which must be fixed.
        fixed: which of "weight", "bias", "noise" keep their value.
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
        DeclarationError: an unknown name in ``fixed``, or full noise that is not fixed.
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
    free = [name for name in PARAMETERS if name not in fixed]
    scale = torch.maximum(rows.variance, floor).sqrt()
    acceleration = _QuasiNewtonAscent(free, scale, floor, rows.count) if accelerate else None

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
        problem = _Problem(lambda: rows.pieces() if pieces is None else pieces, free, floor, factorised)
        noise = torch.maximum(start.noise, floor) if "noise" in free else start.noise
        model, history = run(problem, replace(start, noise=noise))
    elif "noise" in free:
        raise DeclarationError(
            "full noise must be fixed: with free full noise the factors are not identifiable"
        )
    elif factorised:
        raise DeclarationError("variational EM serves isotropic and diagonal noise; got full: use em")
    else:
        model, history = run(FullNoise(rows, free), start)
    floored = (model.noise <= floor * (1 + 1e-6)).expand(rows.dim) if "noise" in free else torch.zeros(0)
    history = replace(history, floored=tuple(floored.nonzero().flatten().tolist()))
    return replace(model, bias=model.bias + rows.mean), history


@dataclass(frozen=True)
class _EStep:
    """The moments of an E step, with the bound and the gradient of ln p."""

    moments: Moments

    @property
    def gap(self) -> float:
        return self.moments.gap

    def bound_at(self, model: LinearGaussian) -> float:
        return self.moments.bound(model.lines())

    def slope(self, model: LinearGaussian) -> tuple[Tensor, Tensor]:
        """∂ ln p of all rows in (W, b), (D, K + 1), and in the noise variances, at the model of the E step."""
        moments, noise = self.moments, model.noise.expand(len(model.bias))
        of_noise = 0.5 * (moments.square / noise - moments.observed) / noise
        return moments.cross / noise.unsqueeze(1), of_noise if model.noise.dim() else of_noise.sum()


@dataclass(frozen=True)
class _Problem:
    """E and M step for isotropic or diagonal noise."""

    pieces: Callable[[], Iterable[Piece]]
    free: Collection[str]
    floor: Tensor
    factorised: bool

    def expect(self, model: LinearGaussian) -> _EStep:
        return _EStep(expect(model.lines(), self.pieces(), factorised=self.factorised))

    def improve(self, model: LinearGaussian, e_step: _EStep) -> LinearGaussian:
        """Solves least squares for the free coefficients of each column. The noise is the residual, or the floor."""
        moments = e_step.moments
        line = moments.lines.line + free_step(moments.latent, moments.cross, self.free)
        noise = model.noise
        if "noise" in self.free:
            residual, count = moments.residual(line), moments.observed
            ratio = residual / count if noise.dim() else residual.sum() / count.sum()
            noise = torch.maximum(ratio, self.floor)
        return replace(model, weight=line[:, :-1], bias=line[:, -1], noise=noise)


class _QuasiNewtonAscent:
    """Accelerates EM by quasi-Newton ascent of ln p in the free parameters, in units of the columns.

    At the E step's q the gradient of the bound is that of ln p (Fisher's identity). The noise is parametrised by its
    standard deviation. Where a variance tends to zero (a Heywood case), ln p is smooth and even in the standard deviation:
    the ascent converges as at any other maximum, while plain EM needs 1 / error iterations.
    """

    def __init__(self, free: Collection[str], scale: Tensor, floor: Tensor, rows: float):
        self.free, self.scale, self.floor, self.rows = free, scale, floor, rows
        self.failures = 0
        self.forget()

    def propose(
        self, model: LinearGaussian, plain: LinearGaussian, e_step: _EStep | FullMoments
    ) -> LinearGaussian | None:
        if not self.free:
            return None
        point, slope = self._pack(model), self._slope(model, e_step)
        guess = self.guess(point, slope / self.rows)
        if guess is None or not bool(guess.isfinite().all()):
            return None
        return self._unpack(guess, plain)

    def accepted(self) -> None:
        self.failures = 0

    def refused(self) -> None:
        """Keeps the approximate curvature, unless it has failed several times in a row."""
        self.failures += 1
        if self.failures == _FAILURES:
            self.forget()

    def forget(self) -> None:
        self.guess, self.failures = QuasiNewton(_MEMORY), 0

    def _noise_scale(self, noise: Tensor) -> Tensor:
        """The unit in which the standard deviation of the noise is measured."""
        return self.scale if noise.dim() else self.scale.square().mean().sqrt()

    def _pack(self, model: LinearGaussian) -> Tensor:
        parts = {
            "weight": lambda: (model.weight / self.scale.unsqueeze(1)).flatten(),
            "bias": lambda: model.bias / self.scale,
            "noise": lambda: (model.noise.sqrt() / self._noise_scale(model.noise)).flatten(),
        }
        return torch.cat([parts[name]() for name in self.free])

    def _slope(self, model: LinearGaussian, e_step: _EStep | FullMoments) -> Tensor:
        """The gradient of ln p of all rows, as a vector like that of ``_pack``."""
        line, noise = e_step.slope(model)
        line = line * self.scale.unsqueeze(1)
        parts = {
            "weight": lambda: line[:, :-1].flatten(),
            "bias": lambda: line[:, -1],
            "noise": lambda: (2 * model.noise.sqrt() * self._noise_scale(model.noise) * noise).flatten(),
        }
        return torch.cat([parts[name]() for name in self.free])

    def _unpack(self, vector: Tensor, like: LinearGaussian) -> LinearGaussian:
        model = like
        for name in self.free:
            value = getattr(like, name)
            part, vector = vector[: value.numel()].reshape(value.shape), vector[value.numel() :]
            if name == "noise":
                part = torch.maximum((part * self._noise_scale(value)).square(), self.floor)
            else:
                part = part * (self.scale.unsqueeze(1) if name == "weight" else self.scale)
            model = replace(model, **{name: part})
        return model

"""EM for linear Gaussian models: factor analysis, probabilistic PCA, any parameters fixed, entries missing."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from pyro_lfm.errors import DeclarationError, ShapeError
from pyro_lfm.exact.history import History, Step
from pyro_lfm.exact.linear.climb import Problem, climb
from pyro_lfm.exact.linear.full_noise import FullNoise
from pyro_lfm.exact.linear.latents import Moments, expect
from pyro_lfm.exact.linear.linear_gaussian import Floor, LinearGaussian, noise_floor
from pyro_lfm.exact.linear.m_step import free_step
from pyro_lfm.exact.linear.rows import Piece, Rows
from pyro_lfm.exact.quasi_newton import QuasiNewton

PARAMETERS = ("weight", "bias", "noise")
# How many steps of the ascent tell of its curvature; after how many useless guesses in a row they are dropped.
_MEMORY, _FAILURES = 15, 5
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
    form, so ln p(x) = L + KL never falls. Plain EM is slow near the maximum; with ``accelerate`` each M step may go
    on to the point that a quasi-Newton step guesses, if ln p there is at least the bound that the plain M step
    guarantees; otherwise the plain M step stands. So the log-likelihood never falls either way.

    Rounding: with missing entries ln |I + WᵀΨ⁻¹W| loses the digits of the largest signal to noise ratio, so where the
    noise is far below 1e-3 of a column's standard deviation the numbers recorded are good to about 1e-6 nats only.

    Complete data are read once by ``Rows`` and an iteration costs O(D²K). With missing entries an iteration reads all
    blocks, O(N D K²), and the marginal likelihood of the observed entries is exact: nothing is imputed.
    The start matters as in any EM: ``principal`` gives the maximum itself for isotropic noise and complete data.
    Plain EM stalls where a diagonal noise variance tends to zero (a Heywood case), the accelerated one does not.

    Args:
        rows: the data.
        start: where the parameters start; its prior of z is kept, and its noise decides the structure: isotropic or
            diagonal, or full, which must be fixed.
        fixed: which of "weight", "bias", "noise" keep their value.
        min_scale: smallest noise standard deviation, > 0, units of x, one number or one per column: a likelihood with
            free noise is unbounded.
            Fixed noise is not touched. Float64 resolves no noise below 1e-6 of a column's standard deviation: that
            is a floor too (``noise_floor``).
        iterations: the most iterations.
        tolerance: stop when three iterations in a row gain less, nats per row.
        accelerate: False for plain EM.
        watch: called with the parameters and the steps of each iteration; True ends the run.

    Returns:
        The parameters and the history: two steps per iteration, E (kl = 0) and M (kl > 0).
        ``history.floored`` names the columns whose noise sits on the floor.

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
    model = replace(start, bias=start.bias - rows.mean)
    problem: Problem[LinearGaussian]
    if start.structure != "full":
        if "noise" in free:
            model = replace(model, noise=torch.maximum(model.noise, floor))
        pieces = None if rows.has_missing else list(rows.pieces())
        problem = _Problem(lambda: rows.pieces() if pieces is None else pieces, free, floor, factorised)
    elif "noise" in free:
        raise DeclarationError("full noise must be fixed, as factors could not be told from it")
    elif factorised:
        raise DeclarationError("variational EM serves isotropic and diagonal noise; got full: use em")
    else:
        problem = FullNoise(rows, free)
    scale = torch.maximum(rows.variance, floor).sqrt()
    leap = _Ascent(free, scale, floor, rows.count) if accelerate else None
    model, history = climb(
        problem,
        model,
        leap,
        rows=rows.count,
        iterations=iterations,
        tolerance=tolerance,
        watch=watch and (lambda state, steps: watch(replace(state, bias=state.bias + rows.mean), steps)),
    )
    floored = (model.noise <= floor * (1 + 1e-6)).expand(rows.dim) if "noise" in free else torch.zeros(0)
    history = replace(history, floored=tuple(floored.nonzero().flatten().tolist()))
    return replace(model, bias=model.bias + rows.mean), history


@dataclass(frozen=True)
class _Found:
    """The moments of an E step, as the loop asks of them."""

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

    def expect(self, model: LinearGaussian) -> _Found:
        return _Found(expect(model.lines(), self.pieces(), factorised=self.factorised))

    def improve(self, model: LinearGaussian, found: _Found) -> LinearGaussian:
        """Each column is a least squares problem in its free coefficients; the noise is what is left, or the floor."""
        moments = found.moments
        line = moments.lines.line + free_step(moments.latent, moments.cross, self.free)
        noise = model.noise
        if "noise" in self.free:
            residual, count = moments.residual(line), moments.observed
            ratio = residual / count if noise.dim() else residual.sum() / count.sum()
            noise = torch.maximum(ratio, self.floor)
        return replace(model, weight=line[:, :-1], bias=line[:, -1], noise=noise)


class _Ascent:
    """Quasi-Newton ascent of ln p in the free parameters, in units of the columns.

    At the E step's q the gradient of the bound is that of ln p (Fisher's identity). Noise goes by its standard
    deviation: where a variance tends to zero ln p is smooth and even in that, so that a maximum there is one like any
    other, which EM only approaches like 1 / iterations (a Heywood case).
    """

    def __init__(self, free: Collection[str], scale: Tensor, floor: Tensor, rows: int):
        self.free, self.scale, self.floor, self.rows = free, scale, floor, rows
        self.failures = 0
        self.forget()

    def propose(self, model: LinearGaussian, plain: LinearGaussian, found: Any) -> LinearGaussian | None:
        if not self.free:
            return None
        point, slope = self._pack(model), self._slope(model, found)
        guess = self.guess(point, slope / self.rows)
        if guess is None or not bool(guess.isfinite().all()):
            return None
        return self._unpack(guess, plain)

    def accepted(self) -> None:
        self.failures = 0

    def refused(self) -> None:
        """What was learned of the curvature holds, unless it fails again and again."""
        self.failures += 1
        if self.failures == _FAILURES:
            self.forget()

    def forget(self) -> None:
        self.guess, self.failures = QuasiNewton(_MEMORY), 0

    def _noise_scale(self, noise: Tensor) -> Tensor:
        """The unit of its standard deviation."""
        return self.scale if noise.dim() else self.scale.square().mean().sqrt()

    def _pack(self, model: LinearGaussian) -> Tensor:
        parts = {
            "weight": lambda: (model.weight / self.scale.unsqueeze(1)).flatten(),
            "bias": lambda: model.bias / self.scale,
            "noise": lambda: (model.noise.sqrt() / self._noise_scale(model.noise)).flatten(),
        }
        return torch.cat([parts[name]() for name in self.free])

    def _slope(self, model: LinearGaussian, found: Any) -> Tensor:
        """∂ ln p of all rows in the same units."""
        line, noise = found.slope(model)
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

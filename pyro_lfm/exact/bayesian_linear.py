"""Variational Bayes for factor analysis and PCA, with automatic relevance determination of the factors."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from math import log
from typing import NamedTuple

import torch
from torch import Tensor

from pyro_lfm.errors import DeclarationError, ShapeError
from pyro_lfm.exact.climb import climb
from pyro_lfm.exact.history import History
from pyro_lfm.exact.latents import Lines, Moments, expect, infer
from pyro_lfm.exact.linear_gaussian import LinearGaussian, Posterior, check_rows
from pyro_lfm.exact.rows import Piece, Rows

# A factor whose energy is no more is nothing; a gain of so many nats more than a prior can outweigh needs no trial.
_NOTHING, _SURE = 1e-8, 50.0
# The most iterations of an ascent that is only tried.
_TRIAL = 200


class GammaLaw(NamedTuple):
    """Gamma distributions with density ∝ x^(shape − 1) e^(−rate·x); shape and rate: (...)."""

    shape: Tensor
    rate: Tensor

    @property
    def mean(self) -> Tensor:
        return self.shape / self.rate

    @property
    def mean_log(self) -> Tensor:
        return self.shape.digamma() - self.rate.log()

    def divergence(self, prior: GammaLaw) -> Tensor:
        """KL(self ‖ prior), nats, summed."""
        kl = prior.shape.lgamma() - self.shape.lgamma() + (self.shape - prior.shape) * self.shape.digamma()
        kl = kl + prior.shape * (self.rate.log() - prior.rate.log())
        return (kl + self.shape * (prior.rate / self.rate - 1)).sum()


@dataclass(frozen=True, eq=False)
class LinearPrior:
    """Priors of the parameters of x = W z + b + ε, ε ~ N(0, diag(1/τ)), z ~ N(0, I).

    w_dk ~ N(0, scale_d² / α_k), α_k ~ Gamma(relevance), b_d ~ N(bias_mean, 1/bias_precision), τ ~ Gamma(noise). Gammas are
    (shape, rate). The defaults are broad for data whose columns have a scale near one. What belongs to a column, all but
    relevance and shapes, is one number or (D,).
    """

    relevance: tuple[float, float] = (1e-3, 1e-3)
    noise: tuple[float, float | Tensor] = (1e-3, 1e-3)
    bias_mean: float | Tensor = 0.0
    bias_precision: float | Tensor = 1e-3
    scale: float | Tensor = 1.0

    def __post_init__(self) -> None:
        for name in ("relevance", "noise", "bias_precision", "scale"):
            value = getattr(self, name)
            parts = value if isinstance(value, tuple) else (value,)
            if not all(bool((torch.as_tensor(part) > 0).all()) for part in parts):
                raise DeclarationError(f"{name} must be > 0; got {value}")

    def precision(self, relevance: Tensor) -> Tensor:
        """Of (W, b) given α, (D or 1, K + 1)."""
        scale, bias = (torch.as_tensor(v, dtype=torch.float64) for v in (self.scale, self.bias_precision))
        weight, bias = relevance / scale.square().reshape(-1, 1), bias.reshape(-1, 1)
        columns = max(len(weight), len(bias))
        return torch.cat([weight.expand(columns, -1), bias.expand(columns, -1)], 1)


@dataclass(frozen=True, eq=False)
class BayesianLinear:
    """The posterior q(W, b) q(α) q(τ), with q(W, b) = ∏_d N((w_d, b_d); line_d, covariance_d).

    line: (D, K + 1), mean of (W, b). covariance: (D or 1, K + 1, K + 1); one matrix if all columns share it.
    relevance: q(α), K Gammas. noise: q(τ), one Gamma (isotropic, shape ()) or D of them. needed: (), how many factors the
    data ask for, see ``needed_factors``; K until that is known. prior: what was assumed.
    """

    line: Tensor
    covariance: Tensor
    relevance: GammaLaw
    noise: GammaLaw
    needed: Tensor
    prior: LinearPrior

    def expected(self) -> LinearGaussian:
        """The model at the posterior means of W and b, with noise 1/E[τ]."""
        return LinearGaussian(self.line[:, :-1], self.line[:, -1], 1 / self.noise.mean)

    def posterior(self, x: Tensor) -> Posterior:
        """q(z) of each row, mean (N, K) and covariance (N, K, K), for x (N, D), NaN where missing."""
        x = check_rows(x, len(self.line))
        found = infer(self.lines(), x, torch.ones(x.shape[0], dtype=torch.float64))
        return Posterior(found.mean, found.covariance[found.pattern])

    def energy(self) -> Tensor:
        """Σ_d E[τ_d] E[w_dk]² of each factor, (K,): its variance in units of the noise, summed over columns."""
        return (self.noise.mean.expand(len(self.line)).unsqueeze(1) * self.line[:, :-1].square()).sum(0)

    def rank(self) -> int:
        """How many factors the data ask for: a model with one fewer has a lower bound. See ``needed_factors``."""
        return int(self.needed)

    def without(self, factors: Tensor) -> BayesianLinear:
        """The same with some factors, a mask (K,), switched off: their weights are zero on average, alone."""
        off = torch.cat([factors, torch.zeros(1, dtype=torch.bool)])
        line = self.line.masked_fill(off, 0.0)
        apart = (off.unsqueeze(1) | off) & ~torch.eye(len(off), dtype=torch.bool)
        covariance = self.covariance.masked_fill(apart, 0.0)
        return replace(
            self, line=line, covariance=covariance, relevance=_relevance(line, covariance, self.prior)
        )

    def of(self, factors: Tensor) -> BayesianLinear:
        """The model that has only some of the factors, a mask (K,)."""
        kept = torch.cat([factors, torch.ones(1, dtype=torch.bool)])
        line, covariance = self.line[:, kept], self.covariance[:, kept][:, :, kept]
        relevance = GammaLaw(self.relevance.shape[factors], self.relevance.rate[factors])
        needed = factors.sum().double()
        return replace(self, line=line, covariance=covariance, relevance=relevance, needed=needed)

    def lines(self) -> Lines:
        """The expectations that the E step needs."""
        dim, latent_dim = len(self.line), self.line.shape[1] - 1
        return Lines(
            self.line,
            self.noise.mean.expand(dim),
            self.noise.mean_log.expand(dim),
            torch.zeros(latent_dim, dtype=torch.float64),
            torch.eye(latent_dim, dtype=torch.float64),
            self.covariance,
        )


def variational_bayes(
    rows: Rows,
    start: LinearGaussian,
    prior: LinearPrior | None = None,
    *,
    iterations: int = 2000,
    tolerance: float = 1e-9,
    rotate: bool = True,
    prune: bool = True,
) -> tuple[BayesianLinear, History]:
    """Bayesian factor analysis or PCA by coordinate ascent in q(Z) q(W, b) q(α) q(τ) (Bishop, 1999).

    The bound L = E_q[ln p(x, Z, W, b, α, τ) − ln q] ≤ ln p(x), all constants included, never falls. It is recorded
    after the update of q(Z) ("E") and after those of the parameters ("M"). W and b are not independent under q, as
    they are in Bishop's: the optimum over ∏_d q(w_d, b_d) costs no more and is never worse. Missing entries are left
    out of the likelihood, which marginalises them.

    q(Z) and q(W) change only slowly along rotations of the factors. With ``rotate`` each iteration also tries the
    rotation and shift of the factors that make E[Σ z zᵀ]/N = I and E[WᵀW] diagonal, which is the best one under a
    flat prior on α (Luttinen and Ilin, 2010), and keeps it if the bound gains.

    Ascent is local, and may leave a factor that the bound is better without. With ``prune`` such factors are switched off
    in the end (``pruned``).

    Args:
        rows: the data; the prior is in their units, so standardise the columns or choose it.
        start: where q starts; its noise, isotropic or diagonal, decides whether there is one τ or D. The prior of z
            must be standard. Its K is the most factors there can be.
        prior: of the parameters; broad by default.
        iterations: the most iterations. tolerance: as in ``em``.

    Returns:
        The posterior of the parameters and the history (bounds only).

    Raises:
        DeclarationError: full noise, or a prior of z that is not standard. ShapeError: a start for other columns.

    >>> g = torch.Generator().manual_seed(0)
    >>> x = torch.randn(200, 1, generator=g) @ torch.ones(1, 5) + 0.3 * torch.randn(200, 5, generator=g)
    >>> from pyro_lfm.exact.linear_gaussian import principal
    >>> rows = Rows.of(x)
    >>> posterior, history = variational_bayes(rows, principal(rows, 3))
    >>> posterior.rank(), history.converged
    (1, True)
    """
    prior = LinearPrior() if prior is None else prior
    if start.structure == "full":
        raise DeclarationError("variational Bayes serves isotropic and diagonal noise; got full")
    if len(start.bias) != rows.dim:
        raise ShapeError(f"start must be for the {rows.dim} columns of x; it has {len(start.bias)}")
    mean, covariance = start.prior
    if bool(mean.any()) or not torch.equal(covariance, torch.eye(len(mean), dtype=torch.float64)):
        raise DeclarationError("the prior of z must be standard in variational Bayes; W takes up its scale")
    pieces = None if rows.has_missing else list(rows.pieces())
    problem = _Problem(lambda: rows.pieces() if pieces is None else pieces, prior.bias_mean - rows.mean)

    def ascend(
        state: BayesianLinear, iterations: int = min(iterations, _TRIAL)
    ) -> tuple[BayesianLinear, History]:
        return climb(
            problem,
            state,
            _Rotation() if rotate else None,
            rows=rows.count,
            iterations=iterations,
            tolerance=tolerance,
            likelihood=False,
        )

    state, history = ascend(_start(rows, start, prior), iterations)
    if prune and history.converged:
        state, history = pruned(state, history, ascend, rows.count, tolerance)
        state = replace(state, needed=needed_factors(state, ascend, rows.count, tolerance))
    line = state.line.clone()
    line[:, -1] += rows.mean
    return replace(state, line=line), history


Ascend = Callable[[BayesianLinear], tuple[BayesianLinear, History]]


def pruned(
    state: BayesianLinear, history: History, ascend: Ascend, rows: int, tolerance: float
) -> tuple[BayesianLinear, History]:
    """Switches off the factors that the bound is at least as high without: first what is nothing, then one by one, weakest
    first. The bound is compared after an ascent without the factor; one that is kept is recorded as one iteration.

    Args:
        state, history: where an ascent ended. ascend: one from another state. rows: N. tolerance: nats per row.
    """
    energy = state.energy()
    faint = energy <= _NOTHING
    if bool(faint.any()):
        state, history = _attempt(state, history, faint, faint, ascend, tolerance)
    doubtful = _doubtful(state, rows) & ~faint
    off = faint
    for factor in energy.argsort()[doubtful[energy.argsort()]]:
        one = torch.zeros_like(faint)
        one[factor] = True
        after, longer = _attempt(state, history, one, off | one, ascend, tolerance)
        if after is not state:
            state, history, off = after, longer, off | one
    return state, history


def needed_factors(state: BayesianLinear, ascend: Ascend, rows: int, tolerance: float) -> Tensor:
    """How many factors the data ask for, (): as long as the model without the weakest has a bound as high, it is left out.

    A factor that is switched off still costs the bound what its prior and posterior differ by, so that this asks more of
    a factor than ``pruned`` does.
    """
    state = state.of(state.energy() > _NOTHING)
    state, history = ascend(state)
    while len(energy := state.energy()):
        weakest = energy == energy.min()
        if not bool(_doubtful(state, rows)[weakest].any()):
            break
        after, climbed = ascend(state.of(~weakest))
        if climbed.steps[-1].bound < history.steps[-1].bound - tolerance:
            break
        state, history = after, climbed
    return state.energy().new_tensor(float(len(state.energy())))


def _doubtful(state: BayesianLinear, rows: int) -> Tensor:
    """Whether a factor, (K,), explains so little that its prior may outweigh it: the others need no trial."""
    energy = state.energy()
    gain = 0.5 * rows * (energy - energy.log1p())
    return gain < len(state.line) * log(rows + 1.0) + _SURE


def _attempt(
    state: BayesianLinear, history: History, less: Tensor, off: Tensor, ascend: Ascend, tolerance: float
) -> tuple[BayesianLinear, History]:
    """Without the factors ``less``, and with nothing left of all that are ``off``, if the bound is no lower for it."""
    after, climbed = ascend(state.without(less))
    last, best = climbed.steps[-1], history.steps[-1]
    if last.bound < best.bound - tolerance:
        return state, history
    step = last._replace(iteration=best.iteration + 1, bound=max(last.bound, best.bound))
    return after.without(off), replace(history, steps=(*history.steps, step._replace(step="M"), step))


def _start(rows: Rows, start: LinearGaussian, prior: LinearPrior) -> BayesianLinear:
    """q around a point, in differences from the column means, as sharp as N rows of known z would make it."""
    line = start.line.clone()
    line[:, -1] -= rows.mean
    covariance = torch.diag_embed((start.noise / rows.count).reshape(-1, 1).expand(-1, line.shape[1]))
    shape = prior.noise[0] + 0.5 * (rows.observed if start.noise.dim() else rows.observed.sum())
    noise = GammaLaw(shape, shape * start.noise)
    needed = torch.tensor(float(line.shape[1] - 1), dtype=torch.float64)
    return BayesianLinear(line, covariance, _relevance(line, covariance, prior), noise, needed, prior)


def _relevance(line: Tensor, covariance: Tensor, prior: LinearPrior) -> GammaLaw:
    """The best q(α) for q(W): Gamma(a + D/2, b + ½ E[Σ_d w_dk²])."""
    dim = len(line)
    square = line.square() + covariance.diagonal(dim1=1, dim2=2)
    square = (square / torch.as_tensor(prior.scale, dtype=torch.float64).square().reshape(-1, 1)).sum(0)
    shape = torch.full_like(square[:-1], prior.relevance[0] + 0.5 * dim)
    return GammaLaw(shape, prior.relevance[1] + 0.5 * square[:-1])


@dataclass(frozen=True)
class _Found:
    """The moments of an E step. center: (D,), the prior mean of the bias less the column means."""

    moments: Moments
    center: Tensor
    gap: float = 0.0

    def bound_at(self, q: BayesianLinear) -> float:
        return self.moments.bound(q.lines()) - _divergence(q, self.center)


@dataclass(frozen=True)
class _Problem:
    """The two updates. center: as above."""

    pieces: Callable[[], Iterable[Piece]]
    center: Tensor

    def expect(self, q: BayesianLinear) -> _Found:
        return _Found(expect(q.lines(), self.pieces()), self.center)

    def improve(self, q: BayesianLinear, found: _Found) -> BayesianLinear:
        """q(W, b), then q(τ), then q(α), each the best given the others."""
        moments, prior = found.moments, q.prior
        away = q.line.clone()
        away[:, -1] -= self.center
        scale = prior.precision(q.relevance.mean)
        tau = q.noise.mean.reshape(-1, 1)
        tril = torch.linalg.cholesky(torch.diag_embed(scale) + tau.unsqueeze(2) * moments.latent)
        covariance = torch.cholesky_inverse(tril)
        step = covariance @ (tau * moments.cross - away * scale).unsqueeze(2)
        line = q.line + step.squeeze(2)
        error = moments.residual(line) + (moments.latent * covariance).sum((1, 2))
        isotropic = q.noise.shape.dim() == 0
        rate = torch.as_tensor(prior.noise[1], dtype=torch.float64)
        noise = GammaLaw(q.noise.shape, rate + 0.5 * (error.sum() if isotropic else error))
        return replace(
            q, line=line, covariance=covariance, relevance=_relevance(line, covariance, prior), noise=noise
        )


class _Rotation:
    """Rotates and shifts the factors: z ← A(z − z̄), W ← W A⁻¹, b ← b + W z̄."""

    def propose(self, q: BayesianLinear, plain: BayesianLinear, found: _Found) -> BayesianLinear:
        total, rows, width = found.moments.total, found.moments.rows, plain.line.shape[1]
        mean = total[:-1, -1] / rows
        values, vectors = torch.linalg.eigh(total[:-1, :-1] / rows - torch.outer(mean, mean))
        root = vectors * values.clamp(min=1e-300).sqrt()
        change = torch.eye(width, dtype=torch.float64)
        change[:-1, :-1], change[-1, :-1] = root.mT, mean
        line, covariance = _move(plain, change)
        inverse = torch.as_tensor(plain.prior.scale, dtype=torch.float64).square().reshape(-1, 1).reciprocal()
        inverse = inverse.expand(len(line), 1)
        energy = line.mT @ (inverse * line)
        energy = energy + (inverse.unsqueeze(2) * covariance.expand(len(line), -1, -1)).sum(0)
        change = torch.eye(width, dtype=torch.float64)
        change[:-1, :-1] = torch.linalg.eigh(energy[:-1, :-1]).eigenvectors.flip(1).mT
        line, covariance = _move(replace(plain, line=line, covariance=covariance), change)
        return replace(
            plain, line=line, covariance=covariance, relevance=_relevance(line, covariance, plain.prior)
        )

    def accepted(self) -> None:
        """A rotation does not depend on earlier ones."""

    def refused(self) -> None:
        """Nor does it here."""


def _move(q: BayesianLinear, change: Tensor) -> tuple[Tensor, Tensor]:
    """q(W, b) after (w, b) ← change · (w, b) for every column."""
    return q.line @ change.mT, change @ q.covariance @ change.mT


def _divergence(q: BayesianLinear, center: Tensor) -> float:
    """KL of q(W, b) q(α) q(τ) from the prior, nats; both biases relative to the column means."""
    dim, width = q.line.shape
    prior = q.prior
    away = q.line.clone()
    away[:, -1] -= center
    precision = prior.precision(q.relevance.mean)
    square = q.covariance.diagonal(dim1=1, dim2=2) + away.square()
    log_det = torch.linalg.slogdet(q.covariance).logabsdet.expand(dim).sum()
    mean_log = prior.precision(q.relevance.mean_log.exp()).log().expand(dim, -1).sum()
    lines = 0.5 * ((precision * square).sum() - dim * width - mean_log - log_det)
    laws = [
        GammaLaw(*(torch.as_tensor(value, dtype=torch.float64) for value in law))
        for law in (prior.relevance, prior.noise)
    ]
    return float(lines + q.relevance.divergence(laws[0]) + q.noise.divergence(laws[1]))

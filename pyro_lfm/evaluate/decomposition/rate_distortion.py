"""The rate-distortion curve of a fixed prior and decoder, estimated from weighted draws."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from pyro_lfm.evaluate.calibration.pareto import k_of_largest, tail_size, threshold
from pyro_lfm.evaluate.decomposition.mean_with_errors import Term

# A point of the curve is reliable if at most this share of the rows has too large a k̂.
_TOLERATED = 0.1


@dataclass(frozen=True, eq=False, repr=False)
class RateDistortion:
    """The trade-off of rate and distortion of a fixed prior and decoder, at slopes −1/β, in nats per row.

    Attributes:
        betas: β of each of the P points.
        rate: R(β) = KL(p_β(z | x) ‖ p(z)), a Term for each point.
        distortion: D(β) = −E[log p(x | z)] under p_β(z | x) ∝ p(z) p(x | z)^β, a Term for each point.
        effective_sample_size: the mean over rows of (Σw)² / Σw², (P,).
        untrusted: the share of rows whose k̂ exceeds its threshold, (P,). 1 where there are too few draws for k̂.
        guide: the rate KL(q ‖ p) and distortion −E_q[log p(x | z)] of the guide, a point on the curve or above it.

    >>> import pyro_lfm as lfm, torch
    >>> model = lfm.Model(z=lfm.StandardNormal(1), x=lfm.Gaussian(3, mean=lfm.Linear()))
    >>> pair = model, lfm.ExactPosterior(model)
    >>> parts = lfm.evaluate.decompose(pair, model.sample(20, seed=0)["x"], draws=20, betas=(0.5, 1.0))
    >>> parts.curve.betas, parts.curve.rate[0].mean < parts.curve.rate[1].mean
    ((0.5, 1.0), True)
    """

    betas: tuple[float, ...]
    rate: tuple[Term, ...]
    distortion: tuple[Term, ...]
    effective_sample_size: Tensor
    untrusted: Tensor
    guide: tuple[Term, Term]

    @property
    def reliable(self) -> Tensor:
        """True for the points whose importance weights are reliable in at least 90% of the rows, (P,)."""
        return self.untrusted <= _TOLERATED

    def __repr__(self) -> str:
        rows = zip(
            self.betas, self.rate, self.distortion, self.effective_sample_size.tolist(), self.reliable, strict=True
        )  # fmt: skip
        lines = [
            f"{beta:>8g} {_cell(rate)} {_cell(far)} {ess:>8.0f}" + ("" if good else "  unreliable")
            for beta, rate, far, ess, good in rows
        ]
        guide = f"{'guide':>8} {_cell(self.guide[0])} {_cell(self.guide[1])}"
        head = f"{'beta':>8} {'rate':>12} {'':10} {'distortion':>12} {'':10} {'draws':>8}"
        return "\n".join([head, *lines, guide])


def _cell(term: Term) -> str:
    return f"{term.mean:>12.3f} ± {term.draws_error:<8.2g}"


@dataclass(frozen=True)
class Point:
    """One β for the rows of a block, (B,) each: rate, distortion, their errors, effective sample size, k̂."""

    rate: Tensor
    rate_error: Tensor
    distortion: Tensor
    distortion_error: Tensor
    effective: Tensor
    k: Tensor


def tempered(log_likelihood: Tensor, log_weights: Tensor, beta: float) -> Point:
    """R and D of p_β(z | x) ∝ p(z) p(x | z)^β by self-normalised importance sampling.

    With w̄ the normalised weights, D = −Σ w̄ log p(x | z) and R = −β D − log Z_β, Z_β the mean of w. Errors are by the delta
    method.

    Args:
        log_likelihood: log p(x | z) of each draw and row, (S, B).
        log_weights: log p(z) minus the log density of the proposal, a mixture that contains p(z), (S, B).
    """
    draws = len(log_likelihood)
    log_w = log_weights + (beta * log_likelihood if beta else 0.0)
    share = log_w.softmax(0)
    mean = (share * log_likelihood).sum(0)
    log_z = log_w.logsumexp(0) - math.log(draws)
    off = share * (log_likelihood - mean)
    rate_off = beta * off - (share - 1 / draws)
    top = log_w.topk(min(tail_size(draws) + 1, draws), 0).values
    # The prior is one of the proposals, so weights are bounded for β = 0.
    k = k_of_largest(top) if beta else torch.full_like(mean, -torch.inf)
    return Point(
        beta * mean - log_z,
        rate_off.square().sum(0).sqrt(),
        -mean,
        off.square().sum(0).sqrt(),
        share.square().sum(0).reciprocal(),
        k,
    )


def curve_of_blocks(
    betas: tuple[float, ...], blocks: list[list[Point]], draws: int, guide: tuple[Term, Term]
) -> RateDistortion:
    """The curve over all rows from the points of each block of rows."""
    columns = list(zip(*blocks, strict=True))

    def all_rows(points: tuple[Point, ...], name: str) -> Tensor:
        return torch.cat([getattr(point, name) for point in points])

    terms = {
        name: tuple(Term(all_rows(column, name), all_rows(column, f"{name}_error")) for column in columns)
        for name in ("rate", "distortion")
    }
    effective = torch.stack([all_rows(column, "effective").mean() for column in columns])
    k = torch.stack([all_rows(column, "k") for column in columns])
    untrusted = (
        (k > threshold(draws)).double().mean(1) if tail_size(draws) >= 5 else torch.ones_like(effective)
    )
    return RateDistortion(betas, terms["rate"], terms["distortion"], effective, untrusted, guide)

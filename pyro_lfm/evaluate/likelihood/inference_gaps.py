"""``gaps``: the distance of a bound from log p(x), split into the cost of the guide's family and of its encoder."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from pyro_lfm.closed_form import has_exact_likelihood
from pyro_lfm.data.batch import Batch
from pyro_lfm.errors import DeclarationError, ShapeError
from pyro_lfm.evaluate.calibration.exchange import split_seed
from pyro_lfm.evaluate.inputs import Evaluated, Rows
from pyro_lfm.evaluate.likelihood.estimate import LogLikelihood, exact, fitted, importance
from pyro_lfm.evaluate.likelihood.optimised import optimise
from pyro_lfm.evaluate.requirements import rows_apart
from pyro_lfm.guides import AnyGuide, Guide, Refined
from pyro_lfm.inference.blocks import Blocks, Evaluation
from pyro_lfm.objectives import ELBO
from pyro_lfm.programs.model import AnyModel
from pyro_lfm.shapes import whole

# Rows in one block, estimates of a bound from which its error is computed, and the fewest draws.
_ROWS, _CALLS, _FEWEST = 256, 100, 50
# Roundings in the error of a bound.
_ROUNDINGS = 4


@dataclass(frozen=True, repr=False)
class Gaps:
    """log p(x) − L[q] of each row and its two parts, in nats, with their standard errors from the draws, all (N,).

    Attributes:
        log_likelihood: log p(x), exact or by importance sampling from q*.
        best_bound: L[q*], the bound of the guide's family optimised for the row alone.
        bound: L[q], the encoder's.
        best_bound_error, bound_error: their standard errors. The first includes ``left``.
        left: the estimated distance of L[q*] from the best bound of the family, as the optimisation is not perfect.
        approximation: log p(x) − L[q*] = KL(q* ‖ p(z | x)), the cost of the family.
        approximation_error: its error.
        amortization: L[q*] − L[q], the cost of the encoder.
        amortization_error: its error, paired by noise.
        total, total_error: the sum of both gaps, log p(x) − L[q], and its error.
        steps: steps of each leg of the optimisation of q*.
        draws: draws of z for each bound.

    >>> import pyro_lfm as lfm, torch
    >>> model = lfm.Model(z=lfm.StandardNormal(1), x=lfm.Gaussian(3, mean=lfm.Linear()))
    >>> guide = lfm.Guide(model, z=lfm.Gaussian(mean=lfm.Linear()))  # as it starts
    >>> parts = lfm.evaluate.gaps((model, guide), model.sample(5, seed=0)["x"], draws=50, steps=20)
    >>> parts.bound.shape, torch.allclose(parts.approximation + parts.amortization, parts.total)
    (torch.Size([5]), True)
    """

    log_likelihood: LogLikelihood
    best_bound: Tensor
    best_bound_error: Tensor
    bound: Tensor
    bound_error: Tensor
    amortization_error: Tensor
    left: Tensor
    steps: int
    draws: int

    @property
    def approximation(self) -> Tensor:
        return self.log_likelihood.per_row - self.best_bound

    @property
    def approximation_error(self) -> Tensor:
        return torch.hypot(self.log_likelihood.standard_error, self.best_bound_error)

    @property
    def amortization(self) -> Tensor:
        return self.best_bound - self.bound

    @property
    def total(self) -> Tensor:
        return self.log_likelihood.per_row - self.bound

    @property
    def total_error(self) -> Tensor:
        return torch.hypot(self.log_likelihood.standard_error, self.bound_error)

    @property
    def means(self) -> dict[str, tuple[float, float]]:
        """The mean of each figure over the rows, and its error, in which the part of ``left`` does not fall with N."""
        log_p = self.log_likelihood
        figures = {
            "log p(x)": (log_p.per_row, log_p.standard_error, False),
            "L[q*]": (self.best_bound, self.best_bound_error, True),
            "L[q]": (self.bound, self.bound_error, False),
            "approximation": (self.approximation, self.approximation_error, True),
            "amortization": (self.amortization, self.amortization_error, True),
            "total": (self.total, self.total_error, False),
        }
        left = float(self.left.mean())
        means = {}
        for name, (value, error, optimised) in figures.items():
            square = error.square() - optimised * self.left.square()
            noise = float(square.clamp_min(0).sum().sqrt() / len(error))
            means[name] = float(value.mean()), math.hypot(noise, optimised * left)
        return means

    def __repr__(self) -> str:
        log_p = self.log_likelihood
        how = f"importance sampling, {log_p.draws} draws" if log_p.draws else "exact"
        if log_p.temperatures > 1:
            how = f"annealed, {log_p.draws} chains, {log_p.temperatures} temperatures"
        labels = {
            "log p(x)": f"log p(x)            {how}",
            "L[q*]": f"L[q*]               {self.steps} steps a leg for each row",
            "L[q]": "L[q]                the guide",
            "approximation": "approximation gap   log p(x) - L[q*]",
            "amortization": "amortization gap    L[q*] - L[q]",
            "total": "both                log p(x) - L[q]",
        }
        wide = max(map(len, labels.values()))
        head = f"Gaps: nats per row, means over {len(self.bound)} rows ± errors from the draws and the optimisation"
        body = [
            f"  {labels[name]:<{wide}}  {mean:>10.4f} ± {error:.4f}"
            for name, (mean, error) in self.means.items()
        ]
        return "\n".join([head, *body] + [f"  {log_p.verdict}"] * bool(log_p.draws))


def gaps(
    fit: Evaluated,
    data: Rows | None = None,
    draws: int = 4000,
    steps: int = 400,
    learning_rate: float = 0.1,
    seed: int = 0,
    log_likelihood: LogLikelihood | None = None,
) -> Gaps:
    """Why is the bound of a guide below log p(x)? The gap of each row, split into that of the family and of the encoder.

    The gap is a sum of two::

        log p(x) − L[q] = (log p(x) − L[q*]) + (L[q*] − L[q])
                          approximation gap    amortization gap

    q* is of the guide's family. Its parameters start at the encoder's output and are optimised for the row alone (see
    ``Refined``). The bounds are ELBOs with log q by Monte Carlo, which has no variance where q is exact. Both are estimated
    with the same noise, so that the error of their difference is small. log p(x) is exact for models with a closed form.
    Otherwise it is an importance estimate from q*, which is too low on average, and so is the approximation gap. The verdict
    by k̂ in the repr says whether the estimate is reliable. A row is optimised in legs until its bound stops rising, at most
    eight. The remaining distance of q* from the optimum, estimated from the last two legs (``left``), is in the errors of
    L[q*] and of both gaps. A higher optimum that no leg came near is not included.

    Args:
        fit: a fit, or a pair (model, guide). The guide must be a ``Guide`` of factors with sources, or a ``Refined``, whose
            proposal is evaluated.
        data: rows as given to ``fit``. If left out, those that were fitted. A pair needs them.
        draws: S ≥ 50 draws of z for each bound and each row, and for an estimate of log p(x).
        steps, learning_rate: those of Adam for q*, in each leg. With 0 steps q* is the guide's own q, and ``left`` is 0.
        log_likelihood: a better estimate for the same rows, such as one by annealing.

    Raises:
        DeclarationError: another guide, a guide with tables of rows, a latent that all rows share, or a prior that depends
            on the guide.
        DataError: no data with a pair.
        ShapeError: a log_likelihood of another number of rows.

    Source: Cremer, Li and Duvenaud (2018), "Inference suboptimality in variational autoencoders", equations 2 and 3.

    >>> import pyro_lfm as lfm
    >>> model = lfm.Model(z=lfm.StandardNormal(2), x=lfm.Gaussian(4, mean=lfm.Linear()))
    >>> guide = lfm.Guide(model, z=lfm.Gaussian(mean=lfm.Linear()))  # as it starts
    >>> parts = lfm.evaluate.gaps((model, guide), torch.randn(5, 4), draws=50, steps=20)
    >>> torch.allclose(parts.approximation + parts.amortization, parts.total)
    True
    """
    draws = whole("draws", draws, least=_FEWEST)
    done = fitted(fit, data)
    model = done.model
    rows_apart(model, "lfm.evaluate.gaps")
    if priors := getattr(model, "made_of_guide", []):
        raise DeclarationError(
            f"lfm.evaluate.gaps optimises q for each row, and the prior of {', '.join(priors)} is made of the guide of all "
            "rows: use lfm.evaluate.log_likelihood, which exceeds the bound by the sum of both gaps"
        )
    guide = done.guide.proposal if isinstance(done.guide, Refined) else done.guide
    if not isinstance(guide, Guide):
        raise DeclarationError(
            "lfm.evaluate.gaps needs an lfm.Guide, because its family is optimised for each row; got "
            f"{type(guide).__name__}"
        )
    batch, refined = done.rows_of(data), Refined(guide, steps, learning_rate)
    if log_likelihood is not None and not isinstance(log_likelihood, LogLikelihood):
        raise DeclarationError(
            "log_likelihood must be the result of lfm.evaluate.log_likelihood for the same rows; got "
            f"{type(log_likelihood).__name__}"
        )
    if log_likelihood is not None and len(log_likelihood.per_row) != batch.size:
        raise ShapeError(
            f"log_likelihood must be of the same {batch.size} rows; got {len(log_likelihood.per_row)}"
        )
    search, weights, noise = split_seed(seed, 3)
    optimised = optimise(model, refined, Blocks(model, guide, batch, _ROWS, search), search)
    best, left = optimised.guide, optimised.left
    if log_likelihood is not None:
        log_p = log_likelihood
    elif has_exact_likelihood(model) and not any(name in model.latents for name in batch.names):
        log_p = exact(done, data)
    else:
        log_p = importance(model, best, batch, draws, weights)
    (high, taken), (low, _) = (_bounds(model, each, batch, draws, noise) for each in (best, guide))
    rounding = _ROUNDINGS * torch.finfo(model.dtype).eps * low.mean(0).abs()
    (upper, upper_error), (bound, error), (_, paired) = (
        (each.mean(0), torch.hypot(each.std(0) / len(each) ** 0.5, rounding))
        for each in (high, low, high - low)
    )
    upper_error, paired = torch.hypot(upper_error, left), torch.hypot(paired, left)
    return Gaps(log_p, upper, upper_error, bound, error, paired, left, refined.steps, taken)


def _bounds(model: AnyModel, guide: AnyGuide, batch: Batch, draws: int, seed: int) -> tuple[Tensor, int]:
    """Estimates of the ELBO of each row, (estimates, N), with the same noise for all guides, and the number of draws."""
    blocks = Blocks(model, guide, batch, _ROWS, seed)
    particles = blocks.draws_at_once(max(2, draws // _CALLS))
    calls = -(-draws // particles)
    objective = ELBO(particles, kl="monte-carlo")
    bound = Evaluation(blocks, partial(_per_row, objective, model, guide), draws=particles, calls=calls)
    with blocks.running():
        bounds = [torch.stack([bound(block) for _ in range(calls)]).double() for block in blocks]
    return torch.cat(bounds, 1), calls * particles


def _per_row(objective: ELBO, model: AnyModel, guide: AnyGuide, batch: Batch) -> Tensor:
    return objective.bound(model, guide, batch).per_row

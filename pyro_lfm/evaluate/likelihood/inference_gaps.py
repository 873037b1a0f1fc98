"""What a bound is short of log p(x): how much of it the family of the guide costs, and how much the encoder."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from pyro_lfm.closed_form import is_recognised
from pyro_lfm.data.batch import Batch
from pyro_lfm.errors import DeclarationError, ShapeError
from pyro_lfm.evaluate.calibration.exchange import seeds
from pyro_lfm.evaluate.inputs import Evaluated, Rows
from pyro_lfm.evaluate.likelihood.estimate import LogLikelihood, exact, fitted, importance
from pyro_lfm.evaluate.likelihood.optimised import optimise
from pyro_lfm.evaluate.requirements import rows_apart
from pyro_lfm.guides import AnyGuide, Guide, Refined
from pyro_lfm.inference.blocks import Blocks, Evaluation
from pyro_lfm.objectives import ELBO
from pyro_lfm.programs.model import AnyModel
from pyro_lfm.shapes import whole

# Rows taken together; estimates of a bound from which its error is known, and draws for the fewest that tell.
_ROWS, _CALLS, _FEWEST = 256, 100, 50
# By how many roundings a bound is taken to be off.
_ROUNDINGS = 4


@dataclass(frozen=True, repr=False)
class Gaps:
    """log p(x) − L[q] of each row and its two parts, in nats, with their standard errors from the draws, all (N,).

    Attributes:
        log_likelihood: log p(x), exact or by importance sampling from q*.
        best_bound: L[q*], the bound of the guide's family optimised for the row alone. bound: L[q], the encoder's.
        best_bound_error, bound_error: their standard errors, the first with what the optimisation has ``left``.
        left: by how much the best q of the family may have a higher bound than the q* that was found.
        approximation: log p(x) − L[q*] = KL(q* ‖ p(z | x)), what the family costs. approximation_error: its error.
        amortization: L[q*] − L[q], what the encoder costs. amortization_error: its error; both bounds have the same noise.
        total, total_error: of their sum, log p(x) − L[q].
        steps: of each leg of the optimisation of q*. draws: of z for each bound.
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
        """Of each figure the mean over the rows and its error: what is left of the optimisation does not fall with N."""
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
        found = {}
        for name, (value, error, optimised) in figures.items():
            square = error.square() - optimised * self.left.square()
            noise = float(square.clamp_min(0).sum().sqrt() / len(error))
            found[name] = float(value.mean()), math.hypot(noise, optimised * left)
        return found

    def __repr__(self) -> str:
        log_p = self.log_likelihood
        how = f"importance sampling, {log_p.draws} draws" if log_p.draws else "exact"
        if log_p.temperatures > 1:
            how = f"annealed, {log_p.draws} chains, {log_p.temperatures} temperatures"
        words = {
            "log p(x)": f"log p(x)            {how}",
            "L[q*]": f"L[q*]               {self.steps} steps a leg for each row",
            "L[q]": "L[q]                the guide",
            "approximation": "approximation gap   log p(x) - L[q*]",
            "amortization": "amortization gap    L[q*] - L[q]",
            "total": "both                log p(x) - L[q]",
        }
        wide = max(map(len, words.values()))
        head = f"Gaps: nats per row, means over {len(self.bound)} rows ± errors from the draws and the optimisation"
        body = [
            f"  {words[name]:<{wide}}  {mean:>10.4f} ± {error:.4f}"
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
    """Why the bound of a guide lies below log p(x), row by row: its family, or the encoder.

        log p(x) − L[q] = (log p(x) − L[q*]) + (L[q*] − L[q])
                          approximation gap    amortization gap

    q* is of the guide's family, its parameters optimised for the row alone from where the encoder put them (see
    ``Refined``). The bounds are ELBOs, with log q by Monte Carlo, which has no variance where q is exact; both are
    estimated with the same noise, so that the error of their difference is small. log p(x) is exact for models with a
    closed form, and else an importance estimate from q*, which lies below it on average: the approximation gap too then,
    and the verdict of k̂ in the repr tells how far it can be believed. A row is optimised in legs until its bound rises no
    more, at most eight; what q* still lacks by the last two of them (``left``) is in the errors of L[q*] and of both gaps.
    It is an estimate from one optimum: of a higher one that no leg came near it knows nothing.

    Args:
        fit: what was fitted, or a pair (model, guide); the guide a ``Guide`` made of factors with sources. Of a
            ``Refined`` the proposal is looked at.
        data: rows as given to ``fit``; left out, those that were fitted. With a pair they are needed.
        draws: of z for each bound and each row, S ≥ 50, and for an estimate of log p(x).
        steps, learning_rate: of Adam for q*, of each leg; with 0 steps q* is the guide's own q, and nothing is said of what
            is left.
        log_likelihood: of the same rows, where a better estimate is at hand, such as one by annealing.

    Raises:
        DeclarationError: another guide, or one with tables of rows; a latent shared by all rows; a prior made of the guide.
        DataError: no data with a pair. ShapeError: a log_likelihood of another number of rows.

    Source: Cremer, Li and Duvenaud (2018), "Inference suboptimality in variational autoencoders", equations 2 and 3.

    >>> from pyro_lfm import Gaussian, Guide, Linear, Model, StandardNormal
    >>> model = Model(z=StandardNormal(2), x=Gaussian(4, mean=Linear()))
    >>> guide = Guide(model, z=Gaussian(mean=Linear()))  # as it starts
    >>> found = gaps((model, guide), torch.randn(5, 4), draws=50, steps=20)
    >>> torch.allclose(found.approximation + found.amortization, found.total)
    True
    """
    draws = whole("draws", draws, least=_FEWEST)
    done = fitted(fit, data)
    model = done.model
    rows_apart(model, "lfm.evaluate.gaps")
    if made := getattr(model, "made_of_guide", []):
        raise DeclarationError(
            f"lfm.evaluate.gaps optimises a q of its own for each row, and the prior of {', '.join(made)} is made of the "
            "guide that serves all rows: see lfm.evaluate.log_likelihood, which lies above the bound by both gaps together"
        )
    guide = done.guide.proposal if isinstance(done.guide, Refined) else done.guide
    if not isinstance(guide, Guide):
        raise DeclarationError(
            "lfm.evaluate.gaps needs a lfm.Guide, whose family can be optimised for each row; got "
            f"{type(guide).__name__}"
        )
    batch, refined = done.rows_of(data), Refined(guide, steps, learning_rate)
    if log_likelihood is not None and not isinstance(log_likelihood, LogLikelihood):
        raise DeclarationError(
            "log_likelihood must be what lfm.evaluate.log_likelihood gives of the same rows; got "
            f"{type(log_likelihood).__name__}"
        )
    if log_likelihood is not None and len(log_likelihood.per_row) != batch.size:
        raise ShapeError(
            f"log_likelihood must be of the same {batch.size} rows; got {len(log_likelihood.per_row)}"
        )
    search, weights, noise = seeds(seed, 3)
    found = optimise(model, refined, Blocks(model, guide, batch, _ROWS, search), search)
    best = found.guide
    if log_likelihood is not None:
        log_p = log_likelihood
    elif is_recognised(model) and not any(name in model.latents for name in batch.names):
        log_p = exact(done, data)
    else:
        log_p = importance(model, best, batch, draws, weights)
    (high, taken), (low, _) = (_bounds(model, each, batch, draws, noise) for each in (best, guide))
    rounding = _ROUNDINGS * torch.finfo(model.dtype).eps * low.mean(0).abs()
    (upper, upper_error), (bound, error), (_, paired) = (
        (each.mean(0), torch.hypot(each.std(0) / len(each) ** 0.5, rounding))
        for each in (high, low, high - low)
    )
    upper_error, paired = torch.hypot(upper_error, found.left), torch.hypot(paired, found.left)
    return Gaps(log_p, upper, upper_error, bound, error, paired, found.left, refined.steps, taken)


def _bounds(model: AnyModel, guide: AnyGuide, batch: Batch, draws: int, seed: int) -> tuple[Tensor, int]:
    """Estimates of the ELBO of each row, (estimates, N), by the same noise whatever the guide; and draws in all."""
    blocks = Blocks(model, guide, batch, _ROWS, seed)
    particles = blocks.draws_at_once(max(2, draws // _CALLS))
    calls = -(-draws // particles)
    objective = ELBO(particles, kl="monte-carlo")
    bound = Evaluation(blocks, partial(_per_row, objective, model, guide), draws=particles, calls=calls)
    with blocks.running():
        found = [torch.stack([bound(block) for _ in range(calls)]).double() for block in blocks]
    return torch.cat(found, 1), calls * particles


def _per_row(objective: ELBO, model: AnyModel, guide: AnyGuide, batch: Batch) -> Tensor:
    return objective.bound(model, guide, batch).per_row

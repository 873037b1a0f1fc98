"""log p(x) of rows: by importance sampling from the guide, by annealing, or by the closed form where there is one."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor

from pyro_lfm.closed_form import recognise
from pyro_lfm.data.batch import Batch
from pyro_lfm.errors import DataError, DeclarationError, one_call
from pyro_lfm.evaluate.likelihood.annealing import Annealing, anneal
from pyro_lfm.evaluate.likelihood.pareto import k_of_largest, pareto_k, tail_size, threshold
from pyro_lfm.evaluate.requirements import rows_apart
from pyro_lfm.guides import AnyGuide
from pyro_lfm.guides.any_guide import as_guide
from pyro_lfm.inference.blocks import Blocks, in_parts
from pyro_lfm.inference.result import Fit
from pyro_lfm.inference.data_boundary import table_for
from pyro_lfm.objectives import ELBO, ImportanceWeightedELBO
from pyro_lfm.programs.model import AnyModel, as_model
from pyro_lfm.shapes import whole

# Rows taken together.
_ROWS = 256
# By how many roundings a sum of log densities is taken to be off.
_ROUNDINGS = 4


@dataclass(frozen=True, repr=False)
class LogLikelihood:
    """log p(x), in nats: exact, or estimates which on average lie below it, the less the more draws.

    Attributes:
        per_row: of each row, (N,).
        standard_error: of each row's, (N,), by the delta method, with four roundings of log p(x); 0 where exact.
        effective_sample_size: (Σw)² / Σw² of each row, (N,): how many draws from the posterior the draws are worth; ∞
            where exact.
        pareto_k: k̂ of each row, (N,): how heavy the tail of its weights is (see ``pareto_k``), which tells whether its
            standard error can be believed; −∞ where exact. It sees what draws have reached: a mode of the posterior that
            none did shows neither in k̂ nor in the error.
        observed: D, how many entries of each row were observed, (N,).
        draws: S; 0 where exact.
        temperatures: T of annealing; 1 for draws from the guide as it is.
    """

    per_row: Tensor
    standard_error: Tensor
    effective_sample_size: Tensor
    pareto_k: Tensor
    observed: Tensor
    draws: int
    temperatures: int = 1

    @property
    def mean(self) -> float:
        """Over the rows."""
        return float(self.per_row.mean())

    @property
    def mean_error(self) -> float:
        """The standard error of the mean that comes from the draws, not from the choice of the rows."""
        return float(self.standard_error.square().sum().sqrt() / len(self.standard_error))

    @property
    def bits_per_dimension(self) -> Tensor:
        """−log p(x) / (D ln 2) of each row, (N,), D its observed entries: the smaller the better; NaN where D = 0.

        Of counts, labels and other discrete data the length of a code for them. Of densities it depends on the units:
        data multiplied by c have log₂ c more bits per dimension, and it may be negative.
        """
        bits = -self.per_row / (self.observed * math.log(2))
        # Estimates of log 1 are not quite 0.
        return bits.masked_fill(self.observed == 0, math.nan)

    @property
    def unreliable(self) -> Tensor:
        """True for the rows whose k̂ exceeds min(1 − 1/log₁₀ S, 0.7), (N,)."""
        limit = threshold(self.draws) if self.draws else math.inf
        return self.pareto_k > limit

    @property
    def verdict(self) -> str:
        """What k̂ says of the estimates, in a sentence."""
        if not self.draws:
            return "Exact, from the closed form."
        if tail_size(self.draws) < 5:
            return f"{self.draws} draws are too few for k̂ to tell whether the errors can be believed: take 100 or more."
        rows, bad, limit = len(self.per_row), int(self.unreliable.sum()), threshold(self.draws)
        if not bad:
            return (
                f"No k̂ of {rows} rows exceeds {limit:.2f}: nothing in the weights speaks against the estimates and their "
                "errors."
            )
        remedy = 'method="annealed"' if self.temperatures == 1 else "more temperatures"
        return (
            f"k̂ exceeds {limit:.2f} in {bad} of {rows} rows (largest {float(self.pareto_k.max()):.2f}): a few draws carry "
            f"their estimates, which lie too low by more than the errors say; more draws, {remedy}, or a guide nearer the "
            "posterior, such as lfm.Refined(guide), help."
        )

    def __repr__(self) -> str:
        how = f"{self.draws} draws" if self.draws else "exact"
        how += f", {self.temperatures} temperatures" * (self.temperatures > 1)
        error = f" ± {self.mean_error:.2g}" if self.draws else ""
        return f"LogLikelihood({len(self.per_row)} rows, {how}: {self.mean:.6g}{error} nats per row). {self.verdict}"


def log_likelihood(
    fit: Fit | tuple[Any, Any],
    data: Any = None,
    draws: int | None = None,
    seed: int = 0,
    method: Literal["importance", "annealed", "exact"] = "importance",
    annealing: Annealing | None = None,
) -> LogLikelihood:
    """log p(x) ≈ log 1/S Σₛ wₛ of the observed entries of each row, E[w] = p(x): below it on average, by about Var[w]/2S.

    "importance" takes w = p(x, z) / q(z | x), z ~ q(z | x). "annealed" leads each draw from the guide to the posterior by
    Hamiltonian Monte Carlo along f_β(z) ∝ q(z | x)^(1−β) p(x, z)^β, with 0 = β₀ < … < β_T = 1, and takes

        log w = Σₜ (βₜ − βₜ₋₁) log [p(x, zₜ₋₁) / q(zₜ₋₁ | x)],

    whose variance falls like 1/T where the chains mix: for rows whose posterior the guide misses (k̂ tells), at some
    hundred times the cost of a draw. Temperatures, step lengths and the metric are found for each row by chains of their
    own and then held, so that E[w] = p(x) stays true. "exact" takes the closed form of a model that has one.

    The draws are taken in blocks, so that memory does not grow with them; where there are many, the block is compiled.

    Args:
        fit: what was fitted, or a pair (model, guide).
        data: rows as given to ``fit``; left out, those that were fitted. With a pair they are needed.
        draws: S ≥ 2; by default 1000, annealed 100. Annealed they come in rounds of at least 32 and at most 256 chains.
        annealing: temperatures and leapfrog steps of "annealed".

    Raises:
        DeclarationError: a latent is shared by all rows; method="exact" of a model without a closed form;
            method="annealed" of a latent that is neither summed out nor on a support that the reals are carried onto.
        DataError: no data with a pair.

    Source: Burda, Grosse and Salakhutdinov (2016), equation 8; Kong (1992) for the effective sample size; Vehtari,
    Simpson, Gelman, Yao and Gabry (2024) for k̂ and its threshold; Neal (2001), equation 11, Neal (2011) for annealing.

    >>> from pyro_lfm import MLP, SVI, Gaussian, Guide, Model, StandardNormal, fit
    >>> model = Model(z=StandardNormal(2), x=Gaussian(4, mean=MLP(8)))
    >>> svi = SVI(Guide(model, z=Gaussian(network=MLP(8))), epochs=2)
    >>> done = fit(model, torch.randn(50, 4), svi, seed=0, progress=False)
    >>> log_likelihood(done, torch.zeros(3, 4), draws=100).per_row.shape
    torch.Size([3])
    >>> log_likelihood(done, torch.zeros(3, 4), method="annealed", annealing=Annealing(temperatures=10)).draws
    100
    """
    if method not in ("importance", "annealed", "exact"):
        raise DeclarationError(f'method must be "importance", "annealed" or "exact"; got {method!r}')
    draws = whole("draws", {"annealed": 100}.get(method, 1000) if draws is None else draws, least=2)
    if method == "exact":
        with one_call():
            return exact(fitted(fit, data), data)
    rows_apart(model_of(fit), "lfm.evaluate.log_likelihood")
    done, batch, guide = served(fit, data)
    if method == "annealed":
        return annealed(
            done.model, guide, batch, draws, Annealing() if annealing is None else annealing, seed
        )
    return importance(done.model, guide, batch, draws, seed)


def model_of(fit: Any) -> AnyModel:
    """The model of a fit or of a pair (model, guide)."""
    if isinstance(fit, Fit):
        return fit.model
    if not isinstance(fit, tuple) or len(fit) != 2:
        raise DeclarationError(
            f"what is evaluated must be a Fit, as lfm.fit gives it, or a pair (model, guide); got {type(fit).__name__}"
        )
    return as_model(fit[0]).bound_to(as_guide(fit[1]))


def fitted(fit: Any, data: Any) -> Fit:
    """A fit as it is; a pair (model, guide) as a fit of the rows given with it."""
    model = model_of(fit)
    if isinstance(fit, Fit):
        return fit
    guide = as_guide(fit[1])
    if data is None:
        raise DataError("a pair (model, guide) holds no rows: give data, or the Fit in place of the pair")
    table = table_for(model, data, guide.needs)
    index = torch.zeros(1, dtype=torch.long)
    first = Batch(table.take(index, model.dtype, model.device), index.to(model.device), len(table))
    model.settle(first)
    guide.settle(first)
    guide = guide.bound_to(model)
    return Fit(model, guide, table, ELBO())


def served(fit: Any, data: Any) -> tuple[Fit, Batch, AnyGuide]:
    """What was fitted, as ``fitted`` gives it, its rows as one batch, and the guide that serves them."""
    with one_call():
        done = fitted(fit, data)
        return done, *done.batch_of(data)


def exact(done: Fit, data: Any) -> LogLikelihood:
    """log p(x) by the closed form."""
    recognise(done.model, 'method="exact"', 'method="importance" estimates log p(x) of any declaration')
    with one_call():
        found = done.log_likelihood(data).to(done.model.device)
        observed = _observed(done.model, done.rows_of(data))
    none = torch.zeros_like(found)
    return LogLikelihood(found, none, none + torch.inf, none - torch.inf, observed, 0)


def importance(model: AnyModel, guide: AnyGuide, batch: Batch, draws: int, seed: int) -> LogLikelihood:
    """log p(x) from draws of a guide that serves the batch as it is."""
    blocks = Blocks(model, guide, batch, _ROWS, seed)
    weights = in_parts(
        blocks, draws, lambda count: partial(ImportanceWeightedELBO(count).log_weights, model, guide)
    )
    tail = tail_size(draws) + 1
    found, tails = [], []
    with blocks.running():
        for block in blocks:
            # Logarithms of the sums, so far, of the weights and of their squares.
            first = second = torch.full(block[1].shape, -torch.inf, dtype=torch.float64, device=model.device)
            top = first.new_empty(0, *first.shape)
            for part in weights:
                log_w = part(block).double()
                first = torch.logaddexp(first, log_w.logsumexp(0))
                second = torch.logaddexp(second, (2 * log_w).logsumexp(0))
                # Of all draws only those are kept that may be among the largest.
                top = torch.cat([top, log_w])
                top = top.topk(min(tail, len(top)), 0).values
            tails.append(k_of_largest(top))
            found.append(torch.stack([first, second]))
    first, second = torch.cat(found, 1)
    return _of_sums(first, second, torch.cat(tails), _observed(model, batch), draws, model.dtype)


def annealed(
    model: AnyModel, guide: AnyGuide, batch: Batch, draws: int, annealing: Annealing, seed: int
) -> LogLikelihood:
    """log p(x) by chains from the guide to the posterior."""
    log_w, _ = anneal(model, guide, batch, draws, annealing, seed)
    return of_weights(log_w, _observed(model, batch), model.dtype, annealing.temperatures)


def of_weights(log_w: Tensor, observed: Tensor, dtype: torch.dtype, temperatures: int) -> LogLikelihood:
    """The mean of weights w, whose logarithms are given, (S, N), computed in a dtype."""
    first, second = log_w.logsumexp(0), (2 * log_w).logsumexp(0)
    return _of_sums(first, second, pareto_k(log_w), observed, len(log_w), dtype, temperatures)


def _of_sums(
    first: Tensor,
    second: Tensor,
    k: Tensor,
    observed: Tensor,
    draws: int,
    dtype: torch.dtype,
    temperatures: int = 1,
) -> LogLikelihood:
    """Of each row, given the logarithms of the sums of its S weights and of their squares."""
    found = first - math.log(draws)
    # Var[log w̄] ≈ Var[w] / (S E[w]²)
    variance = ((second - 2 * first).exp() - 1 / draws).clamp_min(0) * draws / (draws - 1)
    # Where the guide is exact only rounding is left.
    error = torch.hypot(variance.sqrt(), _ROUNDINGS * torch.finfo(dtype).eps * found.abs())
    return LogLikelihood(found, error, (2 * first - second).exp(), k, observed, draws, temperatures)


def _observed(model: AnyModel, batch: Batch) -> Tensor:
    """How many entries of each row were observed, (N,); covariates are none of them."""
    counts = torch.zeros(batch.size, dtype=torch.float64, device=model.device)
    for name in model.observed:
        if name not in model.covariates:
            counts += (~batch.with_gaps(name).isnan()).reshape(batch.size, -1).sum(1)
    return counts

"""``log_likelihood``: log p(x) of rows by importance sampling from the guide, by annealing, or by a closed form."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from pyro_lfm.closed_form import recognise
from pyro_lfm.data.batch import Batch
from pyro_lfm.data.readers import Table
from pyro_lfm.errors import DataError, DeclarationError, one_call
from pyro_lfm.evaluate.calibration.pareto import pareto_k, tail_size, threshold
from pyro_lfm.evaluate.inputs import Evaluated, Rows
from pyro_lfm.evaluate.likelihood.annealing import Annealing, anneal
from pyro_lfm.evaluate.likelihood.weight_sums import WeightSums
from pyro_lfm.evaluate.requirements import rows_apart
from pyro_lfm.guides import AnyGuide
from pyro_lfm.guides.any_guide import as_guide
from pyro_lfm.inference.blocks import Blocks, TableRows, in_parts
from pyro_lfm.inference.data_boundary import table_for
from pyro_lfm.inference.fitted import Fit
from pyro_lfm.objectives import ELBO, ImportanceWeightedELBO
from pyro_lfm.programs.model import AnyModel, as_model
from pyro_lfm.shapes import whole

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Rows in one block.
_ROWS = 256
# Roundings in the error of a sum of log densities.
_ROUNDINGS = 4


@dataclass(frozen=True, repr=False)
class LogLikelihood:
    """log p(x) of rows in nats: exact, or estimates that are below it on average, by less with more draws.

    Attributes:
        per_row: log p(x) of each row, (N,).
        standard_error: its standard error, (N,), by the delta method, with four roundings of log p(x). 0 where exact.
        effective_sample_size: (Σw)² / Σw² of each row, (N,), the equivalent number of draws from the posterior. ∞ where
            exact.
        pareto_k: k̂ of each row, (N,), the tail index of its weights (see ``lfm.evaluate.calibration.pareto_k``). The
            standard error is reliable only for a small k̂. −∞ where exact. A mode of the posterior that no draw has reached
            shows neither in k̂ nor in the error.
        observed: D, the number of observed entries of each row, (N,).
        draws: S. 0 where exact.
        temperatures: T of annealing. 1 for draws from the guide.

    >>> import pyro_lfm as lfm, torch
    >>> model = lfm.Model(z=lfm.StandardNormal(1), x=lfm.Gaussian(3, mean=lfm.Linear()))
    >>> z, noise = torch.randn(60, 4, generator=torch.Generator().manual_seed(0)).split([1, 3], 1)
    >>> fit = lfm.fit(model, z + noise, lfm.EM(), seed=0, progress=False)
    >>> estimate = lfm.evaluate.log_likelihood(fit, draws=50)
    >>> estimate.per_row.shape, float((estimate.per_row - fit.log_likelihood()).abs().max()) < 1e-3
    (torch.Size([60]), True)
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
        """The mean over the rows."""
        return float(self.per_row.mean())

    @property
    def mean_error(self) -> float:
        """The standard error of the mean from the draws, without that from the choice of the rows."""
        return float(self.standard_error.square().sum().sqrt() / len(self.standard_error))

    @property
    def bits_per_dimension(self) -> Tensor:
        """−log p(x) / (D ln 2) of each row, (N,), D its observed entries. Smaller is better. NaN where D = 0.

        For counts, labels and other discrete data it is the length of a code. For densities it depends on the units, and may
        be negative: data multiplied by c have log₂ c more bits per dimension.
        """
        bits = -self.per_row / (self.observed * math.log(2))
        # Without observed entries log p(x) is log 1, whose estimate is not exactly 0.
        return bits.masked_fill(self.observed == 0, math.nan)

    @property
    def unreliable(self) -> Tensor:
        """True for the rows whose k̂ exceeds min(1 − 1/log₁₀ S, 0.7), (N,)."""
        limit = threshold(self.draws) if self.draws else math.inf
        return self.pareto_k > limit

    @property
    def verdict(self) -> str:
        """Whether the estimates are reliable by k̂, in a sentence."""
        if not self.draws:
            return "Exact, from the closed form."
        if tail_size(self.draws) < 5:
            return f"{self.draws} draws are too few for k̂, so the errors may be unreliable: take 100 or more."
        rows, bad, limit = len(self.per_row), int(self.unreliable.sum()), threshold(self.draws)
        if not bad:
            return (
                f"No k̂ of {rows} rows exceeds {limit:.2f}: the weights give no reason to doubt the estimates and their "
                "errors."
            )
        remedy = 'method="annealed"' if self.temperatures == 1 else "more temperatures"
        return (
            f"k̂ exceeds {limit:.2f} in {bad} of {rows} rows (largest {float(self.pareto_k.max()):.2f}): a few draws "
            f"dominate their estimates, which are too low by more than their errors. Take more draws, {remedy}, or a "
            "guide closer to the posterior, such as lfm.Refined(guide)."
        )

    def plot(self, *, title: str | None = "k̂ of each row") -> Figure:
        """k̂ of the rows in ascending order, see ``lfm.plots.pareto_k``."""
        from pyro_lfm import plots

        return plots.pareto_k(self, title=title)

    def __repr__(self) -> str:
        how = f"{self.draws} draws" if self.draws else "exact"
        how += f", {self.temperatures} temperatures" * (self.temperatures > 1)
        error = f" ± {self.mean_error:.2g}" if self.draws else ""
        return f"LogLikelihood({len(self.per_row)} rows, {how}: {self.mean:.6g}{error} nats per row). {self.verdict}"


def log_likelihood(
    fit: Evaluated,
    data: Rows | None = None,
    draws: int | None = None,
    seed: int = 0,
    method: Literal["importance", "annealed", "exact"] = "importance",
    annealing: Annealing | None = None,
) -> LogLikelihood:
    """log p(x) ≈ log 1/S Σₛ wₛ of the observed entries of each row, E[w] = p(x): below it on average, by about Var[w]/2S.

    "importance" takes w = p(x, z) / q(z | x), z ~ q(z | x). "annealed" moves each draw from the guide to the posterior by
    Hamiltonian Monte Carlo along f_β(z) ∝ q(z | x)^(1−β) p(x, z)^β, with 0 = β₀ < … < β_T = 1, and takes::

        log w = Σₜ (βₜ − βₜ₋₁) log [p(x, zₜ₋₁) / q(zₜ₋₁ | x)]

    The variance of log w falls like 1/T where the chains mix. It is for rows whose posterior the guide misses, as a large k̂
    shows, and costs some hundred times as much per draw. Temperatures, step lengths and the mass matrix are tuned for each
    row by separate chains and then held, so that E[w] = p(x). "exact" takes the closed form of a model that has one.

    Draws are taken in blocks, so that memory does not grow with their number. Many draws are compiled.

    Args:
        fit: a fit, or a pair (model, guide).
        data: rows as given to ``fit``. If left out, those that were fitted. A pair needs them.
        draws: S ≥ 2, by default 1000, or 100 for "annealed", which runs in rounds of 32 to 256 chains.
        annealing: temperatures and leapfrog steps of "annealed".

    Raises:
        DeclarationError: a latent that all rows share, method="exact" for a model without a closed form, or
            method="annealed" for a latent that is neither summed out nor on a support with a map from the reals.
        DataError: no data with a pair.

    Source: Burda, Grosse and Salakhutdinov (2016), equation 8; Kong (1992) for the effective sample size; Vehtari,
    Simpson, Gelman, Yao and Gabry (2024) for k̂ and its threshold; Neal (2001), equation 11, Neal (2011) for annealing.

    >>> import pyro_lfm as lfm
    >>> model = lfm.Model(z=lfm.StandardNormal(2), x=lfm.Gaussian(4, mean=lfm.MLP(8)))
    >>> svi = lfm.SVI(lfm.Guide(model, z=lfm.Gaussian(network=lfm.MLP(8))), epochs=2)
    >>> done = lfm.fit(model, torch.randn(50, 4), svi, seed=0, progress=False)
    >>> lfm.evaluate.log_likelihood(done, torch.zeros(3, 4), draws=100).per_row.shape
    torch.Size([3])
    >>> annealing = lfm.evaluate.Annealing(temperatures=10)
    >>> lfm.evaluate.log_likelihood(done, torch.zeros(3, 4), method="annealed", annealing=annealing).draws
    100
    """
    if method not in ("importance", "annealed", "exact"):
        raise DeclarationError(f'method must be "importance", "annealed" or "exact"; got {method!r}')
    draws = whole("draws", {"annealed": 100}.get(method, 1000) if draws is None else draws, least=2)
    if method == "exact":
        with one_call():
            return exact(fitted(fit, data), data)
    rows_apart(model_of(fit), "lfm.evaluate.log_likelihood")
    with one_call():
        done = fitted(fit, data)
        rows, guide = done.rows_and_guide(data)
    if method == "annealed":
        return annealed(done.model, guide, rows, draws, Annealing() if annealing is None else annealing, seed)
    return importance(done.model, guide, rows, draws, seed)


def model_of(fit: Evaluated) -> AnyModel:
    """The model of a fit or of a pair (model, guide)."""
    if isinstance(fit, Fit):
        return fit.model
    if not isinstance(fit, tuple) or len(fit) != 2:
        raise DeclarationError(
            f"fit must be a Fit, as lfm.fit gives it, or a pair (model, guide); got {type(fit).__name__}"
        )
    return as_model(fit[0]).bound_to(as_guide(fit[1]))


def fitted(fit: Evaluated, data: Rows | Table | None) -> Fit:
    """A fit unchanged, or a pair (model, guide) as a fit of the given rows."""
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


def served(fit: Evaluated, data: Rows | None) -> tuple[Fit, Batch, AnyGuide]:
    """The fit, as ``fitted`` gives it, its rows as one batch, and the guide for these rows."""
    with one_call():
        done = fitted(fit, data)
        return done, *done.batch_of(data)


def exact(done: Fit, data: Rows | None) -> LogLikelihood:
    """log p(x) by the closed form."""
    recognise(done.model).exact('method="exact"', 'method="importance" estimates log p(x) of any declaration')
    with one_call():
        log_p = done.log_likelihood(data).to(done.model.device)
        observed = _observed(done.model, Blocks(done.model, done.guide, done.rows_of(data), _ROWS, 0))
    zero = torch.zeros_like(log_p)
    return LogLikelihood(log_p, zero, zero + torch.inf, zero - torch.inf, observed, 0)


def importance(
    model: AnyModel, guide: AnyGuide, rows: Batch | TableRows, draws: int, seed: int
) -> LogLikelihood:
    """log p(x) from draws of a guide for the rows."""
    blocks = Blocks(model, guide, rows, _ROWS, seed)
    weights = in_parts(
        blocks, draws, lambda count: partial(ImportanceWeightedELBO(count).log_weights, model, guide)
    )
    sums = WeightSums(draws)
    results = []
    with blocks.running():
        for block in blocks:
            for part in weights:
                sums.add(part(block))
            results.append(sums.taken())
    first, second, k = torch.cat(results, 1)
    return _of_sums(first, second, k, _observed(model, blocks), draws, model.dtype)


def annealed(
    model: AnyModel, guide: AnyGuide, rows: Batch | TableRows, draws: int, annealing: Annealing, seed: int
) -> LogLikelihood:
    """log p(x) by chains from the guide to the posterior."""
    log_w, _ = anneal(model, guide, rows, draws, annealing, seed)
    observed = _observed(model, Blocks(model, guide, rows, _ROWS, seed))
    return of_weights(log_w, observed, model.dtype, annealing.temperatures)


def of_weights(log_w: Tensor, observed: Tensor, dtype: torch.dtype, temperatures: int) -> LogLikelihood:
    """The estimate from log weights, (S, N), which were computed in ``dtype``."""
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
    """The estimate from the logarithms of the sums of S weights, and of their squares, of each row."""
    log_p = first - math.log(draws)
    # Var[log w̄] ≈ Var[w] / (S E[w]²)
    variance = ((second - 2 * first).exp() - 1 / draws).clamp_min(0) * draws / (draws - 1)
    # Rounding is the only error of an exact guide.
    error = torch.hypot(variance.sqrt(), _ROUNDINGS * torch.finfo(dtype).eps * log_p.abs())
    return LogLikelihood(log_p, error, (2 * first - second).exp(), k, observed, draws, temperatures)


def _observed(model: AnyModel, blocks: Blocks) -> Tensor:
    """The number of observed entries of each row, (N,), without covariates."""
    names = [name for name in model.observed if name not in model.covariates]
    return torch.cat(
        [
            sum(
                ((~rows[name].isnan()).reshape(len(index), -1).sum(1).double() for name in names),
                torch.zeros(len(index), dtype=torch.float64, device=model.device),
            )
            for rows, index in blocks
        ]
    )

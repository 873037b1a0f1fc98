"""log p(x) of rows by importance sampling from the guide."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from pyro_lfm.inference.engines.engine import Setup
from pyro_lfm.inference.engines.evaluation import Evaluation, worth
from pyro_lfm.inference.result import Fit
from pyro_lfm.objectives import ImportanceWeightedELBO
from pyro_lfm.programs import evaluating
from pyro_lfm.runtime import Stream, isolated
from pyro_lfm.shapes import whole

# Rows taken together, and numbers that the likelihood of a block of draws may have.
_ROWS, _NUMBERS = 256, 2**22


@dataclass(frozen=True)
class LogLikelihood:
    """Estimates of log p(x), in nats; on average they lie below it, the less the more draws.

    Attributes:
        per_row: of each row, (N,).
        standard_error: of each row's, (N,), by the delta method.
        effective_sample_size: (Σw)² / Σw² of each row, (N,): how many draws from the posterior the draws are worth.
        draws: S.
    """

    per_row: torch.Tensor
    standard_error: torch.Tensor
    effective_sample_size: torch.Tensor
    draws: int

    @property
    def mean(self) -> float:
        """Over the rows."""
        return float(self.per_row.mean())

    @property
    def mean_error(self) -> float:
        """The standard error of the mean that comes from the draws, not from the choice of the rows."""
        return float(self.standard_error.square().sum().sqrt() / len(self.standard_error))


def log_likelihood(fit: Fit, data: Any = None, draws: int = 1000, seed: int = 0) -> LogLikelihood:
    """log p(x) ≈ log 1/S Σₛ p(x, zₛ) / q(zₛ | x), zₛ ~ q(z | x), of each row.

    The draws are taken in blocks, so that memory does not grow with them; where there are many, the block is compiled.

    Args:
        fit: what was fitted.
        data: rows as given to ``fit``; left out, those that were fitted.
        draws: S ≥ 2.

    Raises:
        DeclarationError: a latent is shared by all rows.

    Source: Burda, Grosse and Salakhutdinov (2016), equation 8; Kong (1992) for the effective sample size.

    >>> from pyro_lfm import MLP, SVI, Gaussian, Guide, Model, StandardNormal, fit
    >>> model = Model(z=StandardNormal(2), x=Gaussian(4, mean=MLP(8)))
    >>> svi = SVI(Guide(model, z=Gaussian(network=MLP(8))), epochs=2)
    >>> done = fit(model, torch.randn(50, 4), svi, seed=0, progress=False)
    >>> log_likelihood(done, torch.zeros(3, 4), draws=100).per_row.shape
    torch.Size([3])
    """
    draws = whole("draws", draws, least=2)
    batch, guide = fit._rows(data)
    model, device = fit.model, fit.model.device
    names = [name for name in model.observed if batch[name] is not None]
    rows = {name: batch.with_gaps(name) for name in names}
    missing = {name: batch.mask(name) is not None for name in names}
    setup = Setup(model, guide, torch.optim.Adam, 1.0, Stream(seed, device), batch.total, missing)
    width = sum(variable.shape.numel() for variable in model.sites.all.values())
    size = min(_ROWS, batch.size)
    block = max(1, min(draws, _NUMBERS // (size * width)))
    blocks = [block] * (draws // block) + [draws % block] * (draws % block > 0)
    calls = len(blocks) * (batch.size // size)
    estimators = {
        count: Evaluation(
            setup,
            partial(ImportanceWeightedELBO(count).log_weights, model, guide),
            worth(setup, size, count, calls) if count == block else 0.0,
        )
        for count in set(blocks)
    }
    found = []
    with evaluating(model, guide), isolated(setup.stream, device), torch.no_grad():
        for start in range(0, batch.size, size):
            part = slice(start, start + size)
            values = {name: value[part] for name, value in rows.items()}
            first = second = torch.full(
                (len(batch.index[part]),), -torch.inf, dtype=torch.float64, device=device
            )
            for count in blocks:
                log_w = estimators[count](values, batch.index[part]).double()
                # Sums of the weights and of their squares so far.
                first = torch.logaddexp(first, log_w.logsumexp(0))
                second = torch.logaddexp(second, (2 * log_w).logsumexp(0))
            found.append(torch.stack([first, second]))
    first, second = torch.cat(found, 1)
    # Var[log w̄] ≈ Var[w] / (S E[w]²)
    variance = ((second - 2 * first).exp() - 1 / draws).clamp_min(0) * draws / (draws - 1)
    return LogLikelihood(first - math.log(draws), variance.sqrt(), (2 * first - second).exp(), draws)

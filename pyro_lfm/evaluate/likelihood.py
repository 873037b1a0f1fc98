"""log p(x) of rows by importance sampling from the guide."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from pyro_lfm.inference.engines.evaluation import Blocks, Evaluation
from pyro_lfm.inference.result import Fit
from pyro_lfm.objectives import ImportanceWeightedELBO
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
    batch, guide = fit.batch_of(data)
    model = fit.model
    blocks = Blocks(model, guide, batch, _ROWS, seed)
    width = sum(variable.shape.numel() for variable in model.sites.all.values())
    most = max(1, min(draws, _NUMBERS // (blocks.size * width)))
    counts = [most] * (draws // most) + [draws % most] * (draws % most > 0)
    weights = {
        count: Evaluation(
            blocks,
            partial(ImportanceWeightedELBO(count).log_weights, model, guide),
            draws=count,
            calls=counts.count(count),
        )
        for count in set(counts)
    }
    found = []
    with blocks.running():
        for block in blocks:
            # Logarithms of the sums, so far, of the weights and of their squares.
            first = second = torch.full(block[1].shape, -torch.inf, dtype=torch.float64, device=model.device)
            for count in counts:
                log_w = weights[count](block).double()
                first = torch.logaddexp(first, log_w.logsumexp(0))
                second = torch.logaddexp(second, (2 * log_w).logsumexp(0))
            found.append(torch.stack([first, second]))
    first, second = torch.cat(found, 1)
    # Var[log w̄] ≈ Var[w] / (S E[w]²)
    variance = ((second - 2 * first).exp() - 1 / draws).clamp_min(0) * draws / (draws - 1)
    return LogLikelihood(first - math.log(draws), variance.sqrt(), (2 * first - second).exp(), draws)

"""Where the numbers of a prior decide instead of the data, that is said, with the cure.

Numbers that the user gives a prior are in the units of the data. In other units than they were meant for they outweigh all
that the data say, or a location lies far from every row.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from pyro_lfm.declarations import Declaration
from pyro_lfm.errors import PriorWarning, warn
from pyro_lfm.exact.linear.bayesian_posterior import BayesianLinear
from pyro_lfm.exact.linear.rows import Rows
from pyro_lfm.factors import Conditional
from pyro_lfm.sources.drawn import Drawn
from pyro_lfm.sources.parameter_priors import ARD, Gamma, Normal, NormalGamma, NormalWishart

# The share of a prior in a posterior beyond which the prior decides; and of what it has beside the most that the data can.
_OUTWEIGHS, _AT_BEST = 0.1, 0.25


def warn_of_priors(name: str, factor: Conditional, rows: int, spread: Tensor, mean: Tensor) -> None:
    """Says so where a prior weighs more than the data can, whatever the fit makes of them.

    Args:
        name, factor: an observed variable. rows: N. spread, mean: of its columns, of the shape of the event.
    """
    spread, mean = spread.flatten(), mean.flatten()
    for drawn in factor.drawn.values():
        if (sides := _sides(drawn, rows, spread, mean)) is None:
            continue
        what, of_prior, of_data = sides
        share = float((of_prior / (of_prior + of_data)).max())
        if share > _AT_BEST:
            _warn(
                f"{name}: {what}",
                share,
                drawn.declared,
                f"whose columns have a spread near {_size(spread):.3g}",
            )


def _sides(drawn: Drawn, rows: int, spread: Tensor, mean: Tensor) -> tuple[str, Tensor, Tensor] | None:
    """What a prior is of, its weight in the posterior and the most that the data can have. None where it has no number in
    the units of the data."""
    prior: Any = getattr(drawn.distribution, "__self__", None)
    squares, columns, size = rows * spread.square(), len(spread), drawn.value.numel()
    if isinstance(prior, Gamma) and prior.rate is not None:
        of_columns = drawn.value.shape[-1:] == (columns,)
        return (
            "the noise",
            size / columns * _double(prior.rate),
            (squares if of_columns else squares.mean()) / 2,
        )
    if isinstance(prior, ARD) and prior.rate is not None and drawn.name == "relevance":
        return "the weights", _double(prior.rate), spread.square().sum() / 2
    if isinstance(prior, Normal) and not (prior.mean is None and prior.scale is None):
        scale = prior.spread * spread if prior.scale is None else _of_columns(prior.scale, drawn, columns)
        share = 1 / (1 + rows * (scale / spread).square())
        away = torch.zeros_like(spread)
        if drawn.located and prior.mean is not None:
            away = (mean - _of_columns(prior.mean, drawn, columns)) / spread
        # How far it pulls, in units of the spread: a narrow one that lies where the data lie is what was meant, unless it
        # has more to say than they.
        return f"the {drawn.name}", share * torch.maximum(away.abs(), (share > 0.5).double()), 1 - share
    if isinstance(prior, NormalGamma | NormalWishart) and drawn.name == "precision":
        away = torch.zeros(()) if prior.mean is None else mean - _double(prior.mean).flatten()
        energy = prior.count * away.square()
        if isinstance(prior, NormalGamma) and prior.rate is not None:
            energy = energy + 2 * _double(prior.rate)
        elif isinstance(prior, NormalWishart) and prior.covariance is not None:
            matrix = prior.matrix(torch.zeros(columns, columns, dtype=torch.float64))
            energy, size = energy + prior.degrees_for(columns) * matrix.diagonal(), size // columns
        elif prior.mean is None:
            return None
        return "the means and covariances", size / columns * energy, squares
    return None


def warn_of_noise(name: str, posterior: BayesianLinear, rows: Rows) -> None:
    """Says so where the prior of the noise holds it up, and not the residuals that the fit has left."""
    rate = _double(posterior.prior.noise[1])
    share = float((rate / posterior.noise.rate).max())
    all_of_it = rows.variance * rows.observed / 2
    most = all_of_it if posterior.noise.rate.dim() else all_of_it.sum()
    # Where it outweighs even those before the fit, that was said.
    if share > _OUTWEIGHS and bool((rate <= _AT_BEST * (rate + most)).all()):
        left = float((posterior.noise.rate - rate).min())
        seen = f"whose residuals have half a sum of squares of {left:.3g} to hold against it"
        _warn(f"{name}: the noise", share, Gamma(posterior.prior.noise[0], float(rate.max())), seen)


def _warn(what: str, share: float, prior: Declaration, seen: str) -> None:
    kind = type(prior).__name__
    numbers: dict[type[Declaration], str] = {
        Gamma: "rate",
        ARD: "rate",
        Normal: "mean and the scale",
        NormalGamma: "mean and the rate",
    }
    warn(
        f"{what}: the numbers of its prior lfm.{kind} decide, not the data: {share:.0%} of the posterior is the prior's. "
        f"They are in the units of the data, {seen}. Leave the "
        f"{numbers.get(type(prior), 'mean and the covariance')} out, as in lfm.{kind}(), which takes them from the data",
        PriorWarning,
    )


def _of_columns(number: Any, drawn: Drawn, columns: int) -> Tensor:
    """The least for each column of a hyperparameter that broadcasts to its parameter."""
    every = _double(number).expand(drawn.value.shape)
    return every.amin(-1) if drawn.of_rows else every.reshape(-1, columns).amin(0)


def _size(spread: Tensor) -> float:
    return float(spread.square().mean()) ** 0.5


def _double(value: Any) -> Tensor:
    return torch.as_tensor(value, dtype=torch.float64)

"""Warnings where the numbers of a parameter's prior decide instead of the data, given before a fit and after exact ones.

The numbers that a user gives a prior are in the units of the data. Meant for other units, they outweigh the data, or put a
location far from every row.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import torch
from numpy.typing import ArrayLike
from torch import Tensor

from pyro_lfm.declarations import Part
from pyro_lfm.errors import warn
from pyro_lfm.exact.linear.bayesian_posterior import BayesianLinear
from pyro_lfm.exact.linear.rows import Rows
from pyro_lfm.factors import Conditional
from pyro_lfm.sources.drawn import Drawn
from pyro_lfm.sources.parameter_priors import ARD, Gamma, Normal, NormalGamma, NormalWishart
from pyro_lfm.warning_kinds import PriorWarning

ParameterPrior: TypeAlias = ARD | Gamma | Normal | NormalGamma | NormalWishart

# The share of the posterior beyond which the prior of the noise decides, beside the residuals of a fit.
_OUTWEIGHS = 0.1
# The share of the posterior beyond which a prior decides, beside the most that the data can weigh.
_AT_BEST = 0.25
# The numbers of each prior that stand in the units of the data.
_IN_UNITS: dict[type[Part], str] = {
    Gamma: "rate",
    ARD: "rate",
    Normal: "mean and the scale",
    NormalGamma: "mean and the rate",
    NormalWishart: "mean and the covariance",
}


def warn_of_priors(name: str, factor: Conditional, rows: float, spread: Tensor, mean: Tensor) -> None:
    """Warns where a prior weighs more than the data can, whatever the fit makes of them.

    Args:
        name, factor: an observed variable.
        rows: N, or the sum of their weights.
        spread, mean: of the columns of the variable, in the shape of its event.
    """
    spread, mean = spread.flatten(), mean.flatten()
    for drawn in factor.drawn.values():
        if (weights := _weights(drawn, rows, spread, mean)) is None:
            continue
        parameter, of_prior, of_data = weights
        share = float((of_prior / (of_prior + of_data)).max())
        if share > _AT_BEST:
            columns = f"whose columns have a spread near {_root_mean_square(spread):.3g}"
            _warn(f"{name}: {parameter}", share, drawn.declared, columns)


def _weights(drawn: Drawn, rows: float, spread: Tensor, mean: Tensor) -> tuple[str, Tensor, Tensor] | None:
    """The parameter of a prior in words, the prior's weight in the posterior, and the most that the data can weigh.

    None where the prior has no number in the units of the data.
    """
    prior: Any = getattr(drawn.distribution, "__self__", None)
    squares, columns = rows * spread.square(), len(spread)
    if isinstance(prior, Gamma) and prior.rate is not None:
        per_column = drawn.value.shape[-1:] == (columns,)
        of_prior = drawn.value.numel() / columns * _double(prior.rate)
        return "the noise", of_prior, (squares if per_column else squares.mean()) / 2
    if isinstance(prior, ARD) and prior.rate is not None and drawn.name == "relevance":
        return "the weights", _double(prior.rate), spread.square().sum() / 2
    if isinstance(prior, Normal) and not (prior.mean is None and prior.scale is None):
        return _weights_of_normal(prior, drawn, rows, spread, mean)
    if isinstance(prior, NormalGamma | NormalWishart) and drawn.name == "precision":
        of_joint_prior = _weight_of_joint(prior, drawn.value.numel(), mean)
        return None if of_joint_prior is None else ("the means and covariances", of_joint_prior, squares)
    return None


def _weights_of_normal(
    prior: Normal, drawn: Drawn, rows: float, spread: Tensor, mean: Tensor
) -> tuple[str, Tensor, Tensor]:
    """Of a normal prior of weights, a bias or a mean: how far it pulls, in units of the spread of each column."""
    columns = len(spread)
    scale = prior.spread * spread if prior.scale is None else _per_column(prior.scale, drawn, columns)
    share = 1 / (1 + rows * (scale / spread).square())
    away = torch.zeros_like(spread)
    if drawn.located and prior.mean is not None:
        away = (mean - _per_column(prior.mean, drawn, columns)) / spread
    # A narrow prior that lies where the data lie is what the user meant, unless it outweighs them.
    return f"the {drawn.name}", share * torch.maximum(away.abs(), (share > 0.5).double()), 1 - share


def _weight_of_joint(prior: NormalGamma | NormalWishart, size: int, mean: Tensor) -> Tensor | None:
    """Of a joint prior of means and precisions: the squares that it adds to those of each column.

    Args:
        size: how many entries the precision has.
    """
    columns = len(mean)
    away = torch.zeros(()) if prior.mean is None else mean - _double(prior.mean).flatten()
    energy = prior.count * away.square()
    if isinstance(prior, NormalGamma) and prior.rate is not None:
        energy = energy + 2 * _double(prior.rate)
    elif isinstance(prior, NormalWishart) and prior.covariance is not None:
        matrix = prior.matrix(torch.zeros(columns, columns, dtype=torch.float64))
        energy, size = energy + prior.degrees_for(columns) * matrix.diagonal(), size // columns
    elif prior.mean is None:
        return None
    return size / columns * energy


def warn_of_noise(name: str, posterior: BayesianLinear, rows: Rows) -> None:
    """Warns where the prior decides the noise, and not the residuals that the fit has left."""
    rate = _double(posterior.prior.noise[1])
    share = float((rate / posterior.noise.rate).max())
    squares = rows.variance * rows.observed / 2
    most = squares if posterior.noise.rate.dim() else squares.sum()
    # Where it outweighs even the data before the fit, ``warn_of_priors`` has warned.
    if share > _OUTWEIGHS and bool((rate <= _AT_BEST * (rate + most)).all()):
        left = float((posterior.noise.rate - rate).min())
        residuals = f"whose residuals have half a sum of squares of {left:.3g} to hold against it"
        _warn(f"{name}: the noise", share, Gamma(posterior.prior.noise[0], float(rate.max())), residuals)


def _warn(parameter: str, share: float, prior: Part, data: str) -> None:
    """Warns of a prior.

    Args:
        parameter: the variable and its parameter, in words.
        share: the part of the posterior that is the prior's.
        data: how the data compare, as a relative clause.
    """
    kind = f"lfm.parameter_priors.{type(prior).__name__}"
    warn(
        f"{parameter}: the numbers of its prior {kind} decide, not the data: {share:.0%} of the posterior comes from the "
        f"prior. They are in the units of the data, {data}. Leave the {_IN_UNITS[type(prior)]} out, as in {kind}(), which "
        "takes them from the data",
        PriorWarning,
    )


def _per_column(number: ArrayLike | Tensor, drawn: Drawn, columns: int) -> Tensor:
    """The smallest value for each column of a hyperparameter that broadcasts to its parameter."""
    entries = _double(number).expand(drawn.value.shape)
    return entries.amin(-1) if drawn.of_rows else entries.reshape(-1, columns).amin(0)


def _root_mean_square(spread: Tensor) -> float:
    return float(spread.square().mean()) ** 0.5


def _double(value: ArrayLike | Tensor) -> Tensor:
    return torch.as_tensor(value, dtype=torch.float64)

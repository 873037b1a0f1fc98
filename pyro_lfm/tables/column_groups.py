"""The factor of some columns of one kind, with scales and first values from their rows; for ``heterogeneous``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch.distributions import Distribution, constraints

from pyro_lfm.distributions import count_distributions as counts
from pyro_lfm.errors import ShapeError
from pyro_lfm.factors import Factor
from pyro_lfm.factors.variables import Code
from pyro_lfm.families import Bernoulli, Categorical, Gaussian, LogNormal, NegativeBinomial, OrderedLogistic
from pyro_lfm.sources.covariances import Diagonal
from pyro_lfm.sources.source import SourceLike
from pyro_lfm.sources.values import Fixed, Learned
from pyro_lfm.tables.columns import Column

_TRANSFORMS: dict[str | None, Callable[[np.ndarray], np.ndarray]] = {
    None: lambda x: x,
    "log": np.log,
    "log1p": np.log1p,
}


def factor_of(
    columns: list[Column], rows: np.ndarray, network: SourceLike, min_scale: float, declared: Factor | None
) -> Factor:
    """The factor of columns of one kind.

    Args:
        columns: D columns.
        rows: their encoded rows, (N, D).
        network: the source of the parameter that moves with z.
        min_scale: see ``heterogeneous``.
        declared: the user's own factor of a single column, or None.
    """
    if declared is not None:
        if declared.shape not in (torch.Size(), torch.Size((1,))):
            raise ShapeError(
                f"kinds[{columns[0].name!r}] must be a factor of one entry, as in StudentT(1, ...); got the event "
                f"{tuple(declared.shape)}"
            )
        return declared.coded(_code(rows)) if declared.shape else declared
    return _FACTORS[columns[0].kind](columns, rows, network, min_scale)


def _code(rows: np.ndarray, log: Literal["log", "log1p"] | None = None) -> Code:
    """The scaling of observed entries to mean 0 and variance 1, for networks that read them."""
    values = _TRANSFORMS[log](rows)
    scale = np.nanstd(values, 0)
    return Code(torch.tensor(np.nanmean(values, 0)), torch.tensor(np.where(scale > 0, scale, 1.0)), log)


def _continuous(columns: list[Column], rows: np.ndarray, network: SourceLike, min_scale: float) -> Factor:
    factor = Gaussian(len(columns), mean=network, covariance=Diagonal(min_scale=min_scale))
    return factor.coded(_code(rows))


def _positive(columns: list[Column], rows: np.ndarray, network: SourceLike, min_scale: float) -> Factor:
    spread = np.nanstd(np.log(rows), 0)
    least = min_scale * float(spread.min())
    scale = Learned(torch.tensor(spread, dtype=torch.get_default_dtype()))
    return LogNormal(len(columns), loc=network, scale=scale, min_scale=least).coded(_code(rows, "log"))


class MeanNegativeBinomial(NegativeBinomial):
    """A negative binomial distribution with mean exposure · exp(spread · predictor), which does not move with r.

    The predictor, its parameter ``logits``, is in units of the column's spread, like that of a continuous column. A
    weight that is right for counts of 5 would otherwise scatter counts of a million, which vary by a thousandth.
    r is learned on a log scale, since r given z can be a thousand times the r of the whole column. For r far above the mean
    the distribution is a Poisson.

    Args:
        spread: the spread of each column relative to its mean, (D,).
        total_count, logits, exposure: see ``NegativeBinomial``.
    """

    constraints = {**NegativeBinomial.constraints, "total_count": constraints.positive}
    spread: torch.Tensor

    def __init__(
        self,
        event: int,
        spread: ArrayLike | torch.Tensor,
        total_count: SourceLike = None,
        logits: SourceLike = None,
        exposure: SourceLike = None,
    ):
        super().__init__(event, total_count=total_count, logits=logits, exposure=exposure)
        self.register_buffer("spread", torch.as_tensor(spread, dtype=torch.get_default_dtype()))

    def natural(self, parameter: str, raw: torch.Tensor, floor: torch.Tensor | None = None) -> torch.Tensor:
        return raw * self.spread if parameter == "logits" else super().natural(parameter, raw, floor)

    def to_raw(self, parameter: str, value: torch.Tensor, floor: torch.Tensor | None = None) -> torch.Tensor:
        return value / self.spread if parameter == "logits" else super().to_raw(parameter, value, floor)

    def distribution(
        self, total_count: torch.Tensor, logits: torch.Tensor, exposure: torch.Tensor | None = None
    ) -> Distribution:
        log_mean = logits if exposure is None else logits + exposure.log()
        # exp of a learned number may underflow to zero or overflow.
        r = total_count.clamp(1e-4, 1e30)
        return counts.NegativeBinomial(r, log_mean=log_mean).to_event(len(self.shape))


def _count(columns: list[Column], rows: np.ndarray, network: SourceLike, min_scale: float) -> Factor:
    mean, variance = np.nanmean(rows, 0), np.nanvar(rows, 0)
    # By moments; at most the r of a variance 1% above the mean.
    r = np.clip(mean**2 / np.maximum(variance - mean, 1e-6), 0.1, 100.0 * np.maximum(mean, 1.0))
    relative = np.minimum(np.sqrt(variance) / mean, 1.0)
    start, exposure, spread = (
        torch.tensor(value, dtype=torch.get_default_dtype()) for value in (r, mean, relative)
    )
    factor = MeanNegativeBinomial(
        len(columns), spread, total_count=Learned(start), logits=network, exposure=Fixed(exposure)
    )
    return factor.coded(_code(rows, "log1p"))


def _binary(columns: list[Column], rows: np.ndarray, network: SourceLike, min_scale: float) -> Factor:
    return Bernoulli(len(columns), logits=network).coded(_code(rows))


def _level_count(column: Column) -> int:
    assert column.levels is not None  # columns of labels have levels
    return len(column.levels)


def _categorical(columns: list[Column], rows: np.ndarray, network: SourceLike, min_scale: float) -> Factor:
    return Categorical(_level_count(columns[0]), logits=network)


def _ordinal(columns: list[Column], rows: np.ndarray, network: SourceLike, min_scale: float) -> Factor:
    levels = _level_count(columns[0])
    counts = np.stack([(rows == level).sum(0) + 1.0 for level in range(levels)], 1)
    below = (counts.cumsum(1) / counts.sum(1, keepdims=True))[:, :-1]
    cutpoints = Learned(torch.tensor(np.log(below / (1 - below)), dtype=torch.get_default_dtype()))
    factor = OrderedLogistic(len(columns), levels, predictor=network, cutpoints=cutpoints)
    return factor.coded(_code(rows))


_FACTORS: dict[str, Callable[[list[Column], np.ndarray, SourceLike, float], Factor]] = {
    "continuous": _continuous,
    "positive": _positive,
    "count": _count,
    "binary": _binary,
    "categorical": _categorical,
    "ordinal": _ordinal,
}

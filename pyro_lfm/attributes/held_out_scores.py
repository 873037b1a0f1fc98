"""How well attributes are read from rows that the readers have not seen: R² and AUC with their standard errors."""

from __future__ import annotations

import torch
from torch import Tensor


def r_squared(values: Tensor, readings: Tensor) -> tuple[float, float]:
    """1 − Σ (a − r)² / Σ (a − ā)² and its standard error over rows, by the delta method.

    >>> r_squared(torch.tensor([1.0, 2.0, 3.0]), torch.tensor([1.0, 2.0, 3.0]))
    (1.0, 0.0)
    """
    left, whole = (values - readings).square(), (values - values.mean()).square()
    ratio = left.sum() / whole.sum()
    return float(1 - ratio), float((left - ratio * whole).square().sum().sqrt() / whole.sum())


def auc(own: Tensor, readings: Tensor) -> tuple[float, float]:
    """The probability that a row with a label is read higher than one without, and its standard error.

    Ties count half. The error is that of the mean placements of the rows of either kind.

    Args:
        own: (N,) whether the row has the label, both kinds present. readings: (N,).

    Source: DeLong, DeLong and Clarke-Pearson (1988).

    >>> auc(torch.tensor([False, False, True, True]), torch.tensor([0.1, 0.4, 0.3, 0.9]))[0]
    0.75
    """
    high, low = readings[own].sort().values, readings[~own].sort().values
    placed = (torch.searchsorted(low, high) + torch.searchsorted(low, high, right=True)) / (2.0 * len(low))
    others = 1 - (torch.searchsorted(high, low) + torch.searchsorted(high, low, right=True)) / (
        2.0 * len(high)
    )
    variance = sum(float(v.var()) / len(v) if len(v) > 1 else torch.nan for v in (placed, others))
    return float(placed.mean()), variance**0.5


def mean_auc(codes: Tensor, readings: Tensor) -> tuple[float, float]:
    """The mean over labels of the AUC of each against the others, and a bound on its standard error: the mean of theirs.

    Args:
        codes: (N,). readings: (N, C), the probability of each label. For two labels both have the same AUC.
    """
    each = [auc(codes == label, readings[:, label]) for label in range(readings.shape[1])]
    areas, errors = (torch.tensor(column, dtype=torch.float64) for column in zip(*each, strict=True))
    return float(areas.mean()), float(errors.mean())

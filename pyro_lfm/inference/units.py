"""The spread and the mean of each column of the data, the units of default floors and priors, taken before a fit."""

from __future__ import annotations

import torch
from torch import Tensor

from pyro_lfm.data.readers import Table
from pyro_lfm.inference.outweighed import warn_of_priors
from pyro_lfm.model import AnyModel, Model

# So many rows, evenly spaced, tell the spread of a column.
_ROWS, _BLOCK = 2**16, 4096
# A standard deviation below this share of the mean is rounding: the column is constant.
_CONSTANT = 1e-12


def measure(model: AnyModel, table: Table) -> None:
    """Gives every observed factor of a declared model the spread and mean of its columns; warns of priors that decide."""
    if not isinstance(model, Model):
        return
    for name in model.observed:
        factor = model.factors[name]
        if factor.floors or factor.in_units:
            spread, mean = spread_and_mean(table, name)
            factor.measure(spread, mean)
            warn_of_priors(name, factor, len(table), spread, mean)


def spread_and_mean(table: Table, name: str) -> tuple[Tensor, Tensor]:
    """The standard deviation and the mean of each column, of the shape of a row, float64, of the observed entries.

    A constant column has that of its absolute value, one of zeros or without entries the smallest of the others, or 1.

    >>> from pyro_lfm.data.readers import read
    >>> spread_and_mean(read([[1.0, 5.0, 0.0], [3.0, 5.0, 0.0]], ["x"]), "x")
    (tensor([1., 5., 1.], dtype=torch.float64), tensor([2., 5., 0.], dtype=torch.float64))
    """
    count, mean, squares = _moments(table, name)
    scale = (squares / count.clamp(min=1)).sqrt()
    constant = scale <= _CONSTANT * mean.abs()
    scale = torch.where(constant, mean.abs(), scale)
    known = scale > 0
    rest = scale[known].min() if bool(known.any()) else torch.ones((), dtype=torch.float64)
    return torch.where(known, scale, rest), mean


def _moments(table: Table, name: str) -> tuple[Tensor, Tensor, Tensor]:
    """Count, mean and centred sum of squares of each column; blocks merge without cancellation (Chan et al., 1983)."""
    count = mean = squares = torch.zeros(table.event_shapes[name], dtype=torch.float64)
    index = torch.linspace(0, len(table) - 1, min(len(table), _ROWS), dtype=torch.float64).round().long()
    for block in index.split(_BLOCK):
        x = table.take(block, torch.float64)[name]
        seen = ~x.isnan()
        fresh = seen.sum(0).double()
        here = x.nansum(0) / fresh.clamp(min=1)
        inner = torch.where(seen, x - here, 0.0).square().sum(0)
        total, shift = (count + fresh).clamp(min=1), torch.where(fresh > 0, here - mean, 0.0)
        squares = squares + inner + shift.square() * count * fresh / total
        mean = mean + shift * fresh / total
        count = count + fresh
    return count, mean, squares

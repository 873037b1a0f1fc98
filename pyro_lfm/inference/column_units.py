"""The spread and the mean of each column of the data, in which ``fit`` measures default floors and priors."""

from __future__ import annotations

import torch
from torch import Tensor

from pyro_lfm.data.readers import Table
from pyro_lfm.errors import DataError
from pyro_lfm.inference.prior_warnings import warn_of_priors
from pyro_lfm.programs.model import AnyModel, Model

# How far the square of a spread must be within the range of the floating type: a precision may be so much larger or smaller.
_MARGIN = 1e8


def measure(model: AnyModel, table: Table) -> None:
    """Gives every observed factor the spread and mean of its columns, and warns of priors that outweigh the data.

    Raises:
        DataError: precisions of the columns are to be drawn from a prior, and the model's floating type does not hold them.
    """
    if not isinstance(model, Model):
        return
    for name in model.observed:
        factor = model.factors[name]
        if factor.floors or factor.in_units:
            spread, mean = spread_and_mean(table, name)
            if factor.drawn:
                _check_range(name, spread, model.dtype)
            factor.measure(spread, mean)
            warn_of_priors(name, factor, table.total_weight, spread, mean)


def _check_range(name: str, spread: Tensor, dtype: torch.dtype) -> None:
    info, squares = torch.finfo(dtype), spread.square()
    if float(squares.max()) * _MARGIN < info.max and float(squares.min()) > info.tiny * _MARGIN:
        return
    least, most, kind = float(spread.min()), float(spread.max()), str(dtype).removeprefix("torch.")
    double = ", or declare the model in float64, model.double()" if dtype != torch.float64 else ""
    raise DataError(
        f"{name}: its columns spread by {least:.3g} to {most:.3g}, and {kind} does not hold the precisions that are "
        f"drawn from a prior: scale the data, as (x - x.mean(0)) / x.std(0) does{double}"
    )


def spread_and_mean(table: Table, name: str) -> tuple[Tensor, Tensor]:
    """The standard deviation and the mean of the observed entries of each column, in the shape of a row, float64.

    The spread of a constant column is its absolute value; that of a column of zeros, or without entries, the smallest
    spread of the others, or 1.

    Args:
        table: rows that were validated.

    >>> from torch.distributions import constraints
    >>> from pyro_lfm.data.readers import read
    >>> from pyro_lfm.data.validation import validate
    >>> table = read([[1.0, 5.0, 0.0], [3.0, 5.0, 0.0]], ["x"])
    >>> validate(table, {"x": ((3,), constraints.real)})
    >>> spread_and_mean(table, "x")
    (tensor([1., 5., 1.], dtype=torch.float64), tensor([2., 5., 0.], dtype=torch.float64))
    """
    scale, shape = table.scales[name], table.event_shapes[name]
    spread = torch.where(scale.is_constant, scale.mean.abs(), scale.spread).reshape(shape)
    known = spread > 0
    rest = spread[known].min() if bool(known.any()) else torch.ones((), dtype=torch.float64)
    return torch.where(known, spread, rest), scale.mean.reshape(shape)

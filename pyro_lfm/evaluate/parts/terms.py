"""A mean over rows with the two errors that it has."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


def spread(values: Tensor) -> Tensor:
    """The standard deviation over the first dimension; NaN of one value, of which nothing is known.

    >>> spread(torch.tensor([1.0])), spread(torch.tensor([1.0, 3.0]))
    (tensor(nan), tensor(1.4142))
    """
    return values.std(0) if len(values) > 1 else torch.full_like(values[0], torch.nan)


def written(value: float, form: str) -> str:
    """A number in a form of Python's, or a dash as wide where there is none.

    >>> written(2.0, ">6.2f"), written(float("nan"), ">6.2f")
    ('  2.00', '     –')
    """
    width = form.partition(".")[0].lstrip("<>+")
    return f"{value:{form}}" if value == value else f"{'–':>{width or 1}}"


@dataclass(frozen=True, repr=False)
class Term:
    """A number of each row, in nats, whose mean over the rows is of interest.

    Attributes:
        per_row: (N,).
        standard_error: of each row's, (N,), from its draws; 0 where exact.
    """

    per_row: Tensor
    standard_error: Tensor

    @property
    def mean(self) -> float:
        """Over the rows."""
        return float(self.per_row.mean())

    @property
    def draws_error(self) -> float:
        """The standard error of the mean from the draws: how far other draws, of the same rows, would move it."""
        return float(self.standard_error.square().sum().sqrt() / len(self.per_row))

    @property
    def rows_error(self) -> float:
        """The standard error of the mean over other rows of the same kind, the draws' included; NaN of a single row."""
        return float(spread(self.per_row) / len(self.per_row) ** 0.5)

    def __repr__(self) -> str:
        rows = written(self.rows_error, ".4f")
        return f"{self.mean:.4f} ± {self.draws_error:.4f} from the draws, ± {rows} from the rows"

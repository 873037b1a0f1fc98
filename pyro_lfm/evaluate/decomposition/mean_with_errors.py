"""A mean over rows with its two standard errors: from the draws, and from the choice of the rows."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from pyro_lfm.evaluate.figures import or_dash, spread


@dataclass(frozen=True, repr=False)
class Term:
    """A number of each row, in nats, and its mean over the rows.

    Attributes:
        per_row: the number of each row, (N,).
        standard_error: its standard error from the draws, (N,). 0 where it is exact.
    """

    per_row: Tensor
    standard_error: Tensor

    @property
    def mean(self) -> float:
        """The mean over the rows."""
        return float(self.per_row.mean())

    @property
    def draws_error(self) -> float:
        """The standard error of the mean from the draws, for the same rows."""
        return float(self.standard_error.square().sum().sqrt() / len(self.per_row))

    @property
    def rows_error(self) -> float:
        """The standard error of the mean from the choice of the rows, the draws included. NaN for one row."""
        return float(spread(self.per_row) / len(self.per_row) ** 0.5)

    def __repr__(self) -> str:
        rows = or_dash(self.rows_error, ".4f")
        return f"{self.mean:.4f} ± {self.draws_error:.4f} from the draws, ± {rows} from the rows"

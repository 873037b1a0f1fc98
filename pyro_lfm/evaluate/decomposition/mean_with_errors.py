"""A mean over rows with the two errors that it has."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from pyro_lfm.evaluate.figures import spread, written


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

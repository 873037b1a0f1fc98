"""The source with separate parameters for each row of data: inference that is not amortized."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import embedding

from pyro_lfm.errors import DataError, DeclarationError
from pyro_lfm.shapes import number, whole
from pyro_lfm.sources.source import Parameter, Source


@dataclass(eq=False, repr=False)
class PerRow(Source):
    """Learned parameters for each row of data: inference that is not amortized.

    Args:
        rows: the number of rows of data, by default that of the first batch's data.
        learning_rate: step size for the table, in place of ``SVI(learning_rate=)``. It is usually far above that of shared
            weights, since a row of the table is updated only when its row of data is in the batch: once an epoch.

    Use it for the best q of each row of a guide's family, without the amortization gap of an encoder.

    Limits: a new row must be optimised by itself, and every row needs many steps. These are
    dozens of epochs. If the bound lies below that of a network, give more epochs, or ``PerRow(learning_rate=0.2)``.

    Source: Hoffman, Blei, Wang and Paisley (2013), section 2, for local variational parameters.

    >>> import pyro_lfm as lfm, torch
    >>> model = lfm.Model(z=lfm.StandardNormal(2), x=lfm.Gaussian(3, mean=lfm.Linear()))
    >>> guide = lfm.Guide(model, z=lfm.Gaussian(network=lfm.PerRow()))
    >>> fit = lfm.fit(model, torch.randn(12, 3), lfm.SVI(guide, epochs=2), seed=0, progress=False)
    >>> fit.posterior().mean.shape  # one learned distribution per row
    torch.Size([12, 2])
    """

    rows: int | None = None
    learning_rate: float = 0.05

    def __post_init__(self) -> None:
        if self.rows is not None:
            whole("rows of PerRow", self.rows)
        number("learning_rate of PerRow", self.learning_rate, least=0.0, above=True)

    def module_for(self, parameter: Parameter) -> PerRowTable:
        return PerRowTable(parameter.start, self.rows, self.learning_rate)

    @property
    def reads_parents(self) -> bool:
        return False

    def describe(self) -> str:
        return "one per row"


class PerRowTable(nn.Module):
    """The table of a ``PerRow`` source, (N, numbers per row), indexed by row of data.

    Until the number of rows is known the parameter has no rows. ``resize`` grows it in place, so that an existing optimizer
    still holds it.
    """

    # Engines set these during a fit.
    not_identity = ("sparse", "gathered")
    start: Tensor

    def __init__(self, start: Tensor, rows: int | None, learning_rate: float):
        super().__init__()
        self.register_buffer("start", start)
        self.rows = nn.Parameter(start.flatten().expand(rows or 0, -1).clone())
        self.learning_rate = learning_rate
        # Whether gradients are sparse, for optimizers that support them (RowAdam).
        self.sparse = False
        # The parameters of the present batch, (B, numbers), where an engine has gathered them.
        self.gathered: Tensor | None = None

    def resize(self, rows: int) -> None:
        """Resets the table to this many rows at their start, unless it already has that many."""
        if len(self.rows) != rows:
            with torch.no_grad():
                self.rows.data = self.start.flatten().expand(rows, -1).clone()
            self.rows.grad = None

    def forward(self, context: Tensor | None, index: Tensor | None = None) -> Tensor:
        if index is None:
            raise DeclarationError("a PerRow source needs the row index: call the factor with index=")
        if self.gathered is not None:
            return self.gathered.reshape(*index.shape, *self.start.shape)
        if len(self.rows) == 0:  # without a table every row is at its start
            return self.start.expand(*index.shape, *self.start.shape)
        if int(index.max()) >= len(self.rows):
            raise DataError(
                f"a PerRow table holds {len(self.rows)} rows; got row {int(index.max())}: for rows not seen in training use "
                "fit.posterior(data)"
            )
        return embedding(index, self.rows, sparse=self.sparse).reshape(*index.shape, *self.start.shape)

    def _load_from_state_dict(self, state_dict: dict[str, Tensor], prefix: str, *rest: Any) -> None:
        if prefix + "rows" in state_dict:
            self.resize(len(state_dict[prefix + "rows"]))
        super()._load_from_state_dict(state_dict, prefix, *rest)

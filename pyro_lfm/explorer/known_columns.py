"""``known_columns``: all that is known of the rows, column by column: labels, columns of the table, covariates, measures."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, cast

import numpy as np
import torch

from pyro_lfm.errors import DataError
from pyro_lfm.evaluate import log_likelihood
from pyro_lfm.evaluate.decoding.decoded_rows import RowDecoder
from pyro_lfm.explorer.data_columns import LABELS, DataColumn, column_of
from pyro_lfm.explorer.row_posteriors import RowPosteriors
from pyro_lfm.explorer.user_rows import UserRows
from pyro_lfm.explorer.views.choosing import View
from pyro_lfm.explorer.views.columns_view import ColumnsView
from pyro_lfm.objectives import ELBO, Objective
from pyro_lfm.probes import evaluating
from pyro_lfm.runtime import Stream, isolated

if TYPE_CHECKING:
    from pyro_lfm.evaluate.inputs import Rows

# Up to so many rows have k̂, from so many draws of each; rows of one block.
_K_ROWS, _K_DRAWS, _ROWS = 5000, 200, 1024


def known_columns(
    decoder: RowDecoder, rows: UserRows, views: list[View], labels: Mapping[str, object]
) -> list[DataColumn]:
    """The columns of the rows, each name once: labels first, then other columns, the modelled columns, and covariates.

    Args:
        labels: {name: N values} that the user gives.

    Raises:
        ShapeError, DataError: labels that are none.
    """
    columns: dict[str, DataColumn] = {}
    for name, values in [*labels.items(), *rows.beside.items()]:
        column = column_of(name, values, len(rows))
        if column is not None:
            columns.setdefault(name, column)
        elif name in labels:
            raise DataError(
                f"labels must have from 1 to {LABELS} different texts to show groups; {name} has none or more: give "
                "numbers, or groups of them"
            )
    for column in (*_latents(decoder, rows), *_modelled(rows, views), *_covariates(decoder, rows)):
        columns.setdefault(column.name, column)
    return [*columns.values()]


def measures(posteriors: RowPosteriors) -> list[DataColumn]:
    """The bound of each row, and k̂ where rows are few: computed when they are first asked for."""
    fit, rows = posteriors.fit, posteriors.rows

    @lru_cache(1)
    def bound() -> np.ndarray:
        objective = fit.objective if isinstance(fit.objective, Objective) else ELBO()
        device = fit.model.device
        stream, values = Stream(0, device), []
        for block in rows.table.blocks(_ROWS):
            # Block by block, so that a slider has its answer in between.
            with evaluating(fit.model, posteriors.guide), isolated(stream, device), torch.no_grad():
                estimate = objective.bound(fit.model, posteriors.guide, posteriors.batch(block))
            values.append(estimate.per_row.float().cpu())
        return torch.cat(values).numpy()

    @lru_cache(1)
    def pareto_k() -> np.ndarray:
        estimate = log_likelihood(fit, cast("Rows", rows.data), draws=_K_DRAWS, seed=0)
        return estimate.pareto_k.float().cpu().numpy()

    measured = [DataColumn("bound", None, bound)]
    # k̂ is that of a row by itself, given the parameters.
    if len(rows) <= _K_ROWS and all(latent.per_row for latent in fit.model.latents.values()):
        measured.append(DataColumn("Pareto k̂", None, pareto_k))
    return measured


def _latents(decoder: RowDecoder, rows: UserRows) -> Iterator[DataColumn]:
    """Labels among the latents that are known in some rows."""
    for name in rows.table.names:
        if name in decoder.labels and (categories := decoder.labels[name]):
            known = rows.table.schema[name].labels
            labels = tuple(map(str, known if known is not None else range(categories)))

            def values(name: str = name) -> np.ndarray:
                return rows.entries(name)[:, 0]

            yield DataColumn(name, labels, values)


def _modelled(rows: UserRows, views: list[View]) -> Iterator[DataColumn]:
    """The columns of views that are no pictures, in their own units."""
    for view in views:
        if isinstance(view, ColumnsView):
            for column in view.columns:
                labels = None if column.labels is None else tuple(map(str, column.labels))

                def values(
                    variable: str = column.variable,
                    entry: int = column.entry,
                    scale: float = column.scale,
                    loc: float = column.loc,
                ) -> np.ndarray:
                    return rows.entries(variable)[:, entry] * np.float32(scale) + np.float32(loc)

                yield DataColumn(column.name, labels, values)


def _covariates(decoder: RowDecoder, rows: UserRows) -> Iterator[DataColumn]:
    for entry in decoder.covariates:
        labels = None if entry.labels is None else tuple(map(str, entry.labels))

        def values(variable: str = entry.variable, place: int = entry.entry) -> np.ndarray:
            return rows.entries(variable)[:, place]

        yield DataColumn(entry.name, labels, values)

"""Decoded rows column by column, in the units and labels of the user's table, for walks along factors and the explorer."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.distributions import constraints

from pyro_lfm.data.schema import Columns
from pyro_lfm.distributions.logistic import Grid
from pyro_lfm.distributions.supports import entrywise
from pyro_lfm.evaluate.decoding.decoded_rows import RowDecoder
from pyro_lfm.evaluate.decoding.entry_summaries import EntrySummaries
from pyro_lfm.evaluate.decoding.names_of_factors import entry_names
from pyro_lfm.inference.fitted import Fit
from pyro_lfm.tables.columns import Column
from pyro_lfm.tables.table_columns import TableColumns

Kind = Literal["number", "count", "ordinal", "category"]


@dataclass(frozen=True)
class ObservedColumn:
    """One column of the rows of a fit: an entry of an observed variable, in its own units.

    Attributes:
        name: as in the user's table; without names that of the variable, with a number where it has several entries.
        variable, entry: its place in the model.
        kind: numbers, counts, ordered levels, or categories.
        labels: of the codes 0, 1, ... of levels and categories; None of numbers and counts.
        loc, scale: a number of the model is (x − loc) / scale.
        spread: the standard deviation of the fitted rows, in its own units; NaN where unknown.
    """

    name: str
    variable: str
    entry: int
    kind: Kind
    labels: tuple[Hashable, ...] | None = None
    loc: float = 0.0
    scale: float = 1.0
    spread: float = float("nan")

    def of(self, decoded: Mapping[str, EntrySummaries]) -> DecodedColumn:
        """The column of decoded rows."""
        summary, k = decoded[self.variable], self.entry
        probabilities = None if summary.probabilities is None else summary.probabilities[:, k]
        mean, lower, upper = (part[:, k].double() for part in (summary.mean, summary.lower, summary.upper))
        if self.kind == "category" and probabilities is None:  # 0 or 1, whose mean is the probability of 1
            probabilities = torch.stack([1 - mean, mean], 1)
            none = torch.full_like(mean, torch.nan)
            return DecodedColumn((mean > 0.5).double(), none, none, none, probabilities)
        mean, lower, upper = (part * self.scale + self.loc for part in (mean, lower, upper))
        deviation = summary.deviation[:, k].double() * abs(self.scale)
        return DecodedColumn(mean, deviation, lower, upper, probabilities)


@dataclass(frozen=True)
class DecodedColumn:
    """p(x_d | z) of one column for B rows, in its own units; levels and categories by their codes.

    Attributes:
        mean, deviation, lower, upper: (B,). Of categories mean is the most probable code, and the others are NaN.
        probabilities: of each label, (B, C); None of numbers and counts.
    """

    mean: Tensor
    deviation: Tensor
    lower: Tensor
    upper: Tensor
    probabilities: Tensor | None = None


def observed_columns(decoder: RowDecoder) -> list[ObservedColumn]:
    """The columns of the modelled variables of a fit, in the order of its table, else of the model.

    >>> import torch, pyro_lfm as lfm
    >>> x, n = lfm.Bernoulli(2, logits=lfm.Linear()), lfm.Poisson(1, rate=lfm.Linear())
    >>> model = lfm.Model(z=lfm.StandardNormal(1), x=x, n=n)
    >>> data = {"x": torch.ones(20, 2), "n": torch.ones(20, 1)}
    >>> guide = lfm.Guide(model, z=lfm.Gaussian(network=lfm.MLP(4)))
    >>> fit = lfm.fit(model, data, lfm.SVI(guide, steps=1), seed=0, progress=False)
    >>> [(column.name, column.kind) for column in observed_columns(RowDecoder(fit))]
    [('x_1', 'category'), ('x_2', 'category'), ('n', 'count')]
    """
    fit = decoder.fit
    table = fit.table if isinstance(fit.table, TableColumns) else None
    # One decoded row shows which variables have levels or labels.
    decoded = decoder(decoder.centre())
    columns = []
    for name in decoder.observed:
        if table is not None and name in table.groups:
            by_name = {column.name: column for column in table.columns}
            members = [by_name[member] for member in table.groups[name]]
            columns += [_of_table(fit, name, k, column) for k, column in enumerate(members)]
        else:
            columns += _of_variable(fit, name, decoded[name])
    if table is not None:
        order = {str(column.name): place for place, column in enumerate(table.columns)}
        columns.sort(key=lambda column: order.get(column.name, len(order)))
    return columns


def column_names(fit: Fit, name: str) -> list[str]:
    """The names of the entries of an observed variable: those of the user's columns, else x_1, x_2, ..., or x alone."""
    entries = fit.model.observed[name].shape.numel()
    groups: Mapping[str, tuple[Hashable, ...]] = getattr(fit.table, "groups", {})
    names = groups.get(name) or fit.schema.get(name, Columns()).names
    if names is not None and len(names) == entries:
        return [str(column) for column in names]
    return entry_names(name, entries)


def _of_table(fit: Fit, name: str, entry: int, column: Column) -> ObservedColumn:
    kinds: dict[str, Kind] = {
        "count": "count",
        "ordinal": "ordinal",
        "binary": "category",
        "categorical": "category",
    }
    kind = kinds.get(column.kind, "number" if column.levels is None else "category")
    labels = None if column.levels is None else tuple(column.levels)
    spread = _spread(fit, name, entry) * abs(column.scale)
    return ObservedColumn(str(column.name), name, entry, kind, labels, column.loc, column.scale, spread)


def _of_variable(fit: Fit, name: str, decoded: EntrySummaries) -> list[ObservedColumn]:
    variable, columns = fit.model.observed[name], fit.schema.get(name, Columns())
    each = entrywise(variable.support)
    levels = None if decoded.probabilities is None else decoded.probabilities.shape[-1]
    kind: Kind
    if levels is not None:
        kind = "category" if bool(decoded.deviation.isnan().all()) else "ordinal"
    elif isinstance(each, type(constraints.boolean)):
        kind, levels = "category", 2
    else:
        kind = "count" if each.is_discrete and not isinstance(each, Grid) else "number"
    known = columns.labels if columns.labels is not None and len(columns.labels) == levels else None
    labels = None if levels is None else known or tuple(range(levels))
    return [
        ObservedColumn(entry_name, name, k, kind, labels, spread=_spread(fit, name, k))
        for k, entry_name in enumerate(column_names(fit, name))
    ]


def _spread(fit: Fit, name: str, entry: int) -> float:
    """The standard deviation of a column of the fitted rows, in the units of the model."""
    scale = fit.schema[name].scale if name in fit.schema else None
    if scale is None:
        return float("nan")
    spread = torch.as_tensor(scale.spread).reshape(-1)
    return float(spread[entry if entry < len(spread) else 0])

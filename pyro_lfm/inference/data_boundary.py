"""The boundary that all rows pass, in training and after it: ``table_for`` gives rows that fit a model, or an error."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Protocol, TypeAlias, cast

import torch
from numpy.typing import ArrayLike
from torch.distributions import constraints
from torch.utils.data import Dataset

from pyro_lfm.data.files.opening import opened
from pyro_lfm.data.openers import RowSource
from pyro_lfm.data.readers import NamedRows, Table, read
from pyro_lfm.data.row_weights import row_weights
from pyro_lfm.data.schema import Columns, Schema
from pyro_lfm.data.validation import validate
from pyro_lfm.distributions.supports import entrywise
from pyro_lfm.errors import DataError
from pyro_lfm.factors.variables import Variable
from pyro_lfm.inference.data_scale_warnings import warn_of_distance, warn_of_rounding
from pyro_lfm.inference.missing_entries import check_missing
from pyro_lfm.programs.model import AnyModel


class SparseMatrix(Protocol):
    """A matrix of scipy.sparse."""

    shape: tuple[int, ...]

    def tocsr(self) -> SparseMatrix: ...


class AnnotatedMatrix(Protocol):
    """An AnnData: a matrix ``X`` with a table ``obs`` of its rows."""

    @property
    def X(self) -> ArrayLike | SparseMatrix: ...

    @property
    def obs(self) -> ArrayLike: ...


# The rows of one variable; an array is also a tensor, a DataFrame or a memory map. A path is opened by lfm.data.open.
Rows: TypeAlias = ArrayLike | SparseMatrix | AnnotatedMatrix | Dataset[Any] | os.PathLike[str]
# Whatever holds rows: those of a model's only observed factor, or of several by name.
Data: TypeAlias = Rows | Mapping[str, Rows] | Table


def table_for(
    model: AnyModel,
    data: Data,
    needs: set[str] | None = None,
    fitted: Schema | None = None,
    *,
    may_be_empty: bool | None = None,
    weights: ArrayLike | None = None,
) -> Table:
    """The rows of ``data`` under the model's observed names, scanned once for shapes, supports and missing entries.

    The data may hold values of a declared model's latents too, where they are known in some rows.

    Args:
        needs: the variables that the data must hold; others may be left out and then count as missing. None: all.
        fitted: the schema of the fitted rows: named columns and labels are put in its order.
        may_be_empty: whether a row may have no observed entry at all; by default after a fit.
        weights: of the rows, (N,), see ``lfm.fit``.

    Raises:
        DataError, ShapeError: rows that the model cannot have generated, or other columns than those fitted.
    """
    data = cast("Data", opened(data))
    if model.converter is not None and model.converter.takes(data):
        data = model.converter.encode(data)
    names_of_data = data.names if isinstance(data, Table) else data if isinstance(data, Mapping) else ()
    known = [name for name in model.may_be_known if name in names_of_data]
    if isinstance(data, Mapping) and data and set(data) <= {*model.observed, *known}:
        data = _with_absent(model, data, set(model.observed) if needs is None else needs)
    names = [*model.observed, *known]
    variables = {name: model.sites.all[name] for name in names}
    covariates = set(model.covariates)
    expected = {
        name: (fitted or {}).get(name) or _columns(variable, name in covariates)
        for name, variable in variables.items()
    }
    table = read(data, names, expected)
    if weights is not None:
        table = table.with_weights(row_weights(weights, table))
    validate(
        table,
        {n: (v.shape, v.support) for n, v in variables.items()},
        model.dtype,
        may_be_empty=needs is not None if may_be_empty is None else may_be_empty,
    )
    check_missing(model, table, known)
    for name, variable in variables.items():
        warn_of_rounding(name, table, variable.support, model.dtype)
        if fitted is not None:
            warn_of_distance(name, table, variable.support, fitted.get(name))
        scale = expected[name].scale or table.scales[name]
        table.schema[name] = replace(table.schema[name], covariate=name in covariates, scale=scale)
    return table


def absent_rows_of(model: AnyModel) -> Table:
    """A table of the rows that a model observes, of which none is here."""
    covariates = set(model.covariates)
    columns = {name: _columns(variable, name in covariates) for name, variable in model.observed.items()}
    shapes = {name: torch.Size(variable.shape) for name, variable in model.observed.items()}
    table = Table([RowSource.without_rows(0, shapes, columns)], list(shapes))
    table.has_missing.update(dict.fromkeys(shapes, False))
    return table


def _columns(variable: Variable, covariate: bool) -> Columns:
    """The columns of a variable as its support declares them, before any row is read."""
    support = entrywise(variable.support)
    if isinstance(support, type(constraints.integer_interval(0, 1))) and variable.shape in ((), (1,)):
        lower, upper = (torch.as_tensor(bound) for bound in (support.lower_bound, support.upper_bound))
        if lower.numel() == upper.numel() == 1 and int(lower) == 0:
            return Columns(categories=int(upper) + 1, ordered=bool(variable.shape), covariate=covariate)
    return Columns(covariate=covariate)


def _with_absent(model: AnyModel, data: Mapping[str, Rows], needs: set[str]) -> Mapping[str, Rows]:
    """The data with the variables that were left out, all of whose entries are missing."""
    absent = [name for name in model.observed if name not in data]
    if not absent:
        return data
    required = [name for name in absent if name in needs or name in model.covariates]
    if required:
        raise DataError(
            f"data must have exactly the names that the model observes, {', '.join(model.observed)}; missing: "
            f"{', '.join(required)}. Only what a guide can do without may be left out, after the fit: see "
            "lfm.ProductOfExperts"
        )
    rows = len(read({name: next(iter(data.values())) for name in list(data)[:1]}, list(data)[:1]))
    gaps = {n: torch.full((), torch.nan).expand(rows, *model.observed[n].shape) for n in absent}
    if isinstance(data, NamedRows):
        return NamedRows({**data, **gaps}, data.frame, data.columns, data.converter)
    return {**data, **gaps}

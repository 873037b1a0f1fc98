"""The covariates of a fit, entry by entry: names, ranges, defaults. Decoded rows and walks hold or vary them."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from pyro_lfm.data.schema import Columns
from pyro_lfm.distributions.supports import entrywise
from pyro_lfm.errors import DataError, DeclarationError, ShapeError
from pyro_lfm.evaluate.decoding.names_of_factors import entry_names
from pyro_lfm.factors.variables import Variable
from pyro_lfm.inference.fitted import Fit
from pyro_lfm.tables.cell_columns import CellColumns

# Rows that show the range of a covariate and its most frequent value.
_ROWS = 2000


@dataclass(frozen=True)
class CovariateEntry:
    """One number, or one label, of the covariates of a row.

    Attributes:
        name: of its column; without named columns that of its variable, with a number where it has several entries.
        variable, entry: its place in the model.
        labels: what its codes 0, 1, ... stand for; None of numbers.
        low, high: its least and its largest value in fitted rows; without rows two standard deviations from their mean.
        value: the value at which it is held by default: the mean of the fitted rows, of labels and whole numbers the most
            frequent one of them. Without any of these, the value of its declaration.
        is_whole: whether it is a whole number.
    """

    name: str
    variable: str
    entry: int
    labels: tuple[Hashable, ...] | None
    low: float
    high: float
    value: float
    is_whole: bool


def covariate_entries(fit: Fit) -> list[CovariateEntry]:
    """The entries of all covariates of a fit, in the order of the model."""
    model = fit.model
    if not model.covariates:
        return []
    rows = fit.some_rows(_ROWS)
    declared = model.sample(1, seed=0)
    entries = []
    for name in model.covariates:
        variable, columns = model.observed[name], fit.schema.get(name, Columns())
        values = None if rows is None else rows[name].reshape(rows.size, -1).double().cpu().numpy()
        labels = _labels(fit, name, variable, columns)
        whole = labels is not None or bool(entrywise(variable.support).is_discrete)
        names = _names(name, variable.shape.numel(), columns)
        for k, entry_name in enumerate(names):
            start = float(declared[name].reshape(-1)[k])
            low, high, value = _range(None if values is None else values[:, k], columns, k, start, whole)
            if labels is not None:
                low, high = 0.0, float(len(labels) - 1)
            entries.append(CovariateEntry(entry_name, name, k, labels, low, high, value, whole))
    return entries


def _names(name: str, entries: int, columns: Columns) -> list[str]:
    if columns.names is not None and len(columns.names) == entries and entries > 1:
        return [str(column) for column in columns.names]
    return entry_names(name, entries)


def _labels(fit: Fit, name: str, variable: Variable, columns: Columns) -> tuple[Hashable, ...] | None:
    if variable.categories is None:
        return None
    if columns.labels is not None:
        return columns.labels
    if isinstance(fit.table, CellColumns):
        levels = getattr(fit.table.covariate(name), "levels", None)
        if levels is not None:
            return tuple(levels)
    return tuple(range(variable.categories))


def _range(
    values: np.ndarray | None, columns: Columns, entry: int, declared: float, whole: bool
) -> tuple[float, float, float]:
    """The least, the largest and the default value of one entry."""
    scale = columns.scale
    mean = spread = float("nan")
    if scale is not None:
        mean = float(torch.as_tensor(scale.mean).reshape(-1)[entry])
        spread = float(torch.as_tensor(scale.spread).reshape(-1)[entry])
    if values is not None and len(values):
        distinct, counts = np.unique(values, return_counts=True)
        value = (
            float(distinct[counts.argmax()]) if whole else mean if np.isfinite(mean) else float(values.mean())
        )
        return float(distinct[0]), float(distinct[-1]), value
    if not np.isfinite(mean) or whole:
        return declared, declared, declared
    return mean - 2 * spread, mean + 2 * spread, mean


def covariate_values(
    fit: Fit, entries: list[CovariateEntry], given: Mapping[str, object] | None, rows: int
) -> dict[str, Tensor]:
    """The values of all covariates for so many rows, {variable: (B, *event)}, those that are not given at their defaults.

    Args:
        given: {name of an entry: a number, a label, or B of them}; or {name of a covariate of several entries: its value,
            (*event) or (B, *event)}. Tensors hold labels by their codes.

    Raises:
        DeclarationError: a name that is none. ShapeError: a value of another shape. DataError: a value outside its support.
    """
    model, given = fit.model, dict(given or {})
    values = {
        name: torch.zeros(rows, model.observed[name].shape.numel(), dtype=model.dtype, device=model.device)
        for name in model.covariates
    }
    known = {entry.name for entry in entries} | set(values)
    if unknown := [name for name in given if name not in known]:
        offer = f"they are {', '.join(entry.name for entry in entries)}" if entries else "this model has none"
        raise DeclarationError(
            f"covariates must name covariates of the model; got {', '.join(map(repr, unknown))}: {offer}"
        )
    wholes = {name: value for name, value in given.items() if name not in {e.name for e in entries}}
    for name, value in wholes.items():
        values[name] = _whole(name, value, model.observed[name].shape, rows).to(values[name]).clone()
    for entry in entries:
        if entry.name in given or entry.variable not in wholes:
            value = given.get(entry.name, torch.tensor(entry.value))
            values[entry.variable][:, entry.entry] = _numbers(entry, value, rows).to(values[entry.variable])
    shaped = {name: value.reshape(rows, *model.observed[name].shape) for name, value in values.items()}
    for name, value in shaped.items():
        support = model.observed[name].support
        if not bool(support.check(value).all()):
            raise DataError(
                f"covariates must hold values of {name} in its support, {support}; got {given.get(name)!r}"
            )
    return shaped


def _numbers(entry: CovariateEntry, value: object, rows: int) -> Tensor:
    """A value of one entry for each row, labels as codes."""
    several = isinstance(value, list | tuple | np.ndarray) or (isinstance(value, Tensor) and value.dim() > 0)
    each = list(value) if several else [value]  # type: ignore[call-overload]
    if len(each) not in (1, rows):
        raise ShapeError(
            f"covariates must have one value of {entry.name}, or one for each of {rows} rows; got {len(each)}"
        )
    return torch.tensor([_number(entry, one) for one in each], dtype=torch.float64)


def _number(entry: CovariateEntry, value: object) -> float:
    if isinstance(value, Tensor):
        return float(value)
    value = value.item() if isinstance(value, np.generic) else value
    if entry.labels is not None and value in entry.labels:
        return float(entry.labels.index(value))  # type: ignore[arg-type]
    if entry.labels is not None and isinstance(value, str):
        offer = ", ".join(map(repr, entry.labels[:20]))
        raise DataError(f"covariates must hold a label of {entry.name}: {offer}; got {value!r}")
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        raise DataError(f"covariates must hold a number for {entry.name}; got {value!r}") from None
    if not np.isfinite(number):
        raise DataError(f"covariates must hold a finite number for {entry.name}; got {value!r}")
    return number


def _whole(name: str, value: object, shape: torch.Size, rows: int) -> Tensor:
    try:
        tensor = torch.as_tensor(value, dtype=torch.float64)
    except (TypeError, ValueError, RuntimeError):
        raise DataError(f"covariates must hold numbers for {name}; got {value!r}") from None
    if tensor.shape not in (shape, (rows, *shape)):
        raise ShapeError(
            f"covariates must have {name} of shape {tuple(shape)}, or one for each row; got {tuple(tensor.shape)}"
        )
    return tensor.reshape(-1, shape.numel()).expand(rows, -1)

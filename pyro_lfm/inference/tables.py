"""Data of any kind as a table that fits what a model observes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from pyro_lfm.data.readers import Table, read
from pyro_lfm.data.validation import validate
from pyro_lfm.errors import DataError
from pyro_lfm.model import AnyModel, PyroModel


def table_for(model: AnyModel, data: Any, needs: set[str] | None = None) -> Table:
    """The rows of ``data`` under the model's observed names, scanned once for shapes, supports and missing entries.

    Args:
        needs: the variables that must be there; the others may be left out and then count as missing. None: all.
    """
    if isinstance(data, Mapping) and data and data.keys() < model.observed.keys():
        data = _with_absent(model, data, set(model.observed) if needs is None else needs)
    table = read(data, list(model.observed))
    expected = {name: (variable.shape, variable.support) for name, variable in model.observed.items()}
    validate(table, expected, model.dtype)
    for name, missing in table.has_missing.items():
        if missing and isinstance(model, PyroModel) and name not in model.sites.masked:
            raise DataError(
                f"{name} has missing entries (NaN), but the program never asks for batch.mask({name!r}): mask its "
                "likelihood, or fill the entries in"
            )
    return table


def _with_absent(model: AnyModel, data: Mapping[str, Any], needs: set[str]) -> dict[str, Any]:
    """The data with the variables that are left out, all entries missing."""
    absent = [name for name in model.observed if name not in data]
    required = [name for name in absent if name in needs or name in model.covariates]
    if required:
        raise DataError(
            f"data must have exactly the names that the model observes, {', '.join(model.observed)}; missing: "
            f"{', '.join(required)}. Only what a guide can do without may be left out, after the fit: see "
            "lfm.ProductOfExperts"
        )
    rows = len(read(dict(data), list(data)))
    gaps = {n: torch.full((), torch.nan).expand(rows, *model.observed[n].shape) for n in absent}
    return {**data, **gaps}

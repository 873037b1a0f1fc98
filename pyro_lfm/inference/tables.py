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

    A declared model's latents of a row may be among them, where they are known in some rows.

    Args:
        needs: the variables that must be there; the others may be left out and then count as missing. None: all.
    """
    found = data.names if isinstance(data, Table) else data if isinstance(data, Mapping) else ()
    known = [name for name in model.may_be_known if name in found]
    if isinstance(data, Mapping) and data and set(data) <= {*model.observed, *known}:
        data = _with_absent(model, data, set(model.observed) if needs is None else needs)
    table = read(data, [*model.observed, *known])
    variables = {name: model.sites.all[name] for name in table.names}
    validate(table, {n: (v.shape, v.support) for n, v in variables.items()}, model.dtype)
    for name, missing in table.has_missing.items():
        if missing and isinstance(model, PyroModel) and name not in model.sites.masked:
            raise DataError(
                f"{name} has missing entries (NaN), but the program never asks for batch.mask({name!r}): mask its "
                "likelihood, or fill the entries in"
            )
        if missing and name in known:
            _check_whole(table, name)
    return table


def _check_whole(table: Table, name: str) -> None:
    """A latent is known of a row, or it is not: a part of it is not used."""
    for index in table.blocks():
        gaps = table.take(index)[name].isnan().reshape(len(index), -1)
        if len(rows := (gaps.any(1) & ~gaps.all(1)).nonzero()):
            raise DataError(
                f"{name} is a latent, which may be known (all its entries) or not (all NaN) in a row; row "
                f"{int(index[rows[0]])} has some of them: declare its entries as latents of their own"
            )


def _with_absent(model: AnyModel, data: Mapping[str, Any], needs: set[str]) -> dict[str, Any]:
    """The data with the variables that are left out, all entries missing."""
    absent = [name for name in model.observed if name not in data]
    if not absent:
        return dict(data)
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

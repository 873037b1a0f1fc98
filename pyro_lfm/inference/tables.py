"""Data of any kind as a table that fits what a model observes."""

from __future__ import annotations

from typing import Any

from pyro_lfm.data.readers import Table, read
from pyro_lfm.data.validation import validate
from pyro_lfm.errors import DataError
from pyro_lfm.model import AnyModel, PyroModel


def table_for(model: AnyModel, data: Any) -> Table:
    """The rows of ``data`` under the model's observed names, scanned once for shapes, supports and missing entries."""
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

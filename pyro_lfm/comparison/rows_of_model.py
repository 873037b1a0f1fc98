"""The rows of a comparison as one of its models reads them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, cast

from pyro_lfm.data.digests import of_rows
from pyro_lfm.data.readers import Table
from pyro_lfm.evaluate.inputs import Rows
from pyro_lfm.inference.data_boundary import table_for
from pyro_lfm.programs.model import AnyModel


@dataclass(frozen=True)
class RowsOfModel:
    """The rows to fit, to measure on and to validate by, of which a model takes those that it observes.

    Attributes:
        table: the rows to fit, read and checked.
        data, test, validation: as the user gave them, without variables that are other models'.
        digests: of all rows by their purpose, where a folder stores fits.
    """

    table: Table
    data: Rows
    test: Rows | None
    validation: Rows | None
    digests: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        model: AnyModel,
        used: set[str],
        *,
        data: Rows,
        test: Rows | None,
        validation: Rows | None,
        stored: bool,
    ) -> RowsOfModel:
        """The rows that a model reads.

        Args:
            used: the names that the models of the comparison read.

        Raises:
            DataError, ShapeError: rows that do not fit the model.
        """
        own, own_test, own_validation = (_own(model, used, rows) for rows in (data, test, validation))
        table = table_for(model, own)
        if own_test is not None:
            table_for(model, own_test, set(), table.schema)
        digests = {}
        if stored:
            purposes = {"fitted": table, "test": own_test, "validation": own_validation}
            digests = {
                purpose: "none" if rows is None else of_rows(table_for(model, rows, set()))
                for purpose, rows in purposes.items()
            }
        return cls(table, own, own_test, own_validation, digests)


def names_read(model: AnyModel) -> set[str]:
    """The names of the data that a model may read."""
    return {*model.observed, *model.may_be_known}


def _own(model: AnyModel, used: set[str], rows: Any) -> Any:
    """Rows by name without those that only other models read. A name that no model reads stays, and is refused."""
    others = used - names_read(model)
    if not isinstance(rows, Mapping) or not others & rows.keys():
        return rows
    return {name: cast(Rows, value) for name, value in rows.items() if name not in others}

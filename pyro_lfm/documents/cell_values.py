"""The genes and covariates of an AnnData as JSON, for saved fits."""

from __future__ import annotations

from typing import Any

from pyro_lfm.errors import DataError
from pyro_lfm.storage.texts import Json
from pyro_lfm.storage.trees import Tree, tree_of, value_of
from pyro_lfm.tables.cell_columns import CellColumns
from pyro_lfm.tables.obs_columns import ObsColumn


def cells_entry(cells: CellColumns) -> dict[str, Any]:
    """The names of genes, the layer, the names of factors, and the covariates with their labels and scales."""
    return {
        "genes": [_outline(gene) for gene in cells.genes],
        "layer": cells.layer,
        "counts": cells.counts,
        "library": cells.library,
        "covariates": [_covariate(covariate) for covariate in cells.covariates],
    }


def _covariate(covariate: ObsColumn) -> dict[str, Any]:
    levels = covariate.levels
    return {
        "column": _outline(covariate.column),
        "factor": covariate.factor,
        "levels": None if levels is None else [_outline(level) for level in levels],
        "loc": _outline(covariate.loc),
        "scale": _outline(covariate.scale),
    }


def _outline(value: Any) -> Json:
    return tree_of(value, "a name or label of an AnnData").outline


def read_cells(entry: Any, what: str) -> CellColumns:
    """The genes and covariates of an entry that ``cells_entry`` made.

    Raises:
        DataError: the entry is none.
    """
    try:
        covariates = tuple(_read_covariate(covariate, what) for covariate in entry["covariates"])
        genes = tuple(_read(gene, what) for gene in entry["genes"])
        names = {
            name: None if entry[name] is None else str(entry[name]) for name in ("layer", "counts", "library")
        }
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(
            f"{what} cannot be read: its entry table has a form that the library does not write"
        ) from None
    return CellColumns(genes, names["layer"], str(names["counts"]), names["library"], covariates)


def _read_covariate(entry: Any, what: str) -> ObsColumn:
    levels = entry["levels"]
    return ObsColumn(
        column=_read(entry["column"], what),
        factor=str(entry["factor"]),
        levels=None if levels is None else tuple(_read(level, what) for level in levels),
        loc=float(_read(entry["loc"], what)),
        scale=float(_read(entry["scale"], what)),
    )


def _read(outline: Json, what: str) -> Any:
    return value_of(Tree(outline, {}), what)

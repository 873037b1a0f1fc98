"""Rows in JSON, in the forms that a request may have: ``RowForms`` reads them, ``RowForm`` writes the answer alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, cast

from torch import Tensor

from pyro_lfm.data.schema import Columns
from pyro_lfm.errors import DeclarationError
from pyro_lfm.inference.fitted import Fit
from pyro_lfm.web.json_cells import Cells
from pyro_lfm.web.json_columns import FrameColumns, Observed, ObservedTable, ObservedVariable
from pyro_lfm.web.refusal import Json, Refusal, misnamed, shown

# A bare list of rows, a list of objects, or an object of lists.
Kind = Literal["bare", "objects", "lists"]


@dataclass(frozen=True)
class RowForm:
    """The form of the rows of one request, in which they are answered.

    Attributes:
        kind: how the rows stand in JSON.
        parts: the observed variables, each with whether it comes by the names of its columns.
    """

    kind: Kind
    parts: Sequence[tuple[Observed, bool]]

    def write(self, rows: Mapping[str, Tensor], means: bool = False) -> Json:
        """Rows {name: (N, *event)} for JSON, those that are given; with ``means`` as ``Cells.write_means`` has them."""
        keys: dict[str, list[Json]] = {}
        for part, by_columns in self.parts:
            if set(part.names) & set(rows):
                keys |= (part.write_means if means else part.write)(rows, by_columns)
        if self.kind == "bare":
            return next(iter(keys.values()), None)
        if self.kind == "lists":
            return {**keys}
        return [dict(zip(keys, row, strict=True)) for row in zip(*keys.values(), strict=True)]


class RowForms:
    """The forms in which rows of a fit may come in JSON.

    Args:
        fit: the fit.
        table: the table that some or all of its factors come from.
        most: the most rows.
    """

    def __init__(self, fit: Fit, table: FrameColumns | None, most: int):
        self.most = most
        model, needs = fit.model, fit.guide.needs
        of_table = set() if table is None else set(table.groups)
        if not of_table <= set(model.observed):
            names = ", ".join(sorted(of_table - set(model.observed)))
            raise DeclarationError(
                f"table must be the table of the fitted model; its factors {names} are not observed there"
            )
        required = {*model.observed} if needs is None else needs | {*model.covariates}
        self.parts: list[Observed] = [] if table is None else [ObservedTable(table)]
        for name, variable in model.observed.items():
            if name not in of_table:
                columns = fit.schema.get(name, Columns())
                self.parts.append(ObservedVariable(variable, columns, name not in required))
        named = [key for part in self.parts for key in part.columns]
        # Column names that two variables share do not say whose they are.
        self.by_columns = len(set(named)) == len(named)

    @property
    def bare(self) -> Observed | None:
        """The variable whose rows may come as a bare list: the only observed one."""
        return self.parts[0] if len(self.parts) == 1 and self.parts[0].whole else None

    def styles(self) -> list[tuple[Observed, bool]]:
        """The parts, each with whether its columns have names of their own."""
        return [(part, self.by_columns and bool(part.columns)) for part in self.parts]

    def default(self) -> RowForm:
        """The form of rows that no request has sent."""
        styles = self.styles()
        if any(by_columns for _, by_columns in styles):
            return RowForm("objects", styles)
        return RowForm("bare" if self.bare else "lists", styles)

    def read(self, rows: Json) -> tuple[dict[str, Tensor], RowForm]:
        """Rows as ``fit.posterior`` and the other queries take them, and their form.

        Raises:
            Refusal: rows of another kind, columns that are missing or unknown, values of other kinds, too many rows.
        """
        kind, keys = self._by_key(rows)
        styles = [(self.parts[0], False)] if kind == "bare" else self._styles_of([*keys])
        data: dict[str, Tensor] = {}
        for part, by_columns in styles:
            cells = part.columns if by_columns else part.whole
            of_part = part.rows({key: cell.read(key, keys[key]) for key, cell in cells.items()})
            # A table stands first. Its rows, NamedRows, keep their cells for the answer.
            if data:
                data.update(of_part)
            else:
                data = of_part
        return data, RowForm(kind, styles)

    def _keys(self) -> dict[str, Cells]:
        """The keys of all rows, by columns where these have names."""
        return {
            key: cell
            for part, by_columns in self.styles()
            for key, cell in (part.columns if by_columns else part.whole).items()
        }

    def _by_key(self, rows: Json) -> tuple[Kind, dict[str, list[Json]]]:
        """The kind of rows, and their values by key, N each."""
        if isinstance(rows, dict):
            return "lists", self._lists(rows)
        if not isinstance(rows, list):
            raise Refusal(f"rows must be a list, or an object of lists by column; got {shown(rows)}")
        self.check_count(len(rows))
        if isinstance(rows[0], dict):
            return "objects", _transposed(rows)
        if self.bare is None:
            raise Refusal(
                f"rows must be objects with the keys of this model, as [{{{self.example()}}}]; got a list that begins with "
                f"{shown(rows[0])}"
            )
        return "bare", {self.bare.names[0]: rows}

    def _lists(self, rows: dict[str, Json]) -> dict[str, list[Json]]:
        for key, values in rows.items():
            if not isinstance(values, list):
                raise Refusal(
                    f"rows must have a list of values for each column; got {shown(values)} for {key[:40]!r}"
                )
        lengths = {key: len(cast("list[Json]", values)) for key, values in rows.items()}
        if len({*lengths.values()}) > 1:
            shown_lengths = ", ".join(f"{key[:40]!r}: {n}" for key, n in [*lengths.items()][:10])
            raise Refusal(f"rows must have lists of one length; got {shown_lengths}")
        self.check_count(next(iter(lengths.values()), 0))
        return cast("dict[str, list[Json]]", rows)

    def _styles_of(self, keys: list[str]) -> list[tuple[Observed, bool]]:
        """The parts that keys stand for, each with whether it comes by columns."""
        styles, missing, left = [], [], dict.fromkeys(keys)
        for part, named in self.styles():
            whole = bool(part.whole) and part.whole.keys() <= left.keys()
            by_columns = named and not (whole and not part.columns.keys() <= left.keys())
            wanted = part.columns if by_columns else part.whole
            if part.optional and not wanted.keys() & left.keys():
                continue
            missing += [key for key in wanted if key not in left]
            styles.append((part, by_columns))
            for key in wanted:
                left.pop(key, None)
        if missing or left:
            raise misnamed("rows must have the columns", [*self._keys()], missing, [*left])
        return styles

    def check_count(self, count: int, name: str = "rows") -> None:
        """Raises Refusal at no row or too many."""
        if not 1 <= count <= self.most:
            raise Refusal(
                f"{name} must be 1 to {self.most}; got {count}{': send them in parts' * (count > 1)}"
            )

    def example(self) -> str:
        """The keys of a row, for messages."""
        return ", ".join(f'"{key}": ...' for key in [*self._keys()][:5])

    def schema(self) -> dict[str, Json]:
        """The JSON schema of rows, in every form that is read."""
        optional = {key for part in self.parts if part.optional for key in (*part.whole, *part.columns)}
        forms: list[dict[str, Json]] = [_objects(self._keys(), optional)]
        whole = {key: cell for part in self.parts for key, cell in part.whole.items()}
        if whole and all(part.whole for part in self.parts) and {*whole} != {*self._keys()}:
            forms.append(_objects(whole, optional))
        each: list[Json] = [
            {"type": "array", "items": form, "minItems": 1, "maxItems": self.most} for form in forms
        ]
        if self.bare is not None:
            (cells,) = self.bare.whole.values()
            each.insert(0, {"type": "array", "items": cells.schema(), "minItems": 1, "maxItems": self.most})
        each += [_lists(form) for form in forms]
        return {"anyOf": each}


def _transposed(rows: list[Json]) -> dict[str, list[Json]]:
    """Objects by row as lists by key."""
    objects = cast("list[dict[str, Json]]", rows)
    first = objects[0]
    for i, row in enumerate(rows):
        if not isinstance(row, dict):
            raise Refusal(f"rows must all be objects, as row 0 is; got {shown(row)} in row {i}")
        if row.keys() != first.keys():
            lacking, further = [k for k in first if k not in row], [k for k in row if k not in first]
            raise misnamed(f"row {i} must have the keys of row 0,", [*first], lacking, further)
    return {key: [row[key] for row in objects] for key in first}


def _objects(cells: Mapping[str, Cells], optional: set[str]) -> dict[str, Json]:
    return {
        "type": "object",
        "properties": {key: cell.schema() for key, cell in cells.items()},
        "required": [key for key in cells if key not in optional],
        "additionalProperties": False,
    }


def _lists(form: dict[str, Json]) -> dict[str, Json]:
    """The schema of an object of lists, from that of one row."""
    properties = cast("dict[str, Json]", form["properties"])
    return {**form, "properties": {key: {"type": "array", "items": each} for key, each in properties.items()}}

"""Attributes that a model declares: covariates, discrete latents and observed variables, or columns of these, by name."""

from __future__ import annotations

import difflib
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torch.distributions.constraints import Constraint

from pyro_lfm.attributes.labels import Target
from pyro_lfm.distributions.supports import entrywise
from pyro_lfm.errors import DataError, DeclarationError, warn
from pyro_lfm.factors.variables import Variable
from pyro_lfm.inference.fitted import Fit
from pyro_lfm.tables.columns import Column
from pyro_lfm.warning_kinds import AttributeWarning

# Standard deviations from the mean beyond which a number is far from the data.
_FAR = 4.0


@dataclass(frozen=True, eq=False)
class Declared:
    """An attribute that a model declares.

    Attributes:
        name: its name. role: what the variable is. variable: the variable.
        entry: its place in the flat event of the variable.
        labels: the labels that its codes stand for; None of numbers and of codes.
        column: the column of the user's table that it is, which knows its units; None without a table.
    """

    name: str
    role: Literal["covariate", "latent", "observed"]
    variable: Variable
    entry: int
    labels: tuple[Hashable, ...] | None = None
    column: Column | None = None

    def code(self, value: Target) -> float:
        """A target as the model's number.

        Raises:
            DataError: an unknown label, or a value that the variable cannot have.
        """
        if self.column is not None:
            import pandas as pd

            return float(self.column.encode(pd.Series([value], name=self.column.name))[0])
        if self.labels is not None:
            if value not in self.labels:
                shown = ", ".join(map(repr, self.labels[:8])) + ", ..." * (len(self.labels) > 8)
                raise DataError(f"{self.name} must be one of {shown}; got {value!r}")
            return float(self.labels.index(value))
        try:
            number = float(np.asarray(value).item())
        except (TypeError, ValueError):
            number = float("nan")
        support = entrywise(self.variable.support)
        if not np.isfinite(number) or not bool(_check(support, number)):
            raise DataError(f"{self.name} must be a number in its support, {support}; got {value!r}")
        return number


def _check(support: Constraint, number: float) -> Tensor:
    checked: Tensor = support.check(torch.tensor(number))
    return checked.all()


def declared_attributes(fit: Fit) -> dict[str, Declared]:
    """The attributes that the model of a fit declares, by name."""
    model = fit.model
    columns = {column.name: column for column in getattr(fit.table, "columns", ())}
    attributes: dict[str, Declared] = {}
    for name, variable in model.observed.items():
        schema = fit.schema.get(name)
        names = getattr(fit.table, "groups", {}).get(name) or (schema.names if schema is not None else None)
        role: Literal["covariate", "observed"] = "covariate" if name in model.covariates else "observed"
        size = variable.shape.numel()
        labels = schema.labels if schema is not None else None
        if size == 1 and len(model.observed) > 1:
            column = columns.get(names[0]) if names else None
            attributes[name] = Declared(name, role, variable, 0, labels, column)
        for entry, column_name in enumerate(names or ()):
            if len(names or ()) == size:
                own = columns.get(column_name)
                attributes.setdefault(
                    str(column_name),
                    Declared(str(column_name), role, variable, entry, labels if size == 1 else None, own),
                )
    for name, variable in model.latents.items():
        if variable.per_row and variable.support.is_discrete and not variable.shape:
            schema = fit.schema.get(name)
            labels = schema.labels if schema is not None else None
            attributes[name] = Declared(name, "latent", variable, 0, labels)
    return attributes


def read_targets(fit: Fit, targets: Mapping[str, Target]) -> list[tuple[Declared, float]]:
    """Targets as attributes that the model declares, with the model's numbers.

    Raises:
        DeclarationError: the model declares none. DataError: an unknown name or value.
    """
    known = declared_attributes(fit)
    if not known:
        raise DeclarationError(
            "the model of this fit declares no attributes: covariates, discrete latents, several observed variables, or "
            "columns with names; give labels of some rows, lfm.attributes.fit(fit, data, {name: labels})"
        )
    if not isinstance(targets, Mapping) or not targets:
        raise DataError(f"targets must be {{attribute: value}} of {', '.join(known)}; got {targets!r}")
    read = []
    for name, value in targets.items():
        if str(name) not in known:
            near = difflib.get_close_matches(str(name), [*known], 1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise DataError(f"there is no attribute {name!r}: it must be one of {', '.join(known)}{hint}")
        attribute = known[str(name)]
        code = attribute.code(value)
        _warn_if_far(fit, attribute, code, value)
        read.append((attribute, code))
    return read


def _warn_if_far(fit: Fit, attribute: Declared, code: float, value: Target) -> None:
    """Warns of a number that lies far from all that were fitted."""
    schema = fit.schema.get(attribute.variable.name)
    if schema is None or schema.scale is None or attribute.variable.categories is not None:
        return
    spread = float(schema.scale.spread[attribute.entry])
    away = abs(code - float(schema.scale.mean[attribute.entry]))
    if spread > 0 and away > _FAR * spread:
        warn(
            f"{attribute.name} = {value} lies {away / spread:.3g} standard deviations from the mean of the fitted rows: "
            "rows with it go beyond the data",
            AttributeWarning,
        )

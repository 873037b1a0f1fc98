"""The check that a model can marginalise the missing entries of rows, made at the boundary that all rows pass."""

from __future__ import annotations

import torch
from torch import Tensor

from pyro_lfm.data.readers import Table
from pyro_lfm.distributions.masking import observed_part
from pyro_lfm.errors import DataError
from pyro_lfm.factors.wiring import distribution_of
from pyro_lfm.programs.model import AnyModel, Model, PyroModel
from pyro_lfm.runtime import Stream, isolated


def check_missing(model: AnyModel, table: Table, known: list[str]) -> None:
    """Refuses missing entries that a model would read as numbers.

    Args:
        table: rows that were validated.
        known: the latents among the names of the table.

    Raises:
        DataError: an entry is missing of a covariate, of an observed variable that others read, or of a variable whose
            mask the program never reads; or a row has only some entries of a latent, or of a distribution that cannot be
            divided into entries.
    """
    readers = readers_of(model)
    for name, missing in table.has_missing.items():
        if not missing:
            continue
        if name in model.covariates:
            raise DataError(
                f"{name} is a covariate, which cannot have missing entries; got NaN in {_first(table, name)}: fill them "
                "in, or leave these rows out"
            )
        if isinstance(model, PyroModel) and name not in model.sites.masked:
            raise DataError(
                f"{name} has missing entries (NaN), but the program never asks for batch.mask({name!r}): mask its "
                "likelihood, or fill the entries in"
            )
        if name in readers:
            raise DataError(
                f"{name} has missing entries (NaN) in {_first(table, name)}, and {', '.join(readers[name])} reads it: fill "
                f"them in, or declare {name} as a latent, of which data may hold values in some rows"
            )
        if name in known:
            _check_whole(table, name, "is a latent, of which a row may have all entries or none (NaN)")
        elif isinstance(model, Model) and not is_divisible(model, name):
            _check_whole(
                table,
                name,
                "has a distribution that cannot be divided into entries, of which a row may have all or none (NaN)",
            )


def readers_of(model: AnyModel) -> dict[str, list[str]]:
    """The observed variables that read each observed variable."""
    if not isinstance(model, Model):
        return {}
    readers: dict[str, list[str]] = {}
    for name, parents in model.wiring.items():
        for parent in parents if name in model.observed else ():
            if parent in model.observed:
                readers.setdefault(parent, []).append(name)
    return readers


def _first(table: Table, name: str) -> str:
    """The first row with a missing entry, in words."""
    for index in table.blocks():
        gaps = table.take(index)[name].isnan().reshape(len(index), -1)
        if len(rows := gaps.any(1).nonzero()):
            row = int(rows[0])
            entry, columns = int(gaps[row].nonzero()[0]), table.schema[name]
            where = f", column {columns.place(entry)}" if columns.names is not None else ""
            return f"row {int(index[row])}{where}"
    return "no row"


def _check_whole(table: Table, name: str, reason: str) -> None:
    """Refuses rows of which some entries are missing and others are there."""
    for index in table.blocks():
        gaps = table.take(index)[name].isnan().reshape(len(index), -1)
        if len(rows := (gaps.any(1) & ~gaps.all(1)).nonzero()):
            raise DataError(
                f"{name} {reason}; row {int(index[rows[0]])} has some of them: fill them in, or make the whole row missing"
            )


def is_divisible(model: Model, name: str) -> bool:
    """Whether some entries of an event have a likelihood without the others, tried on two rows of zeros."""
    shape = model.observed[name].shape
    if shape.numel() < 2:
        return True
    values = {
        n: torch.zeros(2, *variable.shape, dtype=model.dtype, device=model.device)
        for n, variable in model.sites.all.items()
        if variable.per_row
    }
    values |= _shared(model)
    mask: Tensor = torch.ones(2, shape.numel(), dtype=torch.bool, device=model.device)
    mask[:, 0] = False
    index = torch.zeros(2, dtype=torch.long, device=model.device)
    with isolated(Stream(0, model.device), model.device), torch.no_grad():
        try:
            observed_part(
                distribution_of(model.factors, model.given, name, values, index),
                mask.reshape(2, *shape),
                name,
            )
        except DataError:
            return False
        except (ValueError, RuntimeError):  # zeros are outside its support: the rows themselves decide later
            return True
    return True


def _shared(model: Model) -> dict[str, Tensor]:
    """The point values of the latents that all rows share."""
    points = {name: model.point(name) for name in model.latents}
    return {name: point.detach() for name, point in points.items() if point is not None}

"""The rows of a query with the guide that serves them, for ``Fit``."""

from __future__ import annotations

import torch
from torch.distributions import Distribution

from pyro_lfm.data.batch import Batch
from pyro_lfm.data.readers import Table
from pyro_lfm.distributions.joined_rows import JoinedRows
from pyro_lfm.errors import DataError
from pyro_lfm.guides import AnyGuide, Refined
from pyro_lfm.guides.posterior import marginals
from pyro_lfm.inference.blocks import Blocks, TableRows
from pyro_lfm.inference.queries.refinement import refine
from pyro_lfm.inference.queries.unseen_rows import fit_rows
from pyro_lfm.programs.model import AnyModel

# Rows of one block of a posterior.
_ROWS = 4096


def whole_batch(model: AnyModel, table: Table, index: torch.Tensor | None = None) -> Batch:
    """The rows of a table, or some of them, as one batch."""
    index = torch.arange(len(table)) if index is None else index
    return Batch(table.take(index, model.dtype, model.device), index.to(model.device), len(table))


def as_batch(model: AnyModel, guide: AnyGuide, table: Table, fitted: bool) -> tuple[Batch, AnyGuide]:
    """All rows as one batch, and the guide for them: a copy that is optimised for the rows, where it has tables of rows.

    Args:
        fitted: whether they are the rows that were fitted.
    """
    _check_tables(model, fitted)
    batch = whole_batch(model, table)
    if isinstance(guide, Refined):
        return batch, refine(model, guide, batch)
    if fitted or not guide.tables:
        return batch, guide
    return batch, fit_rows(model, guide, batch)


def as_stream(
    model: AnyModel, guide: AnyGuide, table: Table, fitted: bool
) -> tuple[Batch | TableRows, AnyGuide]:
    """As ``as_batch``, but rows of which the guide needs no copy of its own are read block by block."""
    if isinstance(guide, Refined) or (guide.tables and not fitted):
        return as_batch(model, guide, table, fitted)
    _check_tables(model, fitted)
    return TableRows(table, model.dtype, model.device), guide


def _check_tables(model: AnyModel, fitted: bool) -> None:
    if not fitted and model.tables:
        raise DataError(
            "the model has parameters for each fitted row (PerRow), and none for other rows: leave data "
            "out, for the rows that were fitted"
        )


def posteriors(model: AnyModel, guide: AnyGuide, rows: Batch | TableRows) -> dict[str, Distribution]:
    """q(z | x) of each latent. Beyond the result memory does not grow with the rows, for the usual distributions."""
    latents = list(model.latents)
    if isinstance(rows, Batch):
        return marginals(guide, rows, latents)
    if rows.size > _ROWS and (streamed := _streamed(model, guide, rows, latents)) is not None:
        return streamed
    return marginals(guide, whole_batch(model, rows.table), latents)


def _streamed(
    model: AnyModel, guide: AnyGuide, rows: TableRows, latents: list[str]
) -> dict[str, Distribution] | None:
    """The posteriors, block by block; None where a distribution cannot be joined."""
    joined = {name: JoinedRows(rows.size) for name in latents}
    blocks = Blocks(model, guide, rows, _ROWS, 0)
    start = 0
    for block in blocks:
        part = marginals(guide, blocks.setup.batch(*block), latents)
        if not all(joined[name].write(part[name], start) for name in latents):
            return None
        start += len(block[1])
    return {name: each.distribution() for name, each in joined.items()}

"""Brings model and guide together before a training: tables are sized, the guide is bound and checked."""

from __future__ import annotations

import torch
from pyro import poutine

from pyro_lfm.data.batch import Batch
from pyro_lfm.data.readers import Table
from pyro_lfm.errors import DataError, DeclarationError
from pyro_lfm.guides import AnyGuide, Guide
from pyro_lfm.objectives.trace_sites import latent_sites
from pyro_lfm.probes import probing
from pyro_lfm.programs.model import AnyModel
from pyro_lfm.programs.program import Program


def size_tables(rows: int, *programs: Program) -> None:
    """Gives every ``PerRow`` table its rows.

    Raises:
        DataError: a table has the rows of other data.
    """
    for program in programs:
        for table in program.tables:
            if len(table.rows) not in (0, rows):
                raise DataError(
                    f"a PerRow table holds {len(table.rows)} rows; the data have {rows}: a table belongs to its rows, "
                    "declare a new one, or use fit.posterior(data) for rows not seen in training"
                )
            table.resize(rows)


def bind(model: AnyModel, guide: AnyGuide, table: Table) -> AnyGuide:
    """The guide, bound to the model after a trial run of both on the first row, which makes their ``pyro.param``s.

    Raises:
        DeclarationError: a guide written by hand draws other latents than the model, or in other plates.
    """
    index = torch.zeros(1, dtype=torch.long)
    batch = Batch(table.take(index, model.dtype, model.device), index.to(model.device), len(table))
    model.settle(batch)
    guide.settle(batch)
    guide = guide.bound_to(model)
    if isinstance(guide, Guide):
        return guide
    with probing(guide, device=guide.device):
        sites = latent_sites(poutine.trace(guide).get_trace(batch))
    if sites.keys() != model.latents.keys():
        raise DeclarationError(
            f"the guide draws {', '.join(sites) or 'nothing'}; the model's latents are {', '.join(model.latents)}"
        )
    for name, variable in model.latents.items():
        if variable.per_row != any(frame.name == "rows" for frame in sites[name]["cond_indep_stack"]):
            where = "inside" if variable.per_row else "outside"
            raise DeclarationError(
                f"the guide must draw {name} {where} `with batch.plate():`, as the model does"
            )
    return guide

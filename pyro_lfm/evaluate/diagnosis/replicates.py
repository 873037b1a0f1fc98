"""Posterior predictive replicates of rows, and the statistics that compare them with the rows."""

from __future__ import annotations

from typing import Any

import torch
from pyro import poutine
from torch import Tensor

from pyro_lfm.data.batch import Batch
from pyro_lfm.errors import DataError
from pyro_lfm.evaluate.diagnosis.simulation import columns
from pyro_lfm.guides import AnyGuide
from pyro_lfm.inference.blocks import Blocks
from pyro_lfm.objectives.layout import Layout
from pyro_lfm.objectives.trace_sites import Site, in_row_plate
from pyro_lfm.programs.model import AnyModel

# Numbers of all replicates of one block of rows. Columns whose correlations are computed.
_NUMBERS, _COLUMNS = 2**23, 64


def statistics_of(
    model: AnyModel, guide: AnyGuide, batch: Batch, replicates: int, seed: int
) -> tuple[list[str], Tensor]:
    """The names of the statistics, and their values for the data and for R replicates, (1 + R, J).

    z is drawn once for each row. The statistics are those of residuals e = (x − m) / s, with m and s the mean and deviation
    of each entry over data and replicates together. So no distribution needs moments, and data and replicates are treated
    alike. ``predictive.STATISTICS`` has a sentence for each name.
    """
    modelled = [name for name in model.observed if name not in model.covariates]
    wide = sum((model.observed[n].categories or model.observed[n].shape.numel()) for n in modelled)
    size = max(1, min(1024, _NUMBERS // ((1 + replicates) * wide)))
    blocks = Blocks(model, guide, batch, size, seed)
    generator = torch.Generator().manual_seed(seed)
    turn = None
    if wide > _COLUMNS:
        turn = torch.linalg.qr(torch.randn(wide, _COLUMNS, generator=generator)).Q.to(
            model.device, model.dtype
        )
    sums: dict[str, Any] = {}
    with blocks.running():
        for rows, index in blocks:
            members, log_p = _members(model, guide, blocks.setup.batch(rows, index), modelled, replicates)
            for name, value in _sums(members, log_p, turn).items():
                sums[name] = sums.get(name, 0) + value
    statistics = _statistics(sums, batch.size)
    if not statistics:
        raise DataError("rows to check a model by must have an observed entry; every value is missing (NaN)")
    return list(statistics), torch.stack(list(statistics.values()), 1).double().cpu()


def _members(
    model: AnyModel, guide: AnyGuide, part: Batch, modelled: list[str], replicates: int
) -> tuple[Tensor, Tensor]:
    """The rows and their replicates, (1 + R, B, D), NaN where missing; and log p(x | z) of each, (1 + R, B)."""
    q: Any = poutine.trace(guide).get_trace(part)
    program = poutine.condition(model, data={name: q.nodes[name]["value"] for name in model.latents})
    known = {name: part[name] for name in model.covariates}
    masks = {name: part.mask(name) for name in modelled}
    gaps = any(mask is not None for mask in masks.values())
    p: Any
    members, log_p = [], []
    for member in range(1 + replicates):
        values = {name: part[name] for name in modelled}
        if member:
            p = poutine.trace(program).get_trace(Batch(known, index=part.index, total=part.total))
            values = {name: p.nodes[name]["value"].expand(values[name].shape) for name in modelled}
        for name, mask in masks.items():
            if mask is not None:
                values[name] = values[name].to(model.dtype).masked_fill(~mask, torch.nan)
        if not member or gaps:
            again = Batch({**known, **values}, index=part.index, total=part.total)
            p = poutine.trace(program).get_trace(again)
        log_p.append(_log_likelihood([p.nodes[name] for name in modelled], part))
        members.append(columns(model, values))
    return torch.stack(members), torch.stack(log_p)


def _log_likelihood(sites: list[Site], part: Batch) -> Tensor:
    """The sum of the log densities of the sites, for each row, (B,), in float64."""
    frames = [frame for site in sites for frame in site["cond_indep_stack"]]
    rows = Layout(part.size, part.total, max([-f.dim for f in frames if f.dim is not None], default=1), 1)
    terms = [rows.reduce(site["fn"].log_prob(site["value"]), site) for site in sites if in_row_plate(site)]
    return rows.add_up(term.double() for term in terms)[0, 0]


def _sums(members: Tensor, log_p: Tensor, turn: Tensor | None) -> dict[str, Tensor]:
    """Sums over the rows of a block for the data and each replicate, (1 + R, ...), from which the statistics follow."""
    seen = ~members[0].isnan()
    x = members.where(seen, 0.0)
    spread = x.std(0, correction=0)
    e = (x - x.mean(0)).div_(spread.where(spread > 0, 1.0)).masked_fill_(~seen, 0.0)
    square = e.square()
    turned = e if turn is None else e @ turn
    excess = (square - 1).masked_fill(~(seen & (spread > 0)), 0.0)
    sums = {
        # log p(x | z) may be −∞. A finite number can be summed and compared.
        "likelihood": log_p.clamp(-1e12, 1e12).sum(1),
        "level": e.sum(1),
        "excess": excess.sum(1),
        "cube": (square * e).sum((1, 2)),
        "fourth": square.square().sum((1, 2)),
        "rows": excess.sum(2).square().sum(1),
        "products": turned.transpose(1, 2) @ turned,
        "zeros": ((x == 0) & seen).sum((1, 2)),
    }
    return {name: value.double() for name, value in sums.items()}


def _statistics(sums: dict[str, Tensor], rows: int) -> dict[str, Tensor]:
    products = sums["products"] / rows
    between = products.square().sum((1, 2)) - products.diagonal(dim1=1, dim2=2).square().sum(1)
    statistics = {
        "log p(x | z)": sums["likelihood"],
        "level": sums["level"].sum(1),
        "spread": sums["excess"].sum(1),
        "skewness": sums["cube"],
        "tails": sums["fourth"],
        "means of columns": sums["level"].square().sum(1),
        "variances of columns": sums["excess"].square().sum(1),
        "spread of rows": sums["rows"],
        "correlations": between,
        "zeros": sums["zeros"],
    }
    # A statistic that is equal in the data and all replicates is left out.
    return {
        n: value
        for n, value in statistics.items()
        if float(value.std()) > 1e-9 * (1 + float(value.abs().max()))
    }

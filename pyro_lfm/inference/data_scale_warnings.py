"""Warnings about the scale of data, given at the boundary of rows and before training.

The floating type may be too coarse for the numbers, or they may lie far from the fitted rows or from the model's start.
"""

from __future__ import annotations

from typing import Any

import torch
from pyro import poutine
from torch import Tensor
from torch.distributions.constraints import Constraint

from pyro_lfm.data.batch import Batch
from pyro_lfm.data.readers import Table
from pyro_lfm.data.schema import Columns
from pyro_lfm.distributions.supports import entrywise, is_real
from pyro_lfm.errors import warn
from pyro_lfm.guides import AnyGuide
from pyro_lfm.probes import evaluating
from pyro_lfm.programs.model import AnyModel, Model
from pyro_lfm.runtime import Stream, isolated
from pyro_lfm.warning_kinds import DataScaleWarning, PrecisionWarning

# The step between neighbouring numbers of a floating type, over the spread of a column, from which rounding matters.
_COARSE = 2.0**-8
# Standard deviations beyond which rows are far; and the part of one below which rows do not differ.
_FAR, _NEAR = 30.0, 1e-3
# Rows by which the model's start is compared with the data.
_ROWS = 256


def warn_of_rounding(name: str, table: Table, support: Constraint, dtype: torch.dtype) -> None:
    """Warns where the model's floating type does not hold the digits of the data."""
    scale, columns, info = table.scales[name], table.schema[name], torch.finfo(dtype)
    type_name = str(dtype).removeprefix("torch.")
    if entrywise(support).is_discrete:
        most, entry = (float(value) for value in scale.largest.max(0))
        if most > 2 / info.eps:
            warn(
                f"{name}: whole numbers up to {most:.0f}{_column(columns, int(entry))} are rounded in {type_name}, which "
                f"holds them up to {2 / info.eps:.0f}{_remedy(dtype)}",
                PrecisionWarning,
                of=name,
            )
        return
    step = info.eps * scale.largest
    coarse = torch.where(scale.spread > scale.rounding, step / scale.spread, 0.0)
    entry = int(coarse.argmax())
    if float(coarse[entry]) > _COARSE:
        warn(
            f"{name}: numbers spread by {float(scale.spread[entry]):.3g} about {float(scale.mean[entry]):.6g}"
            f"{_column(columns, entry)}, where neighbouring numbers of {type_name} are {float(step[entry]):.2g} apart, so "
            f"that the fit gets rounded numbers: subtract the mean of the column{_remedy(dtype, ', or ')}",
            PrecisionWarning,
            of=name,
        )


def _remedy(dtype: torch.dtype, before: str = ": ") -> str:
    return (
        f"{before}declare the model in float64, model.double() before its guide"
        if dtype != torch.float64
        else ""
    )


def _column(columns: Columns, entry: int) -> str:
    return f" (column {columns.place(entry)})" if columns.names is not None else ""


def warn_of_distance(name: str, table: Table, support: Constraint, fitted: Columns | None) -> None:
    """Warns where rows lie far from the fitted ones, as pixels of 0 to 255 do from pixels of 0 to 1."""
    if fitted is None or fitted.scale is None or entrywise(support).is_discrete:
        return
    now, then = table.scales[name], fitted.scale
    spread = _rms(then.spread)
    far = _rms(torch.hypot(now.mean - then.mean, now.spread))
    if spread > 0 and far > _FAR * spread:
        warn(
            f"{name}: these rows lie {far / spread:.3g} standard deviations from the fitted ones: they lie about "
            f"{_middle(now.mean):.4g}, and the fitted rows about {_middle(then.mean):.4g}. Give them in the units of the "
            "fit",
            DataScaleWarning,
            of=name,
        )


def warn_of_start(model: AnyModel, guide: AnyGuide, table: Table) -> None:
    """Warns where the likelihood, before training, lies so far from the data that training will not get there.

    The distance is r = (x − E[x | z]) / σ, of likelihoods over the reals, at a draw of z from the guide or from the prior,
    whichever is nearer. The guide is nearer where it was trained before.
    """
    index = torch.linspace(0, len(table) - 1, min(_ROWS, len(table)), dtype=torch.float64).long()
    batch = Batch(table.take(index, model.dtype, model.device), index.to(model.device), len(table))
    for name in model.observed:
        if name in model.covariates or not is_real(model.observed[name].support):
            continue
        start = _residual(model, guide, batch, name)
        if start is None:
            continue
        residual, deviation = start
        scale = table.scales[name]
        spread = _rms(scale.spread[scale.spread > 0])
        position = f"{name}: its numbers lie about {_middle(scale.mean):.4g} and spread by {spread:.3g}"
        remedy = "scale the data, as (x - x.mean(0)) / x.std(0) does, or start the likelihood where they are"
        if residual > _FAR:
            warn(
                f"{position}, {residual:.3g} standard deviations from the start of the likelihood, where σ is "
                f"{deviation:.3g}: {remedy}",
                DataScaleWarning,
            )
        elif 0 < spread < _NEAR * deviation:
            warn(
                f"{position}, which is {spread / deviation:.2g} of the likelihood's σ at the start, {deviation:.3g}: for it "
                f"all rows are alike: {remedy}",
                DataScaleWarning,
            )


def _residual(model: AnyModel, guide: AnyGuide, batch: Batch, name: str) -> tuple[float, float] | None:
    """The root mean square of r, and of σ; None where the distribution of x has no mean and variance."""
    x, nearest = batch.with_gaps(name), None
    # Training does not start from a draw of the parameters from a broad prior of their own.
    broad = isinstance(model, Model) and bool(model.factors[name].drawn)
    try:
        with evaluating(model, guide), isolated(Stream(0, model.device), model.device), torch.no_grad():
            q: Any = poutine.trace(guide).get_trace(batch)
            programs: list[Any] = [poutine.replay(model, trace=q)]
            for program in programs if broad else [*programs, model]:
                p: Any = poutine.trace(program).get_trace(batch)
                mean, variance = p.nodes[name]["fn"].mean, p.nodes[name]["fn"].variance
                if mean.shape[-1:] != x.shape[-1:] or not bool((variance.isfinite() & (variance > 0)).all()):
                    return None
                residual = float(((x - mean) / variance.sqrt()).square().nanmean().sqrt())
                if nearest is None or not nearest[0] <= residual:
                    nearest = residual, float(variance.mean().sqrt())
    except Exception:  # the same error comes again when the program is trained
        return None
    return nearest


def _rms(values: Tensor) -> float:
    values = values[values.isfinite()]
    return float(values.square().mean().sqrt()) if len(values) else 0.0


def _middle(values: Tensor) -> float:
    return float(values.nanmean())

"""The variables of a fit as an export needs them: which are inputs, which may be missing, and a few rows as examples."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from pyro import poutine
from torch import Tensor

from pyro_lfm.data.batch import Batch
from pyro_lfm.distributions.masking import filled
from pyro_lfm.factors.variables import Variable
from pyro_lfm.guides import AnyGuide
from pyro_lfm.inference.fitted import Fit
from pyro_lfm.inference.missing_entries import is_divisible, readers_of
from pyro_lfm.probes import probing
from pyro_lfm.programs.model import AnyModel, Model
from pyro_lfm.programs.pyro_model import PyroModel

# A graph is recorded for any number of rows, but not from one row, which might stand for "all".
_LEAST_ROWS = 7


@dataclass(frozen=True, eq=False)
class Outline:
    """The variables of a fitted model.

    Attributes:
        variables: all by name. latents: the names of the latents. modelled: those of observed variables that are no
            covariates. indivisible: those of which a row may have all entries or none.
        rows: examples of all observed variables, by name, NaN in some entries that may be missing.
        may_be_missing: the names of the observed variables with missing entries.
        known_rows: the examples of those observed variables that others read.
        latent_values: examples of the latents, by name, for as many rows.
    """

    variables: dict[str, Variable]
    latents: list[str]
    modelled: list[str]
    indivisible: list[str]
    rows: dict[str, Tensor]
    may_be_missing: list[str]
    known_rows: dict[str, Tensor]
    latent_values: dict[str, Tensor]

    @property
    def device(self) -> torch.device:
        return next(iter(self.rows.values())).device

    def whole_rows(self, name: str, rows: Tensor) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
        """Rows without gaps, and a function that corrects their log-densities (B,).

        A missing row has log-density 0. A row of which only some entries are missing has NaN: it has no density.
        """
        gaps = rows.isnan()
        flat = gaps.reshape(gaps.shape[0], -1)
        absent, broken = flat.all(1), flat.any(1) & ~flat.all(1)
        value = filled(rows, ~gaps, self.variables[name].support)

        def corrected(log_prob: Tensor) -> Tensor:
            log_prob = torch.where(absent, 0.0, log_prob)
            return torch.where(broken, torch.nan, log_prob)

        return torch.where(value.isnan(), 0.0, value), corrected


def outline_of(fit: Fit) -> Outline:
    """The outline of a fit. Examples are its first rows; of a fit without rows they are drawn from the model."""
    model = fit.model
    modelled = [name for name in model.observed if name not in model.covariates]
    readers = readers_of(model)
    known = [name for name in model.observed if name in model.covariates or name in readers]
    indivisible = [
        n for n in modelled if isinstance(model, Model) and n not in known and not is_divisible(model, n)
    ]
    never = {n for n in modelled if isinstance(model, PyroModel) and n not in model.sites.masked}
    may_be_missing = [name for name in modelled if name not in known and name not in never]
    complete = _examples(fit, _row_count(model, fit.guide))
    rows = {
        name: _with_gaps(value, whole=name in indivisible) if name in may_be_missing else value
        for name, value in complete.items()
    }
    count = next(iter(complete.values())).shape[0]
    known_rows = min((len(table.rows) for table in fit.guide.tables), default=count)
    batch = Batch(complete, index=torch.arange(count, device=model.device) % max(1, known_rows))
    with probing(model, fit.guide, device=model.device), torch.no_grad():
        trace: Any = poutine.trace(fit.guide).get_trace(batch)
    return Outline(
        model.sites.all,
        list(model.latents),
        modelled,
        indivisible,
        rows,
        may_be_missing,
        {name: complete[name] for name in known},
        {name: trace.nodes[name]["value"].clone() for name in model.latents},
    )


def _row_count(model: AnyModel, guide: AnyGuide) -> int:
    """The rows of the examples: a number that is no other size, for which torch could take it."""
    variables = [variable.shape for variable in model.sites.all.values()]
    tensors = [t.shape for program in (model, guide) for t in (*program.parameters(), *program.buffers())]
    sizes = set(itertools.chain(*variables, *tensors))
    return next(count for count in itertools.count(_LEAST_ROWS) if count not in sizes)


def _examples(fit: Fit, count: int) -> dict[str, Tensor]:
    """Some rows of the observed variables, without missing entries: fitted rows, or if there are none rows of the model."""
    model, some = fit.model, fit.some_rows(count)
    fitted = {} if some is None else {name: some.with_gaps(name) for name in some.names}
    if not all(name in fitted for name in model.observed):
        try:
            fitted = model.with_stand_ins().sample(count, seed=0)
        except (ValueError, RuntimeError):  # a vague prior has draws that its model cannot take
            fitted = {}
    return {
        name: _complete(variable, fitted.get(name), model, count) for name, variable in model.observed.items()
    }


def _complete(variable: Variable, rows: Tensor | None, model: AnyModel, count: int) -> Tensor:
    """Rows of a variable, repeated if they are few, with a value inside the support for entries that are no numbers."""
    if rows is None:
        rows = torch.zeros(1, *variable.shape)
    rows = rows.to(model.device, model.dtype)[torch.arange(count) % len(rows)]
    finite = rows.isfinite()
    inside = filled(torch.zeros_like(rows), torch.zeros_like(finite), variable.support)
    return torch.where(finite, rows, inside)


def _with_gaps(rows: Tensor, whole: bool) -> Tensor:
    """The rows with a whole row missing, and in another row one entry."""
    gaps = torch.zeros(rows.shape, dtype=torch.bool, device=rows.device)
    gaps[2] = True
    if not whole:
        gaps.reshape(len(rows), -1)[4, 0] = True
    return rows.masked_fill(gaps, torch.nan)

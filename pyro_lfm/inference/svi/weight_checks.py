"""Whether a weighted bound is defined for a model, a guide and an objective: ``SVI`` asks before it weights rows."""

from __future__ import annotations

from typing import cast

import pyro.infer
import torch
from pyro.poutine.util import site_is_subsample

from pyro_lfm.data.batch import Batch
from pyro_lfm.data.readers import Table
from pyro_lfm.errors import DeclarationError
from pyro_lfm.guides import AnyGuide
from pyro_lfm.guides.any_guide import together
from pyro_lfm.objectives import ELBO, Objective
from pyro_lfm.objectives.trace_sites import Site, in_row_plate, latent_sites
from pyro_lfm.probes import probing
from pyro_lfm.programs.model import AnyModel, Model

# Those of Pyro whose loss is a sum over statements, each times its scale.
_LINEAR = (pyro.infer.Trace_ELBO, pyro.infer.TraceMeanField_ELBO, pyro.infer.TraceGraph_ELBO)
# The weight of a trial row: no program scales by it of its own accord.
_TRIAL = 7.25


def check_weights(model: AnyModel, guide: AnyGuide, objective: pyro.infer.ELBO, table: Table) -> None:
    """Checks that weights of rows have an exact meaning, by a trial run on one row.

    Raises:
        DeclarationError: the objective is no weighted sum over rows, a prior is made of the rows, or a statement of a row
            stands outside ``with batch.plate():``.
    """
    _check_objective(objective)
    factors = model.factors.items() if isinstance(model, Model) else ()
    for name, factor in factors:
        if not factor.takes_weights:
            raise DeclarationError(
                f"weights= cannot be used with a prior that is made of the rows, and the prior of {name} is "
                f"{type(factor.declaration).__name__}: leave weights= out, or give {name} another prior"
            )
    plain, weighted = (_sites(model, guide, table, weight) for weight in (None, _TRIAL))
    for name, site in weighted.items():
        ratio = torch.as_tensor(site["scale"] / plain[name]["scale"]) if name in plain else torch.zeros(())
        if not bool((ratio == _TRIAL).all()):
            where = "in a plate of its own" if in_row_plate(site) else "outside the plate over rows"
            raise DeclarationError(
                f"weights= needs every statement of a row inside `with batch.plate():`, which weights it; {name} stands "
                f"{where}: put it there, or leave weights= out"
            )


def _check_objective(objective: pyro.infer.ELBO) -> None:
    if isinstance(objective, Objective):
        serves = objective.takes_weights()
    else:
        serves = type(objective) in _LINEAR
    if not serves:
        raise DeclarationError(
            f"weights= needs an objective that is a sum over rows; got {objective!r}: use lfm.ELBO() or "
            "lfm.ImportanceWeightedELBO(), without penalties on the codes of all rows together, or leave weights= out"
        )


def _sites(model: AnyModel, guide: AnyGuide, table: Table, weight: float | None) -> dict[str, Site]:
    """The statements of a row in guide and model, and the observed ones, of a row with a weight."""
    index = table.counted[:1]
    weights = None if weight is None else torch.full((1,), weight, dtype=model.dtype, device=model.device)
    rows = table.take(index, model.dtype, model.device)
    batch = Batch(rows, index.to(model.device), len(table), weights=weights)
    with probing(model, guide, device=model.device):
        q, p = ELBO(enumerate="never").traces(*together(model, guide), (batch,), {})
    sites = {f"the guide's {name}": site for name, site in latent_sites(q).items() if in_row_plate(site)}
    for name, node in p.nodes.items():
        site = cast(Site, node)
        if site["type"] != "sample" or site_is_subsample(node):
            continue
        if site["is_observed"] or in_row_plate(site):
            sites[name] = site
    return sites

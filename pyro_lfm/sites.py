"""The variables of a program, found by letting it generate two rows."""

from __future__ import annotations

from typing import Any

import torch
from pyro import poutine
from pyro.poutine.util import site_is_subsample

from pyro_lfm.data.batch import Batch
from pyro_lfm.distributions.supports import of_any_rows, of_one_row
from pyro_lfm.distributions.values import may_be_summed
from pyro_lfm.errors import DeclarationError
from pyro_lfm.programs import Program, evaluating
from pyro_lfm.runtime import Stream, isolated
from pyro_lfm.variables import Variable


class Sites:
    """The variables of a model by name."""

    def __init__(self, latents: dict[str, Variable], observed: dict[str, Variable], masked: set[str]):
        self.latents, self.observed = latents, observed
        # The names whose masks the program asks for, and so can do without.
        self.masked = masked

    @property
    def all(self) -> dict[str, Variable]:
        return {**self.latents, **self.observed}


def discover(model: Program, known_observed: frozenset[str] = frozenset()) -> Sites:
    batch = Batch(size=2)
    batch.index = batch.index.to(model.device)
    with evaluating(model), isolated(Stream(0), model.device), torch.no_grad():
        trace: Any = poutine.trace(model).get_trace(batch)
    latents: dict[str, Variable] = {}
    observed: dict[str, Variable] = {}
    for name, site in trace.nodes.items():
        if (
            site["type"] != "sample"
            or site_is_subsample(site)
            or (site["is_observed"] and name not in batch.asked)
        ):
            continue
        frames = site["cond_indep_stack"]
        shape = torch.Size(site["value"].shape[site["value"].dim() - len(site["fn"].event_shape) :])
        per_row = any(frame.name == "rows" for frame in frames)
        is_observed = name in batch.asked or name in known_observed
        support = site["fn"].support
        if (
            is_observed and not known_observed
        ):  # a factor that is declared says itself what its support hangs on
            support = of_any_rows(support)
        elif per_row and not is_observed:
            support = of_one_row(support, len(shape))
        variable = Variable(name, shape, support, per_row, may_be_summed(site["infer"]))
        (observed if is_observed else latents)[name] = variable
    if not latents and not known_observed:
        raise DeclarationError("the program has no latent variable: every sample statement is observed")
    if not observed:
        raise DeclarationError(
            "the program observes nothing: pass obs=batch[name] in some pyro.sample statement"
        )
    return Sites(latents, observed, batch.asked_masks)

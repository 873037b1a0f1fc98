"""The variables of a program, found by letting it generate two rows; the distribution of a factor, by a trial."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from pyro import poutine
from pyro.poutine.util import site_is_subsample

from pyro_lfm.data.batch import Batch
from pyro_lfm.distributions.supports import of_any_rows
from pyro_lfm.distributions.values import is_law, may_be_summed
from pyro_lfm.errors import DeclarationError, ShapeError
from pyro_lfm.factors import Factor, PriorOfGuide
from pyro_lfm.probes import probing
from pyro_lfm.programs import Program
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
    with probing(model, device=model.device):
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
        variable = Variable(name, shape, support, per_row, may_be_summed(site["infer"]))
        (observed if is_observed else latents)[name] = variable
    if not latents and not known_observed:
        raise DeclarationError("the program has no latent variable: every sample statement is observed")
    if not observed:
        raise DeclarationError(
            "the program observes nothing: pass obs=batch[name] in some pyro.sample statement"
        )
    return Sites(latents, observed, batch.asked_masks)


def law_on_zeros(name: str, factor: Factor, parents: Sequence[Variable]) -> Any:
    """The distribution of a model's factor where its parents are zero, two rows of them.

    Raises:
        DeclarationError: it is none of Pyro's. ShapeError: it has not the event that the factor declares.
    """
    factor = factor.stand_in() if isinstance(factor, PriorOfGuide) else factor
    with probing(factor):
        zeros = [torch.zeros(2, *parent.shape) for parent in parents]
        try:
            law = factor.at(zeros, torch.zeros(2, dtype=torch.long))
        except DeclarationError as error:
            raise type(error)(f"{name}: {error}") from None
    if not is_law(law):
        raise DeclarationError(
            f"{name}: a factor must return a distribution of pyro.distributions; got {type(law).__module__}."
            f"{type(law).__name__}"
        )
    if law.event_shape != factor.shape:
        raise ShapeError(
            f"{name} declares event shape {tuple(factor.shape)} but its distribution has "
            f"{tuple(law.event_shape)}: use .to_event(1) on independent entries"
        )
    rows = (2,) if parents or factor.tables else ()
    if tuple(law.batch_shape) not in ((), rows):
        raise ShapeError(
            f"{name}: the law of {'2 rows' if rows else 'a factor without parents'} must have batch shape {rows}; "
            f"got {tuple(law.batch_shape)}"
        )
    return law

"""The variables of a program, read from a trace of two generated rows, and the distribution of a factor on zeros."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any, cast

import torch
from pyro import poutine
from pyro.poutine.messenger import Messenger
from pyro.poutine.runtime import Message
from pyro.poutine.util import site_is_subsample
from torch.distributions import Distribution

from pyro_lfm.data.batch import Batch
from pyro_lfm.distributions.discrete_values import may_be_summed
from pyro_lfm.distributions.interface import is_distribution
from pyro_lfm.distributions.scaled_distribution import ScaledDistribution
from pyro_lfm.distributions.support_bounds import SupportBounds
from pyro_lfm.distributions.support_check import support_fault
from pyro_lfm.distributions.supports import from_reals, support_of_any_row, support_of_one_row
from pyro_lfm.errors import DeclarationError, ShapeError
from pyro_lfm.factors import Conditional, MadeOfGuide
from pyro_lfm.factors.variables import Variable
from pyro_lfm.probes import evaluating, probing
from pyro_lfm.programs.program import Program
from pyro_lfm.programs.pyro_modules import Site
from pyro_lfm.runtime import Stream, isolated


class Sites:
    """The variables of a model by name."""

    def __init__(
        self,
        latents: dict[str, Variable],
        observed: dict[str, Variable],
        masked: set[str],
        counted: frozenset[str] = frozenset(),
    ):
        self.latents, self.observed = latents, observed
        # The latents whose sample statements are masked or scaled, so that rows have unequal weights.
        self.counted = counted
        # The observed variables whose masks the program reads, so that entries may be missing.
        self.masked = masked

    @property
    def all(self) -> dict[str, Variable]:
        return {**self.latents, **self.observed}


def discover(model: Program, known_observed: frozenset[str] = frozenset()) -> Sites:
    """The variables of a model, from a trace of two rows that it generates.

    Args:
        known_observed: the observed variables of a declared model. Those of a hand-written program are the names that it
            reads from its batch.
    """
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
        if not known_observed:
            _check_plates(name, site)
        shape = torch.Size(site["value"].shape[site["value"].dim() - len(site["fn"].event_shape) :])
        per_row = any(frame.name == "rows" for frame in frames)
        is_observed = name in batch.asked or name in known_observed
        support = site["fn"].support
        # The support of a declared factor is known for all rows.
        if is_observed and not known_observed:
            support = support_of_any_row(support)
        elif per_row and not is_observed:
            support = support_of_one_row(support, len(shape))
        variable = Variable(name, shape, support, per_row, may_be_summed(site["infer"]))
        if is_observed:
            observed[name] = variable
        else:
            latents[name] = replace(
                variable,
                extent=SupportBounds.of_distribution(site["fn"]),
                fault=_fault(site["fn"], model),
                plate=_further_plate(site),
            )
    if not latents and not known_observed:
        raise DeclarationError("the program has no latent variable: every sample statement is observed")
    if not observed:
        raise DeclarationError(
            "the program observes nothing: pass obs=batch[name] in some pyro.sample statement"
        )
    counted = {n for n in latents if not ScaledDistribution.of(trace.nodes[n]).is_plain}
    return Sites(latents, observed, batch.asked_masks, frozenset(counted))


def distribution_on_zeros(name: str, factor: Conditional, parents: Sequence[Variable]) -> Distribution:
    """The distribution of a model's factor for two rows of zeros as parents.

    Raises:
        DeclarationError: it is no distribution of Pyro. ShapeError: it has another event shape than the factor declares.
    """
    factor = factor.stand_in() if isinstance(factor, MadeOfGuide) else factor
    with probing(factor):
        zeros = [torch.zeros(2, *parent.shape) for parent in parents]
        try:
            distribution = factor.at(zeros, torch.zeros(2, dtype=torch.long))
        except DeclarationError as error:
            raise type(error)(f"{name}: {error}") from None
    if not is_distribution(distribution):
        raise DeclarationError(
            f"{name}: a factor must return a distribution of pyro.distributions; got {type(distribution).__module__}."
            f"{type(distribution).__name__}"
        )
    if distribution.event_shape != factor.shape:
        raise ShapeError(
            f"{name} declares event shape {tuple(factor.shape)} but its distribution has "
            f"{tuple(distribution.event_shape)}: use .to_event(1) on independent entries"
        )
    rows = (2,) if parents or factor.tables else ()
    if tuple(distribution.batch_shape) not in ((), rows):
        raise ShapeError(
            f"{name}: the distribution of {'2 rows' if rows else 'a factor without parents'} must have batch shape {rows}; "
            f"got {tuple(distribution.batch_shape)}"
        )
    return distribution


def _fault(distribution: Distribution, model: Program) -> str | None:
    with isolated(Stream(0), model.device):
        return support_fault(distribution)


class AtOrigin(Messenger):
    """Sets latents to fixed values: the image of zero on the reals, or the least value of a discrete latent.

    So the masks and scales of a program can be read without random draws.
    """

    def __init__(self, dtype: torch.dtype, device: torch.device):
        super().__init__()
        self.dtype, self.device = dtype, device

    def _pyro_sample(self, msg: Site) -> None:
        distribution: Any = msg["fn"]
        if msg["is_observed"] or msg["done"] or site_is_subsample(cast(Message[..., torch.Tensor], msg)):
            return
        shape = torch.Size(distribution.batch_shape + distribution.event_shape)
        if distribution.support.is_discrete:
            extent = SupportBounds.of(distribution.support)
            if extent is None:
                return
            low = extent.low.to(dtype=self.dtype, device=self.device)
            msg["value"] = torch.zeros(shape, dtype=self.dtype, device=self.device) + low
        elif (carry := from_reals(distribution.support)) is not None:
            inner = torch.Size(carry.inverse_shape(shape))
            msg["value"] = carry(torch.zeros(inner, dtype=self.dtype, device=self.device))


def countings(model: Program, batch: Batch, names: Iterable[str]) -> dict[str, ScaledDistribution]:
    """The weights of the rows of a batch for some latents, from the masks and scales of the model."""
    with evaluating(model), torch.no_grad(), poutine.block(), AtOrigin(model.dtype, model.device):
        trace: Any = poutine.trace(model).get_trace(batch)
    share = batch.size / batch.total
    return {
        name: ScaledDistribution.of(trace.nodes[name]).times(share if is_of_rows(trace.nodes[name]) else 1.0)
        for name in names
    }


def _check_plates(name: str, site: Site) -> None:
    """Raises DeclarationError for a batch dimension that no plate holds: of such values neither count nor shape is known."""
    held = {frame.dim for frame in site["cond_indep_stack"]}
    shape = site["fn"].batch_shape
    loose = [size for k, size in enumerate(shape) if size > 1 and k - len(shape) not in held]
    if loose:
        rows = "" if is_of_rows(site) else ", or draw it inside `with batch.plate():` if each row has its own"
        raise DeclarationError(
            f"{name} has the batch shape {tuple(shape)} for 2 rows, of which no plate holds {' x '.join(map(str, loose))}: "
            f"make entries one event, as in dist.Normal(torch.zeros(3), 1.0).to_event(1){rows}"
        )


def _further_plate(site: Site) -> tuple[str, int] | None:
    """The name and size of a vectorised plate in which a sample statement stands, other than that of the rows."""
    frames = site["cond_indep_stack"]
    return next(((f.name, f.size) for f in frames if f.name != "rows" and f.dim is not None), None)


def is_of_rows(site: Site) -> bool:
    """Whether a sample statement is inside the plate over rows."""
    return any(frame.name == "rows" for frame in site["cond_indep_stack"])

"""What a decoder's graph gives of each entry of a likelihood: mean, deviation, and an interval or the parameters for one."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import singledispatch

import torch
from torch import Tensor
from torch.distributions import (
    Beta,
    Binomial,
    Categorical,
    Distribution,
    Gamma,
    MixtureSameFamily,
    Normal,
    Poisson,
    StudentT,
    TransformedDistribution,
)

from pyro_lfm.distributions.count_distributions import NegativeBinomial
from pyro_lfm.distributions.interface import without_independent
from pyro_lfm.distributions.logistic import DiscretizedLogistic, OrderedLevels
from pyro_lfm.distributions.quantiles import quantile
from pyro_lfm.distributions.scaled_distribution import unmasked
from pyro_lfm.distributions.zero_inflated import ZeroInflated
from pyro_lfm.evaluate.decoding.entry_summaries import moments_of_entries, single_entries


@dataclass(frozen=True)
class EntryOutputs:
    """The outputs of a graph for one likelihood of D entries.

    Attributes:
        tensors: by name, (B, D) each: ``mean``, ``deviation``, ``lower`` and ``upper``, or the parameters of a family; of
            labels and levels ``probabilities`` (B, D, C).
        family: the family whose quantiles the page computes by those parameters, as ``offline/quantiles.js`` names it;
            None where the graph has them.
        interval: "exact"; "none" of labels; "moments" where it is mean ± z deviations, cut off at the ends of the support.
        parameters: the names of the outputs that are parameters of the family.
        grid: (low, high, levels) of a logistic variable that is rounded to a grid.
    """

    tensors: dict[str, Tensor]
    family: str | None = None
    interval: str = "exact"
    parameters: list[str] = field(default_factory=list)
    grid: tuple[float, float, int] | None = None


def entry_outputs(distribution: Distribution, rows: int, level: float) -> EntryOutputs:
    """The outputs of a likelihood with batch shape () or (B,), for B rows.

    >>> import pyro.distributions as dist
    >>> outputs = entry_outputs(dist.Poisson(torch.ones(1, 3)).to_event(1), rows=1, level=0.9)
    >>> outputs.family, {name: tuple(value.shape) for name, value in outputs.tensors.items()}
    ('Poisson', {'mean': (1, 3), 'deviation': (1, 3), 'rate': (1, 3)})
    """
    distribution, _ = unmasked(distribution)
    each = single_entries(distribution)
    if each is None:
        outputs = _by_moments(distribution)
    elif isinstance(each, Categorical):
        outputs = _of_labels(each, level)
    elif (of_family := family_of(each)) is not None:
        family, parameters = of_family
        outputs = EntryOutputs(
            {**_moments(each), **parameters}, family, "exact", [*parameters], _grid_of(each)
        )
    else:
        outputs = _by_quantiles(each, level) or _by_moments(distribution)
    flat = {
        name: _flat(value, distribution, rows, name == "probabilities" or _is_mixture(outputs, name))
        for name, value in outputs.tensors.items()
    }
    return replace(outputs, tensors=flat)


@singledispatch
def family_of(each: Distribution) -> tuple[str, dict[str, Tensor]] | None:
    """The family and the parameters by which the page computes quantiles that torch has no operations for."""
    return None


@family_of.register
def _(each: Normal) -> tuple[str, dict[str, Tensor]]:
    return "Normal", {}  # mean and deviation say all


@family_of.register
def _(each: Poisson) -> tuple[str, dict[str, Tensor]]:
    return "Poisson", {"rate": each.rate}


@family_of.register
def _(each: Gamma) -> tuple[str, dict[str, Tensor]]:
    return "Gamma", {"concentration": each.concentration, "rate": each.rate}


@family_of.register
def _(each: Beta) -> tuple[str, dict[str, Tensor]]:
    return "Beta", {"concentration1": each.concentration1, "concentration0": each.concentration0}


@family_of.register
def _(each: StudentT) -> tuple[str, dict[str, Tensor]]:
    return "StudentT", {"df": each.df, "loc": each.loc, "scale": each.scale}


@family_of.register
def _(each: NegativeBinomial) -> tuple[str, dict[str, Tensor]]:
    return "NegativeBinomial", {"total_count": each.total_count, "logits": each.logits}


@family_of.register
def _(each: Binomial) -> tuple[str, dict[str, Tensor]]:
    return "Binomial", {"total_count": each.total_count, "logits": each.logits}


@family_of.register
def _(each: ZeroInflated) -> tuple[str, dict[str, Tensor]] | None:
    inner = family_of(each.base_dist)
    if inner is None:
        return None
    family, parameters = inner
    return f"ZeroInflated{family}", {**parameters, "gate_logits": each.gate_logits}


@family_of.register
def _(each: MixtureSameFamily) -> tuple[str, dict[str, Tensor]] | None:
    parts, weights = each.component_distribution, each.mixture_distribution.probs
    if isinstance(parts, Normal | DiscretizedLogistic):
        kind = "Normal" if isinstance(parts, Normal) else "Logistic"
        weights, loc, scale = torch.broadcast_tensors(weights, parts.loc, parts.scale)
        return f"MixtureOf{kind}", {"weights": weights, "loc": loc, "scale": scale}
    return None


def _is_mixture(outputs: EntryOutputs, name: str) -> bool:
    """Whether an output has a number for each component."""
    return (outputs.family or "").startswith("MixtureOf") and name in outputs.parameters


def _grid_of(each: Distribution) -> tuple[float, float, int] | None:
    parts = getattr(each, "component_distribution", None)
    grid = parts.grid if isinstance(parts, DiscretizedLogistic) else None
    return None if grid is None else (grid.low, grid.high, grid.levels)


def _is_graph(each: Distribution) -> bool:
    """Whether the quantiles are operations of torch."""
    if isinstance(each, TransformedDistribution):
        return isinstance(each.base_dist, Normal) or _is_graph(each.base_dist)
    if isinstance(each, MixtureSameFamily):
        return _is_graph(each.component_distribution)
    return family_of(each) is None


def _by_quantiles(each: Distribution, level: float) -> EntryOutputs | None:
    if not _is_graph(each):
        return None
    like = torch.zeros((), dtype=torch.get_default_dtype())
    lower, middle, upper = (quantile(each, like + end) for end in ((1 - level) / 2, 0.5, (1 + level) / 2))
    if lower is None or middle is None or upper is None:
        return None
    try:
        values = _moments(each)
    except NotImplementedError:
        return None
    # A distribution without a mean, such as a Cauchy, has its median.
    mean = torch.where(values["mean"].isfinite(), values["mean"], middle)
    return EntryOutputs({**values, "mean": mean, "lower": lower, "upper": upper})


def _of_labels(each: Categorical, level: float) -> EntryOutputs:
    probabilities = each.probs
    if not isinstance(each, OrderedLevels):
        return EntryOutputs({"probabilities": probabilities}, interval="none")
    ordered = _by_quantiles(each, level)
    tensors = {} if ordered is None else ordered.tensors
    return EntryOutputs({**tensors, "probabilities": probabilities}, interval="exact" if tensors else "none")


def _by_moments(distribution: Distribution) -> EntryOutputs:
    inner = without_independent(distribution)
    moments = getattr(inner, "moments", None)
    mean, variance = (distribution.mean, distribution.variance) if moments is None else moments()
    return EntryOutputs({"mean": mean, "deviation": variance.sqrt()}, interval="moments")


def _moments(each: Distribution) -> dict[str, Tensor]:
    mean, variance = moments_of_entries(each)
    return {"mean": mean, "deviation": variance.sqrt()}


def _flat(value: Tensor, distribution: Distribution, rows: int, has_labels: bool) -> Tensor:
    """(..., *event, *labels) as (B, D, *labels)."""
    labels = value.shape[value.dim() - has_labels :]
    whole = value.expand(*distribution.batch_shape, *distribution.event_shape, *labels)
    return whole.reshape(-1, distribution.event_shape.numel(), *labels).expand(rows, -1, *labels)

"""A run of a model on rows with gaps that keeps the means of its likelihoods, for ``impute`` and ``reconstruct``."""

from __future__ import annotations

from typing import Any, cast

import torch
from pyro import poutine
from pyro.poutine.messenger import Messenger
from pyro.poutine.runtime import Message
from torch import Tensor
from torch.distributions import Categorical, Distribution

from pyro_lfm.data.batch import Batch
from pyro_lfm.distributions.interface import support_of
from pyro_lfm.distributions.masking import filled, missing_part
from pyro_lfm.guides import AnyGuide
from pyro_lfm.programs.model import AnyModel


class Filling(Messenger):
    """Runs a model at the rows of a batch, draws their missing entries, and keeps the mean of each likelihood.

    A variable that reads another one sees its observed entries, and the draws of its missing ones.

    Args:
        batch: the rows.
        names: of the observed variables.

    Attributes:
        means: E[x | z] of each variable, (B, *event), and E[x_missing | x_observed, z] at its missing entries. For labels
            the probability of each, in a further dimension.
        gaps: for each variable with missing entries their mean and a draw, as ``missing_part`` gives them. Levels too have
            the probability of each here.
    """

    def __init__(self, batch: Batch, names: list[str]):
        super().__init__()
        self.batch, self.names = batch, names
        self.means: dict[str, Tensor] = {}
        self.gaps: dict[str, tuple[Tensor, Tensor]] = {}

    def _pyro_sample(self, msg: Message) -> None:
        name, distribution = str(msg["name"]), cast(Distribution, msg["fn"])
        if name not in self.names:
            return
        value, mask = self.batch[name], self.batch.mask(name)
        mean = expectation(distribution)
        if mask is not None:
            support = support_of(distribution)
            mean_of_gaps, draw = missing_part(distribution, filled(value, mask, support), mask, name)
            value = value.where(mask, draw().to(value.dtype))
            # A distribution that depends on nothing of a row has one mean for all rows.
            self.gaps[name] = mean_of_gaps.expand(len(value), *mean_of_gaps.shape[1:]), value
            mean = torch.where(mask, mean, mean_of_gaps) if mean_of_gaps.dim() <= value.dim() else mean
        # The same expansion; the probabilities of labels have a further dimension.
        events = len(distribution.event_shape) + isinstance(distribution, Categorical)
        self.means[name] = mean.expand(len(value), *mean.shape[mean.dim() - events :])
        msg["value"], msg["done"] = value, True


def run_filling(model: AnyModel, guide: AnyGuide, batch: Batch, names: list[str]) -> Filling:
    """One run of the model on a batch, at latents drawn from the guide."""
    q: Any = poutine.trace(guide).get_trace(batch)
    program = poutine.condition(model, data={name: q.nodes[name]["value"] for name in model.latents})
    # Covariates alone, so that each likelihood is one of whole rows.
    covariates = {name: batch[name] for name in model.covariates}
    with Filling(batch, names) as filling:
        program(Batch(covariates, index=batch.index, total=batch.total))
    return filling


def expectation(distribution: Distribution) -> Tensor:
    """The mean of a distribution; of categories the probability of each."""
    return distribution.probs if isinstance(distribution, Categorical) else distribution.mean

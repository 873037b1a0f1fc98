"""A model run on rows with gaps: what its distributions say of them given the entries that are there."""

from __future__ import annotations

from typing import Any

import torch
from pyro.poutine.messenger import Messenger
from torch import Tensor

from pyro_lfm.data.batch import Batch
from pyro_lfm.distributions.masking import filled, missing_part


class Filling(Messenger):
    """Runs a model at the rows of a batch, whose missing entries are drawn where they are met, and keeps what is said.

    An observed variable that others read has its observed value for them, and the draw where it is missing.

    Args:
        batch: the rows.
        names: of the observed variables.

    Attributes:
        means: E[x | z] of each variable, (B, *event), E[x_missing | x_observed, z] where entries are missing. Of labels the
            probability of each, a further dimension.
        gaps: of each variable with missing entries their mean and a draw, as of ``missing_part``; levels have the
            probability of each here too.
    """

    def __init__(self, batch: Batch, names: list[str]):
        super().__init__()
        self.batch, self.names = batch, names
        self.means: dict[str, Tensor] = {}
        self.gaps: dict[str, tuple[Tensor, Tensor]] = {}

    def _pyro_sample(self, msg: Any) -> None:
        name, distribution = msg["name"], msg["fn"]
        if name not in self.names:
            return
        value, mask = self.batch[name], self.batch.mask(name)
        mean = expectation(distribution)
        if mask is not None:
            of_gaps, draw = missing_part(distribution, filled(value, mask, distribution.support), mask, name)
            value = value.where(mask, draw().to(value.dtype))
            # A distribution that depends on nothing of a row has one mean for all.
            self.gaps[name] = of_gaps.expand(len(value), *of_gaps.shape[1:]), value
            mean = torch.where(mask, mean, of_gaps) if of_gaps.dim() <= value.dim() else mean
        # As above; of a label there is a further dimension.
        events = len(distribution.event_shape) + isinstance(distribution, torch.distributions.Categorical)
        self.means[name] = mean.expand(len(value), *mean.shape[mean.dim() - events :])
        msg["value"], msg["done"] = value, True


def expectation(distribution: Any) -> Tensor:
    """The mean of a distribution; of categories the probability of each."""
    return (
        distribution.probs if isinstance(distribution, torch.distributions.Categorical) else distribution.mean
    )

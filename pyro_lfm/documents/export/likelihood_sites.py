"""The likelihoods of a model at given latents, without the code of its priors, which need not be a graph."""

from __future__ import annotations

from collections.abc import Mapping
from functools import singledispatch
from typing import Any, NamedTuple, cast

import torch
from pyro import poutine
from pyro.distributions.util import scale_and_mask
from pyro.poutine.messenger import Messenger
from pyro.poutine.runtime import Message
from torch import Tensor
from torch.distributions import Distribution

from pyro_lfm.data.batch import Batch
from pyro_lfm.distributions.interface import support_of
from pyro_lfm.distributions.masking import filled, observed_part
from pyro_lfm.factors.wiring import distribution_of
from pyro_lfm.programs.model import AnyModel, Model


class Likelihood(NamedTuple):
    """p(x | z) of one observed variable for the rows of a batch, at its observed entries.

    Attributes:
        value: the rows, with a value inside the support for missing entries.
        scale, mask: those of handlers in the program of the model.
    """

    distribution: Distribution
    value: Tensor
    scale: float | Tensor = 1.0
    mask: Tensor | bool | None = None

    def log_prob(self) -> Tensor:
        """The log-density as it counts in training."""
        log_prob: Tensor = scale_and_mask(self.distribution.log_prob(self.value), self.scale, self.mask)
        return log_prob


@singledispatch
def likelihoods(
    model: AnyModel, latents: Mapping[str, Tensor], batch: Batch, absent: float = 0.0
) -> dict[str, Likelihood]:
    """The likelihood of every observed variable, by name. A program is run as a whole, with the latents given.

    Args:
        absent: the value of variables that the batch does not hold.
    """
    program: Any = poutine.condition(model, data={**latents})
    with poutine.trace() as tracer, _WithoutDraws(absent):
        program(batch)
    nodes: Any = tracer.trace.nodes
    sites = {name: nodes[name] for name in model.observed if name in nodes}
    return {n: Likelihood(s["fn"], s["value"], s["scale"], s["mask"]) for n, s in sites.items()}


@likelihoods.register
def _(
    model: Model, latents: Mapping[str, Tensor], batch: Batch, absent: float = 0.0
) -> dict[str, Likelihood]:
    values = dict(latents)
    every: dict[str, Likelihood] = {}
    for name in model.order:
        if name not in model.observed:
            continue
        distribution = distribution_of(model.factors, model.given, name, values, batch.index)
        rows, mask = batch[name], batch.mask(name)
        value = _all(absent, distribution) if rows is None else filled(rows, mask, support_of(distribution))
        every[name] = Likelihood(observed_part(distribution, mask, name), value)
        values[name] = value
    return every


def _all(value: float, distribution: Distribution) -> Tensor:
    return torch.full(distribution.batch_shape + distribution.event_shape, value)


class _WithoutDraws(Messenger):
    """Sets the values of statements that batch and latents leave open, where they would be drawn."""

    def __init__(self, absent: float):
        super().__init__()
        self.absent = absent

    def _pyro_sample(self, msg: Message) -> None:
        if msg["value"] is None and not msg["done"]:
            msg["value"], msg["done"] = _all(self.absent, cast(Distribution, msg["fn"])), True

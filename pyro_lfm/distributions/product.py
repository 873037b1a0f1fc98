"""The product of two Gaussians: what a prior becomes once a message about its variable has come."""

from __future__ import annotations

from typing import Any

import pyro.distributions as dist
import torch

from pyro_lfm.distributions.kl import gaussian_moments
from pyro_lfm.errors import DeclarationError


def product(prior: Any, message: Any, heard: torch.Tensor | None = None) -> Any:
    """The distribution ∝ prior × message, Gaussians with independent entries.

    With variances v and s²: gain v / (v + s²), mean prior + gain (message − prior), variance v (1 − gain), which lose no
    digits where v is next to nothing.

    Args:
        heard: whether there is a message at all, (...); where not, the distribution is the prior.

    >>> distribution = product(dist.Normal(torch.zeros(1), 1.0).to_event(1), dist.Normal(torch.ones(1), 1.0).to_event(1))
    >>> distribution.mean, distribution.variance
    (tensor([0.5000]), tensor([0.5000]))
    """
    before, sent = gaussian_moments(prior), gaussian_moments(message)
    if before is None or before.scale is None or sent is None or sent.scale is None:
        raise DeclarationError(
            "a message multiplies a Gaussian prior with independent entries; this prior is "
            f"{type(getattr(prior, 'base_dist', prior)).__name__}: use lfm.Gaussian as its guide"
        )
    variance, noise = before.scale.square(), sent.scale.square()
    gain = variance / (variance + noise)
    if heard is not None:
        gain = gain * heard.unsqueeze(-1).to(gain.dtype)
    loc = before.loc + gain * (sent.loc - before.loc)
    scale = (before.scale * (1 - gain).sqrt()).expand(loc.shape)
    shape = (*loc.shape[:-1], *prior.event_shape)
    return dist.Normal(loc.reshape(shape), scale.reshape(shape), validate_args=False).to_event(
        len(prior.event_shape)
    )

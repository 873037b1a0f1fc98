"""The normalised product of a Gaussian prior and a Gaussian message; guides made of messages use it."""

from __future__ import annotations

import pyro.distributions as dist
import torch
from torch.distributions import Distribution

from pyro_lfm.distributions.kl import gaussian_moments
from pyro_lfm.errors import DeclarationError


def product(
    prior: Distribution, message: Distribution, has_message: torch.Tensor | None = None
) -> Distribution:
    """The distribution ∝ prior × message of two Gaussians with independent entries.

    With variances v and s² the gain is v / (v + s²), the mean is prior + gain (message − prior), and the variance is
    v (1 − gain). These lose no digits where v is tiny.

    Args:
        has_message: (...), True in the rows that have a message; the other rows keep the prior. All by default.

    Raises:
        DeclarationError: the prior or the message is no Gaussian with independent entries.

    >>> distribution = product(dist.Normal(torch.zeros(1), 1.0).to_event(1), dist.Normal(torch.ones(1), 1.0).to_event(1))
    >>> distribution.mean, distribution.variance
    (tensor([0.5000]), tensor([0.5000]))
    """
    p, m = gaussian_moments(prior), gaussian_moments(message)
    if p is None or p.scale is None or m is None or m.scale is None:
        raise DeclarationError(
            "a message multiplies a Gaussian prior with independent entries; this prior is "
            f"{type(getattr(prior, 'base_dist', prior)).__name__}: use lfm.Gaussian as its guide"
        )
    variance, noise = p.scale.square(), m.scale.square()
    gain = variance / (variance + noise)
    if has_message is not None:
        gain = gain * has_message.unsqueeze(-1).to(gain.dtype)
    loc = p.loc + gain * (m.loc - p.loc)
    scale = (p.scale * (1 - gain).sqrt()).expand(loc.shape)
    shape = (*loc.shape[:-1], *prior.event_shape)
    return dist.Normal(loc.reshape(shape), scale.reshape(shape), validate_args=False).to_event(
        len(prior.event_shape)
    )

"""The normalised product of a Gaussian prior and a Gaussian message; guides made of messages use it."""

from __future__ import annotations

import torch
from torch.distributions import Distribution

from pyro_lfm.distributions.kl import gaussian_moments
from pyro_lfm.distributions.normal import Normal
from pyro_lfm.errors import DeclarationError


def product(
    prior: Distribution, message: Distribution, has_message: torch.Tensor | None = None
) -> Distribution:
    """The distribution ∝ prior × message of two Gaussians with independent entries.

    With standard deviations p and s, and t = s / p, the gain is 1 / (1 + t²), the mean is prior + gain (message − prior),
    and the standard deviation is p t / √(1 + t²). These lose no digits where p or s is tiny.

    Args:
        has_message: (...), True in the rows that have a message; the other rows keep the prior. All by default.

    Raises:
        DeclarationError: the prior or the message is no Gaussian with independent entries.

    >>> unit = torch.ones(1)
    >>> distribution = product(Normal(0 * unit, unit).to_event(1), Normal(unit, unit).to_event(1))
    >>> distribution.mean, distribution.variance
    (tensor([0.5000]), tensor([0.5000]))
    """
    p, m = gaussian_moments(prior), gaussian_moments(message)
    if p is None or p.scale is None or m is None or m.scale is None:
        raise DeclarationError(
            "a message multiplies a Gaussian prior with independent entries; this prior is "
            f"{type(getattr(prior, 'base_dist', prior)).__name__}: use lfm.Gaussian as its guide"
        )
    ratio = m.scale / p.scale
    gain, share = 1 / (1 + ratio.square()), ratio / torch.hypot(torch.ones_like(ratio), ratio)
    if has_message is not None:
        told = has_message.unsqueeze(-1)
        gain, share = torch.where(told, gain, 0.0), torch.where(told, share, 1.0)
    loc = p.loc + gain * (m.loc - p.loc)
    scale = (p.scale * share).expand(loc.shape)
    shape = (*loc.shape[:-1], *prior.event_shape)
    return Normal(loc.reshape(shape), scale.reshape(shape), validate_args=False).to_event(
        len(prior.event_shape)
    )

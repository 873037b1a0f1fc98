"""The handler that draws the latents of a guide from given noise; posteriors of hierarchies and exported encoders use it."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any, cast

from pyro.poutine.messenger import Messenger
from pyro.poutine.runtime import Message
from pyro.poutine.util import site_is_subsample
from torch import Tensor
from torch.distributions import Distribution

from pyro_lfm.distributions.noise_draws import CommonNoise, Noise, NotOfNoise, draw_from

# A sample statement in a run of a program.
Site = Message[..., Tensor]


class DrawnFromNoise(Messenger):
    """Draws the values of sample statements from noise. A distribution that needs other noise is drawn as always.

    Args:
        noise_of: gives the noise of one statement.

    Attributes:
        others: the distributions that were drawn as always, by the names of their statements.
    """

    def __init__(self, noise_of: Callable[[Site], Noise]):
        super().__init__()
        self.noise_of = noise_of
        self.others: dict[str, str] = {}

    def _pyro_sample(self, msg: Site) -> None:
        if msg["is_observed"] or msg["done"] or site_is_subsample(cast(Any, msg)):
            return
        distribution = cast(Distribution, msg["fn"])
        try:
            value = draw_from(distribution, self.noise_of(msg))
        except NotOfNoise as error:
            self.others[str(msg["name"])] = str(error)
            return
        shape = distribution.batch_shape + distribution.event_shape
        msg["value"], msg["done"] = value if value.shape == shape else value.expand(shape), True


class NoiseOfParticles(Noise):
    """The noise of a statement in a plate of particles, its leftmost dimension: the same for every row.

    Args:
        particles: their number. site: the number of the statement.
    """

    def __init__(self, particles: int, batch: int, site: int):
        self.noise = CommonNoise(particles, batch - 1, seed=site)

    def normal(self, shape: Sequence[int], like: Tensor) -> Tensor:
        return self.noise.normal(shape[1:], like)

    def uniform(self, shape: Sequence[int], like: Tensor) -> Tensor:
        return self.noise.uniform(shape[1:], like)


def particles_from_noise(particles: int) -> DrawnFromNoise:
    """The handler for a run of a guide in a plate of particles."""
    sites = itertools.count()

    def noise_of(site: Site) -> Noise:
        return NoiseOfParticles(particles, len(cast(Distribution, site["fn"]).batch_shape), next(sites))

    return DrawnFromNoise(noise_of)

"""The density of codes over all rows: a mixture of Gaussians, corrected so that attributes are spread as among the rows."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from pyro_lfm.attributes.labels import Attribute, Labelled
from pyro_lfm.attributes.mixture_density import Mixture
from pyro_lfm.attributes.networks import Networks
from pyro_lfm.attributes.readings import Readings
from pyro_lfm.attributes.training import train
from pyro_lfm.attributes.weighted_particles import resampled

# The most rows that the classifier is trained on, and how long it is trained, see ``train``.
_MOST, _LOOKS = 10_000, 90
# Draws of the mixture for each draw of the density that is chosen among them.
_EACH = 3


@dataclass(frozen=True, eq=False)
class Density:
    """p(u) ∝ m(u) exp r(a(u)), the density of the aggregate posterior of the rows.

    m is a mixture of Gaussians. Attributes often lie on curves in the space of codes. A mixture is lumpy along them, so
    that its draws have other attributes than rows have. r corrects this: the log odds, by networks that read the readings
    a(u) of all attributes, that u is a draw of the posterior of a row and not one of m. At the optimum of this classifier
    readings have the same joint distribution under p as over the rows. Cross-validation ends its training, so that r stays
    0 where rows cannot be told from draws of m.

    Attributes:
        mixture: m. readings: a. centre, scale: of the readings of rows, (F,). ratio: r, of standardised readings.

    Source: Gutmann and Hyvärinen (2010), noise-contrastive estimation.
    """

    mixture: Mixture
    readings: Readings
    centre: Tensor
    scale: Tensor
    ratio: Networks

    @classmethod
    def of(cls, draws: Tensor, readings: Readings, seed: int) -> Density:
        """The density of draws of the posteriors of rows, (S, N, U)."""
        mixture = Mixture.of(draws, seed)
        generator = torch.Generator().manual_seed(seed)
        rows = draws[:, torch.randperm(draws.shape[1], generator=generator)[:_MOST]]
        noise = mixture.sample(rows.shape[0] * rows.shape[1], generator)
        read, read_of_noise = readings.features(rows.flatten(0, 1)), readings.features(noise)
        centre, scale = read.mean(0), read.std(0).clamp_min(1e-6)
        both = torch.cat(
            [((part - centre) / scale).reshape(*rows.shape[:2], -1) for part in (read_of_noise, read)], 1
        )
        is_row = torch.arange(both.shape[1]) >= rows.shape[1]
        labelled = Labelled(Attribute("row", "binary", (False, True), 0.0, 1.0), is_row.double())
        return cls(mixture, readings, centre, scale, train(both, [labelled], seed, _LOOKS).networks)

    def log_prob(self, codes: Tensor) -> Tensor:
        """ln p(u) up to a constant, at codes (B, U), (B,)."""
        return self.mixture.log_prob(codes) + self._ratio(codes)

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        """Draws (n, U), chosen among several times as many of the mixture by their weights; some may be equal."""
        codes = self.mixture.sample(_EACH * n, generator)
        return codes[resampled(self._ratio(codes), n, generator)]

    def _ratio(self, codes: Tensor) -> Tensor:
        read = (self.readings.features(codes) - self.centre) / self.scale
        outputs = self.ratio.mean(read.unsqueeze(0))[0]
        return outputs[:, 1] - outputs[:, 0]

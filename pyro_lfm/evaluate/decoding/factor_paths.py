"""Paths through the latent space along one factor that stay where the rows are; pictures of walks follow them."""

from __future__ import annotations

import copy

import torch
from torch import Tensor

from pyro_lfm.evaluate.decoding.decoded_rows import RowDecoder
from pyro_lfm.evaluate.decoding.sampled_rows import drawn_latents, sampled_rows
from pyro_lfm.evaluate.inputs import Rows

# Rows whose latents are drawn; draws of the prior where there are no rows.
_ROWS = 2000
# Draws from which curves are followed, and below which lines are; draws with a label, below which all are taken.
_MANY, _FEW = 100, 20
# The share of a factor's variance that another one must explain, beyond chance, so that it is followed.
_FOLLOWED = 0.02


class FactorPaths:
    """z as one factor moves through the values that it has in the rows, the others at what they are expected to be then.

        z(v) = start + E[z | z_k = v] − E[z | z_k = start_k]

    where z follows q(z) = 1/N Σ q(z | xₙ), the latents of rows. The expectation is a local linear regression. Factors that
    do not depend on z_k, up to chance, stay at the start. So a path does not leave the density of the rows where factors
    correlate, as E[x | z] is not trained off it.

    Args:
        decoder: of the fit.
        data: rows of a fit that has none at hand. Without any the prior takes the place of q(z).

    Attributes:
        draws: of the factors, (N, K).
        labels: the discrete latents that were drawn with them, (N, *event) by name.
        of_rows: whether draws are those of rows, else of the prior.

    Source: Cleveland (1979), "Robust locally weighted regression", for local regression.

    >>> from pyro_lfm import EM, Gaussian, Linear, Model, StandardNormal, fit
    >>> model = Model(z=StandardNormal(2), x=Gaussian(5, mean=Linear()))
    >>> done = fit(model, model.sample(300, seed=0)["x"], EM(), seed=0, progress=False)
    >>> paths = FactorPaths(RowDecoder(done))
    >>> paths.along(0, paths.quantiles(0, torch.tensor([0.1, 0.9]))).shape
    torch.Size([2, 2])
    """

    def __init__(self, decoder: RowDecoder, data: Rows | None = None):
        self.decoder = decoder
        rows = sampled_rows(decoder.fit, data, _ROWS)
        drawn = decoder.prior_draws(_ROWS) if rows is None else drawn_latents(decoder, *rows)
        flat = [drawn[name].reshape(len(drawn[name]), -1) for name in decoder.factors]
        self.labels = {name: drawn[name] for name in decoder.labels}
        count = len(next(iter(drawn.values()), ()))
        self.draws = torch.cat(flat, 1) if flat else torch.zeros(count, 0)
        self.of_rows = rows is not None

    @property
    def centre(self) -> Tensor:
        """The mean of the draws, (K,)."""
        return self.decoder.within_support(self.draws.mean(0, keepdim=True))[0]

    def given(self, label: str, code: int) -> FactorPaths:
        """The paths of rows with a label of a discrete latent; of all rows where few have it."""
        own = self.labels[label] == code
        if int(own.sum()) < _FEW:
            return self
        part = copy.copy(self)
        part.draws = self.draws[own]
        part.labels = {name: value[own] for name, value in self.labels.items()}
        return part

    def quantiles(self, factor: int, levels: Tensor) -> Tensor:
        """Quantiles of one factor, (S,), at levels (S,) between 0 and 1."""
        return torch.quantile(self.draws[:, factor].double(), levels.double().to(self.draws.device)).to(
            self.draws
        )

    def along(self, factor: int, values: Tensor, start: Tensor | None = None) -> Tensor:
        """Points at which a factor has these values, (S, K).

        Args:
            values: of the factor, (S,). start: the point that the path passes, (K,); without one it is E[z | z_k = v].
        """
        if start is None:
            path = self._expected(factor, values.to(self.draws))
        else:
            start = start.to(self.draws)
            expected = self._expected(factor, torch.cat([values.to(self.draws), start[factor : factor + 1]]))
            path = start + expected[:-1] - expected[-1]
        path[:, factor] = values.to(path)
        return self.decoder.within_support(path)

    def _expected(self, factor: int, values: Tensor) -> Tensor:
        """E[z | z_k = v] of the factors that depend on z_k, and the mean of the others, (S, K)."""
        own, mean = self.draws[:, factor].double(), self.draws.double().mean(0)
        spread = own.std() if len(own) > 1 else own.new_zeros(())
        if not float(spread) > 0:
            return mean.expand(len(values), -1).to(self.draws)
        # Silverman's width; with few draws so wide that the regression is a line.
        width = spread * (len(own) ** -0.2 if len(own) >= _MANY else 100.0)
        inside = values.double().clamp(own.min(), own.max())
        expected, fitted = self._local(own, inside, width), self._local(own, own[:_MANY], width)
        share = fitted.var(0) / self.draws.double().var(0).clamp_min(1e-12)
        chance = 4.0 * float(spread / width + 1) / len(own)
        return torch.where(share > _FOLLOWED + chance, expected, mean).to(self.draws)

    def _local(self, own: Tensor, values: Tensor, width: Tensor) -> Tensor:
        """A local linear regression of all factors on one, (S, K)."""
        off = own - values.unsqueeze(1)
        weight = torch.exp(-0.5 * (off / width).square()) + 1e-9
        total, first, second = weight.sum(1), (weight * off).sum(1), (weight * off.square()).sum(1)
        z = self.draws.double()
        level, slope = weight @ z, (weight * off) @ z
        top = second.unsqueeze(1) * level - first.unsqueeze(1) * slope
        return top / (total * second - first.square()).clamp_min(1e-12).unsqueeze(1)

"""Conjugate priors and posteriors of the parameters of mixture components; here those of Gaussian components."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property, partial
from math import log

import torch
from torch import Tensor

from pyro_lfm.errors import DeclarationError
from pyro_lfm.exact.algebra import square_root, triangular
from pyro_lfm.exact.mixtures.ascent import Statistics, Summary, all_finite, float64
from pyro_lfm.exact.mixtures.full_gaussians import FullGaussians
from pyro_lfm.exact.mixtures.gaussians import DiagonalGaussians
from pyro_lfm.exact.mixtures.mixture import Components


class ConjugateComponents(ABC):
    """A distribution of the parameters η_c of C components. A prior with C = 1 is shared by all components.

    Statistics are relative to ``point``, the components with the expected parameters.
    """

    @property
    @abstractmethod
    def size(self) -> tuple[int, int]:
        """(C, D)."""

    @abstractmethod
    def point(self) -> Components:
        """The components with the expected parameters: mean and precision, or probability."""

    @abstractmethod
    def log_density(self, x: Tensor) -> Tensor:
        """E[ln p(x | η_c)] of the observed entries of x (B, D), float64: (B, C)."""

    @abstractmethod
    def statistics(self, x: Tensor, responsibilities: Tensor) -> Statistics:
        """Sums over the rows x (B, D), weighted by responsibilities (B, C)."""

    def half_steps(self, x: Tensor) -> tuple[Tensor, Summary]:
        """``log_density(x)``, and a function of the responsibilities that computes the statistics of the same rows."""
        return self.log_density(x), partial(self.statistics, x)

    @abstractmethod
    def posterior(self, statistics: Statistics, prior: ConjugateComponents) -> ConjugateComponents:
        """The posterior under a prior, given the rows of the statistics."""

    @abstractmethod
    def expected_log_density(self, statistics: Statistics, at: ConjugateComponents) -> Tensor:
        """Σ_n Σ_c q(c) E[ln p(x | η_c)] under another distribution, from statistics relative to this one."""

    @abstractmethod
    def divergence(self, prior: ConjugateComponents) -> Tensor:
        """KL(this ‖ prior), summed over components, in nats."""

    @abstractmethod
    def centred_on(self, components: Components, rows: float) -> ConjugateComponents:
        """A distribution whose ``point`` is ``components``, as narrow as this prior's posterior after ``rows`` rows each."""


@dataclass(frozen=True, eq=False)
class NormalGammas(ConjugateComponents):
    """For DiagonalGaussians, entry by entry: λ ~ Gamma(a, rate b), μ | λ ~ N(m, 1 / (βλ)), λ = 1 / variance.

    Missing entries are marginalised exactly.

    Args:
        means: m (C, D), in the units of the data.
        counts: β > 0, the number of rows that the mean is worth, (C, D) or broadcastable to it.
        shapes: a > 0, (C, D) or broadcastable to it.
        rates: b > 0, (C, D) or broadcastable to it, in squared units of the data.

    Source: Bishop (2006), sections 2.3.6 and 10.2.

    >>> NormalGammas(torch.zeros(1, 2), torch.tensor(1.0), torch.tensor(2.0), torch.tensor(3.0)).point().variance
    tensor([[1.5000, 1.5000]], dtype=torch.float64)
    """

    means: Tensor
    counts: Tensor
    shapes: Tensor
    rates: Tensor

    def __post_init__(self) -> None:
        object.__setattr__(self, "means", float64("means", self.means, "C", "D"))
        for name in ("counts", "shapes", "rates"):
            object.__setattr__(self, name, positive(name, getattr(self, name), self.means))

    @property
    def size(self) -> tuple[int, int]:
        return self.means.shape[0], self.means.shape[1]

    def point(self) -> DiagonalGaussians:
        return self._point

    @cached_property
    def _point(self) -> DiagonalGaussians:
        return DiagonalGaussians(self.means, self.rates / self.shapes)

    @cached_property
    def offset(self) -> Tensor:
        """E[ln N(x; μ, 1/λ)] − ln N(x; m, 1/E[λ]), (C, D)."""
        return 0.5 * (torch.digamma(self.shapes) - self.shapes.log() - 1 / self.counts)

    def log_density(self, x: Tensor) -> Tensor:
        return self.half_steps(x)[0]

    def statistics(self, x: Tensor, responsibilities: Tensor) -> Statistics:
        return self.point().statistics(x, responsibilities)

    def half_steps(self, x: Tensor) -> tuple[Tensor, Summary]:
        log_density, summary = self.point().half_steps(x)
        offset = self.offset.sum(1) if all_finite(x) else (~x.isnan()).double() @ self.offset.T
        return log_density + offset, summary

    def posterior(self, statistics: Statistics, prior: ConjugateComponents) -> NormalGammas:
        assert isinstance(prior, NormalGammas)
        rows, first, _ = statistics
        counts = prior.counts + rows
        means = self.means + (prior.counts * (prior.means - self.means) + first) / counts
        scatter = self.point().scatter(statistics, means) + prior.counts * (means - prior.means).square()
        return NormalGammas(means, counts, prior.shapes + rows / 2, prior.rates + scatter / 2)

    def expected_log_density(self, statistics: Statistics, at: ConjugateComponents) -> Tensor:
        assert isinstance(at, NormalGammas)
        at_point = self.point().expected_log_density(statistics, at.point())
        return at_point + (statistics[0] * at.offset).sum()

    def divergence(self, prior: ConjugateComponents) -> Tensor:
        assert isinstance(prior, NormalGammas)
        a, b, a0, b0 = self.shapes, self.rates, prior.shapes, prior.rates
        ratio = prior.counts / self.counts
        of_mean = 0.5 * (ratio - 1 - ratio.log() + prior.counts * a / b * (self.means - prior.means).square())
        of_scale = (
            (a - a0) * torch.digamma(a) - a.lgamma() + a0.lgamma() + a0 * (b / b0).log() + a * (b0 - b) / b
        )
        return (of_mean + of_scale).sum()

    def centred_on(self, components: Components, rows: float) -> NormalGammas:
        if not isinstance(components, DiagonalGaussians):
            raise wrong_kind(self, components)
        shapes = (self.shapes + rows / 2).expand_as(components.means)
        return NormalGammas(components.means, self.counts + rows, shapes, components.variance * shapes)


@dataclass(frozen=True, eq=False)
class NormalWisharts(ConjugateComponents):
    """For FullGaussians: Λ ~ Wishart(W, ν), μ | Λ ~ N(m, (βΛ)⁻¹), Λ = Σ⁻¹, with W⁻¹ = T Tᵀ.

    Missing entries are latent, with q(c) q(x_m | c) where q(x_m | c) is the conditional of N(m, (νW)⁻¹). The bound on the
    evidence of the observed entries is a little less tight than if they were marginalised.

    Args:
        means: m (C, D), in the units of the data.
        counts: β > 0, the number of rows that the mean is worth, (C,) or broadcastable to it.
        degrees: ν > D − 1, degrees of freedom, (C,) or broadcastable to it.
        scale_tril: T (C, D, D), lower triangular with a diagonal above 0. E[Λ]⁻¹ = T Tᵀ / ν.

    Source: Bishop (2006), section 10.2.

    >>> NormalWisharts(torch.zeros(1, 2), torch.ones(1), torch.tensor([4.0]), 2 * torch.eye(2)[None]).point().covariance
    tensor([[[1., 0.],
             [0., 1.]]], dtype=torch.float64)
    """

    means: Tensor
    counts: Tensor
    degrees: Tensor
    scale_tril: Tensor

    def __post_init__(self) -> None:
        object.__setattr__(self, "means", float64("means", self.means, "C", "D"))
        classes, dim = self.size
        object.__setattr__(self, "counts", positive("counts", self.counts, self.means[:, 0]))
        object.__setattr__(self, "degrees", positive("degrees", self.degrees, self.means[:, 0]))
        if not bool((self.degrees > dim - 1).all()):
            raise DeclarationError(
                f"degrees must be above D − 1 = {dim - 1}; got {float(self.degrees.min()):g}"
            )
        object.__setattr__(self, "scale_tril", float64("scale_tril", self.scale_tril, classes, dim, dim))

    @property
    def size(self) -> tuple[int, int]:
        return self.means.shape[0], self.means.shape[1]

    def point(self) -> FullGaussians:
        return self._point

    @cached_property
    def _point(self) -> FullGaussians:
        return FullGaussians(self.means, self.scale_tril / self.degrees.sqrt()[:, None, None])

    @property
    def _digammas(self) -> Tensor:
        """E[ln|Λ|] − ln|W|, (C,)."""
        dim = self.size[1]
        halves = 0.5 * (self.degrees[:, None] - torch.arange(dim, dtype=self.degrees.dtype))
        return torch.digamma(halves).sum(-1) + dim * log(2)

    @property
    def _log_scale(self) -> Tensor:
        """−ln|W|, (C,)."""
        return 2 * self.scale_tril.diagonal(dim1=-2, dim2=-1).log().sum(-1)

    @cached_property
    def offset(self) -> Tensor:
        """E[ln N(x; μ, Λ⁻¹)] − ln N(x; m, E[Λ]⁻¹), (C,)."""
        return 0.5 * (self._digammas - self.size[1] * (self.degrees.log() + 1 / self.counts))

    def log_density(self, x: Tensor) -> Tensor:
        return self.point().log_density(x) + self.offset

    def statistics(self, x: Tensor, responsibilities: Tensor) -> Statistics:
        return self.point().statistics(x, responsibilities)

    def half_steps(self, x: Tensor) -> tuple[Tensor, Summary]:
        log_density, summary = self.point().half_steps(x)
        return log_density + self.offset, summary

    def posterior(self, statistics: Statistics, prior: ConjugateComponents) -> NormalWisharts:
        assert isinstance(prior, NormalWisharts)
        point, (rows, first, _) = self.point(), statistics
        counts = prior.counts + rows
        pull = (
            prior.counts[:, None] * (prior.means - self.means) + (point.scale_tril @ first[..., None])[..., 0]
        )
        means = self.means + pull / counts[:, None]
        spread = prior.counts.sqrt()[:, None] * (means - prior.means)
        scatter = point.scale_tril @ square_root(point.scatter(statistics, means))
        parts = [scatter, prior.scale_tril.expand_as(scatter), spread[..., None]]
        return NormalWisharts(means, counts, prior.degrees + rows, triangular(torch.cat(parts, -1)))

    def expected_log_density(self, statistics: Statistics, at: ConjugateComponents) -> Tensor:
        assert isinstance(at, NormalWisharts)
        at_point = self.point().expected_log_density(statistics, at.point())
        return at_point + (statistics[0] * at.offset).sum()

    def divergence(self, prior: ConjugateComponents) -> Tensor:
        assert isinstance(prior, NormalWisharts)
        dim, nu, nu0 = self.size[1], self.degrees, prior.degrees
        ratio = prior.counts / self.counts
        shift = (self.means - prior.means)[..., None]
        distance = torch.linalg.solve_triangular(self.scale_tril, shift, upper=False).square().sum((-2, -1))
        of_mean = 0.5 * (dim * (ratio - 1 - ratio.log()) + prior.counts * nu * distance)
        change = torch.linalg.solve_triangular(
            self.scale_tril, prior.scale_tril.expand_as(self.scale_tril), upper=False
        )
        of_scale = 0.5 * (
            nu0 * (self._log_scale - prior._log_scale) + (nu - nu0) * (self._digammas - dim * log(2))
        )
        of_scale += 0.5 * nu * (change.square().sum((-2, -1)) - dim)
        of_scale += torch.special.multigammaln(nu0 / 2, dim) - torch.special.multigammaln(nu / 2, dim)
        return (of_mean + of_scale).sum()

    def centred_on(self, components: Components, rows: float) -> NormalWisharts:
        if not isinstance(components, FullGaussians):
            raise wrong_kind(self, components)
        degrees = (self.degrees + rows).expand(len(components.means))
        tril = components.scale_tril * degrees.sqrt()[:, None, None]
        return NormalWisharts(components.means, self.counts + rows, degrees, tril)


def positive(name: str, value: Tensor, like: Tensor) -> Tensor:
    """A positive parameter in float64, broadcast to the shape of another."""
    value = torch.as_tensor(value, dtype=torch.float64).detach()
    if not bool((value > 0).all()):
        raise DeclarationError(f"{name} must be above 0; got {float(value.min()):g}")
    sizes = zip(reversed(value.shape), reversed(like.shape), strict=False)
    if value.dim() <= like.dim() and all(n in (1, m) for n, m in sizes):
        value = value.expand_as(like)
    return float64(name, value, *like.shape)


def wrong_kind(prior: ConjugateComponents, components: Components) -> DeclarationError:
    """The error for a prior that is not conjugate to the components."""
    return DeclarationError(f"{type(prior).__name__} is no prior for {type(components).__name__}")

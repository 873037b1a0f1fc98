"""Covariance structures of a Gaussian, the same for priors, likelihoods and guides.

Every standard deviation is ``floor + softplus(raw)``, as a likelihood with free variance is unbounded above (see ``Floor``).
"""

from __future__ import annotations

from abc import abstractmethod
from math import expm1, log, prod
from typing import NamedTuple, Self

import torch
from torch import Tensor
from torch.distributions import Distribution
from torch.distributions.transforms import ReshapeTransform

from pyro_lfm.declarations import Part
from pyro_lfm.distributions.correlated import CorrelatedGaussian
from pyro_lfm.distributions.interface import independent
from pyro_lfm.distributions.low_rank import LowRankGaussian
from pyro_lfm.distributions.normal import Normal
from pyro_lfm.distributions.positive_definite import tril_of_precision
from pyro_lfm.distributions.pushforward import Pushforward
from pyro_lfm.errors import DeclarationError, ShapeError
from pyro_lfm.shapes import is_shape, whole
from pyro_lfm.sources.drawn import Stochastic
from pyro_lfm.sources.floors import Floor, least_scale, natural_scale, raw_scale
from pyro_lfm.sources.lookup import Lookup
from pyro_lfm.sources.parameter_priors import Gamma
from pyro_lfm.sources.source import Source, SourceLike

_UNIT = log(expm1(1.0))  # softplus(_UNIT) = 1


class RawCovariance(NamedTuple):
    """The raw numbers of a covariance ``(..., *raw_shape)``, and the floor of its standard deviations."""

    raw: Tensor
    floor: Tensor


class Covariance(Part):
    """The structure of a Gaussian's covariance: how raw numbers of a source determine Σ, for events with D entries.

    Args:
        source: the source of the raw numbers: a network, ``Learned``, ``Fixed`` or ``PerRow``. By default a head of the
            factor's ``network=`` or, without a network, a learned constant.
        min_scale: the smallest standard deviation, in the units of the variable. By default it is 1e-3 of a latent, and of
            an observed variable 1e-3 of each column's spread in the data that are fitted (Isotropic: of the smallest).
        prior: ``parameter_priors.Gamma`` of the precisions 1 / σ² (Isotropic, Diagonal). The model then draws the
            precisions. They have no floor and no source.

    >>> import pyro_lfm as lfm
    >>> lfm.Gaussian(4, covariance=lfm.Diagonal(min_scale=0.1)).build("x", [])().stddev.shape
    torch.Size([4])
    """

    source: SourceLike = None
    min_scale: float | None = None

    @property
    def drawn(self) -> bool:
        """Whether the raw numbers are precisions, drawn from a prior."""
        return isinstance(self.source, Stochastic) or (
            isinstance(self.source, Lookup) and isinstance(self.source.of, Stochastic)
        )

    def with_precision_from(self, source: Source) -> Self:
        """The same structure, whose precisions are drawn from a prior."""
        if self.source is not None and not isinstance(self.source, Lookup):
            raise DeclarationError(f"{self!r} has a source or a prior, not both")
        return self.altered(source=source, min_scale=0.0)

    def _source_or_prior(self, source: SourceLike, prior: Gamma | None) -> SourceLike:
        if prior is None:
            return source
        name = type(self).__name__
        if not isinstance(prior, Gamma):
            raise DeclarationError(
                f"prior of {name} must be lfm.parameter_priors.Gamma(shape, rate); got {prior!r}"
            )
        if source is not None:
            raise DeclarationError(f"{name} has a source or a prior, not both")
        return Stochastic("precision", prior, prior.distribution)

    @abstractmethod
    def raw_shape(self, event: torch.Size) -> torch.Size:
        """The shape of the raw numbers."""

    @property
    def floor(self) -> Floor | None:
        """The declared floor. It is None for precisions that are drawn from a prior."""
        return None if self.drawn else Floor(self.min_scale)

    def floor_shape(self, event: torch.Size) -> torch.Size:
        """The shape of the floors: one for each entry of the event, flattened."""
        return torch.Size((prod(event),))

    def unit(self, units: Tensor) -> Tensor:
        """The units of the standard deviations, of shape ``floor_shape``, from the units of the entries of the event."""
        return units.flatten()

    @abstractmethod
    def distribution(self, loc: Tensor, raw: Tensor, event: torch.Size, floor: Tensor) -> Distribution:
        """The Gaussian with mean ``loc`` ``(..., *event)`` and raw covariance ``(..., *raw_shape)``."""

    @abstractmethod
    def to_raw(self, value: Tensor, event: torch.Size, floor: Tensor) -> Tensor:
        """The raw numbers of a natural value: variances (Isotropic, Diagonal) or the matrix (Full)."""

    def start(self, event: torch.Size) -> Tensor:
        """The raw numbers at which a learned constant starts: the identity."""
        if self.drawn:
            return torch.ones(self.raw_shape(event))
        return torch.full(self.raw_shape(event), _UNIT)

    def scale_numbers(self, raw: Tensor, event: torch.Size) -> Tensor:
        """The raw numbers that are standard deviations, as a view of shape ``(..., *floor_shape)``."""
        return raw

    def scale(self, raw: Tensor, floor: Tensor) -> Tensor:
        """Standard deviations (or the diagonal of L) from raw numbers."""
        return raw.rsqrt() if self.drawn else natural_scale(raw, floor)

    def unscale(self, scale: Tensor, floor: Tensor) -> Tensor:
        """The raw numbers of standard deviations: the inverse of ``scale``."""
        return raw_scale(scale, floor)

    def describe(self) -> str:
        """The structure in a formula, as in ``Gaussian(covariance: LowRank(2))``."""
        return type(self).__name__


def _independent(loc: Tensor, scale: Tensor, event: torch.Size) -> Distribution:
    if not is_shape(loc.shape, scale.shape):
        loc, scale = torch.broadcast_tensors(loc, scale)
    return independent(Normal(loc, scale, validate_args=False), len(event))


class Isotropic(Covariance):
    """Σ = σ² I.

    Use it for columns of one unit, such as pixels. As a likelihood it makes a linear model probabilistic PCA.

    Source: Tipping and Bishop (1999), "Probabilistic principal component analysis".

    >>> Isotropic().distribution(torch.zeros(3), torch.zeros(1), torch.Size((3,)), torch.zeros(1)).variance.unique().numel()
    1
    """

    def __init__(
        self, source: SourceLike = None, *, min_scale: float | None = None, prior: Gamma | None = None
    ):
        self.prior, self.source = prior, self._source_or_prior(source, prior)
        self.min_scale = least_scale(min_scale) if prior is None else 0.0

    def raw_shape(self, event: torch.Size) -> torch.Size:
        return torch.Size((1,) * len(event))

    def floor_shape(self, event: torch.Size) -> torch.Size:
        return self.raw_shape(event)

    def unit(self, units: Tensor) -> Tensor:
        return units.min().reshape(self.raw_shape(units.shape))

    def distribution(self, loc: Tensor, raw: Tensor, event: torch.Size, floor: Tensor) -> Distribution:
        return _independent(loc, self.scale(raw, floor), event)

    def to_raw(self, value: Tensor, event: torch.Size, floor: Tensor) -> Tensor:
        if value.numel() != 1:
            raise ShapeError(f"the variance of Isotropic must be one number; got shape {tuple(value.shape)}")
        return raw_scale(value.reshape(self.raw_shape(event)).sqrt(), floor)


class Diagonal(Covariance):
    """Σ = diag(σ²).

    Use it for columns with units of their own, and for mean-field guides. A linear model with it is factor analysis.

    Limits: a mean-field guide misses correlations of the posterior, so that its variances are too small.

    Source: Mattei and Frellsen (2018), section 3, for the floor of the variances.

    >>> floor = torch.full((2,), 0.5)
    >>> Diagonal().distribution(torch.zeros(2), torch.full((2,), -50.0), torch.Size((2,)), floor).stddev
    tensor([0.5000, 0.5000])
    """

    def __init__(
        self, source: SourceLike = None, *, min_scale: float | None = None, prior: Gamma | None = None
    ):
        self.prior, self.source = prior, self._source_or_prior(source, prior)
        self.min_scale = least_scale(min_scale) if prior is None else 0.0

    def raw_shape(self, event: torch.Size) -> torch.Size:
        return event

    def floor_shape(self, event: torch.Size) -> torch.Size:
        return event

    def unit(self, units: Tensor) -> Tensor:
        return units

    def distribution(self, loc: Tensor, raw: Tensor, event: torch.Size, floor: Tensor) -> Distribution:
        return _independent(loc, self.scale(raw, floor), event)

    def to_raw(self, value: Tensor, event: torch.Size, floor: Tensor) -> Tensor:
        return raw_scale(value.sqrt(), floor)


def shaped(distribution: Distribution, event: torch.Size) -> Distribution:
    """A Gaussian over vectors, reshaped to the event shape."""
    if len(event) == 1:
        return distribution
    return Pushforward(distribution, [ReshapeTransform(torch.Size((prod(event),)), event)])


class LowRank(Covariance):
    """Σ = W Wᵀ + diag(σ²), W = diag(σ) V with V of shape (D, rank).

    The low-rank part is scaled by σ, so that a guide whose variances shrink keeps its correlations.

    Use it for guides of many latents, where a full covariance has too many numbers.

    Source: Rezende, Mohamed and Wierstra (2014), section 4.3.

    >>> distribution = LowRank(1).distribution(torch.zeros(3), torch.ones(3, 2), torch.Size((3,)), torch.zeros(3))
    >>> float(distribution.covariance_matrix[0, 1] / distribution.covariance_matrix[0, 0])
    0.5
    """

    def __init__(self, rank: int, source: SourceLike = None, *, min_scale: float | None = None):
        self.rank, self.source = whole("rank of LowRank", rank), source
        self.min_scale = least_scale(min_scale)

    def raw_shape(self, event: torch.Size) -> torch.Size:
        # For each entry: its scale and its row of V.
        return torch.Size((*event, self.rank + 1))

    def start(self, event: torch.Size) -> Tensor:
        # W = 0 is a saddle point with zero gradient, so W starts at small random numbers.
        return torch.cat([torch.full((*event, 1), _UNIT), 0.1 * torch.randn(*event, self.rank)], -1)

    def scale_numbers(self, raw: Tensor, event: torch.Size) -> Tensor:
        return raw.flatten(raw.dim() - len(event) - 1, -2)[..., 0]

    def distribution(self, loc: Tensor, raw: Tensor, event: torch.Size, floor: Tensor) -> Distribution:
        dim = prod(event)
        flat = loc.reshape(*loc.shape[: loc.dim() - len(event)], dim)
        raw = raw.reshape(*raw.shape[: raw.dim() - len(event) - 1], dim, self.rank + 1)
        scale = self.scale(raw[..., 0], floor)
        return shaped(LowRankGaussian(flat, scale, raw[..., 1:], validate_args=False), event)

    def to_raw(self, value: Tensor, event: torch.Size, floor: Tensor) -> Tensor:
        raise DeclarationError("LowRank takes no Fixed or initial value: use Full with the matrix")

    def describe(self) -> str:
        return f"LowRank({self.rank})"


class Full(Covariance):
    """Σ = L Lᵀ, L = diag(s) (I + N) with s > 0 and N strictly lower triangular.

    The entries below the diagonal are scaled by s, so that a guide that sharpens keeps its correlations.

    Use it for guides whose latents depend on each other. For a linear Gaussian model it contains the exact posterior.

    Limits: K (K + 1) / 2 numbers for each row, and K³ operations.

    Source: Kingma and Welling (2019), "An introduction to variational autoencoders", section 2.5.1.

    >>> distribution = Full().distribution(torch.zeros(2), torch.tensor([0.0, 0.0, 3.0]), torch.Size((2,)), torch.zeros(2))
    >>> float(distribution.scale_tril[1, 0] / distribution.scale_tril[1, 1])
    3.0
    """

    def __init__(self, source: SourceLike = None, *, min_scale: float | None = None):
        self.source, self.min_scale = source, least_scale(min_scale)

    def raw_shape(self, event: torch.Size) -> torch.Size:
        dim = prod(event)
        return torch.Size((dim, dim) if self.drawn else (dim * (dim + 1) // 2,))

    def scale_numbers(self, raw: Tensor, event: torch.Size) -> Tensor:
        return raw[..., : prod(event)]

    def start(self, event: torch.Size) -> Tensor:
        dim = prod(event)
        if self.drawn:
            return torch.eye(dim)
        return torch.cat([torch.full((dim,), _UNIT), torch.zeros(dim * (dim - 1) // 2)])

    def distribution(self, loc: Tensor, raw: Tensor, event: torch.Size, floor: Tensor) -> Distribution:
        dim = prod(event)
        flat = loc.reshape(*loc.shape[: loc.dim() - len(event)], dim)
        if self.drawn:
            return shaped(
                CorrelatedGaussian(flat, scale_tril=tril_of_precision(raw), validate_args=False), event
            )
        unit = torch.eye(dim, dtype=raw.dtype, device=raw.device).repeat(*raw.shape[:-1], 1, 1)
        if dim > 1:  # A graph of ONNX cannot hold an assignment to no entries.
            row, column = torch.tril_indices(dim, dim, -1, device=raw.device)
            unit[..., row, column] = raw[..., dim:]
        tril = self.scale(raw[..., :dim], floor).unsqueeze(-1) * unit
        return shaped(CorrelatedGaussian(flat, scale_tril=tril, validate_args=False), event)

    def to_raw(self, value: Tensor, event: torch.Size, floor: Tensor) -> Tensor:
        dim = prod(event)
        if value.shape != (dim, dim):
            raise ShapeError(f"covariance must have shape ({dim}, {dim}); got {tuple(value.shape)}")
        tril, failed = torch.linalg.cholesky_ex(value)
        if bool(failed) or not torch.allclose(value, value.mT):
            raise DeclarationError("covariance must be a symmetric positive definite matrix")
        return self.tril_to_raw(tril, floor)

    def tril_to_raw(self, tril: Tensor, floor: Tensor) -> Tensor:
        """The raw numbers of a Cholesky factor L (D, D), which has twice the digits of Σ."""
        row, column = torch.tril_indices(len(tril), len(tril), -1)
        unit = tril / tril.diagonal().unsqueeze(-1)
        return torch.cat([raw_scale(tril.diagonal(), floor), unit[row, column]])

"""Gaussian components of mixtures with full covariances, one per component or one for all."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Set
from dataclasses import dataclass, replace
from functools import cached_property, partial
from math import log, pi
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from pyro_lfm.errors import DeclarationError
from pyro_lfm.exact.algebra import inverse, raised, rotated, smallest_scale, square_root
from pyro_lfm.exact.gap_patterns import patterns
from pyro_lfm.exact.mixtures.ascent import Statistics, Summary, float64
from pyro_lfm.exact.mixtures.gaussians import Floor, check_scale
from pyro_lfm.exact.mixtures.mixture import EMPTY, Components


class _Group(NamedTuple):
    """Rows with the same missing entries, in coordinates in which the observed ones come first.

    With the observed entries o of L first, L = [[A, 0], [B, C]] Qᵀ for a rotation Q, and x − μ = L w, w ~ N(0, I):
    the observed entries fix the first part of Qᵀw to v = A⁻¹(x_o − μ_o) and leave the rest at N(0, I).
    """

    rows: Tensor
    missing: Tensor
    white: Tensor  # v (C, o, n)
    scale: Tensor  # diagonal of A (C or 1, o)
    slope: Tensor  # B (C or 1, m, o)
    rotation: Tensor | None  # Q (C or 1, D, D); None where nothing is missing, and Q = I


@dataclass(frozen=True, eq=False)
class FullGaussians(Components):
    """p(x | c) = N(x; μ_c, L_c L_cᵀ), or one L for all components.

    A row with missing entries has the marginal density of the observed ones. The M step uses the conditional mean and
    covariance of the missing entries given the observed ones. Rows with the same missing entries are processed together.

    The floor is on the scale in every direction, Σ ⪰ diag(min_scale²). With scatter matrix S, in units of the floors of
    the columns, the M step's −½ [ln|Σ| + tr Σ⁻¹S] has its constrained maximum at S with eigenvalues below 1 raised to 1.

    Args:
        means: μ (C, D), in the units of the data.
        scale_tril: L (C or 1, D, D), the Cholesky factor of Σ: lower triangular, diagonal above 0. Where the scales of
            the directions differ much, it keeps twice as many digits as Σ.
        min_scale: the smallest standard deviation that a fit may reach in any direction, one or one per column (D,).

    Raises:
        ShapeError: shapes do not fit. DeclarationError: L is no Cholesky factor, or the floor is not above 0.

    Source: Ghahramani and Jordan (1994), "Supervised learning from incomplete data via an EM approach".

    >>> distribution = FullGaussians(torch.zeros(1, 2), torch.linalg.cholesky(torch.tensor([[[2.0, 1.0], [1.0, 2.0]]])))
    >>> distribution.log_density(torch.tensor([[0.0, 0.0], [float("nan"), 0.0]]).double()).round(decimals=4)
    tensor([[-2.3872],
            [-1.2655]], dtype=torch.float64)
    """

    means: Tensor
    scale_tril: Tensor
    min_scale: Floor = 1e-3
    names: ClassVar[tuple[str, ...]] = ("means", "covariance")

    def __post_init__(self) -> None:
        check_scale(self.min_scale)
        object.__setattr__(self, "means", float64("means", self.means, "C", "D"))
        classes, dim = self.size
        shared = self.scale_tril.dim() == 3 and len(self.scale_tril) == 1
        tril = float64("scale_tril", self.scale_tril, 1 if shared else classes, dim, dim)
        if bool(tril.triu(1).any()) or not bool((tril.diagonal(dim1=-2, dim2=-1) > 0).all()):
            raise DeclarationError("scale_tril must be lower triangular with a diagonal above 0")
        object.__setattr__(self, "scale_tril", tril)

    @property
    def size(self) -> tuple[int, int]:
        return self.means.shape[0], self.means.shape[1]

    @property
    def covariance(self) -> Tensor:
        """Σ = L Lᵀ (C or 1, D, D)."""
        return self.scale_tril @ self.scale_tril.mT

    @cached_property
    def _whitening(self) -> Tensor:
        """L⁻¹ (C or 1, D, D), which all pieces of complete rows share."""
        return inverse(self.scale_tril)

    def _groups(self, x: Tensor) -> Iterator[_Group]:
        distinct, pattern = patterns(x)
        for number, mask in enumerate(distinct):
            observed, missing = mask.nonzero()[:, 0], (~mask).nonzero()[:, 0]
            n, tril, rotation = len(observed), self.scale_tril, None
            rows, values, means = (pattern == number).nonzero()[:, 0], x, self.means
            if len(missing):
                means = means[:, observed]
                tril, rotation = rotated(tril[:, torch.cat([observed, missing])])
            if len(rows) < len(x) or len(missing):
                values = x[rows[:, None], observed]
            complete = tril is self.scale_tril
            white = _whitened(values, means, self._whitening if complete else inverse(tril[:, :n, :n]))
            scale = tril[:, :n, :n].diagonal(dim1=-2, dim2=-1)
            yield _Group(rows, missing, white, scale, tril[:, n:, :n], rotation)

    def log_density(self, x: Tensor) -> Tensor:
        return self._log_density(x, self._groups(x))

    def statistics(self, x: Tensor, responsibilities: Tensor) -> Statistics:
        """In the coordinates w = L⁻¹(x − μ): counts (C,), Σ r E[w] (C, D), Σ r E[w wᵀ] (C, D, D)."""
        return self._statistics(self._groups(x), responsibilities)

    def half_steps(self, x: Tensor) -> tuple[Tensor, Summary]:
        groups = list(self._groups(x))
        return self._log_density(x, groups), partial(self._statistics, groups)

    def _log_density(self, x: Tensor, groups: Iterable[_Group]) -> Tensor:
        out = x.new_zeros(len(x), len(self.means))
        for group in groups:
            half_determinant = group.scale.log().sum(-1) + 0.5 * group.scale.shape[-1] * log(2 * pi)
            out[group.rows] = -(
                0.5 * torch.linalg.vector_norm(group.white, dim=-2).square() + half_determinant[:, None]
            ).mT
        return out

    def _statistics(self, groups: Iterable[_Group], responsibilities: Tensor) -> Statistics:
        first, second = torch.zeros_like(self.means), self.means.new_zeros(*self.means.shape, self.size[1])
        for group in groups:
            white, weight = group.white, responsibilities[group.rows].T.contiguous()[:, None]
            if group.rotation is not None:
                n = white.shape[1]
                white = group.rotation[:, :, :n] @ white
                free = group.rotation[:, :, n:]
                second += weight.sum(-1, keepdim=True) * (free @ free.mT)
            weighted = weight * white
            first += weighted.sum(-1)
            second += weighted @ white.mT
        return responsibilities.sum(0), first, second

    def scatter(self, statistics: Statistics, means: Tensor) -> Tensor:
        """Σ r E[(w − v)(w − v)ᵀ] (C, D, D) about other means, v = L⁻¹(means − μ)."""
        counts, first, second = statistics
        tril = self.scale_tril.expand(len(means), -1, -1)
        step = torch.linalg.solve_triangular(tril, (means - self.means)[..., None], upper=False)[..., 0]
        cross = first[:, :, None] * step[:, None, :]
        return second - cross - cross.mT + counts[:, None, None] * step[:, :, None] * step[:, None, :]

    def maximised(self, statistics: Statistics, fixed: Set[str]) -> FullGaussians:
        counts, first, _ = statistics
        step = torch.where((counts > EMPTY)[:, None], first / counts.clamp_min(EMPTY)[:, None], 0.0)
        means, tril = self.means, self.scale_tril
        if "means" not in fixed:
            means = means + (tril @ step[..., None])[..., 0]
        if "covariance" not in fixed:
            scatter = self.scatter(statistics, means).sum_to_size(tril.shape)
            counts = counts[:, None, None].sum_to_size(len(tril), 1, 1)
            alive, identity = counts > EMPTY, torch.eye(self.size[1], dtype=tril.dtype)
            factor = square_root(torch.where(alive, scatter / counts.clamp_min(EMPTY), identity))
            tril = torch.where(alive, self._raised(tril @ factor), tril)
        return FullGaussians(means, tril, self.min_scale)

    def expected_log_density(self, statistics: Statistics, at: Components) -> Tensor:
        assert isinstance(at, FullGaussians)
        scatter = self.scatter(statistics, at.means).sum_to_size(at.scale_tril.shape)
        counts = statistics[0].sum_to_size(len(at.scale_tril))
        change = torch.linalg.solve_triangular(at.scale_tril, self.scale_tril, upper=False)
        trace = (change @ scatter * change).sum()
        scale = at.scale_tril.diagonal(dim1=-2, dim2=-1)
        half_determinant = scale.log().sum(-1) + 0.5 * self.size[1] * log(2 * pi)
        return -0.5 * trace - (counts * half_determinant).sum()

    def filled(self, x: Tensor, responsibilities: Tensor) -> Tensor:
        expected = torch.zeros_like(x)
        for rows, missing, white, _, slope, _ in self._groups(x):
            of_class = self.means[:, None, missing] + (slope @ white).mT
            part = torch.zeros_like(x[rows])
            part[:, missing] = (responsibilities[rows].T[:, :, None] * of_class).sum(0)
            expected[rows] = part
        return torch.where(x.isnan(), expected, x)

    def above_floor(self) -> FullGaussians:
        return replace(self, scale_tril=self._raised(self.scale_tril))

    def at_floor(self) -> int:
        """The number of principal axes, of all covariances, whose scale is at the floor."""
        tril, floor = self.scale_tril / self._floor, 1 + 1e-6
        if smallest_scale(tril) > floor:
            return 0
        return int((torch.linalg.svdvals(tril) <= floor).sum())

    @property
    def _floor(self) -> Tensor:
        """(D or 1, 1)."""
        return torch.as_tensor(self.min_scale, dtype=torch.float64).reshape(-1, 1)

    def _raised(self, factor: Tensor) -> Tensor:
        return raised(factor / self._floor, 1.0) * self._floor


def _whitened(x: Tensor, means: Tensor, whitening: Tensor) -> Tensor:
    """W_c (x − μ_c), (C, o, n), of rows x (n, o), by one matrix product for all classes about the centre of the means.

    A mean 10^k standard deviations away from the centre costs k digits.

    >>> x, means = torch.tensor([[3.0]]), torch.tensor([[1.0], [2.0]])
    >>> _whitened(x, means, torch.ones(1, 1, 1)).flatten()
    tensor([2., 1.])
    """
    (rows, size), classes = x.shape, len(means)
    centre = means.mean(0)
    whitening = whitening.expand(classes, -1, -1)
    offset = whitening @ (means - centre)[..., None]
    product = torch.addmm(-offset.reshape(1, -1), x - centre, whitening.reshape(classes * size, size).mT)
    return product.view(rows, classes, size).permute(1, 2, 0)

"""``variance_explained``: the share of the variance of each observed variable that each factor explains, as in MOFA."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from pyro_lfm.errors import ShapeError
from pyro_lfm.evaluate.decoding.decoder import Decoder, columns_of
from pyro_lfm.evaluate.decoding.factor_order import factor_order
from pyro_lfm.evaluate.inputs import Array, Evaluated, Rows
from pyro_lfm.evaluate.likelihood.estimate import served
from pyro_lfm.evaluate.representation.codes import as_array
from pyro_lfm.inference.blocks import Blocks

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Rows in one block.
_ROWS = 1024
# Relative distance from the mean up to which a value counts as equal to it, in double precision.
_ROUNDING = 1e-12


@dataclass(frozen=True, eq=False, repr=False)
class VarianceExplained:
    """R² of each observed variable in each of G groups of rows, for each of K factors and for all together.

    Attributes:
        alone: {observed: (G, K)}, R² of the reconstruction from factor k with the others at their mean.
        alone_error: its standard error over the rows.
        unique: {observed: (G, K)}, the decrease of R² if factor k is set to its mean.
        total, total_error: {observed: (G,)}, R² of all factors, with its standard error over the rows.
        factors: the names of the K factors, as declared.
        groups: the labels of the G groups, ("all",) by default.
        order: the places of the factors, the one that explains most of the rows of the fit first: the order of pictures and
            tables.

    >>> import pyro_lfm as lfm, torch
    >>> model = lfm.Model(z=lfm.StandardNormal(1), x=lfm.Gaussian(3, mean=lfm.Linear()))
    >>> z, noise = torch.randn(60, 4, generator=torch.Generator().manual_seed(0)).split([1, 3], 1)
    >>> fit = lfm.fit(model, z + noise, lfm.EM(), seed=0, progress=False)
    >>> shares = lfm.evaluate.variance_explained(fit)
    >>> shares.factors, shares.alone["x"].shape, shares.total["x"].shape
    (('z',), torch.Size([1, 1]), torch.Size([1]))
    """

    alone: dict[str, Tensor]
    alone_error: dict[str, Tensor]
    unique: dict[str, Tensor]
    total: dict[str, Tensor]
    total_error: dict[str, Tensor]
    factors: tuple[str, ...]
    groups: tuple[Any, ...]
    order: tuple[int, ...]

    def plot(self, *, title: str | None = "Variance explained") -> Figure:
        """A map of R² by factor and observed variable, see ``lfm.plots.variance_explained``."""
        from pyro_lfm import plots

        return plots.variance_explained(self, title=title)

    def __repr__(self) -> str:
        columns = [(name, g) for name in self.total for g in range(len(self.groups))]
        heads = [name if len(self.groups) == 1 else f"{name}, {self.groups[g]}" for name, g in columns]
        wide = [max(15, len(head)) for head in heads]
        left = max(5, *map(len, self.factors))
        lines = ["Variance explained, %, ± standard errors from the rows", " " * left]
        lines[1] += "".join(f"  {head:>{w}}" for head, w in zip(heads, wide, strict=True))
        for k in self.order:
            cells = [(self.alone[name][g, k], self.alone_error[name][g, k]) for name, g in columns]
            lines.append(f"{self.factors[k]:>{left}}" + _cells(cells, wide))
        cells = [(self.total[name][g], self.total_error[name][g]) for name, g in columns]
        lines.append(f"{'all':>{left}}" + _cells(cells, wide))
        return "\n".join(lines)


def _cells(cells: list[tuple[Tensor, Tensor]], wide: list[int]) -> str:
    texts = [f"{100 * float(value):z.2f} ± {100 * float(error):.2f}" for value, error in cells]
    return "".join(f"  {text:>{w}}" for text, w in zip(texts, wide, strict=True))


def variance_explained(
    fit: Evaluated, data: Rows | None = None, groups: Array | None = None, seed: int = 0
) -> VarianceExplained:
    """The share of the variance of each observed variable that each factor explains, and all together.

    The share of factor k is::

        R²_k = 1 − Σ (x − x̂_k)² / Σ (x − x̄)²,    x̂_k = E[x | z_k, all others at their mean over the rows]

    Sums are over the observed entries of all columns, and z is at its posterior means. Columns of large variance count most.
    x̂ is shifted to the mean of each column, as only variation is to be explained. A label has one column of 0 and 1 for
    each category. The shares add up to that of all factors if the decoder is linear and the posterior means are
    uncorrelated. Otherwise they need not, and they may be negative. An effect through another latent is not counted.

    z is inferred from the same x, so x̂ follows some of the noise of x, also in rows that were not fitted. In a linear
    Gaussian model with covariance C = WWᵀ + Ψ and the exact posterior R²_k = ‖w_k‖² (1 + [M⁻¹]_kk) / tr C, M⁻¹ the posterior
    covariance: the share of the factor, and up to twice that where the data hold little information about it.

    Args:
        fit: a fit, or a pair (model, guide).
        data: rows as given to ``fit``. If left out, those that were fitted. A pair needs them.
        groups: a label of each row, (N,). Each group of rows has its own means, so differences between groups are not part
            of the variance. A group of one row, or a variable that is constant in it, has NaN.

    Raises:
        DeclarationError: a latent of a row without real values, or a likelihood without a mean in closed form.
        ShapeError: groups of another length.
        DataError: no data with a pair.

    Source: Argelaguet et al. (2018), "Multi-Omics Factor Analysis", the coefficient of determination of each view and
    factor; Argelaguet et al. (2020), MOFA+, for groups.

    >>> import pyro_lfm as lfm
    >>> weight = torch.tensor([[3.0, 0.0], [0.0, 1.0]])
    >>> x = lfm.Gaussian(2, mean=lfm.Linear(weight=lfm.Fixed(weight)), covariance=lfm.Isotropic(lfm.Fixed(0.1)))
    >>> model = lfm.Model(z=lfm.StandardNormal(2), x=x)
    >>> guide = lfm.Guide(model, z=lfm.Gaussian(mean=lfm.Linear(weight=lfm.Fixed(weight.inverse()))))
    >>> lfm.evaluate.variance_explained((model, guide), model.sample(500, seed=0)["x"]).alone["x"].round(decimals=1)
    tensor([[0.9000, 0.1000]])
    """
    done, batch, guide = served(fit, data)
    model, decoder = done.model, Decoder(done.model, "lfm.evaluate.variance_explained")
    labels, names = _groups(groups, batch.size)
    of_row = torch.as_tensor(labels, device=model.device)
    blocks = Blocks(model, guide, batch, _ROWS, seed)
    with blocks.running():
        points = [decoder.means(guide, blocks.setup.batch(*block)) for block in blocks]
        flat = torch.cat([point[0] for point in points])
        centre = torch.stack([flat[of_row == g].mean(0) for g in range(len(names))])
        sums = _Sums(decoder.observed, len(names))
        # First the means of x and of every reconstruction, then the squares about them.
        for last in (False, True):
            start = 0
            for block, (at, _, others) in zip(blocks, points, strict=True):
                rows = slice(start, start := start + len(at))
                part, own = blocks.setup.batch(*block), of_row[rows]
                for place, given in enumerate(_settings(at, centre[own])):
                    means = decoder(given, others, part)
                    for name in decoder.observed:
                        x = columns_of(part.with_gaps(name), means[name].shape[1])
                        sums.add(name, place, own, x, means[name].double(), last)
    alone, error, unique, total, total_error = (
        {n: sums.result(n, model.dtype)[i] for n in decoder.observed} for i in range(5)
    )
    factors, order = tuple(decoder.names), factor_order(done, data).places
    return VarianceExplained(alone, error, unique, total, total_error, factors, names, order)


def _settings(at: Tensor, centre: Tensor) -> list[Tensor]:
    """The factors with all as they are, with each alone and the others at their mean, and with each at its mean, (B, K)."""
    eye = torch.eye(at.shape[1], dtype=torch.bool, device=at.device)
    alone = [torch.where(own, at, centre) for own in eye]
    return [at, *alone, *(torch.where(own, centre, at) for own in eye)]


def _groups(groups: Array | None, rows: int) -> tuple[np.ndarray, tuple[Any, ...]]:
    if groups is None:
        return np.zeros(rows, dtype=np.int64), ("all",)
    values = as_array("groups", groups)
    if values.shape != (rows,):
        raise ShapeError(f"groups must have shape ({rows},), a label of each row; got {values.shape}")
    names, labels = np.unique(values, return_inverse=True)
    return labels, tuple(names.tolist())


class _Sums:
    """Sums over the rows of each group: first column means, then squares about them, row by row."""

    def __init__(self, names: list[str], groups: int):
        self.groups = groups
        self.means: dict[tuple[str, int], Tensor] = {}
        self.left: dict[tuple[str, int], list[Tensor]] = {}
        self.own: dict[str, list[Tensor]] = {name: [] for name in names}

    def add(self, name: str, place: int, own: Tensor, x: Tensor, fitted: Tensor, last: bool) -> None:
        seen = ~x.isnan()
        off = (x - fitted).where(seen, x.new_zeros(()))
        keys = ((name, place), off), ((name, -1), x.where(seen, x.new_zeros(())))
        if not last:
            for key, value in keys if place == 0 else keys[:1]:
                now = torch.stack([value, seen.double()]).new_zeros(2, self.groups, x.shape[1])
                now.index_add_(1, own, torch.stack([value, seen.double()]))
                self.means[key] = self.means[key] + now if key in self.means else now
            return
        for key, value in keys if place == 0 else keys[:1]:
            total, count = self.means[key]
            apart = (value - (total / count.clamp_min(1))[own]).where(seen, x.new_zeros(()))
            # A constant column differs from its mean by rounding, which is not variance.
            apart = (
                apart.where(apart.abs() > _ROUNDING * value.abs(), x.new_zeros(())) if key[1] < 0 else apart
            )
            self.left.setdefault(key, []).append(apart.square().sum(1))
        if place == 0:
            self.own[name].append(own)

    def result(self, name: str, dtype: torch.dtype) -> tuple[Tensor, ...]:
        own = torch.cat(self.own[name])
        whole = torch.cat(self.left[name, -1])
        shares, errors = [], []
        for place in sorted(p for n, p in self.left if n == name and p >= 0):
            left = torch.cat(self.left[name, place])
            pairs = [_share(left[own == g], whole[own == g]) for g in range(self.groups)]
            shares.append(torch.stack([share for share, _ in pairs]))
            errors.append(torch.stack([error for _, error in pairs]))
        share, error = torch.stack(shares, 1).to(dtype), torch.stack(errors, 1).to(dtype)
        factors = (share.shape[1] - 1) // 2
        alone, without = share[:, 1 : 1 + factors], share[:, 1 + factors :]
        return alone, error[:, 1 : 1 + factors], share[:, :1] - without, share[:, 0], error[:, 0]


def _share(left: Tensor, whole: Tensor) -> tuple[Tensor, Tensor]:
    """1 − Σ left / Σ whole over rows, and its standard error by the delta method. NaN if nothing varies."""
    total = whole.sum()
    if len(whole) < 2 or float(total) <= 0:
        return total * torch.nan, total * torch.nan
    ratio = left.sum() / total
    return 1 - ratio, (left - ratio * whole).square().sum().sqrt() / total

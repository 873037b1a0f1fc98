"""How much of the variance of each observed variable each factor explains, as MOFA reports it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from pyro_lfm.errors import ShapeError
from pyro_lfm.evaluate.decoding.decoder import Decoder
from pyro_lfm.evaluate.inputs import Evaluated, Rows
from pyro_lfm.evaluate.likelihood.estimate import served
from pyro_lfm.evaluate.representation.codes import as_array
from pyro_lfm.inference.blocks import Blocks

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Rows taken together.
_ROWS = 1024
# Of a value, how far from the mean it may lie and count as equal to it, in double precision.
_ROUNDING = 1e-12


@dataclass(frozen=True, eq=False, repr=False)
class VarianceExplained:
    """R² of each observed variable in each of G groups of rows, by each of K factors and by all.

    Attributes:
        alone: {observed: (G, K)}: R² of the reconstruction from factor k with the others at their mean.
        alone_error: its standard error over the rows.
        unique: {observed: (G, K)}: by how much R² falls where factor k is put at its mean.
        total, total_error: {observed: (G,)}: of all factors, with the standard error over the rows.
        factors: the names of the K factors. groups: the labels of the G groups; ("all",) where none were given.
    """

    alone: dict[str, Tensor]
    alone_error: dict[str, Tensor]
    unique: dict[str, Tensor]
    total: dict[str, Tensor]
    total_error: dict[str, Tensor]
    factors: tuple[str, ...]
    groups: tuple[Any, ...]

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
        for k, factor in enumerate(self.factors):
            cells = [(self.alone[name][g, k], self.alone_error[name][g, k]) for name, g in columns]
            lines.append(f"{factor:>{left}}" + _cells(cells, wide))
        cells = [(self.total[name][g], self.total_error[name][g]) for name, g in columns]
        lines.append(f"{'all':>{left}}" + _cells(cells, wide))
        return "\n".join(lines)


def _cells(cells: list[tuple[Tensor, Tensor]], wide: list[int]) -> str:
    words = [f"{100 * float(value):.2f} ± {100 * float(error):.2f}" for value, error in cells]
    return "".join(f"  {word:>{w}}" for word, w in zip(words, wide, strict=True))


def variance_explained(
    fit: Evaluated, data: Rows | None = None, groups: Any = None, seed: int = 0
) -> VarianceExplained:
    """The share of the variance of each observed variable that each factor explains, and all together.

        R²_k = 1 − Σ (x − x̂_k)² / Σ (x − x̄)²,    x̂_k = E[x | z_k, all others at their mean over the rows]

    over the observed entries of all columns, with z at its posterior means; columns of large variance count most. x̂ is
    shifted to the mean of each column, as only what varies is to be explained. Of labels x is one column of 0 and 1 for each
    category. The shares add up to that of all factors where the decoder is linear and the posterior means are uncorrelated;
    else they need not, and they may be negative. An effect by way of another latent is not counted.

    As z is inferred of the very x that it is held against, x̂ follows some of its noise, in rows that were not fitted too. In
    a linear Gaussian model with covariance C = WWᵀ + Ψ and the exact posterior R²_k = ‖w_k‖² (1 + [M⁻¹]_kk) / tr C, M⁻¹ the
    posterior covariance: the share of the factor, and up to twice that where the data say little of it.

    Args:
        fit: what was fitted, or a pair (model, guide).
        data: rows as given to ``fit``; left out, those that were fitted. With a pair they are needed.
        groups: a label of each row, (N,); each group of rows has means of its own, so that what tells groups apart is not
            explained. A group of one row, or a variable that does not vary in it, has NaN.

    Raises:
        DeclarationError: no latent of a row takes real values, or some do not; a likelihood without a mean in closed form.
        ShapeError: groups of another length. DataError: no data with a pair.

    Source: Argelaguet et al. (2018), "Multi-Omics Factor Analysis", the coefficient of determination of each view and
    factor; Argelaguet et al. (2020), MOFA+, for groups.

    >>> from pyro_lfm import Fixed, Gaussian, Guide, Isotropic, Linear, Model, StandardNormal
    >>> weight = torch.tensor([[3.0, 0.0], [0.0, 1.0]])
    >>> x = Gaussian(2, mean=Linear(weight=Fixed(weight)), covariance=Isotropic(Fixed(0.1)))
    >>> model = Model(z=StandardNormal(2), x=x)
    >>> guide = Guide(model, z=Gaussian(mean=Linear(weight=Fixed(weight.inverse()))))
    >>> variance_explained((model, guide), model.sample(500, seed=0)["x"]).alone["x"].round(decimals=1)
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
        # First the means of x and of every reconstruction, then what is left about them.
        for last in (False, True):
            start = 0
            for block, (at, _, others) in zip(blocks, points, strict=True):
                rows = slice(start, start := start + len(at))
                part, own = blocks.setup.batch(*block), of_row[rows]
                for place, given in enumerate(_settings(at, centre[own])):
                    means = decoder(given, others, part)
                    for name in decoder.observed:
                        x = _values(part.with_gaps(name), means[name].shape[1])
                        sums.add(name, place, own, x, means[name].double(), last)
    alone, error, unique, total, total_error = (
        {n: sums.result(n, model.dtype)[i] for n in decoder.observed} for i in range(5)
    )
    return VarianceExplained(alone, error, unique, total, total_error, tuple(decoder.names), names)


def _settings(at: Tensor, centre: Tensor) -> list[Tensor]:
    """All factors; each alone, the others at their mean; all but each: (B, K) each."""
    eye = torch.eye(at.shape[1], dtype=torch.bool, device=at.device)
    alone = [torch.where(own, at, centre) for own in eye]
    return [at, *alone, *(torch.where(own, centre, at) for own in eye)]


def _groups(groups: Any, rows: int) -> tuple[np.ndarray, tuple[Any, ...]]:
    if groups is None:
        return np.zeros(rows, dtype=np.int64), ("all",)
    values = as_array("groups", groups)
    if values.shape != (rows,):
        raise ShapeError(f"groups must have shape ({rows},), a label of each row; got {values.shape}")
    names, labels = np.unique(values, return_inverse=True)
    return labels, tuple(names.tolist())


def _values(x: Tensor, columns: int) -> Tensor:
    """Rows (B, D) in double precision, NaN where missing; a label as 0 and 1 of each value that it may have."""
    flat = x.reshape(len(x), -1).double()
    levels = columns // flat.shape[1]
    if levels == 1:
        return flat
    each = (flat.unsqueeze(-1) == torch.arange(levels, device=flat.device)).double()
    return each.masked_fill(flat.isnan().unsqueeze(-1), torch.nan).flatten(1)


class _Sums:
    """Sums over the rows of each group: column means first, then squares about them, row by row."""

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
            # What does not vary is left with the rounding of its mean, which is not to be explained.
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
            found = [_share(left[own == g], whole[own == g]) for g in range(self.groups)]
            shares.append(torch.stack([share for share, _ in found]))
            errors.append(torch.stack([error for _, error in found]))
        share, error = torch.stack(shares, 1).to(dtype), torch.stack(errors, 1).to(dtype)
        factors = (share.shape[1] - 1) // 2
        alone, without = share[:, 1 : 1 + factors], share[:, 1 + factors :]
        return alone, error[:, 1 : 1 + factors], share[:, :1] - without, share[:, 0], error[:, 0]


def _share(left: Tensor, whole: Tensor) -> tuple[Tensor, Tensor]:
    """1 − Σ left / Σ whole over rows, and its standard error by the delta method; NaN where nothing varies."""
    total = whole.sum()
    if len(whole) < 2 or float(total) <= 0:
        return total * torch.nan, total * torch.nan
    ratio = left.sum() / total
    return 1 - ratio, (left - ratio * whole).square().sum().sqrt() / total

"""``loadings``: the Jacobian of any decoder, ∂E[x | z] / ∂z, averaged over the rows."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

from pyro_lfm.data.batch import Batch
from pyro_lfm.evaluate.decoding.decoder import Decoder
from pyro_lfm.evaluate.decoding.factor_order import FactorOrder, factor_order
from pyro_lfm.evaluate.figures import or_dash
from pyro_lfm.evaluate.inputs import Evaluated, Rows
from pyro_lfm.evaluate.likelihood.estimate import served
from pyro_lfm.inference.blocks import Blocks
from pyro_lfm.shapes import whole

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Rows in one block, and the most numbers of its Jacobian.
_ROWS, _NUMBERS = 256, 2**21


@dataclass(frozen=True, eq=False, repr=False)
class Loadings:
    """∂E[x_d | z] / ∂z_k over the rows for one observed variable, with D entries or categories, and K factors.

    Attributes:
        mean: the mean of each derivative over the rows, (D, K), in units of x per unit of z. It is W for a linear decoder.
        mean_error: its standard error from the choice of rows, and from draws where they are used, (D, K). NaN for one row.
        rms: the root mean square of each derivative, (D, K), in which opposite signs do not cancel.
        rms_error: its standard error, (D, K).
        scale: the standard deviation of each factor over the rows, the variance of q(z | x) included, (K,).
        factors: the names of the K factors, as declared.
        order: the places of the factors, the one that explains most of the rows of the fit first: the order of pictures and
            tables.
        per_row: the derivatives of each row, (N, D, K), if requested.

    >>> import pyro_lfm as lfm, torch
    >>> model = lfm.Model(z=lfm.StandardNormal(1), x=lfm.Gaussian(3, mean=lfm.Linear()))
    >>> z, noise = torch.randn(60, 4, generator=torch.Generator().manual_seed(0)).split([1, 3], 1)
    >>> fit = lfm.fit(model, z + noise, lfm.EM(), seed=0, progress=False)
    >>> loadings = lfm.evaluate.loadings(fit)
    >>> loadings.mean.shape, loadings.factors
    (torch.Size([3, 1]), ('z',))
    """

    mean: Tensor
    mean_error: Tensor
    rms: Tensor
    rms_error: Tensor
    scale: Tensor
    factors: tuple[str, ...]
    order: tuple[int, ...]
    per_row: Tensor | None = None

    @property
    def standardised(self) -> Tensor:
        """The change of E[x_d | z] per standard deviation of a factor: mean × scale, (D, K)."""
        return self.mean * self.scale

    @property
    def bending(self) -> Tensor:
        """1 − Σ_d mean² / Σ_d rms² of each factor, (K,): 0 where its effect is equal in all rows, as in a linear decoder,
        and 1 where effects of opposite signs cancel. NaN for a factor without effect.
        """
        return 1 - self.mean.square().sum(0) / self.rms.square().sum(0)

    def plot(
        self,
        *,
        shape: Sequence[int] | None = None,
        names: Sequence[str] | None = None,
        title: str | None = "Loadings: mean derivative of each column by each factor",
    ) -> Figure:
        """The mean derivatives as a table, or with ``shape`` as a picture per factor, see ``lfm.plots.loadings``."""
        from pyro_lfm import plots

        order = [*self.order]
        factors = [self.factors[k] for k in order]
        return plots.loadings(
            {"": self.mean[:, order]}, shape=shape, names=names, factors=factors, title=title
        )

    def __repr__(self) -> str:
        strength = (self.rms * self.scale).square().sum(0).sqrt()
        wide = max(6, *map(len, self.factors))
        lines = [f"Loadings: D = {len(self.mean)}, K = {len(self.factors)}"]
        lines.append(
            f"  {'factor':>{wide}} {'strength':>10} {'scale':>8} {'bending':>8}  largest loadings (standardised)"
        )
        for k in self.order:
            column = self.standardised[:, k]
            top = column.abs().argsort(descending=True)[:3].tolist()
            largest = ", ".join(f"{d + 1}: {float(column[d]):+.3g}" for d in top)
            lines.append(
                f"  {self.factors[k]:>{wide}} {float(strength[k]):>10.4g} {float(self.scale[k]):>8.3g} "
                f"{or_dash(float(self.bending[k]), '>8.3f')}  {largest}"
            )
        return "\n".join(lines)


def loadings(
    fit: Evaluated, data: Rows | None = None, draws: int | None = None, per_row: bool = False, seed: int = 0
) -> Loadings | dict[str, Loadings]:
    """The Jacobian of the decoder, J = ∂E[x | z] / ∂z, over some rows: mean and root mean square, with their errors.

    For a linear decoder it is W in every row. For others it is evaluated at the posterior mean of each row, or averaged over
    draws of q(z | x). All other latents are held, those of other layers included: an effect through another latent is not
    counted. Parameters with priors are at their posterior means, or drawn. The cost is K forward derivatives for each block
    of rows, for any D.

    Args:
        fit: a fit, or a pair (model, guide).
        data: rows as given to ``fit``. If left out, those that were fitted. A pair needs them.
        draws: S ≥ 1 of q(z | x) for each row. None for the posterior means. Models with labels as latents need draws.
        per_row: whether to return the Jacobian of each row too, N × D × K numbers.

    Returns:
        Loadings, or {observed: Loadings} for a model of several observed factors. The K factors are the entries of all
        latents of a row side by side, in the order of ``model.latents``.

    Raises:
        DeclarationError: no latent of a row has real values, a latent has no real values and ``draws`` is None, or the
            likelihood has no mean in closed form.
        DataError: no data with a pair.

    >>> import pyro_lfm as lfm
    >>> weight = torch.tensor([[1.0, 0.0], [2.0, -1.0], [0.0, 3.0]])
    >>> model = lfm.Model(z=lfm.StandardNormal(2), x=lfm.Gaussian(3, mean=lfm.Linear(weight=lfm.Fixed(weight))))
    >>> guide = lfm.Guide(model, z=lfm.Gaussian(mean=lfm.Linear()))
    >>> torch.equal(lfm.evaluate.loadings((model, guide), torch.randn(10, 3)).mean, weight)
    True
    """
    count = 0 if draws is None else whole("draws", draws)
    done, batch, guide = served(fit, data)
    model, decoder = done.model, Decoder(done.model, "lfm.evaluate.loadings")
    size = sum(model.observed[name].code_shape.numel() for name in decoder.observed)
    factors = len(decoder.names)
    blocks = Blocks(model, guide, batch, min(_ROWS, max(1, _NUMBERS // (size * factors))), seed)
    sums: dict[str, Any] = dict.fromkeys(decoder.observed, 0.0)
    kept: dict[str, list[Tensor]] = {name: [] for name in decoder.observed}
    moments: Any = 0.0
    with blocks.running():
        for block in blocks:
            part = blocks.setup.batch(*block)
            first: dict[str, Any] = dict.fromkeys(decoder.observed, 0.0)
            second = dict(first)
            for _ in range(max(1, count)):
                if count:
                    at, others = decoder.draw(guide, part)
                    spread = torch.zeros_like(at)
                else:
                    at, spread, others = decoder.means(guide, part)
                moments = moments + torch.stack([at.double(), at.double().square() + spread]).sum(1) / max(
                    1, count
                )
                for name, each in _jacobian(decoder, at, others, part).items():
                    first[name] = first[name] + each / max(1, count)
                    second[name] = second[name] + each.square() / max(1, count)
            for name in decoder.observed:
                m, q = first[name].double(), second[name].double()
                sums[name] = sums[name] + torch.stack([m, m.square(), q, q.square()]).sum(1)
                if per_row:
                    kept[name].append(first[name])
    mean, square = moments / batch.size
    scale = (square - mean.square()).clamp_min(0).sqrt().to(model.dtype)
    order = factor_order(done, data)
    results = {
        name: _loadings(total, batch.size, scale, order, torch.cat(kept[name]) if per_row else None)
        for name, total in sums.items()
    }
    return next(iter(results.values())) if len(results) == 1 else results


def _jacobian(decoder: Decoder, at: Tensor, others: dict[str, Tensor], batch: Batch) -> dict[str, Tensor]:
    """The Jacobian of each observed variable, (B, D, K). All rows go together: a row depends on its own latents only."""
    columns: dict[str, list[Tensor]] = {name: [] for name in decoder.observed}
    for k in range(at.shape[1]):
        direction = torch.zeros_like(at)
        direction[:, k] = 1.0
        with forward_ad.dual_level():
            for name, mean in decoder(_dual(at, direction), others, batch).items():
                value, tangent = forward_ad.unpack_dual(mean)
                columns[name].append(torch.zeros_like(value) if tangent is None else tangent)
    return {name: torch.stack(parts, -1) for name, parts in columns.items()}


def _dual(at: Tensor, direction: Tensor) -> Tensor:
    with warnings.catch_warnings():
        # The first call imports a part of torch that emits a deprecation warning.
        warnings.simplefilter("ignore", DeprecationWarning)
        return forward_ad.make_dual(at, direction)


def _loadings(sums: Tensor, rows: int, scale: Tensor, order: FactorOrder, per_row: Tensor | None) -> Loadings:
    """The result, from sums over rows of J, J², the mean square over draws, and its square."""
    mean, square, power, fourth = sums / rows
    free = rows - 1 if rows > 1 else torch.nan
    mean_error = ((square - mean.square()).clamp_min(0) / free).sqrt()
    rms = power.sqrt()
    power_error = ((fourth - power.square()).clamp_min(0) / free).sqrt()
    rms_error = torch.where(rms > 0, power_error / (2 * rms), power_error)
    mean, mean_error, rms, rms_error = (part.to(scale.dtype) for part in (mean, mean_error, rms, rms_error))
    return Loadings(mean, mean_error, rms, rms_error, scale, order.names, order.places, per_row)

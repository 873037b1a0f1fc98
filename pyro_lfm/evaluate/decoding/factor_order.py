"""The one order of the factors of a fit, by the variance that each explains; pictures, tables and the explorer follow it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import torch
from torch import Tensor

from pyro_lfm.data.batch import Batch
from pyro_lfm.errors import DeclarationError
from pyro_lfm.evaluate.decoding.decoded_rows import RowDecoder
from pyro_lfm.evaluate.decoding.decoder import columns_of
from pyro_lfm.evaluate.decoding.sampled_rows import drawn_latents, sampled_rows
from pyro_lfm.evaluate.inputs import Evaluated, Rows
from pyro_lfm.evaluate.likelihood.estimate import fitted
from pyro_lfm.guides import AnyGuide
from pyro_lfm.guides.posterior import marginals
from pyro_lfm.probes import evaluating
from pyro_lfm.runtime import Stream, isolated

# Rows that decide the order, at most and at least, and the most numbers that are decoded for it. Draws of the prior.
_ROWS, _LEAST, _NUMBERS, _DRAWS = 2000, 128, 2**24, 128

# How factors are put in order: by the variance that they explain, as declared, or the names of those wanted.
Order: TypeAlias = Literal["variance", "declared"] | Sequence[str]


@dataclass(frozen=True)
class FactorOrder:
    """The factors of a fit in the order of the variance that they explain.

    Attributes:
        names: of the K factors as declared, z_1, z_2, ...
        shares: of the variance of the rows that each explains, (K,), see ``factor_order``.
        places: the places of the factors in z, (K,), the factor of the largest share first.
        of_rows: whether shares are R² of rows, which a picture may print. Otherwise they are effects on the decoder.

    >>> import pyro_lfm as lfm, torch
    >>> model = lfm.Model(z=lfm.StandardNormal(1), x=lfm.Gaussian(3, mean=lfm.Linear()))
    >>> z, noise = torch.randn(60, 4, generator=torch.Generator().manual_seed(0)).split([1, 3], 1)
    >>> fit = lfm.fit(model, z + noise, lfm.EM(), seed=0, progress=False)
    >>> order = lfm.evaluate.factor_order(fit)
    >>> order.names, order.places, order.of_rows
    (('z',), (0,), True)
    """

    names: tuple[str, ...]
    shares: Tensor
    places: tuple[int, ...]
    of_rows: bool = True

    @property
    def ranked(self) -> list[str]:
        """The names, that of the largest share first."""
        return [self.names[k] for k in self.places]

    def by(self, order: Order) -> list[int]:
        """The places of the factors in the order that a user asks for.

        Raises:
            DeclarationError: an order that is none, or a name that is no factor.

        >>> FactorOrder(("a", "b"), torch.tensor([0.1, 0.9]), (1, 0)).by("variance")
        [1, 0]
        """
        return places_by(order, self.names, self.places)


def places_by(order: Order, names: Sequence[str], ranked: Sequence[int]) -> list[int]:
    """The places of factors in the order that a user asks for, ``ranked`` by variance."""
    if order == "variance":
        return [*ranked]
    if order == "declared":
        return [*range(len(names))]
    wanted = [order] if isinstance(order, str) else [*order]
    unknown = [name for name in wanted if name not in names]
    if unknown or not wanted:
        raise DeclarationError(
            f"order must be 'variance', 'declared' or names of factors, {', '.join(names)}; got {order!r}"
        )
    return [[*names].index(name) for name in wanted]


def ranked_by(shares: Tensor) -> tuple[int, ...]:
    """The places of factors by descending share; those without one last, equal ones as declared."""
    return tuple(shares.nan_to_num(nan=-torch.inf).argsort(descending=True, stable=True).tolist())


def factor_order(fit: Evaluated, data: Rows | None = None) -> FactorOrder:
    """The order of the factors by the variance that they explain.

    With rows it is the R² of each factor alone, as ``lfm.evaluate.variance_explained`` gives it, averaged over the observed
    variables, each with the weight of its columns. Without rows, with labels among the latents, or where all factors
    together explain nothing, it is the effect of each factor on the decoder::

        S_k = E[|f(z) − f(z')|²] / (2 tr Var f(z)),    f(z) = E[x | z], z' as z but for factor k, drawn anew

    It is averaged over the observed variables in the same way. z is drawn from q(z | x) of the rows, or from the prior.

    Args:
        fit: a fit, or a pair (model, guide).
        data: rows as given to ``fit``, for a fit that has none at hand. Of the fitted rows, or else of these, up to 2,000
            that are evenly spaced decide, so that the order of a fit is the same whatever rows a picture shows.

    Source: Argelaguet et al. (2018) for R²; Jansen (1999), "Analysis of variance designs for model output", for S_k.

    >>> import pyro_lfm as lfm
    >>> weight = torch.tensor([[0.1, 2.0], [0.2, 1.0]])
    >>> model = lfm.Model(z=lfm.StandardNormal(2), x=lfm.Gaussian(2, mean=lfm.Linear(weight=lfm.Fixed(weight))))
    >>> done = lfm.fit(model, model.sample(200, seed=0)["x"], lfm.EM(iterations=5), seed=0, progress=False)
    >>> lfm.evaluate.factor_order(done).ranked
    ['z_2', 'z_1']
    """
    done = fitted(fit, data)
    decoder = RowDecoder(done)
    count = len(decoder.names)
    columns = sum(done.model.observed[name].code_shape.numel() for name in decoder.observed)
    most = min(_ROWS, max(_LEAST, _NUMBERS // (columns * max(1, count))))
    rows = sampled_rows(done, data, most) if count else None
    if rows is None:
        shares = _effects(decoder, decoder.prior_draws(_DRAWS), {}) if count else torch.zeros(0)
        return FactorOrder(tuple(decoder.names), shares, ranked_by(shares), False)
    shares, of_rows = _of_rows(decoder, *rows)
    return FactorOrder(tuple(decoder.names), shares, ranked_by(shares), of_rows)


def _of_rows(decoder: RowDecoder, batch: Batch, guide: AnyGuide) -> tuple[Tensor, bool]:
    """R² of each factor alone, (K,), and True; else S_k and False, where posterior means do not serve."""
    fit = decoder.fit
    covariates = {name: batch[name] for name in fit.model.covariates}
    with evaluating(guide), isolated(Stream(0, guide.device), guide.device), torch.no_grad():
        posteriors = marginals(guide, batch, [*decoder.factors]) if not decoder.labels else {}
    means = [posterior.mean.reshape(batch.size, -1) for posterior in posteriors.values()]
    if means and all(bool(mean.isfinite().all()) for mean in means):
        z = torch.cat(means, 1)
        # All factors together, then each alone.
        together, *alone = (_shares(decoder, part, batch, covariates) for part in _settings(z))
        if float(_averaged(decoder, together.unsqueeze(1))) > 0:
            return _averaged(decoder, torch.stack(alone, 1)), True
    return _effects(decoder, drawn_latents(decoder, batch, guide), covariates), False


def _settings(z: Tensor) -> Iterator[Tensor]:
    """The factors (B, K) as they are, and with each as it is and the others at their mean."""
    yield z
    for k in range(z.shape[1]):
        alone = z.mean(0).repeat(len(z), 1)
        alone[:, k] = z[:, k]
        yield alone


def _shares(decoder: RowDecoder, z: Tensor, batch: Batch, covariates: Mapping[str, Tensor]) -> Tensor:
    """R² of the reconstruction from these factors, of each observed variable, (V,)."""
    decoded = decoder.means(decoder.within_support(z), covariates)
    return torch.tensor(
        [_share(columns_of(batch.with_gaps(name), m.shape[1]), m.double()) for name, m in decoded.items()]
    )


def _share(x: Tensor, fitted: Tensor) -> float:
    """1 − Σ (x − x̂)² / Σ (x − x̄)² over observed entries, x̂ shifted to the mean of each column."""
    left, whole = x - fitted, x
    sums = [(part - part.nanmean(0)).square().nansum() for part in (left, whole)]
    return float(1 - sums[0] / sums[1])


def _effects(decoder: RowDecoder, drawn: Mapping[str, Tensor], covariates: Mapping[str, Tensor]) -> Tensor:
    """S_k of each factor, (K,), at draws of all latents of a row."""
    z = torch.cat([drawn[name].reshape(len(drawn[name]), -1) for name in decoder.factors], 1)
    labels = {name: drawn[name] for name in decoder.labels}
    start = decoder.means(z, covariates, labels)
    shares = []
    for k in range(z.shape[1]):
        moved = z.clone()
        moved[:, k] = z[:, k].roll(1)
        other = decoder.means(decoder.within_support(moved), covariates, labels)
        shares.append([_effect(mean.double(), other[name].double()) for name, mean in start.items()])
    return _averaged(decoder, torch.tensor(shares).T)


def _effect(mean: Tensor, other: Tensor) -> float:
    return float((other - mean).square().mean(0).sum() / (2 * mean.var(0, unbiased=False).sum()))


def _averaged(decoder: RowDecoder, shares: Tensor) -> Tensor:
    """The mean of shares (V, K) over observed variables, each with the weight of its columns; one that is constant has 0."""
    sizes = [float(decoder.model.observed[name].shape.numel()) for name in decoder.observed]
    weights = torch.tensor(sizes).to(shares).unsqueeze(1)
    return (weights * shares.nan_to_num()).sum(0) / weights.sum()

"""The one order of the factors of a fit, by the variance that each explains; pictures, tables and the explorer follow it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import torch
from torch import Tensor

from pyro_lfm.errors import DeclarationError
from pyro_lfm.evaluate.decoding.decoded_rows import RowDecoder
from pyro_lfm.evaluate.decoding.variance_shares import variance_explained
from pyro_lfm.evaluate.inputs import Rows
from pyro_lfm.inference.fitted import Fit

# Rows that decide the order, and draws where the effects decide it; the most decoded numbers at once.
_ROWS, _DRAWS, _NUMBERS = 2000, 128, 2**22

# How factors are put in order: by the variance that they explain, as declared, or the names of those wanted.
Order: TypeAlias = Literal["variance", "declared"] | Sequence[str]


@dataclass(frozen=True)
class FactorOrder:
    """The factors of a fit in the order of the variance that they explain.

    Attributes:
        names: of the K factors as declared, z_1, z_2, ...
        shares: of the variance of the rows that each explains, (K,), see ``factor_order``.
        places: the places of the factors in z, (K,), the factor of the largest share first.
    """

    names: tuple[str, ...]
    shares: Tensor
    places: tuple[int, ...]

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


def factor_order(fit: Fit, data: Rows | None = None) -> FactorOrder:
    """The order of the factors by the variance that they explain.

    With rows it is the R² of each factor alone, as ``lfm.evaluate.variance_explained`` gives it, averaged over the observed
    variables, each with the weight of its columns. Without rows, or where latents have labels or a likelihood no mean in
    closed form, it is the effect of each factor on the decoder,

        S_k = E[(f(z) − f(z'))²] / (2 Var f(z)),    f(z) = E[x | z], z' as z but for factor k, drawn anew,

    averaged in the same way, with z drawn from q(z | x) of the rows, or from the prior.

    Args:
        fit: a fit with factors.
        data: rows as given to ``fit``. By default up to 2,000 of the fitted rows.

    Source: Argelaguet et al. (2018) for R²; Jansen (1999) for S_k, the total effect.

    >>> from pyro_lfm import EM, Fixed, Gaussian, Linear, Model, StandardNormal, fit
    >>> weight = torch.tensor([[0.1, 2.0], [0.2, 1.0]])
    >>> model = Model(z=StandardNormal(2), x=Gaussian(2, mean=Linear(weight=Fixed(weight))))
    >>> done = fit(model, model.sample(200, seed=0)["x"], EM(iterations=5), seed=0, progress=False)
    >>> factor_order(done).ranked
    ['z_2', 'z_1']
    """
    decoder = RowDecoder(fit)
    rows = data if data is not None else fit.some_rows(_ROWS) or None
    shares = None
    if rows is not None and decoder.names and not decoder.labels:
        try:
            shares = _explained(fit, rows)
        except DeclarationError:  # a likelihood without a mean in closed form
            shares = None
    if shares is None:
        shares = _effects(decoder, rows)
    return FactorOrder(tuple(decoder.names), shares, ranked_by(shares))


def _explained(fit: Fit, rows: Rows) -> Tensor:
    result = variance_explained(fit, rows)
    shares = torch.stack([alone[0] for alone in result.alone.values()])
    return _averaged(fit, [*result.alone], shares)


def _averaged(fit: Fit, names: Sequence[str], shares: Tensor) -> Tensor:
    """The mean of shares (V, K) over variables, each with the weight of its columns; NaN in none counts as 0."""
    weights = torch.tensor([float(fit.model.observed[name].shape.numel()) for name in names]).to(shares)
    return (weights.unsqueeze(1) * shares.nan_to_num()).sum(0) / weights.sum()


def _effects(decoder: RowDecoder, rows: Rows | None) -> Tensor:
    """S_k of each factor, (K,)."""
    fit, count = decoder.fit, len(decoder.names)
    if not count:
        return torch.zeros(0)
    if rows is None:
        drawn = fit.model.sample(_DRAWS, seed=0)
        values = {name: drawn[name] for name in (*decoder.factors, *decoder.labels)}
    else:
        posterior = fit.sample_posterior(rows, draws=1, seed=0)
        values = {name: posterior[name][0] for name in (*decoder.factors, *decoder.labels)}
        keep = torch.arange(min(_DRAWS, len(next(iter(values.values())))))
        keep = keep * len(next(iter(values.values()))) // len(keep)
        values = {name: value[keep.to(value.device)] for name, value in values.items()}
    z = torch.cat([values[name].reshape(len(values[name]), -1) for name in decoder.factors], 1)
    labels = {name: values[name] for name in decoder.labels}
    start = decoder.means(z, None, labels)
    shares = []
    for k in range(count):
        moved = z.clone()
        moved[:, k] = z[:, k].roll(1)
        shares.append(_effect(start, decoder.means(decoder.within_support(moved), None, labels)))
    return _averaged(fit, [*start], torch.stack(shares, 1))


def _effect(start: dict[str, Tensor], moved: dict[str, Tensor]) -> Tensor:
    """S_k of one factor for each variable, (V,)."""
    shares = []
    for name, mean in start.items():
        whole = mean.double().var(0, unbiased=False).sum()
        shares.append((moved[name].double() - mean.double()).square().mean(0).sum() / (2 * whole))
    return torch.stack(shares)

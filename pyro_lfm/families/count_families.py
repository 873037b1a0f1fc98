"""Families of unbounded counts, with and without extra zeros.

A count is proportional to its exposure, such as the observed area or time, or the library size. The latents explain the
rate per unit of exposure. ``exposure="library"`` names the ``Covariate`` that holds the exposure.
"""

from __future__ import annotations

from collections.abc import Sequence

import pyro.distributions as dist
import torch
from pyro.distributions import TorchDistribution
from torch import Tensor
from torch.distributions import Distribution

from pyro_lfm.distributions import count_distributions as counts
from pyro_lfm.distributions.supports import Above
from pyro_lfm.distributions.zero_inflated import ZeroInflated
from pyro_lfm.factors import Factor
from pyro_lfm.families.other_parametrizations import OF_ODDS
from pyro_lfm.sources.source import SourceLike

# Softplus of a very negative number is zero in floating point, where ln Γ is infinite.
_AWAY_FROM_ZERO = Above(1e-4)


def _with_exposure(sources: dict[str, SourceLike], exposure: SourceLike) -> dict[str, SourceLike]:
    return sources if exposure is None else {**sources, "exposure": exposure}


def _poisson(rate: Tensor, exposure: Tensor | None) -> TorchDistribution:
    rate = rate if exposure is None else rate * exposure
    # Softplus of a very negative number is exactly zero in floating point, where log_prob would be NaN.
    return counts.Poisson(rate.clamp_min(torch.finfo(rate.dtype).tiny), validate_args=False)


def _negative_binomial(total_count: Tensor, logits: Tensor, exposure: Tensor | None) -> TorchDistribution:
    logits = logits if exposure is None else logits + exposure.log()
    return counts.NegativeBinomial(total_count, logits)


class Poisson(Factor):
    """x_d | parents ~ Poisson(rate_d · exposure), independent counts. Softplus maps the output of a network to a rate.

    Args:
        event: size D, or a shape.
        rate: source of the rates, per unit of exposure.
        exposure: the name of a positive parent, usually a ``Covariate``, or a source of its own. It is 1 by default.
        given, network: see ``Factor``.

    Use it for counts whose variance, given z, is close to their mean. An exposure holds the time or the size of each row.

    Limits: variance and mean are equal. Counts with more variance need ``NegativeBinomial``.

    Source: McCullagh and Nelder (1989), "Generalized linear models", chapter 6.

    >>> import pyro_lfm as lfm
    >>> lfm.Poisson(2, rate=lfm.Fixed(3.0), exposure=lfm.Fixed(2.0)).build("x", [])().mean
    tensor([6., 6.])
    """

    constraints = {
        "rate": dist.constraints.softplus_positive,
        "exposure": dist.constraints.softplus_positive,
    }

    def __init__(
        self,
        event: int | Sequence[int] | None = None,
        rate: SourceLike = None,
        *,
        exposure: SourceLike = None,
        given: str | Sequence[str] | None = None,
        network: SourceLike = None,
    ):
        super().__init__(event, _with_exposure({"rate": rate}, exposure), given=given, network=network)

    def distribution(self, rate: Tensor, exposure: Tensor | None = None) -> Distribution:
        return _poisson(rate, exposure).to_event(len(self.shape))


class NegativeBinomial(Factor):
    """x_d | parents ~ NegativeBinomial(r_d, logits_d), overdispersed counts.

    The mean is μ = r exp(logits) · exposure and the variance μ + μ² / r. r, Pyro's ``total_count``, need not be an integer,
    and 1 / r is the overdispersion. A Poisson whose rate has a Gamma distribution of shape r has this distribution.

    Args:
        event: size D, or a shape.
        total_count: source of r > 0, one learned for each column by default.
        logits: source of the logits ln(μ / r) per unit of exposure.
        exposure: the name of a positive parent, usually a ``Covariate``, or a source of its own. It is 1 by default.
        given, network: see ``Factor``.

    Use it for counts that vary more than a Poisson, such as reads of genes.

    Limits: where counts are not overdispersed, r grows without bound towards the Poisson.

    Source: Hilbe (2011), "Negative Binomial Regression", the form NB2.

    >>> import pyro_lfm as lfm
    >>> distribution = lfm.NegativeBinomial(2, total_count=lfm.Fixed(4.0), logits=lfm.Fixed(0.0)).build("x", [])()
    >>> distribution.mean, distribution.variance
    (tensor([4.0000, 4.0000]), tensor([8.0000, 8.0000]))
    """

    instead = OF_ODDS

    constraints = {"total_count": _AWAY_FROM_ZERO, "exposure": dist.constraints.softplus_positive}

    def __init__(
        self,
        event: int | Sequence[int] | None = None,
        total_count: SourceLike = None,
        logits: SourceLike = None,
        *,
        exposure: SourceLike = None,
        given: str | Sequence[str] | None = None,
        network: SourceLike = None,
    ):
        sources = _with_exposure({"total_count": total_count, "logits": logits}, exposure)
        super().__init__(event, sources, given=given, network=network)

    def distribution(
        self, total_count: Tensor, logits: Tensor, exposure: Tensor | None = None
    ) -> Distribution:
        return _negative_binomial(total_count, logits, exposure).to_event(len(self.shape))


class ZeroInflatedPoisson(Factor):
    """x_d | parents: 0 with probability sigmoid(gate_logits_d), else ~ Poisson(rate_d · exposure).

    Args:
        event, rate, exposure: as of ``Poisson``.
        gate_logits: source of the logits of the extra zeros.
        given, network: see ``Factor``.

    Use it for counts with more zeros than their mean explains, such as visits of which some are not possible.

    Limits: gate and rate both explain a zero. Few counts do not tell them apart.

    Source: Lambert (1992), "Zero-inflated Poisson regression".

    >>> import pyro_lfm as lfm
    >>> lfm.ZeroInflatedPoisson(2, rate=lfm.Fixed(3.0), gate_logits=lfm.Fixed(0.0)).build("x", [])().mean
    tensor([1.5000, 1.5000])
    """

    constraints = Poisson.constraints

    def __init__(
        self,
        event: int | Sequence[int] | None = None,
        rate: SourceLike = None,
        gate_logits: SourceLike = None,
        *,
        exposure: SourceLike = None,
        given: str | Sequence[str] | None = None,
        network: SourceLike = None,
    ):
        sources = _with_exposure({"rate": rate, "gate_logits": gate_logits}, exposure)
        super().__init__(event, sources, given=given, network=network)

    def distribution(self, rate: Tensor, gate_logits: Tensor, exposure: Tensor | None = None) -> Distribution:
        return ZeroInflated(_poisson(rate, exposure), gate_logits).to_event(len(self.shape))


class ZeroInflatedNegativeBinomial(Factor):
    """x_d | parents: 0 with probability sigmoid(gate_logits_d), else ~ NegativeBinomial(r_d, logits_d), with exposure.

    Args:
        event, total_count, logits, exposure: as of ``NegativeBinomial``.
        gate_logits: source of the logits of the extra zeros.
        given, network: see ``Factor``.

    Use it for overdispersed counts with a further source of zeros, such as genes that a technique misses.

    Limits: a small r also gives many zeros. Compare it with ``NegativeBinomial`` on held-out rows first.

    Source: Lopez et al. (2018), "Deep generative modeling for single-cell transcriptomics".

    >>> import pyro_lfm as lfm
    >>> cells = lfm.ZeroInflatedNegativeBinomial(
    ...     2, total_count=lfm.Fixed(4.0), logits=lfm.Fixed(0.0), gate_logits=lfm.Fixed(0.0)
    ... )
    >>> cells.build("x", [])().mean
    tensor([2.0000, 2.0000])
    """

    instead = OF_ODDS

    constraints = NegativeBinomial.constraints

    def __init__(
        self,
        event: int | Sequence[int] | None = None,
        total_count: SourceLike = None,
        logits: SourceLike = None,
        gate_logits: SourceLike = None,
        *,
        exposure: SourceLike = None,
        given: str | Sequence[str] | None = None,
        network: SourceLike = None,
    ):
        sources = {"total_count": total_count, "logits": logits, "gate_logits": gate_logits}
        super().__init__(event, _with_exposure(sources, exposure), given=given, network=network)

    def distribution(
        self,
        total_count: Tensor,
        logits: Tensor,
        gate_logits: Tensor,
        exposure: Tensor | None = None,
    ) -> Distribution:
        distribution = ZeroInflated(_negative_binomial(total_count, logits, exposure), gate_logits)
        return distribution.to_event(len(self.shape))

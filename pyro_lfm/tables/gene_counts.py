"""The family of the counts of many genes in a cell, for ``lfm.tables.anndata``."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from numpy.typing import ArrayLike
from torch.distributions import Distribution, constraints

from pyro_lfm.distributions import count_distributions as counts
from pyro_lfm.families import NegativeBinomial
from pyro_lfm.sources.source import SourceLike


class GeneCounts(NegativeBinomial):
    """Negative binomial counts whose means are shares of the library size of their cell.

    x_d ~ NB(mean l ρ_d, r_d) with ρ = softmax(ln b + f(z, s)): l is the library size, b the background, the share of each
    gene in all cells, and f, the parameter ``logits``, a network of the latents z and the covariates s. The shares ρ are the
    normalised expression, and sum to 1. Without an exposure the means are b exp(f), and do not depend on a library size.
    The variance is μ + μ² / r_d, with one r_d learned for each gene on a log scale.

    Args:
        event: the number of genes D.
        background: the share, or without an exposure the mean, of each gene in all cells, (D,), above 0.
        total_count: source of r > 0, one learned for each gene by default.
        logits: source of f.
        exposure: the name of the ``Covariate`` with the library size.
        given: the parents that networks read.

    Source: Lopez, Regier, Cole, Jordan and Yosef (2018), "Deep generative modeling for single-cell transcriptomics".
    """

    constraints = {**NegativeBinomial.constraints, "total_count": constraints.positive}
    log_background: torch.Tensor
    not_identity = ("_written", "converter")

    def __init__(
        self,
        event: int,
        background: ArrayLike | torch.Tensor,
        total_count: SourceLike = None,
        logits: SourceLike = None,
        *,
        exposure: SourceLike = None,
        given: str | Sequence[str] | None = None,
    ):
        super().__init__(event, total_count=total_count, logits=logits, exposure=exposure, given=given)
        shares = torch.as_tensor(background, dtype=torch.get_default_dtype())
        self.register_buffer("log_background", shares.log())

    def distribution(
        self, total_count: torch.Tensor, logits: torch.Tensor, exposure: torch.Tensor | None = None
    ) -> Distribution:
        log_mean = logits + self.log_background
        if exposure is not None:
            log_mean = log_mean.log_softmax(-1) + exposure.log()
        # exp of a learned number may underflow to zero or overflow.
        return counts.NegativeBinomial(total_count.clamp(1e-4, 1e30), log_mean=log_mean).to_event(1)

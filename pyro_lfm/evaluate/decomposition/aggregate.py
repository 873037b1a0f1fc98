"""The aggregate posterior q(z) = 1/N Σₘ q(z | xₘ) at draws of it: log q(z | xₘ) of every draw under every row."""

from __future__ import annotations

import math

import torch
from pyro import poutine
from torch import Tensor
from torch.distributions import Distribution, Independent, MultivariateNormal, Normal

from pyro_lfm.distributions.kl import gaussian_moments
from pyro_lfm.distributions.pairwise_density import pairwise_log_prob
from pyro_lfm.errors import DeclarationError
from pyro_lfm.guides import AnyGuide
from pyro_lfm.inference.blocks import NUMBERS, Block, Blocks
from pyro_lfm.objectives.handlers import AtValues
from pyro_lfm.objectives.trace_sites import latent_sites

# The most pairs of a draw and a row in one run of the guide.
_PAIRS = 2**14


class Aggregate:
    """log q(z | xₘ) over all rows m, block by block. To be used within ``blocks.running()``.

    If the distributions of all latents depend on the rows only, they are computed once for each block. Otherwise, as where
    one latent depends on another, the guide is run on every pair of a draw and a row.

    Args:
        blocks: the rows.
        guide: a guide that serves these rows.
        latents: the names of the latents.
    """

    def __init__(self, blocks: Blocks, guide: AnyGuide, latents: list[str]):
        self.blocks, self.guide, self.latents = blocks, guide, latents
        self.rows = blocks.count
        self.distributions: list[dict[str, Distribution]] = []
        for block in blocks:
            sites = latent_sites(poutine.trace(guide).get_trace(blocks.setup.batch(*block)))
            if any("auxiliary" in site for site in sites.values()):
                raise DeclarationError(
                    "lfm.evaluate.decompose needs q(z | x) of each row; the guide draws auxiliary variables, and only their "
                    "joint density with z is known"
                )
            if inner := [n for n in latents if len(sites[n]["cond_indep_stack"]) > 1]:
                raise DeclarationError(
                    f"lfm.evaluate.decompose needs one distribution of each latent for a row: {', '.join(inner)} stands "
                    "in a plate inside the plate over rows; declare its entries as one event, by .to_event"
                )
            self.distributions.append({name: _double(sites[name]["fn"]) for name in latents})
        self.apart = all(_depends_on_rows_only(guide, name, latents) for name in latents)

    def log_density(self, values: dict[str, Tensor], own: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Three log densities at points, draws for some row each, with one value (P, *event) of each latent.

        Args:
            own: the row that each point was drawn for, (P,).

        Returns:
            log q(z | x of the own row), log q(z), and log q(z) without the own row, (P,) each, in double precision. The last
            is −∞ for a single row.
        """
        whole = torch.full(own.shape, -torch.inf, dtype=torch.float64, device=own.device)
        others, itself = whole.clone(), whole.clone()
        start = 0
        for distributions, block in zip(self.distributions, self.blocks, strict=True):
            log_q = torch.cat(
                [self._pairs(part, distributions, block) for part in self._parts(values, block)]
            )
            columns = torch.arange(start, start + log_q.shape[1], device=own.device)
            same = columns == own.unsqueeze(-1)
            itself = torch.where(same.any(-1), log_q.masked_fill(~same, -torch.inf).amax(-1), itself)
            whole = torch.logaddexp(whole, log_q.logsumexp(-1))
            others = torch.logaddexp(others, log_q.masked_fill(same, -torch.inf).logsumexp(-1))
            start += log_q.shape[1]
        return itself, whole - math.log(self.rows), others - math.log(max(1, self.rows - 1))

    def _parts(self, values: dict[str, Tensor], block: Block) -> list[dict[str, Tensor]]:
        """The points in parts, each with few enough pairs with the rows of a block."""
        points, rows = len(next(iter(values.values()))), len(block[1])
        most = max(1, (NUMBERS // self.blocks.width if self.apart else _PAIRS) // rows)
        return [{n: v[i : i + most] for n, v in values.items()} for i in range(0, points, most)]

    def _pairs(
        self, values: dict[str, Tensor], distributions: dict[str, Distribution], block: Block
    ) -> Tensor:
        """log q of each point under each row of a block, (P, B)."""
        if self.apart:
            return torch.stack(
                [_under_each(distributions[name], value) for name, value in values.items()]
            ).sum(0)
        rows, index = block
        points, count = len(next(iter(values.values()))), len(index)
        repeated = {name: value.repeat(points, *(1,) * (value.dim() - 1)) for name, value in rows.items()}
        batch = self.blocks.setup.batch(repeated, index.repeat(points))
        given = {name: value.repeat_interleave(count, 0) for name, value in values.items()}
        with AtValues(given):
            sites = latent_sites(poutine.trace(self.guide).get_trace(batch))
        terms = [sites[name]["fn"].log_prob(sites[name]["value"]).double() for name in self.latents]
        return torch.stack(terms).sum(0).reshape(points, count)


def _depends_on_rows_only(guide: AnyGuide, name: str, latents: list[str]) -> bool:
    parents = guide.latent_parents(name)
    # The parents in a program are not known: only a single latent surely depends on no other.
    return len(latents) == 1 if parents is None else not parents & set(latents)


def _double(distribution: Distribution) -> Distribution:
    """A Gaussian over flat vectors in double precision, for differences of large numbers. Others stay as they are."""
    moments = gaussian_moments(distribution)
    if moments is None:
        return distribution
    loc = moments.loc.double()
    if moments.tril is not None:
        return MultivariateNormal(loc, scale_tril=moments.tril.double(), validate_args=False)
    return Independent(Normal(loc, moments.scale.double(), validate_args=False), 1)  # type: ignore[union-attr]


def _under_each(distribution: Distribution, value: Tensor) -> Tensor:
    """log q of points (P, *event) under each of B distributions, (P, B)."""
    if gaussian_moments(distribution) is not None:
        return pairwise_log_prob(distribution, value.reshape(len(value), -1).double())
    points, rows = len(value), distribution.batch_shape[-1]
    return distribution.log_prob(value.unsqueeze(1).expand(points, rows, *distribution.event_shape)).double()

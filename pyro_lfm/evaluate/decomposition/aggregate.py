"""The aggregate posterior q(z) = 1/N Σₘ q(z | xₘ) at draws of it: log q(z | xₘ) of every draw under every row."""

from __future__ import annotations

import math
from typing import Any

import torch
from pyro import poutine
from torch import Tensor
from torch.distributions import Independent, MultivariateNormal, Normal

from pyro_lfm.distributions.kl import gaussian_moments
from pyro_lfm.distributions.pairwise_density import pairwise_log_prob
from pyro_lfm.errors import DeclarationError
from pyro_lfm.guides import AnyGuide
from pyro_lfm.inference.blocks import NUMBERS, Block, Blocks
from pyro_lfm.objectives.handlers import AtValues
from pyro_lfm.objectives.sites import latent_sites

# Rows of a guide that is run on every pair of a draw and a row.
_PAIRS = 2**14


class Aggregate:
    """log q(z | xₘ) over all rows m, block by block; to be used within ``blocks.running()``.

    Where the distribution of every latent reads the rows alone, each block of distributions is made once. Else, as where one latent is
    drawn knowing another, the guide is run on every pair of a draw and a row.

    Args:
        blocks: the rows.
        guide: serves them as it is.
        latents: the names of the latents.
    """

    def __init__(self, blocks: Blocks, guide: AnyGuide, latents: list[str]):
        self.blocks, self.guide, self.latents = blocks, guide, latents
        self.rows = len(blocks.index)
        self.distributions: list[dict[str, Any]] = []
        for block in blocks:
            sites = latent_sites(poutine.trace(guide).get_trace(blocks.setup.batch(*block)))
            if any("auxiliary" in site for site in sites.values()):
                raise DeclarationError(
                    "lfm.evaluate.decompose needs q(z | x) of each row; the guide draws auxiliary variables, of which only "
                    "the joint density is known"
                )
            if inner := [n for n in latents if len(sites[n]["cond_indep_stack"]) > 1]:
                raise DeclarationError(
                    f"lfm.evaluate.decompose needs one distribution for a row of each latent: {', '.join(inner)} stands in a plate "
                    "within that over rows; declare its entries as one event, by .to_event"
                )
            self.distributions.append({name: _double(sites[name]["fn"]) for name in latents})
        self.apart = all(_reads_rows_alone(guide, name, latents) for name in latents)

    def log_density(self, values: dict[str, Tensor], own: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """At points (P, *event) of each latent: log q(z | x of its own row), log q(z), and log q(z) without its own row.

        Args:
            own: of which row each is a draw, (P,).

        Returns:
            (P,) each, in double precision; the last is −∞ for a single row.
        """
        whole = torch.full(own.shape, -torch.inf, dtype=torch.float64, device=own.device)
        others, itself = whole.clone(), whole.clone()
        start = 0
        for distributions, block in zip(self.distributions, self.blocks, strict=True):
            found = torch.cat(
                [self._pairs(part, distributions, block) for part in self._parts(values, block)]
            )
            columns = torch.arange(start, start + found.shape[1], device=own.device)
            same = columns == own.unsqueeze(-1)
            itself = torch.where(same.any(-1), found.masked_fill(~same, -torch.inf).amax(-1), itself)
            whole = torch.logaddexp(whole, found.logsumexp(-1))
            others = torch.logaddexp(others, found.masked_fill(same, -torch.inf).logsumexp(-1))
            start += found.shape[1]
        return itself, whole - math.log(self.rows), others - math.log(max(1, self.rows - 1))

    def _parts(self, values: dict[str, Tensor], block: Block) -> list[dict[str, Tensor]]:
        """The points, so many at a time that their pairs with the rows of a block are few enough."""
        points, rows = len(next(iter(values.values()))), len(block[1])
        most = max(1, (NUMBERS // self.blocks.width if self.apart else _PAIRS) // rows)
        return [{n: v[i : i + most] for n, v in values.items()} for i in range(0, points, most)]

    def _pairs(self, values: dict[str, Tensor], distributions: dict[str, Any], block: Block) -> Tensor:
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
        found = [sites[name]["fn"].log_prob(sites[name]["value"]) for name in self.latents]
        return torch.stack([each.double() for each in found]).sum(0).reshape(points, count)


def _reads_rows_alone(guide: AnyGuide, name: str, latents: list[str]) -> bool:
    parents = guide.latent_parents(name)
    # Of a program all that is known is the order: only a single latent surely reads no other.
    return len(latents) == 1 if parents is None else not parents & set(latents)


def _double(distribution: Any) -> Any:
    """A Gaussian over flat vectors in double precision: what is wanted are differences of large numbers."""
    moments = gaussian_moments(distribution)
    if moments is None:
        return distribution
    loc = moments.loc.double()
    if moments.tril is not None:
        return MultivariateNormal(loc, scale_tril=moments.tril.double(), validate_args=False)
    return Independent(Normal(loc, moments.scale.double(), validate_args=False), 1)  # type: ignore[union-attr]


def _under_each(distribution: Any, value: Tensor) -> Tensor:
    """log q of points (P, *event) under each of B distributions, (P, B)."""
    if gaussian_moments(distribution) is not None:
        return pairwise_log_prob(distribution, value.reshape(len(value), -1).double())
    points, rows = len(value), distribution.batch_shape[-1]
    return distribution.log_prob(value.unsqueeze(1).expand(points, rows, *distribution.event_shape)).double()

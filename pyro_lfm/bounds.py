"""What one estimate of a bound consists of, and how the terms of a trace add up to it, row by row."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from pyro.distributions.util import scale_and_mask
from pyro.poutine.util import site_is_subsample


@dataclass(frozen=True)
class Bound:
    """One estimate of the bound over a batch, in nats.

    Attributes:
        objective: what is to be maximised, per row: a scalar with gradients (weights and free bits included).
        reconstruction: E_q[log p(x | z)] of each row, (B,).
        kl: KL(q ‖ p) of each row, (B,), for every latent.
        total: the number of rows N that the batch stands for.
    """

    objective: torch.Tensor
    reconstruction: torch.Tensor
    kl: dict[str, torch.Tensor]
    total: int

    @property
    def per_row(self) -> torch.Tensor:
        """The bound of each row, (B,): unweighted, whatever was optimised."""
        return self.reconstruction - torch.stack([*self.kl.values()]).sum(0)


@dataclass(frozen=True)
class Rows:
    """The plate over rows as a trace shows it, and how many draws lie outside it."""

    size: int
    total: int
    nesting: int
    particles: int

    def reduce(self, value: torch.Tensor, site: dict[str, Any]) -> torch.Tensor:
        """A site's term as (draws, rows or 1): its mean over rows is the site's part of the bound per row."""
        value = scale_and_mask(value, site["scale"], site["mask"])
        inside = any(frame.name == "rows" for frame in site["cond_indep_stack"])
        # Draws lie left of every plate, so a term with fewer dimensions does not vary over draws.
        lead = value.dim() - self.nesting if self.particles > 1 else 0
        draws = self.particles if lead > 0 and value.shape[0] > 1 else 1
        if inside:
            return value.reshape(draws, -1, value.shape[-1]).sum(1) * (self.size / self.total)
        return value.reshape(draws, -1).sum(1, keepdim=True) / self.total


def latent_sites(trace: Any) -> dict[str, dict[str, Any]]:
    return {
        name: site
        for name, site in trace.nodes.items()
        if site["type"] == "sample"
        and not site["is_observed"]
        and not site_is_subsample(site)
        and not (site.get("infer") or {}).get("is_auxiliary")
    }


def add_up(terms: Iterable[torch.Tensor], rows: Rows) -> torch.Tensor:
    """Terms of shape (draws or 1, rows or 1) added up to (draws, rows)."""
    total: Any = sum(terms)
    return torch.as_tensor(total).expand(rows.particles, rows.size)

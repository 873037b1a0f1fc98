"""What one estimate of a bound consists of, and how the terms of a trace add up to it, row by row."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import torch
from pyro.distributions.util import scale_and_mask
from pyro.poutine.util import site_is_subsample


@dataclass(frozen=True)
class Bound:
    """One estimate of the bound over a batch, in nats.

    Attributes:
        objective: what is to be maximised, per row: a scalar with gradients (weights, free bits and penalties included).
        per_row: the bound of each row, (B,): without weights and penalties, whatever was optimised.
        reconstruction: E_q[log p(x | z)] of each row, (B,).
        kl: KL(q ‖ p) of each row, (B,), for every latent. Of an ELBO, reconstruction − Σ kl is the bound; a bound made
            of importance weights lies above that difference.
        total: the number of rows N that the batch stands for.
        penalties: what was taken off the bound, before its weight, a scalar for each.
    """

    objective: torch.Tensor
    per_row: torch.Tensor
    reconstruction: torch.Tensor
    kl: dict[str, torch.Tensor]
    total: int
    penalties: dict[str, torch.Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class Rows:
    """The plate over rows as a trace shows it, and what lies outside it: draws, and values of summed latents.

    A site's term, and their sum, has shape (values or 1, draws or 1, rows or 1).

    Attributes:
        size, total: rows in the batch and in the data.
        nesting: dimensions of the plates.
        particles: draws.
        values: how many values each summed latent has; its dimensions stand left of the draws'.
        log_weights: log q of each joint value, (values or 1, draws or 1, rows or 1); None where nothing is summed out.
    """

    size: int
    total: int
    nesting: int
    particles: int
    values: tuple[int, ...] = ()
    log_weights: torch.Tensor | None = None

    @property
    def weights(self) -> torch.Tensor | None:
        """q of each joint value."""
        return None if self.log_weights is None else self.log_weights.exp()

    def reduce(self, value: torch.Tensor, site: dict[str, Any]) -> torch.Tensor:
        """A site's term: its mean over rows is the site's part of the bound per row."""
        return self.scaled(scale_and_mask(value, mask=site["mask"]), site)

    def scaled(self, value: torch.Tensor, site: dict[str, Any]) -> torch.Tensor:
        """The same of a value that is masked already."""
        share = self.size / self.total if inside(site) else 1 / self.total
        # In this order numbers cancel before they meet the tensor: N/B · B/N is one.
        return self._laid_out(value * (site["scale"] * share), site)

    def plain(self, value: torch.Tensor, site: dict[str, Any]) -> torch.Tensor:
        """A site's log q of the batch as it is, without the scale by which the batch stands for all rows."""
        return self._laid_out(value, site)

    def _laid_out(self, value: torch.Tensor, site: dict[str, Any]) -> torch.Tensor:
        summed = len(self.values)
        value = value.reshape((1,) * (summed + 1 + self.nesting - value.dim()) + value.shape)
        if any(size > 1 for size in value.shape[:summed]):
            value = value.expand(*self.values, *value.shape[summed:])
        # Of the dimensions of plates only that of the rows is kept.
        lead, draws, rows = value.shape[:summed].numel(), value.shape[summed], value.shape[-1]
        if inside(site):
            return value.reshape(lead, draws, -1, rows).sum(2)
        return value.reshape(lead, draws, -1).sum(2, keepdim=True)

    def add_up(self, terms: Iterable[torch.Tensor]) -> torch.Tensor:
        """Terms added up to (values or 1, draws, rows)."""
        total = torch.as_tensor(sum(terms))
        lead = total.shape[0] if total.dim() else 1
        return total.expand(lead, self.particles, self.size)

    def expect(self, term: torch.Tensor) -> torch.Tensor:
        """Σ_c q(c) term(c): (values or 1, draws, rows) to (draws, rows)."""
        weights = self.weights
        if weights is None:
            return term.squeeze(0)
        # What q gives no mass counts for nothing, were its term infinite.
        return (weights * term.where(weights > 0, term.new_zeros(()))).sum(0)


def inside(site: dict[str, Any]) -> bool:
    """Whether a site stands inside the plate over rows."""
    return any(frame.name == "rows" for frame in site["cond_indep_stack"])


def latent_sites(trace: Any) -> dict[str, dict[str, Any]]:
    """The latents' sites by name.

    Pyro's automatic guides draw auxiliary sites, of which latents are functions with a log_density: the site of the
    latent that follows them holds them under "auxiliary", since log q is the sum of all.
    """
    found: dict[str, dict[str, Any]] = {}
    waiting: list[dict[str, Any]] = []
    for name, site in trace.nodes.items():
        if site["type"] != "sample" or site["is_observed"] or site_is_subsample(site):
            continue
        if (site.get("infer") or {}).get("is_auxiliary"):
            waiting.append(site)
            continue
        found[name] = {**site, "auxiliary": waiting} if waiting else site
        waiting = []
    return found


def obstacle(model: Any, guide: Any, name: str, q_order: list[str], p_order: list[str]) -> str | None:
    """Why integrating a latent in closed form would be wrong, if it would.

    E_q[log q(zᵢ | ·) − log p(zᵢ | ·)] may be integrated over zᵢ alone only when nothing that p(zᵢ | ·) reads was
    drawn knowing zᵢ. Where a program does not declare its wiring, the order of its statements is all that is known.
    """
    parents = getattr(model, "latent_parents", lambda _: None)(name)
    later = getattr(guide, "latent_descendants", lambda _: None)(name)
    if parents is None:
        parents = set(p_order[: p_order.index(name)])
    if later is None:
        later = set(q_order[q_order.index(name) + 1 :])
    both = parents & later
    if not both:
        return None
    return f"its prior may read {', '.join(sorted(both))}, which the guide may draw knowing {name}"

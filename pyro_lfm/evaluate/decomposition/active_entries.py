"""The entries of one latent: the nats of each, and which of them are active."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.distributions import Distribution

from pyro_lfm.evaluate.decoding.names_of_factors import entry_names, in_order
from pyro_lfm.evaluate.decomposition.mean_with_errors import Term
from pyro_lfm.evaluate.figures import or_dash, spread
from pyro_lfm.guides import AnyGuide
from pyro_lfm.guides.posterior import marginals
from pyro_lfm.inference.blocks import Blocks

# Nats below which an entry has collapsed onto the prior. Lines of a report.
_COLLAPSED, _LINES = 0.01, 30


@dataclass(frozen=True, eq=False, repr=False)
class LatentEntries:
    """The K entries of a latent, in flat order.

    Attributes:
        kl: KL(q(zₖ | x) ‖ p(zₖ)) of the marginals, mean over rows, (K,) nats. None where the marginals are not known.
        kl_error: its standard error from the draws, (K,). kl_rows_error: from the rows, the draws included, (K,).
        rest: the KL of the latent minus the sum of ``kl``. It comes from entries that depend on each other under q or p. It
            is 0 where none do, and not negative where those of p are independent.
        variance, variance_error: of E_q[zₖ | x] over the rows, (K,), and its standard error from the rows. None for
            labels, NaN for one row.
        active: variance > threshold, (K,). None for labels, and for one row.
        threshold: the variance above which an entry is active.
        how: how the KL is computed, as text.
    """

    kl: Tensor | None
    kl_error: Tensor | None
    kl_rows_error: Tensor | None
    rest: float | None
    variance: Tensor | None
    variance_error: Tensor | None
    active: Tensor | None
    threshold: float
    how: str

    @classmethod
    def of(
        cls, entries: Term | None, apart: bool, whole: Term, means: Tensor | None, threshold: float, how: str
    ) -> LatentEntries:
        """The entries from their KL for each row, (N, K), and from E_q[z | x], (N, K).

        Args:
            apart: whether the KLs of the entries add up to ``whole``, the KL of the latent.
        """
        kl = error = rows = rest = variance = around = active = None
        if entries is not None:
            count = len(entries.per_row)
            kl = entries.per_row.mean(0)
            error = entries.standard_error.square().sum(0).sqrt() / count
            rows = spread(entries.per_row) / count**0.5
            rest = 0.0 if apart else whole.mean - float(kl.sum())
        if means is not None:
            off = means - means.mean(0)
            variance = spread(means).square()
            around = ((off**4).mean(0) - (off**2).mean(0) ** 2).clamp_min(0).sqrt() / len(means) ** 0.5
            around = around.where(~variance.isnan(), variance)
            active = variance > threshold if len(means) > 1 else None
        return cls(kl, error, rows, rest, variance, around, active, threshold, how)

    def collapsed(self, kl: float) -> bool:
        """Whether the latent, or every entry of it, has collapsed; ``kl`` is that of the whole latent."""
        return kl < _COLLAPSED or (
            self.kl is not None and not self.rest and bool((self.kl < _COLLAPSED).all())
        )

    def verdict(self, name: str, kl: float) -> str:
        """Which entries are active and which have collapsed, in a sentence; ``kl`` is that of the whole latent."""
        if self.active is None:
            return (
                f"{name} carries {kl:.3g} nats."
                if kl >= _COLLAPSED
                else f"{name} has collapsed onto its prior."
            )
        count, active = len(self.active), int(self.active.sum())
        if count == 1:
            summary = f"{name} is {'active' if active else 'not active'}"
        else:
            summary = f"{active} of {count} entries of {name} {'is' if active == 1 else 'are'} active"
        if self.kl is None:
            return f"{summary}."
        collapsed = int((self.kl < _COLLAPSED).sum())
        if collapsed == count:
            return f"{summary}; {name} carries under {_COLLAPSED} nats an entry: it has collapsed onto its prior."
        if collapsed:
            carry = "carries" if collapsed == 1 else "carry"
            return f"{summary}; {collapsed} {carry} under {_COLLAPSED} nats: collapsed onto the prior."
        costly = int((self.kl[~self.active] >= _COLLAPSED).sum())
        if costly:
            which = "the rest" if costly == count - active else f"{costly} of the rest"
            return f"{summary}; {which} cost{'s' * (costly == 1)} nats, with means that hardly differ from row to row."
        return f"{summary}; none has collapsed."

    def names(self, name: str) -> list[str]:
        """The names of its entries, as in every picture and table: z_1, z_2, ..., or z where there is one."""
        known = [column for column in (self.kl, self.variance) if column is not None]
        count = len(known[0]) if known else 0
        return entry_names(name, count)

    def report(self, name: str, order: Sequence[str]) -> list[str]:
        """The lines of a table.

        Args:
            order: names of entries, in the order of the lines; entries without a place among them come last.
        """
        lines = [f"  {name}: KL {self.how}"]
        count = len(self.kl if self.kl is not None else self.variance if self.variance is not None else [])
        if not count:
            return lines
        blank = torch.full((count,), torch.nan)
        columns = [
            blank if column is None else column
            for column in (self.kl, self.kl_error, self.variance, self.variance_error)
        ]
        names = self.names(name)
        wide = max(7, len(names[-1]))
        lines.append(f"  {'entry':>{wide}} {'KL':>9} {'':>9} {'Var E[z|x]':>11} {'':>9}")
        for k in in_order(names, order)[:_LINES]:
            kl, kl_error, variance, variance_error = (float(column[k]) for column in columns)
            mark = "active" if self.active is not None and bool(self.active[k]) else ""
            numbers = f"{or_dash(kl, '>9.4f')} ±{or_dash(kl_error, '>8.4f')} {or_dash(variance, '>11.4f')} "
            numbers += f"±{or_dash(variance_error, '>8.4f')}"
            lines.append(f"  {names[k]:>{wide}} {numbers}  {mark}".rstrip())
        if count > _LINES:
            lines.append(f"  ... {count - _LINES} more")
        if self.rest:
            lines.append(f"  {'rest':>{wide}} {self.rest:>9.4f}  of their dependence")
        return lines


def means_of(blocks: Blocks, guide: AnyGuide, latents: list[str]) -> dict[str, Tensor | None]:
    """E_q[z | x] of each latent, (N, K) in double precision. None for labels, which have no mean."""
    means: dict[str, list[Tensor | None]] = {name: [] for name in latents}
    for block in blocks:
        distributions = marginals(guide, blocks.setup.batch(*block), latents)
        for name, distribution in distributions.items():
            means[name].append(_mean(distribution))
    known = {n: [part for part in parts if part is not None] for n, parts in means.items()}
    return {n: torch.cat(parts) if parts else None for n, parts in known.items()}


def _mean(distribution: Distribution) -> Tensor | None:
    base = distribution
    while isinstance(base, torch.distributions.Independent):
        base = base.base_dist
    if isinstance(base, torch.distributions.Categorical):
        return None
    mean = distribution.mean.double()
    return mean.reshape(len(mean), -1)

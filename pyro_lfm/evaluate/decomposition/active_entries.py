"""The entries of one latent: the nats of each, and which of them say anything of the rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from pyro_lfm.evaluate.decomposition.mean_with_errors import Term
from pyro_lfm.evaluate.figures import spread, written
from pyro_lfm.guides import AnyGuide
from pyro_lfm.guides.posterior import marginals
from pyro_lfm.inference.blocks import Blocks

# Nats below which an entry has collapsed onto the prior; lines of a report.
_NOTHING, _LINES = 0.01, 30


@dataclass(frozen=True, eq=False, repr=False)
class Units:
    """The K entries of a latent, in flat order.

    Attributes:
        kl: KL(q(zₖ | x) ‖ p(zₖ)) of the marginals, mean over rows, (K,) nats; None where these are not known.
        kl_error: its standard error from the draws; kl_rows_error: from the rows, the draws included, (K,).
        rest: what the KL of the latent is more than their sum, as entries depend on each other under q or p; not negative
            where those of p are independent; 0 where all are.
        variance: of E_q[zₖ | x] over the rows, (K,), and its standard error from the rows; None of labels, NaN of one
            row.
        active: variance > threshold, (K,); None of labels, and of one row.
        threshold: the variance above which an entry is active.
        how: how the KL is computed, in words.
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
    ) -> Units:
        """Args: entries: the KL of each row and entry, (N, K); apart: whether they add up. means: E_q[z | x], (N, K)."""
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
        """Whether no entry says anything; kl: of the whole latent."""
        return kl < _NOTHING or (self.kl is not None and not self.rest and bool((self.kl < _NOTHING).all()))

    def verdict(self, name: str, kl: float) -> str:
        """Which entries are active and which have collapsed, in a sentence; kl: of the whole latent."""
        if self.active is None:
            return (
                f"{name} carries {kl:.3g} nats."
                if kl >= _NOTHING
                else f"{name} has collapsed onto its prior."
            )
        count, active = len(self.active), int(self.active.sum())
        if count == 1:
            words = f"{name} is {'active' if active else 'not active'}"
        else:
            words = f"{active} of {count} entries of {name} {'is' if active == 1 else 'are'} active"
        if self.kl is None:
            return f"{words}."
        silent = int((self.kl < _NOTHING).sum())
        if silent == count:
            return f"{words}; {name} carries under {_NOTHING} nats an entry: it has collapsed onto its prior."
        if silent:
            carry = "carries" if silent == 1 else "carry"
            return f"{words}; {silent} {carry} under {_NOTHING} nats: collapsed onto the prior."
        loud = int((self.kl[~self.active] >= _NOTHING).sum())
        if loud:
            which = "the rest" if loud == count - active else f"{loud} of the rest"
            return f"{words}; {which} cost{'s' * (loud == 1)} nats, with means that hardly differ from row to row."
        return f"{words}; none has collapsed."

    def report(self, name: str) -> list[str]:
        """Lines of a table, the entry with most nats first."""
        lines = [f"  {name}: KL {self.how}"]
        count = len(self.kl if self.kl is not None else self.variance if self.variance is not None else [])
        if not count:
            return lines
        blank = torch.full((count,), torch.nan)
        columns = [
            blank if column is None else column
            for column in (self.kl, self.kl_error, self.variance, self.variance_error)
        ]
        order = columns[0 if self.kl is not None else 2].argsort(descending=True).tolist()
        names = [f"{name}_{k + 1}" for k in range(count)]  # as in pictures
        wide = max(7, len(names[-1]))
        lines.append(f"  {'entry':>{wide}} {'KL':>9} {'':>9} {'Var E[z|x]':>11} {'':>9}")
        for k in order[:_LINES]:
            kl, kl_error, variance, variance_error = (float(column[k]) for column in columns)
            mark = "active" if self.active is not None and bool(self.active[k]) else ""
            numbers = f"{written(kl, '>9.4f')} ±{written(kl_error, '>8.4f')} {written(variance, '>11.4f')} "
            numbers += f"±{written(variance_error, '>8.4f')}"
            lines.append(f"  {names[k]:>{wide}} {numbers}  {mark}".rstrip())
        if count > _LINES:
            lines.append(f"  ... {count - _LINES} more")
        if self.rest:
            lines.append(f"  {'rest':>{wide}} {self.rest:>9.4f}  of their dependence")
        return lines


def means_of(blocks: Blocks, guide: AnyGuide, latents: list[str]) -> dict[str, Tensor | None]:
    """E_q[z | x] of each latent, (N, K) in double precision; None of labels, which have no mean."""
    found: dict[str, list[Any]] = {name: [] for name in latents}
    for block in blocks:
        distributions = marginals(guide, blocks.setup.batch(*block), latents)
        for name, distribution in distributions.items():
            found[name].append(_mean(distribution))
    return {n: None if parts[0] is None else torch.cat(parts) for n, parts in found.items()}


def _mean(distribution: Any) -> Tensor | None:
    base = distribution
    while isinstance(base, torch.distributions.Independent):
        base = base.base_dist
    if isinstance(base, torch.distributions.Categorical):
        return None
    mean = distribution.mean.double()
    return mean.reshape(len(mean), -1)

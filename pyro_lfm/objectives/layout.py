"""The layout of all terms of a bound, (values, draws, rows), and how they add up to one number per row."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import reduce

import torch
from pyro.distributions.util import scale_and_mask
from pyro.poutine.indep_messenger import CondIndepStackFrame

from pyro_lfm.data.batch import Batch
from pyro_lfm.data.shares import Share
from pyro_lfm.objectives.trace_sites import Site, in_row_plate


def added(terms: Iterable[torch.Tensor]) -> torch.Tensor | float:
    """The sum of terms, which no operation precedes; 0 without a term."""
    each = [*terms]
    return reduce(torch.add, each) if each else 0.0


@dataclass(frozen=True)
class Layout:
    """How the terms of a run are laid out: each has shape (values or 1, draws or 1, rows or 1), and so has their sum.

    Attributes:
        size: the number of rows in the batch.
        total: what the bound is per unit of: the number of rows that the batch stands for, or the sum of their weights.
        nesting: the number of dimensions that the programs' plates take up.
        particles: the number of draws.
        value_counts: the number of values of each latent that is summed out. Their dimensions stand left of the draws.
        row_weights: the weight of each row, (B,), of mean one over all rows; 1 where all count alike. It is in all terms.
        log_weights: log q of each joint value, (values or 1, draws or 1, rows or 1); None if no latent is summed out.
        share: which rows of a larger batch these are, where several processes share it.
    """

    size: int
    total: float
    nesting: int
    particles: int
    value_counts: tuple[int, ...] = ()
    row_weights: torch.Tensor | float = 1.0
    log_weights: torch.Tensor | None = None
    share: Share | None = None

    @classmethod
    def of(
        cls,
        plate: CondIndepStackFrame | None,
        batch: Batch | None,
        nesting: int,
        particles: int,
        value_counts: tuple[int, ...] = (),
    ) -> Layout:
        """The layout of a run.

        Args:
            plate: that over rows. batch: the batch, where a program has one.
        """
        size, total = (1, 1.0) if plate is None else (plate.size, plate.full_size or plate.size)
        share = None if batch is None else batch.share
        if batch is None or batch.weights is None:
            return cls(size, total, nesting, particles, value_counts, share=share)
        weights = batch.weights * (total / batch.total_weight)
        return cls(size, batch.total_weight, nesting, particles, value_counts, weights, share=share)

    def mean(self, term: torch.Tensor, dim: int, keepdim: bool = False) -> torch.Tensor:
        """The mean over a dimension of rows: over all rows of a batch of which these are a share."""
        own = term.mean(dim, keepdim=keepdim)
        return own if self.share is None else self.share.mean(own)

    def centred(self, cost: torch.Tensor, own: bool) -> torch.Tensor:
        """The cost less the mean of the others, (values, draws, rows). That mean does not depend on the draw: no bias.

        Args:
            own: whether the draws are each row's own. A latent that all rows share has other draws, but no other rows.
        """
        if cost.shape[1] > 1 or not own:
            count, mean = cost.shape[1], cost.mean(1, keepdim=True)
        else:
            count = self.size if self.share is None else self.share.size
            mean = self.mean(cost, 2, keepdim=True)
        return cost if count == 1 else (cost - mean) * (count / (count - 1))

    @property
    def weights(self) -> torch.Tensor | None:
        """q of each joint value."""
        return None if self.log_weights is None else self.log_weights.exp()

    def reduce(self, value: torch.Tensor, site: Site) -> torch.Tensor:
        """A site's term: its mean over rows is the site's part of the bound per row."""
        return self.scaled(scale_and_mask(value, mask=site["mask"]), site)

    def scaled(self, value: torch.Tensor, site: Site) -> torch.Tensor:
        """A site's term, of a log density that is masked already."""
        share = self.size / self.total if in_row_plate(site) else 1 / self.total
        # The numbers are multiplied first, so that N/B · B/N is exactly one.
        scale = site["scale"] * share
        plain = isinstance(scale, float) and scale == 1.0
        return self._laid_out(value if plain else value * scale, site)

    def plain(self, value: torch.Tensor, site: Site) -> torch.Tensor:
        """A site's log q of the batch itself, without the scale N / B."""
        return self._laid_out(value, site)

    def _laid_out(self, value: torch.Tensor, site: Site) -> torch.Tensor:
        summed = len(self.value_counts)
        value = value.reshape((1,) * (summed + 1 + self.nesting - value.dim()) + value.shape)
        if any(size > 1 for size in value.shape[:summed]):
            value = value.expand(*self.value_counts, *value.shape[summed:])
        # Of the plates' dimensions only the one over rows is kept.
        lead, draws, rows = value.shape[:summed].numel(), value.shape[summed], value.shape[-1]
        if self.nesting == 1 and (rows == 1 or in_row_plate(site)):
            return value.reshape(lead, draws, rows)
        if in_row_plate(site):
            return value.reshape(lead, draws, -1, rows).sum(2)
        return value.reshape(lead, draws, -1).sum(2, keepdim=True)

    def add_up(self, terms: Iterable[torch.Tensor]) -> torch.Tensor:
        """The sum of terms, (values or 1, draws, rows)."""
        total = torch.as_tensor(added(terms))
        lead = total.shape[0] if total.dim() else 1
        shape = lead, self.particles, self.size
        return total if total.shape == shape else total.expand(shape)

    def expect(self, term: torch.Tensor) -> torch.Tensor:
        """Σ_c q(c) term(c): (values or 1, draws, rows) to (draws, rows)."""
        weights = self.weights
        if weights is None:
            return term.squeeze(0)
        # A value without mass under q counts for nothing, even where its term is infinite.
        return (weights * term.where(weights > 0, term.new_zeros(()))).sum(0)

"""How often the rows of a statement count: scales and masks, of handlers and of the distribution itself."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import reduce
from typing import Any

import torch
from pyro.distributions import MaskedDistribution
from torch import Tensor

from pyro_lfm.distributions.masking import MarginalGaussian, observed_part
from pyro_lfm.errors import DataError, DeclarationError
from pyro_lfm.runtime import mask_of


@dataclass(frozen=True)
class Counting:
    """A statement's distribution without masks, and what its log density is multiplied by.

    Attributes:
        distribution: the distribution.
        scale: of ``poutine.scale`` and of plates that subsample.
        mask: where it counts, broadcastable to the batch shape; None where it counts everywhere.
        entries: where single entries of an event count, broadcastable to batch and event; None where all do.
    """

    distribution: Any
    scale: float | Tensor
    mask: Tensor | None
    entries: Tensor | None

    @classmethod
    def of(cls, site: dict[str, Any]) -> Counting:
        distribution, within = unmasked(site["fn"])
        events = len(distribution.event_shape)
        rows = [_of_rows(mask, events) for mask in within if _is_of_rows(mask, events)]
        entries = [mask for mask in within if not _is_of_rows(mask, events)]
        if site["mask"] is not None and site["mask"] is not True:
            rows.append(torch.as_tensor(site["mask"]))
        return cls(distribution, site["scale"], _both(rows), _both(entries))

    @property
    def is_plain(self) -> bool:
        """Whether every row counts once."""
        plain = isinstance(self.scale, float | int) and math.isclose(self.scale, 1.0)
        return plain and self.mask is None and self.entries is None

    def times(self, share: float) -> Counting:
        """Counted so many times as often."""
        return replace(self, scale=self.scale * share)

    def counts_as(self, other: Counting) -> bool:
        """Whether the same rows and entries count, and as often. It looks at values only where there are tensors."""
        return (
            same_scale(self.scale, other.scale)
            and _same_mask(self.mask, other.mask)
            and _same_mask(self.entries, other.entries)
        )

    def with_distribution(self, distribution: Any, name: str) -> Counting:
        """Another distribution, of which the same rows and entries count.

        Raises:
            DeclarationError: single entries count, and the distribution cannot be divided into entries.
        """
        if self.entries is None:
            return Counting(distribution, self.scale, self.mask, None)
        events = len(distribution.event_shape)
        shape = torch.broadcast_shapes(
            self.entries.shape, distribution.batch_shape + distribution.event_shape
        )
        entries = self.entries.expand(shape)
        batch = shape[: len(shape) - events]
        try:
            part = observed_part(distribution.expand(batch), entries, name)
        except DataError:
            raise DeclarationError(
                f"{name}: the model masks single entries of it, and the guide's distribution cannot be divided into "
                "entries: use a Gaussian guide, or mask whole rows"
            ) from None
        return Counting(part, self.scale, self.mask, None)

    def log_prob(self, value: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """The log density where it counts, 0 elsewhere; not scaled."""
        found = self.distribution.log_prob(value, *args, **kwargs)
        return found if self.mask is None else found.where(self.mask.to(found.device), found.new_zeros(()))

    def words(self) -> str:
        """What is scaled and masked, as an error says it."""
        scale = "one scale for each row" if isinstance(self.scale, Tensor) else f"scale {self.scale:.6g}"
        masked = [what for what, mask in (("rows", self.mask), ("entries", self.entries)) if mask is not None]
        return f"{scale}, {'masked ' + ' and '.join(masked) if masked else 'no mask'}"


def unmasked(distribution: Any) -> tuple[Any, list[Tensor]]:
    """A distribution without the masks within, and these over batch and event."""
    if isinstance(distribution, MarginalGaussian):
        return distribution.distribution, [distribution.observed]
    if isinstance(distribution, MaskedDistribution):
        inner, masks = unmasked(distribution.base_dist)
        mask = torch.as_tensor(mask_of(distribution))
        if not (mask.dim() == 0 and bool(mask_of(distribution) is True)):
            masks.append(mask.reshape(*mask.shape, *(1,) * len(distribution.event_shape)))
        return inner, masks
    if isinstance(distribution, torch.distributions.Independent):
        inner, masks = unmasked(distribution.base_dist)
        if masks:
            return inner.to_event(distribution.reinterpreted_batch_ndims), masks
    return distribution, []


def _is_of_rows(mask: Tensor, events: int) -> bool:
    """Whether a mask over batch and event treats all entries of an event alike: it was expanded along them."""
    inner = range(max(0, mask.dim() - events), mask.dim())
    return all(mask.shape[dim] == 1 or mask.stride(dim) == 0 for dim in inner)


def _of_rows(mask: Tensor, events: int) -> Tensor:
    for _ in range(min(events, mask.dim())):
        mask = mask[..., 0]
    return mask


def _both(masks: list[Tensor]) -> Tensor | None:
    return reduce(torch.logical_and, masks) if masks else None


def same_scale(one: Any, other: Any) -> bool:
    if isinstance(one, Tensor) or isinstance(other, Tensor):
        one, other = torch.as_tensor(one), torch.as_tensor(other)
        return one is other or bool(torch.isclose(one.double(), other.double(), rtol=1e-6).all())
    return math.isclose(one, other, rel_tol=1e-6)


def _same_mask(one: Tensor | None, other: Tensor | None) -> bool:
    if one is None or other is None:
        # A mask that leaves all of these rows in may leave out some of the next.
        return one is other
    return one is other or bool((one == other.to(one.device)).all())

"""A sample statement's distribution with the scale and the masks of its log density; bounds are computed from them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import reduce
from typing import Any, cast

import torch
from pyro.distributions import MaskedDistribution, TorchDistribution
from torch import Tensor
from torch.distributions import Distribution

from pyro_lfm.distributions.interface import independent
from pyro_lfm.distributions.masking import MarginalGaussian, observed_part
from pyro_lfm.errors import DataError, DeclarationError
from pyro_lfm.runtime import mask_of


@dataclass(frozen=True)
class ScaledDistribution:
    """A distribution without masks, and the scale and masks by which its log density is multiplied.

    Attributes:
        distribution: the distribution.
        scale: the factor of ``poutine.scale`` and of plates that subsample.
        mask: the rows that count, broadcastable to the batch shape; None if all do.
        entries: the entries of events that count, broadcastable to batch and event shape; None if all do.
    """

    distribution: TorchDistribution
    scale: float | Tensor
    mask: Tensor | None
    entries: Tensor | None

    @classmethod
    def of(cls, site: Mapping[str, Any]) -> ScaledDistribution:
        """Reads a site of a trace: its scale, the mask of handlers, and the masks inside its distribution."""
        distribution, masks = unmasked(site["fn"])
        events = len(distribution.event_shape)
        rows = [_of_rows(mask, events) for mask in masks if _is_of_rows(mask, events)]
        entries = [mask for mask in masks if not _is_of_rows(mask, events)]
        if site["mask"] is not None and site["mask"] is not True:
            rows.append(torch.as_tensor(site["mask"]))
        return cls(_as_pyro(distribution), site["scale"], _conjunction(rows), _conjunction(entries))

    @property
    def is_plain(self) -> bool:
        """Whether the scale is 1 and there are no masks."""
        plain = isinstance(self.scale, float | int) and math.isclose(self.scale, 1.0)
        return plain and self.mask is None and self.entries is None

    def times(self, share: float) -> ScaledDistribution:
        """The same with its scale multiplied by ``share``."""
        return replace(self, scale=self.scale * share)

    def has_same_weights(self, other: ScaledDistribution) -> bool:
        """Whether the scales and the masks are equal."""
        return (
            same_scale(self.scale, other.scale)
            and _same_mask(self.mask, other.mask)
            and _same_mask(self.entries, other.entries)
        )

    def with_distribution(self, distribution: Distribution, name: str) -> ScaledDistribution:
        """Another distribution with the same scale and masks; masks of entries become its marginal.

        Args:
            name: the variable, for the error.

        Raises:
            DeclarationError: single entries are masked, and the distribution has no marginals of single entries.
        """
        if self.entries is None:
            return ScaledDistribution(_as_pyro(distribution), self.scale, self.mask, None)
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
        return ScaledDistribution(_as_pyro(part), self.scale, self.mask, None)

    def log_prob(self, value: Tensor) -> Tensor:
        """The log density in the rows that count and 0 in the others, not multiplied by the scale."""
        log_prob = self.distribution.log_prob(value)
        if self.mask is None:
            return log_prob
        return log_prob.where(self.mask.to(log_prob.device), log_prob.new_zeros(()))

    def words(self) -> str:
        """The scale and the masks in words, for errors."""
        scale = "one scale for each row" if isinstance(self.scale, Tensor) else f"scale {self.scale:.6g}"
        masked = [name for name, mask in (("rows", self.mask), ("entries", self.entries)) if mask is not None]
        return f"{scale}, {'masked ' + ' and '.join(masked) if masked else 'no mask'}"


def _as_pyro(distribution: Distribution) -> TorchDistribution:
    """The distribution, whose type says that Pyro samples from it."""
    return cast(TorchDistribution, distribution)


def unmasked(distribution: Distribution) -> tuple[Distribution, list[Tensor]]:
    """A distribution without the masks inside it, and those masks, broadcastable to batch and event shape."""
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
            return independent(inner, distribution.reinterpreted_batch_ndims), masks
    return distribution, []


def _is_of_rows(mask: Tensor, events: int) -> bool:
    """Whether a mask over batch and event masks whole rows: it was expanded along the dimensions of the event."""
    inner = range(max(0, mask.dim() - events), mask.dim())
    return all(mask.shape[dim] == 1 or mask.stride(dim) == 0 for dim in inner)


def _of_rows(mask: Tensor, events: int) -> Tensor:
    """A mask of whole rows without the dimensions of the event."""
    for _ in range(min(events, mask.dim())):
        mask = mask[..., 0]
    return mask


def _conjunction(masks: list[Tensor]) -> Tensor | None:
    return reduce(torch.logical_and, masks) if masks else None


def same_scale(one: Tensor | float, other: Tensor | float) -> bool:
    """Whether two scales are equal up to a relative error of 1e-6."""
    if isinstance(one, Tensor) or isinstance(other, Tensor):
        one, other = torch.as_tensor(one), torch.as_tensor(other)
        return one is other or bool(torch.isclose(one.double(), other.double(), rtol=1e-6).all())
    return math.isclose(one, other, rel_tol=1e-6)


def _same_mask(one: Tensor | None, other: Tensor | None) -> bool:
    if one is None or other is None:
        # A mask that is True for all rows of this batch may be False for rows of the next.
        return one is other
    return one is other or bool((one == other.to(one.device)).all())

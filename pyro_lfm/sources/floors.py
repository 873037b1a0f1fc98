"""Floors of scales: the lower bounds of standard deviations and other scales."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch.nn.functional import softplus

from pyro_lfm.errors import DeclarationError
from pyro_lfm.shapes import number


@dataclass(frozen=True)
class Floor:
    """The floor of a parameter, as its factor declares it.

    Attributes:
        declared: the user's number, in the units of the parameter; None for the default.
        share: the default floor as a share of the unit, which is 1 for latents and the spread of each column of data.
        power: the exponent of the unit of the data in the unit of the parameter, −1 for a rate.

    >>> Floor(None).of(torch.tensor([1e-5, 2.0]))
    tensor([1.0000e-08, 2.0000e-03])
    """

    declared: float | None
    share: float = 1e-3
    power: int = 1

    def of(self, unit: torch.Tensor) -> torch.Tensor:
        """The floor for a unit."""
        return (
            self.share * unit**self.power
            if self.declared is None
            else torch.full_like(unit, float(self.declared))
        )


def least_scale(value: float | None) -> float | None:
    """Checks ``min_scale``; None stands for the default."""
    return None if value is None else number("min_scale", value, least=0.0)


def natural_scale(raw: torch.Tensor, floor: torch.Tensor) -> torch.Tensor:
    """Scales from raw numbers."""
    return floor + softplus(raw)


def raw_scale(scale: torch.Tensor, floor: torch.Tensor) -> torch.Tensor:
    """The raw numbers of scales: the inverse of ``natural_scale``.

    >>> raw_scale(natural_scale(torch.tensor([-3.0, 4.0]), torch.tensor(0.5)), torch.tensor(0.5))
    tensor([-3.0000,  4.0000])
    """
    if not bool((scale > floor).all()):
        raise DeclarationError(
            f"standard deviations must be above min_scale={float(floor.max()):g}; got {float(scale.min()):g}: "
            "give larger variances or lower min_scale"
        )
    excess = scale - floor
    return excess + torch.log(-torch.expm1(-excess))

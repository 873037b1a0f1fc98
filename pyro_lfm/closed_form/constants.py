"""The parts of a declared model as closed forms see them: constants, linear maps, covariances; and obstacles."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from pyro_lfm.sources.applied import Applied
from pyro_lfm.sources.covariances import Covariance, Diagonal, Full, Isotropic
from pyro_lfm.sources.floors import raw_scale
from pyro_lfm.sources.linear import Affine
from pyro_lfm.sources.lookup import LookupTable
from pyro_lfm.sources.values import Constant

# A scale on its floor is written this much above it, relatively: its raw form would be −∞ at the floor itself.
_ABOVE = 1e-6


class Obstacle(Exception):
    """Why a posterior is not closed form, in words that name the factor."""


def obstacle(name: str, factor: Any, parameter: str, wanted: str) -> Obstacle:
    """``x.mean is MLP(8): a closed form needs Linear()``."""
    return Obstacle(
        f"{name}.{parameter} is {factor.declaration.describe_source(parameter)}: a closed form needs {wanted}"
    )


@dataclass(frozen=True, eq=False)
class Slot:
    """A tensor of the model that holds a parameter, read and written as float64 on the CPU."""

    tensor: Tensor

    @property
    def fixed(self) -> bool:
        return not (isinstance(self.tensor, nn.Parameter) and self.tensor.requires_grad)

    def read(self) -> Tensor:
        return self.tensor.detach().to(device="cpu", dtype=torch.float64, copy=True)

    def write(self, value: Tensor) -> None:
        if not self.fixed:
            with torch.no_grad():
                self.tensor.copy_(value.reshape(self.tensor.shape))


def constant(part: Any) -> Slot | None:
    """The slot of a learned or fixed value; None if the part is something else."""
    return Slot(part.value) if isinstance(part, Constant) else None


def table(part: Any) -> Slot | None:
    """The slot of one value per category; None if the part is something else."""
    return Slot(part.values) if isinstance(part, LookupTable) else None


@dataclass(frozen=True, eq=False)
class LinearMap:
    """W (D, K) and b (D,) of a module that maps z to W z + b."""

    weight: Slot
    bias: Slot

    @classmethod
    def of(cls, part: Any) -> LinearMap | None:
        """None if the part is something else."""
        module = part.network if isinstance(part, Applied) else part
        if isinstance(module, nn.Sequential) and len(module) == 1:
            module = module[0]
        if isinstance(module, Affine):
            weight, bias = constant(module.weight), constant(module.bias)
            return cls(weight, bias) if weight and bias else None
        if type(module) is nn.Linear:
            zero = torch.zeros(module.out_features)
            return cls(Slot(module.weight), Slot(zero if module.bias is None else module.bias))
        return None


@dataclass(frozen=True, eq=False)
class Spread:
    """The covariance of a Gaussian over D entries, one for all rows or one per category: C or 1 copies."""

    factor: Any
    slot: Slot
    copies: int

    @classmethod
    def of(cls, name: str, factor: Any, tables: bool) -> Spread:
        """Raises Obstacle unless it is a structure that EM knows and a constant, or a table where ``tables``."""
        part = factor.parts["covariance"] if "covariance" in factor.parts else None
        slot = constant(part) or (table(part) if tables else None)
        if slot is None:
            wanted = "a learned or Fixed value" + (", or Lookup()" if tables else "")
            raise obstacle(name, factor, "covariance", wanted)
        if type(factor.declaration.covariance) not in (Isotropic, Diagonal, Full):
            raise Obstacle(
                f"{name}.covariance is {factor.declaration.covariance!r}: a closed form needs Isotropic, Diagonal or Full"
            )
        return cls(factor, slot, len(slot.tensor) if isinstance(part, LookupTable) else 1)

    @property
    def covariance(self) -> Covariance:
        return self.factor.declaration.covariance

    @property
    def full(self) -> bool:
        return isinstance(self.covariance, Full)

    @property
    def isotropic(self) -> bool:
        return isinstance(self.covariance, Isotropic)

    def floor(self) -> Tensor:
        """The floor of standard deviations, () isotropic or (D,); where there is none, one far below any data."""
        return self._floor().clamp_min(1e-100)

    def _floor(self) -> Tensor:
        floor = self.factor.floor("covariance").detach().to(device="cpu", dtype=torch.float64)
        return floor.reshape(()) if self.isotropic else floor.flatten()

    def variance(self) -> Tensor:
        """(C or 1, D or 1), isotropic or diagonal."""
        return self.covariance.scale(self._raw(), self._floor()).square()

    def scale_tril(self) -> Tensor:
        """The Cholesky factors (C or 1, D, D), full."""
        floor = self._floor()
        location = torch.zeros_like(floor)
        return self.covariance.distribution(location, self._raw(), location.shape, floor).scale_tril

    def write_variance(self, value: Tensor) -> None:
        """From the shape that ``variance`` has."""
        self.slot.write(raw_scale(self._above(value.sqrt()), self._floor()))

    def write_scale_tril(self, value: Tensor) -> None:
        """From the shape that ``scale_tril`` has."""
        covariance, floor = self.covariance, self._floor()
        assert isinstance(covariance, Full)
        raised = [one + (self._above(one.diagonal()) - one.diagonal()).diag() for one in value]
        self.slot.write(torch.stack([covariance.tril_to_raw(one, floor) for one in raised]))

    def _raw(self) -> Tensor:
        return self.slot.read().reshape(self.copies, -1)

    def _above(self, scale: Tensor) -> Tensor:
        return torch.maximum(scale, self.floor() * (1 + _ABOVE))

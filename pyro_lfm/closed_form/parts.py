"""The built parts of a model that closed forms read and write: constants, tables, linear maps, covariances."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.distributions import MultivariateNormal

from pyro_lfm.closed_form.obstacles import Obstacle, source_obstacle
from pyro_lfm.factors import Conditional
from pyro_lfm.families import Gaussian
from pyro_lfm.sources.applied import Applied
from pyro_lfm.sources.covariances import Covariance, Diagonal, Full, Isotropic
from pyro_lfm.sources.floors import raw_scale
from pyro_lfm.sources.linear import Affine, Patterned
from pyro_lfm.sources.lookup import LookupTable
from pyro_lfm.sources.values import Constant

# A scale on its floor is written this much above it, relatively. The raw form of the floor itself would be −∞.
_ABOVE = 1e-6


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


def constant(part: nn.Module | None) -> Slot | None:
    """The slot of a learned or fixed value; None if the part is something else."""
    return Slot(part.value) if isinstance(part, Constant) else None


def table(part: nn.Module | None) -> Slot | None:
    """The slot of one value per category; None if the part is something else."""
    return Slot(part.values) if isinstance(part, LookupTable) and isinstance(part.values, Tensor) else None


@dataclass(frozen=True, eq=False)
class LinearMap:
    """W (D, K) and b (D,) of a module that computes W z + b."""

    weight: Slot
    bias: Slot
    # (D, K), which weights are learned; None for all.
    pattern: Tensor | None = None

    @classmethod
    def of(cls, part: nn.Module | None) -> LinearMap | None:
        """None if the part is something else."""
        module = part.network if isinstance(part, Applied) else part
        if isinstance(module, nn.Sequential) and len(module) == 1:
            module = module[0]
        if isinstance(module, Affine):
            weight, bias = constant(module.weight), constant(module.bias)
            pattern = module.weight.mask.cpu() if isinstance(module.weight, Patterned) else None
            return cls(weight, bias, pattern) if weight and bias else None
        if type(module) is nn.Linear:
            zero = torch.zeros(module.out_features)
            return cls(Slot(module.weight), Slot(zero if module.bias is None else module.bias))
        return None


@dataclass(frozen=True, eq=False)
class Spread:
    """The covariance of a Gaussian factor over D entries.

    Attributes:
        factor: the built factor, whose floor is read. covariance: as it was declared.
        slot: the raw numbers. copies: 1, or the number of categories where each has its own.
    """

    factor: Conditional
    covariance: Covariance
    slot: Slot
    copies: int

    @classmethod
    def of(cls, name: str, factor: Conditional, tables: bool) -> Spread:
        """The covariance of a factor.

        Args:
            tables: whether each category may have a covariance of its own.

        Raises:
            Obstacle: it is computed from the latents, or has a structure that exact inference lacks.
        """
        part = factor.parts["covariance"] if "covariance" in factor.parts else None
        slot = constant(part) or (table(part) if tables else None)
        if slot is None:
            wanted = "a learned or Fixed value" + (", or Lookup()" if tables else "")
            raise source_obstacle(name, factor, "covariance", wanted)
        declaration = factor.declaration
        assert isinstance(declaration, Gaussian)  # for the type checker: callers have looked
        covariance = declaration.covariance
        if type(covariance) not in (Isotropic, Diagonal, Full):
            raise Obstacle(
                f"{name}.covariance is {covariance!r}: a closed form needs Isotropic, Diagonal or Full"
            )
        return cls(factor, covariance, slot, len(slot.tensor) if table(part) else 1)

    @property
    def full(self) -> bool:
        return isinstance(self.covariance, Full)

    @property
    def isotropic(self) -> bool:
        return isinstance(self.covariance, Isotropic)

    @property
    def structure(self) -> str:
        """The name that ``exact`` gives it: isotropic, diagonal or full."""
        return type(self.covariance).__name__.lower()

    @property
    def may_vanish(self) -> bool:
        """Whether it is learned without a floor, so that the likelihood of a narrow component has no maximum."""
        return not self.slot.fixed and self.covariance.min_scale == 0

    def floor(self) -> Tensor:
        """The floor of standard deviations, () isotropic or (D,). Without a floor, one far below any data."""
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
        gaussian = self.covariance.distribution(location, self._raw(), location.shape, floor)
        assert isinstance(gaussian, MultivariateNormal)
        return gaussian.scale_tril

    def write_variance(self, value: Tensor) -> None:
        """Writes variances of the shape of ``variance()``."""
        self.slot.write(raw_scale(self._above(value.sqrt()), self._floor()))

    def write_scale_tril(self, value: Tensor) -> None:
        """Writes Cholesky factors of the shape of ``scale_tril()``."""
        covariance, floor = self.covariance, self._floor()
        assert isinstance(covariance, Full)
        raised = [one + (self._above(one.diagonal()) - one.diagonal()).diag() for one in value]
        self.slot.write(torch.stack([covariance.tril_to_raw(one, floor) for one in raised]))

    def _raw(self) -> Tensor:
        return self.slot.read().reshape(self.copies, -1)

    def _above(self, scale: Tensor) -> Tensor:
        return torch.maximum(scale, self.floor() * (1 + _ABOVE))

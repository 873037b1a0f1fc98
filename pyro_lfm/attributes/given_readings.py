"""The latent density given readings of attributes: what ``conditional_draws`` draws from for attributes that were fitted."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from pyro_lfm.attributes.density import Density
from pyro_lfm.attributes.requests import Request


@dataclass(frozen=True, eq=False)
class GivenReadings:
    """p(u) exp(−β Σ e(u)²/2), see ``Target``."""

    density: Density
    request: Request

    def energy(self, codes: Tensor, places: Tensor) -> Tensor:
        return self.request.energy(self.request.readings.outputs(codes))

    def slopes(self, codes: Tensor, places: Tensor, beta: float) -> tuple[Tensor, Tensor, Tensor]:
        log_density, slope, curvature = self.density.slopes(codes)
        residual, jacobian = self.request.residuals(codes)
        value = log_density - 0.5 * beta * residual.square().sum(1)
        flat = jacobian.flatten(0, 1)
        return (
            value,
            slope - beta * torch.einsum("ba,bau->bu", residual, jacobian),
            # After Gauss and Newton, without second derivatives of readings.
            curvature + beta * flat.T @ flat / len(codes),
        )

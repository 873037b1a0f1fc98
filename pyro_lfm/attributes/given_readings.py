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

    def log_prob(self, codes: Tensor, places: Tensor, beta: float) -> Tensor:
        return self.density.log_prob(codes) - beta * self.energy(codes, places)

    def slopes(self, codes: Tensor, places: Tensor, beta: float) -> tuple[Tensor, Tensor]:
        # Of the mixture alone: its correction is smooth, and its gradient would cost more than all the rest.
        _, slope, curvature = self.density.mixture.slopes(codes)
        residual, jacobian = self.request.residuals(codes)
        flat = jacobian.flatten(0, 1)
        return (
            slope - beta * torch.einsum("ba,bau->bu", residual, jacobian),
            # After Gauss and Newton, without second derivatives of readings.
            curvature + beta * flat.T @ flat / len(codes),
        )

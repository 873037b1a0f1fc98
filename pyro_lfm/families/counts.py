"""Counts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyro.distributions as dist
import torch

from pyro_lfm.factors import Factor


class Poisson(Factor):
    """x_d | parents ~ Poisson(rate_d), independent counts; a network's output passes through softplus.

    >>> from pyro_lfm.distributions.sources import Fixed
    >>> Poisson(2, rate=Fixed(3.0)).build("x", [])().mean
    tensor([3., 3.])
    """

    constraints = {"rate": dist.constraints.softplus_positive}

    def __init__(
        self,
        event: int | Sequence[int] | None = None,
        rate: Any = None,
        *,
        given: str | Sequence[str] | None = None,
        network: Any = None,
    ):
        super().__init__(event, {"rate": rate}, given=given, network=network)

    def distribution(self, rate: torch.Tensor) -> Any:
        # Softplus of a very negative number is exactly zero in floating point, where log_prob would be NaN.
        tiny = torch.finfo(rate.dtype).tiny
        return dist.Poisson(rate.clamp_min(tiny), validate_args=False).to_event(len(self.shape))

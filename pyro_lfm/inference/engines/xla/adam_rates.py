"""Adam's numbers for a block of steps, from the groups of an optimizer."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pyro_lfm.inference.engines.adam_kernels import AdamGroup
from pyro_lfm.inference.engines.xla.block_program import Rates


def rates_of(groups: Sequence[AdamGroup], factors: Sequence[float], steps: int, dtype: np.dtype) -> Rates:
    """The numbers of the next steps of all parameters.

    Args:
        factors: of the learning rates, one for each step.
        steps: S, the number of rows; those beyond the factors are not used.
    """
    count = sum(len(group.positions) for group in groups)
    sizes, roots, kept = (np.ones((steps, count)) for _ in range(3))
    betas, betas2, epsilons, decays = (np.zeros(count) for _ in range(4))
    factor, ahead = np.ones(steps), np.arange(1, steps + 1)[:, None]
    factor[: len(factors)] = factors
    for group in groups:
        at, options = group.positions, group.options
        step = group.counts.numpy(force=True).astype(float) + ahead
        rate = options["lr"] * factor[:, None]
        betas[at], betas2[at] = options["betas"]
        epsilons[at] = options["eps"]
        sizes[:, at] = rate / (1 - options["betas"][0] ** step)
        roots[:, at] = np.sqrt(1 - options["betas"][1] ** step)
        if group.decoupled:
            kept[:, at] = 1 - rate * options["weight_decay"]
        else:
            decays[at] = options["weight_decay"]
    numbers = (sizes, roots, kept, betas, betas2, epsilons, decays)
    return Rates(*(value.astype(dtype) for value in numbers))


def gradient_rates(count: int, dtype: np.dtype, steps: int) -> Rates:
    """Numbers by which one step from zero moments leaves the gradients in the place of the means, and moves nothing."""
    ones, zeros = np.ones((steps, count), dtype), np.zeros(count, dtype)
    return Rates(0 * ones, ones, ones, zeros, zeros, zeros + 1, zeros)

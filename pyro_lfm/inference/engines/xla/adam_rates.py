"""Adam's numbers for a block of steps, from the groups of an optimizer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from pyro_lfm.inference.engines.adam_kernels import AdamGroup
from pyro_lfm.inference.engines.xla.block_program import Kind, Rates


def rates_of(groups: Sequence[AdamGroup], factors: Sequence[float], steps: int, dtype: np.dtype) -> Rates:
    """The numbers of the next steps of all parameters.

    Args:
        factors: of the learning rates, one for each step.
        steps: S, the number of rows; those beyond the factors are not used.
    """
    factor = np.ones((steps, 1))
    factor[: len(factors), 0] = factors
    parts = [_of_group(group, factor) for group in groups]
    joined = parts[0]
    if len(groups) > 1 or joined["sizes"].shape[1] > 1:
        places = np.argsort(np.concatenate([group.positions for group in groups]))
        joined = {name: _joined(groups, [part[name] for part in parts], places) for name in joined}
    if (joined["kept"] == 1).all():
        joined["kept"] = None
    if not joined["decays"].any():
        joined["decays"] = None
    numbers: dict[str, Any] = {n: None if v is None else v.astype(dtype) for n, v in joined.items()}
    return Rates(**numbers)


def _of_group(group: AdamGroup, factor: np.ndarray) -> dict[str, Any]:
    """The rates of a group by name, of one column where its parameters have done equally many steps."""
    counts, options = group.counts.numpy(force=True), group.options
    counts = counts[:1] if (counts == counts[0]).all() else counts
    step = counts.astype(float) + np.arange(1, len(factor) + 1)[:, None]
    one, rate, decay = np.ones(len(counts)), options["lr"] * factor, options["weight_decay"]
    beta, beta2 = options["betas"]
    return {
        "sizes": rate / (1 - beta**step),
        "roots": 1 / np.sqrt(1 - beta2**step),
        "kept": (1 - rate * decay if group.decoupled else np.ones_like(factor)) * one,
        "betas": np.array([[beta], [1 - beta]]) * one,
        "betas2": np.array([[beta2], [1 - beta2]]) * one,
        "epsilons": options["eps"] * one,
        "decays": 0 * one if group.decoupled else decay * one,
    }


def _joined(groups: Sequence[AdamGroup], parts: Sequence[np.ndarray], places: np.ndarray) -> np.ndarray:
    """The columns of all groups, in the order of the parameters."""
    columns = [
        np.broadcast_to(part, (*part.shape[:-1], len(group.positions)))
        for group, part in zip(groups, parts, strict=True)
    ]
    return np.concatenate(columns, -1)[..., places]


def expected_kind(optimizer: torch.optim.Optimizer) -> Kind:
    """What the rates of an optimizer are probably like, before its first step by XLA."""
    groups = optimizer.param_groups
    decays = any(group.get("weight_decay") for group in groups)
    decoupled = any(group.get("decoupled_weight_decay") for group in groups)
    return Kind(min(2, len(groups)), decays and decoupled, decays and not decoupled)


def gradient_rates(kind: Kind, parameters: int, steps: int, dtype: np.dtype) -> Rates:
    """Numbers by which one step from zero moments leaves the gradients in the place of the means, and moves nothing."""
    columns = 1 if kind.columns == 1 else parameters
    one, table = np.ones(columns, dtype), np.ones((steps, columns), dtype)
    betas = np.stack([0 * one, one])
    return Rates(
        sizes=0 * table,
        roots=table,
        kept=table if kind.kept else None,
        betas=betas,
        betas2=betas,
        epsilons=one,
        decays=0 * one if kind.decays else None,
    )

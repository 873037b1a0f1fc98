"""The M step of the coefficients of linear Gaussian models: least squares with expected moments."""

from __future__ import annotations

from collections.abc import Collection

import torch
from torch import Tensor


def free_step(gram: Tensor, cross: Tensor, free: Collection[str], pattern: Tensor | None = None) -> Tensor:
    """The step of all coefficients, (D, K + 1), that solves gram · step = cross for the free ones and is 0 elsewhere.

    gram: (D or 1, K + 1, K + 1). cross: (D, K + 1). pattern: (D, K), which weights are free if "weight" is; None for all.
    """
    if pattern is not None and "weight" in free:
        return _patterned_step(gram, cross, free, pattern)
    step = torch.zeros_like(cross)
    latent_dim = cross.shape[1] - 1
    chosen = [*range(latent_dim)] * ("weight" in free) + [latent_dim] * ("bias" in free)
    if not chosen:
        return step
    gram = gram[:, chosen][:, :, chosen]
    # A ridge far below the rounding of the data only shortens the step towards the same maximum.
    ridge = 1e-13 * gram.diagonal(dim1=1, dim2=2).mean(1).clamp(min=1e-300)
    tril = torch.linalg.cholesky(gram + torch.diag_embed(ridge.unsqueeze(1).expand(-1, len(chosen))))
    if len(gram) == 1:
        step[:, chosen] = torch.cholesky_solve(cross[:, chosen].mT, tril[0]).mT
    else:
        step[:, chosen] = torch.cholesky_solve(cross[:, chosen].unsqueeze(2), tril).squeeze(2)
    return step


def _patterned_step(gram: Tensor, cross: Tensor, free: Collection[str], pattern: Tensor) -> Tensor:
    """The step where each column has free weights of its own: columns with the same ones are solved together."""
    step = torch.zeros_like(cross)
    kinds, own = torch.unique(pattern, dim=0, return_inverse=True)
    for number, kind in enumerate(kinds):
        columns = (own == number).nonzero().flatten()
        chosen = torch.cat([kind, torch.tensor([True])]).nonzero().flatten()
        inner = gram if len(gram) == 1 else gram[columns]
        part = cross[columns][:, chosen]
        names = {"weight", *free} if bool(kind.any()) else set(free) - {"weight"}
        step[columns.unsqueeze(1), chosen] = free_step(inner[:, chosen][:, :, chosen], part, names)
    return step

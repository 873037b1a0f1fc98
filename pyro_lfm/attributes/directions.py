"""How attributes lie in the latent space: directions of their readings, the angles between them, what they share."""

from __future__ import annotations

import torch
from torch import Tensor

from pyro_lfm.attributes.latent_space import LatentSpace
from pyro_lfm.attributes.readings import Readings


def mean_slopes(readings: Readings, codes: Tensor) -> Tensor:
    """E ∇r(u) of each attribute over codes (B, U), of unit length, (A, U); of categories that of the most frequent."""
    outputs = readings.outputs(codes)
    labels = [
        (
            torch.bincount(out[:, : len(a.labels)].argmax(1)).argmax()
            if a.kind == "category"
            else torch.tensor(1)
        )
        for out, a in zip(outputs, readings.attributes, strict=True)
    ]
    _, slopes = readings.with_slopes(codes, torch.stack(labels).expand(len(codes), -1))
    mean = slopes.mean(0)
    return mean / mean.norm(dim=1, keepdim=True).clamp_min(torch.finfo(mean.dtype).tiny)


def explained_by_others(readings: Readings, outputs: Tensor) -> Tensor:
    """R² of the readings of each attribute, (A,), as linear functions of the readings of all others.

    Of labels the readings are probabilities, of all but the first. The R² of several is that of their summed variances.
    """
    values = readings.values(outputs)
    columns = {n: (v[:, 1:] if v.dim() > 1 else v.unsqueeze(1)).double() for n, v in values.items()}
    columns = {n: v - v.mean(0) for n, v in columns.items()}
    shares = []
    for name, own in columns.items():
        others = [v for n, v in columns.items() if n != name]
        if not others:
            shares.append(torch.zeros((), dtype=torch.float64))
            continue
        left = own - (every := torch.cat(others, 1)) @ torch.linalg.lstsq(every, own, driver="gelsd").solution
        shares.append((1 - left.square().sum() / own.square().sum()).clamp(0, 1))
    return torch.stack(shares)


def in_latents(space: LatentSpace, directions: Tensor) -> Tensor:
    """The change of latents, (A, K), for one unit of a direction of codes (A, U), from the mean code."""
    start = torch.zeros_like(directions)
    step = 1e-3
    return (space.latents(start + step * directions) - space.latents(start - step * directions)) / (2 * step)

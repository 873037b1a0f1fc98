"""The points of a map of the latent space: factors, or their principal components, and what the axes are called."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pyro_lfm.errors import DeclarationError, ShapeError
from pyro_lfm.evaluate.decoding.factor_order import factor_order
from pyro_lfm.evaluate.decoding.names_of_factors import entry_names, real_latents
from pyro_lfm.evaluate.inputs import Array, Rows
from pyro_lfm.inference.fitted import Fit
from pyro_lfm.plots.style import as_numbers, symbol


@dataclass(frozen=True)
class MapPoints:
    """Rows as points.

    Attributes:
        points: (N, 2) or (N, 3); (N, 1) of one factor.
        axes: what each axis is called.
    """

    points: np.ndarray
    axes: tuple[str, ...]


def map_points(
    argument: str, value: Array | Fit, data: Rows | None, factors: Sequence[str] | None, dimensions: int
) -> MapPoints:
    """The points of a fit or of posterior means.

    Args:
        argument: the name of the argument, for error messages.
        data: rows of a fit. factors: the names of those on the axes; by default all, projected where they are too many.
        dimensions: 2 or 3.
    """
    numbers, names = _of_fit(value, data) if isinstance(value, Fit) else _of_array(argument, value)
    if factors is not None:
        unknown = [name for name in factors if name not in names]
        if unknown or len(factors) not in (1, dimensions):
            raise DeclarationError(
                f"factors must name {dimensions} factors for the axes, of {', '.join(names)}; got {list(factors)!r}"
            )
        places = [names.index(name) for name in factors]
        numbers, names = numbers[:, places], list(factors)
    if numbers.shape[1] <= dimensions:
        return MapPoints(numbers, tuple(symbol(name) for name in names))
    return _projected(numbers, dimensions)


def _of_array(argument: str, value: Array) -> tuple[np.ndarray, list[str]]:
    numbers = as_numbers(argument, value, "fit.posterior(data).mean").astype(float)
    if numbers.ndim == 1:
        numbers = numbers[:, None]
    if numbers.ndim != 2 or not numbers.size:
        raise ShapeError(f"{argument} must have shape (N, K), or (N,) of one factor; got {numbers.shape}")
    return numbers, entry_names("z", numbers.shape[1])


def _of_fit(fit: Fit, data: Rows | None) -> tuple[np.ndarray, list[str]]:
    """The posterior means of the factors, (N, K), and their names, in the order of the variance that they explain."""
    latents = real_latents(fit.model)
    if not latents:
        raise DeclarationError("a map needs latents of each row with real values; this model has none")
    posterior = fit.posterior(data)
    by_name = posterior if isinstance(posterior, dict) else dict.fromkeys(latents, posterior)
    parts = [by_name[name].mean.detach().double().cpu() for name in latents]
    numbers = np.concatenate([part.reshape(len(part), -1).numpy() for part in parts], 1)
    order = factor_order(fit, data)
    return numbers[:, list(order.places)], order.ranked


def _projected(numbers: np.ndarray, dimensions: int) -> MapPoints:
    """The first principal components."""
    centred = numbers - numbers.mean(0)
    _, sizes, axes = np.linalg.svd(centred, full_matrices=False)
    # The largest entry of each axis is made positive, so that maps do not flip from run to run.
    axes = axes[:dimensions]
    axes = axes * np.sign(np.take_along_axis(axes, np.abs(axes).argmax(1)[:, None], 1))
    points = centred @ axes.T
    # Few rows have fewer axes, on the others of which they lie at 0.
    points = np.pad(points, ((0, 0), (0, dimensions - points.shape[1])))
    total = float((sizes**2).sum())
    shares = np.pad(sizes**2, (0, dimensions))[:dimensions] / total if total > 0 else np.zeros(dimensions)
    names = (f"principal component {k + 1}, {share:.0%} of the variance" for k, share in enumerate(shares))
    return MapPoints(points, tuple(names))

"""Rows that are pictures: galleries, draws, reconstructions, walks along factors."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from pyro import poutine

from pyro_lfm.data.batch import Batch
from pyro_lfm.errors import DeclarationError, ShapeError
from pyro_lfm.plots.mosaic import gutter, mosaic, pictures_of
from pyro_lfm.plots.style import INK, QUIET, colours
from pyro_lfm.probes import evaluating
from pyro_lfm.runtime import Stream, isolated

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def gallery(
    images: Any, *, shape: Sequence[int] | None = None, columns: int | None = None, title: str | None = None
) -> Figure:
    """Pictures side by side, dark ink on white.

    Args:
        images: (N, D) with ``shape``, or (N, H, W), or (N, C, H, W) with one or three channels; values in [0, 1].
        shape: (H, W) or (C, H, W) of one picture, where the rows are flat.
        columns: how many to a row; by default as square as it goes.

    >>> gallery(torch.rand(6, 64), shape=(8, 8), columns=3).axes[0].images[0].get_array().shape
    (17, 26, 3)
    """
    pictures = pictures_of(images, shape, "images")
    columns = columns or math.ceil(math.sqrt(len(pictures)))
    blocks = {"": pictures}
    return mosaic(blocks, columns, title, [INK])


def prior_draws(
    draws: Any,
    *,
    shape: Sequence[int] | None = None,
    columns: int = 12,
    title: str | None = "Drawn from the model",
) -> Figure:
    """Pictures that models make up: one block of rows for each guide with which the model was trained.

    Args:
        draws: {guide: images}, or the images of one model; as for ``gallery``.

    >>> figure = prior_draws({"mean-field": torch.rand(4, 64), "full": torch.rand(4, 64)}, shape=(8, 8), columns=4)
    >>> [label.get_text() for label in figure.axes[0].get_yticklabels()]
    ['mean-field', 'full']
    """
    named = draws if isinstance(draws, Mapping) else {"": draws}
    blocks = {name: pictures_of(images, shape, name or "draws") for name, images in named.items()}
    return mosaic(blocks, columns, title, colours(blocks))


def reconstructions(
    originals: Any,
    by_guide: Mapping[str, Any],
    *,
    shape: Sequence[int] | None = None,
    title: str | None = "What a few factors keep of rows never seen",
) -> Figure:
    """Pictures in the first row, and below them what each guide's model makes of them.

    Args:
        originals: as for ``gallery``.
        by_guide: {guide: images}, as many as there are originals and in their order.

    >>> figure = reconstructions(torch.rand(5, 64), {"full": torch.rand(5, 64)}, shape=(8, 8))
    >>> [label.get_text() for label in figure.axes[0].get_yticklabels()]
    ['original', 'full']
    """
    blocks = {"original": pictures_of(originals, shape, "originals")}
    for name, images in by_guide.items():
        blocks[name] = pictures_of(images, shape, name)
        if len(blocks[name]) != len(blocks["original"]):
            raise ShapeError(
                f"{name} must have one picture for each of the {len(blocks['original'])} originals; "
                f"got {len(blocks[name])}"
            )
    return mosaic(blocks, len(blocks["original"]), title, [INK, *colours(by_guide)])


def factor_walk(
    fit: Any,
    *,
    shape: Sequence[int] | None = None,
    start: torch.Tensor | None = None,
    steps: int = 9,
    reach: float = 2.5,
    factors: int | None = None,
    title: str | None = "A walk along each factor",
) -> Figure:
    """E[x | z] while one factor runs and the others stay: one row of pictures per factor.

    The factors come in the order of how much they move the picture; those of the last rows, which move nothing, are
    factors that the model does not use.

    Args:
        fit: a ``Fit`` of a model with one latent, a vector, and one observed variable.
        shape: (H, W) or (C, H, W) of one picture, where the rows are flat.
        start: (K,) where the walks cross, such as the posterior mean of a row; by default the prior's mean.
        steps, reach: how many pictures, from −reach to +reach standard deviations of the prior around its mean.
        factors: show only so many.

    >>> import pyro_lfm as lfm
    >>> model = lfm.Model(z=lfm.StandardNormal(2), x=lfm.Bernoulli(16, logits=lfm.MLP(8)))
    >>> guide = lfm.Guide(model, z=lfm.Gaussian(network=lfm.MLP(8)))
    >>> fit = lfm.fit(model, torch.ones(20, 16), lfm.SVI(guide, steps=1), seed=0, progress=False)
    >>> sorted(label.get_text() for label in factor_walk(fit, shape=(4, 4), steps=5).axes[0].get_yticklabels())
    ['$z_{1}$', '$z_{2}$']
    """
    model = fit.model
    if len(model.latents) != 1 or len(model.observed) != 1:
        raise DeclarationError(
            "factor_walk needs a model with one latent and one observed variable; this one has "
            f"{', '.join(model.latents)} and {', '.join(model.observed)}"
        )
    (name,), (seen,) = model.latents, model.observed
    prior = model.sample(2000, seed=0)[name]
    if prior.dim() != 2:
        raise ShapeError(f"{name} must be a vector of factors; its event shape is {tuple(prior.shape[1:])}")
    centre, spread = prior.mean(0), prior.std(0)
    origin = centre if start is None else torch.as_tensor(start).to(prior)
    if origin.shape != centre.shape:
        raise ShapeError(f"start must have shape {tuple(centre.shape)}; got {tuple(origin.shape)}")
    offsets = torch.linspace(-reach, reach, steps).to(prior)
    walks = origin.repeat(len(centre), steps, 1)
    for k in range(len(centre)):
        walks[k, :, k] = centre[k] + offsets * spread[k]
    batch = Batch(size=len(centre) * steps)
    batch.index = batch.index.to(model.device)
    with evaluating(model), isolated(Stream(0, model.device), model.device), torch.no_grad():
        program = poutine.condition(model, data={name: walks.flatten(0, 1)})
        trace: Any = poutine.trace(program).get_trace(batch)
    means = trace.nodes[seen]["fn"].mean
    effect = means.reshape(len(centre), steps, -1).std(1).square().mean(1).sqrt()
    order = effect.argsort(descending=True)[:factors].tolist()
    pictures = pictures_of(means, shape, seen)
    pictures = pictures.reshape(len(centre), steps, *pictures.shape[1:])
    blocks = {f"$z_{{{k + 1}}}$": pictures[k] for k in order}
    figure = mosaic(blocks, steps, title, [INK] * len(blocks), gap=0.0, label_width=0.3, bottom=0.5)
    ax, pitch = figure.axes[0], pictures.shape[3] + gutter(pictures)
    ticks = sorted({0, steps // 2, steps - 1})
    ax.set_xticks([i * pitch + pictures.shape[3] / 2 - 0.5 for i in ticks])
    words = [f"{offsets[i]:+.1f}".replace("-", "−") if abs(offsets[i]) > 1e-6 else "0" for i in ticks]
    ax.set_xticklabels(words, color=QUIET, fontsize=9)
    ax.set_xlabel("standard deviations of the prior", color=QUIET, fontsize=9)
    return figure

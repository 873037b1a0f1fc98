"""Pictures of rows that are pictures: galleries, draws, reconstructions, walks along factors."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch

from pyro_lfm.data.batch import Batch
from pyro_lfm.errors import DeclarationError, ShapeError
from pyro_lfm.evaluate.decoding.decoder import Decoder
from pyro_lfm.evaluate.inputs import Array
from pyro_lfm.inference.fitted import Fit
from pyro_lfm.plots.mosaic import draw_mosaic, gutter, pictures_of
from pyro_lfm.plots.style import INK, QUIET, by_name, colours, of_kind, one_or_by_name, symbol
from pyro_lfm.probes import evaluating
from pyro_lfm.programs.model import AnyModel
from pyro_lfm.runtime import Stream, isolated
from pyro_lfm.shapes import whole

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def gallery(
    images: Array, *, shape: Sequence[int] | None = None, columns: int | None = None, title: str | None = None
) -> Figure:
    """Pictures side by side, dark ink on white.

    Args:
        images: (N, D) with ``shape``, or (N, H, W), or (N, C, H, W) with one or three channels. Values in [0, 1].
        shape: (H, W) or (C, H, W) of one picture, where the rows are flat.
        columns: pictures in a row. By default the gallery is as square as possible.

    >>> gallery(torch.rand(6, 64), shape=(8, 8), columns=3).axes[0].images[0].get_array().shape
    (17, 26, 3)
    """
    pictures = pictures_of(images, shape, "images")
    columns = columns or math.ceil(math.sqrt(len(pictures)))
    blocks = {"": pictures}
    return draw_mosaic(blocks, columns, title, [INK])


def prior_draws(
    images: Array | Mapping[str, Array],
    *,
    shape: Sequence[int] | None = None,
    columns: int = 12,
    title: str | None = "Drawn from the model",
) -> Figure:
    """Pictures drawn from models: one block of rows for each guide that a model was trained with.

    Args:
        images: {guide: images}, or the images of one model, as for ``gallery``.

    >>> figure = prior_draws({"mean-field": torch.rand(4, 64), "full": torch.rand(4, 64)}, shape=(8, 8), columns=4)
    >>> [label.get_text() for label in figure.axes[0].get_yticklabels()]
    ['mean-field', 'full']
    """
    named = one_or_by_name("images", images, "{'full': fit.model.sample(16)['x']}")
    blocks = {name: pictures_of(each, shape, name or "images") for name, each in named.items()}
    return draw_mosaic(blocks, columns, title, colours(blocks))


def reconstructions(
    images: Array,
    by_guide: Mapping[str, Array],
    *,
    shape: Sequence[int] | None = None,
    title: str | None = "Rows outside of the training set, and their reconstructions",
) -> Figure:
    """Original pictures in the first row, and below them their reconstructions by the model of each guide.

    Args:
        images: the originals, as for ``gallery``.
        by_guide: {guide: reconstructions}, one for each original, in their order.

    >>> figure = reconstructions(torch.rand(5, 64), {"full": torch.rand(5, 64)}, shape=(8, 8))
    >>> [label.get_text() for label in figure.axes[0].get_yticklabels()]
    ['original', 'full']
    """
    blocks = {"original": pictures_of(images, shape, "images")}
    by_guide = by_name("by_guide", by_guide, "{'full': fit.reconstruct(rows)}")
    for name, reconstructed in by_guide.items():
        blocks[name] = pictures_of(reconstructed, shape, name)
        if len(blocks[name]) != len(blocks["original"]):
            raise ShapeError(
                f"{name} must have one picture for each of the {len(blocks['original'])} originals; "
                f"got {len(blocks[name])}"
            )
    return draw_mosaic(blocks, len(blocks["original"]), title, [INK, *colours(by_guide)])


def factor_walk(
    fit: Fit,
    *,
    shape: Sequence[int] | None = None,
    start: torch.Tensor | None = None,
    steps: int = 9,
    reach: float = 2.5,
    factors: int | None = None,
    title: str | None = "A walk along each factor",
) -> Figure:
    """E[x | z] as one factor varies and the others are held: one row of pictures per factor.

    The factors are ordered by their effect on the picture. Factors without effect, in the last rows, are not used by the
    model.

    Args:
        fit: a ``Fit`` of a model with one modelled variable, whose rows have latents with real entries and no labels.
            Latents that all rows share are at their posterior mean, and covariates at their declared values.
        shape: (H, W) or (C, H, W) of one picture, where the rows are flat.
        start: the point where the walks cross, (K,), such as the posterior mean of a row. By default the prior's mean. K
            counts the entries of all latents of a row side by side.
        steps, reach: number of pictures, from −reach to +reach standard deviations of the prior around its mean.
        factors: the number of factors shown, all by default.

    Raises:
        DeclarationError: another kind of model. ShapeError: a start, or pictures, of another shape.

    >>> import pyro_lfm as lfm
    >>> model = lfm.Model(z=lfm.StandardNormal(2), x=lfm.Bernoulli(16, logits=lfm.MLP(8)))
    >>> guide = lfm.Guide(model, z=lfm.Gaussian(network=lfm.MLP(8)))
    >>> fit = lfm.fit(model, torch.ones(20, 16), lfm.SVI(guide, steps=1), seed=0, progress=False)
    >>> sorted(label.get_text() for label in factor_walk(fit, shape=(4, 4), steps=5).axes[0].get_yticklabels())
    ['$z_{1}$', '$z_{2}$']
    """
    fit = of_kind(fit, Fit, "lfm.fit")
    decoder = Decoder(fit.model, "lfm.plots.factor_walk")
    if len(decoder.observed) != 1:
        raise DeclarationError(
            f"factor_walk needs a model of one modelled variable; this one has {', '.join(decoder.observed)}"
        )
    steps = whole("steps", steps, least=2)
    centre, spread = _prior_moments(fit.model, decoder)
    origin = centre if start is None else torch.as_tensor(start).to(centre)
    if origin.shape != centre.shape:
        raise ShapeError(f"start must have shape {tuple(centre.shape)}; got {tuple(origin.shape)}")
    offsets = torch.linspace(-reach, reach, steps).to(centre)
    walks = origin.repeat(len(centre), steps, 1)
    for k in range(len(centre)):
        walks[k, :, k] = centre[k] + offsets * spread[k]
    means = _decoded(fit, decoder, walks.flatten(0, 1))
    effect = means.reshape(len(centre), steps, -1).std(1).square().mean(1).sqrt()
    order = effect.argsort(descending=True)[:factors].tolist()
    pictures = pictures_of(means, shape, decoder.observed[0])
    pictures = pictures.reshape(len(centre), steps, *pictures.shape[1:])
    blocks = {symbol(decoder.names[k]): pictures[k] for k in order}
    figure = draw_mosaic(blocks, steps, title, [INK] * len(blocks), gap=0.0, label_width=0.3, bottom=0.5)
    ax, pitch = figure.axes[0], pictures.shape[3] + gutter(pictures)
    ticks = sorted({0, steps // 2, steps - 1})
    ax.set_xticks([i * pitch + pictures.shape[3] / 2 - 0.5 for i in ticks])
    labels = [f"{offsets[i]:+.1f}".replace("-", "−") if abs(offsets[i]) > 1e-6 else "0" for i in ticks]
    ax.set_xticklabels(labels, color=QUIET, fontsize=9)
    ax.set_xlabel("standard deviations of the prior", color=QUIET, fontsize=9)
    return figure


def _prior_moments(model: AnyModel, decoder: Decoder) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and standard deviation of each factor under the model, (K,) each."""
    drawn = model.sample(2000, seed=0)
    flat = torch.cat([drawn[name].reshape(2000, -1) for name in decoder.factors], 1)
    return flat.mean(0), flat.std(0)


def _decoded(fit: Fit, decoder: Decoder, flat: torch.Tensor) -> torch.Tensor:
    """E[x | z] at factors (B, K), (B, *event), with shared latents at their posterior mean and covariates as declared."""
    model = fit.model
    if decoder.discrete:
        raise DeclarationError(
            f"factor_walk holds the other latents at their means, which are no values of {', '.join(decoder.discrete)}"
        )
    others = {}
    if shared := [name for name, latent in model.latents.items() if not latent.per_row]:
        posterior = fit.posterior()
        others = {name: posterior[name].mean for name in shared}
    batch = Batch(size=len(flat))
    batch.index = batch.index.to(model.device)
    (name,) = decoder.observed
    with evaluating(model), isolated(Stream(0, model.device), model.device), torch.no_grad():
        means = decoder(flat, others, batch)[name]
    shape = model.observed[name].shape
    return means.reshape(len(flat), *shape) if shape.numel() == means.shape[1] and shape else means

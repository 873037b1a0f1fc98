"""Pictures of rows that are pictures: galleries, draws, reconstructions."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from pyro_lfm.errors import ShapeError
from pyro_lfm.evaluate.inputs import Array
from pyro_lfm.plots.mosaic import draw_mosaic, pictures_of
from pyro_lfm.plots.style import INK, by_name, colours, one_or_by_name

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

    >>> import torch
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

    >>> import torch
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

    >>> import torch
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

"""Labelled images: the digits of scikit-learn, any data set of torchvision, and the guard of its import."""

from __future__ import annotations

import sys
from collections.abc import Sequence, Sized
from dataclasses import dataclass, field
from types import ModuleType
from typing import TYPE_CHECKING, TypeAlias, cast

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from pyro_lfm.errors import DataError, ShapeError

if TYPE_CHECKING:
    from PIL.Image import Image

    LabelledImage: TypeAlias = tuple[np.ndarray | Tensor | Image, int]

_MISSING_OPERATOR = "operator torchvision::nms does not exist"
_operators: torch.library.Library | None = None  # its operators exist as long as the Library


@dataclass(frozen=True, eq=False)
class Labelled:
    """Images as rows, with their labels.

    ``x`` is (N, D), float32 in [0, 1]. ``y`` is (N,), the labels as int64. ``shape`` is that of one image, channels
    first, with D entries. ``name`` is the data set's.

    >>> data = digits()
    >>> data.x.shape, data.shape, data.y[:3].tolist()
    (torch.Size([1797, 64]), (1, 8, 8), [0, 1, 2])
    """

    x: Tensor = field(repr=False)
    y: Tensor = field(repr=False)
    shape: tuple[int, ...]
    name: str

    def __len__(self) -> int:
        return len(self.x)

    def split(self, test: float = 0.2, seed: int = 0) -> tuple[Labelled, Labelled]:
        """A random part to train on and, of a fraction ``test`` of the rows, one to test on.

        The split depends on ``seed`` alone and leaves torch's global generator as it is.
        Raises ``DataError`` where either part would be empty.

        >>> train, test = digits().split(test=0.25, seed=1)
        >>> len(train), len(test)
        (1348, 449)
        """
        train, held_out = parts(len(self), test, seed)
        return (
            Labelled(self.x[train], self.y[train], self.shape, self.name),
            Labelled(self.x[held_out], self.y[held_out], self.shape, self.name),
        )


def parts(rows: int, test: float, seed: int) -> tuple[Tensor, Tensor]:
    """The indices of a random split: rows to train on, and a fraction ``test`` of them to test on."""
    count = round(test * rows)
    if not 0 < count < rows:
        raise DataError(
            f"test must be a fraction that leaves rows on both sides; got {test}, that is {count} of {rows} rows"
        )
    order = torch.randperm(rows, generator=torch.Generator().manual_seed(seed))
    return order[count:], order[:count]


def digits() -> Labelled:
    """The 1797 handwritten digits of 8 × 8 pixels that ship with scikit-learn, with labels 0 to 9.

    >>> digits()
    Labelled(shape=(1, 8, 8), name='digits')
    """
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    return Labelled(
        torch.from_numpy(images / 16).float(), torch.from_numpy(labels).long(), (1, 8, 8), "digits"
    )


def from_torchvision(
    dataset: Dataset[LabelledImage] | Sequence[LabelledImage], limit: int | None = None
) -> Labelled:
    """The first ``limit`` items (all by default) of a data set of (image, label) pairs, gathered in memory.

    An image is a PIL image or array, (H, W) or (H, W, C), or a tensor, (H, W) or (C, H, W). Integers 0 to 255 are
    scaled to [0, 1], floating-point numbers must lie there. A label is an integer.

    Raises:
        DataError: items that are no such pairs, or no items.
        ShapeError: images that differ in size.

    >>> torchvision = import_torchvision()
    >>> data = from_torchvision(torchvision.datasets.FakeData(size=9, image_size=(3, 4, 5)), limit=2)
    >>> data, data.x.shape
    (Labelled(shape=(3, 4, 5), name='FakeData'), torch.Size([2, 60]))
    """
    name, items = type(dataset).__name__, len(cast(Sized, dataset))
    count = items if limit is None else min(limit, items)
    if count < 1:
        raise DataError(f"{name} must give at least one item; got {items} items with limit={limit}")
    images, labels = [], []
    for i in range(count):
        item = dataset[i]
        try:
            image, label = item
            labels.append(int(label))
        except (TypeError, ValueError, RuntimeError):
            raise DataError(
                f"{name} must give pairs of an image and an integer label; item {i} is a {type(item).__name__} "
                f"that is none: choose the target, or wrap the data set"
            ) from None
        images.append(_image(image, f"item {i} of {name}"))
        if images[-1].shape != images[0].shape:
            raise ShapeError(
                f"{name} must have images of one size, {tuple(images[0].shape)} as in item 0; got "
                f"{tuple(images[-1].shape)} in item {i}: resize or crop in its transform"
            )
    x = torch.stack(images)
    return Labelled(x.flatten(1), torch.tensor(labels), tuple(x.shape[1:]), name)


def import_torchvision() -> ModuleType:
    """The module torchvision, also where its compiled operators cannot be loaded.

    A torchvision built for another torch (with CUDA beside a CPU-only one) fails at import because its operator ``nms`` is
    unknown. This function declares the operator without a body, so that the import succeeds. Datasets, transforms and
    models then work, but ``torchvision.ops.nms`` and ``torchvision.io.decode_image`` do not. Other errors are raised
    unchanged.

    >>> import_torchvision().__name__
    'torchvision'
    """
    global _operators
    try:
        import torchvision
    except RuntimeError as error:
        if _MISSING_OPERATOR not in str(error):
            raise
        for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
            del sys.modules[name]  # they are imported by half only
        if _operators is None:
            _operators = torch.library.Library("torchvision", "FRAGMENT")
            for operator in ("nms", "qnms"):
                _operators.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        import torchvision
    return torchvision


def _image(image: np.ndarray | Tensor | Image, where: str) -> Tensor:
    """One image, channels first, float32 in [0, 1]."""
    pixels = image if isinstance(image, Tensor) else torch.from_numpy(np.array(image))
    if pixels.ndim == 2:
        pixels = pixels[None]
    elif pixels.ndim == 3 and not isinstance(image, Tensor):
        pixels = pixels.permute(2, 0, 1)
    if pixels.ndim != 3:
        raise ShapeError(
            f"{where} must be an image, (H, W) or with channels; got shape {tuple(pixels.shape)}"
        )
    scaled = pixels / 255 if pixels.dtype == torch.uint8 else pixels.float()
    if not (0 <= scaled.min() and scaled.max() <= 1):
        raise DataError(
            f"{where} must lie between 0 and 1; got {scaled.min():g} to {scaled.max():g}: leave Normalize out "
            "of the transform"
        )
    return scaled

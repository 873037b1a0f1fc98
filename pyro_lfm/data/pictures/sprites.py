"""Squares, ellipses and hearts of known scale, rotation and place: a data set after dSprites (Matthey et al., 2017)."""

import math

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

from pyro_lfm.data.pictures.canvas import box, disc, ellipse, fill, grid
from pyro_lfm.data.pictures.scenes import Scenes, Spec, draw_factors, paint, read_factors

SHAPES = ("square", "ellipse", "heart")
# Within these bounds a shape lies wholly in the picture.
DRAWN: Spec = {
    "shape": SHAPES,
    "scale": (0.2, 0.36),
    "rotation": (0, 2 * math.pi),
    "x": (0.3, 0.7),
    "y": (0.3, 0.7),
}
ADMITTED: Spec = {**DRAWN, "scale": (0.01, 2), "rotation": (-math.inf, math.inf), "x": (-1, 2), "y": (-1, 2)}

# Every shape has area 1 and its centre of mass at the origin. The heart is a square of side h stood on its corner, with half
# a disc of diameter h on each of its upper sides: area h² (1 + π / 4).
_SIDE = 1 / math.sqrt(1 + math.pi / 4)
_LOBE = _SIDE / math.sqrt(8)  # how far the middle of an upper side lies to the right, and above
_RISE = math.pi / 4 * _SIDE**2 * (_LOBE + math.sqrt(2) * _SIDE / (3 * math.pi))  # of the centre of mass
_HALF = 1 / math.sqrt(2 * math.pi)  # the smaller half-axis of the ellipse; the other is twice as long

# A smooth edge adds about a third of one of its pixels to any shape, which would be 1% of the smallest: so pixels are fine.
_FINE = 2


def sprites(n: int = 10_000, seed: int = 0, size: int = 32) -> Scenes:
    """Grey pictures of one shape each, drawn from five factors that are uniform and independent.

    ``shape`` is square, ellipse or heart. ``scale`` is the square root of its area. ``x`` (to the right) and ``y`` (down)
    are the place of its centre of mass, as fractions of the picture's side. ``rotation`` is the angle by which it is turned
    counter-clockwise, in radians from 0 to 2π. A square looks the same after a quarter turn, an ellipse after half a turn.
    Edges are anti-aliased. The pictures depend on ``seed`` alone, and the first rows do not depend on n.

    Source: dSprites (Matthey et al., 2017).

    Raises:
        DataError: n below 1 or size below 8.

    >>> data = sprites(n=500)
    >>> data, data.x.shape, data.labels["shape"][data.factors["shape"][0]]
    (Scenes(shape=(1, 32, 32), name='sprites'), torch.Size([500, 1024]), 'ellipse')
    """
    factors = draw_factors(DRAWN, n, seed)
    return Scenes(paint(_sprite, factors, size), factors, (1, size, size), "sprites", {"shape": SHAPES})


def draw_sprites(
    shape: str | int | Tensor = "heart",
    scale: float | Tensor = 0.3,
    rotation: float | Tensor = 0.0,
    x: float | Tensor = 0.5,
    y: float | Tensor = 0.5,
    *,
    size: int = 32,
) -> Tensor:
    """Pictures as rows (N, size²) with given factors, drawn as by ``sprites``.

    Args:
        shape: a name or its index, or the indices of N rows.
        scale, rotation, x, y: one number, or N of them: ``scale`` from 0.01 to 2, ``x`` and ``y`` from -1 to 2
            (a shape may leave the picture), ``rotation`` any angle.

    Raises:
        DataError: values out of these bounds.
        ShapeError: factors of different lengths.

    >>> turned = draw_sprites("ellipse", rotation=torch.linspace(0, 3.1416, 5))
    >>> turned.shape, turned.sum(1) / 32**2  # the area stays what scale² says
    (torch.Size([5, 1024]), tensor([0.0901, 0.0901, 0.0901, 0.0901, 0.0901]))
    """
    given = {"shape": shape, "scale": scale, "rotation": rotation, "x": x, "y": y}
    return paint(_sprite, read_factors(ADMITTED, given), size)


def _sprite(size: int, shape: Tensor, scale: Tensor, rotation: Tensor, x: Tensor, y: Tensor) -> Tensor:
    across, down, pixel = grid(_FINE * size, 0.0, 1.0)
    right, up = (across - x) / scale, (y - down) / scale
    cos, sin = rotation.cos(), rotation.sin()
    u, v = cos * right + sin * up, cos * up - sin * right
    distance = torch.where(shape == 1, ellipse(u, v, 2 * _HALF, _HALF), _heart(u, v))
    distance = torch.where(shape == 0, box(u, v, 0.5, 0.5), distance)
    return avg_pool2d(fill(distance * scale, pixel)[:, None], _FINE)


def _heart(u: Tensor, v: Tensor) -> Tensor:
    u, v = u.abs(), v + _RISE
    square = box((u + v) / math.sqrt(2), (v - u) / math.sqrt(2), _SIDE / 2, _SIDE / 2)
    return torch.minimum(square, disc(u - _LOBE, v - _LOBE, _SIDE / 2))

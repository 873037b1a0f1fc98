"""Cartoon faces of known attributes, a data set for named attributes; painted layer on layer."""

import torch
from torch import Tensor

from pyro_lfm.data.pictures.canvas import box, disc, ellipse, fill, grid, stroke
from pyro_lfm.data.pictures.scenes import Scenes, Spec, draw_factors, paint, read_factors

GLASSES = ("without", "with")
ATTRIBUTES: Spec = {
    "hair_length": (0, 1),
    "hair_colour": (0, 1),
    "eye_colour": (0, 1),
    "skin_tone": (0, 1),
    "mouth": (-1, 1),
    "face_width": (0, 1),
    "glasses": GLASSES,
}

# Palettes from 0 to 1, straight between the colours named.
_HAIR = torch.tensor([[0.13, 0.11, 0.14], [0.38, 0.22, 0.13], [0.70, 0.31, 0.14], [0.94, 0.77, 0.48]])
_EYES = torch.tensor([[0.38, 0.20, 0.08], [0.33, 0.58, 0.28], [0.20, 0.50, 0.88]])
_SKIN = torch.tensor([[0.42, 0.27, 0.19], [0.66, 0.45, 0.32], [0.87, 0.66, 0.51], [0.98, 0.84, 0.74]])
_WALL = ((0.90, 0.94, 0.97), (0.76, 0.85, 0.92))  # above and below
_SHIRT, _LIPS, _BLUSH = (0.27, 0.55, 0.60), (0.80, 0.30, 0.33), (0.92, 0.38, 0.34)
_WHITE, _BLACK, _FRAME = (1.0, 1.0, 1.0), (0.08, 0.07, 0.09), (0.16, 0.17, 0.24)
_EYE_APART, _EYE_DOWN = 0.23, 0.06  # the places of the eyes
_TOP = -0.25  # the height of the centre of the hair


def faces(n: int = 10_000, seed: int = 0, size: int = 32) -> Scenes:
    """Coloured pictures of one cartoon face each, drawn from seven attributes that are uniform and independent.

    ``hair_length`` (above the ears to over the shoulders), ``hair_colour`` (black, brown, red, fair), ``eye_colour`` (brown,
    green, blue), ``skin_tone`` (dark to light) and ``face_width`` go from 0 to 1. ``mouth`` is its curvature, from -1 (a
    frown) to 1 (a smile). ``glasses`` are 0 (without) or 1 (with). Nothing else varies. The pictures were designed for size
    32 or 64. They depend on ``seed`` alone, and the first rows do not depend on n.

    Raises:
        DataError: n below 1 or size below 8.

    >>> data = faces(n=100)
    >>> data, data.x.shape, data.labels["glasses"][data.factors["glasses"][0]]
    (Scenes(shape=(3, 32, 32), name='faces'), torch.Size([100, 3072]), 'without')
    """
    factors = draw_factors(ATTRIBUTES, n, seed)
    return Scenes(paint(_face, factors, size), factors, (3, size, size), "faces", {"glasses": GLASSES})


def draw_faces(
    hair_length: float | Tensor = 0.5,
    hair_colour: float | Tensor = 0.4,
    eye_colour: float | Tensor = 1.0,
    skin_tone: float | Tensor = 0.8,
    mouth: float | Tensor = 0.5,
    face_width: float | Tensor = 0.5,
    glasses: int | str | Tensor = 0,
    *,
    size: int = 32,
) -> Tensor:
    """Pictures as rows (N, 3 size²) with given attributes, drawn as by ``faces``.

    Args:
        hair_length, hair_colour, eye_colour, skin_tone, mouth, face_width, glasses: a number for all rows, or the
            numbers of N rows, with the meanings and bounds of ``faces``.

    Raises:
        DataError: values out of these bounds.
        ShapeError: attributes of different lengths.

    >>> frown_to_smile = draw_faces(mouth=torch.linspace(-1, 1, 5), glasses="with")
    >>> frown_to_smile.shape
    torch.Size([5, 3072])
    """
    given = {
        "hair_length": hair_length,
        "hair_colour": hair_colour,
        "eye_colour": eye_colour,
        "skin_tone": skin_tone,
        "mouth": mouth,
        "face_width": face_width,
        "glasses": glasses,
    }
    return paint(_face, read_factors(ATTRIBUTES, given), size)


class _Painting:
    """Pictures (rows, 3, H, W) in progress: each shape covers those before it."""

    def __init__(self, size: int, rows: int):
        self.right, self.down, self.pixel = grid(size, -1.0, 1.0)
        wall = (self.down[:, None] + 1) / 2
        # From above, on the left.
        self.light = (1.06 - 0.10 * (self.right + 1.2 * self.down).clamp(-1, 1))[:, None]
        self.rgb = (_rgb(_WALL[0]) * (1 - wall) + _rgb(_WALL[1]) * wall).expand(rows, 3, size, size)

    def add(
        self, distance: Tensor, colour: Tensor | tuple[float, ...], opacity: float | Tensor = 1.0
    ) -> None:
        """A shape in a colour: three numbers, or (rows, 3, 1, 1), or (rows, 3, H, W) where it is shaded."""
        self.wash(fill(distance, self.pixel) * opacity, colour)

    def wash(self, cover: Tensor, colour: Tensor | tuple[float, ...]) -> None:
        """A colour with the opacity ``cover``, (rows, H, W), from 0 to 1."""
        tint = _rgb(colour) if isinstance(colour, tuple) else colour
        self.rgb = torch.lerp(self.rgb, tint, cover[:, None])


def _face(
    size: int,
    hair_length: Tensor,
    hair_colour: Tensor,
    eye_colour: Tensor,
    skin_tone: Tensor,
    mouth: Tensor,
    face_width: Tensor,
    glasses: Tensor,
) -> Tensor:
    """A block of pictures, painted back to front. The picture's sides are -1 and 1, u to the right and v down."""
    picture = _Painting(size, len(glasses))
    half = 0.46 + 0.14 * face_width
    hair, skin, iris = _mix(_HAIR, hair_colour), _mix(_SKIN, skin_tone), _mix(_EYES, eye_colour)
    shade = skin * _rgb((0.80, 0.72, 0.70))

    _paint_shirt_and_ears(picture, half, skin, shade)
    _paint_hair_behind(picture, half, hair, hair_length)
    outline = _paint_head(picture, half, skin, shade)
    _paint_hair_in_front(picture, half, hair)
    _paint_eyes(picture, outline, hair, iris)
    _paint_nose_and_mouth(picture, mouth, shade)
    _paint_glasses(picture, half, glasses.float())
    return picture.rgb.clamp(0, 1)


def _paint_shirt_and_ears(picture: _Painting, half: Tensor, skin: Tensor, shade: Tensor) -> None:
    u, v = picture.right, picture.down
    picture.add(box(u, v - 1.25, 0.82, 0.47, 0.40), _rgb(_SHIRT) * picture.light)
    for side in (-1, 1):
        picture.add(disc(u - side * half, v - 0.10, 0.11), skin)
        picture.add(disc(u - side * half, v - 0.10, 0.055), shade)


def _paint_hair_behind(picture: _Painting, half: Tensor, hair: Tensor, length: Tensor) -> None:
    """A cap behind the head, and the hair that falls from it, wider at its end."""
    u, v = picture.right, picture.down
    end = -0.10 + 1.00 * length
    cap = ellipse(u, v - _TOP, half + 0.13, 0.63)
    cap = torch.maximum(cap, v - end.clamp(max=0.0))
    fall = box(u / (1 + 0.10 * (v - _TOP)), v - (_TOP + end) / 2, half + 0.12, (end - _TOP) / 2, 0.13)
    picture.add(torch.minimum(cap, fall), (hair * picture.light * 0.82).clamp(max=1))


def _paint_head(picture: _Painting, half: Tensor, skin: Tensor, shade: Tensor) -> Tensor:
    """Neck and head. Returns the distance to the outline of the head."""
    u, v = picture.right, picture.down
    picture.add(box(u, v - 0.68, 0.19, 0.25, 0.15), shade)
    outline = ellipse(u / (1 - 0.16 * v.clamp(min=0)), v - 0.07, half, 0.66)
    picture.add(outline, (skin * picture.light).clamp(max=1))
    return outline


def _paint_hair_in_front(picture: _Painting, half: Tensor, hair: Tensor) -> None:
    """Hair above a line that is parted on the left."""
    u, v = picture.right, picture.down
    gloss = 0.22 * torch.exp(-(((v + 0.62 - 0.25 * u**2) / 0.08) ** 2))[:, None]
    colour = torch.lerp((hair * picture.light).clamp(max=1), _rgb(_WHITE), gloss)
    line = -0.42 + 0.85 * (u + 0.10) ** 2
    crown = ellipse(u, v - _TOP, half + 0.10, 0.62)
    picture.add(torch.maximum(crown, (v - line) / (1 + (1.7 * (u + 0.10)) ** 2) ** 0.5), colour)


def _paint_eyes(picture: _Painting, outline: Tensor, hair: Tensor, iris: Tensor) -> None:
    """Blush, eyes and brows."""
    u, v = picture.right, picture.down
    for side in (-1, 1):
        spot = ((u - side * 0.34) / 0.13) ** 2 + ((v - 0.33) / 0.09) ** 2
        picture.wash(0.30 * torch.exp(-spot) * fill(outline, picture.pixel), _BLUSH)
        x, y = u - side * _EYE_APART, v - _EYE_DOWN
        picture.add(ellipse(x, y, 0.145, 0.115), _WHITE)
        picture.add(disc(x, y, 0.100), iris)
        picture.add(disc(x, y, 0.045), _BLACK)
        picture.add(disc(x + 0.035, y + 0.04, 0.028), _WHITE)
        picture.add(stroke(x, y + 0.115, 0.15, 0.075, 0.040), _BLACK)
        picture.add(stroke(x, y + 0.255, 0.13, 0.04, 0.050), hair * 0.75)


def _paint_nose_and_mouth(picture: _Painting, mouth: Tensor, shade: Tensor) -> None:
    u, v = picture.right, picture.down
    picture.add(stroke(u, v - 0.31, 0.055, -0.035, 0.045), shade)
    picture.add(stroke(u, v - 0.50 - 0.055 * mouth, 0.20, -0.13 * mouth, 0.075), _LIPS)


def _paint_glasses(picture: _Painting, half: Tensor, worn: Tensor) -> None:
    u, v = picture.right, picture.down
    for side in (-1, 1):
        lens = box(u - side * 0.24, v - 0.07, 0.195, 0.175, 0.14)
        picture.add(lens, _WHITE, 0.18 * worn)
        picture.add(lens.abs() - 0.022, _FRAME, worn)
        temple = box(u - side * (0.43 + half) / 2, v - 0.03, (half - 0.43) / 2, 0.02)
        picture.add(temple, _FRAME, worn)
    picture.add(stroke(u, v - 0.03, 0.045, 0.02, 0.040), _FRAME, worn)


def _rgb(colour: tuple[float, ...]) -> Tensor:
    return torch.tensor(colour).reshape(1, 3, 1, 1)


def _mix(palette: Tensor, value: Tensor) -> Tensor:
    """The colours (rows, 3, 1, 1) at values from 0 to 1 on a palette."""
    place = value.reshape(-1, 1) * (len(palette) - 1)
    left = place.long().clamp(max=len(palette) - 2)
    part = place - left
    return (palette[left[:, 0]] * (1 - part) + palette[left[:, 0] + 1] * part).reshape(-1, 3, 1, 1)

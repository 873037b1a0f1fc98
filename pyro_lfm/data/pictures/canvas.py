"""Shapes as signed distances on a grid of pixels, for many pictures at once; faces and sprites are drawn with them.

A distance is negative inside a shape and positive outside, in the units of the coordinates. Coordinates and the sizes of
shapes broadcast to (rows, H, W). The zero set of every distance is exact, and its slope there is 1: no more is needed to
fill a shape.
"""

import torch
from torch import Tensor

Size = Tensor | float


def grid(size: int, low: float, high: float) -> tuple[Tensor, Tensor, float]:
    """The centres of size × size pixels over [low, high]²: to the right (1, 1, W), down (1, H, 1); and a pixel's side.

    >>> right, down, pixel = grid(4, 0.0, 1.0)
    >>> right.flatten().tolist(), tuple(down.shape), pixel
    ([0.125, 0.375, 0.625, 0.875], (1, 4, 1), 0.25)
    """
    pixel = (high - low) / size
    centres = low + pixel * (torch.arange(size) + 0.5)
    return centres.reshape(1, 1, -1), centres.reshape(1, -1, 1), pixel


def disc(u: Tensor, v: Tensor, radius: Size) -> Tensor:
    """A disc about the origin: |(u, v)| - radius."""
    return torch.hypot(u, v) - radius


def box(u: Tensor, v: Tensor, half_width: Size, half_height: Size, corner: float = 0.0) -> Tensor:
    """A rectangle about the origin, its corners rounded with radius `corner`."""
    right, down = u.abs() - half_width + corner, v.abs() - half_height + corner
    outside = torch.hypot(right.clamp(min=0), down.clamp(min=0))
    return outside + torch.maximum(right, down).clamp(max=0) - corner


def ellipse(u: Tensor, v: Tensor, half_width: Size, half_height: Size) -> Tensor:
    """An ellipse about the origin: f / |∇f| of f = ρ² - ρ, with ρ² = (u / a)² + (v / b)², which is exact at first order."""
    reach = torch.hypot(u / half_width, v / half_height)
    slope = torch.hypot(u / half_width**2, v / half_height**2).clamp(min=1e-6)
    return reach * (reach - 1) / slope


def stroke(u: Tensor, v: Tensor, half_width: float, bend: Size, thickness: float) -> Tensor:
    """A line with round ends along the parabola v = bend · (u / half_width)², for |u| up to half_width."""
    along = u.clamp(-half_width, half_width)
    height, slope = bend * (along / half_width) ** 2, 2 * bend * along / half_width**2
    return torch.hypot(u - along, (v - height) / (1 + slope**2) ** 0.5) - thickness / 2


def fill(distance: Tensor, pixel: float) -> Tensor:
    """The part of each pixel that a shape covers: a smooth step across its edge, as steep as that of a square pixel.

    >>> fill(torch.tensor([-1.0, -0.25, 0.0, 1.0]), pixel=1.0)
    tensor([1.0000, 0.7407, 0.5000, 0.0000])
    """
    t = (0.5 - distance / (1.5 * pixel)).clamp(0, 1)
    return t * t * (3 - 2 * t)

"""Rational-quadratic splines: monotone maps of [−4, 4] onto itself with an inverse in closed form. Flows use them."""

from __future__ import annotations

from dataclasses import dataclass
from math import expm1, log

import torch
from torch import Tensor
from torch.nn.functional import pad, softplus

_BOUND = 4.0  # the map is the identity outside [−4, 4]
_LEAST = 1e-3  # the smallest width and height, as shares of the interval, and the smallest slope
_UNIT = log(expm1(1.0 - _LEAST))  # makes the slope 1 where its raw number is 0


def spline_size(bins: int) -> int:
    """The number of raw parameters of a spline: widths, heights, and slopes at the inner knots."""
    return 3 * bins - 1


@dataclass(frozen=True)
class _Piece:
    """The bin of each value: its lower corner (x, y), its size, and the slopes at its ends."""

    x: Tensor
    width: Tensor
    y: Tensor
    height: Tensor
    slope: Tensor
    next_slope: Tensor

    @property
    def steepness(self) -> Tensor:
        return self.height / self.width

    @property
    def bend(self) -> Tensor:
        return self.slope + self.next_slope - 2 * self.steepness


def spline(value: Tensor, raw: Tensor) -> tuple[Tensor, Tensor]:
    """y = f(x) and log f'(x), entry by entry. Raw parameters of zero give the identity.

    Args:
        value: x, (...,). raw: the unconstrained parameters, (..., 3 bins − 1).

    Source: Durkan, Bekasov, Murray and Papamakarios (2019), "Neural spline flows", equations 4 to 8.

    >>> y, slope = spline(torch.tensor([-9.0, 0.3]), torch.zeros(2, 11))
    >>> [round(v, 4) for v in y.tolist()], slope.abs().max().item() < 1e-5
    ([-9.0, 0.3], True)
    """
    piece, inside, at = _locate(value, raw, of_image=False)
    xi = (at - piece.x) / piece.width
    mixed = xi * (1 - xi)
    below = piece.steepness + piece.bend * mixed
    image = piece.y + piece.height * (piece.steepness * xi.square() + piece.slope * mixed) / below
    return torch.where(inside, image, value), torch.where(inside, _log_slope(piece, xi), 0.0)


def inverse_spline(image: Tensor, raw: Tensor) -> tuple[Tensor, Tensor]:
    """x = f⁻¹(y) and log f'(x). The arguments are those of ``spline``."""
    piece, inside, at = _locate(image, raw, of_image=True)
    rise = at - piece.y
    a = piece.height * (piece.steepness - piece.slope) + rise * piece.bend
    b = piece.height * piece.slope - rise * piece.bend
    c = -piece.steepness * rise
    # This form of the root of a ξ² + b ξ + c = 0 loses no digits where a is small.
    root = (b.square() - 4 * a * c).clamp_min(0.0).sqrt()
    xi = (2 * c / (-b - root)).clamp(0.0, 1.0)
    value = piece.x + xi * piece.width
    return torch.where(inside, value, image), torch.where(inside, _log_slope(piece, xi), 0.0)


def _log_slope(piece: _Piece, xi: Tensor) -> Tensor:
    mixed = xi * (1 - xi)
    above = piece.next_slope * xi.square() + 2 * piece.steepness * mixed + piece.slope * (1 - xi).square()
    below = piece.steepness + piece.bend * mixed
    return 2 * piece.steepness.log() + above.log() - 2 * below.log()


def _locate(value: Tensor, raw: Tensor, of_image: bool) -> tuple[_Piece, Tensor, Tensor]:
    """The bin of each value, whether the value lies in the interval, and the value clamped to the interval."""
    bins = (raw.shape[-1] + 1) // 3
    raw_widths, raw_heights, raw_slopes = raw.split([bins, bins, bins - 1], -1)
    slopes = pad(_LEAST + softplus(raw_slopes + _UNIT), (1, 1), value=1.0)
    widths, xs = _knots(raw_widths)
    heights, ys = _knots(raw_heights)
    at = value.clamp(-_BOUND, _BOUND).expand(raw.shape[:-1])
    inner = (ys if of_image else xs)[..., 1:]
    index = (at.unsqueeze(-1) >= inner).sum(-1, keepdim=True)

    def pick(every: Tensor) -> Tensor:
        return every.gather(-1, index).squeeze(-1)

    piece = _Piece(
        pick(xs), pick(widths), pick(ys), pick(heights), pick(slopes[..., :-1]), pick(slopes[..., 1:])
    )
    return piece, value.abs() <= _BOUND, at


def _knots(raw: Tensor) -> tuple[Tensor, Tensor]:
    """The sizes of the bins and their lower ends."""
    bins = raw.shape[-1]
    sizes = 2 * _BOUND * (_LEAST + (1 - _LEAST * bins) * raw.softmax(-1))
    return sizes, pad(sizes.cumsum(-1)[..., :-1], (1, 0)) - _BOUND

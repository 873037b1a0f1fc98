"""Stirling's error and deviances, from which densities of counts, Gammas, Betas and Dirichlets lose no digits.

ln x! − x ln λ + λ subtracts numbers of size x ln x to get one of size ln x: at x = 10⁷ single precision has no digit
left. With Stirling's formula taken out of each ln Γ only small terms remain:

    ln Γ(x) = (x − ½) ln x − x + ½ ln 2π + δ(x),   D(x, m) = x ln(x / m) − x + m,

as in ln Poisson(x; λ) = −D(x, λ) − δ(x) − ½ ln 2πx.

Source: Loader (2000), "Fast and accurate computation of binomial probabilities".
"""

from __future__ import annotations

from math import log, pi

import torch
from torch import Tensor

HALF_LOG_2PI = 0.5 * log(2 * pi)
# B₂ₖ / (2k (2k − 1)) for k = 1, 2, ...: δ(x) = Σ_k cₖ x^(1 − 2k).
STIRLING = (1 / 12, -1 / 360, 1 / 1260, -1 / 1680, 1 / 1188, -691 / 360360, 1 / 156)
_SLOPE = tuple(-(2 * k - 1) * coefficient for k, coefficient in enumerate(STIRLING, 1))
# From here on the series has all digits of a double, and its first three terms those of single precision.
_LARGE = 10.0
# 2 / (2k + 1): ln(1 + u) = 2 artanh v = Σ_k 2 v^(2k + 1) / (2k + 1), v = u / (2 + u).
_ARTANH = (2 / 3, 2 / 5, 2 / 7, 2 / 9, 2 / 11, 2 / 13)


def _terms(coefficients: tuple[float, ...], dtype: torch.dtype) -> tuple[float, ...]:
    return coefficients if dtype == torch.float64 else coefficients[:3]


def _horner(coefficients: tuple[float, ...], square: Tensor) -> Tensor:
    last, *rest = reversed(_terms(coefficients, square.dtype))
    total = torch.full_like(square, last)
    for coefficient in rest:
        total = torch.addcmul(
            torch.full((), coefficient, dtype=square.dtype, device=square.device), total, square
        )
    return total


def wide(value: Tensor) -> Tensor:
    """The value in double precision if the device has it: for differences of products that are nearly equal."""
    return value if value.device.type == "mps" else value.double()


def stirling_error(x: Tensor) -> Tensor:
    """δ(x) = ln Γ(x) − [(x − ½) ln x − x + ½ ln 2π] for x > 0.

    >>> stirling_error(torch.tensor([1.0, 1e8]))
    tensor([8.1061e-02, 8.3333e-10])
    """
    large = x.clamp_min(_LARGE)
    series = _horner(STIRLING, large.square().reciprocal())
    small = x.clamp_max(_LARGE)
    direct = small.lgamma() - (small - 0.5) * small.log() + small - HALF_LOG_2PI
    return torch.where(x < _LARGE, direct, series / large)


def digamma_error(x: Tensor) -> Tensor:
    """ψ(x) − ln x = δ'(x) − 1 / 2x for x > 0.

    >>> digamma_error(torch.tensor([1.0, 1e8]))
    tensor([-5.7722e-01, -5.0000e-09])
    """
    large = x.clamp_min(_LARGE)
    inverse = large.reciprocal()
    series = _horner(_SLOPE, inverse.square())
    small = x.clamp_max(_LARGE)
    return torch.where(x < _LARGE, small.digamma() - small.log(), inverse * (series * inverse - 0.5))


def deviance(x: Tensor, gap: Tensor, log_ratio: Tensor) -> Tensor:
    """D(x, m) = x ln(x / m) − x + m ≥ 0, half the deviance of x from m. It is m where x is 0.

    Args:
        x: at least 0.
        gap: m − x, with more digits than the difference of m and x would have.
        log_ratio: ln(m / x), used where m is far from x; any finite number where x is 0.

    >>> x, m = torch.tensor([0.0, 1e7, 3.0]), torch.tensor([2.0, 1e7 + 1, 1e-30])
    >>> deviance(x, m - x, m.log() - x.log())
    tensor([2.0000e+00, 5.0000e-08, 2.0753e+02])
    """
    zero = x == 0
    u = gap / (x + zero)
    # ln(1 + u) = 2 artanh v, and u − 2v = uv.
    near = u.clamp(-0.1, 0.1)
    v = near / (2 + near)
    square = v.square()
    close = near * v - v * square * _horner(_ARTANH, square)
    # For m far below x, 1 + u loses digits that the logarithms keep. For m far above x, u overflows.
    far = (u < -0.5) | (u > 1e3)
    logarithm = torch.where(far, log_ratio, u.clamp(-0.5, 1e3).log1p())
    apart = gap - x * logarithm
    return torch.where((u.abs() < 0.1) & ~zero, x * close, apart)

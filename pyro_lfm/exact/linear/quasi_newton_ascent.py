"""Quasi-Newton steps in the parameters of a linear Gaussian model, which accelerate its EM."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from pyro_lfm.exact.linear.linear_gaussian import LinearGaussian
from pyro_lfm.exact.quasi_newton import QuasiNewton

# The steps that the ascent keeps, and the number of refused proposals in a row after which it drops them.
_MEMORY, _FAILURES = 15, 5


class Slope(NamedTuple):
    """∂ ln p of all rows in (W, b), (D, K + 1), in the noise variances, () or (D,), and in the prior covariance, (K, K)."""

    line: Tensor
    noise: Tensor
    prior: Tensor


class EStepWithSlope(Protocol):
    """The result of an E step, of which the gradient follows."""

    def slope(self, model: LinearGaussian, /) -> Slope: ...


class QuasiNewtonAscent:
    """Accelerates EM by quasi-Newton ascent of ln p in the free parameters, in units of the columns.

    At the E step's q the gradient of the bound is that of ln p (Fisher's identity). The noise is parametrised by its
    standard deviation. Where a variance tends to zero (a Heywood case), ln p is smooth and even in the standard deviation:
    the ascent converges as at any other maximum, while plain EM needs 1 / error iterations. The prior covariance is
    parametrised by its Cholesky factor, so that every step keeps it positive definite; where factors have variance one, its
    rows have length one.

    Args:
        free: the names of the free parameters. pattern: (D, K), which weights are free; None for all.
        scale: of the columns, (D,). floor: of the noise variances. rows: N.
    """

    def __init__(
        self, free: Sequence[str], pattern: Tensor | None, scale: Tensor, floor: Tensor, rows: float
    ):
        self.free, self.pattern, self.scale, self.floor, self.rows = free, pattern, scale, floor, rows
        # Where the weights are free too, the factors have variance one.
        self.unit = {"weight", "prior"} <= set(free)
        self.failures = 0
        self.forget()

    def propose(
        self, model: LinearGaussian, plain: LinearGaussian, e_step: EStepWithSlope
    ) -> LinearGaussian | None:
        if not self.free:
            return None
        gradient = e_step.slope(model)
        if self.unit:
            gradient, model = _of_unit_factors(gradient, model), model.with_unit_factors()
        point, slope = self._pack(model), self._slope(model, gradient)
        guess = self.guess(point, slope / self.rows)
        if guess is None or not bool(guess.isfinite().all()):
            return None
        return self._unpack(guess, plain)

    def accepted(self) -> None:
        self.failures = 0

    def refused(self) -> None:
        """Keeps the approximate curvature, unless it has failed several times in a row."""
        self.failures += 1
        if self.failures == _FAILURES:
            self.forget()

    def forget(self) -> None:
        self.guess, self.failures = QuasiNewton(_MEMORY), 0

    def _noise_scale(self, noise: Tensor) -> Tensor:
        """The unit in which the standard deviation of the noise is measured."""
        return self.scale if noise.dim() else self.scale.square().mean().sqrt()

    def _weights(self, value: Tensor) -> Tensor:
        """The free entries of a matrix like W."""
        return value.flatten() if self.pattern is None else value[self.pattern]

    def _pack(self, model: LinearGaussian) -> Tensor:
        parts: Mapping[str, Callable[[], Tensor]] = {
            "weight": lambda: self._weights(model.weight / self.scale.unsqueeze(1)),
            "bias": lambda: model.bias / self.scale,
            "noise": lambda: (model.noise.sqrt() / self._noise_scale(model.noise)).flatten(),
            "prior": lambda: _lower(torch.linalg.cholesky(model.prior[1])),
        }
        return torch.cat([parts[name]() for name in self.free])

    def _slope(self, model: LinearGaussian, slope: Slope) -> Tensor:
        """The gradient of ln p of all rows, as a vector like that of ``_pack``."""
        line = slope.line * self.scale.unsqueeze(1)
        deviation = model.noise.sqrt() * self._noise_scale(model.noise)
        parts: Mapping[str, Callable[[], Tensor]] = {
            "weight": lambda: self._weights(line[:, :-1]),
            "bias": lambda: line[:, -1],
            "noise": lambda: (2 * deviation * slope.noise).flatten(),
            "prior": lambda: _lower(self._slope_of_root(slope.prior, torch.linalg.cholesky(model.prior[1]))),
        }
        return torch.cat([parts[name]() for name in self.free])

    def _slope_of_root(self, slope: Tensor, root: Tensor) -> Tensor:
        """The gradient in the Cholesky factor of the prior, for variances of one without its part along the rows."""
        of_root = (2 * slope @ root).tril()
        return of_root - (of_root * root).sum(1, keepdim=True) * root if self.unit else of_root

    def _unpack(self, vector: Tensor, like: LinearGaussian) -> LinearGaussian | None:
        """The model at a vector like that of ``_pack``; None where its prior is singular."""
        sizes = {
            "weight": like.weight.numel() if self.pattern is None else int(self.pattern.sum()),
            "bias": len(like.bias),
            "noise": like.noise.numel(),
            "prior": len(_lower(like.prior[1])),
        }
        parts = dict(zip(self.free, vector.split([sizes[name] for name in self.free]), strict=True))
        model = like
        if "weight" in parts:
            weight = like.weight.clone()
            places = torch.ones_like(weight, dtype=torch.bool) if self.pattern is None else self.pattern
            weight[places] = parts["weight"] * self.scale.unsqueeze(1).expand_as(weight)[places]
            model = replace(model, weight=weight)
        if "bias" in parts:
            model = replace(model, bias=parts["bias"] * self.scale)
        if "noise" in parts:
            deviation = parts["noise"].reshape(like.noise.shape) * self._noise_scale(like.noise)
            model = replace(model, noise=torch.maximum(deviation.square(), self.floor))
        if "prior" in parts:
            root = torch.zeros_like(like.prior[1])
            root[tuple(torch.tril_indices(len(root), len(root)))] = parts["prior"]
            root = root / root.norm(dim=1, keepdim=True) if self.unit else root
            if bool(torch.linalg.cholesky_ex(root @ root.mT).info):
                return None
            model = replace(model, prior_covariance=root @ root.mT)
        return model


def _of_unit_factors(slope: Slope, model: LinearGaussian) -> Slope:
    """The gradient in the parameters of ``model.with_unit_factors()``."""
    mean, covariance = model.prior
    scale = covariance.diagonal().sqrt()
    weight, bias = slope.line[:, :-1], slope.line[:, -1:]
    # The bias follows the weights where the factors have a mean.
    line = torch.cat([weight / scale + bias * (mean - mean / scale), bias], 1)
    return Slope(line, slope.noise, slope.prior * torch.outer(scale, scale))


def _lower(matrix: Tensor) -> Tensor:
    """The entries on and below the diagonal."""
    return matrix[tuple(torch.tril_indices(len(matrix), len(matrix)))]

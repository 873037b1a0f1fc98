"""``LinearPlus``, a network that starts at an affine map: deep models of estimators begin at a linear one."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pyro_lfm.sources.networks import MLP


@dataclass(frozen=True, eq=False)
class LinearPlus:
    """The source A x + b + f(x), with f a perceptron whose output is zero at first.

    Args:
        weight: A, (out, in), or with fewer columns, for the first entries of the input; None: random. bias: b, (out,).
        hidden: the widths of the hidden layers of f.
        logarithmic: whether the sum is the logarithm of a rate, whose raw number is given then.
    """

    weight: NDArray[np.float64] | None
    bias: NDArray[np.float64]
    hidden: tuple[int, ...]
    logarithmic: bool = False

    def __call__(self, in_size: int, out_size: int) -> nn.Module:
        linear = nn.Linear(in_size, out_size)
        with torch.no_grad():
            if self.weight is not None:
                linear.weight.zero_()
                linear.weight[:, : self.weight.shape[1]] = torch.as_tensor(self.weight)
            linear.bias.copy_(torch.as_tensor(self.bias))
        change = MLP(*self.hidden)(in_size, out_size)
        last = [module for module in change.modules() if isinstance(module, nn.Linear)][-1]
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        return _Sum(linear, change, self.logarithmic)


class _Sum(nn.Module):
    def __init__(self, linear: nn.Linear, change: nn.Module, logarithmic: bool):
        super().__init__()
        self.linear, self.change, self.logarithmic = linear, change, logarithmic

    def forward(self, context: Tensor) -> Tensor:
        total: Tensor = self.linear(context) + self.change(context)
        if not self.logarithmic:
            return total
        # The softplus of the result is exp(total).
        rate = total.clamp(max=30.0).exp()
        return rate + (-torch.expm1(-rate)).clamp_min(1e-30).log()


@dataclass(frozen=True, eq=False)
class LinearStart:
    """A linear model of rows: weight (D, K), bias (D,) and noise variances (D,)."""

    weight: NDArray[np.float64]
    bias: NDArray[np.float64]
    noise: NDArray[np.float64]

    def encoder(self) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        """A and b of the posterior mean A x + b, and the posterior covariance, (K, K).

        >>> weight, bias, covariance = LinearStart(np.ones((2, 1)), np.zeros(2), np.ones(2)).encoder()
        >>> weight.round(3), covariance.round(3)
        (array([[0.333, 0.333]]), array([[0.333]]))
        """
        scaled = self.weight.T / self.noise
        covariance = np.asarray(np.linalg.inv(np.eye(len(scaled)) + scaled @ self.weight), np.float64)
        weight = covariance @ scaled
        return weight, -weight @ self.bias, covariance

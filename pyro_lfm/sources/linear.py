"""Affine maps of the parents, whose weights are learned, fixed or drawn from a prior."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn

from pyro_lfm.errors import DeclarationError, ShapeError
from pyro_lfm.sources.drawn import Drawn, flat_rows
from pyro_lfm.sources.parameter_priors import Normal
from pyro_lfm.sources.parameter_priors.parameter_prior import WeightPrior
from pyro_lfm.sources.source import Network, Parameter
from pyro_lfm.sources.values import Constant, Fixed, Learned, Value


@dataclass(eq=False, repr=False)
class Linear(Network):
    """An affine map of the parents, W (out, in) and b (out,). Either may be a ``Fixed`` or ``Learned`` value.

    Args:
        weight, bias: W and b, learned by default. The bias may have a prior, ``parameter_priors.Normal``.
        prior: of W: ``parameter_priors.ARD``, ``Horseshoe`` or ``Normal``. The model then draws W and b, b by default
            from N(m, 1000 spread²), with the mean m and the spread of each column.
        pattern: (out, in), an array or a DataFrame of 0 and 1, or False and True: which weights are learned. The others
            stay zero, as in confirmatory factor analysis, where out are the columns of the data and in the factors. Rows
            of a DataFrame are taken by position, in the order of the columns: their names are not read.

    Raises:
        DeclarationError: a weight with both a value and a prior, or an argument of another kind.
        ShapeError: a pattern for other sizes.

    Use it for factors that can be read as loadings: factor analysis, PPCA, and guides of linear models.

    Limits: without a pattern the axes of z are free: see ``lfm.factor_analysis``.

    Source: Rubin and Thayer (1982), equation 1, as the mean of factor analysis.

    >>> Linear(weight=Fixed(torch.ones(3, 2)), bias=Fixed(0.0))(2, 3)(torch.ones(1, 2))
    tensor([[2., 2., 2.]])
    >>> Linear(weight=Learned(5.0), pattern=[[1, 0], [1, 0], [0, 1]])(2, 3).weight(None).detach()
    tensor([[5., 0.],
            [5., 0.],
            [0., 5.]])
    """

    weight: Fixed | Learned | None = None
    bias: Fixed | Learned | Normal | None = None
    prior: WeightPrior | None = None
    pattern: ArrayLike | Tensor | None = None

    def __post_init__(self) -> None:
        if self.prior is not None and not isinstance(self.prior, WeightPrior):
            raise DeclarationError(
                "prior of Linear must be ARD(), Horseshoe() or Normal() of lfm.parameter_priors; "
                f"got {self.prior!r}"
            )
        if self.prior is not None and self.weight is not None:
            raise DeclarationError("weight of Linear has a value or a prior, not both")
        if self.pattern is not None:
            self._check_pattern()
        for name, value in (("weight", self.weight), ("bias", self.bias)):
            if value is None or isinstance(value, Value) or (name == "bias" and isinstance(value, Normal)):
                continue
            raise DeclarationError(
                f"{name} of Linear must be lfm.Fixed(value) or lfm.Learned(value); got {type(value).__name__}"
            )

    def __call__(self, in_size: int, out_size: int) -> Affine:
        start = nn.Linear(in_size, out_size).weight.detach()
        before: list[Drawn] = []
        constant, bias = self._constant("weight", self.weight, start), self.bias
        weight: nn.Module = constant
        if self.pattern is not None:
            weight = Patterned(constant, pattern_of(self.pattern, (out_size, in_size)))
        if self.prior is not None:
            *before, weight = self.prior.weights(start)
            bias = BROAD if bias is None else bias
        zeros = torch.zeros(out_size)
        if isinstance(bias, Normal):
            return Affine(weight, Drawn("bias", zeros, bias.distribution, located=True), before)
        return Affine(weight, self._constant("bias", bias, zeros), before)

    def describe(self) -> str:
        """As in ``Linear(weight: fixed, prior: parameter_priors.ARD())``."""
        parts = {"weight": self.weight, "bias": self.bias, "prior": self.prior}
        pattern = None if self.pattern is None else pattern_of(self.pattern, None).int().tolist()
        words = [
            f"{n}: {v.describe() if isinstance(v, Value) else v!r}" for n, v in parts.items() if v is not None
        ]
        words += [] if pattern is None else [f"pattern: {pattern}"]
        return f"Linear({', '.join(words)})"

    def _check_pattern(self) -> None:
        if self.prior is not None or isinstance(self.weight, Fixed):
            other = "prior" if self.prior is not None else "Fixed weight"
            raise DeclarationError(
                f"pattern of Linear says which weights are learned, so that it takes no {other}: leave one out"
            )
        pattern_of(self.pattern, None)

    def _constant(self, name: str, value: Value | None, start: Tensor) -> Constant:
        return (value or Learned()).module_for(Parameter(f"Linear {name}", start.shape, start))


class Patterned(Constant):
    """Learned weights, of which a mask keeps some and the others are zero."""

    mask: Tensor

    def __init__(self, weights: Constant, mask: Tensor):
        super().__init__(weights.digits("value") * mask, learned=True, dtype=weights.value.dtype)
        self.register_buffer("mask", mask)

    def forward(self, context: Tensor | None, index: Tensor | None = None) -> Tensor:
        return self.value * self.mask


def pattern_of(pattern: object, shape: tuple[int, int] | None) -> Tensor:
    """A pattern as a mask (out, in) of booleans.

    Args:
        shape: the sizes that it must have; None for any.

    Raises:
        DeclarationError: entries other than 0 and 1, or an input without weights.
        ShapeError: another shape.

    >>> pattern_of([[1, 0], [0, 1]], (2, 2))
    tensor([[ True, False],
            [False,  True]])
    """
    wanted = "pattern of Linear must be a matrix (out, in) of 0 and 1, a row for each column of the data"
    try:
        values = torch.as_tensor(np.asarray(pattern, dtype=np.float64))
    except (TypeError, ValueError):
        raise DeclarationError(f"{wanted}; got {pattern!r}") from None
    if values.dim() != 2 or (shape is not None and tuple(values.shape) != shape):
        sizes = (
            ""
            if shape is None
            else f", {shape}: {shape[0]} rows for the columns and {shape[1]} columns for the factors"
        )
        raise ShapeError(f"{wanted}{sizes}; got {tuple(values.shape)}")
    if not bool(((values == 0) | (values == 1)).all()):
        raise DeclarationError(f"{wanted}; got other entries")
    empty = (values.sum(0) == 0).nonzero().flatten().tolist()
    if empty:
        raise DeclarationError(
            f"pattern of Linear must have a 1 in every column; column {empty[0]} has none: leave it out"
        )
    return values.bool()


# The prior of a bias where only the weights are given one.
BROAD = Normal(spread=1000**0.5)


class Affine(nn.Module):
    """x ↦ x Wᵀ + b. With S draws of the weights (S, 1, out, in), draw s applies to all rows of x[s], for x (S, B, in)."""

    # It takes inputs with any batch dimensions.
    broadcasts = True

    def __init__(self, weight: nn.Module, bias: nn.Module, before: Sequence[Drawn] = ()):
        super().__init__()
        # Parameters that only the prior of the weight reads, drawn before it.
        self.before, self.weight, self.bias = nn.ModuleList(before), weight, bias

    def forward(self, context: Tensor) -> Tensor:
        weight, bias = self.weight(None), self.bias(None)
        if weight.dim() == 2 and bias.dim() == 1:
            return nn.functional.linear(context, weight, bias)
        image: Tensor = context @ flat_rows(weight, 2).mT + bias
        return image

"""Sources: where the parameters of a factor come from.

A network of the parents, a value that is learned or fixed, or one learned row per datum. Built, each is a
module ``source(context, index)`` that gives raw (unconstrained) parameters of shape (..., *out_shape).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn.functional import embedding

from pyro_lfm.errors import DeclarationError, ShapeError
from pyro_lfm.shapes import number, whole
from pyro_lfm.sources.drawn import Drawn, Stochastic
from pyro_lfm.sources.parameter_priors import ARD, Horseshoe, Normal


def _as_float(value: Any) -> torch.Tensor:
    """A floating tensor keeps its type; numbers and arrays take torch's default."""
    if isinstance(value, torch.Tensor) and value.is_floating_point():
        return value.detach().clone()
    try:
        return torch.as_tensor(value, dtype=torch.get_default_dtype()).clone()
    except (TypeError, ValueError, RuntimeError):
        raise DeclarationError(f"a value must be a number, array or tensor; got {value!r}") from None


@dataclass(frozen=True, eq=False)
class Learned:
    """A free parameter θ, the same for all rows, starting at ``init``.

    Args:
        init: natural value, broadcast to the parameter's shape: a rate is a rate, a covariance is given by
            its variances (Isotropic, Diagonal) or its matrix (Full). By default the family's own start.

    >>> Learned(2.0).tensor()
    tensor(2.)
    """

    init: Any = None

    def tensor(self) -> torch.Tensor | None:
        return None if self.init is None else _as_float(self.init)


@dataclass(frozen=True, eq=False)
class Fixed:
    """A value that is never trained, in natural units like that of ``Learned``.

    >>> Fixed([1.0, 2.0]).tensor()
    tensor([1., 2.])
    """

    value: Any

    def tensor(self) -> torch.Tensor:
        return _as_float(self.value)


@dataclass(frozen=True, eq=False)
class PerRow:
    """One learned row of parameters per datum: inference that is not amortized.

    Args:
        rows: how many rows the data have; by default the table takes its size from the first batch.
        learning_rate: step size for the table, usually far above that for shared weights: a row is updated
            only when its datum is in the batch.
    """

    rows: int | None = None
    learning_rate: float = 0.05

    def __post_init__(self) -> None:
        if self.rows is not None:
            whole("rows of PerRow", self.rows)
        number("learning_rate of PerRow", self.learning_rate, least=0.0, above=True)


@dataclass(frozen=True, eq=False)
class Linear:
    """An affine map of the parents, W (out, in) and b (out,); either may be a ``Fixed`` or ``Learned`` value.

    Args:
        weight, bias: W and b, learned by default. The bias may be a prior, ``Normal``.
        prior: of W, ``ARD``, ``Horseshoe`` or ``Normal``: W is then drawn by the model, and so is b, by default
            from N(m, 1000 spread²), with the mean m and the spread of each column.

    >>> Linear(weight=Fixed(torch.ones(3, 2)), bias=Fixed(0.0))(2, 3)(torch.ones(1, 2))
    tensor([[2., 2., 2.]])
    """

    weight: Fixed | Learned | None = None
    bias: Fixed | Learned | Normal | None = None
    prior: ARD | Horseshoe | Normal | None = None

    def __post_init__(self) -> None:
        if self.prior is not None and not isinstance(self.prior, ARD | Horseshoe | Normal):
            raise DeclarationError(
                f"prior of Linear must be lfm.parameter_priors.ARD(), lfm.parameter_priors.Horseshoe() or lfm.parameter_priors.Normal(); got {self.prior!r}"
            )
        if self.prior is not None and self.weight is not None:
            raise DeclarationError("weight of Linear has a value or a prior, not both")
        for name, value in (("weight", self.weight), ("bias", self.bias)):
            if name == "bias" and isinstance(value, Normal):
                continue
            if value is not None and not isinstance(value, Fixed | Learned):
                raise DeclarationError(
                    f"{name} of Linear must be lfm.Fixed(value) or lfm.Learned(value); got {type(value).__name__}"
                )

    def __repr__(self) -> str:
        given = [
            f"{n}: {KINDS.get(type(v), v)}"
            for n, v in (("weight", self.weight), ("bias", self.bias), ("prior", self.prior))
            if v is not None
        ]
        return f"Linear({', '.join(given)})"

    def __call__(self, in_size: int, out_size: int) -> nn.Module:
        start = nn.Linear(in_size, out_size).weight.detach()
        before: list[Drawn] = []
        weight, bias = self._part("weight", self.weight, start), self.bias
        if isinstance(self.prior, ARD):
            before = [Drawn("relevance", torch.ones(in_size), self.prior.relevance, used=False)]
            weight = Drawn("weight", start, self.prior.weight, ("relevance",), of_rows=True)
        elif isinstance(self.prior, Horseshoe):
            before = [
                Drawn("shrinkage", torch.ones(1), self.prior.shrinkage, used=False),
                Drawn("local", torch.ones_like(start), self.prior.local, used=False),
            ]
            weight = Drawn("weight", start, self.prior.weight, ("shrinkage", "local"), of_rows=True)
        elif self.prior is not None:
            weight = Drawn("weight", start, self.prior.distribution, of_rows=True)
        if bias is None and self.prior is not None:
            bias = BROAD
        return Affine(weight, self._part("bias", bias, torch.zeros(out_size)), before)

    def _part(self, name: str, source: Any, start: torch.Tensor) -> nn.Module:
        if isinstance(source, Normal):
            return Drawn(name, start, source.distribution, located=True)
        return constant(source, start.shape, start, f"Linear {name}")


# The prior of a bias where only the weights are given one.
BROAD = Normal(spread=1000**0.5)
KINDS: dict[type, str] = {Learned: "learned", Fixed: "fixed", PerRow: "one per row"}


class Affine(nn.Module):
    """x ↦ x Wᵀ + b. Drawn weights (S, 1, out, in) have a draw for all rows of each x (S, B, in)."""

    # Whatever stands to the left of the entries may stay there.
    broadcasts = True

    def __init__(self, weight: nn.Module, bias: nn.Module, before: Sequence[Drawn] = ()):
        super().__init__()
        # What the prior of the weight reads is here only to be drawn before it.
        self.before, self.weight, self.bias = nn.ModuleList(before), weight, bias

    def forward(self, context: torch.Tensor) -> torch.Tensor:
        weight, bias = self.weight(None), self.bias(None)
        if weight.dim() == 2 and bias.dim() == 1:
            return nn.functional.linear(context, weight, bias)
        return context @ flat_rows(weight, 2).mT + bias


def flat_rows(value: torch.Tensor, events: int) -> torch.Tensor:
    """A drawn parameter (..., 1, *event) without the dimension of the rows, for products with (..., B, n)."""
    return value if value.dim() == events else value.squeeze(-events - 1)


class Constant(nn.Module):
    """A value that depends on nothing, learned or fixed."""

    def __init__(self, value: torch.Tensor, learned: bool):
        super().__init__()
        if learned:
            self.value = nn.Parameter(value)
        else:
            self.register_buffer("value", value)

    def forward(self, context: torch.Tensor | None, index: torch.Tensor | None = None) -> torch.Tensor:
        return self.value


class Table(nn.Module):
    """The rows of a ``PerRow`` source, (N, numbers per row), read by index.

    Until the number of rows is known the parameter exists with no rows; ``resize`` grows it in place, so that
    an optimizer made before still holds it.
    """

    # Which engines set for the time of a fit.
    not_identity = ("sparse", "gathered")
    start: torch.Tensor

    def __init__(self, start: torch.Tensor, rows: int | None, learning_rate: float):
        super().__init__()
        self.register_buffer("start", start)
        self.rows = nn.Parameter(start.flatten().expand(rows or 0, -1).clone())
        self.learning_rate = learning_rate
        # Gradients of the touched rows only: for optimizers that know what to do with them (RowAdam).
        self.sparse = False
        # The rows of the batch at hand, (B, numbers), where an engine has gathered them itself.
        self.gathered: torch.Tensor | None = None

    def resize(self, rows: int) -> None:
        """Starts the table afresh with this many rows, unless it has them."""
        if len(self.rows) != rows:
            with torch.no_grad():
                self.rows.data = self.start.flatten().expand(rows, -1).clone()
            self.rows.grad = None

    def forward(self, context: torch.Tensor | None, index: torch.Tensor | None = None) -> torch.Tensor:
        if index is None:
            raise DeclarationError("a PerRow source needs the row index: call the factor with index=")
        if self.gathered is not None:
            return self.gathered.reshape(*index.shape, *self.start.shape)
        if len(self.rows) == 0:  # not told yet how many rows there are: each reads as it will start
            return self.start.expand(*index.shape, *self.start.shape)
        return embedding(index, self.rows, sparse=self.sparse).reshape(*index.shape, *self.start.shape)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        if prefix + "rows" in state_dict:
            self.resize(len(state_dict[prefix + "rows"]))
        super()._load_from_state_dict(state_dict, prefix, *rest)


Source = Learned | Fixed | PerRow | Linear | nn.Module | Callable[[int, int], nn.Module] | None


def reads_parents(source: Any) -> bool:
    """Whether a source is a network of the parents."""
    return source is not None and not isinstance(source, Learned | Fixed | PerRow | Stochastic | str)


def constant(
    source: Fixed | Learned | None,
    shape: torch.Size,
    start: torch.Tensor,
    what: str,
    to_raw: Callable[[torch.Tensor], torch.Tensor] = lambda value: value,
) -> Constant:
    """The module of a value that depends on nothing, its natural value brought to raw form."""
    value = None if source is None else source.tensor()
    if value is None:
        return Constant(start.clone(), True)
    raw = to_raw(value)
    try:
        raw = raw.expand(shape).clone()
    except RuntimeError:
        message = f"{what} must broadcast to shape {tuple(shape)}; got {tuple(value.shape)}"
        raise ShapeError(message) from None
    if not bool(torch.isfinite(raw).all()):
        raise DeclarationError(f"{what} must be finite and within its support; got {value}")
    return Constant(raw, isinstance(source, Learned))

"""Variables: what a factor that reads one, or a guide that infers it, must know."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn
from torch.distributions import constraints

from pyro_lfm.distributions.support_bounds import SupportBounds
from pyro_lfm.distributions.supports import plain


class Code(nn.Module):
    """How networks read numbers: (f(x) − loc) / scale, 0 where one is missing, and for each whether it was there.

    Without it they read numbers as they come, a missing one as 0, which cannot be told from a 0 that was observed.

    Args:
        loc, scale: of f(x), in the shape of one value.
        log: f is ln(1 + x) for "log1p", ln x for "log", x itself for None.

    >>> Code(torch.tensor([2.0, 0.0]), torch.tensor([2.0, 1.0]))(torch.tensor([[4.0, float("nan")]]))
    tensor([[1., 0., 1., 0.]])
    """

    loc: torch.Tensor
    scale: torch.Tensor

    def __init__(self, loc: torch.Tensor, scale: torch.Tensor, log: Literal["log", "log1p"] | None = None):
        super().__init__()
        self.register_buffer("loc", torch.as_tensor(loc, dtype=torch.get_default_dtype()).clone())
        self.register_buffer("scale", torch.as_tensor(scale, dtype=torch.get_default_dtype()).clone())
        self.log = log
        self._transform = _TRANSFORMS[log]

    @property
    def shape(self) -> torch.Size:
        """The shape of what networks read."""
        return torch.Size((2 * self.loc.numel(),))

    def forward(self, value: torch.Tensor) -> torch.Tensor:
        seen = ~value.isnan()
        # 1 is inside the domain of every f.
        number = (self._transform(value.where(seen, value.new_ones(()))) - self.loc) / self.scale
        parts = number.where(seen, number.new_zeros(())), seen.to(number.dtype)
        return torch.cat([part.reshape(*part.shape[: part.dim() - self.loc.dim()], -1) for part in parts], -1)


def _same(value: torch.Tensor) -> torch.Tensor:
    return value


_TRANSFORMS: dict[str | None, Callable[[torch.Tensor], torch.Tensor]] = {
    None: _same,
    "log": torch.log,
    "log1p": torch.log1p,
}


@dataclass(frozen=True)
class Variable:
    """A named variable of a model: what a factor that reads it, or a guide that infers it, must know."""

    name: str
    shape: torch.Size
    support: constraints.Constraint
    per_row: bool = True
    summable: bool = False  # whether its program can be run with all its values side by side
    code: Code | None = None  # how networks read it, where its factor says so
    extent: SupportBounds | None = None  # of a latent between which numbers it lies, where that is known
    fault: str | None = (
        None  # of a latent whose prior has another support than it declares what is wrong, in words
    )

    @property
    def categories(self) -> int | None:
        """The number of categories of a categorical variable, else None."""
        support = plain(self.support)
        if self.shape or not isinstance(support, type(constraints.integer_interval(0, 1))):
            return None
        return int(support.upper_bound) + 1

    @property
    def code_shape(self) -> torch.Size:
        """The shape in which networks read it: a category is read one-hot."""
        if self.code is not None:
            return self.code.shape
        return self.shape if self.categories is None else torch.Size((self.categories,))

    @property
    def shows_gaps(self) -> bool:
        """Whether networks can tell that a value is missing (NaN): of a label, all of its code is then 0."""
        return self.code is not None or self.categories is not None

    def encode(self, value: torch.Tensor) -> torch.Tensor:
        if self.code is not None:
            code: torch.Tensor = self.code(value)
            return code
        if self.categories is None:
            return value
        # Not by one_hot, which looks at the values first: that would stop a compiled step.
        every = torch.arange(self.categories, device=value.device)
        return (value.unsqueeze(-1) == every).to(torch.get_default_dtype())

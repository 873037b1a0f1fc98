"""Variables: what a factor that reads one, or a guide that infers it, must know."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch.distributions import constraints

from pyro_lfm.distributions.supports import plain


@dataclass(frozen=True)
class Variable:
    """A named variable of a model: what a factor that reads it, or a guide that infers it, must know."""

    name: str
    shape: torch.Size
    support: Any
    per_row: bool = True
    summable: bool = False  # whether its program can be run with all its values side by side

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
        return self.shape if self.categories is None else torch.Size((self.categories,))

    def encode(self, value: torch.Tensor) -> torch.Tensor:
        if self.categories is None:
            return value
        # Not by one_hot, which looks at the values first: that would stop a compiled step.
        every = torch.arange(self.categories, device=value.device)
        return (value.long().unsqueeze(-1) == every).to(torch.get_default_dtype())

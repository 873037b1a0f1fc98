"""Variables of a model: name, shape and support, as factors that read them and guides that infer them need them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch.distributions import constraints

from pyro_lfm.declarations import written
from pyro_lfm.distributions.support_bounds import SupportBounds
from pyro_lfm.distributions.supports import plain
from pyro_lfm.sources.declared_values import DeclaredValues, exact


class Code(DeclaredValues):
    """How networks read numbers: the standardised values (f(x) − loc) / scale, and an indicator of observed entries.

    A missing entry is read as 0, with the indicator 0. Without a code networks read the numbers themselves and a missing
    entry as 0, which they cannot distinguish from an observed 0.

    Args:
        loc, scale: location and scale of f(x), each of the shape of one value.
        log: f is ln(1 + x) for "log1p", ln x for "log", the identity for None.

    >>> Code(torch.tensor([2.0, 0.0]), torch.tensor([2.0, 1.0]))(torch.tensor([[4.0, float("nan")]]))
    tensor([[1., 0., 1., 0.]])
    """

    loc: torch.Tensor
    scale: torch.Tensor

    def __init__(self, loc: torch.Tensor, scale: torch.Tensor, log: Literal["log", "log1p"] | None = None):
        super().__init__()
        self.declare("loc", exact(loc), torch.get_default_dtype())
        self.declare("scale", exact(scale), torch.get_default_dtype())
        self.log = log
        self._transform = _TRANSFORMS[log]

    @property
    def shape(self) -> torch.Size:
        """The shape of what networks read."""
        return torch.Size((2 * self.loc.numel(),))

    @property
    def arguments(self) -> dict[str, torch.Tensor | str | None]:
        """The arguments by name."""
        return {"loc": self.loc, "scale": self.scale, "log": self.log}

    def __repr__(self) -> str:
        return f"Code({written(self.loc)}, {written(self.scale)}, {written(self.log)})"

    def forward(self, value: torch.Tensor) -> torch.Tensor:
        seen = ~value.isnan()
        # Missing entries are replaced by 1, which is in the domain of every f.
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
    """A named variable of a model.

    Attributes:
        name: its name.
        shape: of one value.
        support: of its values.
        per_row: whether each row has its own value, else all rows share it.
        summable: whether the program can run with all its values side by side, to sum over them.
        code: how networks read it, or None for the values themselves.
        extent: the bounds of a latent's values, where they are known.
        fault: for a latent whose prior has another support than it declares, a message that says so.
        plate: the name and size of a plate, other than that of the rows, in which a hand-written program draws it.
    """

    name: str
    shape: torch.Size
    support: constraints.Constraint
    per_row: bool = True
    summable: bool = False
    code: Code | None = None
    extent: SupportBounds | None = None
    fault: str | None = None
    plate: tuple[str, int] | None = None

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
        """Whether networks can recognise a missing value (NaN). The code of a missing label is all zeros."""
        return self.code is not None or self.categories is not None

    def encode(self, value: torch.Tensor) -> torch.Tensor:
        if self.code is not None:
            code: torch.Tensor = self.code(value)
            return code
        if self.categories is None:
            return value
        # Not by one_hot, which inspects the values and so cannot be compiled.
        every = torch.arange(self.categories, device=value.device)
        return (value.unsqueeze(-1) == every).to(torch.get_default_dtype())

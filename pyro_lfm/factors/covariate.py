"""The covariate: a factor for observed numbers of each row that the model does not explain."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from numpy.typing import ArrayLike
from torch import Tensor
from torch.distributions import constraints

from pyro_lfm.distributions.unmodelled import Known
from pyro_lfm.errors import DeclarationError
from pyro_lfm.factors.factor import Factor


class Covariate(Factor):
    """Known numbers of each row that are not modelled, such as time, a dose or the library size of counts.

    A factor whose ``given=`` names it reads it through networks. A parameter whose source is its name has its value, as
    in ``Poisson(50, rate=MLP(64), exposure="library")``. Guides read it like every observed variable. It adds no term to
    the bound, which is then a bound on log p(x | covariates).

    Args:
        event: its size or shape. () means one number per row.
        value: its value in rows that the model generates without it, a number or one per entry.
        support: the constraint on each entry, checked when data are read. Use ``constraints.positive`` for an exposure,
            ``constraints.positive_integer`` for a number of trials and ``constraints.integer_interval(0, 9)`` for a label.
            Networks read a label one-hot, a ``Lookup`` as its category.

    Use it for causes that are known and need no factor: time, dose, batch, exposure.

    Limits: a covariate without gaps alone. What is missing must be modelled.

    Source: Sohn, Lee and Yan (2015), "Learning structured output representation using deep conditional generative
    models".

    >>> import pyro_lfm as lfm
    >>> area = lfm.Covariate(support=constraints.positive)
    >>> model = lfm.Model(z=lfm.StandardNormal(2), area=area, x=lfm.Poisson(3, rate=lfm.MLP(8), exposure="area"))
    >>> many = model.sample(4, seed=0, given={"area": torch.full((4,), 1e4)})["x"]
    >>> bool((many > 1000).all())
    True
    """

    value: Tensor

    def __init__(
        self,
        event: int | Sequence[int] = (),
        *,
        value: ArrayLike | Tensor = 1.0,
        support: constraints.Constraint = constraints.real,
    ):
        super().__init__(event)
        try:
            start = torch.as_tensor(value, dtype=torch.get_default_dtype()).expand(self.shape).clone()
        except (TypeError, ValueError, RuntimeError):
            raise DeclarationError(
                f"value of a Covariate must be a number or of shape {tuple(self.shape)}; got {value!r}"
            ) from None
        if not isinstance(support, constraints.Constraint) or support.event_dim:
            raise DeclarationError(
                f"support of a Covariate must be a constraint of one entry such as constraints.positive; got {support!r}"
            )
        if not bool(support.check(start).all()):
            raise DeclarationError(f"value of a Covariate must lie in its support, {support}; got {value!r}")
        self.register_buffer("value", start)
        self.support = support

    @property
    def reads(self) -> bool:
        return False

    def forward(self) -> Known:
        events = len(self.shape)
        support = constraints.independent(self.support, events) if events else self.support
        return Known(self.value, support, events)

"""The factor of a latent that users subclass to write a prior of their own."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.distributions import Distribution

from pyro_lfm.distributions.stable_versions import stable_version
from pyro_lfm.factors.factor import Factor
from pyro_lfm.factors.forward_signature import check_forward


class Prior(Factor):
    """The factor of a latent, p(z), or p(z | parents) with ``given=``.

    To write a prior, subclass it and define ``forward() -> Distribution``. What is learned is an ``nn.Parameter``.

    >>> import torch, pyro.distributions as dist
    >>> class Wide(Prior):
    ...     def forward(self):
    ...         return dist.Normal(torch.zeros(self.dim), 10.0).to_event(1)
    >>> Wide(2)().variance
    tensor([100., 100.])
    """

    @property
    def reads(self) -> bool:
        return not self.is_hand_written and super().reads

    def check_declaration(self) -> None:
        super().check_declaration()
        if self.is_hand_written and not self.given:
            check_forward(type(self), ())

    def __call__(self, *parents: Tensor, **options: Any) -> Distribution:
        # A hand-written prior without parents needs no model to have a distribution.
        if self.is_hand_written and not self.given and not parents:
            # On a stand-in with the same parameters, so that a forward may count or cache.
            stand_in = self.altered()
            del vars(stand_in)["_written"]
            return stable_version(stand_in.forward())  # type: ignore[attr-defined]
        return super().__call__(*parents, **options)

"""The base class of penalties: numbers that ``Penalised`` takes off a bound."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

from torch import Tensor

from pyro_lfm.declarations import PartWithState
from pyro_lfm.errors import DeclarationError
from pyro_lfm.objectives.objective import Weight, as_weight
from pyro_lfm.objectives.run import Run
from pyro_lfm.objectives.trace_sites import drawn_with_knowledge_of


class Penalty(PartWithState):
    """A number that training keeps small, from one run of guide and model. A subclass writes ``of`` and ``formula``.

    Args:
        weight: λ ≥ 0, or a schedule: a function of the fraction of the training done.
        latents: the latents of a row whose penalties are added up, by default all that are continuous.

    >>> import torch, pyro_lfm as lfm
    >>> class SquaredMeans(lfm.Penalty):
    ...     formula = "‖mean of {z}‖²"
    ...     def __init__(self, weight=1.0, latents=None):
    ...         super().__init__(weight, latents)
    ...     def of(self, run, names):
    ...         return sum(run.q[name]["value"].mean(0).square().sum() for name in names)
    >>> model = lfm.Model(z=lfm.StandardNormal(2), x=lfm.Gaussian(5, mean=lfm.MLP(8)))
    >>> guide = lfm.Guide(model, z=lfm.Gaussian(network=lfm.MLP(8)))
    >>> objective = lfm.Penalised(lfm.ELBO(), SquaredMeans(weight=0.1))
    >>> bool(objective.bound(model, guide, torch.zeros(3, 5)).penalties["SquaredMeans"] >= 0)
    True
    """

    # Whether it is a mean over rows that is weighted by ``run.layout.row_weights``, so that rows may have weights.
    takes_weights = False
    formula: str  # the penalty of a latent {z}, for ``lfm.describe``

    def __init__(self, weight: Weight, latents: str | Sequence[str] | None):
        self.weight = as_weight("weight", weight)
        self.latents = (latents,) if isinstance(latents, str) else None if latents is None else tuple(latents)

    @abstractmethod
    def of(self, run: Run, names: Sequence[str]) -> Tensor:
        """The penalty, its gradients attached: a scalar, the sum over the named latents."""

    def names(self, run: Run) -> list[str]:
        """The latents that are penalised.

        Raises:
            DeclarationError: a latent that the penalty cannot serve, or none that it can.
        """
        kind = type(self).__name__
        able = [name for name in run.drawn if not run.q[name]["fn"].support.is_discrete]
        for name in self.latents or ():
            if name not in able:
                raise DeclarationError(
                    f"{kind}: latents must be of {', '.join(able) or 'no latent of this model'}, continuous and of a row; "
                    f"got {name!r}"
                )
        names = list(able if self.latents is None else self.latents)
        if not names:
            raise DeclarationError(f"{kind}: no latent of a row is continuous: there is nothing to penalise")
        for other in (*run.scored, *run.plan.values):
            later = drawn_with_knowledge_of(run.guide, other, list(run.q))
            if without_gradient := sorted({other, *later} & set(names)):
                raise DeclarationError(
                    f"{kind} takes gradients through draws: the guide may draw {', '.join(without_gradient)} knowing "
                    f"{other}, which has no reparametrization; name others in latents="
                )
        return names

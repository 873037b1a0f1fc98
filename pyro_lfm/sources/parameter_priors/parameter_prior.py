"""The base of all priors of parameters."""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar

from torch import Tensor

from pyro_lfm.declarations import Declaration
from pyro_lfm.sources.drawn import Drawn


class ParameterPrior(Declaration):
    """A prior of a parameter, declared where the parameter is.

    A parameter with a prior is no longer a θ: it is a latent of the model, shared by all rows and drawn before them.
    ``Linear(prior=ARD())`` in a factor ``x`` gives the model the latents ``x.relevance``, ``x.weight`` and ``x.bias``.

    A prior has a method for each parameter that it is about, ``(like, *read, unit=)``, which gives the distribution of a
    parameter of the shape of ``like``. Parameters that it depends on follow, and may have draws to the left. Numbers that
    the user gives are in the units of the data. A hyperparameter left at None has its default in units of each column's
    spread in the fitted data, ``unit=``, a location at the column's mean, ``origin=``; both broadcast to the parameter.
    """

    namespace: ClassVar[str] = "parameter_priors"


class WeightPrior(ParameterPrior):
    """A prior that the weights of a ``Linear`` can have."""

    @abstractmethod
    def weights(self, start: Tensor) -> list[Drawn]:
        """The parameters in the order in which they are drawn, the weights (out, in) last.

        Args:
            start: the point of the weights.
        """

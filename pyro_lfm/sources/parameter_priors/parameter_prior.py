"""The base classes of all priors of parameters."""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar

from torch import Tensor

from pyro_lfm.declarations import Part
from pyro_lfm.sources.drawn import Drawn


class ParameterPrior(Part):
    """A prior of a parameter, given with the source of the parameter.

    A parameter with a prior is a latent of the model, not a part of θ. All rows share it, and it is drawn before them.
    ``Linear(prior=ARD())`` in a factor ``x`` gives the model the latents ``x.relevance``, ``x.weight`` and ``x.bias``.

    It has a method for each parameter, ``(like, *read, unit=)``, which returns the distribution of a parameter with the
    shape of ``like``. ``read`` are the parameters that it depends on, with batch dimensions for draws on the left. Numbers
    from the user are in the units of the data. The default of a hyperparameter is in units of each column's spread in the
    fitted data, ``unit=``, and that of a location is the column's mean, ``origin=``. Both broadcast to the parameter.
    """

    namespace: ClassVar[str] = "parameter_priors"


class WeightPrior(ParameterPrior):
    """A prior for the weights of a ``Linear``."""

    @abstractmethod
    def weights(self, start: Tensor) -> list[Drawn]:
        """The parameters in the order in which they are drawn, the weights (out, in) last.

        Args:
            start: the point value of the weights.
        """

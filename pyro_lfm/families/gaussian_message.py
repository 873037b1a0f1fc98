"""A guide's family that starts from the prior."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pyro_lfm.errors import DeclarationError
from pyro_lfm.families.gaussian import Gaussian
from pyro_lfm.sources.covariances import Covariance, Diagonal, Isotropic


class GaussianMessage(Gaussian):
    """q(z | x, ·) ∝ p(z | ·) N(z; m(x), diag s²(x)): the model's own prior of z, times what the row says of it.

    For a latent whose prior reads other latents or covariates: a ``GaussianProcess``, rows in groups, layers. The guide
    knows all that the model knows of z before it sees x, and draws z knowing what its prior reads; only the message m, s is
    learned beside it. Where a row's variables are all missing there is no message and q is the prior, so that such rows are
    predicted from all others. It is the form of the exact posterior where x is Gaussian about a linear map of one z.

    A guide with it holds the prior's parameters as the model does: they are trained once, as the model's.

    Args:
        event: left out; the model says it.
        mean: source of m.
        covariance: ``Diagonal`` (default) or ``Isotropic``, holding the source of s².
        given, network: see ``Factor``: what the message reads; by default every observed variable.

    Raises:
        DeclarationError: another covariance; at the model, a prior that is no Gaussian with independent entries.

    Source: Johnson et al. (2016), "Composing graphical models with neural networks", section 4; Sønderby et al. (2016),
    "Ladder variational autoencoders", equations 17 to 19.

    >>> import torch
    >>> from pyro_lfm import Covariate, GaussianProcess, Guide, MLP, Model
    >>> times = torch.linspace(0.0, 1.0, 5)
    >>> model = Model(
    ...     t=Covariate(), z=GaussianProcess(2, inducing=times, given="t"), x=Gaussian(3, mean=MLP(8), given="z")
    ... )
    >>> Guide(model, z=GaussianMessage(network=MLP(8), given="x")).wiring["z"]
    ('x', 't', 'z.inducing')
    """

    times_prior = True

    def __init__(
        self,
        event: int | Sequence[int] | None = None,
        mean: Any = None,
        covariance: Covariance | None = None,
        *,
        given: str | Sequence[str] | None = None,
        network: Any = None,
    ):
        if covariance is not None and not isinstance(covariance, Diagonal | Isotropic):
            raise DeclarationError(
                f"covariance of a GaussianMessage must be Diagonal or Isotropic; got {covariance!r}"
            )
        super().__init__(event, mean, covariance, given=given, network=network)

    def describe(self) -> str:
        return super().describe().replace("Gaussian(", "prior × GaussianMessage(", 1)

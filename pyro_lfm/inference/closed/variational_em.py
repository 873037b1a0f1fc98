"""Variational EM, which maximises the bound under a factorised posterior: ``lfm.VariationalEM``."""

from __future__ import annotations

from dataclasses import dataclass

from pyro_lfm.closed_form import AnyLikelihoodForm, has_exact_likelihood, recognise
from pyro_lfm.guides import AnyGuide, FactorisedPosterior
from pyro_lfm.inference.closed.bound_ascent import BoundAscent
from pyro_lfm.programs.model import AnyModel


@dataclass(kw_only=True, eq=False, repr=False)
class VariationalEM(BoundAscent):
    """The parameters that maximise the bound under q(z) = ∏ⱼ q(zⱼ), for linear Gaussian models.

    E step: coordinate ascent in the factors of q, at its limit. M step: the parameters that maximise E_q[log p(x, z)].
    The bound never falls. It stays below log p(x) by the gap ``½[Σⱼ ln Mⱼⱼ − ln |M|]``, M = S⁻¹ + WᵀΨ⁻¹W. With isotropic
    noise and free weights the columns of W turn orthogonal in the limit, and the gap closes.

    It serves the linear Gaussian models that ``EM`` serves, with ``Isotropic`` or ``Diagonal`` noise. ``fit.guide`` is
    ``FactorisedPosterior(model)``. The history has the records of ``EM``, where kl is the gap after each E step.

    Args:
        iterations, tolerance, start, restarts, accelerate: as for ``EM``. A start from the "data" has a W whose columns
            are orthogonal already, in units of the noise. A start from the "model" shows the climb.

    Raises:
        DeclarationError: as ``EM``.

    Use it to see the cost of a mean-field posterior, in the gap that remains. For answers use ``EM``.

    Limits: linear Gaussian models only, and slower than ``EM``.

    Source: Neal and Hinton (1998), section 4; Bishop (2006), section 10.1.2.

    >>> import torch
    >>> import pyro_lfm as lfm
    >>> weight = lfm.Fixed(torch.tensor([[1.0, 1.0], [0.0, 1.0]]))
    >>> model = lfm.Model(z=lfm.StandardNormal(2), x=lfm.Gaussian(2, mean=lfm.Linear(weight=weight)))
    >>> fit = lfm.fit(model, torch.randn(50, 2), lfm.VariationalEM(), progress=False)
    >>> last = fit.history[-1]
    >>> last["kl"] > 0 and abs(last["log_likelihood"] - last["bound"] - last["kl"]) < 1e-12
    True
    """

    def _form(self, model: AnyModel) -> AnyLikelihoodForm:
        others = "lfm.EM(), or lfm.SVI(guide)" if has_exact_likelihood(model) else "lfm.SVI(guide)"
        remedy = f"use {others}, which fits any declaration"
        return recognise(model).variational("lfm.VariationalEM", remedy)

    def _guide(self, model: AnyModel) -> AnyGuide:
        return FactorisedPosterior(model)

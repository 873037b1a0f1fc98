"""Recognises the declarations whose posterior is closed form."""

from __future__ import annotations

from typing import Any

from pyro_lfm.closed_form.baseline import BaselineForm
from pyro_lfm.closed_form.constants import Obstacle
from pyro_lfm.closed_form.form import ClosedForm
from pyro_lfm.closed_form.linear import LinearForm
from pyro_lfm.closed_form.mixtures import MixtureForm
from pyro_lfm.errors import DeclarationError
from pyro_lfm.programs.model import Model


def recognise(
    model: Any, asked: str = "a closed form", remedy: str = "use lfm.SVI(guide), which fits any declaration"
) -> ClosedForm:
    """The closed form of a model: linear Gaussian, a mixture, a mixture of factor analysers, or one without latents.

    Args:
        model: a declared ``Model``. asked: who wants to know; remedy: what serves instead. Both for the message.

    Raises:
        DeclarationError: there is none; the message names the factor that stops it.

    >>> from pyro_lfm import MLP, Gaussian, StandardNormal
    >>> recognise(Model(z=StandardNormal(2), x=Gaussian(4, mean=MLP(8))), "lfm.EM")
    Traceback (most recent call last):
    pyro_lfm.errors.DeclarationError: lfm.EM cannot serve this model. x.mean is MLP(8): a closed form needs Linear(); \
use lfm.SVI(guide), which fits any declaration
    """
    try:
        return _form(model)
    except Obstacle as why:
        raise DeclarationError(f"{asked} cannot serve this model. {why}; {remedy}") from None


def _form(model: Any) -> ClosedForm:
    if not isinstance(model, Model):
        raise Obstacle(
            f"{type(model).__name__} is a program by hand: a closed form needs a declared lfm.Model"
        )
    if len(model.observed) > 1:
        names = ", ".join(model.observed)
        raise Obstacle(f"it observes {names}: a closed form needs one observed factor")
    observed = next(iter(model.observed))
    labels = [name for name, latent in model.latents.items() if latent.categories is not None]
    others = [name for name in model.latents if name not in labels]
    if not model.latents:
        return BaselineForm(model, observed)
    if len(labels) > 1 or len(others) > 1:
        names = ", ".join(labels if len(labels) > 1 else others)
        raise Obstacle(
            f"its latents are {names}: a closed form needs one of them alone, or a Categorical and a StandardNormal"
        )
    for name in model.latents:
        if model.given[name]:
            raise Obstacle(
                f"{name} is given {', '.join(model.given[name])}: a closed form needs a prior of {name}"
            )
        if name not in model.given[observed]:
            raise Obstacle(f"{observed} does not read {name}: a closed form needs one that reads all latents")
    if not labels:
        return LinearForm(model, others[0], observed)
    if others and len(model.latents[others[0]].shape) != 1:
        raise Obstacle(
            f"{others[0]} has event shape {tuple(model.latents[others[0]].shape)}: a closed form of a "
            "mixture needs a vector"
        )
    return MixtureForm(model, labels[0], observed, others[0] if others else None)


def is_recognised(model: Any) -> bool:
    """Whether the posterior and log p(x) of a model are closed form."""
    try:
        recognise(model)
    except DeclarationError:
        return False
    return True

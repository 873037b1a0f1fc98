"""Recognises the declarations that have a closed form, for EM, variational EM, variational Bayes and exact guides."""

from __future__ import annotations

from collections.abc import Sequence

from pyro_lfm.closed_form.form import ClosedForm, Unrecognised
from pyro_lfm.closed_form.linear.bayesian_linear_form import BayesianLinearForm
from pyro_lfm.closed_form.linear.linear_form import LinearForm
from pyro_lfm.closed_form.mixtures.baseline_form import BaselineForm
from pyro_lfm.closed_form.mixtures.bayesian_mixture_form import BayesianMixtureForm
from pyro_lfm.closed_form.mixtures.mixture_form import MixtureForm
from pyro_lfm.closed_form.mixtures.mixture_of_analysers_form import MixtureOfAnalysersForm
from pyro_lfm.closed_form.obstacles import Obstacle, prior_obstacle
from pyro_lfm.closed_form.outline import Outline
from pyro_lfm.errors import DeclarationError
from pyro_lfm.programs.model import AnyModel

KINDS: Sequence[type[ClosedForm]] = (
    LinearForm,
    MixtureForm,
    MixtureOfAnalysersForm,
    BaselineForm,
    BayesianLinearForm,
    BayesianMixtureForm,
)


def recognise(model: AnyModel) -> ClosedForm:
    """The closed form of a model. It gives the forms that serve callers, or the obstacle in words.

    >>> from pyro_lfm import MLP, Gaussian, Linear, Model, StandardNormal
    >>> recognise(Model(z=StandardNormal(2), x=Gaussian(4, mean=Linear()))).exact().fixed
    frozenset()
    >>> recognise(Model(z=StandardNormal(2), x=Gaussian(4, mean=MLP(8)))).exact("lfm.EM")
    Traceback (most recent call last):
    pyro_lfm.errors.DeclarationError: lfm.EM cannot serve this model. x.mean is MLP(8): a closed form needs Linear(); \
use lfm.SVI(guide), which fits any declaration
    """
    try:
        outline = Outline.of(model)
    except Obstacle as of_outline:
        return Unrecognised(of_outline, of_outline)
    obstacles = []
    for kind in KINDS:
        if kind.parts == outline.parts:
            try:
                return kind(outline)
            except Obstacle as of_kind:
                obstacles.append(str(of_kind))
    obstacle = Obstacle("; or ".join(obstacles) or _words_of_no_kind(outline))
    return Unrecognised(prior_obstacle(outline.model) if outline.model.drawn else obstacle, obstacle)


def _words_of_no_kind(outline: Outline) -> str:
    """A model whose parameters have priors, with no latent of a row or with two."""
    latents = " and ".join(name for name in (outline.label, outline.latent) if name) or "no latent"
    return f"each row has {latents}: variational Bayes by a closed form needs one latent of a row"


def has_exact_likelihood(model: AnyModel) -> bool:
    """Whether the posterior and log p(x) of a model are known in closed form."""
    try:
        recognise(model).exact()
    except DeclarationError:
        return False
    return True


def bayesian_declarations() -> str:
    """The declarations that variational Bayes serves, in words."""
    return ", and ".join(kind.declarations for kind in KINDS if "priors" in kind.parts)

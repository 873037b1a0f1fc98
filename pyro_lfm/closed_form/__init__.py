"""Which declared models exact inference can serve, and how: parameters as ``exact`` knows them, posteriors, starts."""

from pyro_lfm.closed_form.bayesian_form import BayesianForm, ConjugatePosterior
from pyro_lfm.closed_form.form import AnyLikelihoodForm, Ascent, ClosedForm, LikelihoodForm
from pyro_lfm.closed_form.recognition import has_exact_likelihood, recognise

__all__ = [
    "AnyLikelihoodForm",
    "Ascent",
    "BayesianForm",
    "ClosedForm",
    "ConjugatePosterior",
    "LikelihoodForm",
    "has_exact_likelihood",
    "recognise",
]

"""The one recogniser: each kind of declaration, what its closed form serves, and the obstacle elsewhere."""

import pytest
import torch

import pyro_lfm as lfm
from pyro_lfm.closed_form import has_exact_likelihood, recognise, recognition
from pyro_lfm.closed_form.linear.bayesian_linear_form import BayesianLinearForm
from pyro_lfm.closed_form.linear.linear_form import LinearForm
from pyro_lfm.closed_form.mixtures import bayesian_mixture_form, component_kinds
from pyro_lfm.closed_form.mixtures.baseline_form import BaselineForm
from pyro_lfm.closed_form.mixtures.bayesian_mixture_form import BayesianMixtureForm
from pyro_lfm.closed_form.mixtures.mixture_form import MixtureForm
from pyro_lfm.closed_form.mixtures.mixture_of_analysers_form import MixtureOfAnalysersForm
from pyro_lfm.inference.closed.variational_bayes import BayesianFit

D = 3
PRIORS = lfm.parameter_priors


def linear(covariance=None, **options):
    mean = lfm.Linear(**options)
    return lfm.Model(z=lfm.StandardNormal(2), x=lfm.Gaussian(D, mean=mean, covariance=covariance))


def correlated_factors():
    mean = lfm.Linear(pattern=[[1, 0], [1, 1], [0, 1]])
    z = lfm.Gaussian(2, mean=lfm.Fixed(0.0), covariance=lfm.Full())
    return lfm.Model(z=z, x=lfm.Gaussian(D, mean=mean))


def bayesian_linear():
    return linear(lfm.Isotropic(prior=PRIORS.Gamma()), prior=PRIORS.ARD())


def mixture(x, **options):
    return lfm.Model(c=lfm.Categorical(2, **options), x=x)


def gaussian_mixture():
    return mixture(lfm.Gaussian(D, mean=lfm.Lookup(), covariance=lfm.Full(lfm.Lookup()), given="c"))


def analysers():
    x = lfm.Gaussian(D, mean=lfm.Lookup(lfm.Linear()), given=("c", "z"))
    return lfm.Model(c=lfm.Categorical(2), z=lfm.StandardNormal(2), x=x)


def bayesian_gaussians(covariance, prior):
    x = lfm.Gaussian(D, mean=lfm.Lookup(), covariance=covariance, given="c", prior=prior)
    return mixture(x, prior=PRIORS.Dirichlet())


def bayesian_bernoullis():
    x = lfm.Bernoulli(D, logits=lfm.Lookup(prior=PRIORS.Beta()), given="c")
    return mixture(x, prior=PRIORS.Dirichlet())


EXACT, FACTORISED, VARIATIONAL, BAYESIAN = "exact", "factorised", "variational", "bayesian"
LINEAR = {EXACT, FACTORISED, VARIATIONAL}
# Declaration -> its kind, and the questions that it answers with a form.
KINDS = {
    "linear": (linear, LinearForm, LINEAR),
    "linear with full noise": (
        lambda: linear(lfm.Full(lfm.Fixed(torch.eye(D)))),
        LinearForm,
        {EXACT, FACTORISED},
    ),
    "linear with a pattern": (lambda: linear(pattern=[[1, 0], [1, 1], [0, 1]]), LinearForm, LINEAR),
    "linear with correlated factors": (correlated_factors, LinearForm, LINEAR),
    "mixture of Gaussians": (gaussian_mixture, MixtureForm, {EXACT}),
    "mixture of Bernoullis": (
        lambda: mixture(lfm.Bernoulli(D, logits=lfm.Lookup(), given="c")),
        MixtureForm,
        {EXACT},
    ),
    "mixture of factor analysers": (analysers, MixtureOfAnalysersForm, {EXACT}),
    "baseline": (lambda: lfm.Model(x=lfm.Gaussian(D)), BaselineForm, {EXACT}),
    "Bayesian linear": (bayesian_linear, BayesianLinearForm, {BAYESIAN}),
    "normal-gamma": (
        lambda: bayesian_gaussians(lfm.Diagonal(lfm.Lookup()), PRIORS.NormalGamma()),
        BayesianMixtureForm,
        {BAYESIAN},
    ),
    "normal-Wishart": (
        lambda: bayesian_gaussians(lfm.Full(lfm.Lookup()), PRIORS.NormalWishart()),
        BayesianMixtureForm,
        {BAYESIAN},
    ),
    "beta": (bayesian_bernoullis, BayesianMixtureForm, {BAYESIAN}),
}


@pytest.mark.parametrize("name", KINDS)
def test_each_declaration_is_of_one_kind_and_says_what_it_serves(name):
    declare, kind, served = KINDS[name]
    model = declare()
    form = recognise(model)
    assert type(form) is kind
    for question in (EXACT, FACTORISED, VARIATIONAL, BAYESIAN):
        if question in served:
            assert getattr(form, question)().observed == "x"
        else:
            with pytest.raises(
                lfm.DeclarationError, match="^The caller cannot serve this model. .*; use this"
            ):
                getattr(form, question)("The caller", "use this")
    assert has_exact_likelihood(model) == (EXACT in served)


def test_every_kind_and_family_has_a_declaration_here():
    assert {kind for _, kind, _ in KINDS.values()} == set(recognition.KINDS)
    models = [declare() for declare, _, _ in KINDS.values()]
    priors = {
        type(recognise(model).prior) for model in models if type(recognise(model)) is BayesianMixtureForm
    }
    assert priors == set(bayesian_mixture_form.PRIORS)
    components = {
        type(recognise(model).components) for model in models if type(recognise(model)) is MixtureForm
    }
    assert components == set(component_kinds.FAMILIES.values())


OBSTACLES = {
    "x.relevance, x.bias, x.precision, x.weight have priors": (bayesian_linear, EXACT),
    "c.probs, x.probs have priors": (bayesian_bernoullis, EXACT),
    "x has parameters without a prior": (linear, BAYESIAN),
    "c, x have parameters without a prior": (gaussian_mixture, BAYESIAN),
    "none of its parameters has a prior": (
        lambda: lfm.Model(x=lfm.Gaussian(D, mean=lfm.Fixed(0.0), covariance=lfm.Diagonal(lfm.Fixed(1.0)))),
        BAYESIAN,
    ),
    "each row has no latent": (
        lambda: lfm.Model(x=lfm.Gaussian(D, prior=PRIORS.NormalGamma())),
        BAYESIAN,
    ),
    "each row has c and z": (
        lambda: lfm.Model(
            c=lfm.Categorical(2, prior=PRIORS.Dirichlet()),
            z=lfm.StandardNormal(2),
            x=lfm.Gaussian(D, mean=lfm.Lookup(lfm.Linear()), given=("c", "z")),
        ),
        BAYESIAN,
    ),
    "x has the same covariance in each category": (
        lambda: bayesian_gaussians(lfm.Full(), PRIORS.NormalWishart()),
        BAYESIAN,
    ),
    r"x is Gaussian\(.*needs a conjugate prior for each category": (
        lambda: mixture(lfm.Gaussian(D, given="c", prior=PRIORS.NormalGamma()), prior=PRIORS.Dirichlet()),
        BAYESIAN,
    ),
    "it has no latents: a factorised posterior is for linear Gaussian models": (
        lambda: lfm.Model(x=lfm.Gaussian(D)),
        FACTORISED,
    ),
    "c, z of a mixture": (analysers, VARIATIONAL),
    "it observes x, y": (
        lambda: lfm.Model(z=lfm.StandardNormal(2), x=lfm.Gaussian(D, mean=lfm.Linear()), y=lfm.Poisson(2, rate=lfm.MLP(4))),
        EXACT,
    ),
}  # fmt: skip


@pytest.mark.parametrize("words", OBSTACLES)
def test_the_obstacle_is_named(words):
    declare, question = OBSTACLES[words]
    with pytest.raises(lfm.DeclarationError, match=words):
        getattr(recognise(declare()), question)()


def test_kinds_of_one_outline_are_tried_in_turn(monkeypatch):
    """A further kind with the same parts as another: one class, and one line in the list."""

    class Count(MixtureForm):
        def __init__(self, outline):
            if type(outline.factor.declaration) is not lfm.Poisson:
                raise recognition.Obstacle("x is no Poisson")
            self.model, self.observed = outline.model, outline.observed

    monkeypatch.setattr(recognition, "KINDS", (*recognition.KINDS, Count))
    counts = mixture(lfm.Poisson(D, rate=lfm.Lookup(), given="c"))
    assert type(recognise(counts)) is Count
    assert type(recognise(gaussian_mixture())) is MixtureForm
    numbers = mixture(lfm.StudentT(D, loc=lfm.Lookup(), given="c"))
    with pytest.raises(lfm.DeclarationError, match="x is StudentT.*; or x is no Poisson"):
        recognise(numbers).exact()


@pytest.mark.parametrize("name", [name for name, (_, _, served) in KINDS.items() if BAYESIAN in served])
def test_a_conjugate_posterior_is_the_same_after_its_tensors_are_replaced(name):
    declare = KINDS[name][0]
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(30, D, generator=generator).double()
    rows = (rows > 0).double() if name == "beta" else rows
    form = recognise(declare().double()).bayesian()
    posterior = form.infer([rows], seed=0, iterations=5, tolerance=0.0).posterior
    like, tensors = torch.zeros((), dtype=torch.float32), posterior.tensors()
    again = posterior.with_tensors({key: value.clone() for key, value in tensors.items()})
    assert all(torch.equal(value, again.tensors()[key]) for key, value in tensors.items())
    assert set(again.parameters(like)) == set(form.model.drawn)
    assert set(again.marginals(like)) == set(again.reads)
    values = {}
    for parameter, distribution in again.parameters(like).items():
        values[parameter] = distribution(values).sample()
        assert values[parameter].dtype == torch.float32
        assert values[parameter].shape == form.model.drawn[parameter].value.shape
    (latents,) = again.latents(rows, like).values()
    assert latents.batch_shape == (30,)


def test_a_fit_by_variational_bayes_asks_its_posterior_for_the_rank():
    fit = lfm.fit(bayesian_linear(), torch.randn(40, D), lfm.VariationalBayes(), seed=0, progress=False)
    assert isinstance(fit, BayesianFit) and fit.rank == fit.guide.posterior.exact.rank()

"""Parameters with priors: they are latents of the model, with the declared distribution, and SVI fits them."""

import copy

import pyro.distributions as dist
import pytest
import torch
from torch.distributions import MultivariateNormal, kl_divergence

import pyro_lfm as lfm
from pyro_lfm.distributions.kl import kl_closed_form
from pyro_lfm.distributions.positive_definite import PackedToPositiveDefinite, Wishart
from pyro_lfm.distributions.pushforward import Pushforward
from pyro_lfm.distributions.supports import from_reals

D, K, C, N = 4, 2, 3, 6


def factors(covariance=lfm.Isotropic):
    return lfm.Model(
        z=lfm.StandardNormal(K),
        x=lfm.Gaussian(
            D,
            mean=lfm.Linear(prior=lfm.parameter_priors.ARD(2.0, 2.0)),
            covariance=covariance(prior=lfm.parameter_priors.Gamma(3.0, 2.0)),
        ),
    ).double()


def mixture(family):
    x = {
        "full": lambda: lfm.Gaussian(
            D,
            mean=lfm.Lookup(),
            covariance=lfm.Full(lfm.Lookup()),
            given="c",
            prior=lfm.parameter_priors.NormalWishart(count=0.5),
        ),
        "diagonal": lambda: lfm.Gaussian(
            D,
            mean=lfm.Lookup(),
            covariance=lfm.Diagonal(lfm.Lookup()),
            given="c",
            prior=lfm.parameter_priors.NormalGamma(),
        ),
        "tied full": lambda: lfm.Gaussian(
            D,
            mean=lfm.Lookup(),
            covariance=lfm.Full(),
            given="c",
            prior=lfm.parameter_priors.NormalWishart(),
        ),
        "tied diagonal": lambda: lfm.Gaussian(
            D, mean=lfm.Lookup(), given="c", prior=lfm.parameter_priors.NormalGamma()
        ),
        "bernoulli": lambda: lfm.Bernoulli(
            D, logits=lfm.Lookup(prior=lfm.parameter_priors.Beta(2.0, 2.0)), given="c"
        ),
    }[family]()
    return lfm.Model(c=lfm.Categorical(C, prior=lfm.parameter_priors.Dirichlet(2.0)), x=x).double()


CASES = {
    "isotropic factors": (factors, ["x.relevance", "x.bias", "x.precision", "x.weight", "z"]),
    "diagonal factors": (
        lambda: factors(lfm.Diagonal),
        ["x.relevance", "x.bias", "x.precision", "x.weight", "z"],
    ),
    "full mixture": (lambda: mixture("full"), ["c.probs", "x.precision", "x.mean", "c"]),
    "diagonal mixture": (lambda: mixture("diagonal"), ["c.probs", "x.precision", "x.mean", "c"]),
    "tied full mixture": (lambda: mixture("tied full"), ["c.probs", "x.precision", "x.mean", "c"]),
    "tied diagonal mixture": (lambda: mixture("tied diagonal"), ["c.probs", "x.precision", "x.mean", "c"]),
    "bernoulli mixture": (lambda: mixture("bernoulli"), ["c.probs", "x.probs", "c"]),
}


def guide_of(model):
    if "c" in model.latents:
        return lfm.Guide(model, c=lfm.Categorical(logits=lfm.MLP(4)))
    return lfm.Guide(model, z=lfm.Gaussian(covariance=lfm.Full(), network=lfm.MLP(4)))


def rows_of(model, n=N):
    drawn = model.sample(n, seed=3)["x"]
    return drawn / drawn.std() if drawn.std() > 1 else drawn


@pytest.mark.parametrize("case", CASES)
def test_parameters_with_priors_are_latents_outside_the_plate(case):
    make, names = CASES[case]
    model = make()
    assert list(model.latents) == names
    assert [name for name, latent in model.latents.items() if latent.per_row] == names[-1:]
    assert not list(model.parameters())
    guide = guide_of(model)
    assert set(guide.factors) == set(names)
    text = lfm.describe(model, guide)
    for name in names:
        assert f"  KL {name}: " in text
    drawn = model.sample(5, seed=0)
    assert drawn[names[0]].shape == model.latents[names[0]].shape
    copied = copy.deepcopy(model)
    assert torch.equal(copied.sample(3, seed=1)["x"], model.sample(3, seed=1)["x"])


@pytest.mark.parametrize("case", CASES)
def test_draws_side_by_side_are_the_draws_one_by_one(case):
    """The distribution of x with S draws of the parameters at once equals that with each draw alone."""
    model = CASES[case][0]()
    x = model.factors["x"]
    torch.manual_seed(1)
    drawn = {}
    for name, part in x.drawn.items():
        drawn[name] = part.prior(drawn).sample((5,)) if not part.reads else part.prior(drawn).sample()
    parent = torch.randn(5, N, K).double() if "z" in model.latents else torch.randint(C, (C, 1, N))
    data = rows_of(model)
    together = x.at([parent], torch.arange(N), {n: v.unsqueeze(1) for n, v in drawn.items()}).log_prob(data)
    assert together.shape[-2:] == (5, N)
    for s in range(5):
        own = parent[s] if "z" in model.latents else parent
        alone = x.at([own], torch.arange(N), {n: v[s] for n, v in drawn.items()}).log_prob(data)
        expected = alone if "z" in model.latents else alone.squeeze(1)
        assert torch.allclose(together[..., s, :], expected, atol=1e-9)


@pytest.mark.parametrize("engine", ["eager", "pyro"])
@pytest.mark.parametrize("particles", [1, 3])
@pytest.mark.parametrize("case", CASES)
def test_svi_serves_them(case, particles, engine):
    torch.manual_seed(0)
    model = CASES[case][0]()
    guide, data = guide_of(model), rows_of(model, 30)
    svi = lfm.SVI(
        guide,
        objective=lfm.ELBO(particles=particles),
        epochs=40,
        batch_size=15,
        learning_rate=0.03,
        engine=engine,
    )
    fit = lfm.fit(model, data, svi, seed=0, progress=False)
    assert fit.history[-1]["bound"] > fit.history[0]["bound"]
    distributions = fit.posterior()
    for name, latent in model.latents.items():
        assert distributions[name].batch_shape == ((30,) if latent.per_row else ())
        assert distributions[name].event_shape == latent.shape
    # The factor by itself is the distribution at the posterior means.
    for name, part in model.drawn.items():
        assert torch.allclose(part.value, distributions[name].mean, atol=1e-6)


def test_parameters_count_once_for_all_rows():
    """The KL of a parameter is its KL divided by N on every row, whatever the batch."""
    model = factors()
    guide = guide_of(model)
    x = rows_of(model)
    q = guide.factors["x.bias"]()
    kl = kl_closed_form(q, model.drawn["x.bias"].prior({}))
    for batch in (lfm.Batch({"x": x}, total=50), lfm.Batch({"x": x[:2]}, total=50)):
        estimate = lfm.ELBO(particles=2).bound(model, guide, batch).kl["x.bias"]
        assert torch.allclose(estimate, (kl / 50).expand(batch.size))


def test_svi_reaches_the_exact_evidence_of_a_conjugate_model():
    """x = W z + b + ε with b ~ N(0, 4 I): ln p(all rows) is that of one Gaussian over them, jointly."""
    torch.manual_seed(0)
    weight = torch.tensor([[1.0], [-0.5]])
    model = lfm.Model(
        z=lfm.StandardNormal(1),
        x=lfm.Gaussian(
            2,
            mean=lfm.Linear(weight=lfm.Fixed(weight), bias=lfm.parameter_priors.Normal(0.0, 2.0)),
            covariance=lfm.Isotropic(lfm.Fixed(0.5)),
        ),
    ).double()
    x = model.sample(N, seed=0)["x"].double()
    inner = (weight @ weight.T).double() + 0.5 * torch.eye(2)
    joint = torch.kron(torch.eye(N), inner) + torch.kron(torch.ones(N, N), 4 * torch.eye(2))
    evidence = MultivariateNormal(torch.zeros(2 * N).double(), joint.double()).log_prob(x.flatten()) / N
    guide = lfm.Guide(
        model,
        z=lfm.Gaussian(mean=lfm.Linear(), covariance=lfm.Full(), given=("x", "x.bias")),
        **{"x.bias": lfm.Gaussian(covariance=lfm.Full())},
    )
    objective = lfm.ELBO(particles=4, gradient="sticking-the-landing")
    svi = lfm.SVI(
        guide, objective=objective, steps=700, learning_rate=0.05, schedule=lambda done: 1.0 - 0.99 * done
    )
    lfm.fit(model, x, svi, seed=0, progress=False)
    # log p − log q of one draw is the same for all draws once q is exact.
    objective = lfm.ELBO(particles=1000, kl="monte-carlo")
    bound = objective.bound(model, guide, lfm.Batch({"x": x})).per_row.mean().detach()
    assert bound < evidence + 1e-3
    assert bound == pytest.approx(float(evidence), abs=2e-3)


def test_closed_forms_of_positive_parameters():
    gamma = dist.Gamma(
        torch.tensor([1.0, 2.0, 0.5]).double(), torch.tensor([1.0, 3.0, 2.0]).double()
    ).to_event(1)
    normal = dist.Normal(torch.tensor([0.1, -0.4, 1.0]).double(), torch.tensor([0.3, 0.2, 0.5]).double())
    q = Pushforward(normal.to_event(1), [from_reals(gamma.support)])
    draws = q.sample((200_000,))
    assert kl_closed_form(q, gamma) == pytest.approx(
        float((q.log_prob(draws) - gamma.log_prob(draws)).mean()), abs=0.02
    )
    one = Wishart(torch.tensor(6.0).double(), torch.tensor([[2.0, 0.3], [0.3, 1.0]]).double())
    two = Wishart(torch.tensor(5.0).double(), torch.eye(2).double())
    draws = one.sample((100_000,))
    assert kl_closed_form(one, two) == pytest.approx(
        float((one.log_prob(draws) - two.log_prob(draws)).mean()), abs=0.02
    )
    # In one dimension it is a Gamma.
    flat = [
        Wishart(torch.tensor(n).double(), torch.full((1, 1), v).double()) for n, v in ((4.0, 2.0), (3.0, 1.0))
    ]
    same = [
        dist.Gamma(torch.tensor(n / 2).double(), torch.tensor(1 / (2 * v)).double())
        for n, v in ((4.0, 2.0), (3.0, 1.0))
    ]
    assert torch.allclose(kl_closed_form(*flat), kl_divergence(*same))


def test_positive_definite_matrices_from_the_reals():
    carry, r = PackedToPositiveDefinite(), torch.randn(6).double()
    matrix = carry(r)
    assert torch.allclose(carry.inv(matrix), r)
    row, column = torch.tril_indices(3, 3)
    jacobian = torch.autograd.functional.jacobian(lambda r: carry(r)[row, column], r)
    expected = torch.linalg.slogdet(jacobian).logabsdet
    assert torch.allclose(carry.log_abs_det_jacobian(r, matrix), expected)


@pytest.mark.parametrize(
    ("declare", "words"),
    [
        (lambda: lfm.Linear(prior=3.0), "prior of Linear must be ARD"),
        (
            lambda: lfm.Linear(weight=lfm.Fixed(1.0), prior=lfm.parameter_priors.ARD()),
            "a value or a prior, not both",
        ),
        (
            lambda: lfm.Isotropic(prior=lfm.parameter_priors.ARD()),
            "prior of Isotropic must be lfm.parameter_priors.Gamma",
        ),
        (
            lambda: lfm.Diagonal(lfm.Linear(), prior=lfm.parameter_priors.Gamma()),
            "a source or a prior, not both",
        ),
        (
            lambda: lfm.Categorical(3, prior=lfm.parameter_priors.Beta()),
            "takes prior=lfm.parameter_priors.Dirichlet()",
        ),
        (lambda: lfm.Lookup(prior=lfm.parameter_priors.Gamma()), "prior of Lookup must be"),
        (lambda: lfm.Gaussian(2, prior=lfm.parameter_priors.NormalWishart()), "NormalWishart with Full"),
        (
            lambda: lfm.Gaussian(2, mean=lfm.Linear(), prior=lfm.parameter_priors.NormalGamma()),
            "must be left out or Lookup",
        ),
        (
            lambda: lfm.Gaussian(
                2,
                covariance=lfm.Diagonal(lfm.Lookup()),
                prior=lfm.parameter_priors.NormalGamma(),
            ),
            r"mean of a Gaussian with a prior must be Lookup\(\) where its covariance is",
        ),
        (
            lambda: lfm.Gaussian(
                2,
                covariance=lfm.Full(lfm.Lookup()),
                prior=lfm.parameter_priors.NormalWishart(),
            ),
            r"mean of a Gaussian with a prior must be Lookup\(\) where its covariance is",
        ),
        (lambda: lfm.parameter_priors.Gamma(0.0), "shape of Gamma must be above 0; got 0.0"),
        (
            lambda: lfm.Model(
                z=lfm.StandardNormal(2),
                x=lfm.Gaussian(
                    2,
                    mean=lfm.Linear(prior=lfm.parameter_priors.ARD()),
                    covariance=lfm.Diagonal(lfm.Linear(prior=lfm.parameter_priors.ARD())),
                ),
            ),
            "x has two parameters",
        ),
        (
            lambda: lfm.Guide(factors(), z=lfm.Gaussian(mean=lfm.Linear(prior=lfm.parameter_priors.ARD()))),
            "a prior belongs into the model",
        ),
        (
            lambda: lfm.Guide(factors(), z=lfm.Gaussian(), **{"x.weights": lfm.Gaussian()}),
            "x.weights is no variable",
        ),
    ],
)
def test_errors_say_what_fits(declare, words):
    with pytest.raises(lfm.DeclarationError, match=words):
        declare()


@pytest.mark.parametrize(
    ("prior", "words"),
    [
        (
            lambda: lfm.parameter_priors.NormalWishart(covariance=[1.0, 2.0]),
            "covariance of NormalWishart must broadcast to shape",
        ),
        (
            lambda: lfm.parameter_priors.NormalWishart(mean=[1.0, 2.0]),
            "mean of NormalWishart must broadcast to shape",
        ),
        (lambda: lfm.parameter_priors.NormalWishart(covariance=-torch.eye(3)), "positive definite"),
        (
            lambda: lfm.parameter_priors.NormalWishart(degrees=1.0),
            "degrees of NormalWishart must be above D − 1 = 2",
        ),
    ],
)
def test_hyperparameters_that_do_not_fit(prior, words):
    with pytest.raises((lfm.DeclarationError, lfm.ShapeError), match=words):
        lfm.Model(
            c=lfm.Categorical(2),
            x=lfm.Gaussian(3, mean=lfm.Lookup(), covariance=lfm.Full(lfm.Lookup()), given="c", prior=prior()),
        )


def test_a_horseshoe_draws_most_loadings_to_zero_and_leaves_the_rest():
    torch.manual_seed(0)
    weight = torch.zeros(6, 1)
    weight[:2] = torch.tensor([[2.0], [-1.5]])
    rows = torch.randn(200, 1) @ weight.T + 0.3 * torch.randn(200, 6)
    model = lfm.Model(
        z=lfm.StandardNormal(1),
        x=lfm.Gaussian(
            6,
            mean=lfm.Linear(prior=lfm.parameter_priors.Horseshoe()),
            covariance=lfm.Isotropic(prior=lfm.parameter_priors.Gamma()),
        ),
    )
    drawn = ["x.shrinkage", "x.local", "x.bias", "x.precision", "x.weight"]
    assert sorted(model.latents) == sorted([*drawn, "z"])
    assert model.wiring["x.weight"] == ("x.shrinkage", "x.local")
    guide = lfm.Guide(model, z=lfm.Gaussian(mean=lfm.Linear()))
    fit = lfm.fit(model, rows, lfm.SVI(guide, epochs=100, learning_rate=0.03), seed=0, progress=False)
    loadings = fit.posterior()["x.weight"].mean.flatten().abs()
    assert loadings[:2].min() > 1.0 and loadings[2:].max() < 0.1
    with pytest.raises(lfm.DeclarationError, match="Horseshoe.*needs ARD"):
        lfm.fit(model, rows, lfm.VariationalBayes(), progress=False)

"""Every distribution of the catalogue sums or integrates to one and has the mean of its draws.

The distributions that torch lacks are compared with exact formulas.
"""

import cases
import pyro.distributions as dist
import pytest
import torch
from pyro.distributions import transforms
from torch.distributions import MultivariateNormal, constraints
from torch.distributions.transforms import ExpTransform
from torch.fx.experimental.proxy_tensor import make_fx

import pyro_lfm as lfm
from pyro_lfm.distributions.draw_mixture import DrawMixture, mixture_over_draws
from pyro_lfm.distributions.masking import observed_part
from pyro_lfm.distributions.multinomial import Multinomial
from pyro_lfm.distributions.pushforward import Pushforward
from pyro_lfm.distributions.supports import entrywise, from_reals
from pyro_lfm.testing.draws_and_log_prob import distribution_faults


def components(seed=0, draws=6, rows=3, dim=2):
    generator = torch.Generator().manual_seed(seed)
    return dist.Normal(torch.randn(draws, rows, dim, generator=generator), 0.5).to_event(1)


def test_a_mixture_over_draws_is_an_equal_mixture_of_its_components():
    distribution = components()
    mixture = DrawMixture(distribution)
    assert mixture.batch_shape == (3,) and mixture.event_shape == (2,)
    x = torch.randn(3, 2)
    expected = (
        torch.stack([distribution.base_dist.log_prob(x).sum(-1)[s].exp() for s in range(6)]).mean(0).log()
    )
    assert torch.allclose(mixture.log_prob(x), expected, atol=1e-5)
    assert torch.allclose(mixture.log_prob(x.expand(4, 3, 2)), expected.expand(4, 3), atol=1e-5)
    draws = mixture.sample((40_000,))
    # Within 5 standard errors: 12 numbers, false alarm below 1e-5.
    assert ((draws.mean(0) - mixture.mean).abs() < 5 * mixture.variance.sqrt() / 200).all()
    assert torch.allclose(draws.var(0), mixture.variance, rtol=0.06)
    assert distribution_faults(DrawMixture(components(rows=2))) == []


def test_the_moments_of_a_pushed_forward_distribution():
    distribution = Pushforward(dist.Normal(torch.zeros(3), 0.5).to_event(1), [ExpTransform()])
    exact = dist.LogNormal(torch.zeros(3), 0.5)
    assert torch.allclose(distribution.mean, exact.mean, rtol=0.05)
    assert torch.allclose(distribution.variance, exact.variance, rtol=0.3)
    assert distribution.expand((4,)).sample().shape == (4, 3)
    assert torch.equal(distribution.mean, distribution.mean)  # a fixed seed: reading it twice gives the same


@pytest.mark.parametrize("covariance", [lfm.Isotropic(), lfm.Diagonal(), lfm.LowRank(2), lfm.Full()])
@pytest.mark.parametrize("event", [(4,), (2, 2)])
def test_the_marginal_of_the_observed_entries_is_exact(covariance, event):
    event = torch.Size(event)
    torch.manual_seed(0)
    raw = torch.randn(5, *covariance.raw_shape(event), dtype=torch.float64)
    loc, floor = torch.randn(5, *event, dtype=torch.float64), torch.full(covariance.floor_shape(event), 1e-3)
    distribution = covariance.distribution(loc, raw, event, floor)
    x = torch.randn(5, *event, dtype=torch.float64)
    mask = torch.rand(5, *event) < 0.6
    mask[0], mask[1] = True, False
    marginal = observed_part(distribution, mask, "x")
    assert marginal.event_shape == event and marginal.sample().shape == (5, *event)
    base = getattr(distribution, "base_dist", distribution)
    dense = getattr(base, "covariance_matrix", None)
    dense = torch.diag_embed(distribution.variance.flatten(1)) if dense is None else dense
    log_prob = marginal.log_prob(x.where(mask, torch.zeros(())))
    for row in range(5):
        seen = mask[row].flatten()
        if not seen.any():
            assert log_prob[row] == 0
            continue
        mean = distribution.mean[row].flatten()[seen]
        part = MultivariateNormal(mean, dense[row][seen][:, seen])
        assert torch.allclose(log_prob[row], part.log_prob(x[row].flatten()[seen]))


def test_a_distribution_without_marginals_of_entries_takes_whole_rows_only():
    distribution = dist.Dirichlet(torch.ones(2, 3))
    x = torch.full((2, 3), 1 / 3)
    whole = torch.tensor([[True] * 3, [False] * 3])
    assert observed_part(distribution, whole, "x").log_prob(x)[1] == 0
    with pytest.raises(lfm.DataError, match="x has rows with some entries missing"):
        observed_part(distribution, torch.tensor([[True, False, True]] * 2), "x")
    assert observed_part(distribution, None, "x") is distribution
    label = dist.Categorical(torch.ones(2, 3))
    assert observed_part(label, torch.tensor([True, False]), "y").log_prob(torch.zeros(2))[1] == 0


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_fit_on_a_gpu_is_the_same_program():
    model = lfm.Model(z=lfm.StandardNormal(2), x=lfm.Gaussian(4, mean=lfm.MLP(8)))
    guide = lfm.Guide(model, z=lfm.Gaussian(covariance=lfm.Full(), network=lfm.MLP(8)))
    fit = lfm.fit(model, torch.randn(50, 4), lfm.SVI(guide, epochs=2), seed=0, progress=False)
    assert fit.posterior().mean.device.type == "cuda"


# Every distribution of the cases, in float64 -----------------------------------------------------------------------

DISTRIBUTIONS = {f"prior-{name}": ("z", name) for name in cases.PRIORS} | {
    f"likelihood-{name}": ("x", name) for name in cases.LIKELIHOODS
}


def model_of(case, dtype=torch.float64):
    """A model with the prior or the likelihood, bound to a guide where the prior is made of one."""
    name, part = DISTRIBUTIONS[case]
    model = cases.one_latent(**{"prior" if name == "z" else "likelihood": part}).to(dtype)
    if part not in cases.NEED_AN_ENCODER:
        return model
    return model.bound_to(cases.guide_for(model, cases.GUIDES["gaussian-diagonal"]))


def distribution_of(case):
    """The distribution of a prior, or of a likelihood for two rows of parents."""
    torch.manual_seed(0)
    name, _ = DISTRIBUTIONS[case]
    model, parents = model_of(case), []
    for parent in model.given[name]:
        value = torch.full((2,), 3.0) if parent in model.covariates else torch.randn(2, cases.K)
        parents.append(value.double())
    return model.factors[name](*parents)


def entry_distribution(distribution):
    """The distribution of one entry where those are independent; None where they are not."""
    base = distribution
    while isinstance(base, torch.distributions.Independent):
        base = base.base_dist
    return None if base.event_shape else base


def values_of(support):
    """All values of a discrete support, (V, ...); of counts the first 5,000."""
    if hasattr(support, "levels"):
        return support.value(torch.arange(support.levels, dtype=torch.float64))
    upper = getattr(support, "upper_bound", 1 if support is constraints.boolean else 4_999)
    return torch.arange(int(torch.as_tensor(upper).max()) + 1, dtype=torch.float64)


@pytest.mark.parametrize("case", DISTRIBUTIONS)
def test_a_pmf_sums_to_one_and_a_density_of_one_entry_integrates_to_one(case):
    distribution = entry_distribution(distribution_of(case))
    if distribution is None:
        pytest.skip("its entries are not independent: check_prior and check_factor estimate its integral")
    support = entrywise(distribution.support)
    ones = (1,) * len(distribution.batch_shape)
    with torch.no_grad():
        if support.is_discrete:
            values = values_of(support)
            total = distribution.log_prob(values.reshape(-1, *ones)).exp().sum(0)
            assert (total - 1).abs().max() < 1e-10
            return
        # The trapezoidal rule on the reals, with steps that grow by sinh. At kinks its error is the squared step.
        u = torch.linspace(-40, 40, 20_001, dtype=torch.float64).reshape(-1, *ones)
        real = isinstance(support, type(constraints.real))
        bijection = None if real else from_reals(support)
        y = u.sinh() if real else u
        x = y if bijection is None else bijection(y)
        slope = u.cosh().log() if bijection is None else bijection.log_abs_det_jacobian(y, x)
        total = (distribution.log_prob(x) + slope).exp().sum(0) * (80 / 20_000)
        assert (total - 1).abs().max() < 1e-5


ONE_FREE_ENTRY = {
    "mixture-of-gaussians": lambda: lfm.MixtureOfGaussians(1, 3),
    # Few bins in one layer: random splines of more have spikes finer than the grid.
    "flow": lambda: lfm.FlowPrior(1, lambda dim: transforms.spline(dim, count_bins=3), layers=1),
    "dirichlet": lambda: lfm.Dirichlet(2, concentration=lfm.Learned([1.5, 2.5])),
    "logistic-normal": lambda: lfm.LogisticNormal(2, mean=lfm.Learned(0.5), covariance=lfm.Full()),
}


@pytest.mark.parametrize("case", ONE_FREE_ENTRY)
def test_a_density_of_dependent_entries_integrates_to_one_where_one_of_them_is_free(case):
    torch.manual_seed(0)
    distribution = ONE_FREE_ENTRY[case]().build("z", []).double()()
    bijection = from_reals(distribution.support)
    y = torch.linspace(-40, 40, 40_001, dtype=torch.float64).unsqueeze(-1)
    with torch.no_grad():
        x = bijection(y)
        slope = bijection.log_abs_det_jacobian(y, x).reshape(len(y), -1).sum(-1)
        total = (distribution.log_prob(x) + slope).exp().sum() * (80 / 40_000)
    assert abs(total - 1) < 1e-5


@pytest.mark.parametrize("case", DISTRIBUTIONS)
def test_the_mean_of_a_distribution_is_that_of_its_draws(case):
    """Within 6 standard errors: 400 numbers in all, false alarm below 1e-6."""
    distribution = distribution_of(case)
    if case == "likelihood-cauchy":
        pytest.skip("a Cauchy distribution has no mean")
    with torch.no_grad():
        if isinstance(distribution, dist.Categorical):
            expected, draws = (
                distribution.probs,
                torch.nn.functional.one_hot(distribution.sample((20_000,)), cases.D).double(),
            )
        else:
            expected, draws = distribution.mean, distribution.sample((20_000,)).double()
        # The mean of a pushed-forward distribution is itself an average, over 1,000 draws.
        count = 20_000 if not isinstance(distribution, Pushforward) else 1 / (1 / 20_000 + 1 / 1_000)
        assert expected.shape == draws.shape[1:]
        assert ((draws.mean(0) - expected).abs() <= 6 * draws.std(0) / count**0.5 + 1e-12).all()


@pytest.mark.parametrize("case", DISTRIBUTIONS)
def test_log_prob_and_draws_are_one_graph(case, monkeypatch):
    """No branch depends on values, except in torch's validation of arguments, so engines can trace them."""
    monkeypatch.setattr(torch.distributions.Distribution, "_validate_args", False)
    torch.manual_seed(0)
    name, _ = DISTRIBUTIONS[case]
    model = model_of(case, torch.float32)
    factor = model.factors[name]
    parents = [
        torch.full((2,), 3.0) if p in model.covariates else torch.randn(2, cases.K) for p in model.given[name]
    ]
    distribution = factor(*parents)
    x = distribution.sample()
    traced = make_fx(lambda value, *given: factor(*given).log_prob(value))(x, *parents)
    torch.testing.assert_close(traced(x, *parents), distribution.log_prob(x))
    if distribution.has_rsample:
        drawn = make_fx(lambda *given: factor(*given).rsample())(*parents)(*parents)
        assert drawn.shape == x.shape


def all_rows(total, categories):
    """Every row of counts that sums to a total."""
    if categories == 1:
        return [[total]]
    return [[first, *rest] for first in range(total + 1) for rest in all_rows(total - first, categories - 1)]


def test_a_multinomial_sums_to_one_and_its_marginals_are_exact():
    torch.manual_seed(0)
    logits = torch.randn(3, dtype=torch.float64)
    distribution = Multinomial(torch.tensor(4.0, dtype=torch.float64), logits)
    rows = torch.tensor(all_rows(4, 3), dtype=torch.float64)
    log_prob = distribution.log_prob(rows)
    torch.testing.assert_close(log_prob, dist.Multinomial(4, logits=logits).log_prob(rows))
    assert abs(log_prob.exp().sum() - 1) < 1e-12
    assert distribution.log_prob(torch.tensor([1.0, 1.0, 1.0])) == -torch.inf  # another total
    # The marginal of one count is binomial. Two counts determine the third, also where it would be negative.
    seen = distribution.marginal(torch.tensor([False, True, False]))
    k = torch.arange(5.0, dtype=torch.float64)
    alone = seen.log_prob(torch.stack([k * 0, k, k * 0], -1))
    torch.testing.assert_close(alone, dist.Binomial(4, probs=logits.softmax(-1)[1]).log_prob(k))
    pair = distribution.marginal(torch.tensor([True, True, False]))
    torch.testing.assert_close(pair.log_prob(rows * torch.tensor([1.0, 1.0, 0.0])), log_prob)
    assert pair.log_prob(torch.tensor([3.0, 2.0, 0.0])) == -torch.inf
    assert distribution.marginal(torch.tensor([False] * 3)).log_prob(torch.zeros(3)).abs() < 1e-12


def test_an_impossible_category_with_count_zero_costs_nothing():
    distribution = Multinomial(torch.tensor(2.0), torch.tensor([0.0, 0.0, -torch.inf]))
    assert distribution.log_prob(torch.tensor([1.0, 1.0, 0.0])).exp() == pytest.approx(0.5)
    assert distribution.log_prob(torch.tensor([1.0, 0.0, 1.0])) == -torch.inf


def test_a_mixture_of_categorical_distributions_is_one():
    distribution = dist.Categorical(torch.rand(6, 3, 4, generator=torch.Generator().manual_seed(0)))
    mixture = mixture_over_draws(distribution)
    torch.testing.assert_close(mixture.probs, distribution.probs.mean(0))
    labels = torch.tensor([0, 3, 2])
    torch.testing.assert_close(mixture.log_prob(labels), DrawMixture(distribution).log_prob(labels))
    assert isinstance(mixture_over_draws(components()), DrawMixture)

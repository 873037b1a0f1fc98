"""k̂ and smoothed weights against the formulas, ArviZ and known tails, and verdicts of evaluations by k̂."""

import math
import warnings

import pytest
import torch

import pyro_lfm as lfm
from pyro_lfm.evaluate.calibration import pareto, pareto_k, pareto_smooth
from pyro_lfm.evaluate.likelihood import estimate as likelihood
from pyro_lfm.inference import blocks


def by_the_formulas(log_weights):
    """k̂ and smoothed weights of one column, computed number by number."""
    values = [value - max(log_weights) for value in log_weights]
    order = sorted(range(len(values)), key=values.__getitem__)
    size = math.ceil(min(len(values) / 5, 3 * math.sqrt(len(values))))
    u = math.exp(values[order[-size - 1]])
    x = [math.exp(values[i]) - u for i in order[-size:]]
    points, quartile = 30 + int(math.sqrt(size)), x[int(size / 4 + 0.5) - 1]
    thetas, profiles = [], []
    for j in range(1, points + 1):
        theta = 1 / x[-1] + (1 - math.sqrt(points / (j - 0.5))) / (3 * quartile)
        k = sum(math.log1p(-theta * value) for value in x) / size
        thetas.append(theta)
        profiles.append(size * (math.log(-theta / k) - k - 1))
    shares = [1 / sum(math.exp(other - own) for other in profiles) for own in profiles]
    theta = sum(share * value for share, value in zip(shares, thetas, strict=True))
    k = sum(math.log1p(-theta * value) for value in x) / size
    scale, k = -k / theta, (size * k + 5) / (size + 10)
    result = list(log_weights)
    for rank, i in enumerate(order[-size:]):
        quantile = scale * ((1 - (rank + 0.5) / size) ** -k - 1) / k
        result[i] = min(math.log(quantile + u), 0.0) + max(log_weights)
    return k, result


@pytest.mark.parametrize("spread", [0.1, 1.0, 4.0])
@pytest.mark.parametrize("draws", [30, 400])
def test_columns_together_are_what_the_formulas_give_for_each(draws, spread):
    torch.manual_seed(0)
    log_weights = spread * torch.randn(draws, 3).double() - 1000
    expected = [by_the_formulas(column.tolist()) for column in log_weights.T]
    assert torch.allclose(
        pareto_k(log_weights), torch.tensor([k for k, _ in expected], dtype=torch.float64), atol=1e-6
    )
    smooth = torch.tensor([values for _, values in expected], dtype=torch.float64).T
    assert torch.allclose(pareto_smooth(log_weights), smooth, rtol=0, atol=1e-6)
    assert torch.allclose(pareto_k(log_weights[:, 0]), pareto_k(log_weights)[0], rtol=1e-9)


@pytest.mark.filterwarnings("ignore:overflow:RuntimeWarning")
@pytest.mark.parametrize("draws", [50, 1000, 20_000])
def test_arviz_agrees(draws):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        psislw = pytest.importorskip("arviz.stats").psislw
    torch.manual_seed(1)
    log_weights = torch.randn(draws, 6).double() * torch.tensor([0.1, 0.5, 1.0, 2.0, 5.0, 10.0])
    log_weights[:, 1] = (10 * log_weights[:, 1]).round() / 10  # ties
    smooth, k = psislw(log_weights.T.numpy(), normalize=False)
    assert torch.allclose(pareto_k(log_weights), torch.as_tensor(k), rtol=0, atol=1e-6)
    # The order of smoothed ties does not matter.
    ours, theirs = pareto_smooth(log_weights).sort(0).values, torch.as_tensor(smooth.T).sort(0).values
    assert torch.allclose(ours, theirs, rtol=0, atol=1e-6)


@pytest.mark.parametrize("k", [-0.3, 0.1, 0.3, 0.5])
def test_a_generalized_pareto_tail_has_the_k_that_it_has(k):
    """At 100,000 draws k̂ of one column errs by (1 + k)/√949 ≤ 0.049; the mean of 30 by 0.009 at most, so that 0.05 is
    more than 5 standard errors: a false alarm in a million."""
    generator = torch.Generator().manual_seed(0)
    uniform = torch.rand(100_000, 30, dtype=torch.float64, generator=generator)
    log_weights = ((uniform**-k - 1) / k).log()
    assert abs(float(pareto_k(log_weights).mean()) - k) < 0.05
    even = (torch.arange(100_000, dtype=torch.float64) + 0.5) / 100_000
    assert abs(float(pareto_k(((even**-k - 1) / k).log())) - k) < 0.05


def test_smoothing_lowers_the_error_of_the_mean_of_heavy_weights():
    """Of 400 estimates of E[w] = 1/(1 − k), k = 0.6: the mean square error was 0.06 to 0.52 of what it is without, over
    six seeds."""
    torch.manual_seed(0)
    log_weights = torch.distributions.Exponential(torch.tensor(1 / 0.6).double()).sample((1000, 400))
    errors = [
        (each.exp().mean(0) - 1 / (1 - 0.6)).square().mean()
        for each in (log_weights, pareto_smooth(log_weights))
    ]
    assert errors[1] < 0.8 * errors[0]


def test_weights_without_a_tail():
    assert pareto_k(torch.zeros(1000)) == -torch.inf
    assert pareto_k(1e-5 * torch.rand(1000)) == -torch.inf
    assert pareto_k(torch.full((100,), -torch.inf)) == torch.inf
    assert pareto_k(torch.tensor([0.0] * 60 + [1.0] * 3 + [-torch.inf] * 37)) == torch.inf
    few = torch.randn(20)
    assert pareto_k(few) == torch.inf and torch.equal(pareto_smooth(few), few.double())
    assert pareto_k(torch.cat([torch.randn(500), torch.full((500,), -torch.inf)])).isfinite()


@pytest.mark.parametrize("wrong", [torch.zeros(()), torch.zeros(1), torch.zeros(5, 2, 2)])
def test_another_shape_is_refused(wrong):
    with pytest.raises(lfm.ShapeError, match=r"log_weights must have shape \(S,\) or \(S, N\)"):
        pareto_k(wrong)


@pytest.mark.parametrize("wrong", [math.nan, math.inf])
def test_weights_that_are_no_numbers_are_refused(wrong):
    with pytest.raises(lfm.DataError, match="log_weights must be finite"):
        pareto_smooth(torch.tensor([0.0, wrong]))


def narrow(scale):
    """p(z | x) = p(z) = N(0, 1), and a guide N(0, scale²) for it, whose weights have k = 1 − scale²."""
    still = lfm.Linear(weight=lfm.Fixed(torch.zeros(2, 1)), bias=lfm.Fixed(0.0))
    model = lfm.Model(
        z=lfm.StandardNormal(1), x=lfm.Gaussian(2, mean=still, covariance=lfm.Isotropic(lfm.Fixed(1.0)))
    ).double()
    covariance = lfm.Isotropic(lfm.Fixed(scale))
    return model, lfm.Guide(model, z=lfm.Gaussian(mean=lfm.Fixed(0.0), covariance=covariance)).double()


def test_k_is_kept_while_draws_stream(monkeypatch):
    """Blocks of 7 draws and 5 rows, against all weights at once."""
    seen = []

    class Recorded(blocks.Evaluation):
        def __call__(self, block):
            seen.append((block[1], super().__call__(block)))
            return seen[-1][1]

    monkeypatch.setattr(blocks, "Evaluation", Recorded)
    monkeypatch.setattr(blocks, "NUMBERS", 5 * 3 * 7)
    monkeypatch.setattr(likelihood, "_ROWS", 5)
    model, guide = narrow(0.8)
    result = lfm.evaluate.log_likelihood((model, guide), torch.randn(12, 2), draws=300)
    for row in range(12):
        weights = torch.cat([w[:, index.tolist().index(row)] for index, w in seen if row in index])
        assert len(weights) == 300
        assert torch.allclose(result.pareto_k[row], pareto_k(weights), rtol=1e-9)


def test_a_verdict_is_given_by_k():
    """A guide too narrow has k = 1 − 0.2² = 0.96, which k̂ of 2000 draws nears from below, as log w varies slowly there; a
    wide one has bounded weights, k < 0. k̂ of a row errs by 0.17, the mean of 40 by 0.03: 5 such lie between 0.74, about
    where it is, and either limit."""
    rows = torch.zeros(40, 2)
    bad = lfm.evaluate.log_likelihood(narrow(0.2), rows, draws=2000)
    assert 0.59 < float(bad.pareto_k.mean()) < 0.96
    count = int((bad.pareto_k > 1 - 1 / math.log10(2000)).sum())
    assert count >= 10 and f"k̂ exceeds 0.70 in {count} of 40 rows" in bad.verdict
    assert bad.verdict in repr(bad) and "2000 draws" in repr(bad)
    good = lfm.evaluate.log_likelihood(narrow(1.5), rows, draws=2000)
    assert good.pareto_k.max() < 0.5 and "No k̂ of 40 rows exceeds 0.70" in good.verdict
    assert "too few" in lfm.evaluate.log_likelihood(narrow(1.5), rows, draws=10).verdict


def test_an_exact_guide_has_no_tail():
    model, _ = narrow(1.0)
    result = lfm.evaluate.log_likelihood((model, lfm.ExactPosterior(model)), torch.randn(5, 2), draws=100)
    assert (result.pareto_k == -torch.inf).all() and not result.unreliable.any()


def test_the_threshold():
    assert pareto.threshold(100) == pytest.approx(0.5) and pareto.threshold(10**6) == 0.7


def linear():
    torch.manual_seed(0)
    model = lfm.Model(z=lfm.StandardNormal(2), x=lfm.Gaussian(4, mean=lfm.Linear())).double()
    data = model.sample(6, seed=0)["x"].clone()
    data[0, 1:3] = math.nan
    return model, lfm.Guide(model, z=lfm.Gaussian(network=lfm.MLP(4))).double(), data


def test_a_pair_is_evaluated_as_a_fit_is():
    model, guide, data = linear()
    fit = lfm.fit(model, data, lfm.SVI(guide, epochs=1), seed=0, progress=False)
    from_fit = lfm.evaluate.log_likelihood(fit, draws=50)
    from_pair = lfm.evaluate.log_likelihood((model, guide), data, draws=50)
    assert torch.equal(from_fit.per_row, from_pair.per_row)
    with pytest.raises(lfm.DataError, match="holds no rows: give data"):
        lfm.evaluate.log_likelihood((model, guide))
    with pytest.raises(lfm.DeclarationError, match="a Fit.*or a pair"):
        lfm.evaluate.log_likelihood(model, data)


def test_a_pair_of_programs_is_evaluated():
    """Programs by hand that have not run before."""
    import pyro
    import pyro.distributions as dist

    class Made(lfm.PyroModel):
        def forward(self, batch):
            scale = pyro.param("scale", torch.ones(()))
            with batch.plate():
                z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
                pyro.sample("x", dist.Normal(z, scale).to_event(1), obs=batch["x"])

    class Guessed(lfm.PyroGuide):
        def forward(self, batch):
            with batch.plate():
                pyro.sample("z", dist.Normal(batch["x"] / 2, 0.5**0.5).to_event(1))

    rows = torch.randn(5, 2)
    result = lfm.evaluate.log_likelihood((Made(), Guessed()), rows, draws=3)
    expected = torch.distributions.Normal(0.0, 2**0.5).log_prob(rows).sum(1)
    assert torch.allclose(result.per_row, expected.double(), atol=1e-5)


def test_exact_values_and_bits_per_dimension():
    model, guide, data = linear()
    exact = lfm.evaluate.log_likelihood((model, guide), data, method="exact")
    fit = lfm.fit(model, data, lfm.SVI(guide, steps=1), seed=0, progress=False)
    again = lfm.evaluate.log_likelihood(fit, method="exact")
    assert torch.equal(again.per_row, fit.log_likelihood()) and again.mean_error == 0
    assert (
        exact.observed.tolist() == [2, 4, 4, 4, 4, 4] and "Exact" in exact.verdict and "exact" in repr(exact)
    )
    expected = -exact.per_row / exact.observed / math.log(2)
    assert torch.allclose(exact.bits_per_dimension, expected)
    # Fair coins have one bit each.
    coins = lfm.Model(z=lfm.StandardNormal(1), x=lfm.Bernoulli(8, logits=lfm.Fixed(0.0), given="z"))
    guide = lfm.Guide(coins, z=lfm.Gaussian(network=lfm.MLP(4)))
    tossed = lfm.evaluate.log_likelihood((coins, guide), coins.sample(3, seed=0)["x"], draws=2000)
    assert torch.allclose(tossed.bits_per_dimension, torch.ones(3).double(), atol=0.1)


def test_what_has_no_closed_form_says_so():
    model = lfm.Model(z=lfm.StandardNormal(1), x=lfm.Gaussian(2, mean=lfm.MLP(4)))
    pair = model, lfm.Guide(model, z=lfm.Gaussian(network=lfm.MLP(4)))
    with pytest.raises(lfm.DeclarationError, match='method="exact" cannot serve.*x.mean is MLP.*importance'):
        lfm.evaluate.log_likelihood(pair, torch.zeros(3, 2), method="exact")
    with pytest.raises(lfm.DeclarationError, match='method must be "importance", "annealed" or "exact"'):
        lfm.evaluate.log_likelihood(pair, torch.zeros(3, 2), method="guess")


def test_weights_that_are_none_are_refused():
    for bad in ("abc", None, [[1.0], [1.0, 2.0]]):
        with pytest.raises(lfm.ShapeError, match="log_weights must be a tensor or an array"):
            pareto_k(bad)
    with pytest.raises(lfm.DataError, match="log_weights must be real"):
        pareto_k(torch.ones(10, dtype=torch.complex64))

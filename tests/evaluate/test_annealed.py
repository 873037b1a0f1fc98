"""log p(x) by annealing, and simulated rows between two bounds, against closed forms."""

import math

import cases
import pytest
import torch

import pyro_lfm as lfm
from pyro_lfm.evaluate import Annealing
from pyro_lfm.inference import blocks
from pyro_lfm.inference.engines import tracing


def linear(seed, factors, columns, covariance=lfm.Diagonal):
    """A fit of a random linear Gaussian model, a guide trained for a few steps, and 4 rows from the model."""
    torch.manual_seed(seed)
    model = lfm.Model(z=lfm.StandardNormal(factors), x=lfm.Gaussian(columns, mean=lfm.Linear())).double()
    for parameter in model.parameters():
        parameter.data = torch.randn_like(parameter) / factors**0.5
        parameter.requires_grad_(False)
    guide = lfm.Guide(model, z=lfm.Gaussian(mean=lfm.Linear(), covariance=covariance())).double()
    svi = lfm.SVI(guide, steps=150, batch_size=100, learning_rate=0.05)
    fit = lfm.fit(model, model.sample(200, seed=seed)["x"], svi, seed=seed, progress=False)
    return fit, model.sample(4, seed=seed + 1)["x"]


@pytest.mark.parametrize("seed", range(20))
def test_random_linear_models(seed):
    """Annealed and importance estimates within 4 standard errors of the exact value: 160 of them, were they normal a
    false alarm in 100 runs of the suite with fresh seeds; these are fixed. Of a guide whose weights have a heavy tail
    the errors of importance sampling are too small; annealed chains shorten the tail."""
    fit, x = linear(seed, 1 + seed % 10, 4 + seed % 7, lfm.Full)
    exact = fit.log_likelihood(x)
    annealed = lfm.evaluate.log_likelihood(
        fit, x, draws=128, method="annealed", annealing=Annealing(40), seed=seed
    )
    importance = lfm.evaluate.log_likelihood(fit, x, draws=4000, seed=seed)
    assert annealed.draws == 128 and annealed.temperatures == 40
    for result in (annealed, importance):
        off = (result.per_row - exact) / result.standard_error
        assert off[result.pareto_k < 0.5].abs().max() < 4
    assert ((annealed.per_row - exact) / annealed.standard_error).abs().max() < 4
    assert annealed.standard_error.mean() < 0.02


def test_reported_errors_are_right():
    """z-scores of 200 repeats, as rows of which each has chains of its own: their variance lies within 0.8 and 1.25 but
    for one run in 60, were they normal; the seed is fixed."""
    fit, x = linear(3, 3, 6)
    repeats = x[:1].expand(200, -1).contiguous()
    result = lfm.evaluate.log_likelihood(
        fit, repeats, draws=128, method="annealed", annealing=Annealing(20), seed=1
    )
    scores = (result.per_row - fit.log_likelihood(repeats)) / result.standard_error
    assert 0.8 < float(scores.var()) < 1.25
    assert abs(float(scores.mean())) < 0.25


@pytest.mark.parametrize(
    "factors, covariance, temperatures",
    [(2, lfm.Diagonal, 60), (10, lfm.Full, 60)],
    ids=["mean-field", "full"],
)
def test_simulated_rows_are_sandwiched(factors, covariance, temperatures):
    """Intervals of three errors around the estimates are narrower than 0.01 nats, and the truth lies between.

    Of 50 rows' intervals three or more miss it in one of 2,000 runs with fresh seeds; this one is fixed.
    """
    fit, _ = linear(factors, factors, 12, covariance)
    result = lfm.evaluate.sandwich(fit, rows=50, draws=256, annealing=Annealing(temperatures), seed=0)
    exact = fit.log_likelihood(result.data)
    low, high = result.interval
    assert low < float(exact.mean()) < high and result.width < 0.01
    assert ((result.per_row[:, 0] < exact) & (exact < result.per_row[:, 1])).sum() >= 48
    assert abs(result.gap) < 0.005 and f"between {low:.4f} and {high:.4f}" in repr(result)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("method", ["importance", "annealed"])
def test_an_exact_guide_leaves_the_error_of_rounding(method, dtype):
    torch.manual_seed(0)
    model = lfm.Model(z=lfm.StandardNormal(3), x=lfm.Gaussian(20, mean=lfm.Linear())).to(dtype)
    pair = model, lfm.ExactPosterior(model)
    x = model.sample(10, seed=0)["x"]
    exact = lfm.evaluate.log_likelihood(pair, x, method="exact").per_row
    result = lfm.evaluate.log_likelihood(pair, x, draws=200, method=method, annealing=Annealing(5))
    assert ((result.per_row - exact).abs() < 4 * result.standard_error).all()
    assert result.standard_error.max() < 200 * torch.finfo(dtype).eps + 1e-8


@pytest.mark.slow
def test_rows_of_a_trained_deep_decoder_are_sandwiched():
    train = lfm.data.digits()
    torch.manual_seed(0)
    hidden = lfm.MLP(64)
    model = lfm.Model(z=lfm.StandardNormal(10), x=lfm.Binomial(64, total_count=16, logits=hidden))
    guide = lfm.Guide(model, z=lfm.Gaussian(covariance=lfm.Full(), network=hidden))
    svi = lfm.SVI(guide, epochs=15, batch_size=64, learning_rate=5e-3)
    fit = lfm.fit(model, (train.x * 16).round(), svi, seed=0, progress=False)
    result = lfm.evaluate.sandwich(fit, rows=40, draws=64, annealing=Annealing(200), seed=0)
    assert result.width < 0.1 and result.gap > -0.05
    bound = fit.bound(result.data, draws=20).mean()
    assert float(bound) < result.interval[0] - 0.5, "no more than the encoder's bound says"


def test_the_mean_weight_is_unbiased_whatever_the_temperatures():
    """E[w] = p(x) with two temperatures too; 5 errors of 20,000 chains of one row."""
    fit, x = linear(5, 2, 4)
    result = lfm.evaluate.log_likelihood(
        fit, x[:1].expand(80, -1).contiguous(), draws=256, method="annealed", annealing=Annealing(2, leaps=1)
    )
    ratio = (result.per_row - fit.log_likelihood(x[:1])).exp()
    assert abs(float(ratio.mean()) - 1) < 5 * float(ratio.std()) / 80**0.5


def test_annealing_heals_a_guide_that_misses_the_posterior():
    """A guide with a tenth of the posterior's width: estimates from its draws are wrong by some nats, those of chains
    not."""
    torch.manual_seed(0)
    model = lfm.Model(z=lfm.StandardNormal(4), x=lfm.Gaussian(6, mean=lfm.Linear())).double()
    narrow = lfm.Diagonal(lfm.Fixed(0.1))
    guide = lfm.Guide(model, z=lfm.Gaussian(mean=lfm.Linear(), covariance=narrow)).double()
    x = model.sample(10, seed=0)["x"]
    exact = lfm.evaluate.log_likelihood((model, guide), x, method="exact").per_row
    importance = lfm.evaluate.log_likelihood((model, guide), x, draws=1000)
    annealed = lfm.evaluate.log_likelihood((model, guide), x, method="annealed")
    assert (exact - importance.per_row).mean() > 0.5 and importance.unreliable.all()
    assert ((exact - annealed.per_row).abs() < 4 * annealed.standard_error + 0.02).all()
    assert annealed.standard_error.max() < 0.15


def test_estimates_do_not_flatter():
    """30 simulated truths: held-out estimates of fitted deep models lie below the truth's own log p(x), but for errors.

    The difference is paired by row. On average it is −KL(truth ‖ fitted) < 0, so that 3 standard errors above 0 are
    reached in less than one of 700.
    """
    for seed in range(30):
        torch.manual_seed(seed)
        truth = lfm.Model(z=lfm.StandardNormal(2), x=lfm.Gaussian(5, mean=lfm.Linear()))
        x, held_out = truth.sample(700, seed=seed)["x"].split([300, 400])
        own = lfm.evaluate.log_likelihood(
            (truth, lfm.Guide(truth, z=lfm.Gaussian(mean=lfm.Linear()))), held_out, method="exact"
        )
        model = lfm.Model(z=lfm.StandardNormal(2), x=lfm.Gaussian(5, mean=lfm.MLP(8)))
        guide = lfm.Guide(model, z=lfm.Gaussian(network=lfm.MLP(8)))
        svi = lfm.SVI(guide, steps=100, batch_size=100, learning_rate=0.02)
        fit = lfm.fit(model, x, svi, seed=seed, progress=False)
        result = lfm.evaluate.log_likelihood(fit, held_out, draws=200)
        over = result.per_row - own.per_row
        assert float(over.mean()) < 3 * float(over.std()) / 400**0.5


def test_several_latents_and_missing_entries_are_served():
    torch.manual_seed(0)
    model = lfm.Model(
        z=lfm.StandardNormal(2),
        r=lfm.Gamma(3, concentration=lfm.Fixed(2.0)),
        x=lfm.Gaussian(4, mean=lfm.MLP(5), given=("z", "r")),
    )
    guide = cases.guide_for(model, cases.GUIDES["gaussian-diagonal"])
    x = model.sample(6, seed=0)["x"].clone()
    x[1, 2] = x[3] = math.nan
    annealed = lfm.evaluate.log_likelihood((model, guide), x, method="annealed")
    # Draws from the prior cover every posterior here, while the weights of the guide have heavy tails.
    drawn = model.sample(500_000, seed=1)
    entries = model.factors["x"](drawn["z"], drawn["r"]).base_dist
    with torch.no_grad():
        log_p = torch.stack(
            [entries.log_prob(row.nan_to_num()).where(~row.isnan(), 0.0).sum(-1).double() for row in x], 1
        )
    expected = log_p.logsumexp(0) - math.log(len(log_p))
    weights = (log_p - expected).exp()
    error = torch.hypot(annealed.standard_error, weights.std(0) / len(weights) ** 0.5)
    assert ((annealed.per_row - expected).abs() < 5 * error + 1e-3).all()
    assert abs(float(annealed.per_row[3])) < 5 * float(annealed.standard_error[3]) + 1e-3, "p of nothing is 1"


@pytest.mark.parametrize("guide", [name for name in cases.GUIDES if not name.startswith("per-row")])
def test_every_guide_is_a_start(guide):
    """Intervals of three errors of 6 rows, in both directions: they overlap but for one run in 100 with fresh seeds."""
    torch.manual_seed(0)
    model = cases.plain()
    pair = model, cases.guide_for(model, cases.GUIDES[guide])
    result = lfm.evaluate.sandwich(pair, rows=6, draws=32, annealing=Annealing(20))
    assert result.per_row.isfinite().all() and (result.per_row[:, 0] < result.per_row[:, 1]).all()


@pytest.mark.parametrize("prior", cases.PRIORS)
def test_every_prior_is_annealed(prior):
    torch.manual_seed(0)
    model = cases.one_latent(prior)
    guide = cases.guide_for(model, cases.GUIDES["gaussian-diagonal"])
    result = lfm.evaluate.sandwich((model, guide), rows=6, draws=32, annealing=Annealing(20))
    assert result.per_row.isfinite().all() and (result.per_row[:, 0] < result.per_row[:, 1]).all()


def test_hand_written_programs_and_summed_latents_are_sandwiched():
    torch.manual_seed(0)
    model = cases.GammaDirichlet()
    guide = cases.guide_for(model, cases.GUIDES["gaussian-full"])
    result = lfm.evaluate.sandwich((model, guide), rows=10, draws=32, annealing=Annealing(30))
    assert (result.per_row[:, 0] < result.per_row[:, 1]).all() and result.latents["w"].shape == (10, cases.K)

    mixture = cases.mixture_of_factor_analysers(lfm.Isotropic())
    guide = lfm.Guide(
        mixture,
        c=lfm.Categorical(logits=lfm.MLP(4), given="x"),
        z=lfm.Gaussian(network=lfm.MLP(4), given="x"),
    )
    result = lfm.evaluate.sandwich((mixture, guide), rows=20, draws=32, annealing=Annealing(30))
    exact = lfm.evaluate.log_likelihood((mixture, guide), result.data, method="exact").per_row
    low, high = result.interval
    assert low < float(exact.mean()) < high


def test_a_compiled_chain_gives_the_same_numbers(monkeypatch):
    """A chain magnifies rounding, so that only its first steps agree."""
    fit, x = linear(2, 3, 5)
    eager = lfm.evaluate.log_likelihood(fit, x, method="annealed", draws=32, annealing=Annealing(5))
    monkeypatch.setattr(blocks, "COMPILING", -1.0)
    calls = []
    native = tracing.native
    monkeypatch.setattr(tracing, "native", lambda *given: calls.append(1) or native(*given))
    compiled = lfm.evaluate.log_likelihood(fit, x, method="annealed", draws=32, annealing=Annealing(5))
    assert len(calls) == 1
    assert torch.allclose(eager.per_row, compiled.per_row, atol=1e-6)


def test_the_users_random_state_and_modules_stay():
    fit, x = linear(1, 2, 4)
    before, state = torch.get_rng_state(), {n: v.clone() for n, v in fit.guide.state_dict().items()}
    first = lfm.evaluate.log_likelihood(fit, x, method="annealed", annealing=Annealing(5))
    again = lfm.evaluate.log_likelihood(fit, x, method="annealed", annealing=Annealing(5))
    assert torch.equal(first.per_row, again.per_row) and torch.equal(before, torch.get_rng_state())
    assert all(torch.equal(value, state[name]) for name, value in fit.guide.state_dict().items())


def test_what_cannot_be_annealed_is_refused_by_name():
    torch.manual_seed(0)
    model = cases.SharedScale()
    guide = cases.guide_for(model, cases.GUIDES["gaussian-diagonal"])
    with pytest.raises(lfm.DeclarationError, match="scale is shared by all rows"):
        lfm.evaluate.sandwich((model, guide), rows=2)
    counts = lfm.Model(n=lfm.Poisson(1, rate=lfm.Fixed(3.0)), x=lfm.Gaussian(2, mean=lfm.Linear(), given="n"))
    guide = lfm.Guide(counts, n=lfm.Poisson(rate=lfm.MLP(4)))
    with pytest.raises(lfm.DeclarationError, match="moves latents through the reals, which n on .* is not"):
        lfm.evaluate.log_likelihood((counts, guide), torch.zeros(3, 2), method="annealed")
    plain = cases.plain()
    guide = cases.guide_for(plain, cases.GUIDES["gaussian-diagonal"])
    with pytest.raises(lfm.DeclarationError, match="the data hold values of z"):
        data = plain.sample(3, seed=0)
        lfm.evaluate.log_likelihood((plain, guide), data, method="annealed")
    with pytest.raises(lfm.DeclarationError, match="temperatures must be a positive int; got 0"):
        Annealing(temperatures=0)
    with pytest.raises(lfm.DeclarationError, match="annealing must be lfm.evaluate.Annealing.*got int"):
        lfm.evaluate.sandwich((plain, guide), rows=2, annealing=5)
    with pytest.raises(lfm.DeclarationError, match="given must be"):
        lfm.evaluate.sandwich((plain, guide), rows=2, given=torch.zeros(2))
    with pytest.raises(lfm.DeclarationError, match="seed must be"):
        lfm.evaluate.log_likelihood((plain, guide), torch.zeros(3, cases.D), seed="a")
    with torch.inference_mode(), pytest.raises(lfm.DeclarationError, match="inference_mode"):
        lfm.evaluate.sandwich((plain, guide), rows=2)
    with pytest.raises(lfm.DeclarationError, match="must be a Fit, .* got Model"):
        lfm.evaluate.sandwich(plain)

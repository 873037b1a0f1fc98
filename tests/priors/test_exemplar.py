"""The ExemplarPrior is the leave-one-out Parzen mixture around the codes of the training rows."""

import copy
import math

import pytest
import torch
from torch.distributions import MultivariateNormal

import pyro_lfm as lfm
from pyro_lfm.distributions.parzen_mixture import ParzenMixture

ROWS = torch.randn(30, 4, generator=torch.Generator().manual_seed(1))


def pair(**options):
    torch.manual_seed(0)
    model = lfm.Model(z=lfm.ExemplarPrior(2, **options), x=lfm.Gaussian(4, mean=lfm.MLP(6)))
    return model, lfm.Guide(model, z=lfm.Gaussian(network=lfm.MLP(6)))


def brute_force(centres, scale, value, left_out=()):
    """log 1/M Σ_m N(value; c_m, σ² I) over the centres that are not left out."""
    kept = [c for m, c in enumerate(centres) if m not in left_out]
    each = torch.stack([MultivariateNormal(c, scale**2 * torch.eye(len(c))).log_prob(value) for c in kept])
    return each.logsumexp(0) - math.log(len(kept))


def test_the_density_is_that_of_the_mixture_without_the_rows_own_centre():
    centres, values = torch.randn(7, 2), torch.randn(3, 2)
    own = torch.zeros(3, 7, dtype=torch.bool)
    own[0, 4] = own[2, 0] = True
    mixture = ParzenMixture(centres, torch.tensor(0.5).log(), None, own)
    expected = [brute_force(centres, 0.5, values[i], own[i].nonzero().flatten().tolist()) for i in range(3)]
    torch.testing.assert_close(mixture.log_prob(values), torch.stack(expected))
    # Of several draws side by side too.
    stacked = torch.stack([values, values + 0.1])
    torch.testing.assert_close(mixture.log_prob(stacked)[0], torch.stack(expected))


def test_neighbours_give_the_density_from_below_and_all_of_it_where_they_are_all():
    centres, values = torch.randn(40, 2), torch.randn(20, 2)
    log_scale = torch.tensor(0.3).log()
    whole = ParzenMixture(centres, log_scale).log_prob(values)
    few, most = (ParzenMixture(centres, log_scale, k).log_prob(values) for k in (3, 39))
    assert (few <= whole + 1e-6).all() and (most <= whole + 1e-6).all() and (few <= most + 1e-6).all()
    torch.testing.assert_close(ParzenMixture(centres, log_scale, 99).log_prob(values), whole)


def test_draws_have_the_moments_of_the_mixture_and_none_is_of_a_left_out_centre():
    centres = torch.tensor([[0.0, 0.0], [10.0, 0.0], [20.0, 5.0]])
    mixture = ParzenMixture(centres, torch.tensor(0.1).log())
    torch.manual_seed(0)
    draws = mixture.sample((20_000,))
    # 6 standard errors: a false alarm in 1e8 runs.
    assert ((draws.mean(0) - mixture.mean).abs() < 6 * (mixture.variance / 20_000).sqrt()).all()
    own = torch.tensor([[True, False, False]])
    assert (ParzenMixture(centres, torch.tensor(0.1).log(), None, own).sample((500,))[..., 0] > 5).all()


def test_the_exemplars_are_the_rows_of_the_fit_and_their_codes_the_means_of_the_guide():
    model, guide = pair(neighbours=4)
    fit = lfm.fit(model, ROWS, lfm.SVI(guide, epochs=2, batch_size=10), seed=0, progress=False)
    prior = fit.model.factors["z"]()
    torch.testing.assert_close(prior.centres, fit.posterior(ROWS).mean)
    torch.testing.assert_close(fit.model.factors["z"].exemplars["x"], ROWS)
    value = torch.zeros(2)
    scale = float(fit.model.factors["z"].log_scale.exp())
    torch.testing.assert_close(
        prior.log_prob(value), brute_force(prior.centres, scale, value), rtol=1e-4, atol=1e-4
    )


def test_a_step_leaves_the_rows_own_code_out_and_evaluation_does_not():
    model, guide = pair(neighbours=40)
    fit = lfm.fit(model, ROWS, lfm.SVI(guide, epochs=1), seed=0, progress=False)
    factor = fit.model.factors["z"]
    index = torch.arange(30)
    fit.model.train()
    trained = factor.at([], index).log_prob(factor.codes_of_exemplars)
    fit.model.eval()
    whole = factor.at([], index).log_prob(factor.codes_of_exemplars)
    scale = float(factor.log_scale.exp())
    for row in (0, 7):
        code = factor.codes_of_exemplars[row]
        expected = brute_force(factor.codes_of_exemplars, scale, code, {row})
        torch.testing.assert_close(trained[row], expected, rtol=1e-4, atol=1e-4)
    assert (whole > trained).all()


@pytest.mark.parametrize("engine", ["eager", "compiled", "pyro"])
def test_every_engine_trains_it_and_the_scale_of_the_kernels(engine):
    model, guide = pair(exemplars=20, neighbours=5)
    before = model.factors["z"].log_scale.item()
    svi = lfm.SVI(guide, epochs=3, batch_size=10, engine=engine)
    fit = lfm.fit(model, ROWS, svi, seed=0, progress=False)
    assert all(math.isfinite(record["bound"]) for record in fit.history)
    assert model.factors["z"].log_scale.item() != before and len(model.factors["z"].places) == 20


def test_state_holds_the_exemplars_and_copies_are_alike():
    model, guide = pair(exemplars=12)
    fit = lfm.fit(model, ROWS, lfm.SVI(guide, epochs=1), seed=0, progress=False)
    twin, twin_guide = pair()
    twin.load_state_dict(fit.model.state_dict())
    twin_guide.load_state_dict(fit.guide.state_dict())
    expected = fit.model.sample(5, seed=1)["x"]
    torch.testing.assert_close(twin.bound_to(twin_guide).sample(5, seed=1)["x"], expected)
    torch.testing.assert_close(copy.deepcopy(fit.model).sample(5, seed=1)["x"], expected)


def test_what_it_cannot_be_made_of_is_refused_in_words():
    model, _ = pair()
    with pytest.raises(lfm.DeclarationError, match="bound to none"):
        model.sample(2)
    with pytest.raises(lfm.DeclarationError, match="mean in closed form"):
        lfm.Guide(model, z=lfm.Flow(network=lfm.MLP(4)))
    rows = ROWS.clone()
    rows[0, 0] = math.nan
    with pytest.raises(lfm.DeclarationError, match="exemplars are complete rows"):
        lfm.fit(
            model,
            rows,
            lfm.SVI(lfm.Guide(model, z=lfm.Gaussian(network=lfm.MLP(4))), epochs=1),
            progress=False,
        )


def test_a_checkpoint_holds_a_fit_whose_exemplars_are_a_part_of_the_rows(tmp_path):
    x = (torch.rand(30, 6, generator=torch.Generator().manual_seed(0)) > 0.5).float()

    def fitted(path, epochs):
        torch.manual_seed(0)
        model = lfm.Model(
            z=lfm.ExemplarPrior(2, exemplars=12, neighbours=3), x=lfm.Bernoulli(6, logits=lfm.MLP(4))
        )
        guide = lfm.Guide(model, z=lfm.Gaussian(network=lfm.MLP(4)))
        svi = lfm.SVI(guide, epochs=epochs, batch_size=10)
        return lfm.fit(model, x, svi, validation=x[:8], seed=0, progress=False, checkpoint=path)

    fitted(tmp_path / "run", 2)
    resumed, whole = fitted(tmp_path / "run", 4), fitted(tmp_path / "other", 4)
    assert [r["bound"] for r in resumed.history] == [r["bound"] for r in whole.history]


def test_the_density_under_all_centres_is_that_of_each_and_has_its_gradient(monkeypatch):
    monkeypatch.setattr("pyro_lfm.distributions.parzen_mixture._ENTRIES", 30)
    noise = torch.Generator().manual_seed(0)
    centres = 5 + torch.randn(11, 3, generator=noise, dtype=torch.float64)
    value = (5 + torch.randn(2, 4, 3, generator=noise, dtype=torch.float64)).requires_grad_()
    scale = torch.tensor(-1.0, dtype=torch.float64, requires_grad=True)
    each = torch.distributions.Normal(centres, scale.exp()).log_prob(value.unsqueeze(-2)).sum(-1)
    expected = each.logsumexp(-1) - torch.tensor(11.0, dtype=torch.float64).log()
    ours = ParzenMixture(centres, scale).log_prob(value)
    torch.testing.assert_close(ours, expected)
    ours = torch.autograd.grad(ours.sum(), (value, scale))
    for one, other in zip(ours, torch.autograd.grad(expected.sum(), (value, scale)), strict=True):
        torch.testing.assert_close(one, other)

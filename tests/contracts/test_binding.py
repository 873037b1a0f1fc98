"""A run or a fit binds a guide to a model. Declaring a guide changes nothing."""

import copy
import pickle
import threading

import pyro
import pytest
import torch
from pyro import poutine
from pyro.infer import RenyiELBO, Trace_ELBO, TraceMeanField_ELBO

import pyro_lfm as lfm

ROWS = 1.0 + 2.0 * torch.randn(40, 4, generator=torch.Generator().manual_seed(1))


def declared(**options):
    return lfm.Model(z=lfm.VampPrior(2, components=5, **options), x=lfm.Gaussian(4, mean=lfm.MLP(6)))


def guide_of(model, **options):
    return lfm.Guide(model, z=lfm.Gaussian(network=lfm.MLP(6), **options))


def fitted(model, guide, seed=0, **options):
    svi = lfm.SVI(guide, epochs=3, batch_size=20, learning_rate=0.02, **options)
    return lfm.fit(model, ROWS, svi, seed=seed, progress=False)


def numbers(model):
    """Draws of a model's latent, and their log p(z)."""
    z = torch.linspace(-1.0, 1.0, 6).reshape(3, 2)
    with torch.no_grad():
        return model.sample(50, seed=0)["z"], model.factors["z"]().log_prob(z)


def same(one, other):
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def average(guide, rows, z):
    """log 1/C Σ_c q(z | u_c), one distribution at a time."""
    return (
        torch.stack([guide.factors["z"](row).log_prob(z) for row in rows]).logsumexp(0)
        - torch.tensor(float(len(rows))).log()
    )


LOOKS = {
    "declare": lambda model, other: guide_of(model),
    "describe": lambda model, other: lfm.describe(model, other),
    "bound": lambda model, other: lfm.ELBO(particles=2).bound(model, other, ROWS),
    "weights": lambda model, other: lfm.ImportanceWeightedELBO(3).bound(model, other, ROWS),
    "evaluate": lambda model, other: lfm.evaluate.log_likelihood((model, other), ROWS[:3], draws=10),
    "check": lambda model, other: lfm.testing.check_guide(other, model),
    "compare": lambda model, other: lfm.compare(
        model, ROWS, {"other": other}, epochs=1, draws=2, progress=False
    ),
    "bind a view": lambda model, other: model.bound_to(other).sample(3, seed=0),
    "copy": lambda model, other: copy.deepcopy((model, other)),
    "pickle": lambda model, other: pickle.loads(pickle.dumps((model, other))),
    "Pyro": lambda model, other: Trace_ELBO().loss(model, other, lfm.Batch(ROWS)),
    "fails": lambda model, other: failing(model, other),
}


def failing(model, other):
    """Three failures: a fit that stops at its first step, an objective that raises, and a guide of another kind."""
    broken = ROWS.clone()
    broken[3] = 1e38
    with pytest.raises(lfm.TrainingError):
        lfm.fit(model, broken, lfm.SVI(other, epochs=1), seed=0, progress=False)
    with pytest.raises(lfm.DeclarationError):
        lfm.fit(model, ROWS, lfm.SVI(lfm.PyroGuide(lambda batch: None), epochs=1), seed=0, progress=False)


@pytest.mark.parametrize("look", LOOKS)
def test_nothing_but_a_fit_changes_a_fitted_model(look):
    model = declared()
    fit = fitted(model, guide_of(model))
    other = guide_of(fit.model)
    before, states = numbers(fit.model), copy.deepcopy((fit.model.state_dict(), other.state_dict()))
    LOOKS[look](fit.model, other)
    assert same(before, numbers(fit.model)) and same(before, numbers(model))
    for part, state in zip((fit.model, other), states, strict=True):
        assert part.state_dict().keys() == state.keys()
        assert same(part.state_dict().values(), state.values())
    pyro.clear_param_store()


def test_every_parameter_exists_from_the_declaration_on():
    model = declared()
    names = [name for name, _ in model.named_parameters()]
    assert "factors.z.pseudo_inputs.x" in names and model.factors["z"].pseudo_inputs["x"].shape == (5, 4)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    guide = guide_of(model)
    assert names == [name for name, _ in model.named_parameters()]
    held = {id(p) for group in optimizer.param_groups for p in group["params"]}
    fit = fitted(model, guide)
    assert held == {id(p) for p in fit.model.parameters()} and fit.model is model
    fresh = declared()
    fresh.load_state_dict(model.state_dict())
    assert same(numbers(fresh.bound_to(guide)), numbers(model))


@pytest.mark.parametrize(
    "ask",
    [
        lambda model: model.sample(3, seed=0),
        lambda model: model.factors["z"]().log_prob(torch.zeros(2)),
        lambda model: model.factors["z"]().sample(),
        lambda model: poutine.trace(model).get_trace(lfm.Batch(ROWS)),
        lambda model: model.sample(3, seed=0, given={"z": torch.zeros(3, 2)}),
    ],
)
def test_a_prior_that_is_bound_to_no_guide_says_so(ask):
    model = declared()
    guide_of(model)
    with pytest.raises(
        lfm.DeclarationError, match=r"bound to none: take the model of a Fit.*model\.bound_to\(guide\)"
    ):
        ask(model)


def test_each_fit_has_the_prior_of_its_own_guide():
    model, z = declared(), torch.zeros(2)
    guides = guide_of(model), guide_of(model, covariance=lfm.Full())
    first = fitted(model, guides[0])
    second = fitted(first.model, guides[1], seed=1)
    rows = model.factors["z"].pseudo_inputs["x"]
    for fit, guide in zip((first, second), guides, strict=True):
        assert torch.allclose(fit.model.factors["z"]().log_prob(z), average(guide, rows, z), atol=1e-5)
        # The model is trained in place: all fits share its parameters.
        assert all(a is b for a, b in zip(fit.model.parameters(), model.parameters(), strict=True))
    assert second.model is model and not same(numbers(first.model), numbers(second.model))
    third = fitted(first.model, guide_of(model), seed=2)  # a view is fitted as the model is
    assert torch.allclose(third.model.factors["z"]().log_prob(z), average(third.guide, rows, z), atol=1e-5)
    assert torch.allclose(second.model.factors["z"]().log_prob(z), average(guides[1], rows, z), atol=1e-5)


@pytest.mark.parametrize("engine", ["eager", pytest.param("compiled", marks=pytest.mark.slow), "pyro"])
def test_in_a_fit_the_prior_is_that_of_the_guide_at_hand(engine):
    """A guide that was declared or fitted before has no effect. Callbacks see the guide of the present fit too."""
    results = []
    for others in (False, True):
        torch.manual_seed(0)
        model = declared()
        guide = guide_of(model)
        if others:
            model.bind(guide_of(model, covariance=lfm.Full()))
        seen = []
        svi = lfm.SVI(guide, epochs=3, batch_size=20, engine=engine)
        watch = [lambda record, fit, seen=seen: seen.append(fit.model.sample(4, seed=0)["z"]) and None]
        fit = lfm.fit(model, ROWS, svi, validation=ROWS[:5], seed=0, callbacks=watch, progress=False)
        assert torch.equal(seen[-1], fit.model.sample(4, seed=0)["z"])
        results.append([record["validation_bound"] for record in fit.history])
    assert results[0] == results[1]
    pyro.clear_param_store()


@pytest.mark.parametrize(
    "objective",
    [Trace_ELBO(), TraceMeanField_ELBO(), RenyiELBO(alpha=0.5, num_particles=3), lfm.ELBO(kl="monte-carlo")],
    ids=lambda objective: type(objective).__name__,
)
def test_plain_pyro_makes_the_prior_of_the_guide_that_it_runs(objective):
    torch.manual_seed(0)
    model = declared()
    guide, other = guide_of(model), guide_of(model)
    for bound in (None, other):
        if bound is not None:
            model.bind(bound)
        before = model.factors["z"].pseudo_inputs["x"].detach().clone()
        svi = pyro.infer.SVI(model, guide, pyro.optim.Adam({"lr": 0.01}), objective)
        losses = [svi.step(lfm.Batch(ROWS)) for _ in range(2)]
        assert torch.tensor(losses).isfinite().all()
        assert not torch.equal(before, model.factors["z"].pseudo_inputs["x"])
        assert all(p.grad is None for p in other.parameters())
    pyro.clear_param_store()


def test_plain_pyros_bound_is_that_of_the_guide_that_it_runs():
    """log p(x, z) − log q(z) at the same draws, by the library's objective and by Pyro's: equal to rounding."""
    model = declared()
    guide, other = guide_of(model), guide_of(model)
    model.bind(other)
    batch = lfm.Batch(ROWS)
    results = []
    for objective in (Trace_ELBO(), lfm.ELBO(kl="monte-carlo")):
        torch.manual_seed(3)
        results.append(objective.loss(model, guide, batch))
    assert abs(results[0] - results[1]) < 1e-3 * abs(results[0])
    torch.manual_seed(3)
    assert abs(Trace_ELBO().loss(model, other, batch) - results[0]) > 1e-3 * abs(results[0])
    pyro.clear_param_store()


def test_a_model_looked_at_from_many_threads_keeps_its_guide():
    model = declared()
    fit = fitted(model, guide_of(model))
    other, before, wrong = guide_of(model), numbers(fit.model), []

    def evaluate():
        for _ in range(3):
            lfm.evaluate.log_likelihood((model, other), ROWS[:3], draws=5)

    def look():
        for _ in range(5):
            if not same(before, numbers(fit.model)):
                wrong.append(True)

    threads = [threading.Thread(target=work) for work in (evaluate, look, evaluate, look)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_steps_for_each_row_leave_the_prior_that_of_the_proposal():
    """p(z) must not follow the refined q of a row: the bound would be on another log p(x)."""
    torch.manual_seed(0)
    model = declared()
    guide = guide_of(model)
    refined = lfm.fit(model, ROWS, lfm.SVI(lfm.Refined(guide, steps=5), steps=1), seed=0, progress=False)
    assert refined.posterior(ROWS[:3]).mean.shape == (3, 2)
    assert same(numbers(refined.model), numbers(model.bound_to(guide)))


def layers():
    model = lfm.Model(
        top=lfm.StandardNormal(2),
        z=lfm.Gaussian(2, network=lfm.MLP(6), given="top"),
        x=lfm.Gaussian(4, mean=lfm.MLP(6), given="z"),
    )
    message = lfm.GaussianMessage(network=lfm.MLP(6), given="x")
    return model, lfm.Guide(model, top=lfm.Gaussian(network=lfm.MLP(6)), z=message)


def test_a_message_multiplies_the_prior_of_the_model_that_it_runs_with_and_of_no_other():
    model, guide = layers()
    twin = copy.deepcopy(model)
    with torch.no_grad():
        for parameter in twin.factors["z"].parameters():
            parameter.add_(1.0)

    def moments(of):
        with torch.no_grad():
            torch.manual_seed(0)
            return poutine.trace(of).get_trace(lfm.Batch(ROWS)).nodes["z"]["fn"].mean

    before, held = moments(guide), [id(p) for p in guide.parameters()]
    lfm.describe(twin, guide)
    lfm.ELBO().bound(twin, guide, ROWS)
    lfm.ImportanceWeightedELBO(2, gradient="doubly-reparametrized").bound(twin, guide, ROWS)
    lfm.evaluate.log_likelihood((twin, guide), ROWS[:3], draws=5)
    assert torch.equal(before, moments(guide)) and held == [id(p) for p in guide.parameters()]
    assert guide.factors["z"].prior.factors["z"] is model.factors["z"]
    fit = lfm.fit(twin, ROWS, lfm.SVI(guide, steps=2), seed=0, progress=False)
    assert fit.guide.factors["z"].prior.factors["z"] is twin.factors["z"]
    assert guide.factors["z"].prior.factors["z"] is model.factors["z"]
    pyro.clear_param_store()


def test_a_message_guide_in_another_type_leaves_the_model_its_own():
    model, _ = layers()
    kinds = {n: (p.dtype, p.data_ptr()) for n, p in model.named_parameters()}
    message = lfm.GaussianMessage(mean=lfm.Learned(torch.zeros(2).double()))
    lfm.Guide(model, top=lfm.Gaussian(), z=message)
    assert kinds == {n: (p.dtype, p.data_ptr()) for n, p in model.named_parameters()}


def test_pseudo_inputs_are_of_what_the_model_observes():
    x = lfm.Gaussian(3, mean=lfm.MLP(6))
    y = lfm.Categorical(3, logits=lfm.MLP(6))
    model = lfm.Model(z=lfm.VampPrior(2, components=4), x=x, y=y)
    rows = model.factors["z"].pseudo_inputs
    assert rows["x"].shape == (4, 3) and rows["x"].requires_grad
    assert rows["y"].shape == (4,) and not rows["y"].requires_grad
    assert sorted(rows["y"].unique().tolist()) == sorted({*rows["y"].tolist()} & {0.0, 1.0, 2.0})
    some = lfm.Model(z=lfm.VampPrior(2, pseudo_inputs={"x": torch.zeros(4, 3)}), x=x, y=y)
    assert list(some.factors["z"].pseudo_inputs) == ["x"]
    data = {"x": torch.randn(20, 3), "y": torch.randint(3, (20,)).float()}
    guide = lfm.Guide(some, z=lfm.Gaussian(network=lfm.MLP(6), given="x"))
    lfm.fit(some, data, lfm.SVI(guide, steps=2), seed=0, progress=False)
    with pytest.raises(lfm.DeclarationError, match="must have rows of y, which the guide reads"):
        lfm.Guide(some, z=lfm.Gaussian(network=lfm.MLP(6)))
    with pytest.raises(
        lfm.DeclarationError, match=r"the model observes x, y: give pseudo_inputs as \{name: rows\}"
    ):
        lfm.Model(z=lfm.VampPrior(2, pseudo_inputs=torch.zeros(4, 3)), x=x, y=y)


def test_a_guide_with_a_joint_distribution_of_what_rows_share_can_be_declared_before_any_is_bound():
    linear = lfm.Linear(prior=lfm.parameter_priors.ARD(9.0, 9.0))
    noise = lfm.Isotropic(prior=lfm.parameter_priors.Gamma(9.0, 9.0))
    model = lfm.Model(z=lfm.VampPrior(2, components=4), x=lfm.Gaussian(4, mean=linear, covariance=noise))
    shared = pyro.infer.autoguide.AutoNormal
    guide = lfm.Guide(model, shared=shared, z=lfm.Gaussian(network=lfm.MLP(6)))
    fit = lfm.fit(model, ROWS, lfm.SVI(guide, steps=2), seed=0, progress=False)
    assert fit.model.sample(3, seed=0)["x"].shape == (3, 4)

"""One contract over all cases: every part works with every other."""

import copy
import io

import cases
import pyro
import pytest
import torch
from pyro import poutine

import pyro_lfm as lfm


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def gradients(model, guide, batch, objective):
    bound = objective.at(0.5).bound(model, guide, batch)
    assert bound.per_row.shape == (batch.size,)
    assert bound.per_row.isfinite().all()
    named = [(n, p) for part in (model, guide) for n, p in part.named_parameters() if p.requires_grad]
    gradient_values = torch.autograd.grad(bound.objective, [p for _, p in named], allow_unused=True)
    return {name: gradient for (name, _), gradient in zip(named, gradient_values, strict=True)}


@pytest.mark.parametrize(("prior", "likelihood", "guide_name"), cases.triples())
def test_every_prior_likelihood_and_guide_go_together(prior, likelihood, guide_name):
    model = cases.one_latent(prior, likelihood)
    if cases.refuses(prior, guide_name):
        with pytest.raises(
            lfm.DeclarationError, match="computes the distribution of its latent from observed rows"
        ):
            cases.guide_for(model, cases.GUIDES[guide_name])
        return
    guide = cases.guide_for(model, cases.GUIDES[guide_name])
    data = cases.rows_of(model)
    batch = lfm.Batch(data, total=100)
    assert data["x"].shape == (cases.N, *model.observed["x"].shape)
    for name, gradient in gradients(model, guide, batch, lfm.ELBO()).items():
        assert gradient is not None, f"no gradient reaches {name}"
        assert gradient.isfinite().all(), name
    gradients(model, guide, batch, lfm.ELBO(particles=3))


@pytest.mark.parametrize("guide_name", cases.GUIDES)
@pytest.mark.parametrize("prior", cases.PRIORS)
def test_every_prior_stands_on_top_of_two_layers(prior, guide_name):
    def declared():
        model = lfm.Model(
            top=cases.PRIORS[prior](),
            z=lfm.Gaussian(2, network=lfm.MLP(6), given="top"),
            x=lfm.Gaussian(cases.D, mean=lfm.MLP(6), given="z"),
        )
        return model, cases.guide_for(model, cases.GUIDES[guide_name])

    if cases.refuses(prior, guide_name):
        with pytest.raises(
            lfm.DeclarationError, match="computes the distribution of its latent from observed rows"
        ):
            declared()
        return
    model, guide = declared()
    batch = lfm.Batch(cases.rows_of(model), total=cases.N)
    for name, gradient in gradients(model, guide, batch, lfm.ELBO()).items():
        assert gradient is not None, f"no gradient reaches {name}"
        assert gradient.isfinite().all(), name
    loaded = declared()
    for old, new in zip((model, guide), loaded, strict=True):
        new.load_state_dict(old.state_dict())
    bounds = []
    for pair in ((model, guide), loaded):
        torch.manual_seed(3)
        bounds.append(lfm.ELBO().bound(*pair, batch).per_row)
    assert torch.equal(*bounds)


@pytest.mark.parametrize("guide_name", cases.GUIDES)
@pytest.mark.parametrize("model_name", cases.MODELS)
def test_every_structure_fits_with_every_guide(model_name, guide_name):
    model = cases.MODELS[model_name]()
    guide = cases.guide_for(model, cases.GUIDES[guide_name])
    data = cases.rows_of(model)
    fit = lfm.fit(model, data, lfm.SVI(guide, epochs=2, batch_size=5), seed=0, progress=False)
    assert [record["epoch"] for record in fit.history] == [1, 2]
    assert fit.history[-1]["step"] == 6
    distributions = fit.posterior()
    distributions = (
        distributions if isinstance(distributions, dict) else {next(iter(model.latents)): distributions}
    )
    for name, variable in model.latents.items():
        rows = (cases.N,) if variable.per_row else ()
        assert distributions[name].batch_shape == rows and distributions[name].event_shape == variable.shape
        assert distributions[name].mean.shape == (*rows, *variable.shape)
        draw = distributions[name].sample()
        assert variable.support.check(draw).all()
        assert distributions[name].log_prob(draw).isfinite().all()
    lfm.testing.check_guide(guide, model)
    assert "q(" in lfm.describe(model, guide)


@pytest.mark.parametrize("objective", cases.OBJECTIVES)
@pytest.mark.parametrize("model_name", cases.MODELS)
def test_every_objective_serves_every_structure(model_name, objective):
    model = cases.MODELS[model_name]()
    if objective == "pyro-mean-field" and not cases.is_continuous(model):
        pytest.skip("Pyro's mean-field objective takes no discrete latents")
    guide = cases.guide_for(model, cases.GUIDES["gaussian-full"])
    svi = lfm.SVI(guide, objective=cases.OBJECTIVES[objective](), steps=3, batch_size=6)
    if message := cases.REFUSALS.get(objective, {}).get(model_name):
        with pytest.raises(lfm.DeclarationError, match=message):
            lfm.fit(model, cases.rows_of(model), svi, seed=0, progress=False)
        return
    fit = lfm.fit(model, cases.rows_of(model), svi, seed=0, progress=False)
    assert torch.tensor([record["bound"] for record in fit.history]).isfinite().all()


@pytest.mark.parametrize("network", cases.NETWORKS)
def test_every_network_serves_prior_likelihood_and_guide(network):
    source = cases.NETWORKS[network]
    model = lfm.Model(
        top=lfm.StandardNormal(2),
        z=lfm.Gaussian(cases.K, network=source(), given="top"),
        x=lfm.Gaussian(cases.D, mean=source(), covariance=lfm.Diagonal(source()), given="z"),
    )
    guide = cases.guide_for(model, lambda: lfm.Gaussian(network=source()))
    by_name = gradients(model, guide, lfm.Batch(cases.rows_of(model)), lfm.ELBO())
    assert all(gradient is not None for gradient in by_name.values())


@pytest.mark.parametrize("prior", cases.PRIORS)
def test_priors_keep_their_contract(prior):
    part = cases.PRIORS[prior]()
    check = lfm.testing.check_prior if isinstance(part, lfm.Prior) else lfm.testing.check_factor
    check(part)


@pytest.mark.parametrize("likelihood", cases.LIKELIHOODS)
def test_likelihoods_keep_their_contract(likelihood):
    lfm.testing.check_factor(cases.LIKELIHOODS[likelihood](), {"z": cases.K})


@pytest.mark.parametrize("model_name", cases.MODELS)
def test_a_copy_and_a_loaded_instance_give_the_same_bound_and_share_nothing(model_name):
    model = cases.MODELS[model_name]()
    guide = cases.guide_for(model, cases.GUIDES["gaussian-full"])
    batch = lfm.Batch(cases.rows_of(model))

    def bound(*pair):
        torch.manual_seed(3)
        return lfm.ELBO().bound(*pair, batch).per_row.detach()

    saved = io.BytesIO()
    torch.save({"model": model.state_dict(), "guide": guide.state_dict()}, saved)
    saved.seek(0)
    loaded = torch.load(saved, weights_only=True)
    twins = cases.MODELS[model_name](), cases.guide_for(model, cases.GUIDES["gaussian-full"])
    twins[0].load_state_dict(loaded["model"])
    twins[1].load_state_dict(loaded["guide"])
    expected = bound(model, guide)
    copies = copy.deepcopy(model), copy.deepcopy(guide)
    assert torch.equal(bound(*copies), expected)
    assert torch.equal(bound(*twins), expected)
    with torch.no_grad():
        for parameter in (*model.parameters(), *guide.parameters()):
            parameter.add_(0.1)
    assert torch.equal(bound(*copies), expected)
    assert not torch.equal(bound(model, guide), expected)


@pytest.mark.parametrize("likelihood", cases.LIKELIHOODS)
def test_likelihoods_come_back_from_their_state(likelihood):
    def declared():
        model = cases.one_latent(likelihood=likelihood)
        return model, cases.guide_for(model, cases.GUIDES["gaussian-full"])

    saved, loaded = declared(), declared()
    batch = lfm.Batch(cases.rows_of(saved[0]))
    for old, new in zip(saved, loaded, strict=True):
        new.load_state_dict(old.state_dict())
    bounds = []
    for pair in (saved, loaded):
        torch.manual_seed(3)
        bounds.append(lfm.ELBO().bound(*pair, batch).per_row)
    assert torch.equal(*bounds)


@pytest.mark.parametrize("likelihood", cases.LIKELIHOODS)
def test_float64_throughout(likelihood):
    model = cases.one_latent(likelihood=likelihood).double()
    guide = cases.guide_for(model, cases.GUIDES["gaussian-full"])
    drawn = model.sample(4, seed=0)
    assert drawn["z"].dtype == torch.float64
    data = {name: drawn[name].double() for name in model.observed}
    bound = lfm.ELBO().bound(model, guide, lfm.Batch(data))
    assert bound.per_row.dtype == torch.float64


@pytest.mark.parametrize("likelihood", cases.LIKELIHOODS)
def test_missing_entries_do_not_count(likelihood):
    """A row without any entry has reconstruction 0. The value that stands in for a missing entry changes nothing."""
    model = cases.one_latent(likelihood=likelihood)
    guide = cases.guide_for(model, lambda: lfm.Gaussian())  # reads nothing, so only the likelihood sees x
    rows = cases.rows_of(model)
    data = rows["x"].float()
    data[0] = float("nan")
    if data.dim() > 1:
        data[1, ..., 0] = float("nan")
    if likelihood == "dirichlet":  # its distribution cannot be divided into entries
        data[1] = float("nan")
    torch.manual_seed(1)
    batch = lfm.Batch({**rows, "x": data})
    first = lfm.ELBO().bound(model, guide, batch)
    assert first.reconstruction[0].abs() < 1e-5
    assert first.reconstruction.isfinite().all()
    assert (first.reconstruction[2:].abs() > 1e-4).all()
    by_name = gradients(model, guide, batch, lfm.ELBO())
    assert all(gradient.isfinite().all() for gradient in by_name.values() if gradient is not None)


@pytest.mark.parametrize("model_name", cases.MODELS)
def test_programs_run_under_plain_pyro(model_name):
    pyro.clear_param_store()
    model = cases.MODELS[model_name]()
    guide = cases.guide_for(model, cases.GUIDES["gaussian-full"])
    batch = lfm.Batch(cases.rows_of(model))
    parameters = [*model.parameters(), *guide.parameters()]
    # Each objective has an optimizer of its own, and their first steps may cancel. At least one has to move a parameter.
    moved = [False] * len(parameters)
    objectives = [
        pyro.infer.Trace_ELBO(),
        pyro.infer.Trace_ELBO(num_particles=8, vectorize_particles=True, max_plate_nesting=1),
        pyro.infer.RenyiELBO(alpha=0.5, num_particles=2),
        lfm.ELBO(),
    ]
    if cases.is_continuous(model):
        objectives.append(pyro.infer.TraceMeanField_ELBO())
    for objective in objectives:
        svi = pyro.infer.SVI(model, guide, pyro.optim.Adam({"lr": 0.01}), objective)
        before = [parameter.detach().clone() for parameter in parameters]
        assert torch.tensor(svi.step(batch)).isfinite()
        moved = [m or not torch.equal(p, b) for m, p, b in zip(moved, parameters, before, strict=True)]
    assert all(moved)
    drawn = pyro.infer.Predictive(model, guide=guide, num_samples=3, return_sites=list(model.latents))(batch)
    for name, latent in model.latents.items():
        # Predictive leaves a dimension of size 1 where a latent stands outside the plate.
        rows = cases.N if latent.per_row else 1
        assert drawn[name].reshape(3, rows, *latent.shape).isfinite().all()
    trace = poutine.trace(model).get_trace(batch)
    trace.compute_log_prob()
    assert torch.as_tensor(trace.log_prob_sum()).isfinite()
    pyro.clear_param_store()


def test_declarations_print_as_what_they_are():
    for part in (*cases.PRIORS.values(), *cases.LIKELIHOODS.values(), *cases.GUIDES.values()):
        declared = part()
        assert type(declared).__name__ in repr(declared)
        assert type(declared).__name__ in declared.describe()


@pytest.mark.parametrize("name", cases.CLOSED_FORMS)
def test_every_closed_form_is_served_by_em_and_its_posterior_is_a_guide(name):
    model = cases.CLOSED_FORMS[name]().double()
    rows = model.sample(40, seed=0)["x"].clone()
    rows[::3].flatten(1)[:, :2] = torch.nan
    guide = lfm.ExactPosterior(model)
    assert not list(guide.parameters())
    lfm.testing.check_guide(guide, model)
    for start in ("model", "data"):
        fit = lfm.fit(model, rows, lfm.EM(start=start, iterations=5), seed=0, progress=False)
        assert fit.history[-1]["bound"] >= fit.history[0]["bound"] - 1e-9
        exact = fit.log_likelihood()
        assert exact.mean().item() == pytest.approx(fit.history[-1]["log_likelihood"], abs=1e-5)
        for objective in (lfm.ELBO(kl="monte-carlo"), lfm.ELBO(kl="monte-carlo", particles=3)):
            bound = objective.bound(fit.model, fit.guide, lfm.Batch(rows)).per_row
            torch.testing.assert_close(bound, exact, rtol=0, atol=1e-7)
    # SVI with the exact posterior held, as in an E step, stays at the maximum.
    svi = lfm.SVI(guide, steps=2, batch_size=40, learning_rate=1e-6)
    after = lfm.fit(model, rows, svi, seed=0, progress=False).log_likelihood()
    torch.testing.assert_close(after, exact, rtol=0, atol=1e-2)
    twin, copied = copy.deepcopy((model, guide))
    assert copied.model is twin


@pytest.mark.parametrize("name", cases.PARAMETER_PRIORS)
def test_parameters_with_every_prior_are_latents_that_all_rows_share(name):
    model = cases.with_parameter_prior(name)
    guide = cases.guide_for(model, cases.GUIDES["gaussian-full"])
    assert not [n for n, latent in model.latents.items() if latent.per_row] == list(model.latents)
    for parameter, gradient in gradients(model, guide, lfm.Batch(cases.rows_of(model)), lfm.ELBO()).items():
        assert gradient is not None, f"no gradient reaches {parameter}"
        assert gradient.isfinite().all(), parameter
    assert torch.equal(model.sample(5, seed=1)["x"], model.sample(5, seed=1)["x"])


@pytest.mark.parametrize("flow", cases.FLOWS)
def test_every_flow_keeps_the_contract_of_factors(flow):
    if flow == "zuko":
        pytest.importorskip("zuko")
    lfm.testing.check_factor(lfm.Flow(cases.D, cases.FLOWS[flow](), network=lfm.MLP(6)), {"z": cases.K})


@pytest.mark.parametrize("form", cases.CLOSED_FORMS)
@pytest.mark.parametrize("name", cases.EXACT_GUIDES)
def test_a_guide_computed_from_the_model_has_no_parameters_and_says_what_it_serves(name, form):
    exact_guide, served = cases.EXACT_GUIDES[name]
    model = cases.CLOSED_FORMS[form]()
    if form not in served:
        with pytest.raises(lfm.DeclarationError, match=f"lfm.{exact_guide.__name__} cannot serve this model"):
            exact_guide(model)
        return
    guide = exact_guide(model)
    assert not list(guide.parameters())
    lfm.testing.check_guide(guide, model)


@pytest.mark.parametrize("name", cases.SCHEDULES)
def test_schedules_go_from_start_to_end(name):
    schedule = cases.SCHEDULES[name]()
    values = [schedule(step / 100) for step in range(101)]
    assert values[0] == 0.5 and values[-1] == 2.0
    assert all(0.5 <= value <= 2.0 for value in values)


@pytest.mark.parametrize("name", cases.DATA_SETS)
def test_data_sets_are_rows_of_pixels_between_0_and_1_and_repeat(name):
    rows = cases.DATA_SETS[name]()
    assert rows.dtype == torch.float32 and rows.dim() == 2
    assert rows.min() >= 0 and rows.max() <= 1
    torch.manual_seed(1)  # the random state of the process plays no part
    assert torch.equal(rows, cases.DATA_SETS[name]())


@pytest.mark.parametrize("likelihood", cases.LIKELIHOODS)
def test_rows_that_a_model_draws_pass_the_boundary_that_all_data_pass(likelihood):
    model = cases.one_latent(likelihood=likelihood)
    rows = cases.rows_of(model)
    table = lfm.data.read(rows, list(rows))
    lfm.data.validate(
        table, {name: (model.observed[name].shape, model.observed[name].support) for name in rows}
    )
    assert len(table) == cases.N

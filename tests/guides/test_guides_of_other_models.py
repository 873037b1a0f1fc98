"""A guide used with another model than that of its declaration: it must have the same variables."""

import copy
import pickle
import warnings

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.infer import Trace_ELBO, TraceEnum_ELBO, config_enumerate

import pyro_lfm as lfm

ROWS = torch.randn(40, 4, generator=torch.Generator().manual_seed(0))
OPTIONS = {"seed": 0, "progress": False}


def plain(z=None, name="z", observed="x", size=4):
    z = lfm.StandardNormal(2) if z is None else z
    return lfm.Model(**{name: z, observed: lfm.Gaussian(size, mean=lfm.MLP(5))})


def guide_of(model, **options):
    (name,) = model.latents
    return lfm.Guide(model, **{name: lfm.Gaussian(network=lfm.MLP(5), **options)})


OTHERS = {
    "another name": (lambda: plain(name="w"), "the guide serves w; the model's latents are z"),
    "another size": (lambda: plain(lfm.StandardNormal(3)), r"infers z of event \(3,\); the model's has event \(2,\)"),
    "narrower": (lambda: plain(lfm.Beta(2)), r"infers z with values in Interval\(.*in the model they are in Real"),
    "half line": (lambda: plain(lfm.Gamma(2)), r"infers z with values in .*in the model they are in Real"),
    "other columns": (lambda: plain(size=5), r"reads x of event \(5,\); the model's has event \(4,\)"),
    "another observed": (lambda: plain(observed="y"), "the guide reads y; the model observes x"),
}  # fmt: skip


@pytest.mark.parametrize("kind", OTHERS)
def test_a_guide_of_other_variables_is_refused_before_anything_is_drawn_or_said(kind):
    declare, words = OTHERS[kind]
    guide, model = guide_of(declare()), plain()
    before = copy.deepcopy((model.state_dict(), guide.state_dict()))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for use in (
            lambda: lfm.fit(model, ROWS, lfm.SVI(guide, epochs=1), **OPTIONS),
            lambda: lfm.fit(model, ROWS, lfm.SVI(lfm.Refined(guide, steps=1), epochs=1), **OPTIONS),
            lambda: lfm.ELBO().bound(model, guide, ROWS),
            lambda: lfm.ImportanceWeightedELBO(3).bound(model, guide, ROWS),
            lambda: lfm.evaluate.log_likelihood((model, guide), ROWS, draws=5),
        ):
            with pytest.raises((lfm.DeclarationError, lfm.ShapeError), match=words):
                use()
    for part, state in zip((model, guide), before, strict=True):
        assert all(torch.equal(value, state[name]) for name, value in part.state_dict().items())


def test_labels_of_other_categories_are_refused():
    def mixture(classes):
        model = lfm.Model(c=lfm.Categorical(classes), x=lfm.Gaussian(4, mean=lfm.Lookup(), given="c"))
        return model, lfm.Guide(model, c=lfm.Categorical(logits=lfm.MLP(5)))

    with pytest.raises(lfm.DeclarationError, match="the guide infers c with values in"):
        lfm.ELBO().bound(mixture(3)[0], mixture(2)[1], ROWS)


def test_a_guide_serves_what_has_its_variables():
    guide = guide_of(plain())
    others = [copy.deepcopy(plain()), plain(lfm.MixtureOfGaussians(2, 3)), plain().double().float()]
    for model in (*others, plain(lfm.VampPrior(2, components=3))):
        assert lfm.ELBO().bound(model, guide, ROWS).per_row.isfinite().all()
        fit = lfm.fit(model, ROWS, lfm.SVI(guide, epochs=1), **OPTIONS)
        assert fit.posterior(ROWS).mean.shape == (40, 2)


def linear():
    return lfm.Model(
        z=lfm.StandardNormal(2), x=lfm.Gaussian(4, mean=lfm.Linear(), covariance=lfm.Isotropic())
    ).double()


@pytest.mark.parametrize("kind", [lfm.ExactPosterior, lfm.FactorisedPosterior])
def test_a_closed_form_is_that_of_the_model_of_the_run(kind):
    torch.manual_seed(0)
    first, other = linear(), linear()
    guide = kind(first)
    batch = lfm.Batch(ROWS.double())
    torch.manual_seed(1)
    wanted = lfm.ELBO().bound(other, kind(other), batch).per_row
    torch.manual_seed(1)
    assert torch.equal(wanted, lfm.ELBO().bound(other, guide, batch).per_row)
    fit = lfm.fit(other, ROWS, lfm.SVI(guide, epochs=2), **OPTIONS)
    assert fit.guide.model is other and guide.model is first
    if kind is lfm.ExactPosterior:
        estimate = lfm.evaluate.log_likelihood((other, guide), ROWS, draws=5, method="importance")
        exact = fit.log_likelihood()
        assert torch.allclose(estimate.per_row.double(), exact.double(), atol=1e-6)
    with pytest.raises(lfm.DeclarationError, match="ExactPosterior|FactorisedPosterior"):
        lfm.ELBO().bound(plain(), guide, ROWS)


class Scaled(lfm.PyroModel):
    """Rows of z count as a mask and a scale say, both of which are state."""

    def __init__(self, scale=1.0, every=2, scaled=True):
        super().__init__()
        self.scaled = scaled
        self.register_buffer("scale", torch.tensor(scale))
        self.every = every
        self.loading = torch.nn.Parameter(torch.ones(2, 4))

    def forward(self, batch):
        distribution = dist.Normal(torch.zeros(batch.size, 2), 1.0).to_event(1)
        with batch.plate():
            mask = True if self.every == 1 else batch.index % self.every == 0
            with poutine.mask(mask=mask), poutine.scale(scale=self.scale if self.scaled else 1.0):
                z = pyro.sample("z", distribution)
            pyro.sample("x", dist.Normal(z @ self.loading, 1.0).to_event(1), obs=batch["x"])


class Plain(Scaled):
    """The same variables, of which every row counts once."""

    def forward(self, batch):
        with batch.plate():
            z = pyro.sample("z", dist.Normal(torch.zeros(batch.size, 2), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(z @ self.loading, 1.0).to_event(1), obs=batch["x"])


MODELS = {
    "the declared one": lambda: Scaled(),
    "another scale": lambda: Scaled(0.25),
    "other rows": lambda: Scaled(every=5),
    "none masked": lambda: Plain(),
}


@pytest.mark.parametrize("declared", ["the declared one", "none masked"])
@pytest.mark.parametrize("run", MODELS)
def test_rows_of_q_count_as_in_the_model_of_the_run(run, declared):
    """Pyro's own engine, which believes what the guide's statement says, against the library's."""
    histories = []
    for engine in ("eager", "pyro"):
        torch.manual_seed(0)
        guide, model = guide_of(MODELS[declared]()), MODELS[run]()
        svi = lfm.SVI(guide, objective=lfm.ELBO(kl="monte-carlo"), epochs=3, engine=engine, batch_size=10)

        def lower(record, fit, model=model):
            model.scale.mul_(0.5)

        fit = lfm.fit(model, ROWS, svi, callbacks=[lower], **OPTIONS)
        histories.append([record["bound"] for record in fit.history])
    assert torch.allclose(torch.tensor(histories[0]), torch.tensor(histories[1]), atol=1e-4)
    pyro.clear_param_store()


def test_a_guide_of_a_masked_program_is_copied_and_written_with_its_model():
    model = Scaled(scaled=False)
    guide = guide_of(model)
    for twins in (copy.deepcopy((model, guide)), pickle.loads(pickle.dumps((model, guide)))):
        assert twins[1]._counted.model is twins[0]
    alone = pickle.loads(pickle.dumps(guide))
    assert (
        alone.bound_to(model)._counted.model is model
        and alone.bound_to(model).bound_to(model)._counted.model is model
    )
    assert not {id(p) for p in model.parameters()} & {id(p) for p in guide.parameters()}
    fit = lfm.fit(model, ROWS, lfm.SVI(guide, epochs=1), **OPTIONS)
    for twin in (copy.deepcopy(fit), pickle.loads(pickle.dumps(fit))):
        assert twin.guide._counted.model is twin.model
    comparison = lfm.compare(
        model, ROWS, {"a": guide, "b": lfm.Gaussian()}, epochs=1, draws=2, progress=False
    )
    assert all(each.guide._counted.model is each.model is not model for each in comparison.fits.values())
    assert torch.equal(guide.bound_to(Plain())(ROWS)["z"].isfinite(), torch.ones(40, 2).bool())


def test_a_fit_that_fails_at_once_leaves_the_units_of_a_trained_model_as_they_were():
    model = plain()
    guide = guide_of(model)
    lfm.fit(model, ROWS, lfm.SVI(guide, epochs=2), **OPTIONS)
    before = copy.deepcopy(model.state_dict())
    rows = ROWS.clone()
    rows[0] = 1e38
    with pytest.raises(lfm.TrainingError):
        lfm.fit(model, rows, lfm.SVI(guide, epochs=2), **OPTIONS)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_what_a_guide_lends_to_priors_disturbs_no_handler_of_pyros():
    model = lfm.Model(
        c=lfm.Categorical(3), z=lfm.StandardNormal(2), x=lfm.Gaussian(4, mean=lfm.Lookup(lfm.Linear()), given=("c", "z"))
    )  # fmt: skip
    guide = lfm.Guide(
        model, c=lfm.Categorical(logits=lfm.MLP(5)), z=lfm.Gaussian(mean=lfm.MLP(5), given=("x", "c"))
    )
    batch = lfm.Batch(ROWS)
    trace = poutine.trace(guide).get_trace(batch)
    assert (
        set(trace.nodes["c"]["infer"]) == {"sum_out", "encoder"}
        and "encoder" not in trace.nodes["z"]["infer"]
    )
    assert len(repr(trace.nodes["c"]["infer"])) < 100
    torch.manual_seed(0)
    with torch.no_grad():
        wanted = -40 * lfm.ELBO(400).bound(model, guide, batch).per_row.mean()
        options = {"num_particles": 400, "vectorize_particles": True, "max_plate_nesting": 1}
        summed = TraceEnum_ELBO(**options).loss(model, config_enumerate(guide), batch)
        drawn = Trace_ELBO(**options).loss(model, guide, batch)
    # Standard errors of 400 draws of 40 rows' totals: well below 1% of some 400 nats.
    assert abs(summed - wanted) < 0.02 * wanted and abs(drawn - wanted) < 0.02 * wanted
    pyro.clear_param_store()


@pytest.mark.parametrize(
    "kind", [pyro.infer.autoguide.AutoNormal, pyro.infer.autoguide.AutoMultivariateNormal]
)
def test_a_joint_guide_starts_at_the_points_of_its_model_and_repeats_by_the_seed(kind):
    """Under vague priors, of which draws are scales of 0 and weights of 1e18."""
    bounds = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        model = lfm.Model(
            z=lfm.StandardNormal(2),
            x=lfm.Gaussian(
                4,
                mean=lfm.Linear(prior=lfm.parameter_priors.ARD()),
                covariance=lfm.Isotropic(prior=lfm.parameter_priors.Gamma()),
            ),
        )
        guide = lfm.Guide(model, shared=kind, z=lfm.Gaussian(network=lfm.MLP(5)))
        fit = lfm.fit(model, ROWS, lfm.SVI(guide, steps=2), **OPTIONS)
        bounds.append(fit.history[-1]["bound"])
    assert bounds[0] == bounds[1] > -20

"""Hand-written programs: PyroModules, PyroParam, PyroSample, pyro.param and pyro.module, with every engine."""

import math

import cases
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.nn import PyroModule, PyroParam, PyroSample
from torch import nn
from torch.distributions import constraints

import pyro_lfm as lfm

ENGINES = ["eager", "pyro"]


class Wrapped(PyroModule):
    """A PyroModule as a whole program, with a constrained parameter."""

    def __init__(self):
        super().__init__()
        self.net = nn.Linear(2, cases.D)
        self.scale = PyroParam(torch.ones(()), constraint=constraints.positive)

    def forward(self, batch):
        with batch.plate():
            z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(self.net(z), self.scale).to_event(1), obs=batch["x"])


class WrappedGuide(PyroModule):
    def __init__(self):
        super().__init__()
        self.net = PyroModule[nn.Linear](cases.D, 2)
        self.scale = PyroParam(torch.ones(()), constraint=constraints.positive)

    def forward(self, batch):
        with batch.plate():
            pyro.sample("z", dist.Normal(self.net(batch["x"]), self.scale).to_event(1))


class Children(lfm.PyroModel):
    """PyroModules as children of a program."""

    def __init__(self):
        super().__init__()
        self.first, self.second = PyroModule[nn.Linear](2, 3), PyroModule[nn.Linear](3, cases.D)

    def forward(self, batch):
        with batch.plate():
            z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(self.second(self.first(z).tanh()), 1.0).to_event(1), obs=batch["x"])


class Bayesian(lfm.PyroModel):
    """Weights with a prior of their own: latents outside the plate, named after their place."""

    def __init__(self):
        super().__init__()
        self.net = PyroModule[nn.Linear](2, cases.D)
        self.net.weight = PyroSample(dist.Normal(0.0, 1.0).expand([cases.D, 2]).to_event(2))

    def forward(self, batch):
        weight, bias = self.net.weight, self.net.bias
        with batch.plate():
            z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
            mean = (z.unsqueeze(-2) @ weight.mT).squeeze(-2) + bias
            pyro.sample("x", dist.Normal(mean, 1.0).to_event(1), obs=batch["x"])


def fit(model, guide, engine, data=None, **options):
    torch.manual_seed(0)
    data = 3 + torch.randn(40, cases.D) if data is None else data
    options = {"epochs": 30, "learning_rate": 0.05, **options}
    return lfm.fit(model, data, lfm.SVI(guide, engine=engine, **options), seed=0, progress=False)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("make", [Wrapped, Children])
def test_every_parameter_of_a_pyro_module_is_trained(make, engine):
    model = make()
    guide = lfm.Guide(model, z=lfm.Gaussian(covariance=lfm.Full(), network=lfm.MLP(6)))
    before = [p.detach().clone() for p in model.parameters()]
    fitted = fit(model, guide, engine)
    assert fitted.history[-1]["bound"] > fitted.history[0]["bound"] + 5
    assert all(not torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
    assert not list(pyro.get_param_store())
    assert fitted.reconstruct().shape == (40, cases.D)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_pyro_module_as_guide(engine):
    model, guide = Wrapped(), WrappedGuide()
    lfm.testing.check_guide(guide, model)
    before = [p.detach().clone() for p in guide.parameters()]
    fit(model, guide, engine)
    assert all(not torch.equal(a, b) for a, b in zip(before, guide.parameters(), strict=True))


def test_latent_weights_are_named_after_their_place():
    model = Bayesian()
    assert list(model.latents) == ["net.weight", "z"] and not model.latents["net.weight"].per_row
    guide = lfm.Guide(model, **{"net.weight": lfm.Gaussian(), "z": lfm.Gaussian(network=lfm.MLP(4))})
    fitted = fit(model, guide, "eager")
    assert fitted.posterior()["net.weight"].mean.shape == (cases.D, 2)
    assert fitted.history[-1]["bound"] > fitted.history[0]["bound"]


def point(batch):
    with batch.plate():
        loc = pyro.param("loc", torch.zeros(2))
        scale = pyro.param("scale", lambda: torch.ones(2), constraint=constraints.positive)
        pyro.sample("z", dist.Normal(loc, scale).to_event(1))


def shifted(batch):
    shift = pyro.param("shift", torch.zeros(2))
    with batch.plate():
        z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
        pyro.sample("x", dist.Normal(z + shift, 0.5).to_event(1), obs=batch["x"])


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("gradient", ["reparametrized", "sticking-the-landing"])
def test_pyro_param_statements_are_trained_and_kept(engine, gradient):
    data = 3 + torch.randn(40, 2)
    objective = lfm.ELBO(gradient=gradient)
    fitted = fit(shifted, point, engine, data, epochs=150, objective=objective)
    shift = fitted.model.local_params["shift"]
    loc = fitted.posterior().mean[0]
    assert (shift + loc - data.mean(0)).abs().max() < 0.3 and shift.abs().min() > 0.3
    assert fitted.posterior().stddev[0].max() < 0.9
    assert not list(pyro.get_param_store())
    again = fit(shifted, point, engine, data, epochs=1)
    assert again.model.local_params["shift"].abs().max() < shift.abs().max()


def test_pyro_param_statements_under_plain_pyro():
    pyro.clear_param_store()
    model, guide = lfm.PyroModel(shifted), lfm.PyroGuide(point)
    svi = pyro.infer.SVI(model, guide, pyro.optim.Adam({"lr": 0.1}), pyro.infer.Trace_ELBO())
    batch = lfm.Batch(3 + torch.randn(40, 2))
    svi.step(batch)
    assert model.local_params["shift"].abs().min() > 0.05  # trained from the first step on
    pyro.clear_param_store()


def test_a_network_in_a_closure_is_trained_through_pyro_module():
    net = nn.Linear(cases.D, 2)

    def closure(batch):
        pyro.module("net", net)
        with batch.plate():
            pyro.sample("z", dist.Normal(net(batch["x"]), 0.5).to_event(1))

    before = net.weight.detach().clone()
    fit(Wrapped(), closure, "eager", epochs=3)
    assert not torch.equal(before, net.weight)


def test_a_module_in_model_and_guide_is_one_under_every_engine():
    for engine in ENGINES:
        shared = nn.Linear(3, 3)
        model = lfm.Model(z=lfm.StandardNormal(3), x=lfm.Gaussian(3, mean=shared))
        guide = lfm.Guide(model, z=lfm.Gaussian(mean=shared))
        fit(model, guide, engine, torch.randn(20, 3), epochs=2)
        assert not list(pyro.get_param_store())


@pytest.mark.parametrize("objective", [pyro.infer.RenyiELBO(alpha=0.5), pyro.infer.TraceGraph_ELBO()])
def test_objectives_that_only_do_whole_steps_are_served_by_pyro(objective):
    model = cases.plain()
    guide = cases.guide_for(model, cases.GUIDES["gaussian-full"])
    fitted = fit(model, guide, "auto", objective=objective, epochs=2)
    assert torch.tensor(fitted.history[-1]["bound"]).isfinite()
    with pytest.raises(lfm.DeclarationError, match='use engine="pyro"'):
        lfm.SVI(guide, objective=objective, engine="eager")


@pytest.mark.parametrize("engine", ENGINES)
def test_tables_have_their_own_rate_and_schedules_hold_from_the_first_step(engine):
    model = cases.plain()
    data = cases.rows_of(model)["x"]
    for schedule, moved in ((None, 0.5), (lambda fraction: 1e-3, 5e-4)):
        guide = lfm.Guide(model, z=lfm.Gaussian(mean=lfm.PerRow(learning_rate=0.5), covariance=lfm.Full()))
        svi = lfm.SVI(guide, steps=1, learning_rate=0.1, schedule=schedule, engine=engine)
        lfm.fit(model, data, svi, seed=0, progress=False)
        # Adam's first step is as long as its rate.
        assert guide.tables[0].rows.abs().max().item() == pytest.approx(moved, rel=1e-2)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("stop_after", [2, 5])
def test_resuming_with_patience_is_the_same_as_not_stopping(tmp_path, engine, stop_after):
    def run(path, stop):
        torch.manual_seed(0)
        model = cases.plain()
        guide = cases.guide_for(model, cases.GUIDES["gaussian-full"])
        data = cases.rows_of(model, 40)["x"]
        svi = lfm.SVI(guide, epochs=12, batch_size=16, learning_rate=0.1, patience=4, engine=engine)
        stop = [lambda record, fit: record["epoch"] == stop_after] if stop else []
        fitted = lfm.fit(model, data, svi, seed=1, callbacks=stop, checkpoint=path, progress=False)
        return [p.detach().clone() for p in (*model.parameters(), *guide.parameters())], fitted.history

    whole, history = run(tmp_path / "whole", False)
    run(tmp_path / "parts", True)
    resumed, again = run(tmp_path / "parts", False)
    assert [r["bound"] for r in history] == [r["bound"] for r in again]
    assert all(torch.equal(a, b) for a, b in zip(whole, resumed, strict=True))


def test_a_checkpoint_of_another_model_is_refused_before_anything_is_changed(tmp_path):
    for sizes in ((3, 4), (2, 4)):
        torch.manual_seed(0)
        model = lfm.Model(z=lfm.StandardNormal(sizes[0]), x=lfm.Gaussian(sizes[1], mean=lfm.MLP(5)))
        guide = cases.guide_for(model, cases.GUIDES["gaussian-diagonal"])
        before = [p.detach().clone() for p in (*model.parameters(), *guide.parameters())]
        svi = lfm.SVI(guide, epochs=1)
        if sizes[0] == 3:
            lfm.fit(model, torch.randn(9, 4), svi, checkpoint=tmp_path / "state", progress=False)
            continue
        with pytest.raises(lfm.DataError, match="belongs to another model: its factors"):
            lfm.fit(model, torch.randn(9, 4), svi, checkpoint=tmp_path / "state", progress=False)
        after = [*model.parameters(), *guide.parameters()]
        assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))


def test_looking_at_a_fit_during_training_leaves_the_modes_alone():
    model = lfm.Model(z=lfm.StandardNormal(2), x=lfm.Gaussian(cases.D, mean=lfm.MLP(5, dropout=0.2)))
    guide = lfm.Guide(model, z=lfm.Gaussian(network=lfm.MLP(5, dropout=0.2)))
    data, modes = torch.randn(20, cases.D), []

    def look(record, fit):
        fit.posterior(data), fit.reconstruct(data), fit.bound(data)
        modes.append((model.training, guide.training))

    lfm.fit(model, data, lfm.SVI(guide, epochs=3), callbacks=[look], validation=data, progress=False)
    assert modes == [(True, True)] * 3
    assert not model.training and not guide.training


def test_tables_belong_to_their_rows():
    model = lfm.Model(
        z=lfm.StandardNormal(2),
        x=lfm.Gaussian(cases.D, mean=lfm.MLP(5), covariance=lfm.Diagonal(lfm.PerRow())),
    )
    guide = lfm.Guide(model, z=lfm.Gaussian(network=lfm.PerRow()))
    data = torch.randn(10, cases.D)
    lfm.describe(model, guide)
    lfm.testing.check_guide(guide, model)
    assert [len(table.rows) for table in (*model.tables, *guide.tables)] == [0, 0]
    fitted = lfm.fit(model, data, lfm.SVI(guide, epochs=2), progress=False)
    assert fitted.posterior().mean.shape == (10, 2) and fitted.reconstruct().shape == data.shape
    with pytest.raises(lfm.DataError, match="none for other rows"):
        fitted.posterior(data[:3])
    for other in (data[:4], torch.randn(40, cases.D)):
        with pytest.raises(lfm.DataError, match="table holds 10 rows; the data have"):
            lfm.fit(model, other, lfm.SVI(guide, epochs=1), progress=False)


def test_a_distribution_that_refuses_its_parameters_stops_like_a_loss_that_is_not_finite():
    torch.manual_seed(0)
    model = cases.GammaDirichlet()
    guide = lfm.Guide(
        model, r=lfm.Gaussian(network=lfm.MLP(8)), w=lfm.Gaussian(covariance=lfm.Full(), network=lfm.MLP(8))
    )
    data = cases.rows_of(model, 30)
    with pytest.raises(lfm.TrainingError, match="epoch .*rows"):
        svi = lfm.SVI(guide, epochs=50, batch_size=10, learning_rate=1e4)
        lfm.fit(model, data, svi, seed=0, progress=False)
    assert all(p.isfinite().all() for p in (*model.parameters(), *guide.parameters()))


def test_the_validation_bound_does_not_depend_on_the_batch_size():
    """A latent shared by all rows counts once, however many blocks the rows are read in."""
    bounds = []
    for batch_size in (20, 5):
        torch.manual_seed(0)
        model = cases.SharedScale()
        point = lfm.Gaussian(covariance=lfm.Isotropic(lfm.Fixed(1e-8), min_scale=0.0))
        guide = lfm.Guide(model, scale=point, z=lfm.Gaussian(mean=lfm.Linear()))
        data = model.sample(20, seed=0)["x"]
        svi = lfm.SVI(
            guide, objective=lfm.ELBO(particles=300), epochs=1, batch_size=batch_size, learning_rate=1e-9
        )
        record = lfm.fit(model, data, svi, validation=data, seed=0, progress=False).history[0]
        bounds.append(record["validation_bound"])
    assert bounds[0] == pytest.approx(bounds[1], abs=0.5)  # only the noise of z differs


def test_reconstruction_of_labels_gives_probabilities():
    model = lfm.Model(z=lfm.StandardNormal(2), y=lfm.Categorical(4, logits=lfm.MLP(5)))
    guide = lfm.Guide(model, z=lfm.Gaussian(network=lfm.MLP(5)))
    fitted = lfm.fit(model, torch.randint(4, (12,)), lfm.SVI(guide, epochs=1), progress=False)
    assert torch.allclose(fitted.reconstruct().sum(-1), torch.ones(12))


@pytest.mark.parametrize("guide", [None, cases.plain(), 3])
def test_what_is_no_guide_is_refused(guide):
    with pytest.raises(lfm.DeclarationError):
        lfm.SVI(guide)


def test_a_guide_by_hand_must_draw_the_models_latents_in_their_place():
    model, data = cases.plain(), torch.randn(9, cases.D)

    def lacking(batch):
        with batch.plate():
            pyro.sample("w", dist.Normal(torch.zeros(cases.K), 1.0).to_event(1))

    def unplated(batch):
        pyro.sample("z", dist.Normal(torch.zeros(batch.size, cases.K), 1.0).to_event(2))

    with pytest.raises(lfm.DeclarationError, match="the guide draws w; the model's latents are z"):
        lfm.fit(model, data, lfm.SVI(lacking, epochs=1), progress=False)
    with pytest.raises(lfm.DeclarationError, match="must draw z inside"):
        lfm.fit(model, data, lfm.SVI(unplated, epochs=1), progress=False)


def test_shared_latents_may_read_shared_latents():
    class Deep(lfm.PyroModel):
        def forward(self, batch):
            w = pyro.sample("w", dist.Normal(torch.zeros(2), 1.0).to_event(1))
            t = pyro.sample("t", dist.Normal(w, 1.0).to_event(1))
            with batch.plate():
                distribution = dist.Normal(t.unsqueeze(-2) if t.dim() > 1 else t, 1.0)
                pyro.sample(
                    "x",
                    distribution.expand([*distribution.batch_shape[:-2], batch.size, 2]).to_event(1),
                    obs=batch["x"],
                )

    model = Deep()
    guide = lfm.Guide(model, w=lfm.Gaussian(), t=lfm.Gaussian(network=lfm.MLP(4), given="w"))
    fitted = lfm.fit(model, torch.randn(12, 2), lfm.SVI(guide, epochs=2), progress=False)
    assert torch.tensor(fitted.history[-1]["bound"]).isfinite()


def test_supports_that_rows_give_their_shape_are_those_of_any_rows():
    """Binomial and Uniform hold their bounds as tensors of the rows at hand."""

    class Counts(lfm.PyroModel):
        def forward(self, batch):
            with batch.plate():
                p = pyro.sample("p", dist.Beta(torch.tensor(2.0), torch.tensor(3.0)))
                pyro.sample("x", dist.Binomial(10, p), obs=batch["x"])
                pyro.sample("y", dist.Uniform(0 * p - 1, 0 * p + 2), obs=batch["y"])

    model = Counts()
    drawn = model.sample(50, seed=0)
    # Within the bounds of every p: those of a row move with what the guide draws.
    rows = {"x": drawn["x"], "y": drawn["y"].clamp(max=0.99)}
    guide = lfm.Guide(model, p=lfm.Gaussian(network=lfm.MLP(4), given="x"))
    fit = lfm.fit(model, rows, lfm.SVI(guide, epochs=1), seed=0, progress=False)
    assert math.isfinite(fit.history[-1]["bound"])
    with pytest.raises(lfm.DataError, match="x"):
        lfm.fit(model, {**rows, "x": rows["x"] + 0.5}, lfm.SVI(guide, epochs=1), seed=0, progress=False)

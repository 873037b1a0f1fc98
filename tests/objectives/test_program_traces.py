"""Declared programs run without Pyro's handlers, and give what they give under them: terms bit for bit, and gradients."""

import cases
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.poutine.messenger import Messenger
from torch import nn

import pyro_lfm as lfm
from pyro_lfm.objectives import program_traces
from pyro_lfm.programs.statements import Direct
from pyro_lfm.runtime import Stream, isolated


class Listener(Messenger):
    """A handler that changes nothing. Because of it programs run under Pyro."""


@pytest.fixture
def direct(monkeypatch):
    """The names of the statements that were made without Pyro's handlers."""
    names = []

    class Recorded(Direct):
        def sample(self, name, *rest):
            names.append(name)
            return super().sample(name, *rest)

    monkeypatch.setattr(program_traces, "Direct", Recorded)
    return names


def estimates(model, guide, rows, objective, direct, handler=None):
    """What an estimate of the bound and its gradients are, after the first one, which always runs under Pyro."""
    batch = lfm.Batch(rows, torch.arange(len(next(iter(rows.values())))), total=100)
    parameters = [*{id(p): p for program in (model, guide) for p in program.parameters()}.values()]
    with isolated(Stream(0)):
        objective.bound(model, guide, batch)
        direct.clear()
        with handler or isolated():
            bound = objective.bound(model, guide, batch)
        gradients = torch.autograd.grad(bound.objective, parameters, allow_unused=True)
    return [bound.objective, bound.per_row, bound.reconstruction, *bound.kl.values()], gradients


def agree(model, guide, direct, rows=None, objective=None):
    rows = cases.rows_of(model) if rows is None else rows
    objective = (
        (objective or lfm.ELBO()).at(0.5) if isinstance(objective, lfm.Objective | None) else objective
    )
    # Statistics of rows, as of batch normalisation, would move from one estimate to the next.
    model.eval(), guide.eval()
    terms, gradients = estimates(model, guide, rows, objective, direct, Listener())
    assert not direct
    alone, gradients_alone = estimates(model, guide, rows, objective, direct)
    assert all(map(torch.equal, terms, alone))
    # Another order of sums, where Pyro makes views for the plate.
    torch.testing.assert_close(gradients_alone, gradients, rtol=1e-5, atol=1e-6)
    return direct


def with_guide(model, name="gaussian-full"):
    return model, cases.guide_for(model, cases.GUIDES[name])


@pytest.mark.parametrize("name", cases.MODELS)
def test_every_model(name, direct):
    model, guide = with_guide(cases.MODELS[name]())
    made = set(agree(model, guide, direct))
    declared = {*model.observed, *model.latents} if isinstance(model, lfm.Model) else set()
    assert made >= declared


@pytest.mark.parametrize("name", [name for name in cases.OBJECTIVES if not name.startswith("pyro-")])
def test_every_objective(name, direct):
    made = agree(*with_guide(cases.plain()), direct, objective=cases.OBJECTIVES[name]())
    assert bool(made) == (name != "wake-sleep")  # which has a handler of its own


@pytest.mark.parametrize(
    "name", ["elbo", "particles", "importance-weighted", "renyi", "importance-weighted-doubly"]
)
@pytest.mark.parametrize("model", ["bayesian-factors", "latent-mixture", "two-layers"])
def test_several_draws_of_every_kind_of_latent(model, name, direct):
    assert agree(*with_guide(cases.MODELS[model]()), direct, objective=cases.OBJECTIVES[name]())


@pytest.mark.parametrize("name", cases.GUIDES)
def test_every_guide(name, direct):
    model, guide = with_guide(cases.plain(), name)
    assert set(agree(model, guide, direct)) == {"z", "x"}


@pytest.mark.parametrize("name", cases.PRIORS)
def test_every_prior(name, direct):
    model, guide = with_guide(cases.one_latent(prior=name))
    guide = guide.bound_to(model)
    agree(model.bound_to(guide), guide, direct)


@pytest.mark.parametrize("name", cases.LIKELIHOODS)
def test_every_likelihood_with_gaps_too(name, direct):
    model, guide = with_guide(cases.one_latent(likelihood=name))
    rows = cases.rows_of(model)
    assert agree(model, guide, direct)
    with_gaps = {n: x.clone() if n == "x" and x.is_floating_point() else x for n, x in rows.items()}
    if with_gaps["x"].is_floating_point():
        with_gaps["x"][0] = torch.nan
    agree(model, guide, direct, with_gaps)


def test_rows_with_weights(direct):
    model, guide = with_guide(cases.plain())
    rows = cases.rows_of(model)
    batch = lfm.Batch(rows, weights=torch.rand(len(rows["x"])), total=100, total_weight=50.0)
    values = []
    with isolated(Stream(0)):
        lfm.ELBO().bound(model, guide, batch)
        for handler in (Listener(), isolated()):
            torch.manual_seed(1)
            with handler:
                values.append(lfm.ELBO().bound(model, guide, batch).per_row)
    assert direct and torch.equal(*values)


class Speaking(nn.Module):
    """A network with a Pyro statement of its own."""

    def __init__(self, statement, inputs, outputs):
        super().__init__()
        self.statement, self.linear = statement, nn.Linear(inputs, outputs)

    def forward(self, value):
        return self.linear(value) + self.statement()


@pytest.mark.parametrize(
    "statement",
    [
        lambda: pyro.deterministic("constant", torch.zeros(()), event_dim=0),
        lambda: pyro.param("shift", lambda: torch.zeros(())),
        lambda: pyro.sample(
            "noise", dist.Delta(torch.zeros(())), infer={"is_auxiliary": True}, obs=torch.zeros(())
        ),
    ],
    ids=["deterministic", "param", "sample"],
)
def test_a_network_with_a_statement_of_its_own_runs_under_pyro(statement, direct):
    network = Speaking(statement, cases.K, cases.D)
    model = lfm.Model(z=lfm.StandardNormal(cases.K), x=lfm.Bernoulli(cases.D, logits=network))
    guide = cases.guide_for(model, cases.GUIDES["gaussian-full"])
    rows = {"x": torch.zeros(4, cases.D)}
    assert set(agree(model, guide, direct, rows)) == {"z"}  # of the guide, which has no such network


def test_a_program_that_begins_to_speak_goes_on_under_pyro(direct):
    network = Speaking(lambda: 0.0, cases.K, cases.D)
    model = lfm.Model(z=lfm.StandardNormal(cases.K), x=lfm.Bernoulli(cases.D, logits=network))
    guide = cases.guide_for(model, cases.GUIDES["gaussian-full"])
    batch = lfm.Batch(torch.zeros(4, cases.D))
    with isolated(Stream(0)):
        for _ in range(2):
            run = lfm.ELBO().run(model, guide, (batch,), {})
        assert "x" in direct and "constant" not in run.traces[1]
        network.statement = lambda: pyro.deterministic("constant", torch.zeros(()), event_dim=0)
        run = lfm.ELBO().run(model, guide, (batch,), {})
        assert "constant" in run.traces[1]


class Doubled(lfm.Model):
    """A model whose statements all count twice."""

    def forward(self, batch):
        with pyro.poutine.scale(scale=2.0):
            return super().forward(batch)


def test_a_model_with_a_forward_of_its_own_runs_under_pyro(direct):
    x = lfm.Bernoulli(cases.D, logits=lfm.Linear())
    model = Doubled(z=lfm.StandardNormal(cases.K), x=x)
    guide = cases.guide_for(model, cases.GUIDES["gaussian-full"])
    agree(model, guide, direct, {"x": torch.zeros(4, cases.D)})
    assert "x" not in direct


def test_outside_of_isolation_parameters_are_registered_as_pyro_does(direct):
    model, guide = with_guide(cases.plain())
    batch = lfm.Batch(cases.rows_of(model))
    for _ in range(2):
        lfm.ELBO().bound(model, guide, batch)
    assert not direct
    assert len(pyro.get_param_store()) == len([*model.parameters(), *guide.parameters()])
    pyro.clear_param_store()

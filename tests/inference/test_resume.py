"""A fit that is interrupted and resumed is, bit for bit, the uninterrupted fit: 3 epochs and 3 more are 6."""

import pickle
import random

import cases
import numpy as np
import pyro
import pytest
import torch
from torch import nn

import pyro_lfm as lfm

ROWS = 30


def plain(family="gaussian-full"):
    model = cases.plain()
    return model, cases.guide_for(model, cases.GUIDES[family])


def vamp():
    model = lfm.Model(z=lfm.VampPrior(2, components=3), x=lfm.Gaussian(cases.D, mean=lfm.MLP(5)))
    return model, lfm.Guide(model, z=lfm.Gaussian(network=lfm.MLP(5)))


def shared():
    model = lfm.Model(
        z=lfm.StandardNormal(2),
        x=lfm.Gaussian(
            cases.D,
            # Rows are drawn from it: under the broad default priors they would be of size 1e19.
            mean=lfm.Linear(prior=lfm.parameter_priors.ARD(1.0, 1.0)),
            covariance=lfm.Isotropic(prior=lfm.parameter_priors.Gamma(2.0, 2.0)),
        ),
    )
    return model, lfm.Guide(model, z=lfm.Gaussian(network=lfm.MLP(5)))


def batch_norm():
    def network(inputs, outputs):
        return nn.Sequential(nn.Linear(inputs, 6), nn.BatchNorm1d(6), nn.Dropout(0.2), nn.Linear(6, outputs))

    model = lfm.Model(z=lfm.StandardNormal(2), x=lfm.Gaussian(cases.D, mean=network))
    return model, lfm.Guide(model, z=lfm.Gaussian(network=network))


def labels():
    model = lfm.Model(c=lfm.Categorical(3), x=lfm.Gaussian(cases.D, mean=lfm.MLP(5), given="c"))
    return model, lfm.Guide(model, c=lfm.Categorical(logits=lfm.MLP(5)))


class Program(lfm.PyroModel):
    """A model by hand with a parameter by ``pyro.param``."""

    def forward(self, batch):
        weight = pyro.param("weight", torch.ones(2, cases.D))
        with batch.plate():
            z = pyro.sample("z", pyro.distributions.Normal(torch.zeros(2), 1.0).to_event(1))
            pyro.sample("x", pyro.distributions.Normal(z @ weight, 1.0).to_event(1), obs=batch["x"])


def by_hand():
    model = Program()
    return model, lfm.Guide(model, z=lfm.Gaussian(network=lfm.MLP(5)))


class Averaged(lfm.ELBO):
    """An objective that remembers: it takes off what the bound was on average."""

    def __init__(self):
        super().__init__()
        self.memory = {"average": 0.0}

    def state_dict(self):
        return dict(self.memory)

    def load_state_dict(self, state):
        self.memory = dict(state)

    def estimate(self, run):
        from dataclasses import replace

        bound = super().estimate(run)
        average = self.memory["average"] = 0.9 * self.memory["average"] + 0.1 * float(bound.per_row.mean())
        return replace(bound, objective=bound.objective * (1.0 + 0.01 * average))


def frozen():
    model, guide = plain()
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    return model, guide


class Coins(lfm.PyroModel):
    """Coins of two kinds, with an average of the weights that is no part of the state."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(cases.D))
        self.register_buffer("average", torch.zeros(cases.D), persistent=False)

    def forward(self, batch):
        with batch.plate():
            c = pyro.sample("c", pyro.distributions.Bernoulli(torch.tensor(0.3)))
            if self.training:
                self.average.mul_(0.9).add_(0.1 * self.weight.detach())
            mean = c[:, None] * self.weight + self.average
            pyro.sample("x", pyro.distributions.Normal(mean, 1.0).to_event(1), obs=batch["x"])


class CoinsGuide(lfm.PyroGuide):
    """A guide with Pyro's average as a baseline, which Pyro keeps in its store."""

    def __init__(self):
        super().__init__()
        self.network = nn.Linear(cases.D, 1)

    def forward(self, batch):
        with batch.plate():
            distribution = pyro.distributions.Bernoulli(logits=self.network(batch["x"])[:, 0])
            pyro.sample("c", distribution, infer={"baseline": {"use_decaying_avg_baseline": True}})


def coins():
    return Coins(), CoinsGuide()


def decay(done):
    return np.float32(1.0 - 0.5 * done)


CASES = {
    "plain": (plain, {}),
    "validation": (plain, {"validation": True}),
    "rows of their own, validated": (lambda: plain("per-row"), {"validation": True}),
    "rows of their own, patience": (lambda: plain("per-row"), {"patience": 2}),
    "patience": (plain, {"patience": 2, "learning_rate": 0.1}),
    "alternate": (plain, {"alternate": 2}),
    "schedule": (plain, {"schedule": decay}),
    "weights": (plain, {"objective": lfm.ELBO(kl_weight=lfm.schedules.linear())}),
    "clip_norm": (plain, {"clip_norm": 0.5}),
    "pyro, clip_norm": (plain, {"clip_norm": 0.5, "engine": "pyro"}),
    "RAdam": (plain, {"optimizer": torch.optim.RAdam}),
    "NAdam": (plain, {"optimizer": torch.optim.NAdam}),
    "Adafactor": (plain, {"optimizer": torch.optim.Adafactor}),
    "AMSGrad": (plain, {"optimizer": lambda p, lr: torch.optim.Adam(p, lr=lr, amsgrad=True)}),
    "momentum": (plain, {"optimizer": lambda p, lr: torch.optim.SGD(p, lr=lr, momentum=0.9)}),
    "drop_last": (plain, {"drop_last": True}),
    "steps": (plain, {"steps": True}),
    "vamp": (vamp, {}),
    "shared": (shared, {}),
    "batch norm": (batch_norm, {"drop_last": True}),
    "labels": (labels, {}),
    "score functions": (labels, {"objective": lfm.ELBO(particles=3, enumerate="never")}),
    "by hand": (by_hand, {}),
    "wake-sleep": (plain, {"objective": lfm.ReweightedWakeSleep(3)}),
    "penalised": (plain, {"objective": lfm.Penalised(lfm.ELBO(), lfm.TotalCorrelation(2.0))}),
    "memory": (plain, {"objective": Averaged}),
    "frozen": (frozen, {}),
    "buffers that are no state": (coins, {"objective": lfm.ELBO(enumerate="never")}),
    "baselines": (
        coins,
        {"objective": pyro.infer.TraceGraph_ELBO(), "engine": "pyro", "drop_last": True},
    ),
    "pyro": (plain, {"engine": "pyro"}),
    "pyro, shared": (shared, {"engine": "pyro"}),
    "pyro, rows": (lambda: plain("per-row"), {"engine": "pyro"}),
    "Trace_ELBO": (plain, {"objective": pyro.infer.Trace_ELBO(num_particles=2), "engine": "pyro"}),
}


def run(make, path, epochs=6, stop=None, validation=False, steps=False, callbacks=(), **options):
    torch.manual_seed(0)
    model, guide = make()
    data = cases.rows_of(model, ROWS + 9)["x"]
    if isinstance(options.get("objective"), type):
        options["objective"] = options["objective"]()
    length = {"steps": 4 * epochs} if steps else {"epochs": epochs}
    svi = lfm.SVI(guide, batch_size=8, **{"engine": "eager", **length, **options})
    last = [lambda record, fit: record["epoch"] == stop] if stop else []
    done = lfm.fit(
        model,
        data[:ROWS],
        svi,
        validation=data[ROWS:] if validation else None,
        seed=1,
        callbacks=[*callbacks, *last],
        checkpoint=path,
        progress=False,
    )
    state = {**model.state_dict(prefix="model."), **guide.state_dict(prefix="guide.")}
    records = [{k: v for k, v in record.items() if k != "seconds"} for record in done.history]
    return {name: value.clone() for name, value in state.items()}, repr(records)


# Slow cases of kinds that quicker cases stand for.
FURTHER = {"NAdam", "Adafactor", "AMSGrad", "pyro, shared", "pyro, rows", "penalised", "score functions"}


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] * (name in FURTHER)) for name in CASES]
)
def test_three_epochs_and_three_more_are_six(tmp_path, name):
    make, options = CASES[name]
    whole, history = run(make, None, **options)
    scheduled = {"schedule", "objective"} & options.keys()
    # Longer than before where that is the same fit; else interrupted.
    first = {"stop": 3} if scheduled else {"epochs": 3}
    run(make, tmp_path / "state", **first, **options)
    resumed, again = run(make, tmp_path / "state", **options)
    assert again == history
    assert whole.keys() == resumed.keys() and all(torch.equal(whole[n], resumed[n]) for n in whole)


def holding(epoch, released=False):
    """A callback that holds, or releases, the likelihood's parameters after an epoch."""

    def callback(record, fit):
        if record["epoch"] == epoch:
            for name, parameter in fit.model.named_parameters():
                parameter.requires_grad_(released or not name.startswith("factors.x"))

    return callback


@pytest.mark.parametrize("engine", ["eager", "pyro"])
def test_parameters_that_a_callback_freezes_stay_frozen_until_released(tmp_path, engine):
    hold, release = holding(2), holding(4, released=True)
    whole, history = run(plain, None, callbacks=[hold, release], engine=engine)
    run(plain, tmp_path / "state", epochs=3, callbacks=[hold], engine=engine)
    resumed, again = run(plain, tmp_path / "state", callbacks=[release], engine=engine)
    assert again == history and all(torch.equal(whole[n], resumed[n]) for n in whole)


COUNT = [0]


class Remembering(nn.Module):
    """A network whose numbers hang on what it holds beside its parameters."""

    def __init__(self, inputs, outputs):
        super().__init__()
        self.linear, self.dropout = nn.Linear(inputs, outputs), nn.Dropout(0.5)
        self.calls, self.log, self.last = 0, [], None
        self.array, self.held = np.zeros(1), {"generators": [np.random.default_rng(0), random.Random(0)]}
        self.noise = torch.Generator().manual_seed(0)

    def forward(self, z):
        self.calls += 1
        self.log.append(self.calls)
        self.array += 1
        of_numpy, of_python = self.held["generators"]
        drawn = of_numpy.normal() + of_python.gauss(0, 1) + torch.randn((), generator=self.noise)
        past = 0.0 if self.last is None else self.last.mean()
        self.last = self.linear.weight.detach().clone()
        return self.dropout(self.linear(z)) * (1 + (len(self.log) + self.array[0]) / 90) + drawn / 9 + past


class Counting(Remembering):
    """Its state stands in a global, which belongs to no program."""

    def forward(self, z):
        COUNT[0] += 1
        return self.linear(z) * (1 + COUNT[0] / 90)


def with_network(network):
    model = lfm.Model(z=lfm.StandardNormal(2), x=lfm.Gaussian(cases.D, mean=network))
    return model, lfm.Guide(model, z=lfm.Gaussian(network=lfm.MLP(5)))


def test_attributes_of_a_network_are_saved(tmp_path):
    def change(record, fit):
        for part in fit.model.modules():
            if isinstance(part, nn.Dropout):
                part.p = 0.5 / record["epoch"]
                part.train(record["epoch"] != 3)

    make = lambda: with_network(Remembering)  # noqa: E731
    whole, history = run(make, None, callbacks=[change])
    run(make, tmp_path / "state", epochs=3, callbacks=[change])
    resumed, again = run(make, tmp_path / "state", callbacks=[change])
    assert again == history and all(torch.equal(whole[n], resumed[n]) for n in whole)


def test_engines_restore_the_settings_of_per_row_tables(tmp_path):
    for epochs in (1, 2):
        model, guide = plain("per-row")
        run(lambda made=(model, guide): made, tmp_path / "state", epochs=epochs)
        assert not any(table.sparse for table in guide.tables)


def test_a_state_that_no_checkpoint_can_hold_is_refused_at_the_first_epoch(tmp_path):
    with pytest.raises(lfm.DeclarationError, match=r"the model changes while it is used \(.*COUNT.*buffer"):
        run(lambda: with_network(Counting), tmp_path / "state")
    run(lambda: with_network(Counting), None, epochs=1)


def test_schedules_with_a_state_are_refused_without_state_dict(tmp_path):
    class Falling:
        def __init__(self):
            self.calls = 0

        def __call__(self, done):
            self.calls += 1
            return 1 / self.calls

    class Kept(Falling):
        def state_dict(self):
            return {"calls": self.calls}

        def load_state_dict(self, state):
            self.calls = state["calls"]

    with pytest.raises(lfm.DeclarationError, match=r"the schedule changes while it is used \(schedule.calls"):
        run(plain, tmp_path / "refused", schedule=Falling())
    values = iter([0.5] * 99)
    with pytest.raises(lfm.DeclarationError, match="takes its values from an iterator"):
        run(plain, tmp_path / "refused", schedule=lambda done: next(values))
    whole, history = run(plain, None, schedule=Kept())
    run(plain, tmp_path / "state", stop=3, schedule=Kept())
    resumed, again = run(plain, tmp_path / "state", schedule=Kept())
    assert again == history and all(torch.equal(whole[n], resumed[n]) for n in whole)


@pytest.mark.parametrize(("first", "then"), [("eager", "auto"), ("auto", "eager")])
def test_a_fit_goes_on_under_another_engine(tmp_path, first, then):
    whole, _ = run(plain, None)
    run(plain, tmp_path / "state", epochs=3, engine=first)
    resumed, _ = run(plain, tmp_path / "state", engine=then)
    assert all(torch.allclose(whole[name], resumed[name], atol=1e-6) for name in whole)


@pytest.mark.parametrize(("first", "then"), [("eager", "pyro"), ("pyro", "eager"), ("pyro", "auto")])
@pytest.mark.parametrize("guide", ["gaussian-full", "per-row"])
def test_states_that_another_engine_cannot_use_are_refused(tmp_path, first, then, guide):
    """Pyro's moments are those of the loss of all rows, N² times as large: taken over, they would be wrong in silence."""
    run(lambda: plain(guide), tmp_path / "state", epochs=1, engine=first)
    with pytest.raises(lfm.CheckpointError, match="resume with the engine"):
        run(lambda: plain(guide), tmp_path / "state", epochs=2, engine=then)
    run(lambda: plain(guide), tmp_path / "state", epochs=2, engine=first)


def test_a_fit_that_patience_ended_goes_on_with_more_patience(tmp_path):
    options = {"learning_rate": 0.3, "validation": True}
    whole, history = run(plain, None, epochs=20, patience=4, **options)
    run(plain, tmp_path / "state", epochs=20, patience=1, **options)
    resumed, again = run(plain, tmp_path / "state", epochs=20, patience=4, **options)
    assert again == history and all(torch.equal(whole[n], resumed[n]) for n in whole)


def test_an_objective_whose_state_is_not_saved_is_refused_at_the_first_epoch(tmp_path):
    class Forgetful(Averaged):
        state_dict = load_state_dict = None

    with pytest.raises(lfm.DeclarationError, match=r"objective.memory.average.*state_dict"):
        run(plain, tmp_path / "state", objective=Forgetful)
    assert not (tmp_path / "state").exists()
    run(plain, None, epochs=1, objective=Forgetful)


STRUCTURES = {
    **{
        f"prior {name}": (lambda n=name: cases.one_latent(prior=n), "gaussian-diagonal")
        for name in cases.PRIORS
    },
    **{
        f"likelihood {name}": (lambda n=name: cases.one_latent(likelihood=n), "gaussian-full")
        for name in cases.LIKELIHOODS
    },
    **{f"guide {name}": (cases.plain, name) for name in cases.GUIDES},
    **{f"model {name}": (make, "gaussian-full") for name, make in cases.MODELS.items()},
}


@pytest.mark.slow
@pytest.mark.parametrize("name", STRUCTURES)
def test_every_structure_is_resumed_exactly_and_comes_back_from_a_pickle(tmp_path, name):
    make, guide = STRUCTURES[name]

    def fitted(path, epochs):
        torch.manual_seed(0)
        model = make()
        svi = lfm.SVI(
            cases.guide_for(model, cases.GUIDES[guide]), epochs=epochs, batch_size=8, engine="eager"
        )
        return lfm.fit(model, cases.rows_of(model, 20), svi, seed=0, checkpoint=path, progress=False)

    whole = fitted(None, 2)
    fitted(tmp_path / "state", 1)
    resumed = fitted(tmp_path / "state", 2)
    twin = pickle.loads(pickle.dumps(whole))
    assert [r["bound"] for r in resumed.history] == [r["bound"] for r in whole.history]
    for other in (resumed, twin):
        for one, two in ((whole.model, other.model), (whole.guide, other.guide)):
            state = two.state_dict()
            assert all(torch.equal(value, state[n]) for n, value in one.state_dict().items())
    drawn, again = whole.model.sample(3, seed=0), twin.model.sample(3, seed=0)
    assert all(torch.equal(drawn[n], again[n]) for n in drawn)

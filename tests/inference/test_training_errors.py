"""Errors that stop a fit name what was raised, by which module, on which rows, and only remedies that fit."""

import math
import threading
import traceback
import warnings
from functools import partial

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import nn
from torch.distributions import constraints

import pyro_lfm as lfm
from pyro_lfm.runtime import isolated

X = torch.randn(33, 4, generator=torch.Generator().manual_seed(0))
ENGINES = ["eager", "pyro"]


def run(network=None, encoder=None, data=X, model=None, validation=None, callbacks=(), seed=0, **options):
    torch.manual_seed(0)
    if model is None:
        model = lfm.Model(z=lfm.StandardNormal(2), x=lfm.Gaussian(4, mean=network or lfm.MLP(5)))
    guide = lfm.Guide(model, z=lfm.Gaussian(network=encoder or lfm.MLP(5)))
    svi = lfm.SVI(guide, **{"epochs": 2, "batch_size": 16, "engine": "eager", **options})
    return lfm.fit(model, data, svi, validation=validation, seed=seed, callbacks=callbacks, progress=False)


def weights(*programs):
    return [p.detach().clone() for program in programs for p in program.parameters()]


# Errors of networks ------------------------------------------------------------------------------------------


def normalised(inputs, outputs):
    return nn.Sequential(nn.Linear(inputs, 5), nn.BatchNorm1d(5), nn.Linear(5, outputs))


@pytest.mark.parametrize("engine", [*ENGINES, pytest.param("compiled", marks=pytest.mark.slow)])
def test_a_batch_of_one_row_under_batch_normalisation_has_its_own_remedy(engine):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", lfm.CompilationWarning)
        with pytest.raises(
            lfm.TrainingError, match=r"BatchNorm1d raised ValueError: Expected more than 1"
        ) as caught:
            run(encoder=normalised, engine=engine)
        words = str(caught.value)
        assert "drop_last=True" in words and "learning_rate" not in words and "min_scale" not in words
        assert "distribution" not in words and "parameter" not in words
        assert (caught.value.factor, caught.value.epoch, len(caught.value.rows)) == ("z", 1, 1)
        assert isinstance(caught.value.__cause__, ValueError)
        done = run(encoder=normalised, engine=engine, drop_last=True)
    assert [record["step"] for record in done.history] == [2, 4]


@pytest.mark.parametrize(("rows", "remedies"), [(X, "a larger batch_size"), (X[:1], None)])
def test_where_every_batch_has_one_row_none_can_be_left_out(rows, remedies):
    with pytest.raises(lfm.TrainingError, match="BatchNorm1d") as caught:
        run(encoder=normalised, data=rows, batch_size=1)
    assert str(caught.value).partition("Remedies: ")[2] == (remedies or "")


class Breaking(nn.Module):
    """A network that raises in training, after some runs."""

    def __init__(self, error, after, inputs, outputs):
        super().__init__()
        self.layer, self.error, self.after = nn.Linear(inputs, outputs), error, after
        self.runs = 0

    def forward(self, x):
        self.runs += self.training
        if self.training and self.runs > self.after:
            raise self.error
        return self.layer(x)


class Mine(Exception):
    def __init__(self, code, why):
        super().__init__(code, why)


ERRORS = [
    KeyError("missing"),
    RuntimeError("boom"),
    ValueError("a value"),
    TypeError("a type"),
    IndexError("an index"),
    ZeroDivisionError("division"),
    AttributeError("an attribute"),
    AssertionError(),
    NotImplementedError(),
    OSError(2, "no such file"),
    StopIteration("stopped"),
    Mine(3, "because"),
]


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_an_exception_of_a_network_is_reported_unchanged(engine, error):
    """Declared and looked into first: how often a network runs before the first step is the library's own affair."""
    start = []

    def remember(record, fit):
        network = fit.model.factors["x"].parts["mean"].network
        network.after = network.runs + 1
        start[:] = weights(fit.model, fit.guide)

    with pytest.raises(lfm.TrainingError) as caught:
        run(partial(Breaking, error, 10**6), engine=engine, epochs=3, callbacks=[remember])
    words, error_of_fit = str(caught.value), caught.value
    assert f"Breaking raised {type(error).__name__}" in words and str(error) in words
    assert "in epoch 2, factor x, at line" in words and __file__ in words
    for absent in ("Trace Shapes", "learning_rate", "min_scale", "distribution", "Remedies"):
        assert absent not in words
    assert error_of_fit.epoch == 2 and error_of_fit.factor == "x"
    assert error_of_fit.parameter is None and len(error_of_fit.rows) == 16
    assert type(error_of_fit.__cause__) is type(error)
    shown = "".join(traceback.format_exception(error_of_fit))
    assert "raise self.error" in shown  # the user's own line


def test_every_error_restores_the_weights_from_before_the_epoch():
    kept = {}

    def remember(record, fit):
        network = fit.model.factors["x"].parts["mean"].network
        network.after = network.runs + 1
        kept["fit"], kept["weights"] = fit, weights(fit.model, fit.guide)

    with pytest.raises(lfm.TrainingError):
        run(partial(Breaking, KeyError("k"), 10**6), epochs=3, callbacks=[remember])
    after = weights(kept["fit"].model, kept["fit"].guide)
    assert all(torch.equal(a, b) for a, b in zip(kept["weights"], after, strict=True))
    assert not kept["fit"].model.training and len(kept["fit"].history) == 1


def test_an_error_in_the_validation_names_the_validation():
    class Narrow(nn.Module):
        def __init__(self, inputs, outputs):
            super().__init__()
            self.layer = nn.Linear(inputs, outputs)

        def forward(self, x):
            if not self.training and len(x) == 5:
                raise KeyError("five")
            return self.layer(x)

    with pytest.raises(lfm.TrainingError, match="KeyError: 'five' in the validation after epoch 1, factor x"):
        run(Narrow, validation=X[:5])


@pytest.mark.parametrize(
    ("error", "remedy"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"), "a smaller batch_size"),
        (MemoryError(), "a smaller batch_size"),
        (RuntimeError("Expected all tensors to be on the same device, but found two"), "buffers"),
        (RuntimeError("CUDA error: device-side assert triggered"), 'device="cpu"'),
    ],
)
def test_remedies_fit_the_error(error, remedy):
    with pytest.raises(lfm.TrainingError, match=f"Remedies: .*{remedy}"):
        run(model=broken_program(error))


def broken_program(error):
    class Program(lfm.PyroModel):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.ones(2, 4))

        def forward(self, batch):
            if self.training and batch["x"] is not None:
                raise error
            with batch.plate():
                z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
                pyro.sample("x", dist.Normal(z @ self.weight, 1.0).to_event(1), obs=batch["x"])

    return Program()


class Rates(lfm.PyroModel):
    """Counts whose rates are mapped onto the positive numbers, or not, from some step on."""

    def __init__(self, raw):
        super().__init__()
        self.weight, self.raw = nn.Parameter(torch.ones(2, 4)), raw

    def forward(self, batch):
        with batch.plate():
            z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
            rate = z @ self.weight if self.raw and self.training else (z @ self.weight).exp()
            pyro.sample("x", dist.Poisson(rate).to_event(1), obs=batch["x"])


def test_a_distribution_that_refuses_finite_values_is_not_cured_by_a_learning_rate():
    with pytest.raises(
        lfm.TrainingError, match="a distribution refuses its parameters .*rate.*Poisson"
    ) as caught:
        run(model=Rates(raw=True), data=torch.ones(33, 4))
    words = str(caught.value)
    assert "exp and softplus" in words and "learning_rate" not in words and "min_scale" not in words
    assert __file__ in words and caught.value.parameter is None


@pytest.mark.parametrize(
    ("make", "data", "scale"),
    [
        (lambda: lfm.Gaussian(4, mean=lfm.MLP(5)), X, True),
        (lambda: lfm.Poisson(4, rate=lfm.MLP(5)), torch.ones(33, 4), False),
        (lambda: lfm.Bernoulli(4, logits=lfm.MLP(5)), (X > 0).float(), False),
    ],
)
def test_a_larger_min_scale_is_advised_where_there_is_one(make, data, scale):
    model = lfm.Model(z=lfm.StandardNormal(2), x=make())
    ruin = [lambda record, fit: [p.data.fill_(math.nan) for p in fit.model.parameters()] and None]
    with pytest.raises(lfm.TrainingError, match="a lower learning_rate") as caught:
        run(model=model, data=data, callbacks=ruin)
    assert ("min_scale" in str(caught.value)) is scale


# Schedules and optimizers ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("schedule", "words"),
    [
        (lambda done: -1.0, "at 0 it gave -1.0"),
        (lambda done: 1 - 2 * done, "at 0.55 it gave -0.1"),
        (lambda done: math.nan, "at 0 it gave nan"),
        (lambda done: np.float32("inf"), "at 0 it gave .*inf"),
        (lambda done: "1", "at 0 it gave '1'"),
        (lambda done: None, "at 0 it gave None"),
        (lambda done: True, "at 0 it gave True"),
        (lambda done: torch.ones(2), "at 0 it gave tensor"),
        (lambda done: 1 / done, "at 0 it raised ZeroDivisionError: float division by zero"),
        (lambda: 1.0, "at 0 it raised TypeError"),
    ],
)
@pytest.mark.parametrize("place", ["schedule", "kl_weight", "TotalCorrelation.weight"])
def test_a_wrong_value_of_a_schedule_is_refused_before_training(schedule, words, place):
    options = {
        "schedule": {"schedule": schedule},
        "kl_weight": {"objective": lfm.ELBO(kl_weight=schedule)},
        "TotalCorrelation.weight": {"objective": lfm.Penalised(lfm.ELBO(), lfm.TotalCorrelation(schedule))},
    }[place]
    calls = []
    with pytest.raises(lfm.DeclarationError, match=f"^{place} is a schedule, .* {words}"):
        run(callbacks=[lambda record, fit: calls.append(record)], **options)
    assert not calls  # before anything is trained


@pytest.mark.parametrize("number", [np.float64, np.float32, np.int64, torch.tensor, int])
def test_a_schedule_may_give_any_kind_of_number(number):
    plain = run(schedule=lambda done: 1.0, objective=lfm.ELBO(kl_weight=lambda done: 1.0))
    other = run(schedule=lambda done: number(1), objective=lfm.ELBO(kl_weight=lambda done: number(1)))
    assert [r["bound"] for r in plain.history] == [r["bound"] for r in other.history]


@pytest.mark.parametrize(
    ("optimizer", "words"),
    [
        (torch.optim.LBFGS, "LBFGS evaluates the loss several times.*Adam"),
        (partial(torch.optim.LBFGS, max_iter=3), "LBFGS evaluates"),
        (torch.optim.Adam([nn.Parameter(torch.zeros(1))]), "made already.*give torch.optim.Adam"),
        ("adam", "got 'adam'"),
        (pyro.optim.Adam({"lr": 1e-3}), "got Pyro's"),
        (nn.Linear, "got the class Linear"),
        (torch.optim.lr_scheduler.StepLR, "got the class StepLR"),
    ],
)
def test_optimizers_that_cannot_serve_are_refused_at_declaration(optimizer, words):
    model = lfm.Model(z=lfm.StandardNormal(2), x=lfm.Gaussian(4, mean=lfm.MLP(5)))
    guide = lfm.Guide(model, z=lfm.Gaussian(network=lfm.MLP(5)))
    with pytest.raises(lfm.DeclarationError, match=f"optimizer.*{words}"):
        lfm.SVI(guide, optimizer=optimizer)


class Sharp(torch.optim.SGD):
    """An optimizer that evaluates the loss twice in a step."""

    def step(self, closure):
        closure()
        return super().step(closure)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    ("optimizer", "words"),
    [
        (lambda parameters, lr: torch.optim.LBFGS(parameters, lr=lr), "LBFGS evaluates"),
        (lambda parameters, lr: Sharp(parameters, lr=lr), "Sharp evaluates"),
        (lambda parameters, lr: None, "it gave None"),
        (
            lambda parameters: torch.optim.Adam(parameters),
            "raised TypeError: .*unexpected keyword argument 'lr'",
        ),
        (lambda parameters, lr: 1 / 0, "raised ZeroDivisionError"),
    ],
)
def test_optimizers_that_functions_make_are_refused_before_the_first_step(engine, optimizer, words):
    with pytest.raises(lfm.DeclarationError, match=f"optimizer.*{words}"):
        run(optimizer=optimizer, engine=engine)


# Modes and processes -----------------------------------------------------------------------------------------


def with_grad_off():
    return torch.set_grad_enabled(False)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode, with_grad_off])
@pytest.mark.parametrize("engine", [*ENGINES, "auto"])
def test_a_fit_trains_whatever_mode_the_caller_is_in(mode, engine):
    expected = [record["bound"] for record in run(engine=engine, validation=X[:5]).history]
    torch.manual_seed(0)
    model = lfm.Model(z=lfm.StandardNormal(2), x=lfm.Gaussian(4, mean=lfm.MLP(5)))
    guide = lfm.Guide(model, z=lfm.Gaussian(network=lfm.MLP(5)))
    with mode():
        rows = X.clone()  # made in the mode too
        svi = lfm.SVI(guide, epochs=2, batch_size=16, engine=engine)
        done = lfm.fit(model, rows, svi, validation=rows[:5], seed=0, progress=False)
        assert not torch.is_grad_enabled()
    assert [record["bound"] for record in done.history] == expected and torch.is_grad_enabled()


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_exact_inference_and_per_row_tables_train_in_any_mode_too(mode):
    linear = lfm.Model(
        z=lfm.StandardNormal(1), x=lfm.Gaussian(4, mean=lfm.Linear(), covariance=lfm.Isotropic())
    )
    noise = lfm.Isotropic(prior=lfm.parameter_priors.Gamma())
    bayesian = lfm.Model(
        z=lfm.StandardNormal(2),
        x=lfm.Gaussian(4, mean=lfm.Linear(prior=lfm.parameter_priors.ARD()), covariance=noise),
    )
    with mode():
        assert math.isfinite(lfm.fit(linear, X, lfm.EM(iterations=5), progress=False).history[-1]["bound"])
        assert math.isfinite(
            lfm.fit(bayesian, X, lfm.VariationalBayes(iterations=5), progress=False).history[-1]["bound"]
        )
    model = lfm.Model(z=lfm.StandardNormal(2), x=lfm.Gaussian(4, mean=lfm.MLP(5)))
    guide = lfm.Guide(model, z=lfm.Gaussian(network=lfm.PerRow()))
    with mode():
        done = lfm.fit(model, X, lfm.SVI(guide, epochs=1), validation=X[:3], progress=False)
    assert math.isfinite(done.history[0]["validation_bound"])


def test_parameters_made_in_inference_mode_are_refused():
    with torch.inference_mode():
        model = lfm.Model(z=lfm.StandardNormal(2), x=lfm.Gaussian(4, mean=lfm.MLP(5)))
        guide = lfm.Guide(model, z=lfm.Gaussian(network=lfm.MLP(5)))
        with pytest.raises(lfm.DeclarationError, match="made under torch.inference_mode.*outside of it"):
            lfm.fit(model, X, lfm.SVI(guide, epochs=1), progress=False)


def half(done):
    return 0.01 if done < 0.5 else 1.0


@pytest.mark.parametrize(
    ("objective", "first"),
    [
        (lfm.ELBO(), 1),
        (lfm.ELBO(kl_weight=half), 31),
        (lfm.ELBO(kl_weight=lfm.schedules.linear(until=0.25)), 16),
        (lfm.ELBO(kl_weight=lfm.schedules.cyclical(2, until=0.5)), 46),
        (lfm.ELBO(kl_weight=lambda done: 1.0 - 0.9 * min(1.0, 4 * done)), 16),
        (lfm.Penalised(lfm.ELBO(), lfm.TotalCorrelation(lfm.schedules.linear(0.0, 5.0, until=0.25))), 16),
    ],
)
def test_patience_counts_once_every_schedule_of_the_objective_has_ended(objective, first):
    """Bounds that are given fall from the first epoch on: patience ends the fit as soon as it may count."""
    seen = []

    def falling(record, fit):
        record["bound"] = -float(record["epoch"])
        seen.append((record["epoch"], weights(fit.model, fit.guide)))

    done = run(objective=objective, epochs=60, batch_size=33, patience=3, callbacks=[falling])
    assert len(done.history) == first + 3
    best = dict(seen)[first]
    assert all(torch.equal(a, b) for a, b in zip(best, weights(done.model, done.guide), strict=True))


def test_a_schedule_of_the_learning_rate_delays_no_patience():
    falling = [lambda record, fit: record.update(bound=-record["epoch"])]
    done = run(epochs=60, patience=3, schedule=lfm.schedules.cosine(1.0, 0.0), callbacks=falling)
    assert len(done.history) == 4


@pytest.mark.parametrize(
    "weight", [lfm.schedules.cosine(), lfm.schedules.linear(until=0.9), lambda done: done]
)
def test_patience_that_cannot_stop_a_fit_warns(weight):
    with pytest.warns(
        lfm.ScheduleWarning, match=r"patience=5 cannot stop.*kl_weight.*from epoch \d+ of 10 on"
    ):
        run(objective=lfm.ELBO(kl_weight=weight), epochs=10, patience=5)


# Batches -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("engine", ENGINES)
def test_drop_last_leaves_the_last_batch_out(engine):
    sizes = []

    class Watched(nn.Linear):
        def forward(self, x):
            if self.training:
                sizes.append(len(x))
            return super().forward(x)

    done = run(encoder=lambda i, o: Watched(i, o), drop_last=True, batch_size=10, epochs=4, engine=engine)
    assert [record["step"] for record in done.history] == [3, 6, 9, 12]
    assert set(sizes[-12:]) == {10}
    assert run(drop_last=True, batch_size=100, epochs=2).history[-1]["step"] == 2  # one batch of all rows
    assert run(drop_last=True, batch_size=11, epochs=2).history[-1]["step"] == 6
    with pytest.raises(lfm.DeclarationError, match="drop_last must be True or False; got 'yes'"):
        run(drop_last="yes")


def test_the_rows_that_are_left_out_are_others_in_every_epoch():
    table = lfm.data.read(X, ["x"])
    from pyro_lfm.data.feed import Feed

    feed = Feed(table, 10, torch.float32, "cpu", torch.Generator().manual_seed(0), drop_last=True)
    epochs = [torch.cat([index.clone() for index, _ in feed.epoch()]) for _ in range(20)]
    assert all(len(epoch) == len(set(epoch.tolist())) == 30 for epoch in epochs)
    assert set(torch.cat(epochs).tolist()) == set(range(33))


# Other threads -----------------------------------------------------------------------------------------------


def test_a_thread_that_takes_turns_disturbs_no_fit_and_keeps_its_own_numbers():
    """torch has one stream for the process: who draws inside ``isolated()`` waits for the fit's step, and gets its own."""
    expected = [record["bound"] for record in run(epochs=30).history]
    ready, drawn = threading.Event(), []

    def draw():
        ready.wait(10)
        for _ in range(20):
            with isolated():
                drawn.append(torch.rand(()).item())

    thread = threading.Thread(target=draw)
    thread.start()
    torch.manual_seed(0)
    done = run(epochs=30, callbacks=[lambda record, fit: ready.set()])
    thread.join()
    assert [record["bound"] for record in done.history] == expected
    assert len(set(drawn)) == 20


def test_a_thread_that_takes_numbers_out_of_the_fits_stream_is_noticed():
    """False alarm and miss: none seen; a draw that never stops falls into some backward pass of 90 steps."""
    stop = threading.Event()

    def draw():
        while not stop.is_set():
            torch.rand(())

    thread = threading.Thread(target=draw)
    thread.start()
    try:
        with pytest.warns(lfm.RandomStreamWarning, match="torch.Generator of its own") as caught:
            run(epochs=30)
    finally:
        stop.set()
        thread.join()
    assert len([w for w in caught if w.category is lfm.RandomStreamWarning]) == 1


def test_threads_with_generators_of_their_own_do_not_disturb_a_fit():
    stop, generator = threading.Event(), torch.Generator().manual_seed(0)

    def draw():
        while not stop.is_set():
            torch.rand((), generator=generator)

    expected = [record["bound"] for record in run(epochs=10).history]
    thread = threading.Thread(target=draw)
    thread.start()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", lfm.RandomStreamWarning)
            bounds = [record["bound"] for record in run(epochs=10).history]
    finally:
        stop.set()
        thread.join()
    assert bounds == expected


def test_rows_may_be_changed_by_a_callback_while_they_are_fitted():
    """Such as noise that is drawn anew: what was fitted is then no longer there to be asked for."""
    rows = X.clone()
    done = run(data=rows, callbacks=[lambda record, fit: rows.add_(0.1 * torch.randn(33, 4)) is None])
    assert len(done.history) == 2
    with pytest.raises(lfm.DataError, match="have changed since the fit began"):
        done.posterior()


def test_a_failed_device_does_not_hide_the_first_error(monkeypatch):
    """As after an assertion on a GPU: neither rows nor weights can be fetched, and what came first is said."""
    from pyro_lfm.inference.svi.snapshots import Snapshot

    def dead(*_):
        raise RuntimeError("CUDA error: device-side assert triggered")

    monkeypatch.setattr(Snapshot, "restore", dead)
    monkeypatch.setattr("pyro_lfm.inference.svi.loop.Loop.batch", dead)
    with pytest.raises(lfm.TrainingError, match="KeyError: 'first' in epoch 1.*the weights are lost"):
        run(model=broken_program(KeyError("first")))


@pytest.mark.parametrize("options", [{}, {"patience": 3}])
def test_a_schedule_is_called_once_for_each_step(options):
    """Whoever else asks, for the end value say, moves no counter: in an object, a closure or a global."""
    asked = []

    class Counting:
        calls = 0

        def __call__(self, done):
            self.calls += 1
            return 1.0

    def listing(done):
        asked.append(done)
        return 1.0

    counting = Counting()
    objective = lfm.Penalised(lfm.ELBO(kl_weight=counting), lfm.TotalCorrelation(listing))
    model = lfm.Model(z=lfm.StandardNormal(2), x=lfm.Gaussian(4, mean=lfm.MLP(5)))
    svi = lfm.SVI(
        lfm.Guide(model, z=lfm.Gaussian(network=lfm.MLP(5))),
        objective=objective,
        epochs=2,
        batch_size=10,
        **options,
    )
    rows = torch.randn(40, 4)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", lfm.ScheduleWarning)
        fit = lfm.fit(model, rows[:30], svi, validation=rows[30:], seed=0, progress=False)
    fit.bound(rows)
    assert counting.calls == len(asked) == 6


def test_only_true_from_a_callback_stops_a_fit():
    model = lfm.Model(z=lfm.StandardNormal(1), x=lfm.Gaussian(2, mean=lfm.Linear()))
    for answer, epochs in [([1], 3), (0.5, 3), (None, 3), (True, 1), (np.True_, 1), (torch.tensor(True), 1)]:
        svi = lfm.SVI(lfm.Guide(model, z=lfm.Gaussian(network=lfm.MLP(3))), epochs=3)
        callback = lambda record, fit, answer=answer: answer  # noqa: E731
        assert (
            len(lfm.fit(model, torch.randn(9, 2), svi, seed=0, callbacks=[callback], progress=False).history)
            == epochs
        )


def test_a_fit_of_grouped_rows_ends():
    """Floors are looked at given what rows of a group share, which is no variable of a row."""
    model = lfm.Model(
        site=lfm.Covariate(support=constraints.integer_interval(0, 2)),
        g=lfm.PerGroup(lfm.StandardNormal(2), given="site"),
        z=lfm.StandardNormal(2),
        x=lfm.Gaussian(4, mean=lfm.MLP(5), covariance=lfm.Diagonal(lfm.MLP(5)), given=("g", "z")),
    )
    svi = lfm.SVI(lfm.Guide(model, z=lfm.Gaussian(network=lfm.MLP(5))), epochs=1)
    rows = {"site": torch.arange(9.0) % 3, "x": torch.randn(9, 4)}
    assert len(lfm.fit(model, rows, svi, seed=0, progress=False).history) == 1

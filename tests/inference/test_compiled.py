"""Compiled steps give the numbers of eager ones over all cases, or fall back to eager with a warning."""

import ast
import copy
import gc
import logging
import math
import random
import time
from pathlib import Path

import cases
import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from native_code import agree, apart, falls_back, fitted, with_guide
from torch import nn

import pyro_lfm as lfm
from pyro_lfm.inference.engines import choice, tracing
from pyro_lfm.inference.engines.choice import choose
from pyro_lfm.inference.engines.compiled import Compiled
from pyro_lfm.inference.engines.eager import Eager
from pyro_lfm.inference.engines.engine import Setup
from pyro_lfm.runtime import Stream

PACKAGE = Path(lfm.__file__).parent


@pytest.fixture(autouse=True)
def by_torch(monkeypatch):
    """Native code of torch's own compiler; test_xla.py is about XLA."""
    monkeypatch.setattr(choice, "xla_serves", lambda setup: False)


def with_gaps(model):
    """Rows from the model with an entry of what it models missing here and there."""
    rows = {name: value.to(torch.float32, copy=True) for name, value in cases.rows_of(model).items()}
    for name in rows.keys() - set(model.covariates):
        rows[name].view(len(rows[name]), -1)[::3, 0] = torch.nan
    return rows


def with_gaps_of_rows(model):
    return {
        name: torch.where(torch.arange(len(v))[:, None] % 3 == 0, torch.nan, v)
        for name, v in cases.rows_of(model).items()
    }


# The same numbers ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", cases.MODELS)
def test_every_model_is_recorded_as_it_is(name, replay):
    agree(lambda: with_guide(cases.MODELS[name]()), cases.rows_of)


@pytest.mark.parametrize("name", cases.OBJECTIVES)
def test_every_objective_is_recorded_as_it_is(name, replay):
    agree(lambda: with_guide(cases.plain()), cases.rows_of, objective=cases.OBJECTIVES[name]())


@pytest.mark.parametrize("name", cases.GUIDES)
def test_every_guide_is_recorded_as_it_is(name, replay):
    agree(lambda: with_guide(cases.plain(), name), cases.rows_of)


@pytest.mark.parametrize("name", cases.MESSAGES)
def test_every_message_is_recorded_as_it_is(name, replay):
    def make():
        model = cases.MODELS[name]()
        return model, cases.message_guide(model)

    agree(make, cases.rows_of)
    agree(make, cases.rows_of, objective=lfm.ELBO(gradient="sticking-the-landing", particles=2))


@pytest.mark.parametrize("name", cases.PRIORS)
def test_every_prior_is_recorded_as_it_is(name, replay):
    agree(lambda: with_guide(cases.one_latent(prior=name)), cases.rows_of)


@pytest.mark.parametrize("name", cases.LIKELIHOODS)
def test_every_likelihood_is_recorded_as_it_is_with_gaps_too(name, replay):
    make = lambda: with_guide(cases.one_latent(likelihood=name))  # noqa: E731
    agree(make, cases.rows_of)
    if name == "dirichlet":  # whether its rows are whole is looked up in every batch
        falls_back(make, with_gaps_of_rows, "depends on the value of a tensor in masking.py")
    else:
        agree(make, with_gaps)


# Native code takes some ten seconds a guide. Recorded graphs of all guides are compared above.
FIRST = ("per-row-full",)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in FIRST else pytest.mark.slow) for name in cases.GUIDES]
)
def test_fifty_epochs_of_native_code_end_where_eager_ends(name):
    """The promise is 1e-4; with an epoch's last batch ragged."""
    rows = torch.randn(70, cases.D, generator=torch.Generator().manual_seed(1))
    eager, compiled = agree(
        lambda: with_guide(cases.plain(), name), rows, tolerance=1e-4, epochs=50, batch_size=16
    )
    again, _ = fitted("compiled", lambda: with_guide(cases.plain(), name), rows, epochs=50, batch_size=16)
    assert apart(compiled, again) == 0.0  # bit for bit
    assert [r["bound"] for r in compiled.history] == [r["bound"] for r in again.history]


def regular(width=8, **options):
    return nn.Sequential(
        nn.Linear(cases.D, width), nn.BatchNorm1d(width), nn.ReLU(), nn.Dropout(0.2), nn.Linear(width, 6)
    )


def test_native_code_of_dropout_and_batch_normalisation():
    """Also their running statistics; a bias before a batch normalisation has a true gradient of zero, left out."""

    def make():
        model = cases.plain()
        encoder = regular()
        encoder[0].bias = None
        return model, lfm.Guide(model, z=lfm.Gaussian(network=encoder))

    validation = torch.randn(9, cases.D)
    eager, compiled = agree(make, torch.randn(40, cases.D), epochs=6, batch_size=16)
    assert torch.allclose(eager.bound(validation), compiled.bound(validation), rtol=1e-4)


def test_native_code_of_convolutions():
    """Wide enough for channels last, whose layout the optimizer's state must follow."""

    def make():
        model = lfm.Model(z=lfm.StandardNormal(2), x=lfm.Bernoulli((1, 8, 8), logits=lfm.Convolutional(32)))
        return model, lfm.Guide(model, z=lfm.Gaussian(network=lfm.Convolutional(32)))

    agree(make, torch.rand(20, 1, 8, 8).round(), tolerance=1e-4)


def test_native_code_of_a_program_by_hand_under_pyros_own_bound():
    make = lambda: with_guide(cases.GammaDirichlet())  # noqa: E731
    agree(make, cases.rows_of, objective=pyro.infer.Trace_ELBO())


def test_native_code_in_double_precision_is_the_same_to_rounding():
    eager, compiled = agree(lambda: tuple(p.double() for p in with_guide(cases.plain())), cases.rows_of)
    assert apart(eager, compiled) < 1e-12


# What changes while it trains ----------------------------------------------------------------------------


def ramp(fraction):
    return min(1.0, 2 * fraction)


@pytest.mark.parametrize(
    "options",
    [
        {"objective": lfm.ELBO(kl_weight=ramp)},
        {"schedule": lambda fraction: 1 - fraction},
        {"alternate": 2, "batch_size": 4},
        {"optimizer": torch.optim.SGD},
        {"optimizer": torch.optim.RMSprop},
        {"optimizer": torch.optim.AdamW},
        {"optimizer": lambda p, lr: torch.optim.Adam(p, lr=lr, amsgrad=True, weight_decay=0.1)},
        {"clip_norm": 0.1},
    ],
    ids=["kl-weight", "rate", "alternate", "sgd", "rmsprop", "adamw", "amsgrad", "clip-norm"],
)
def test_schedules_and_optimizers_are_followed(options, replay):
    made = []

    def counting(graph, inputs):
        made.append(graph)
        return graph

    tracing.native = counting
    agree(lambda: with_guide(cases.plain()), cases.rows_of, epochs=6, **options)
    assert len(made) == (2 if "alternate" in options else 1)  # nothing is compiled anew


class Scaled(nn.Module):
    """A network with a plain value, a tensor, and a way to hang on what it sees."""

    def __init__(self, in_size, out_size):
        super().__init__()
        self.linear = nn.Linear(in_size, out_size)
        self.plain, self.tensor, self.behave = 1.0, torch.tensor(1.0), None

    def forward(self, context):
        scale = self.plain * self.tensor * (self.behave(self, context) if self.behave else 1.0)
        return self.linear(context) * scale


def scaled(behave=None):
    model = lfm.Model(z=lfm.StandardNormal(3), x=lfm.Gaussian(cases.D, mean=Scaled))
    inner(model).behave = behave
    return with_guide(model)


def inner(model):
    return next(module for module in model.modules() if isinstance(module, Scaled))


def each_epoch(change):
    return lambda model: [lambda record, fit: change(inner(model), record["epoch"])]


CHANGES = {
    "plain-value-once": lambda net, epoch: setattr(net, "plain", 1.0 + (epoch >= 2)),
    "tensor-in-place": lambda net, epoch: net.tensor.fill_(1 + 0.1 * epoch) and None,
    "new-memory": lambda net, epoch: setattr(net.linear.weight, "data", 0.9 * net.linear.weight.data),
    "new-weights": lambda net, epoch: (
        net.linear.load_state_dict({n: 0.9 * v for n, v in net.linear.state_dict().items()}) and None
    ),
}


@pytest.mark.parametrize("name", CHANGES)
def test_changes_by_a_callback_are_followed(name, replay):
    agree(scaled, cases.rows_of, epochs=5, callbacks=each_epoch(CHANGES[name]))


def test_a_value_that_changes_again_and_again_is_left_to_eager(replay):
    change = each_epoch(lambda net, epoch: setattr(net, "plain", 1.0 + 0.1 * epoch))
    falls_back(scaled, cases.rows_of, "changes again and again", epochs=6, callbacks=change)


def test_evaluation_mode_set_by_a_callback_is_followed(replay):
    def make():
        return with_guide(
            lfm.Model(z=lfm.StandardNormal(3), x=lfm.Gaussian(cases.D, mean=lfm.MLP(8, dropout=0.3)))
        )

    stop = lambda model: [lambda record, fit: model.eval() and None]  # noqa: E731
    agree(make, cases.rows_of, epochs=4, callbacks=stop)


# What cannot be compiled ---------------------------------------------------------------------------------


def counted(net, context):
    net.plain += 0.1
    return 1.0


def by_value(net, context):
    if context.sum() > 0:
        return 2.0
    return 1.0


def through_numpy(net, context):
    return torch.from_numpy(np.abs(context.detach().numpy()).mean(-1, keepdims=True))


BEHAVIOURS = {
    "python-random": (lambda net, context: 1 + random.random(), "Python's or NumPy's random numbers"),
    "numpy-random": (lambda net, context: 1 + np.random.random(), "Python's or NumPy's random numbers"),
    "counter": (counted, "it changes model.factors.x.parts.mean.network.plain whenever it runs"),
    "control-flow": (by_value, "test_compiled.py, line"),
    "through-numpy": (through_numpy, "compiled"),
}


@pytest.mark.parametrize("name", BEHAVIOURS)
def test_what_cannot_be_recorded_warns_once_and_is_done_in_eager(name, replay):
    behave, reason = BEHAVIOURS[name]
    falls_back(lambda: scaled(behave), cases.rows_of, reason)


def test_a_compiler_that_fails_does_not_stop_the_fit(monkeypatch):
    def broken(*arguments, **options):
        raise RuntimeError("no compiler here\nat all")

    monkeypatch.setattr(torch._inductor, "compile", broken)
    falls_back(lambda: with_guide(cases.plain()), cases.rows_of, "the compiler failed: no compiler here")


def test_wrong_native_code_is_not_used(monkeypatch):
    def wrong(graph, inputs):
        return lambda *arguments: [1.01 * output for output in graph(*arguments)]

    monkeypatch.setattr(tracing, "native", wrong)
    falls_back(lambda: with_guide(cases.plain()), cases.rows_of, "nats per row compiled")


def test_a_refusal_by_a_distribution_has_the_same_message_in_a_compiled_step(replay):
    """Scales that training makes negative: in eager the distribution raises; recorded, the check is part of the loss."""

    class Negative(lfm.PyroModel):
        def __init__(self):
            super().__init__()
            self.scale = nn.Parameter(torch.tensor(0.05))

        def forward(self, batch):
            with batch.plate():
                z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
                pyro.sample("x", dist.Laplace(z, 1.0).to_event(1), obs=batch["x"])
                pyro.factor("pull", dist.Normal(0.0, self.scale).log_prob(torch.tensor(0.0)))

    messages = []
    for engine in ("eager", "compiled"):
        model = Negative()
        guide = lfm.Guide(model, z=lfm.Gaussian(network=lfm.MLP(4)))
        svi = lfm.SVI(guide, epochs=50, batch_size=5, learning_rate=0.02, engine=engine)
        with pytest.raises(lfm.TrainingError, match="a distribution refuses its parameters") as caught:
            lfm.fit(model, torch.zeros(20, 2), svi, seed=0, progress=False)
        messages.append(str(caught.value))
    assert messages[0] == messages[1]


def test_a_gradient_that_breaks_is_traced_to_its_batch(replay):
    """√|x − 7| has an infinite gradient at 7: the loss is finite, the step after it is not."""

    class Root(lfm.PyroModel):
        def __init__(self):
            super().__init__()
            self.shift = nn.Parameter(torch.zeros(()))

        def forward(self, batch):
            with batch.plate():
                z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
                x = batch["x"]
                extra = 0.0 if x is None else (x[:, :1] + 0 * self.shift - 7.0).abs().sqrt()
                pyro.sample("x", dist.Normal(z + self.shift + 0 * extra, 1.0).to_event(1), obs=x)

    data = torch.randn(20, 2, generator=torch.Generator().manual_seed(0))
    data[13] = 7.0
    model = Root()
    guide = lfm.Guide(model, z=lfm.Gaussian(network=lfm.MLP(4)))
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(lfm.TrainingError) as caught:
        svi = lfm.SVI(guide, epochs=1, batch_size=5, engine="compiled", max_skipped=0)
        lfm.fit(model, data, svi, seed=0, progress=False)
    assert 13 in caught.value.rows and caught.value.parameter == "model.shift"
    assert all(torch.equal(before[n], v) for n, v in model.state_dict().items())


# The choice ----------------------------------------------------------------------------------------------


def setup_of(rows=60_000, features=784, width=400):
    model = lfm.Model(z=lfm.StandardNormal(20), x=lfm.Bernoulli(features, logits=lfm.MLP(width)))
    guide = lfm.Guide(model, z=lfm.Gaussian(network=lfm.MLP(width)))
    return Setup(model, guide, torch.optim.Adam, 1e-3, Stream(0), rows)


def test_auto_compiles_what_is_long_enough_and_logs_why(caplog):
    caplog.set_level(logging.INFO, "pyro_lfm")
    short = choose("auto", setup_of(1797, 64, 64), 15 * 50, 128)
    assert isinstance(short, Compiled) and [*short.compilers] == ["replay"] and short.after == 5
    assert "steps are replayed after 5 steps" in caplog.messages[-1]
    shorter = choose("auto", setup_of(1797, 64, 64), 15 * 5, 128)
    assert isinstance(shorter, Eager) and "recording a step would save about 0.1 s" in caplog.messages[-1]
    long = choose("auto", setup_of(), 469 * 50, 128)
    assert isinstance(long, Compiled) and long.after == 469 and long.sizes == {128}
    assert "compiled by torch's compiler for batches of 128 rows after 469 steps" in caplog.messages[-1]
    many = choose("auto", setup_of(10_000_000), 78_125, 128)
    assert isinstance(many, Compiled) and many.after == choice.FIRST  # within the only epoch
    both = choose("compiled", setup_of(1000, 64, 64), 10 * 100_000, 128)
    assert both.sizes == {128, 1000 % 128} and both.after == 0


def test_auto_changes_from_eager_to_compiled_after_an_epoch(replay, monkeypatch):
    monkeypatch.setattr(choice, "COMPILING", 0.0)
    eager, _ = fitted("eager", lambda: with_guide(cases.plain()), cases.rows_of, epochs=6)
    auto, said = fitted("auto", lambda: with_guide(cases.plain()), cases.rows_of, epochs=6)
    assert not said and apart(eager, auto) < 1e-6


def test_an_untested_version_warns_and_auto_stays_with_eager(monkeypatch, caplog, replay):
    caplog.set_level(logging.INFO, "pyro_lfm")
    monkeypatch.setattr(tracing, "version", lambda package: "99.0.1")
    assert (
        tracing.untested() == "compiled steps were tested with torch from 2.13 to before 2.14; this is 99.0.1"
    )
    assert isinstance(choose("auto", setup_of(), 469 * 50, 128), Eager)
    assert "this is 99.0.1" in caplog.messages[-1]
    _, said = fitted("compiled", lambda: with_guide(cases.plain()), cases.rows_of)
    assert len(said) == 1 and "99.0.1" in said[0]


def test_the_installed_versions_are_among_the_tested():
    assert tracing.untested() is None


def test_private_names_of_torch_and_pyro_stand_in_one_place():
    """But for those of PyroModules, which have a place of their own."""
    for path in PACKAGE.rglob("*.py"):
        if path.name in ("adam_kernels.py", "tracing.py", "pyro_modules.py"):
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if (
                isinstance(node, ast.Attribute)
                and node.attr.startswith("_")
                and not node.attr.startswith("__")
            ):
                root = ast.unparse(node.value).split(".")[0]
                assert root not in ("torch", "pyro", "dist"), f"{path.name}: {ast.unparse(node)}"


def test_a_checkpoint_goes_from_engine_to_engine(tmp_path, replay):
    def run(engine, epochs, path):
        torch.manual_seed(0)
        model, guide = with_guide(cases.plain())
        svi = lfm.SVI(guide, epochs=epochs, batch_size=5, engine=engine)
        stop = [lambda record, fit: record["epoch"] == 2] if epochs == 4 and engine == "compiled" else []
        return lfm.fit(
            model, cases.rows_of(model), svi, seed=0, checkpoint=path, callbacks=stop, progress=False
        )

    whole = run("eager", 4, tmp_path / "whole")
    run("compiled", 4, tmp_path / "parts")
    assert apart(whole, run("eager", 4, tmp_path / "parts")) < 1e-6


def test_code_that_runs_as_garbage_is_collected_is_no_part_of_the_program(replay):
    def read_a_clock(phase, info):
        time.perf_counter()

    threshold = gc.get_threshold()
    gc.callbacks.append(read_a_clock)
    gc.set_threshold(10)
    try:
        agree(lambda: with_guide(cases.plain()), cases.rows_of)
    finally:
        gc.callbacks.remove(read_a_clock)
        gc.set_threshold(*threshold)


def test_the_process_is_left_as_it_was():
    names = {id(torch._is_all_true): "torch._is_all_true"}
    random.seed(3)
    expected = random.Random(3).random()
    settings = pyro.settings.get(), torch.distributions.Distribution._validate_args
    tiny = torch.tensor(torch.finfo(torch.float32).tiny)
    fitted_state = random.getstate()
    torch.manual_seed(5)
    drawn = torch.rand(3)
    model, guide = with_guide(cases.plain())
    data = cases.rows_of(model)
    torch.manual_seed(5)
    lfm.fit(model, data, lfm.SVI(guide, epochs=1, batch_size=5, engine="compiled"), seed=0, progress=False)
    assert torch.equal(torch.rand(3), drawn)
    assert random.getstate() == fitted_state and random.random() == expected
    assert (pyro.settings.get(), torch.distributions.Distribution._validate_args) == settings
    assert id(torch._is_all_true) in names and bool(tiny * 0.5 > 0)  # denormals again
    assert not list(pyro.get_param_store())


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
def test_native_code_on_a_gpu():
    agree(
        lambda: with_guide(cases.plain()), torch.randn(70, cases.D), tolerance=1e-3, epochs=20, batch_size=16
    )


def test_the_first_epoch_of_auto_is_eager():
    engine = choose("auto", setup_of(), 469 * 50, 128)
    assert math.isclose(choice.saving(setup_of(), 128), 1e-3 + 0.2 * 6 * 128 * 649_000 / 5e10, rel_tol=0.05)
    assert engine.number == 0 and engine.after == 469

"""A step that is not finite is skipped, counted and told, under every engine; too many in a row end the fit in words."""

import math
import warnings

import pyro
import pyro.distributions as dist
import pytest
import torch
from native_code import apart
from torch import nn

import pyro_lfm as lfm
from pyro_lfm.inference.engines.compiled import Compiled
from pyro_lfm.inference.engines.kept_buffers import KeptBuffers
from pyro_lfm.inference.engines.recorded_step import Step

ENGINES = ["eager", "pyro", "compiled"]
BAD = 7.0  # the first entry of a row that breaks a step


def rows(*bad, n=20):
    x = torch.randn(n, 3, generator=torch.Generator().manual_seed(0))
    x[list(bad), 0] = BAD
    return x


class Kink(nn.Module):
    """A gradient that is NaN on a bad row, where the value is finite: √ at zero."""

    def __init__(self, inputs, outputs):
        super().__init__()
        self.layer, self.slope = nn.Linear(inputs, outputs), nn.Parameter(torch.ones(()))

    def forward(self, x):
        return self.layer(x) + (self.slope * (x[:, :1] - BAD)).abs().sqrt()


class Pole(nn.Module):
    """A value that is infinite on a bad row."""

    def __init__(self, inputs, outputs):
        super().__init__()
        self.layer = nn.Linear(inputs, outputs)

    def forward(self, x):
        return self.layer(x) / torch.where(x[:, :1] == BAD, 0.0, 1.0)


class Steep(nn.Module):
    """A gradient of a bad row that is finite, but whose square is infinite in single precision."""

    def __init__(self, inputs, outputs):
        super().__init__()
        self.layer, self.slope = nn.Linear(inputs, outputs), nn.Parameter(torch.zeros(2))

    def forward(self, x):
        nothing = (self.slope - self.slope.detach()).sum()
        return self.layer(x) + nothing * torch.where(x[:, :1] == BAD, 1e30, 0.0)


def declare(encoder=Kink):
    torch.manual_seed(0)
    model = lfm.Model(z=lfm.StandardNormal(2), x=lfm.Gaussian(3, mean=lfm.MLP(4)))
    return model, lfm.Guide(model, z=lfm.Gaussian(network=encoder))


def fitted(declared, data, callbacks=(), checkpoint=None, **options):
    """The fit and its warnings of skipped steps."""
    model, guide = declared
    svi = lfm.SVI(guide, **{"epochs": 4, "batch_size": 5, "engine": "eager", **options})
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        fit = lfm.fit(model, data, svi, seed=0, callbacks=callbacks, checkpoint=checkpoint, progress=False)
    assert not [w for w in caught if w.category is lfm.CompilationWarning]
    return fit, [str(w.message) for w in caught if w.category is lfm.SkippedStepWarning]


def parameters(fit):
    return [p for program in (fit.model, fit.guide) for p in program.parameters()]


# What a skipped step leaves alone --------------------------------------------------------------------------


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(("network", "what"), [(Kink, "gradient"), (Pole, "loss"), (Steep, "square of the")])
def test_a_bad_step_is_skipped_counted_and_told_once(engine, network, what, replay):
    made = []

    def adam(trained, lr):
        made.append(torch.optim.Adam(trained, lr=lr))
        return made[-1]

    fit, messages = fitted(declare(network), rows(13), engine=engine, optimizer=adam)
    assert [record["skipped"] for record in fit.history] == [1, 1, 1, 1] and fit.skipped == 4
    assert all(math.isfinite(record["bound"]) for record in fit.history)
    assert all(bool(p.isfinite().all()) for p in parameters(fit))
    states = [state for optimizer in made for state in optimizer.state.values()]
    assert states and all(int(state["step"]) == 12 for state in states)  # of 16
    assert all(bool(state["exp_avg_sq"].isfinite().all()) for state in states)
    (message,) = messages
    assert f"the {what}" in message and "is not finite in epoch 1" in message and "13" in message
    if network is not Pole:
        assert "parameter guide.factors.z.parts.network.network.slope" in message
    assert "factor z" in message and "more than 10 in a row end the fit, see SVI(max_skipped=)" in message


@pytest.mark.parametrize("network", [Kink, Pole])
def test_engines_skip_alike(network, replay):
    """The random streams go on: what follows a skipped step has the same noise everywhere."""
    first, *others = [fitted(declare(network), rows(13, 4), engine=engine)[0] for engine in ENGINES]
    for other in others:
        assert [r["skipped"] for r in other.history] == [r["skipped"] for r in first.history]
        assert [r["bound"] for r in other.history] == pytest.approx(
            [r["bound"] for r in first.history], rel=1e-3
        )
    assert apart(first, others[1]) < 1e-5


def test_an_epoch_is_the_mean_of_the_steps_taken():
    """The bounds of an epoch without steps that move weights: the bad row's batch is left out."""
    one = [fitted(declare(), rows(13), epochs=1, optimizer=torch.optim.SGD, learning_rate=1e-30, batch_size=b)[0]
           for b in (1, 5)]  # fmt: skip
    bounds = torch.cat([fit.bound(rows(13)) for fit in one[:1]])
    assert one[0].history[0]["bound"] == pytest.approx(float(bounds[torch.arange(20) != 13].mean()), abs=3.0)
    assert one[1].history[0]["skipped"] == 1 and math.isfinite(one[1].history[0]["reconstruction"])


@pytest.mark.parametrize("engine", ["eager", "pyro"])
def test_rows_of_tables_and_statistics_of_networks_do_not_move(engine):
    class Norm(nn.Module):
        def __init__(self, inputs, outputs):
            super().__init__()
            self.layer, self.norm = nn.Linear(inputs, outputs), nn.BatchNorm1d(outputs)

        def forward(self, x):
            return self.norm(self.layer(x) / torch.where(x[:, :1] == BAD, 0.0, 1.0))

    fit, _ = fitted(declare(Norm), rows(13), engine=engine)
    assert fit.skipped == 4 and all(bool(b.isfinite().all()) for b in fit.guide.buffers())
    assert int(fit.guide.state_dict()["factors.z.parts.network.network.norm.num_batches_tracked"]) == 12

    class Fragile(lfm.PyroModel):
        def __init__(self):
            super().__init__()
            self.shift = nn.Parameter(torch.zeros(3))

        def forward(self, batch):
            with batch.plate():
                z = pyro.sample("z", dist.Normal(torch.zeros(3), 1.0).to_event(1))
                x = batch["x"]
                slope = 1.0 if x is None else (x[:, :1] - BAD).abs().sqrt() * (z - z + 1.0)
                loc = z + self.shift * slope.rsqrt() if x is not None else z
                pyro.sample("x", dist.Normal(loc, 1.0, validate_args=False).to_event(1), obs=x)

    torch.manual_seed(0)
    model = Fragile()
    guide = lfm.Guide(model, z=lfm.Gaussian(network=lfm.PerRow()))
    fit, _ = fitted((model, guide), rows(13), engine=engine, batch_size=1)
    (table,) = fit.guide.tables
    moved = (table.rows - table.start).abs().amax(1) > 0
    assert fit.skipped == 4 and not moved[13] and int(moved.sum()) == 19


def test_a_device_skips_by_itself(monkeypatch, replay):
    """As on a GPU, where Python does not wait for each step: the fused kernel skips, and the count comes later."""
    start, build = Compiled.__init__, Step.__init__

    def starting(self, *arguments, **options):
        start(self, *arguments, **options)
        self._waits = False

    def building(self, *arguments):
        build(self, *arguments)
        self._on_cpu = False

    with monkeypatch.context() as patch:
        patch.setattr(Compiled, "__init__", starting)
        patch.setattr(Step, "__init__", building)
        lazy, messages = fitted(declare(Pole), rows(13), engine="compiled")
    waiting, _ = fitted(declare(Pole), rows(13), engine="compiled")
    assert [r["skipped"] for r in lazy.history] == [1, 1, 1, 1] and len(messages) == 1
    assert apart(lazy, waiting) < 1e-6


@pytest.mark.parametrize("replaced", [False, True])
def test_buffers_are_put_back(replaced):
    module = nn.Module()
    module.register_buffer("count", torch.zeros(2))
    module.register_buffer("none", None)
    kept = KeptBuffers([module])
    for _ in range(2):
        kept.keep()
        before = module.count.clone()
        if replaced:
            module.count = module.count + 1
        else:
            module.count += 1
        kept.restore()
        assert torch.equal(module.count, before)
        module.count += 5  # a change that stays
    kept.keep()
    kept.restore()
    assert torch.equal(module.count, torch.full((2,), 10.0))


# Refusals ---------------------------------------------------------------------------------------------------


class Refusing(lfm.PyroModel):
    """Raises on a bad row: a distribution that is given NaN, or a matrix that is not positive definite."""

    def __init__(self, kind):
        super().__init__()
        self.shift, self.kind = nn.Parameter(torch.zeros(3)), kind

    def forward(self, batch):
        x = batch["x"]
        bad = torch.zeros(()) if x is None else (x == BAD).any().float()
        with batch.plate():
            z = pyro.sample("z", dist.Normal(torch.zeros(3), 1.0).to_event(1))
            loc = z + self.shift
            if self.kind == "matrix":
                loc = loc * torch.linalg.cholesky(torch.eye(2) * (1 - 2 * bad))[0, 0]
            elif self.kind == "nan":
                loc = loc + 0.0 * (1 - bad).log()
            scale = 1 - 2 * bad if self.kind == "negative" else 1.0
            pyro.sample("x", dist.Normal(loc, scale, validate_args=True).to_event(1), obs=x)


def refusing(kind):
    torch.manual_seed(0)
    model = Refusing(kind)
    return model, lfm.Guide(model, z=lfm.Gaussian(network=lfm.MLP(4)))


@pytest.mark.parametrize("engine", ["eager", "pyro"])
@pytest.mark.parametrize(
    ("kind", "words"), [("nan", "refuses its parameters"), ("matrix", "linalg.cholesky")]
)
def test_a_refusal_of_numbers_that_are_not_finite_is_a_skipped_step(engine, kind, words):
    fit, (message,) = fitted(refusing(kind), rows(13), engine=engine)
    assert [record["skipped"] for record in fit.history] == [1, 1, 1, 1] and words in message
    with pytest.raises(lfm.TrainingError, match=words) as caught:
        fitted(refusing(kind), rows(13), engine=engine, max_skipped=0)
    assert 13 in caught.value.rows and caught.value.__cause__ is None


@pytest.mark.parametrize("engine", ["eager", "pyro"])
def test_a_refusal_of_finite_numbers_ends_the_fit_at_once(engine):
    with pytest.raises(lfm.TrainingError, match="refuses its parameters .*scale"):
        fitted(refusing("negative"), rows(13), engine=engine)


# The end of a fit -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("engine", ENGINES)
def test_too_many_in_a_row_end_the_fit_in_words(engine, tmp_path, replay):
    data, seen = rows(), []

    def spoil(record, fit):
        seen.append([p.detach().clone() for p in parameters(fit)])
        seen.append(fit)
        if record["epoch"] == 2:
            data[:, 0] = BAD

    with pytest.raises(lfm.TrainingError) as caught:
        path = tmp_path / "run"
        fitted(declare(), data, [spoil], path, engine=engine, batch_size=2, max_skipped=3)
    words, error = str(caught.value), caught.value
    assert "the gradient is not finite in epoch 3, factor z" in words
    assert "4 steps in a row were skipped; the weights from before epoch 3 are restored" in words
    assert (
        f"checkpoint {path} holds the fit after epoch 2: the same call goes on from it with a larger" in words
    )
    assert "a lower learning_rate" in words and error.__cause__ is None
    assert (error.epoch, error.factor, len(error.rows)) == (3, "z", 2)
    assert error.parameter == "guide.factors.z.parts.network.network.slope"
    before, fit = seen[-2:]
    assert all(torch.equal(a, b) for a, b in zip(before, parameters(fit), strict=True))
    assert len(fit.history) == 2 and fit.skipped == 0


@pytest.mark.parametrize("engine", ["eager", "pyro"])
def test_none_may_be_skipped(engine):
    with pytest.raises(lfm.TrainingError, match="the gradient is not finite in epoch 1") as caught:
        fitted(declare(), rows(13), engine=engine, max_skipped=0)
    assert 13 in caught.value.rows and "in a row" not in str(caught.value)


def test_a_step_that_is_taken_begins_the_count_again():
    fit, _ = fitted(declare(), rows(*range(0, 20, 2)), batch_size=1, max_skipped=8)
    assert fit.skipped == 40
    with pytest.raises(lfm.TrainingError, match="2 steps in a row"):
        fitted(declare(), rows(*range(0, 20, 2)), batch_size=1, max_skipped=1)


def test_a_whole_epoch_of_skipped_steps_ends_the_fit():
    with pytest.raises(lfm.TrainingError, match=r"in epoch 1.*4 steps in a row were skipped"):
        fitted(declare(), rows(*range(20)))


def test_where_an_epoch_is_one_step_the_limit_counts_and_not_the_epoch():
    data = rows()

    def spoil(record, fit):
        data[3, 0] = BAD if record["epoch"] == 1 else 0.0

    fit, _ = fitted(declare(), data, [spoil], batch_size=20)
    assert [record["skipped"] for record in fit.history] == [0, 1, 0, 0]
    assert [math.isnan(record["bound"]) for record in fit.history] == [False, True, False, False]
    with pytest.raises(lfm.TrainingError, match="in epoch 4.*4 steps in a row were skipped"):
        fitted(declare(), rows(3), batch_size=20)
    with pytest.raises(lfm.TrainingError, match="in epoch 3.*3 steps in a row were skipped"):
        fitted(declare(), rows(3), batch_size=20, max_skipped=2)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_parameter_that_is_not_finite_ends_the_fit_at_once(engine, replay):
    """No step cures it: not one that a callback broke, and not one that a step has made infinite."""

    def ruin(record, fit):
        fit.model.factors["x"].parts["mean"].network[0].bias.data.fill_(math.nan)

    with pytest.raises(lfm.TrainingError, match="in epoch 2, factor x") as caught:
        fitted(declare(), rows(), [ruin], engine=engine)
    assert caught.value.parameter == "model.factors.x.parts.mean.network.0.bias"
    assert "in a row" not in str(caught.value)
    options = {"optimizer": torch.optim.SGD, "learning_rate": 1e38, "batch_size": 20, "epochs": 1}
    with pytest.raises(
        lfm.TrainingError, match=r"made a parameter infinite or NaN.*factor \w, parameter"
    ) as caught:
        fitted(declare(lfm.MLP(4)), 100 * rows(), engine=engine, **options)
    assert "the weights from before epoch 1 are restored" in str(caught.value)


def test_the_limit_is_a_whole_number():
    for wrong in (-1, 1.5, None, True):
        with pytest.raises(lfm.DeclarationError, match="max_skipped must be an int of at least 0"):
            lfm.SVI(declare()[1], max_skipped=wrong)

"""A fit that a signal stops at any step goes on to be, bit for bit, the fit that was never stopped."""

import cases
import pytest
import torch
from resuming import At, interrupt, same_fit

import pyro_lfm as lfm
from pyro_lfm.inference.engines import choice

ROWS = 30


def plain(guide="gaussian-full"):
    model = cases.plain()
    return model, cases.guide_for(model, cases.GUIDES[guide])


def with_prior(name):
    def make():
        model = cases.one_latent(prior=name)
        return model, cases.guide_for(model, cases.GUIDES["gaussian-diagonal"])

    return make


def of_model(make):
    def made():
        model = make()
        return model, cases.guide_for(model, cases.GUIDES["gaussian-full"])

    return made


def refined():
    model, guide = plain("gaussian-diagonal")
    return model, lfm.Refined(guide, steps=2)


def labels():
    model = lfm.Model(c=lfm.Categorical(3), x=lfm.Gaussian(cases.D, mean=lfm.MLP(5), given="c"))
    return model, lfm.Guide(model, c=lfm.Categorical(logits=lfm.MLP(5)))


def batch_norm():
    def network(inputs, outputs):
        layers = torch.nn.Linear(inputs, 6), torch.nn.BatchNorm1d(6), torch.nn.Dropout(0.2)
        return torch.nn.Sequential(*layers, torch.nn.Linear(6, outputs))

    model = lfm.Model(z=lfm.StandardNormal(2), x=lfm.Gaussian(cases.D, mean=network))
    return model, lfm.Guide(model, z=lfm.Gaussian(network=network))


def momentum(parameters, lr):
    return torch.optim.SGD(parameters, lr=lr, momentum=0.9)


CASES = {
    "plain": (plain, {}),
    "rows of their own": (lambda: plain("per-row"), {"validation": True}),
    "patience": (plain, {"patience": 2, "learning_rate": 0.1, "validation": True}),
    "alternate": (plain, {"alternate": 2}),
    "schedule": (plain, {"schedule": lfm.schedules.cosine(1.0, 0.0)}),
    "weights": (plain, {"objective": lfm.ELBO(kl_weight=lfm.schedules.linear())}),
    "clip_norm": (plain, {"clip_norm": 0.5}),
    "momentum": (plain, {"optimizer": momentum}),
    "drop_last": (batch_norm, {"drop_last": True}),
    "vamp": (with_prior("vamp"), {}),
    "exemplar": (with_prior("exemplar"), {}),
    "gaussian process": (of_model(cases.gaussian_process), {}),
    "refined": (refined, {}),
    "score functions": (labels, {"objective": lfm.ELBO(particles=3, enumerate="never")}),
    "shared": (of_model(cases.SharedScale), {}),
}


def fitted(make, path, engine="eager", validation=False, epochs=3, seed=1, **options):
    torch.manual_seed(0)
    model, guide = make()
    data = cases.rows_of(model, ROWS + 9)
    fit_on, held_out = ({n: v[a:b] for n, v in data.items()} for a, b in ((0, ROWS), (ROWS, None)))
    svi = lfm.SVI(guide, epochs=epochs, batch_size=8, engine=engine, **options)
    return lfm.fit(
        model,
        fit_on,
        svi,
        validation=held_out if validation else None,
        seed=seed,
        checkpoint=path,
        progress=False,
    )


def stopped_and_resumed(make, path, step, **options):
    """A fit that is stopped at a step, then at the next, and then goes on to its end."""
    for at in (step, 1):
        with pytest.MonkeyPatch.context() as patch:
            At(patch, at, interrupt)
            assert fitted(make, path, **options).interrupted == "SIGINT"
    with pytest.MonkeyPatch.context() as patch:
        At(patch, 0, interrupt)
        return fitted(make, path, **options)


# Steps of three epochs of four: inside the first, at the end of it, inside the second. Slow ones repeat what others show.
QUICK = {"plain": [1, 4, 6], "exemplar": [1, 6], "rows of their own": [4], "drop_last": [4]}


def steps_of(name):
    return [
        pytest.param(name, step, marks=[pytest.mark.slow] * (step not in QUICK.get(name, [6])))
        for step in (1, 4, 6)
    ]


@pytest.mark.parametrize(("name", "step"), [param for name in CASES for param in steps_of(name)])
def test_a_stop_at_any_step_changes_nothing(tmp_path, capsys, name, step):
    make, options = CASES[name]
    whole = fitted(make, None, **options)
    resumed = stopped_and_resumed(make, tmp_path / "run", step, **options)
    assert same_fit(whole, resumed) and whole.interrupted is None and resumed.interrupted is None


MAKERS = {"plain": plain, "rows of their own": lambda: plain("per-row")}
ENGINES = [
    pytest.param(
        name, engine, step, marks=[pytest.mark.slow] * ((name, step) not in [("plain", 1), ("plain", 6)])
    )
    for name in MAKERS
    for engine in ("compiled", "pyro", "auto")
    for step in (1, 2, 3, 4, 6)
]


@pytest.mark.parametrize(("name", "engine", "step"), ENGINES)
def test_a_stop_changes_nothing_under_any_engine(tmp_path, monkeypatch, replay, name, engine, step):
    monkeypatch.setattr(choice, "COMPILING", 0.0)
    whole = fitted(MAKERS[name], None, engine)
    resumed = stopped_and_resumed(MAKERS[name], tmp_path / "run", step, engine=engine)
    assert same_fit(whole, resumed)


NATIVE = [pytest.param("torch", step, marks=pytest.mark.slow) for step in (1, 2, 3, 6)] + [
    pytest.param("xla", step, marks=[pytest.mark.slow] * (step not in (3, 6))) for step in (1, 2, 3, 6)
]


@pytest.mark.parametrize(("compiler", "step"), NATIVE)
def test_native_code_begins_at_the_same_step(tmp_path, monkeypatch, compiler, step):
    """Its numbers differ from those of eager in rounding, so that one step by the other would be seen."""

    def make():
        model = lfm.Model(z=lfm.VampPrior(2, components=3), x=lfm.Gaussian(cases.D, mean=lfm.MLP(33)))
        return model, lfm.Guide(model, z=lfm.Gaussian(covariance=lfm.Full(), network=lfm.MLP(37)))

    if compiler == "xla":
        pytest.importorskip("jax")
    else:
        monkeypatch.setattr(choice, "xla_serves", lambda setup: False)
    whole = fitted(make, None, "compiled", epochs=8)
    assert not same_fit(whole, fitted(make, None, "eager", epochs=8))
    resumed = stopped_and_resumed(make, tmp_path / "run", step, engine="compiled", epochs=8)
    assert same_fit(whole, resumed)

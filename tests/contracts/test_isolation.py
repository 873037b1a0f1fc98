"""Programs share nothing by accident, and the library leaves no state in the process."""

import copy
import pickle
import subprocess
import sys
import threading

import cases
import pyro
import pytest
import torch
from torch import nn

import pyro_lfm as lfm


def fitted(seed=0, engine="auto", epochs=2, model_seed=0):
    torch.manual_seed(model_seed)
    model = cases.plain()
    guide = cases.guide_for(model, cases.GUIDES["gaussian-full"])
    data = cases.rows_of(model, 40)["x"]
    svi = lfm.SVI(guide, epochs=epochs, batch_size=16, engine=engine)
    return lfm.fit(model, data, svi, seed=seed, progress=False)


def weights(*programs):
    return [p.detach().clone() for program in programs for p in program.parameters()]


def same(first, second):
    return all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


class Named(lfm.PyroModel):
    """A model by hand whose network has the same name as that of its guide."""

    def __init__(self):
        super().__init__()
        self.net = pyro.nn.PyroModule[nn.Linear](cases.K, cases.D)

    def forward(self, batch):
        with batch.plate():
            z = pyro.sample("z", pyro.distributions.Normal(torch.zeros(cases.K), 1.0).to_event(1))
            distribution = pyro.distributions.Normal(self.net(z), 1.0).to_event(1)
            pyro.sample("x", distribution, obs=batch["x"])


class NamedGuide(lfm.PyroGuide):
    def __init__(self):
        super().__init__()
        self.net = pyro.nn.PyroModule[nn.Linear](cases.D, cases.K)

    def forward(self, batch):
        with batch.plate():
            pyro.sample("z", pyro.distributions.Normal(self.net(batch["x"]), 0.5).to_event(1))


@pytest.mark.parametrize("make", [(Named, NamedGuide), (cases.plain, None)], ids=["by-hand", "declared"])
def test_equal_names_share_nothing_under_plain_pyro(make):
    """Two models, and two guides of one model, trained in one process by pyro.infer.SVI."""
    make_model, make_guide = make
    models = [make_model(), make_model()]
    guides = [
        make_guide() if make_guide else cases.guide_for(models[0], cases.GUIDES["gaussian-full"])
        for _ in range(2)
    ]
    batch = lfm.Batch(torch.randn(cases.N, cases.D))
    idle = weights(models[1], guides[1])
    before = weights(models[0], guides[0])
    svi = pyro.infer.SVI(models[0], guides[0], pyro.optim.Adam({"lr": 0.1}), pyro.infer.Trace_ELBO())
    for _ in range(3):
        svi.step(batch)
    assert same(weights(models[1], guides[1]), idle)
    assert all(not torch.equal(a, b) for a, b in zip(weights(models[0], guides[0]), before, strict=True))
    trained = weights(models[0], guides[0])
    svi = pyro.infer.SVI(models[0], guides[1], pyro.optim.Adam({"lr": 0.1}), pyro.infer.Trace_ELBO())
    svi.step(batch)
    assert same(weights(guides[0]), trained[len(weights(models[0])) :])
    assert not same(weights(guides[1]), idle[len(weights(models[1])) :])


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_a_copy_trains_alone_under_plain_pyro(duplicate):
    model = cases.plain()
    guide = cases.guide_for(model, cases.GUIDES["gaussian-full"])
    batch = lfm.Batch(torch.randn(cases.N, cases.D))
    objective = pyro.infer.Trace_ELBO()
    pyro.infer.SVI(model, guide, pyro.optim.Adam({"lr": 0.1}), objective).step(batch)
    twin_model, twin_guide = duplicate(model), duplicate(guide)
    before = weights(model, guide)
    assert same(before, weights(twin_model, twin_guide))
    pyro.infer.SVI(twin_model, twin_guide, pyro.optim.Adam({"lr": 0.1}), objective).step(batch)
    assert same(before, weights(model, guide))
    assert not same(before, weights(twin_model, twin_guide))


def test_entries_leave_the_store_with_their_program():
    pyro.clear_param_store()
    model = cases.plain()
    guide = cases.guide_for(model, cases.GUIDES["gaussian-full"])
    batch = lfm.Batch(torch.randn(cases.N, cases.D))
    svi = pyro.infer.SVI(model, guide, pyro.optim.Adam({"lr": 0.1}), pyro.infer.Trace_ELBO())
    svi.step(batch)
    assert len(list(pyro.get_param_store())) == len(weights(model, guide))
    del svi, guide
    import gc

    gc.collect()
    assert len(list(pyro.get_param_store())) == len(weights(model))


@pytest.mark.parametrize("engine", ["eager", "pyro"])
def test_a_fit_leaves_the_process_as_it_was(engine):
    pyro.clear_param_store()
    pyro.param("mine", torch.tensor(1.0))
    torch.manual_seed(5)
    expected = torch.rand(3)
    validation = torch.distributions.Distribution._validate_args, pyro.settings.get()
    torch.manual_seed(0)
    model = cases.plain()
    guide = cases.guide_for(model, cases.GUIDES["gaussian-full"])
    data = cases.rows_of(model, 20)["x"]
    torch.manual_seed(5)
    svi = lfm.SVI(guide, epochs=1, engine=engine)
    fit = lfm.fit(model, data, svi, seed=0, progress=False)
    fit.posterior(data), fit.reconstruct(data), fit.bound(data), model.sample(3, seed=1)
    lfm.describe(model, guide)
    lfm.testing.check_guide(guide, model)
    assert torch.equal(torch.rand(3), expected)
    assert list(pyro.get_param_store()) == ["mine"]
    assert (torch.distributions.Distribution._validate_args, pyro.settings.get()) == validation
    pyro.clear_param_store()


@pytest.mark.parametrize("engine", ["eager", "pyro"])
def test_a_seed_repeats_a_fit_bit_for_bit(engine):
    first, second = fitted(3, engine), fitted(3, engine)
    other = fitted(4, engine)
    assert same(weights(first.model, first.guide), weights(second.model, second.guide))
    assert [r["bound"] for r in first.history] == [r["bound"] for r in second.history]
    assert not same(weights(first.model), weights(other.model))


def test_engines_agree_step_by_step():
    """The same noise, the same loss: eager and pyro.infer.SVI differ only in rounding (and Adam's per-row ε)."""
    eager, plain = fitted(0, "eager"), fitted(0, "pyro")
    for a, b in zip(weights(eager.model, eager.guide), weights(plain.model, plain.guide), strict=True):
        assert torch.allclose(a, b, atol=1e-4)
    assert eager.history[-1]["bound"] == pytest.approx(plain.history[-1]["bound"], rel=1e-4)


def test_threads_that_fit_side_by_side_give_what_they_give_alone():
    # Rows are drawn from models whose weights use torch's process-wide stream, so they are drawn before the threads start.
    def prepared(k):
        torch.manual_seed(k)
        model = cases.plain()
        return model, cases.guide_for(model, cases.GUIDES["gaussian-full"]), cases.rows_of(model, 40)["x"]

    def run(k, parts, results):
        model, guide, data = parts
        fit = lfm.fit(model, data, lfm.SVI(guide, epochs=3, batch_size=16), seed=k, progress=False)
        results[k] = weights(fit.model, fit.guide)

    alone, together = {}, {}
    for k in range(3):
        run(k, prepared(k), alone)
    parts = [prepared(k) for k in range(3)]
    threads = [threading.Thread(target=run, args=(k, parts[k], together)) for k in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for k in range(3):
        assert same(alone[k], together[k])


def test_importing_changes_nothing_and_loads_no_heavy_extra():
    code = (
        "import torch, pyro, sys; v = torch.distributions.Distribution._validate_args; "
        "s = pyro.settings.get(); r = torch.get_rng_state(); d = torch.get_default_dtype(); import pyro_lfm; "
        "assert torch.distributions.Distribution._validate_args == v and pyro.settings.get() == s; "
        "assert torch.equal(torch.get_rng_state(), r) and torch.get_default_dtype() == d; "
        "assert not list(pyro.get_param_store()); "
        "loaded = {'sklearn', 'pandas', 'matplotlib', 'torchvision'} & set(sys.modules); assert not loaded, loaded"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_short_fit_imports_no_compiler():
    code = (
        "import sys, torch, pyro_lfm as lfm; "
        "model = lfm.Model(z=lfm.StandardNormal(1), x=lfm.Gaussian(2, mean=lfm.Linear())); "
        "svi = lfm.SVI(lfm.Guide(model, z=lfm.Gaussian(network=lfm.Linear())), epochs=1); "
        "lfm.fit(model, torch.randn(20, 2), svi, seed=0, progress=False); "
        "loaded = {'torch._dynamo', 'sympy', 'jax'} & set(sys.modules); assert not loaded, loaded; "
        # Torch's own way works as before.
        "p = torch.nn.Parameter(torch.zeros(1)); p.grad = torch.ones(1); torch.optim.Adam([p], lr=1.0).step(); "
        "assert p.item() < -0.9 and 'torch._dynamo' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)

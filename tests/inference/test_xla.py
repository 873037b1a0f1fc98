"""Blocks of steps by XLA give the numbers of eager steps, or leave them to eager with a reason."""

import warnings

import cases
import numpy as np
import pytest
import torch
from native_code import agree, apart, fitted, with_guide

import pyro_lfm as lfm

pytest.importorskip("jax")


def same(make, data, **options):
    agree(make, data, engine="xla", **options)


def plain():
    return with_guide(cases.plain())


def rows(n=43, missing=False):
    x = torch.randn(n, cases.D, generator=torch.Generator().manual_seed(1))
    if missing:
        x[::3, 0] = torch.nan
    return x


ALL = [
    *(("model", n, lambda n=n: with_guide(cases.MODELS[n]()), cases.rows_of, {}) for n in cases.MODELS),
    *(("guide", n, lambda n=n: with_guide(cases.plain(), n), cases.rows_of, {}) for n in cases.GUIDES),
    *(("objective", n, plain, cases.rows_of, {"objective": make()}) for n, make in cases.OBJECTIVES.items()),
    *(
        ("prior", n, lambda n=n: with_guide(cases.one_latent(prior=n)), cases.rows_of, {})
        for n in cases.PRIORS
    ),
    *(
        ("likelihood", n, lambda n=n: with_guide(cases.one_latent(likelihood=n)), cases.rows_of, {})
        for n in cases.LIKELIHOODS
    ),
]


@pytest.mark.slow
@pytest.mark.parametrize("case", ALL, ids=lambda case: f"{case[0]}-{case[1]}")
def test_every_case_ends_where_eager_ends_or_says_why_not(case):
    _, _, make, data, options = case
    eager, _ = fitted("eager", make, data, **options)
    by_xla, messages = fitted("xla", make, data, **options)
    assert apart(eager, by_xla) <= (0.0 if messages else 1e-4)


# One compilation of XLA takes about a second.
OPTIONS = {
    "annealed, rates that fall": dict(
        objective=lfm.ELBO(kl_weight=lfm.schedules.linear(0.0, 1.0, 0.5)),
        schedule=lfm.schedules.cosine(1.0, 0.0),
    ),
    "AdamW": dict(optimizer=torch.optim.AdamW),
    "θ and φ in turn": dict(alternate=2),
}


@pytest.mark.parametrize("name", OPTIONS)
def test_options_of_the_fit_are_followed_step_by_step(name):
    same(plain, rows(), epochs=4, batch_size=8, **OPTIONS[name])


def test_double_precision_is_the_same_to_rounding():
    make = lambda: tuple(part.double() for part in plain())  # noqa: E731
    same(make, rows().double(), tolerance=1e-12, epochs=2, batch_size=8)


def test_missing_entries_a_full_covariance_and_a_ragged_batch():
    same(lambda: with_guide(cases.plain(), "gaussian-full"), rows(missing=True), epochs=3, batch_size=10)


def test_what_xla_cannot_do_is_done_in_eager_with_a_reason():
    make = lambda: with_guide(cases.plain(), "per-row-full")  # noqa: E731
    eager, _ = fitted("eager", make, rows())
    by_xla, messages = fitted("xla", make, rows())
    assert apart(eager, by_xla) == 0.0
    assert len(messages) == 1 and "PerRow" in messages[0]


def test_a_loss_that_is_not_finite_skips_the_step_that_eager_skips(monkeypatch):
    """A row of 1e30 overflows; the steps around it count."""
    x = rows(40)
    x[17] = 1e30

    def run(engine):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            fit, _ = fitted(engine, plain, x, epochs=6, batch_size=4)
        return fit, [str(w.message) for w in caught if w.category is lfm.SkippedStepWarning]

    (eager, of_eager), (by_xla, of_xla) = run("eager"), run("xla")
    assert [r["skipped"] for r in by_xla.history] == [r["skipped"] for r in eager.history] == [1] * 6
    assert of_eager == of_xla
    assert apart(eager, by_xla) <= 1e-4


def test_the_number_of_steps_in_a_call_changes_no_number(monkeypatch):
    one, _ = fitted("xla", plain, rows(), epochs=5)
    monkeypatch.setattr("pyro_lfm.inference.engines.xla.block_engine._CALL_SECONDS", 0.0)
    other, _ = fitted("xla", plain, rows(), epochs=5)
    assert apart(one, other) == 0.0
    assert [r["bound"] for r in one.history] == [r["bound"] for r in other.history]


def two_variables():
    model = lfm.Model(
        age=lfm.Covariate(),
        z=lfm.StandardNormal(2),
        x=lfm.Gaussian(cases.D, given=("z", "age"), mean=lfm.MLP(8)),
        y=lfm.Bernoulli(3, given=("z",), logits=lfm.MLP(8)),
    )
    return model, lfm.Guide(model, z=lfm.Gaussian(given=("x", "y"), network=lfm.MLP(8)))


def rows_of_two(n):
    generator = torch.Generator().manual_seed(2)
    y = torch.rand(n, 3, generator=generator).round()
    y[::5, 1] = torch.nan
    return {"age": torch.randn(n, generator=generator), "x": rows(n, missing=True), "y": y}


@pytest.mark.parametrize("order", [{}, {"block": 4, "buffer": 16}])
def test_rows_of_several_variables_are_those_of_eager_however_they_are_gathered(monkeypatch, order):
    """A covariate, gaps in two variables, and a smaller last batch; rows shuffled at once or block by block."""
    options = {"epochs": 4, "batch_size": 8, "drop_last": False, **order}
    _, many = agree(two_variables, rows_of_two(43), engine="xla", **options)
    monkeypatch.setattr("pyro_lfm.inference.engines.xla.block_engine._CALL_SECONDS", 0.0)
    single, _ = fitted("xla", two_variables, rows_of_two(43), **options)
    assert apart(many, single) == 0.0


@pytest.mark.parametrize("decoupled", [False, True])
def test_rates_of_parameters_that_differ_are_the_optimizers_own(decoupled):
    """Two groups with options of their own, one of which rested for a while, so that its steps are fewer."""
    from pyro_lfm.inference.engines.adam_kernels import fused_adam
    from pyro_lfm.inference.engines.xla.adam_rates import rates_of

    kind = torch.optim.AdamW if decoupled else torch.optim.Adam
    parameters = [torch.nn.Parameter(torch.randn(3)) for _ in range(4)]
    groups = [
        {"params": parameters[:2], "lr": 0.1, "weight_decay": 0.2},
        {"params": parameters[2:], "lr": 0.3, "betas": (0.5, 0.6), "weight_decay": 0.0},
    ]
    optimizer = kind(groups, fused=True)
    for step in range(3):
        for p in parameters[step % 2 :]:
            p.grad = torch.randn(3)
        optimizer.step()
        optimizer.zero_grad()
    order = [3, 0, 2, 1]
    moving = fused_adam(optimizer, [parameters[k] for k in order])
    rates = rates_of(moving.groups, [1.0, 0.5], 3, np.dtype("f8"))
    for column, k in enumerate(order):
        lr, (b1, b2), decay = [(0.1, (0.9, 0.999), 0.2), (0.3, (0.5, 0.6), 0.0)][k // 2]
        done = 2 if k == 0 else 3
        for row, factor in enumerate([1.0, 0.5]):
            step = done + row + 1
            assert rates.sizes[row, column] == pytest.approx(lr * factor / (1 - b1**step))
            assert rates.roots[row, column] == pytest.approx((1 - b2**step) ** -0.5)
            kept = 1.0 if rates.kept is None else rates.kept[row, column]
            assert kept == pytest.approx(1 - lr * factor * decay if decoupled else 1.0)
        assert rates.betas[:, column] == pytest.approx([b1, 1 - b1])
        assert (0.0 if rates.decays is None else rates.decays[column]) == (0.0 if decoupled else decay)


def test_steps_are_taken_many_at_a_time(monkeypatch):
    from pyro_lfm.inference.engines.xla.compiled_step import XlaStep

    sizes, take = [], XlaStep.take
    monkeypatch.setattr(
        XlaStep, "take", lambda self, o, factors: sizes.append(len(factors)) or take(self, o, factors)
    )
    fitted("xla", plain, rows(400), epochs=2, batch_size=4)
    assert max(sizes) > 10 and sum(sizes) > 150


@pytest.mark.parametrize("shape", [(16,), (3, 16), (7, 5)])
@pytest.mark.parametrize("method", ["normal_", "uniform_"])
def test_draws_of_a_block_are_those_of_its_steps(method, shape):
    from pyro_lfm.inference.engines.xla.compiled_step import Noise
    from pyro_lfm.inference.engines.xla.translation import Draw

    one = torch.empty(shape)
    noise = Noise([Draw(method, (), one.shape, one.stride(), one.dtype)], 4)
    torch.manual_seed(3)
    noise.draw(4)
    torch.manual_seed(3)
    each = torch.stack([getattr(torch.empty(shape), method)() for _ in range(4)])
    assert torch.equal(noise.memory[0], each)


class Items(torch.utils.data.Dataset):
    def __len__(self):
        return 12

    def __getitem__(self, index):
        return rows()[index]


def test_workers_are_not_forked_beside_the_threads_of_jax():
    fitted("compiled", plain, Items(), epochs=1, workers=1)
    with pytest.raises(lfm.DeclarationError, match="leave workers= out"):
        fitted("xla", plain, Items(), epochs=1, workers=1)


def test_without_jax_the_message_says_how_to_install_it(monkeypatch):
    monkeypatch.setattr("pyro_lfm.inference.engines.choice.find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"pip install 'pyro_lfm\[jax\]'"):
        fitted("xla", plain, rows())

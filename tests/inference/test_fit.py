"""The contract of ``fit``: history, patience, checkpoints, callbacks, schedules, PerRow tables."""

import math

import cases
import numpy as np
import pyro
import pytest
import torch

import pyro_lfm as lfm
from pyro_lfm.inference.engines.row_adam import RowAdam


def prepared(guide="gaussian-full", n=40, seed=0):
    torch.manual_seed(seed)
    model = cases.plain()
    declared = cases.guide_for(model, cases.GUIDES[guide])
    return model, declared, cases.rows_of(model, n)["x"]


def weights(*programs):
    return [p.detach().clone() for program in programs for p in program.parameters()]


def same(first, second):
    return all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_history_has_one_record_per_epoch_in_nats_per_row():
    model, guide, data = prepared()
    fit = lfm.fit(
        model, data, lfm.SVI(guide, epochs=3, batch_size=16), validation=data[:9], seed=0, progress=False
    )
    assert [r["epoch"] for r in fit.history] == [1, 2, 3] and [r["step"] for r in fit.history] == [3, 6, 9]
    for record in fit.history:
        assert record["bound"] == pytest.approx(record["reconstruction"] - record["kl"], rel=1e-6)
        assert math.isfinite(record["validation_bound"]) and record["seconds"] > 0
    assert fit.model is model and fit.guide is guide
    assert fit.history[-1]["bound"] == pytest.approx(fit.bound(data, draws=20).mean().item(), abs=3.0)


def test_a_fit_raises_the_bound():
    model, guide, data = prepared(n=200)
    before = lfm.ELBO(particles=20).bound(model, guide, lfm.Batch(data)).per_row.mean()
    fit = lfm.fit(
        model, data, lfm.SVI(guide, epochs=100, batch_size=50, learning_rate=1e-2), seed=0, progress=False
    )
    assert fit.bound(data, draws=20).mean() > before + 0.3


def test_steps_end_a_fit_inside_an_epoch_and_batches_shrink_to_the_data():
    model, guide, data = prepared()
    fit = lfm.fit(model, data, lfm.SVI(guide, steps=4, batch_size=16), seed=0, progress=False)
    assert [r["step"] for r in fit.history] == [3, 4]
    fit = lfm.fit(model, data, lfm.SVI(guide, epochs=1, batch_size=10_000), seed=0, progress=False)
    assert fit.history[-1]["step"] == 1


def test_patience_stops_and_restores_the_best_weights():
    model, guide, data = prepared()
    seen = []

    def remember(record, fit):
        seen.append((record["validation_bound"], weights(fit.model, fit.guide)))

    # Steps far too long: the bound soon falls.
    svi = lfm.SVI(guide, epochs=60, batch_size=16, learning_rate=0.3, patience=3)
    fit = lfm.fit(model, data, svi, validation=data[:10], seed=0, callbacks=[remember], progress=False)
    assert len(fit.history) < 60
    best = max(range(len(seen)), key=lambda i: seen[i][0])
    assert len(seen) == best + 1 + 3
    assert same(weights(model, guide), seen[best][1])


def test_callbacks_see_each_record_and_any_of_them_stops():
    model, guide, data = prepared()
    calls = []

    def stop(record, fit):
        return record["epoch"] == 2

    svi = lfm.SVI(guide, epochs=9)
    fit = lfm.fit(
        model, data, svi, callbacks=[stop, lambda r, f: calls.append((r["epoch"], f))], seed=0, progress=False
    )
    assert [epoch for epoch, _ in calls] == [1, 2] and calls[0][1] is fit


def test_an_interrupted_fit_goes_on_from_its_checkpoint(tmp_path):
    def run(path, interrupt):
        model, guide, data = prepared("per-row")
        svi = lfm.SVI(guide, epochs=4, batch_size=16, patience=9)

        def stop(record, fit):
            if interrupt and record["epoch"] == 2:
                raise KeyboardInterrupt

        return lfm.fit(model, data, svi, seed=1, callbacks=[stop], checkpoint=path, progress=False)

    whole = run(tmp_path / "whole", False)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "parts", True)
    resumed = run(tmp_path / "parts", False)
    assert same(weights(whole.model, whole.guide), weights(resumed.model, resumed.guide))
    assert [r["bound"] for r in whole.history] == [r["bound"] for r in resumed.history]
    assert not list(tmp_path.rglob(".*"))


def test_a_broken_checkpoint_is_a_data_error(tmp_path):
    path = tmp_path / "state"
    path.write_text("not a checkpoint")
    model, guide, data = prepared()
    with pytest.raises(lfm.DataError, match="must be a folder"):
        lfm.fit(model, data, lfm.SVI(guide, epochs=1), checkpoint=path, progress=False)


def test_alternate_moves_the_guide_k_times_and_then_the_model():
    model, guide, data = prepared()
    # Once trained they go on from where they are.
    lfm.fit(model, data, lfm.SVI(guide, steps=1), seed=0, progress=False)
    moved = []
    before = {"model": weights(model), "guide": weights(guide)}

    def watch(record, fit):
        now = {"model": weights(model), "guide": weights(guide)}
        moved.append({name: not same(now[name], before[name]) for name in now})
        before.update(now)

    svi = lfm.SVI(guide, epochs=6, batch_size=40, alternate=2)
    lfm.fit(model, data, svi, seed=0, callbacks=[watch], progress=False)
    theta = [step["model"] for step in moved]
    assert theta == [False, False, True, False, False, True]
    assert [step["guide"] for step in moved] == [not t for t in theta]


def test_a_schedule_multiplies_the_learning_rate():
    model, guide, data = prepared()
    lfm.fit(model, data, lfm.SVI(guide, steps=1), seed=0, progress=False)
    before = weights(model, guide)
    svi = lfm.SVI(guide, steps=3, schedule=lambda fraction: 0.0)
    lfm.fit(model, data, svi, seed=0, progress=False)
    assert same(before, weights(model, guide))


def test_any_torch_optimizer_serves():
    model, guide, data = prepared()
    for optimizer in (torch.optim.SGD, torch.optim.RMSprop, lambda p, lr: torch.optim.AdamW(p, lr=lr)):
        svi = lfm.SVI(guide, epochs=1, optimizer=optimizer, learning_rate=1e-4)
        assert math.isfinite(
            lfm.fit(model, data, svi, validation=data[:4], progress=False).history[-1]["bound"]
        )


def one_step(guide="gaussian-full", **options):
    """The change of all parameters by one step of gradient descent, tables of rows apart."""
    model, guide, data = prepared(guide)
    lfm.fit(model, data, lfm.SVI(guide, steps=1), seed=0, progress=False)
    tables = {id(table.rows) for table in guide.tables}
    parameters = [*model.parameters(), *guide.parameters()]
    before = weights(model, guide)
    svi = lfm.SVI(guide, steps=1, optimizer=torch.optim.SGD, learning_rate=1.0, batch_size=20, **options)
    lfm.fit(model, data, svi, seed=0, progress=False)
    moved = {p: p.detach() - old for p, old in zip(parameters, before, strict=True)}
    dense = torch.cat([change.flatten() for p, change in moved.items() if id(p) not in tables])
    return dense, [change for p, change in moved.items() if id(p) in tables]


def test_clip_norm_bounds_the_gradients_of_all_parameters_together_under_every_engine():
    free, _ = one_step(engine="eager")
    assert free.norm() > 0.1
    eager, _ = one_step(engine="eager", clip_norm=0.1)
    assert torch.allclose(eager, 0.1 * free / free.norm(), rtol=1e-3, atol=1e-6)
    wide, _ = one_step(engine="eager", clip_norm=1e6)
    assert torch.equal(wide, free)
    for options in ({"engine": "pyro"}, {"engine": "pyro", "objective": pyro.infer.Trace_ELBO()}):
        by_pyro, _ = one_step(clip_norm=0.1, **options)
        # Pyro's gradients are of the loss of all 40 rows, the norm is of the loss per row.
        assert by_pyro.norm().item() == pytest.approx(40 * 0.1, rel=1e-4)


def test_clip_norm_leaves_tables_of_rows_out():
    free, rows = one_step("per-row", engine="eager")
    clipped, rows_clipped = one_step("per-row", engine="eager", clip_norm=0.1)
    assert free.norm() > 0.1 and clipped.norm().item() == pytest.approx(0.1, rel=1e-4)
    assert rows and same(rows, rows_clipped)


@pytest.mark.parametrize("norm", [0, -1.0, math.inf, math.nan, "1", True])
def test_clip_norm_is_a_number_above_zero(norm):
    _, guide, _ = prepared()
    with pytest.raises(lfm.DeclarationError, match="clip_norm must be a number > 0; got"):
        lfm.SVI(guide, clip_norm=norm)


def test_the_progress_bar_shows_rows_and_nats(capsys):
    model, guide, data = prepared()
    lfm.fit(model, data, lfm.SVI(guide, epochs=2), seed=0)
    shown = capsys.readouterr().err
    assert "row/s" in shown and "nats/row" in shown
    lfm.fit(model, data, lfm.SVI(guide, epochs=1), seed=0, progress=False)
    assert not capsys.readouterr().err


# PerRow tables ------------------------------------------------------------------------------------------


def test_a_per_row_table_learns_the_posterior_of_each_row():
    """z ~ N(0, I), x | z ~ N(Wz, σ²I): exact means and variances, for rows seen and for rows that were not."""
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(cases.D, 2, generator=generator, dtype=torch.float64)
    model = lfm.Model(
        z=lfm.StandardNormal(2),
        x=lfm.Gaussian(
            cases.D,
            mean=lfm.Linear(weight=lfm.Fixed(weight), bias=lfm.Fixed(0.0)),
            covariance=lfm.Isotropic(lfm.Fixed(0.25)),
        ),
    )
    data = model.sample(60, seed=1)["x"]
    precision = torch.eye(2, dtype=torch.float64) + weight.T @ weight / 0.25
    covariance = torch.linalg.inv(precision)
    guide = lfm.Guide(model, z=lfm.Gaussian(mean=lfm.PerRow(), covariance=lfm.Full(lfm.PerRow())))
    svi = lfm.SVI(guide, epochs=900, batch_size=20, schedule=lambda f: 0.5 + 0.5 * math.cos(math.pi * f))
    fit = lfm.fit(model, data[:40], svi, seed=0, progress=False)
    held = guide.factors["z"].parts["mean"].rows.detach().clone()
    for rows in (None, data[40:]):
        seen = data[:40] if rows is None else rows
        distribution = fit.posterior(rows)
        assert torch.allclose(distribution.mean, seen @ weight @ covariance / 0.25, atol=0.05)
        assert torch.allclose(distribution.covariance_matrix, covariance.expand(len(seen), 2, 2), atol=0.02)
    # The table of the training rows has not changed.
    assert torch.equal(held, guide.factors["z"].parts["mean"].rows)


def test_only_the_rows_of_a_batch_are_updated():
    table = torch.nn.Parameter(torch.zeros(6, 2))
    optimizer = RowAdam([table], lr=0.1)
    for rows in ([0, 2], [2, 5]):
        index = torch.tensor(rows)
        torch.nn.functional.embedding(index, table, sparse=True).sum().backward()
        optimizer.step()
        optimizer.zero_grad()
    # Adam's first step is lr long whatever the gradient, and each row counts its own steps.
    assert torch.allclose(table[:, 0], torch.tensor([-0.1, 0.0, -0.2, 0.0, 0.0, -0.1]), atol=1e-6)


def test_a_per_row_table_refuses_other_rows():
    model, guide, data = prepared("per-row")
    lfm.fit(model, data, lfm.SVI(guide, epochs=1), seed=0, progress=False)
    with pytest.raises(lfm.DataError, match="PerRow table holds 40 rows; got row 99"):
        guide(lfm.Batch(data[:1], index=torch.tensor([99]), total=100))


# Queries of data ----------------------------------------------------------------------------------------


def test_posterior_and_reconstruction_of_a_known_model():
    """Reconstruction averages the likelihood's mean over q; with a point-like q it is the mean at that point."""
    model, _, data = prepared()
    guide = lfm.Guide(
        model, z=lfm.Gaussian(mean=lfm.Linear(), covariance=lfm.Isotropic(lfm.Fixed(1e-5), min_scale=0.0))
    )
    fit = lfm.fit(model, data, lfm.SVI(guide, epochs=1), seed=0, progress=False)
    with torch.no_grad():
        expected = model.factors["x"](fit.posterior(data[:7]).mean).mean
    assert torch.allclose(fit.reconstruct(data[:7]), expected, atol=0.02)


def test_missing_entries_are_filled_in_by_reconstruction():
    """One factor, four copies of it with little noise: three entries determine the fourth."""
    torch.manual_seed(0)
    z = torch.randn(400, 1)
    data = z.repeat(1, 4) + 0.05 * torch.randn(400, 4)
    holed = data.clone()
    holed[::2, 0] = float("nan")
    model = lfm.Model(
        z=lfm.StandardNormal(1), x=lfm.Gaussian(4, mean=lfm.Linear(), covariance=lfm.Diagonal())
    )
    guide = lfm.Guide(model, z=lfm.Gaussian(network=lfm.PerRow(learning_rate=0.1)))
    svi = lfm.SVI(guide, epochs=150, learning_rate=0.02, batch_size=100)
    fit = lfm.fit(model, holed, svi, seed=0, progress=False)
    error = (fit.reconstruct()[::2, 0] - data[::2, 0]).square().mean().sqrt()
    assert error < 0.15


def test_posteriors_of_several_latents_are_mixtures_over_what_they_read():
    torch.manual_seed(0)
    model = cases.two_layers()
    guide = lfm.Guide(
        model,
        z2=lfm.Gaussian(network=lfm.MLP(5)),
        z1=lfm.Gaussian(network=lfm.MLP(5), given=("x", "z2")),
    )
    data = cases.rows_of(model)["x"]
    fit = lfm.fit(model, data, lfm.SVI(guide, epochs=1), seed=0, progress=False)
    distributions = fit.posterior(data)
    draws = fit.sample_posterior(data, draws=3000)
    assert set(distributions) == {"z1", "z2"} and draws["z1"].shape == (3000, cases.N, cases.K)
    # Means agree within 6 standard errors: false alarm below 1e-6.
    error = draws["z1"].std(0) * (1 / 3000 + 1 / 256) ** 0.5
    assert ((distributions["z1"].mean - draws["z1"].mean(0)).abs() < 6 * error).all()


def test_a_fit_on_the_noise_floor_warns():
    torch.manual_seed(0)
    data = torch.zeros(50, 3)
    model = lfm.Model(
        z=lfm.StandardNormal(1), x=lfm.Gaussian(3, mean=lfm.Linear(), covariance=lfm.Diagonal(min_scale=0.5))
    )
    guide = lfm.Guide(model, z=lfm.Gaussian(network=lfm.MLP(4)))
    with pytest.warns(lfm.ScaleFloorWarning, match="x: .*min_scale=0.5"):
        lfm.fit(model, data, lfm.SVI(guide, epochs=300, learning_rate=0.05), seed=0, progress=False)


def test_the_error_of_a_nan_loss_names_the_place_and_the_weights_are_restored():
    torch.manual_seed(0)
    model = lfm.Model(
        z=lfm.StandardNormal(2),
        x=lfm.Gaussian(cases.D, mean=lfm.MLP(8), covariance=lfm.Diagonal(lfm.MLP(8), min_scale=0.0)),
    )
    guide = lfm.Guide(model, z=lfm.Gaussian(network=lfm.MLP(8)))
    data = torch.randn(30, cases.D)
    svi = lfm.SVI(guide, epochs=200, batch_size=10, learning_rate=1e6)
    with pytest.raises(lfm.TrainingError, match=r"epoch \d+, factor (x|z), parameter .*rows \[\d+") as caught:
        lfm.fit(model, data, svi, seed=0, progress=False)
    assert all(p.isfinite().all() for p in (*model.parameters(), *guide.parameters()))
    assert caught.value.epoch >= 1 and len(caught.value.rows) == 10


@pytest.mark.parametrize("engine", ["eager", "pyro"])
def test_nan_from_one_row_is_traced_to_it(engine):
    """A program that fails on one row: the error names a batch that holds that row and the site."""

    class Fragile(lfm.PyroModel):
        def __init__(self):
            super().__init__()
            self.shift = torch.nn.Parameter(torch.zeros(2))

        def forward(self, batch):
            with batch.plate():
                z = pyro.sample("z", pyro.distributions.Normal(torch.zeros(2), 1.0).to_event(1))
                x = batch["x"]
                scale = torch.ones(batch.size, 1) if x is None else (x[:, :1] - 7.0).abs().sqrt().log().exp()
                distribution = pyro.distributions.Normal(
                    z + self.shift, scale / scale * scale, validate_args=False
                )
                pyro.sample("x", distribution.to_event(1), obs=x)

    model = Fragile()
    guide = lfm.Guide(model, z=lfm.Gaussian(network=lfm.MLP(4)))
    data = torch.randn(20, 2)
    data[13] = 7.0
    before = weights(model, guide)
    with pytest.raises(lfm.TrainingError) as caught:
        svi = lfm.SVI(guide, epochs=1, batch_size=5, engine=engine, max_skipped=0)
        lfm.fit(model, data, svi, seed=0, progress=False)
    assert 13 in caught.value.rows and caught.value.epoch == 1 and caught.value.factor == "x"
    assert same(before, weights(model, guide))


def test_a_memory_map_is_read_by_rows_and_never_whole(tmp_path):
    path = tmp_path / "rows.dat"
    data = np.memmap(path, dtype=np.float32, mode="w+", shape=(500, cases.D))
    data[:] = np.random.default_rng(0).normal(size=data.shape)
    data.flush()
    largest = 0

    class Watched(np.memmap):
        def __getitem__(self, index):
            nonlocal largest
            rows = super().__getitem__(index)
            largest = max(largest, len(rows))
            return rows

    watched = Watched(path, dtype=np.float32, mode="r", shape=(500, cases.D))
    model, guide, _ = prepared()
    table = lfm.data.read(watched, ["x"])
    lfm.data.validate(table, {"x": ((cases.D,), torch.distributions.constraints.real)})
    scanned, largest = largest, 0
    table.take(torch.arange(32))
    assert largest == 32 and scanned <= 4096
    lfm.fit(model, watched, lfm.SVI(guide, epochs=1, batch_size=32), seed=0, progress=False)

"""Training under Lightning: the loss and its gradient are those of ``lfm.fit``, under one process and under two."""

import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import pyro
import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

import pyro_lfm as lfm
from pyro_lfm.errors import DataError, DeclarationError, ShapeError

Module, DataModule = lfm.lightning.Module, lfm.lightning.DataModule

import lightning  # noqa: E402 after the import above, which makes torchvision importable

ROWS = torch.randn(120, 2, generator=torch.Generator().manual_seed(0)) @ torch.randn(
    2, 4, generator=torch.Generator().manual_seed(1)
) + 0.3 * torch.randn(120, 4, generator=torch.Generator().manual_seed(2))


def _programs(**options: Any) -> tuple[lfm.Model, lfm.Guide]:
    model = lfm.Model(z=lfm.StandardNormal(2), x=lfm.Gaussian(4, mean=lfm.Linear(**options)))
    return model, lfm.Guide(model, z=lfm.Gaussian(covariance=lfm.Full(), network=lfm.Linear()))


def _trainer(**options: Any) -> lightning.Trainer:
    return lightning.Trainer(
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        **options,
    )


@pytest.fixture(autouse=True)
def quiet() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Lightning advises on workers and tells of its own deprecations
        yield


@pytest.mark.parametrize(
    "objective", [lfm.ELBO(), lfm.ImportanceWeightedELBO(particles=3), pyro.infer.Trace_ELBO()]
)
def test_a_step_has_the_loss_and_the_gradient_of_the_bound(objective: pyro.infer.ELBO) -> None:
    prior = lfm.parameter_priors.Normal(0.0, 1.0)
    model, guide = _programs(prior=prior)
    module = Module(model, guide, objective, seed=5, rows=120)
    loss = module.training_step({"x": ROWS[:30]}, 0)
    parameters = [p for p in module.parameters() if p.requires_grad]
    gradients = torch.autograd.grad(loss, parameters, allow_unused=True)
    with torch.random.fork_rng():
        torch.manual_seed(5)
        expected = objective.differentiable_loss(model, guide, lfm.Batch({"x": ROWS[:30]}, total=120)) / 120
    assert float(loss.detach()) == pytest.approx(float(expected.detach()), rel=1e-6)
    for one, other in zip(
        gradients, torch.autograd.grad(expected, parameters, allow_unused=True), strict=True
    ):
        assert (one is None) == (other is None) and (one is None or torch.allclose(one, other, rtol=1e-4))


def test_a_trainer_starts_as_fit_does_and_ends_where_it_does() -> None:
    model, guide = _programs()
    module = Module(model, guide, learning_rate=2e-2, schedule=lfm.schedules.cosine(), seed=0)
    rows = DataModule(model, ROWS[:100], validation=ROWS[100:], batch_size=50)
    trainer = _trainer(max_epochs=15, check_val_every_n_epoch=15)
    trainer.fit(module, rows)
    logged = {name: float(value) for name, value in trainer.callback_metrics.items()}
    assert set(logged) == {
        *("bound", "reconstruction", "kl"),
        *("validation_bound", "validation_reconstruction", "validation_kl"),
    }
    assert logged["bound"] == pytest.approx(logged["reconstruction"] - logged["kl"], abs=1e-4)
    again, other = _programs()
    svi = lfm.SVI(
        other, epochs=15, batch_size=50, learning_rate=2e-2, schedule=lfm.schedules.cosine(), engine="eager"
    )
    fit = lfm.fit(again, ROWS[:100], svi, seed=0, progress=False)
    # Floors are in the units of the data, as those of the fit.
    floors = [(n, b) for n, b in model.named_buffers() if n.endswith("floor")]
    assert floors and all(torch.equal(b, dict(again.named_buffers())[n]) for n, b in floors)
    done = lfm.Fit.of(module.model, module.guide, ROWS[:100])
    one, two = (float(each.bound(draws=50).mean()) for each in (done, fit))
    # Both started at about −30; noise and the order of rows leave 0.05 to 0.2 nats.
    assert abs(one - two) < 0.6


def test_loaders_of_ones_own_and_checkpoints(tmp_path: Path) -> None:
    model, guide = _programs()
    module = Module(model, guide)
    trainer = _trainer(max_epochs=1)
    trainer.fit(module, DataLoader(TensorDataset(ROWS, torch.zeros(120)), batch_size=60))
    trainer.save_checkpoint(tmp_path / "a.ckpt")
    assert torch.load(tmp_path / "a.ckpt")["pyro_lfm_noise"].dtype == torch.uint8  # goes on with new noise
    again, other = _programs()
    loaded = Module.load_from_checkpoint(tmp_path / "a.ckpt", model=again, guide=other)
    assert all(torch.equal(p, dict(loaded.named_parameters())[n]) for n, p in module.named_parameters())
    fit = lfm.Fit.of(loaded.model, loaded.guide)
    fit.save(tmp_path / "run")
    saved = lfm.load(tmp_path / "run")
    mean = fit.posterior(ROWS[:5]).mean
    assert torch.equal(saved.posterior(ROWS[:5]).mean, mean) and mean.shape == (5, 2)
    assert lfm.evaluate.log_likelihood(fit, ROWS[:5], draws=20).per_row.shape == (5,)
    with pytest.raises(DataError, match="Give data="):
        fit.posterior()


def test_missing_entries_and_schedules_of_the_objective() -> None:
    rows = ROWS.clone()
    rows[::7, 1] = torch.nan
    model, guide = _programs()
    fractions: list[float] = []

    def weight(fraction: float) -> float:
        fractions.append(fraction)
        return fraction

    module = Module(model, guide, lfm.ELBO(kl_weight=weight))
    trainer = _trainer(max_epochs=2)
    trainer.fit(module, DataModule(model, rows, batch_size=40))
    assert trainer.callback_metrics["bound"].isfinite()
    assert min(fractions) == 0.0 and max(fractions) == 1.0


def test_mistakes_are_told_in_words() -> None:
    model, guide = _programs()
    with pytest.raises(DeclarationError, match="learning_rate must be"):
        Module(model, guide, learning_rate=-1.0)
    with pytest.raises(ShapeError, match=r"x must have shape \(N, 4\)"):
        DataModule(model, torch.zeros(3, 5))
    with pytest.raises(DeclarationError, match="PerRow tables are fitted by lfm.fit"):
        Module(model, lfm.Guide(model, z=lfm.Gaussian(mean=lfm.PerRow())))
    other = lfm.Model(y=lfm.StandardNormal(2), x=lfm.Gaussian(4, mean=lfm.Linear()))
    with pytest.raises(DeclarationError, match="the guide serves z; the model's latents are y"):
        Module(other, guide)
    with pytest.raises(DeclarationError, match="whole steps of Pyro"):
        Module(model, guide, pyro.infer.RenyiELBO(num_particles=2))
    several = lfm.Model(
        z=lfm.StandardNormal(2), x=lfm.Gaussian(4, mean=lfm.MLP(4)), y=lfm.Gaussian(1, mean=lfm.MLP(4))
    )
    q = lfm.Guide(several, z=lfm.Gaussian(network=lfm.MLP(4)))
    with pytest.raises(DataError, match="a tensor for each of x, y"):
        Module(several, q).training_step([ROWS[:3]], 0)


_TWO = """
import sys, torch
import pyro_lfm as lfm
from pyro_lfm.lightning import DataModule, Module
import lightning

torch.set_num_threads(1)
rows = torch.randn(96, 2, generator=torch.Generator().manual_seed(0)) @ torch.ones(2, 4) + torch.randn(
    96, 4, generator=torch.Generator().manual_seed(1)
)
model = lfm.Model(z=lfm.StandardNormal(2), x=lfm.Gaussian(4, mean=lfm.Linear()))
guide = lfm.Guide(model, z=lfm.Gaussian(network=lfm.Linear()))
module = Module(model, guide, learning_rate=1e-2, seed=3)
trainer = lightning.Trainer(
    max_epochs=3, accelerator="cpu", devices=2, strategy="ddp", logger=False, enable_checkpointing=False,
    enable_progress_bar=False, enable_model_summary=False,
)
trainer.fit(module, DataModule(model, rows, validation=rows[:20], batch_size=24))
weights = torch.cat([p.detach().flatten() for p in module.parameters()])
gathered = [torch.zeros_like(weights) for _ in range(2)]
torch.distributed.all_gather(gathered, weights)
assert torch.equal(*gathered), "the processes have different weights"
assert trainer.global_step == 6, trainer.global_step  # 96 rows, 24 a process, 2 processes, 3 epochs
if trainer.is_global_zero:
    fit = lfm.Fit.of(module.model, module.guide, rows)
    print("bound", float(trainer.callback_metrics["bound"]), float(fit.bound().mean()))
"""


@pytest.mark.slow
def test_two_processes_train_one_model(tmp_path: Path) -> None:
    script = tmp_path / "train.py"
    script.write_text(_TWO)
    environment = {"PYTHONPATH": str(Path.cwd()), "OMP_NUM_THREADS": "1", "PATH": "/usr/bin:/bin"}
    done = subprocess.run(
        [sys.executable, str(script)], capture_output=True, text=True, env=environment, timeout=500
    )
    assert done.returncode == 0, done.stderr[-3000:]
    logged, after = map(float, done.stdout.split("bound")[-1].split())
    assert -20 < logged < 0 and -20 < after < 0

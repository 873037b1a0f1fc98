"""The weighted bound of ``SVI``: row by row at the same noise, unbiased in minibatches, refused where it has no meaning."""

from pathlib import Path

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import Trace_ELBO, TraceGraph_ELBO, TraceMeanField_ELBO

import pyro_lfm as lfm
from pyro_lfm import parameter_priors as priors
from pyro_lfm.errors import DeclarationError

ROWS, COLUMNS = 60, 5
WEIGHTS = torch.randint(0, 4, (ROWS,), generator=torch.Generator().manual_seed(1))


def _rows() -> torch.Tensor:
    g = torch.Generator().manual_seed(0)
    x = torch.randn(ROWS, 2, generator=g) @ torch.randn(2, COLUMNS, generator=g)
    return x.double() + 0.7 * torch.randn(ROWS, COLUMNS, generator=g)


OBJECTIVES = {
    "ELBO": lfm.ELBO(),
    "particles": lfm.ELBO(particles=3, kl="monte-carlo"),
    "sticking": lfm.ELBO(particles=2, gradient="sticking-the-landing"),
    "importance weights": lfm.ImportanceWeightedELBO(particles=4),
    "doubly reparametrized": lfm.ImportanceWeightedELBO(particles=4, gradient="doubly-reparametrized"),
    "Renyi": lfm.RenyiELBO(alpha=0.5, particles=4),
    "wake-sleep": lfm.ReweightedWakeSleep(particles=4),
}


def _linear() -> lfm.Model:
    covariance = lfm.Isotropic()
    return lfm.Model(
        z=lfm.StandardNormal(2), x=lfm.Gaussian(COLUMNS, mean=lfm.Linear(), covariance=covariance)
    ).double()


def _network() -> tuple[lfm.Model, lfm.Guide]:
    model = lfm.Model(z=lfm.StandardNormal(2), x=lfm.Gaussian(COLUMNS, mean=lfm.MLP(8))).double()
    return model, lfm.Guide(model, z=lfm.Gaussian(network=lfm.MLP(8))).double()


def _at_noise(objective: lfm.Objective, *programs: torch.nn.Module, batch: lfm.Batch) -> lfm.objectives.Bound:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return objective.bound(*programs, batch)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_a_bound_is_weighted_row_by_row_at_the_same_noise(name: str) -> None:
    model, guide = _network()
    x, weights = _rows(), WEIGHTS.double() + 0.5
    total = float(weights.sum())
    plain = _at_noise(OBJECTIVES[name], model, guide, batch=lfm.Batch({"x": x}))
    batch = lfm.Batch({"x": x}, weights=weights, total_weight=total)
    weighted = _at_noise(OBJECTIVES[name], model, guide, batch=batch)
    assert torch.allclose(weighted.per_row, plain.per_row * weights * ROWS / total, atol=1e-10)
    assert weighted.total == pytest.approx(total)
    parameters = [p for p in guide.parameters() if p.requires_grad]
    got = torch.autograd.grad(weighted.objective, parameters)
    # The gradient is linear in the weights, in one part of the rows and the other.
    first = torch.arange(ROWS) < ROWS // 2
    for part in (weights * first + 1e-300, weights * ~first + 1e-300):
        batch = lfm.Batch({"x": x}, weights=part, total_weight=total)
        objective = _at_noise(OBJECTIVES[name], model, guide, batch=batch).objective
        got = [g - h for g, h in zip(got, torch.autograd.grad(objective, parameters), strict=True)]
    assert all(bool((g.abs() < 1e-9).all()) for g in got)


@pytest.mark.parametrize("objective", [Trace_ELBO(), TraceMeanField_ELBO(), TraceGraph_ELBO()])
def test_bounds_of_pyro_weight_rows_too(objective: pyro.infer.ELBO) -> None:
    model, guide = _network()
    weights = WEIGHTS.double()
    batch = lfm.Batch({"x": _rows()}, weights=weights, total_weight=float(weights.sum()))
    ours = lfm.ELBO(kl="analytic" if isinstance(objective, TraceMeanField_ELBO) else "monte-carlo")
    losses = []
    for each in (objective, ours):
        with torch.random.fork_rng():
            torch.manual_seed(0)
            losses.append(each.loss(model, guide, batch))
    assert losses[0] == pytest.approx(losses[1], rel=1e-12)


def test_a_minibatch_is_unbiased_for_the_weighted_bound() -> None:
    """The mean over the batches of an epoch is the weighted bound but for noise, parameters with priors included."""
    x = _rows()
    model = lfm.Model(
        z=lfm.StandardNormal(2), x=lfm.Gaussian(COLUMNS, mean=lfm.Linear(prior=priors.Normal(0.0, 1.0)))
    ).double()
    guide = lfm.Guide(model, z=lfm.Gaussian(network=lfm.MLP(8))).double()
    weights = WEIGHTS.double()
    counted, total = weights.nonzero().flatten(), float(weights.sum())
    objective = lfm.ELBO()
    whole = lfm.Batch({"x": x[counted]}, weights=weights[counted], total_weight=total, total=len(counted))
    means = []
    for seed in range(12):
        torch.manual_seed(seed)
        parts = [
            float(
                objective.bound(
                    model,
                    guide,
                    lfm.Batch(
                        {"x": x[i]}, index=i, total=len(counted), weights=weights[i], total_weight=total
                    ),
                ).per_row.mean()
            )
            * len(i)
            for i in counted.split(12)
        ]
        torch.manual_seed(seed + 1000)
        means.append((sum(parts) / len(counted), float(objective.bound(model, guide, whole).per_row.mean())))
    difference = torch.tensor(means).diff(dim=1)
    # 12 pairs, eight standard errors: a false alarm in about 100,000 runs (Student's t of 11 degrees).
    assert abs(float(difference.mean())) < 8 * float(difference.std()) / 12**0.5


def test_the_engine_of_pyro_fits_the_weighted_bound() -> None:
    histories = []
    for which in ("eager", "pyro"):
        model, guide = _network()
        svi = lfm.SVI(guide, epochs=2, batch_size=32, engine=which)
        fit = lfm.fit(model, _rows(), svi, weights=WEIGHTS, seed=3, progress=False)
        histories.append([r["bound"] for r in fit.history])
    assert np.allclose(*histories, rtol=1e-6)


@pytest.mark.slow
def test_the_compiled_engine_fits_the_weighted_bound(recwarn: pytest.WarningsRecorder) -> None:
    for objective in (lfm.ELBO(), lfm.ImportanceWeightedELBO(particles=3)):
        histories = []
        for engine in ("eager", "compiled"):
            model, guide = _network()
            svi = lfm.SVI(guide, objective=objective, epochs=3, batch_size=16, engine=engine)
            fit = lfm.fit(model, _rows(), svi, weights=WEIGHTS + 1, seed=3, progress=False)
            histories.append([r["bound"] for r in fit.history])
        assert np.allclose(*histories, rtol=1e-10)
    assert not [w for w in recwarn if issubclass(w.category, lfm.lfm.CompilationWarning)]


def test_the_weighted_bound_at_the_exact_posterior_is_the_weighted_likelihood() -> None:
    x, weights = _rows(), WEIGHTS.double()
    em = lfm.fit(_linear(), x, lfm.EM(), weights=weights, progress=False)
    batch = lfm.Batch({"x": x}, weights=weights, total_weight=float(weights.sum()))
    bound = lfm.ELBO(kl="monte-carlo").bound(em.model, em.guide, batch)
    assert float(bound.per_row.mean()) == pytest.approx(em.history[-1]["log_likelihood"], abs=1e-10)


class OwnPlate(lfm.PyroModel):
    """A program whose plate is not the batch's, or that has a statement outside of it."""

    def __init__(self, plate: bool) -> None:
        super().__init__()
        self.loading, self.plate = torch.nn.Parameter(torch.randn(2, COLUMNS)), plate

    def forward(self, batch: lfm.Batch) -> None:
        own = pyro.plate("rows", batch.total, subsample=batch.index) if self.plate else None
        with own or batch.plate():
            zero = self.loading.new_zeros(2)
            z = pyro.sample("z", dist.Normal(zero, zero + 1).to_event(1))
            pyro.sample("x", dist.Normal(z @ self.loading, 1.0).to_event(1), obs=batch["x"])
        if not self.plate:
            pyro.factor("size", -z.square().sum())


@pytest.mark.parametrize(("plate", "words"), [(True, "in a plate of its own"), (False, "outside the plate")])
def test_a_program_whose_rows_cannot_be_weighted_is_refused(plate: bool, words: str) -> None:
    model = OwnPlate(plate).double()
    guide = lfm.Guide(model, z=lfm.Gaussian(network=lfm.MLP(4))).double()
    with pytest.raises(DeclarationError, match=f"weights= needs .*{words}"):
        lfm.fit(model, _rows(), lfm.SVI(guide, epochs=1), weights=WEIGHTS, progress=False)


def test_objectives_and_priors_that_are_no_sums_over_rows_are_refused() -> None:
    model, guide = _network()
    for objective in (
        lfm.Penalised(lfm.ELBO(), lfm.TotalCorrelation()),
        pyro.infer.RenyiELBO(num_particles=2),
    ):
        with pytest.raises(DeclarationError, match="an objective that is a sum over rows"):
            svi = lfm.SVI(guide, objective=objective, epochs=1)
            lfm.fit(model, _rows(), svi, weights=WEIGHTS, progress=False)
    model = lfm.Model(z=lfm.ExemplarPrior(2), x=lfm.Gaussian(COLUMNS, mean=lfm.MLP(8))).double()
    guide = lfm.Guide(model, z=lfm.Gaussian(network=lfm.MLP(8))).double()
    with pytest.raises(DeclarationError, match="a prior that is made of the rows, and the prior of z"):
        lfm.fit(model, _rows(), lfm.SVI(guide, epochs=1), weights=WEIGHTS, progress=False)


def test_supervised_rows_are_weighted() -> None:
    model = lfm.Model(
        y=lfm.Categorical(3),
        z=lfm.StandardNormal(1),
        x=lfm.Gaussian(COLUMNS, mean=lfm.MLP(8), given=("y", "z")),
    ).double()
    guide = lfm.Guide(
        model,
        y=lfm.Categorical(logits=lfm.MLP(8), given="x"),
        z=lfm.Gaussian(network=lfm.MLP(8), given=("x", "y")),
    ).double()
    y = torch.tensor([0.0, 2.0, torch.nan, 1.0]).double()
    objective = lfm.Penalised(lfm.ELBO(), lfm.Supervised())
    batch = {"x": _rows()[:4], "y": y}
    weights = torch.tensor([0.0, 3.0, 1.0, 0.0]).double()
    one = {n: v[1:2] for n, v in batch.items()}
    alone = objective.bound(model, guide, lfm.Batch(one)).penalties["Supervised"]
    weighted = objective.bound(model, guide, lfm.Batch(batch, weights=weights, total_weight=4.0))
    assert torch.allclose(weighted.penalties["Supervised"], alone * 3 / 4)


def test_weights_belong_to_a_checkpoint(tmp_path: Path) -> None:
    def fit(weights: torch.Tensor | None, epochs: int) -> lfm.Fit:
        model, guide = _network()
        svi = lfm.SVI(guide, epochs=epochs, batch_size=16, engine="eager")
        path = tmp_path / "run"
        return lfm.fit(model, _rows(), svi, weights=weights, seed=0, progress=False, checkpoint=path)

    fit(WEIGHTS, 1)
    for other in (None, WEIGHTS + 1):
        with pytest.raises(lfm.errors.CheckpointError, match="row_weights"):
            fit(other, 2)
    resumed = fit(WEIGHTS, 3)
    model, guide = _network()
    svi = lfm.SVI(guide, epochs=3, batch_size=16, engine="eager")
    whole = lfm.fit(model, _rows(), svi, weights=WEIGHTS, seed=0, progress=False)
    assert [r["bound"] for r in resumed.history] == [r["bound"] for r in whole.history]
    assert lfm.load(tmp_path / "run").total_weight == float(WEIGHTS.sum())


def test_a_row_of_weight_zero_is_in_no_batch() -> None:
    x = _rows()
    seen: list[int] = []
    model = OwnBatch(seen).double()
    guide = lfm.Guide(model, z=lfm.Gaussian(network=lfm.MLP(4))).double()
    lfm.fit(model, x, lfm.SVI(guide, epochs=2, engine="eager"), weights=WEIGHTS, seed=0, progress=False)
    assert {*seen} == {*WEIGHTS.nonzero().flatten().tolist()}


class OwnBatch(lfm.PyroModel):
    """A program that notes the rows that it is given in training."""

    def __init__(self, seen: list[int]) -> None:
        super().__init__()
        self.loading, self.seen = torch.nn.Parameter(torch.randn(2, COLUMNS)), seen

    def forward(self, batch: lfm.Batch) -> None:
        if self.training:
            self.seen.extend(batch.index.tolist())
        with batch.plate():
            zero = self.loading.new_zeros(2)
            z = pyro.sample("z", dist.Normal(zero, zero + 1).to_event(1))
            pyro.sample("x", dist.Normal(z @ self.loading, 1.0).to_event(1), obs=batch["x"])

"""A fit can be pickled, copied and stored by joblib without its rows, and notices when its rows have changed."""

import copy
import io
import pickle
import subprocess
import sys
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import pyro
import pyro.distributions as dist
import pytest
import scipy.sparse
import torch
from torch import nn

import pyro_lfm as lfm
from pyro_lfm.data.digests import RowsSeen

X = np.random.default_rng(0).normal(size=(30, 4)).astype(np.float32)


def trunk(inputs, outputs):
    return nn.Sequential(nn.Linear(inputs, 5), nn.Tanh(), nn.Linear(5, outputs))


class Program(lfm.PyroModel):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(2, 4))

    def forward(self, batch):
        with batch.plate():
            z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(z @ self.weight, 1.0).to_event(1), obs=batch["x"])


def stochastic(network=trunk, data=X, make_model=None, **options):
    torch.manual_seed(0)
    model = (
        make_model() if make_model else lfm.Model(z=lfm.StandardNormal(2), x=lfm.Gaussian(4, mean=network))
    )
    guide = lfm.Guide(model, z=lfm.Gaussian(network=lfm.MLP(5)))
    return lfm.fit(model, data, lfm.SVI(guide, **{"epochs": 1, **options}), seed=0, progress=False)


def with_lambdas():
    """Functions without a name wherever a fitted model does not need them."""
    objective = lfm.Penalised(
        lfm.ELBO(kl_weight=lambda done: done), lfm.TotalCorrelation(lambda done: 2 * done)
    )
    return stochastic(
        lambda inputs, outputs: nn.Linear(inputs, outputs),
        objective=objective,
        schedule=lambda done: 1.0,
        optimizer=lambda parameters, lr: torch.optim.Adam(parameters, lr=lr),
    )


def linear(inference):
    model = lfm.Model(
        z=lfm.StandardNormal(1), x=lfm.Gaussian(4, mean=lfm.Linear(), covariance=lfm.Isotropic())
    )
    return lfm.fit(model, X, inference, seed=0, progress=False)


def bayesian():
    noise = lfm.Isotropic(prior=lfm.parameter_priors.Gamma())
    model = lfm.Model(
        z=lfm.StandardNormal(2),
        x=lfm.Gaussian(4, mean=lfm.Linear(prior=lfm.parameter_priors.ARD()), covariance=noise),
    )
    return lfm.fit(model, X, lfm.VariationalBayes(), seed=0, progress=False)


def vamp():
    model = lfm.Model(z=lfm.VampPrior(2, components=3), x=lfm.Gaussian(4, mean=lfm.MLP(5)))
    guide = lfm.Guide(model, z=lfm.Gaussian(network=lfm.MLP(5)))
    return lfm.fit(model, X, lfm.SVI(guide, epochs=1), seed=0, progress=False)


FITS = {
    "network by a function": stochastic,
    "lambdas": with_lambdas,
    "program": lambda: stochastic(make_model=Program),
    "EM": lambda: linear(lfm.EM(iterations=3)),
    "variational EM": lambda: linear(lfm.VariationalEM(iterations=3)),
    "variational Bayes": bayesian,
    "vamp": vamp,
    "Trace_ELBO": lambda: stochastic(objective=pyro.infer.Trace_ELBO(), engine="pyro"),
}


def means(fit, data):
    posterior = fit.posterior(data)
    return (posterior if not isinstance(posterior, dict) else posterior["z"]).mean


def through_joblib(fit, tmp_path):
    joblib.dump(fit, tmp_path / "fit")
    return joblib.load(tmp_path / "fit")


def through_torch(fit, tmp_path):
    torch.save(fit, tmp_path / "fit")
    return torch.load(tmp_path / "fit", weights_only=False)


WAYS = {
    "pickle": lambda fit, _: pickle.loads(pickle.dumps(fit)),
    "joblib": through_joblib,
    "torch": through_torch,
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", FITS)
def test_a_fit_comes_back_without_its_rows(tmp_path, name, way):
    fit = FITS[name]()
    twin = WAYS[way](fit, tmp_path)
    assert torch.equal(means(twin, X), means(fit, X)) and torch.equal(twin.bound(X), fit.bound(X))
    assert twin.history == fit.history or repr(twin.history) == repr(fit.history)  # NaN
    for ask in (twin.posterior, twin.reconstruct, twin.bound, twin.impute, twin.sample_posterior):
        with pytest.raises(lfm.DataError, match="pickled without them. Give data="):
            ask()
    assert means(fit, None).shape == (30, means(fit, X).shape[-1])  # the fit itself has them still


@pytest.mark.parametrize(
    "rows",
    [
        X,
        torch.tensor(X),
        pd.DataFrame(X),
        scipy.sparse.csr_matrix(X),
        torch.utils.data.TensorDataset(torch.tensor(X)),
        X.tolist(),
    ],
    ids=lambda rows: type(rows).__name__,
)
def test_keep_rows_pickles_the_rows(rows):
    fit = stochastic(data=rows)
    small = len(pickle.dumps(fit))
    fit.keep_rows = True
    twin = pickle.loads(pickle.dumps(fit))
    assert torch.equal(twin.posterior().mean, fit.posterior().mean)
    assert len(pickle.dumps(fit)) > small + X.nbytes / 2


def test_the_frame_of_a_table_is_left_out_too():
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"a": rng.normal(size=2000), "c": rng.choice(["u", "v", "w"], 2000)})
    table = lfm.heterogeneous(frame)
    model = lfm.Model(z=lfm.StandardNormal(1), **table.factors)
    guide = lfm.Guide(model, z=lfm.Gaussian(network=lfm.MLP(2)))
    fit = lfm.fit(model, table.data, lfm.SVI(guide, steps=1), seed=0, progress=False)
    small = len(pickle.dumps(fit))
    fit.keep_rows = True
    assert len(pickle.dumps(fit)) > small + 2000 * 8


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy])
def test_copies_refer_to_the_same_rows(duplicate):
    fit = with_lambdas()
    twin = duplicate(fit)
    assert torch.equal(twin.posterior().mean, fit.posterior().mean)
    assert (twin.model is fit.model) is (duplicate is copy.copy)
    assert twin.bound().shape == (30,)
    fit.model.redrawn(1)
    with pytest.raises(lfm.DeclarationError, match="<lambda> was left out when this was pickled"):
        pickle.loads(pickle.dumps(twin)).model.redrawn(1)


def test_rows_per_datum_need_the_rows_that_were_fitted():
    model = lfm.Model(z=lfm.StandardNormal(2), x=lfm.Gaussian(4, mean=lfm.MLP(5)))
    guide = lfm.Guide(model, z=lfm.Gaussian(network=lfm.PerRow()))
    fit = lfm.fit(model, X, lfm.SVI(guide, epochs=1), seed=0, progress=False)
    with pytest.raises(lfm.DataError, match="keep_rows"):
        pickle.loads(pickle.dumps(fit)).posterior()
    fit.keep_rows = True
    assert torch.equal(pickle.loads(pickle.dumps(fit)).posterior().mean, fit.posterior().mean)


def local_program():
    class Hidden(Program):
        pass

    return Hidden()


def wrapped_function():
    program = Program()
    return lfm.PyroModel(lambda batch: program(batch))


@pytest.mark.parametrize(("make", "words"), [(local_program, "Hidden"), (wrapped_function, "<lambda>")])
def test_classes_that_pickle_cannot_find_are_named_before_a_byte_is_written(make, words):
    fit = stochastic(make_model=make)
    file = io.BytesIO()
    with pytest.raises(lfm.DeclarationError, match=f"cannot be pickled.*{words}.*top of a module"):
        pickle.dump(fit, file)
    assert len(file.getvalue()) < 10
    assert torch.equal(copy.deepcopy(fit).posterior().mean, fit.posterior().mean)
    cloudpickle = pytest.importorskip("cloudpickle")  # which holds the code, and so is not refused
    assert torch.equal(means(pickle.loads(cloudpickle.dumps(fit)), X), means(fit, X))


def test_a_record_that_cannot_be_pickled_is_named_too():
    fit = stochastic()
    fit.history[0]["figure"] = lambda: None
    with pytest.raises(lfm.DeclarationError, match="history"):
        pickle.dumps(fit)


@pytest.mark.slow
def test_a_fit_is_read_in_another_process(tmp_path):
    fit = linear(lfm.EM(iterations=3))
    (tmp_path / "fit").write_bytes(pickle.dumps(fit))
    code = (
        f"import pickle; fit = pickle.load(open({str(tmp_path / 'fit')!r}, 'rb')); "
        "print(fit.posterior([[0.0, 1.0, 2.0, 3.0]]).mean.item())"
    )
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert float(done.stdout) == pytest.approx(fit.posterior([[0.0, 1.0, 2.0, 3.0]]).mean.item())


# Rows that change under a fit --------------------------------------------------------------------------------


class Listed(torch.utils.data.Dataset):
    def __init__(self, rows):
        self.rows = rows

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, k):
        return self.rows[k]


def memory_map(tmp_path):
    rows = np.memmap(tmp_path / "rows", dtype=np.float32, mode="w+", shape=X.shape)
    rows[:] = X
    return rows


CONTAINERS = {
    "array": lambda _: X.copy(),
    "doubles": lambda _: X.astype(np.float64),
    "strided": lambda _: np.asfortranarray(X),
    "tensor": lambda _: torch.tensor(X),
    "memory map": memory_map,
    "DataFrame": lambda _: pd.DataFrame(X),
    "sparse": lambda _: scipy.sparse.csr_matrix(X),
    "Dataset": lambda _: Listed(torch.tensor(X)),
    "masked": lambda _: np.ma.masked_array(X.copy(), mask=X > 2),
    "dict": lambda _: {"x": X.copy()},
}


def change(rows):
    rows = rows["x"] if isinstance(rows, dict) else getattr(rows, "rows", rows)
    if isinstance(rows, pd.DataFrame):
        rows.iloc[11, 2] += 1e-3
    elif scipy.sparse.issparse(rows):
        rows.data[11] += 1e-3
    else:
        rows[11, 2] += 1e-3


@pytest.mark.parametrize("container", CONTAINERS)
def test_a_change_of_one_entry_is_noticed_by_everything_that_reads_the_rows(tmp_path, container):
    rows = CONTAINERS[container](tmp_path)
    fit = linear_on(rows)
    before = fit.log_likelihood()
    assert torch.equal(fit.log_likelihood(), before)
    change(rows)
    asked = [fit.log_likelihood, fit.posterior, fit.reconstruct, fit.impute, fit.bound, fit.sample_posterior]
    for ask in [*asked, copy.deepcopy(fit).bound, lambda: lfm.evaluate.log_likelihood(fit, draws=5)]:
        with pytest.raises(lfm.DataError, match="rows of x have changed since the fit began.*give data="):
            ask()
    assert torch.isfinite(fit.log_likelihood(X)).all()
    assert pickle.loads(pickle.dumps(fit)).posterior(X).mean.shape == (30, 1)


def linear_on(rows):
    model = lfm.Model(
        z=lfm.StandardNormal(1), x=lfm.Gaussian(4, mean=lfm.Linear(), covariance=lfm.Isotropic())
    )
    return lfm.fit(model, rows, lfm.EM(iterations=3), seed=0, progress=False)


def test_rows_that_are_restored_are_accepted_again():
    rows = X.copy()
    fit = linear_on(rows)
    before = fit.log_likelihood()
    rows[:] = 0
    with pytest.raises(lfm.DataError, match="changed"):
        fit.log_likelihood()
    rows[:] = X
    assert torch.equal(fit.log_likelihood(), before)


def test_large_rows_are_compared_in_blocks_from_the_first_to_the_last():
    """100 MiB in double precision: of 64 blocks each is a 64th of 64 MiB, so that two thirds are seen."""
    rows = np.zeros((100, 2**17), dtype=np.uint8)
    table = lfm.data.read(rows, ["x"])
    seen = RowsSeen(table)
    assert seen.are_those_of(table)
    noticed = []
    for row in range(100):
        rows[row, 5] = 1
        noticed.append(not seen.are_those_of(table)) if row in (0, 1, 50, 98, 99) else None
        rows[row, 5] = 0
    assert noticed[0] and noticed[-1] and seen.are_those_of(table)
    rows[:] = 1
    assert not seen.are_those_of(table)


def test_comparing_rows_leaves_the_process_as_it_was():
    class Noisy(Listed):
        def __getitem__(self, k):
            return self.rows[k] + 0.1 * torch.randn(4)

    table = lfm.data.read(Noisy(torch.tensor(X)), ["x"])
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    seen = RowsSeen(table)
    assert seen.digest is None and seen.are_those_of(table)
    assert torch.equal(torch.rand(3), expected)

"""Rows decoded at any point: against draws of the model, in the units of tables, with covariates, labels, shared latents."""

import warnings

import cases
import evaluation_cases
import numpy as np
import pandas as pd
import pyro
import pyro.distributions as dist
import pytest
import torch

import pyro_lfm as lfm
from pyro_lfm.evaluate.decoding.decoded_columns import observed_columns
from pyro_lfm.evaluate.decoding.decoded_rows import RowDecoder

DRAWS = 4000


def fitted(model, data, guide=None, **options):
    guide = cases.guide_for(model, cases.GUIDES["gaussian-diagonal"]) if guide is None else guide
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return lfm.fit(
            model, data, lfm.SVI(guide, **{"steps": 2, "engine": "eager", **options}), seed=0, progress=False
        )


# False alarm: 5 standard errors of a mean, 6 of a deviation and of a share; below 1e-4 for all cases together.
@pytest.mark.parametrize("name", [n for n in cases.LIKELIHOODS if n != "gaussian-with-priors"])
def test_every_likelihood_has_the_moments_and_the_interval_of_its_draws(name):
    model = cases.one_latent(likelihood=name)
    decoder = RowDecoder(fitted(model, cases.rows_of(model)))
    z = torch.linspace(-1, 1, len(decoder.names)).unsqueeze(0)
    (summary,) = decoder(z).values()
    entries = {
        name: z.expand(DRAWS, -1).reshape(DRAWS, *model.latents[name].shape) for name in decoder.factors
    }
    drawn = model.sample(DRAWS, seed=1, given=entries)["x"].reshape(DRAWS, -1).double()
    assert summary.mean.shape == summary.deviation.shape == summary.lower.shape == (1, drawn.shape[1])
    if summary.probabilities is not None:
        codes = drawn.long().unsqueeze(-1) == torch.arange(summary.probabilities.shape[-1])
        assert torch.allclose(codes.double().mean(0), summary.probabilities[0].double(), atol=0.04)
        if bool(summary.deviation.isnan().all()):
            return
    if name != "cauchy" and "student" not in name:
        error = 6 * drawn.std(0) / DRAWS**0.5 + 1e-6
        assert bool(((drawn.mean(0) - summary.mean[0]).abs() < error + 0.05 * summary.deviation[0]).all())
        assert torch.allclose(drawn.std(0), summary.deviation[0].double(), rtol=0.25, atol=1e-3)
    inside = ((drawn >= summary.lower[0] - 1e-6) & (drawn <= summary.upper[0] + 1e-6)).double().mean(0)
    assert bool((inside > 0.87).all()), "an interval of discrete values holds at least its level"
    below = (drawn < summary.lower[0] - 1e-6).double().mean(0)
    assert bool((below < 0.08).all())


DECLARATIONS = (
    "two latents", "two layers", "shared", "shared program", "simplex", "constrained program", "covariates", "views", "VB",
    "flow", "vamp", "labels", "known labels", "codes",
)  # fmt: skip


@pytest.mark.parametrize("name", DECLARATIONS)
def test_every_declaration_is_decoded_at_points_of_its_support(name):
    fit, _ = evaluation_cases.make(name)
    decoder = RowDecoder(fit)
    z = decoder.within_support(torch.randn(5, len(decoder.names), generator=torch.Generator().manual_seed(0)))
    decoded = decoder(z)
    assert [*decoded] == decoder.observed
    for summary in decoded.values():
        assert len(summary.mean) == 5 and bool(summary.mean.isfinite().all())
    means = decoder.means(z)
    for variable, summary in decoded.items():
        if summary.probabilities is None:
            assert torch.allclose(means[variable], summary.mean, atol=1e-5)


def test_a_table_is_decoded_in_its_own_units_and_labels():
    rng = np.random.default_rng(0)
    size = rng.normal(size=80)
    frame = pd.DataFrame({
        "mass": 4000 + 500 * size, "eggs": rng.poisson(np.exp(0.4 * size + 2)), "sex": rng.choice(["f", "m"], 80),
        "kind": np.where(size > 0.3, "a", np.where(size < -0.3, "b", "c")),
        "grade": pd.Categorical.from_codes(np.clip((size + 1.5).astype(int), 0, 2), ["low", "mid", "high"], ordered=True),
    })  # fmt: skip
    table = lfm.heterogeneous(
        frame, network=lfm.MLP(4)
    )  # without priors of parameters, which sample draws anew
    model = lfm.Model(z=lfm.StandardNormal(2), **table)
    fit = fitted(model, table.data, lfm.Guide(model, z=lfm.Gaussian(network=lfm.MLP(8))))
    decoder = RowDecoder(fit)
    columns = {column.name: column for column in observed_columns(decoder)}
    assert [*columns] == [*frame.columns]
    assert {n: c.kind for n, c in columns.items()} == {
        "mass": "number", "eggs": "count", "sex": "category", "kind": "category", "grade": "ordinal"
    }  # fmt: skip
    z = torch.zeros(3, 2)
    decoded = decoder(z)
    cells = {name: column.of(decoded) for name, column in columns.items()}
    drawn = fit.table.decode(model.sample(DRAWS, seed=0, given={"z": torch.zeros(DRAWS, 2)}))
    for name in ("mass", "eggs"):
        cell, own = cells[name], drawn[name].astype(float)
        assert abs(float(cell.mean[0]) - own.mean()) < 6 * own.std() / DRAWS**0.5 + 1e-3
        assert 0.85 < ((own >= float(cell.lower[0])) & (own <= float(cell.upper[0]))).mean()
    for name in ("sex", "kind", "grade"):
        shares = drawn[name].value_counts(normalize=True)
        for label, p in zip(columns[name].labels, cells[name].probabilities[0].tolist(), strict=True):
            assert abs(shares.get(label, 0.0) - p) < 0.05
    assert columns["mass"].spread == pytest.approx(frame["mass"].std(ddof=0), rel=0.02)


def test_covariates_are_held_by_name_at_values_or_labels_and_defaults_are_those_of_the_rows():
    whole = torch.distributions.constraints.integer_interval(0, 2)
    mean = lfm.Linear(
        weight=lfm.Fixed(torch.tensor([[1.0, 0.0, 10.0, 20.0, 30.0]])), bias=lfm.Fixed(torch.zeros(1))
    )
    model = lfm.Model(
        z=lfm.StandardNormal(1), age=lfm.Covariate(), sort=lfm.Covariate(value=0.0, support=whole),
        x=lfm.Gaussian(1, mean=mean, given=("z", "age", "sort")),
    )  # fmt: skip
    data = {
        "x": torch.randn(30, 1), "age": torch.linspace(20.0, 60.0, 30),
        "sort": pd.Series(["u"] * 5 + ["v"] * 20 + ["w"] * 5),
    }  # fmt: skip
    decoder = RowDecoder(fitted(model, data))
    age, sort = decoder.covariates
    assert (age.low, age.high, round(age.value, 3)) == (20.0, 60.0, 40.0)
    assert (sort.labels, sort.value) == (("u", "v", "w"), 1.0), "the most frequent one"
    z = torch.zeros(2, 1)
    assert decoder(z)["x"].mean[:, 0].tolist() == [20.0, 20.0]
    assert decoder(z, {"sort": "w"})["x"].mean[:, 0].tolist() == [30.0, 30.0]
    assert decoder(z, {"sort": ["u", "w"]})["x"].mean[:, 0].tolist() == [10.0, 30.0]
    assert decoder(z, {"sort": torch.tensor(0.0)})["x"].mean[:, 0].tolist() == [10.0, 10.0], (
        "tensors hold codes"
    )
    for given, words in {
        "agee": (
            {"agee": 1.0},
            "covariates must name covariates of the model; got 'agee': they are age, sort",
        ),
        "text": ({"age": "old"}, "must hold a number for age; got 'old'"),
        "label": ({"sort": "x"}, "must hold a label of sort: 'u', 'v', 'w'"),
        "nan": ({"age": float("nan")}, "finite number for age"),
        "outside": ({"sort": torch.tensor(7.0)}, "in its support"),
        "three": ({"age": [1.0, 2.0, 3.0]}, "one value of age, or one for each of 2 rows; got 3"),
    }.values():
        with pytest.raises(ValueError, match=words):
            decoder(z, given)


def test_labels_among_the_latents_are_held_or_the_most_probable_one():
    logits = lfm.Fixed(torch.tensor([0.0, 2.0, 0.0]))
    mean = lfm.Linear(weight=lfm.Fixed(torch.tensor([[1.0, 2.0, 3.0]])), bias=lfm.Fixed(torch.zeros(1)))
    model = lfm.Model(y=lfm.Categorical(3, logits=logits), x=lfm.Gaussian(1, mean=mean, given="y"))
    fit = fitted(
        model, torch.randn(20, 1), lfm.Guide(model, y=lfm.Categorical(logits=lfm.MLP(4))), learning_rate=1e-9
    )
    decoder = RowDecoder(fit)
    assert (decoder.names, decoder.labels) == ([], {"y": 3})
    nothing = torch.zeros(2, 0)
    assert torch.allclose(decoder(nothing)["x"].mean[:, 0], torch.tensor(2.0), atol=1e-4)
    each = decoder(nothing, labels={"y": torch.tensor([0, 2])})["x"].mean[:, 0]
    assert torch.allclose(each, torch.tensor([1.0, 3.0]), atol=1e-4)
    for labels, words in (
        ({"z": 0}, "they are y"),
        ({"y": 5}, "values that y can have"),
        ({"y": [1, 2, 0]}, "shape"),
    ):
        with pytest.raises(ValueError, match=words):
            decoder(nothing, labels=labels)


class Pair(lfm.PyroModel):
    """A program with a latent that all rows share, and a variable that reads another observed one."""

    def forward(self, batch):
        scale = pyro.sample("scale", dist.Gamma(2.0, 1.0))
        with batch.plate():
            r = pyro.sample("r", dist.Gamma(torch.full((2,), 2.0), torch.ones(2)).to_event(1))
            x = pyro.sample("x", dist.Poisson(scale * r).to_event(1), obs=batch["x"])
            pyro.sample("y", dist.Normal(x.sum(-1), 1.0), obs=batch["y"])


def test_a_program_with_a_variable_that_reads_another():
    model = Pair()
    guide = lfm.Guide(model, r=lfm.Gaussian(network=lfm.MLP(4)), scale=lfm.Gaussian())
    data = {"x": torch.ones(20, 2), "y": torch.ones(20)}
    decoder = RowDecoder(fitted(model, data, guide))
    assert decoder.names == ["r_1", "r_2"]
    decoded = decoder(torch.tensor([[1.0, 2.0]]))
    assert decoded["y"].mean.item() == decoded["x"].mean.round().sum().item(), (
        "it reads the mean, as whole counts"
    )
    with pytest.raises(lfm.DataError, match="values that r can have"):
        decoder(torch.tensor([[-1.0, 1.0]]))
    assert bool((decoder.within_support(torch.tensor([[-1.0, 1.0]])) > 0).all())
    for z, words in (
        (torch.zeros(3), "shape"),
        (torch.zeros(2, 3), "shape"),
        (torch.full((1, 2), torch.nan), "finite"),
    ):
        with pytest.raises(ValueError, match=words):
            decoder(z)

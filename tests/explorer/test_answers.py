"""Answers of a session against what is known: a linear Gaussian model in closed form, and the fit's own queries."""

import math

import explored
import numpy as np
import pandas as pd
import pytest
import torch

import pyro_lfm as lfm
from pyro_lfm.explorer.user_rows import user_rows
from pyro_lfm.web.refusal import Refusal


@pytest.fixture(scope="module")
def line():
    fit, rows, weight = explored.linear()
    labels = {"sign": np.where(rows[:, 0] > 0, "plus", "minus"), "size": rows.norm(dim=1)}
    return fit, rows, weight, explored.answers_of(fit, rows, labels)


def noise_of(fit):
    """The standard deviation of the entries given z."""
    return fit.model.factors["x"](torch.zeros(1, 3)).stddev[0, 0].detach()


def in_order(answers, z):
    """A point of the model as the page has it."""
    return [float(z[k]) for k in answers.session.axes.order]


def test_factors_stand_in_the_order_of_the_variance_that_they_explain(line):
    _, _, weight, answers = line
    factors = answers.session.info()["factors"]
    strongest = weight.square().sum(0).argsort(descending=True)
    assert [f["name"] for f in factors] == [f"z_{k + 1}" for k in strongest.tolist()]
    shares = [f["share"] for f in factors]
    assert shares == sorted(shares, reverse=True) and all(f["low"] < f["mean"] < f["high"] for f in factors)


def test_a_decoded_point_is_w_z_plus_the_bias(line):
    fit, _, weight, answers = line
    z = torch.tensor([0.5, -1.0, 2.0])
    (view,) = answers.decode({"z": in_order(answers, z)})["views"]
    expected = weight @ z + 0.5
    assert torch.allclose(torch.tensor(view["mean"]), expected, atol=1e-4)
    assert torch.allclose(torch.tensor(view["deviation"]), noise_of(fit).expand(64), atol=1e-5)


def test_a_row_has_its_exact_posterior_and_the_points_are_all_of_them(line):
    fit, rows, weight, answers = line
    precision = torch.eye(3) + weight.T @ weight / noise_of(fit) ** 2
    means = torch.linalg.solve(precision, weight.T @ (rows.T - 0.5) / noise_of(fit) ** 2).T
    order = answers.session.axes.order
    points = np.frombuffer(answers.points(), "<f4").reshape(60, 3)
    assert np.allclose(points, means[:, order], atol=1e-4)
    row = answers.row(7)
    assert np.allclose(row["z"], means[7, order], atol=1e-4)
    covariance = torch.linalg.inv(precision)[order][:, order]
    assert np.allclose(row["covariance"], covariance, atol=1e-5)
    assert np.allclose(row["original"][0]["mean"], rows[7], atol=1e-4)
    assert np.allclose(row["views"][0]["mean"], weight @ means[7] + 0.5, atol=1e-3)
    assert row["colours"]["sign"] == float(rows[7, 0] > 0)


def test_a_row_that_is_pasted_has_the_answer_of_the_same_row_of_the_data(line):
    _, rows, _, answers = line
    pasted, own = answers.encode({"views": [rows[4].tolist()]}), answers.row(4)
    assert np.allclose(pasted["z"], own["z"], atol=1e-5)
    assert np.allclose(pasted["views"][0]["mean"], own["views"][0]["mean"], atol=1e-4)


def test_a_row_with_gaps_is_inferred_from_the_rest(line):
    fit, rows, _, answers = line
    gaps = rows[4].clone()
    gaps[::2] = torch.nan
    given = [None if math.isnan(value) else value for value in gaps.tolist()]
    answer = answers.encode({"views": [given]})
    assert np.allclose(answer["z"], fit.posterior(gaps[None]).mean[0][answers.session.axes.order], atol=1e-5)
    assert answer["original"][0]["mean"][0] is None and None not in answer["views"][0]["mean"]
    with pytest.raises(Refusal, match="at least one value"):
        answers.encode({"views": [[None] * 64]})


def test_principal_axes_are_those_of_the_posterior_means(line):
    _, _, _, answers = line
    pca = answers.session.info()["pca"]
    points = answers.session.axes.points - np.array(pca["mean"])
    variances = (points @ np.array(pca["axes"]).T).var(0)
    assert np.allclose(variances / variances.sum(), pca["shares"], atol=1e-4) and sum(pca["shares"]) > 0.999
    assert np.allclose(np.array(pca["axes"]) @ np.array(pca["axes"]).T, np.eye(3), atol=1e-6)


def test_colours_hold_the_labels_the_bound_and_pareto_k(line):
    fit, rows, _, answers = line
    colours = answers.session.info()["colours"]
    assert [colour["name"] for colour in colours] == ["sign", "size", "bound", "Pareto k̂"]
    assert colours[0]["labels"] == ["minus", "plus"]
    values = [np.frombuffer(answers.colour(k), "<f4") for k in range(4)]
    assert np.array_equal(values[0], (rows[:, 0] > 0).numpy())
    assert np.allclose(values[1], rows.norm(dim=1)) and np.isclose(
        colours[1]["high"], values[1].max(), rtol=1e-5
    )
    # The bound with the exact posterior is log p(x), up to the noise of one draw that cancels.
    assert np.allclose(values[2], fit.log_likelihood(rows), atol=1e-2)
    assert (values[3] == -np.inf).all()
    with pytest.raises(Refusal, match="there are 4 colours"):
        answers.colour(4)


def test_chosen_rows_are_compared_with_the_others(line):
    _, rows, _, answers = line
    chosen = torch.nonzero(rows[:, 0] > 0).flatten().tolist()
    answer = answers.summary({"rows": chosen})
    assert answer["count"] == len(chosen)
    first = answer["columns"][0]  # the column that differs most
    assert first["name"] == "sign" and first["inside"] == [0.0, 1.0] and first["outside"] == [1.0, 0.0]
    size = answer["columns"][1]
    inside = rows[chosen].norm(dim=1)
    assert np.isclose(size["mean_inside"], inside.mean(), rtol=1e-4)
    assert np.isclose(sum(size["inside"]), 1, atol=1e-4) and len(size["edges"]) == len(size["inside"]) + 1
    everything = answers.summary({"rows": list(range(60))})
    assert all(column["outside"] == [0.0] * len(column["inside"]) for column in everything["columns"])


@pytest.fixture(scope="module")
def pets(tmp_path_factory):
    fit, path = explored.of_pets(tmp_path_factory.mktemp("pets"))
    return fit, path, explored.answers_of(fit, path)


def test_a_mixed_table_is_shown_in_its_own_units_and_labels(pets):
    fit, _, answers = pets
    (view,) = answers.session.info()["views"]
    assert [(c["name"], c["kind"]) for c in view["columns"]] == [
        ("kg", "number"),
        ("kittens", "count"),
        ("fur", "category"),
    ]
    frame = explored.pets()
    assert np.isclose(view["columns"][0]["low"], frame.kg.min(), atol=1e-4)
    assert view["columns"][2]["labels"] == ["long", "short"]
    row = answers.row(3)
    assert [cell["value"] for cell in row["original"][0]["cells"]] == [None, frame.kittens[3], 0.0]
    kg, kittens, fur = row["views"][0]["cells"]
    assert kg["low"] < kg["mean"] < kg["high"] and frame.kg.min() < kg["mean"] < frame.kg.max()
    assert kittens["low"] == int(kittens["low"]) and np.isclose(sum(fur["probabilities"]), 1, atol=1e-5)


def test_intervals_of_a_mixed_table_hold_90_percent_of_its_cells(pets):
    """In 159 observed cells of two columns; the fit is approximate, so the bounds are wide."""
    _, _, answers = pets
    within = []
    for place in range(80):
        row = answers.row(place)
        for cell, decoded in zip(row["original"][0]["cells"][:2], row["views"][0]["cells"][:2], strict=True):
            if cell["value"] is not None:
                within.append(decoded["low"] <= cell["value"] <= decoded["high"])
    assert len(within) == 159 and 0.8 <= np.mean(within) <= 1


def test_a_pasted_row_of_a_mixed_table_comes_in_its_units(pets):
    fit, _, answers = pets
    frame = explored.pets().drop(columns="name")
    pasted = answers.encode({"views": [[float(frame.kg[1]), int(frame.kittens[1]), 1]]})
    assert np.allclose(pasted["z"], answers.row(1)["z"], atol=2e-2) or frame.fur[1] != "short"
    expected = fit.posterior(frame.iloc[[1]].assign(fur="short")).mean[0]
    assert np.allclose(pasted["z"], expected[answers.session.axes.order], atol=1e-5)
    with pytest.raises(lfm.DataError, match="column 'kittens' must be whole numbers"):
        answers.encode({"views": [[1.0, 2.5, 0]]})
    for code in (2, -1, 0.5, 1e30):
        with pytest.raises(Refusal, match="fur must be the code of one of its 2 labels, from 0; got"):
            answers.encode({"views": [[1.0, 2, code]]})


def test_labels_and_covariates_change_what_is_decoded():
    fit, data = explored.labelled()
    answers = explored.answers_of(fit, data)
    info = answers.session.info()
    assert info["labels"] == [{"name": "y", "labels": ["0", "1", "2"], "value": 0}]
    assert [(c["name"], c["kind"], c["labels"]) for c in info["covariates"]] == [
        ("dose", "number", None),
        ("arm", "category", ["drug", "sugar"]),
    ]
    parents = [torch.tensor([2]), torch.zeros(1, 2), torch.tensor([1.5]), torch.tensor([1.0])]
    expected = fit.model.factors["x"](*parents).mean[0]
    asked = {"z": [0, 0], "labels": {"y": 2}, "covariates": {"dose": 1.5, "arm": 1}}
    cells = answers.decode(asked)["views"][0]["cells"]
    assert np.allclose([cell["mean"] for cell in cells], expected.detach(), atol=1e-5)
    row = answers.row(3)
    assert row["covariates"]["arm"] == 1 and np.isclose(row["covariates"]["dose"], data["dose"][3], atol=1e-5)
    assert row["labels"]["y"] in (0, 1, 2)
    assert answers.csv({"rows": [3]}).splitlines()[1].split(",")[2] == "sugar"


def test_several_latents_stand_side_by_side():
    torch.manual_seed(0)
    model = lfm.Model(
        z=lfm.StandardNormal(2),
        w=lfm.StandardNormal(1),
        x=lfm.Gaussian(5, mean=lfm.MLP(8)),
        n=lfm.Poisson(2, rate=lfm.MLP(8)),
    )
    guide = lfm.Guide(model, z=lfm.Gaussian(network=lfm.MLP(8)), w=lfm.Gaussian(network=lfm.MLP(8)))
    data = {"x": torch.randn(30, 5), "n": torch.ones(30, 2)}
    fit = lfm.fit(model, data, lfm.SVI(guide, steps=2), seed=0, progress=False)
    answers = explored.answers_of(fit, data)
    info = answers.session.info()
    assert {(f["latent"], f["entry"]) for f in info["factors"]} == {("z", 1), ("z", 2), ("w", 1)}
    assert [view["name"] for view in info["views"]] == ["x", "n"]
    row = answers.row(0)
    both = torch.cat([fit.posterior(data)[name].mean[0] for name in ("z", "w")])
    assert np.allclose(row["z"], both[answers.session.axes.order], atol=1e-5) and len(row["covariance"]) == 3


def test_rows_with_parameters_of_their_own():
    """A PerRow guide: the explorer shows the tables of the fit for its own rows, also where they are given again."""
    torch.manual_seed(0)
    model = lfm.Model(z=lfm.StandardNormal(1), x=lfm.Gaussian(4, mean=lfm.Linear()))
    guide = lfm.Guide(model, z=lfm.Gaussian(mean=lfm.PerRow()))
    rows = torch.randn(12, 4)
    fit = lfm.fit(model, rows, lfm.SVI(guide, epochs=5), seed=0, progress=False)
    fitted = fit.posterior().mean[:, 0]
    answers = explored.answers_of(fit, rows.clone())
    assert np.allclose(answers.session.axes.points[:, 0], fitted, atol=1e-6)
    assert np.allclose(answers.row(5)["z"], fitted[5], atol=1e-5)
    assert user_rows(fit, None).data is None and user_rows(fit, rows + 1).data is not None


@pytest.mark.parametrize("given", [True, False], ids=["the data given", "the fitted rows"])
def test_labels_that_are_known_in_some_rows(given):
    torch.manual_seed(0)
    parents = ("y", "z")
    model = lfm.Model(
        y=lfm.Categorical(3), z=lfm.StandardNormal(2), x=lfm.Gaussian(4, mean=lfm.MLP(8), given=parents)
    )
    guide = lfm.Guide(model, y=lfm.Categorical(network=lfm.MLP(8)), z=lfm.Gaussian(network=lfm.MLP(8)))
    species = pd.Series([["cat", "dog", "emu"][k % 3] if k % 2 else None for k in range(30)])
    data = {"x": torch.randn(30, 4), "y": species}
    fit = lfm.fit(model, data, lfm.SVI(guide, steps=5), seed=0, progress=False)
    answers = explored.answers_of(fit, data if given else None)
    info = answers.session.info()
    assert info["labels"] == [{"name": "y", "labels": ["cat", "dog", "emu"], "value": 0}]
    assert info["colours"][0] == {"name": "y", "kind": "category", "labels": ["cat", "dog", "emu"]}
    codes = np.frombuffer(answers.colour(0), "<f4")
    assert np.isnan(codes[::2]).all() and codes[1::2].tolist() == [k % 3 for k in range(1, 30, 2)]
    assert [answers.row(k)["labels"]["y"] for k in (1, 3, 5)] == [1, 0, 2]
    assert answers.row(2)["labels"]["y"] == int(fit.posterior(data)["y"].probs[2].argmax())
    assert answers.csv({"rows": [5, 2]}).splitlines()[1].split(",")[-1] == "emu"

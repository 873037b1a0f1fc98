"""Walks along factors, covariates and labels: what they show is what the decoder says; and what they refuse."""

import evaluation_cases
import numpy as np
import pandas as pd
import pytest
import torch

import pyro_lfm as lfm
from pyro_lfm import plots
from pyro_lfm.evaluate.decoding.decoded_columns import observed_columns
from pyro_lfm.evaluate.decoding.decoded_rows import RowDecoder


def rows_of_pictures(figure, size, steps, blocks):
    """The pictures of a mosaic of one-pixel gutters, (blocks, steps, size, size), as ink."""
    canvas = 1 - figure.axes[0].images[0].get_array()[..., 0]
    pitch = size + 1
    across = [canvas[:, i * pitch : i * pitch + size] for i in range(steps)]
    height = (canvas.shape[0] + 1) // blocks
    return np.stack([[part[j * height : j * height + size] for part in across] for j in range(blocks)])


def labels(figure):
    return [text.get_text() for text in figure.axes[0].get_yticklabels()]


@pytest.fixture(scope="module")
def conditional():
    """Pictures of 2 × 2 pixels whose first pixel is z_1, the second the age, the third the sort."""
    weight = torch.zeros(4, 5)
    weight[0, 0], weight[1, 2], weight[2, 3], weight[3, 1] = 0.1, 0.01, 0.5, 0.02
    mean = lfm.Linear(weight=lfm.Fixed(weight), bias=lfm.Fixed(torch.tensor([0.5, 0.0, 0.2, 0.5])))
    model = lfm.Model(
        z=lfm.StandardNormal(2), age=lfm.Covariate(),
        sort=lfm.Covariate(value=0.0, support=torch.distributions.constraints.integer_interval(0, 1)),
        x=lfm.Gaussian(4, mean=mean, covariance=lfm.Isotropic(lfm.Fixed(0.05)), given=("z", "age", "sort")),
    )  # fmt: skip
    given = {"age": torch.linspace(20.0, 80.0, 50), "sort": torch.arange(50) % 2}
    x = model.sample(50, seed=0, given=given)["x"].clamp(0, 1)
    data = {"x": x, "age": given["age"], "sort": pd.Series(np.where(given["sort"] == 1, "b", "a"))}
    guide = lfm.Guide(model, z=lfm.Gaussian(network=lfm.MLP(8)))
    return lfm.fit(model, data, lfm.SVI(guide, epochs=4, engine="eager"), seed=0, progress=False)


def test_covariates_are_walked_and_held(conditional):
    figure = plots.factor_walk(conditional, shape=(2, 2), walk="age", steps=4, covariates={"sort": "a"})
    assert labels(figure) == ["age"] and figure.axes[0].get_xlabel() == "age"
    assert [text.get_text() for text in figure.axes[0].get_xticklabels()] == ["20", "40", "60", "80"]
    (shown,) = rows_of_pictures(figure, 2, 4, 1)
    assert np.allclose(shown[:, 0, 1], [0.2, 0.4, 0.6, 0.8], atol=1e-5), (
        "the second pixel is a hundredth of the age"
    )
    held = plots.factor_walk(
        conditional, shape=(2, 2), walk="z_1", steps=3, covariates={"age": 60.0, "sort": "a"}
    )
    assert np.allclose(rows_of_pictures(held, 2, 3, 1)[0, :, 0, 1], 0.6, atol=1e-5)
    sorts = plots.factor_walk(conditional, shape=(2, 2), walk="sort")
    assert [text.get_text() for text in sorts.axes[0].get_xticklabels()] == ["a", "b"]
    both = plots.factor_walk(conditional, shape=(2, 2), walk=["sort", "z_2"], steps=3)
    assert labels(both) == ["sort", "$z_{2}$"]


def test_a_walk_from_a_row_passes_its_reconstruction_and_frames_it(conditional):
    posterior = conditional.posterior().mean
    for start in (7, posterior[7]):
        figure = plots.factor_walk(conditional, shape=(2, 2), walk="z_1", steps=5, start=start,
                                   covariates={"age": 50.0, "sort": "a"})  # fmt: skip
        (frame,) = figure.axes[0].patches
        at = round((frame.get_x() + 0.5) / 3)
        shown = rows_of_pictures(figure, 2, 5, 1)[0, at]
        mean = RowDecoder(conditional).means(posterior[7:8], {"age": 50.0, "sort": "a"})["x"]
        assert np.allclose(shown.reshape(-1), mean[0].clamp(0, 1), atol=1e-5)
    own = plots.factor_walk(conditional, shape=(2, 2), walk="z_1", steps=5, start=7)
    age = float(conditional.some_rows(50)["age"][7])
    assert np.allclose(rows_of_pictures(own, 2, 5, 1)[0, :, 0, 1], age / 100, atol=1e-5), (
        "with the row's own covariates"
    )


def test_labels_have_rows_of_their_own_or_are_held_or_walked():
    fit, _ = evaluation_cases.make("known labels")
    named = labels(plots.factor_walk(fit, shape=(2, 2), steps=3))
    assert len(named) == 6 and {name.split(", ")[1] for name in named} == {"y = 0", "y = 1", "y = 2"}
    assert len(labels(plots.factor_walk(fit, shape=(2, 2), steps=3, labels={"y": 1}))) == 2
    walked = plots.factor_walk(fit, shape=(2, 2), walk="y")
    assert [text.get_text() for text in walked.axes[0].get_xticklabels()] == ["0", "1", "2"]
    for case in ("labels", "codes", "counts"):
        assert labels(plots.factor_walk(evaluation_cases.make(case)[0], shape=(2, 2), steps=3))


def test_panels_of_a_table_hold_the_means_the_intervals_and_the_probabilities_of_the_decoder():
    rng = np.random.default_rng(0)
    size = rng.normal(size=60)
    frame = pd.DataFrame({
        "mass": 4000 + 500 * size, "length": 20 + 2 * size + rng.normal(size=60),
        "kind": np.where(size > 0, "big", "small"),
    })  # fmt: skip
    table = lfm.heterogeneous(frame, network=lfm.MLP(4))
    model = lfm.Model(z=lfm.StandardNormal(2), **table)
    guide = lfm.Guide(model, z=lfm.Gaussian(network=lfm.MLP(8)))
    fit = lfm.fit(model, table.data, lfm.SVI(guide, epochs=3, engine="eager"), seed=0, progress=False)
    figure = plots.factor_walk(fit, steps=5, start=3, factors=1)
    panels = {ax.get_title(loc="left"): ax for ax in figure.axes}
    assert [*panels] == ["mass", "length", "kind"]
    decoder = RowDecoder(fit)
    z = fit.posterior().mean[3:4]
    cells = {column.name: column.of(decoder(z)) for column in observed_columns(decoder)}
    (line,) = (line for line in panels["mass"].lines if len(line.get_xdata()) == 5)
    at = int(panels["mass"].lines[-1].get_xdata()[0])
    assert line.get_ydata()[at] == pytest.approx(float(cells["mass"].mean[0]), rel=1e-5)
    bar = panels["mass"].patches[at]
    assert bar.get_y() == pytest.approx(float(cells["mass"].lower[0]), rel=1e-5)
    assert bar.get_y() + bar.get_height() == pytest.approx(float(cells["mass"].upper[0]), rel=1e-5)
    stacked = [
        patch.get_height() for patch in panels["kind"].patches if abs(patch.get_x() + 0.45 - at) < 1e-6
    ]
    assert np.allclose(stacked, cells["kind"].probabilities[0], atol=1e-6)
    assert [text.get_text() for text in panels["kind"].get_legend().get_texts()] == ["small", "big"]
    again = plots.factor_walk(fit, steps=3, start=frame.iloc[[3]], columns=["kind"])
    assert {ax.get_title(loc="left") for ax in again.axes} == {"kind", ""}


REFUSALS = {
    "an unknown name": (
        {"walk": "size"},
        "walk must name factors, covariates or labels of the model, z_1, z_2, age, sort",
    ),
    "an unknown order": ({"order": "size"}, "order must be"),
    "a row beyond": ({"start": 50}, "a row must be a number below 50"),
    "two rows": (
        {"start": {"x": torch.rand(2, 4), "age": torch.ones(2), "sort": ["a", "b"]}},
        "start must be one row; got 2",
    ),
    "another shape": ({"shape": (3, 3)}, "of as many entries as a variable has"),
    "two channels": ({"shape": (2, 2, 1)}, "one or three channels"),
    "an unknown column": (
        {"shape": None, "columns": ["y"]},
        "columns must name columns of the rows, x_1, x_2",
    ),
    "an unknown covariate": ({"covariates": {"weight": 3}}, "they are age, sort"),
    "no reach": ({"reach": 0.0}, "reach"),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_a_refusal_says_why(name, conditional):
    options, words = REFUSALS[name]
    with pytest.raises(ValueError, match=words):
        plots.factor_walk(conditional, **{"shape": (2, 2), "steps": 3, **options})


def test_colour_pictures_and_flat_rows():
    model = lfm.Model(z=lfm.StandardNormal(2), x=lfm.Bernoulli((3, 4, 4), logits=lfm.MLP(8)))
    guide = lfm.Guide(model, z=lfm.Gaussian(network=lfm.MLP(8)))
    rows = torch.rand(20, 3, 4, 4).round()
    fit = lfm.fit(model, rows, lfm.SVI(guide, steps=1), seed=0, progress=False)
    canvas = plots.factor_walk(fit, steps=3).axes[0].images[0].get_array()
    z = lfm.evaluate.variance_explained(fit).factors
    assert canvas.shape[2] == 3 and len(z) == 2 and not np.allclose(canvas[..., 0], canvas[..., 1])
    flat = lfm.Model(z=lfm.StandardNormal(2), x=lfm.Bernoulli(192, logits=lfm.MLP(8)))
    guide = lfm.Guide(flat, z=lfm.Gaussian(network=lfm.MLP(8)))
    fit = lfm.fit(flat, torch.rand(20, 192).round(), lfm.SVI(guide, steps=1), seed=0, progress=False)
    with pytest.raises(lfm.ShapeError, match=r"shape=\(3, 8, 8\)"):
        plots.factor_walk(fit)

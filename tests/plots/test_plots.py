"""Pictures: what they show, what they refuse, and that they leave matplotlib's state alone."""

import builtins
import io
import math
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image

import pyro_lfm as lfm
from pyro_lfm import plots


def pixels(figure):
    with io.BytesIO() as file:
        figure.savefig(file, format="png", dpi=60)
        return np.asarray(Image.open(file).convert("RGB")).astype(float)


def history(start, epochs=6, validation=True):
    """A bound that rises from far below, measured on held-out rows at every second epoch."""
    return [
        {
            "epoch": e,
            "bound": start - 100 / e**2,
            "validation_bound": start - 5.0 if validation and e % 2 == 0 else math.nan,
        }
        for e in range(1, epochs + 1)
    ]


@pytest.fixture(scope="module")
def fitted():
    model = lfm.Model(z=lfm.StandardNormal(3), x=lfm.Bernoulli(16, logits=lfm.MLP(8)))
    guide = lfm.Guide(model, z=lfm.Gaussian(network=lfm.MLP(8)))
    return lfm.fit(model, torch.ones(20, 16), lfm.SVI(guide, steps=2), seed=0, progress=False)


@pytest.fixture(scope="module")
def compared():
    """A comparison of four candidates, one of which failed, whose differences are made up: small, large, far too large."""
    torch.manual_seed(0)
    model = lfm.Model(z=lfm.StandardNormal(1), x=lfm.Gaussian(3, mean=lfm.Linear()))
    candidates = {name: lfm.EM(iterations=3) for name in ("base", "near", "far", "failed")}
    result = lfm.compare(
        model, torch.randn(30, 3), candidates, seeds=2, metrics=["bound", "gap"], progress=False
    )
    for name, shift in (("near", 0.5), ("far", -400.0), ("failed", math.nan)):
        result.rows["bound"][name] += shift + 0.3 * torch.randn(2, 30)
        result.values["bound"][name] += shift
    return result


def test_differences_show_the_better_direction_and_name_distant_candidates(compared):
    figure = plots.differences(compared)
    (ax,) = figure.axes
    assert [label.get_text() for label in ax.get_yticklabels()] == ["near", "far"]
    low, high = ax.get_xlim()
    assert -400 < low < 0 < 0.5 < high < 3, "what lies far off presses the others to nothing"
    words = [text.get_text().strip() for text in ax.texts]
    assert [word.split(".")[0] for word in words if "±" in word] == ["+0", "−399"]
    assert "right is better" in ax.get_title(loc="left") and "over base, nats per row" in ax.get_xlabel()
    assert "left is better" in plots.differences(compared, "gap").axes[0].get_title(loc="left")
    assert pixels(figure).std() > 5
    with pytest.raises(lfm.DeclarationError, match="metrics are bound, gap"):
        plots.differences(compared, "speed")


def test_bounds_by_time_show_the_ends_of_all_candidates(compared):
    figure = plots.bounds_by_time(compared)
    left, right = figure.axes
    assert [left.get_xlabel(), right.get_xlabel()] == ["epoch", "seconds of training"]
    assert {text.get_text().split()[0] for text in right.texts} == {"base", "near", "far", "failed"}
    assert pixels(figure).std() > 5


def test_a_comparison_of_one_candidate_has_no_differences():
    model = lfm.Model(z=lfm.StandardNormal(1), x=lfm.Gaussian(3, mean=lfm.Linear()))
    result = lfm.compare(model, torch.randn(30, 3), {"EM": lfm.EM()}, metrics="bound", progress=False)
    with pytest.raises(lfm.DeclarationError, match="no candidate was measured beside the baseline EM"):
        plots.differences(result)


FIGURES = {
    "bounds": lambda fit: plots.bounds({"a": history(0.0), "b": history(1.0)}),
    "long names": lambda fit: plots.bounds({"full-covariance": history(700.0), "per-row": history(-100.0)}),
    "one epoch": lambda fit: plots.bounds({"a": history(0.0, epochs=1)}),
    "gallery": lambda fit: plots.gallery(torch.rand(5, 3, 4, 4), title="colours"),
    "prior_draws": lambda fit: plots.prior_draws(fit.model.sample(6, seed=0)["x"], shape=(4, 4), columns=3),
    "reconstructions": lambda fit: plots.reconstructions(
        torch.rand(3, 16), {"a": torch.rand(3, 16)}, shape=(4, 4)
    ),
    "factor_walk": lambda fit: plots.factor_walk(fit, shape=(1, 4, 4), start=torch.zeros(3), factors=2),
    "latent_map": lambda fit: plots.latent_map({"a": fit.posterior().mean}, torch.arange(20) % 4),
}


@pytest.mark.parametrize("name", FIGURES)
def test_every_figure_draws(name, fitted):
    image = pixels(FIGURES[name](fitted))
    assert image.std() > 5, "blank"
    border = np.concatenate([image[0], image[-1], image[:, 0], image[:, -1]])
    assert (border > 250).all(), "something is cut off at the border"


def test_bounds_show_where_the_guides_differ():
    ax = plots.bounds({"a": history(0.0), "b": history(3.0)}).axes[0]
    low, high = ax.get_ylim()
    assert -40 < low < -7, "the first epoch, at −100, is left out; the last of every line is in"
    assert 3 - 100 / 36 < high < 3
    assert [text.get_text() for text in ax.texts] == ["a  −2.8", "b  0.2"]
    solid, dashed = ax.lines[0], ax.lines[1]
    assert solid.get_color() == dashed.get_color() == plots.colours(["a"])[0]
    assert list(dashed.get_xdata()) == [2, 4, 6], "epochs without a measurement have no point"


def test_a_guide_far_below_leaves_the_picture_and_is_named_at_the_bottom():
    ax = plots.bounds({"a": history(0.0), "b": history(-900.0)}).axes[0]
    assert ax.get_ylim()[0] > -60
    far, near = ax.texts
    assert far.get_text() == "b  −902.8 ↓" and far.xy[1] < 0.1 and near.get_text() == "a  −2.8"


def test_bounds_without_validation_have_no_legend():
    assert plots.bounds({"a": history(0.0, validation=False)}).axes[0].get_legend() is None


def test_labels_at_line_ends_never_overlap():
    ax = plots.bounds({name: history(0.01 * i) for i, name in enumerate("abcd")}).axes[0]
    places = sorted(text.xy[1] for text in ax.texts)
    assert min(np.diff(places)) > 0.05 and places[-1] <= 1


def test_a_walk_moves_one_factor_and_orders_by_effect():
    weight = torch.tensor([[0.1, 0.0], [0.0, 1.0], [0.0, 0.0], [0.0, 0.0]])
    mean = lfm.Linear(weight=lfm.Fixed(weight), bias=lfm.Fixed(0.5))
    model = lfm.Model(z=lfm.StandardNormal(2), x=lfm.Gaussian(4, mean=mean))
    guide = lfm.Guide(model, z=lfm.Gaussian(network=lfm.MLP(4)))
    fit = lfm.fit(model, torch.rand(10, 4), lfm.SVI(guide, steps=1), seed=0, progress=False)
    figure = plots.factor_walk(fit, shape=(2, 2), steps=3, reach=2.5)
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["$z_{2}$", "$z_{1}$"]
    canvas = figure.axes[0].images[0].get_array()[..., 0]
    first, last = canvas[:2, :2], canvas[:2, -2:]
    assert first[0, 1] == 1 and last[0, 1] == 0, "the second entry runs from white to black"
    assert np.array_equal(first[1], last[1]), "entries that read neither factor stay"


def test_pictures_are_dark_ink_on_white():
    canvas = plots.gallery(torch.tensor([[0.0, 1.0, 2.0, -1.0]]), shape=(2, 2)).axes[0].images[0].get_array()
    assert canvas[..., 0].tolist() == [[1.0, 0.0], [0.0, 1.0]]


def test_a_map_of_two_factors_is_the_space_itself():
    means = torch.randn(30, 2)
    ax = plots.latent_map(means, torch.zeros(30)).axes[0]
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("$z_{1}$", "$z_{2}$")
    shown = np.asarray(ax.collections[0].get_offsets())
    assert np.allclose(np.sort(shown, axis=0), np.sort(means.numpy(), axis=0))


def test_a_map_of_one_factor_has_a_line_for_each_class():
    means, labels = torch.randn(30, 1), torch.arange(30) % 3
    for given in (means, means[:, 0]):
        ax = plots.latent_map(given, labels).axes[0]
        shown = np.asarray(ax.collections[0].get_offsets())
        assert np.allclose(np.sort(shown[:, 0]), np.sort(means[:, 0].numpy()))
        lines = -np.round(shown[:, 1])
        assert sorted(lines) == sorted(labels.tolist()) and "line for each class" in ax.get_xlabel()


REFUSALS = {
    "flat rows without a shape": (lambda fit: plots.gallery(torch.rand(2, 16)), "shape="),
    "rows of another size": (lambda fit: plots.gallery(torch.rand(2, 15), shape=(4, 4)), "16 columns"),
    "two channels": (lambda fit: plots.gallery(torch.rand(2, 2, 4, 4)), "channels"),
    "no pictures": (lambda fit: plots.gallery(torch.rand(0, 4, 4)), "pictures"),
    "too few reconstructions": (
        lambda fit: plots.reconstructions(torch.rand(3, 4, 4), {"a": torch.rand(2, 4, 4)}),
        "a must have one picture for each of the 3",
    ),
    "no history": (lambda fit: plots.bounds({}), "record"),
    "labels of other rows": (lambda fit: plots.latent_map(torch.randn(5, 3), torch.zeros(4)), "labels"),
    "factors that are matrices": (
        lambda fit: plots.latent_map(torch.randn(5, 2, 2), torch.zeros(5)),
        r"means must have shape \(N, K\), or \(N,\) of one factor",
    ),
    "too few names": (lambda fit: plots.latent_map(torch.randn(5, 2), torch.arange(5), names=["a"]), "names"),
    "a start elsewhere": (lambda fit: plots.factor_walk(fit, shape=(4, 4), start=torch.zeros(2)), "start"),
    "no fit": (lambda fit: plots.factor_walk(fit.model), "of a Fit, as lfm.fit gives it; got Model"),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_a_refusal_says_why(name, fitted):
    act, words = REFUSALS[name]
    with pytest.raises(ValueError, match=words):
        act(fitted)


def test_without_matplotlib_the_error_names_the_extra(monkeypatch):
    real = builtins.__import__

    def without(name, *rest, **keywords):
        if name.startswith("matplotlib"):
            raise ImportError(name)
        return real(name, *rest, **keywords)

    monkeypatch.delitem(sys.modules, "pyro_lfm.plots.notebook_figure", raising=False)
    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ImportError, match=r"pip install 'pyro_lfm\[plot\]'"):
        plots.gallery(torch.rand(2, 4, 4))


def test_importing_and_drawing_touch_no_pyplot():
    program = (
        "import sys, torch; from pyro_lfm import plots; assert 'matplotlib' not in sys.modules; "
        "plots.gallery(torch.rand(2, 4, 4)); assert 'matplotlib.pyplot' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_a_notebook_shows_a_figure_without_pyplot():
    formatters = pytest.importorskip("IPython.core.formatters")
    shown, _ = formatters.DisplayFormatter().format(plots.gallery(torch.rand(2, 4, 4)))
    assert Image.open(io.BytesIO(shown["image/png"])).format == "PNG"

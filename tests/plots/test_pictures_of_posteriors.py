"""Pictures of inference: what they show and what they refuse."""

import pytest
import torch

import pyro_lfm as lfm
from pyro_lfm import plots

STEPS = [
    {"epoch": 0, "step": "E", "log_likelihood": -4.0, "bound": -4.0},
    {"epoch": 1, "step": "M", "log_likelihood": -3.0, "bound": -3.5},
    {"epoch": 1, "step": "E", "log_likelihood": -3.0, "bound": -3.0},
]


def test_the_kl_lies_between_the_bound_and_the_likelihood_and_steps_are_named():
    svi = [{"epoch": e, "log_likelihood": -3.0 / e, "bound": -4.0 / e} for e in range(1, 5)]
    figure = plots.bound_and_gap({"EM": STEPS, "SVI": svi}, maximum=-0.5)
    em, other = figure.axes
    likelihood, bound = em.lines[1], em.lines[2]
    assert list(likelihood.get_xdata()) == [1.0, 1.5, 2.0]
    assert (likelihood.get_ydata() >= bound.get_ydata()).all()
    texts = [text.get_text() for text in em.texts]
    assert "M" in texts and "E" in texts and "M" not in [text.get_text() for text in other.texts]
    assert em.get_xlabel() == "iteration" and other.get_xlabel() == "epoch"


def test_ellipses_of_diagonal_and_full_distributions():
    full = torch.distributions.MultivariateNormal(torch.zeros(2, 2), torch.eye(2) + 0.5)
    diagonal = torch.distributions.Independent(torch.distributions.Normal(torch.zeros(2, 2), 1.0), 1)
    figure = plots.posterior_ellipses(
        {"full": (full, full), "mean field": (diagonal, full)}, names=["A", "B"]
    )
    assert [len(ax.patches) for ax in figure.axes] == [8, 8]
    assert figure.axes[0].patches[0].angle == pytest.approx(45)


def test_loadings_as_pictures_or_as_a_table():
    weights = {"EM": torch.randn(6, 2), "SVI": torch.randn(6, 2)}
    assert len(plots.loadings(weights, shape=(2, 3)).axes) == 4 + 1
    assert len(plots.loadings(weights, names=list("abcdef")).axes) == 2 + 1


def test_wrong_shapes_are_refused_in_a_sentence():
    distribution = torch.distributions.MultivariateNormal(torch.zeros(2, 3), torch.eye(3))
    for make, words in [
        (lambda: plots.bound_and_gap({}), "at least one record"),
        (lambda: plots.posterior_ellipses({"full": (distribution, distribution)}), "event shape"),
        (lambda: plots.loadings({"a": torch.zeros(3, 2), "b": torch.zeros(4, 2)}), "one shape"),
        (lambda: plots.loadings({"a": torch.zeros(3, 2)}, shape=(2, 2)), "3 pixels"),
    ]:
        with pytest.raises(lfm.ShapeError, match=words):
            make()


def test_densities_have_a_column_for_each_row_and_a_line_for_each_guide():
    points = torch.linspace(-3, 3, 50)
    normal = torch.distributions.Normal(torch.tensor([-1.0, 1.0]), 0.5).log_prob(points[:, None]).exp()
    figure = plots.densities({"a": normal, "b": 2 * normal}, points, exact=normal, rows=["left", "right"])
    assert len(figure.axes) == 4
    assert [ax.get_title(loc="right") for ax in figure.axes] == ["left", "right", "", ""]
    assert figure.axes[2].lines[0].get_ydata().max() == pytest.approx(2 * normal[:, 0].max().item())
    with pytest.raises(lfm.ShapeError, match="densities must have shape"):
        plots.densities({"a": normal[:10]}, points)

"""No picture of the library has type below 9 points, and none is wider than a page, which would show it smaller."""

import ast
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.text import Text

import pyro_lfm as lfm
from pyro_lfm import evaluate, plots
from pyro_lfm.plots import style

FOLDER = Path(__file__).parents[2] / "pyro_lfm" / "plots"
SIZES = {"fontsize", "labelsize", "title_fontsize"}
# The width of a page of text in inches, that of the site's column: 46 em of 16 pixels, 96 of them to an inch.
PAGE = 46 * 16 / 96


def constants(tree):
    """Numbers that stand for names in a file, such as _SMALL = 9."""
    return {
        node.targets[0].id: node.value.value
        for node in tree.body
        if isinstance(node, ast.Assign)
        and isinstance(node.targets[0], ast.Name)
        and isinstance(node.value, ast.Constant)
    }


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.py")), ids=lambda path: path.stem)
def test_no_type_is_below_nine_points(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    known = constants(tree)
    for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
        for keyword in call.keywords:
            if keyword.arg in SIZES:
                value = keyword.value
                size = known.get(value.id) if isinstance(value, ast.Name) else getattr(value, "value", None)
                assert not isinstance(size, (int, float)) or size >= 9, f"{path.name}, line {value.lineno}"


def test_every_figure_is_made_where_its_width_has_a_limit():
    made = {}
    for path in FOLDER.glob("*.py"):
        calls = [
            node
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
            if isinstance(node, ast.Call)
        ]
        names = {getattr(call.func, "id", getattr(call.func, "attr", "")) for call in calls}
        made[path.name] = names & {"Figure", "NotebookFigure", "figure", "set_size_inches", "set_figwidth"}
    assert {name: calls for name, calls in made.items() if calls} == {"style.py": {"NotebookFigure"}}
    assert style.PAGE <= PAGE


def test_figures_of_experiments_and_of_the_story_are_no_wider_than_a_page():
    root = FOLDER.parents[1]
    files = [*(root / "experiments").rglob("*.py"), *(root / "docs").rglob("*.md")]
    widths = {
        path.name: [
            float(width) for width in re.findall(r"figsize=\(([\d.]+),", path.read_text(encoding="utf-8"))
        ]
        for path in files
    }
    drawn = {name: max(sizes) for name, sizes in widths.items() if sizes}
    assert len(drawn) > 10 and max(drawn.values()) <= PAGE, drawn


GENERATOR = torch.Generator().manual_seed(0)
LONG = "a guide with the full covariance of eight factors, trained long"
METHODS = [*(f"method {k} of several" for k in range(6)), LONG]


def draws(*shape):
    return torch.rand(*shape, generator=GENERATOR)


def records(start):
    return [
        {
            "epoch": e,
            "step": "E",
            "bound": start - 9 / e,
            "log_likelihood": start - 5 / e,
            "validation_bound": start,
        }
        for e in range(1, 7)
    ]


def table_walk():
    table = lfm.heterogeneous(
        pd.DataFrame(draws(30, 9).numpy(), columns=[f"measurement {k}" for k in range(9)])
    )
    model = lfm.Model(z=lfm.StandardNormal(2), **table)
    guide = lfm.Guide(model, z=lfm.Gaussian(mean=lfm.Linear()))
    return plots.factor_walk(lfm.fit(model, table.data, lfm.SVI(guide, steps=1), seed=0, progress=False))


def many_shares():
    model = lfm.Model(
        z=lfm.StandardNormal(3), **{f"view_{k}": lfm.Gaussian(2, mean=lfm.Linear()) for k in range(5)}
    )
    guide = lfm.Guide(model, z=lfm.Gaussian(mean=lfm.Linear()))
    rows = {name: draws(40, 2) for name in model.observed}
    return evaluate.variance_explained((model, guide), rows, groups=np.arange(40) % 3).plot()


def many_entries():
    model = lfm.Model(z=lfm.StandardNormal(45), x=lfm.Gaussian(3, mean=lfm.Linear()))
    guide = lfm.Guide(model, z=lfm.Gaussian(mean=lfm.Linear()))
    return evaluate.decompose((model, guide), draws(20, 3), draws=50).plot()


def compared(picture):
    model = lfm.Model(z=lfm.StandardNormal(1), x=lfm.Gaussian(3, mean=lfm.Linear()))
    candidates = {name: lfm.EM(iterations=2) for name in ("EM", LONG)}
    return picture(lfm.compare(model, draws(30, 3), candidates, metrics="bound", progress=False))


def ellipses():
    normal = torch.distributions.MultivariateNormal(torch.zeros(1, 2), torch.eye(2))
    return plots.posterior_ellipses({name: (normal, normal) for name in METHODS})


# Figures of more panels, pictures or letters than a page has room for in one row.
CROWDED = {
    "bounds": lambda: plots.bounds({name: records(0.0) for name in METHODS}),
    "bounds_by_time": lambda: compared(plots.bounds_by_time),
    "differences": lambda: compared(plots.differences),
    "bound_and_gap": lambda: plots.bound_and_gap({name: records(0.0) for name in METHODS}),
    "posterior_ellipses": ellipses,
    "densities": lambda: plots.densities({name: draws(9, 5) for name in METHODS}, torch.linspace(0, 1, 9)),
    "loadings, many methods": lambda: plots.loadings(
        {name: draws(4, 5) for name in METHODS}, names=METHODS[:4]
    ),
    "loadings, many factors": lambda: plots.loadings({"EM": draws(4, 30)}),
    "loadings, pictures": lambda: plots.loadings({name: draws(16, 20) for name in METHODS[:2]}, shape=(4, 4)),
    "loadings, few factors": lambda: plots.loadings({name: draws(16, 2) for name in METHODS}, shape=(4, 4)),
    "gallery": lambda: plots.gallery(draws(40, 4, 4), columns=40, title=f"{LONG}, {LONG}"),
    "prior_draws": lambda: plots.prior_draws({name: draws(20, 4, 4) for name in METHODS}, columns=20),
    "reconstructions": lambda: plots.reconstructions(draws(30, 4, 4), {LONG: draws(30, 4, 4)}),
    "latent_map": lambda: plots.latent_map({name: draws(20, 2) for name in METHODS}, torch.arange(20) % 3),
    "latent_map in space": lambda: plots.latent_map(
        {name: draws(20, 3) for name in METHODS[:2]}, torch.arange(20) % 3, names=METHODS[:3], dimensions=3
    ),
    "factor_walk": table_walk,
    "variance_explained": many_shares,
    "kl_by_entry": many_entries,
}


@pytest.mark.parametrize("name", CROWDED)
def test_a_crowded_figure_is_no_wider_than_a_page_and_its_type_no_smaller_than_nine_points(name):
    figure = CROWDED[name]()
    assert figure.get_figwidth() <= PAGE
    written = [text for text in figure.findobj(Text) if text.get_text().strip() and text.get_visible()]
    assert written and min(text.get_fontsize() for text in written) >= 9


def test_panels_that_do_not_fit_side_by_side_continue_below():
    """The rows are as full as each other, and the axes at the left of each row have the name of the vertical axis."""
    figure = plots.bound_and_gap({str(k): records(0.0) for k in range(4)})
    places = [(ax.get_subplotspec().rowspan.start, ax.get_subplotspec().colspan.start) for ax in figure.axes]
    assert places == [(0, 0), (0, 1), (1, 0), (1, 1)]
    assert [ax.get_ylabel() for ax in figure.axes] == ["nats per row", "", "nats per row", ""]

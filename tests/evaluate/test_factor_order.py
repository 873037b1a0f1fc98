"""The one order of factors, and paths along them: known shares, every table and picture alike, density of the rows."""

import re

import evaluation_cases
import pytest
import torch

import pyro_lfm as lfm
from pyro_lfm import plots
from pyro_lfm.evaluate.decoding.decoded_rows import RowDecoder
from pyro_lfm.evaluate.decoding.factor_order import factor_order
from pyro_lfm.evaluate.decoding.factor_paths import FactorPaths

WEIGHT = torch.tensor(
    [[0.5, 0.0, 2.0, 0.0], [0.0, 1.0, 0.0, 0.1], [0.5, 0.0, 2.0, 0.0], [0.0, 1.0, 0.0, 0.1]]
)
NAMES = ["z_3", "z_2", "z_1", "z_4"]  # by the squared length of the columns of the weight: 8, 2, 0.5, 0.02


@pytest.fixture(scope="module")
def fit():
    x = lfm.Gaussian(4, mean=lfm.Linear(weight=lfm.Fixed(WEIGHT)), covariance=lfm.Isotropic(lfm.Fixed(0.5)))
    model = lfm.Model(z=lfm.StandardNormal(4), x=x)
    return lfm.fit(model, model.sample(200, seed=0)["x"], lfm.EM(iterations=3), seed=0, progress=False)


def test_the_order_is_that_of_the_shares_of_variance(fit):
    order = factor_order(fit)
    shares = lfm.evaluate.variance_explained(fit).alone["x"][0]
    assert torch.allclose(order.shares.double(), shares.double(), atol=1e-5) and order.of_rows
    assert order.ranked == NAMES
    assert order.by("declared") == [0, 1, 2, 3] and order.by(["z_4", "z_1"]) == [3, 0]
    for wrong in ("size", ["z_9"], []):
        with pytest.raises(
            lfm.DeclarationError, match="order must be 'variance', 'declared' or names of factors, z_1"
        ):
            order.by(wrong)


def test_without_rows_the_effects_on_the_decoder_decide_and_are_known(fit):
    order = factor_order(fit.without_rows())
    truth = WEIGHT.square().sum(0) / WEIGHT.square().sum()
    assert order.ranked == NAMES and not order.of_rows
    # 128 draws: the relative standard error of a mean square is at most √(2 / 128) = 0.13, twice in a ratio.
    assert torch.allclose(order.shares, truth, rtol=0.6, atol=1e-3)
    assert factor_order(fit.without_rows(), fit.model.sample(300, seed=1)["x"]).of_rows


def test_every_table_and_picture_has_the_same_names_in_the_same_order(fit, tmp_path):
    first = re.compile(r"^ *(z_\d)\b", re.MULTILINE)
    shares, parts = lfm.evaluate.variance_explained(fit), lfm.evaluate.decompose(fit, draws=20, betas=())
    weights = lfm.evaluate.loadings(fit)
    for result in (shares, parts, weights):
        assert first.findall(repr(result)) == NAMES
    symbols = [f"$z_{{{name[-1]}}}$" for name in NAMES]

    def texts(labels):
        return [label.get_text() for label in labels if label.get_text()]

    assert texts(shares.plot().axes[1].get_yticklabels()) == symbols
    assert texts(parts.plot().axes[0].get_xticklabels()) == symbols
    assert texts(weights.plot().axes[0].get_xticklabels()) == symbols
    assert [ax.get_title() for ax in weights.plot(shape=(2, 2)).axes[:4]] == symbols
    assert texts(plots.factor_walk(fit, shape=(2, 2), steps=3).axes[0].get_yticklabels()) == symbols
    walked = plots.factor_walk(fit, steps=3)
    assert [ax.get_ylabel().split("\n")[0] for ax in walked.axes if ax.get_ylabel()] == symbols
    plane = plots.latent_map(fit, torch.zeros(200), factors=NAMES[:2]).axes[0]
    assert [plane.get_xlabel(), plane.get_ylabel()] == symbols[:2]
    fit.save(tmp_path / "run")
    loaded = lfm.load(tmp_path / "run")
    assert factor_order(loaded, fit.some_rows(200)["x"]).ranked == NAMES
    declared = sorted(symbols)
    assert texts(plots.factor_walk(fit, shape=(2, 2), order="declared").axes[0].get_yticklabels()) == declared
    assert texts(plots.kl_by_entry(parts, order="declared").axes[0].get_xticklabels()) == declared
    assert texts(plots.variance_explained(shares, order="declared").axes[1].get_yticklabels()) == declared
    nats = texts(plots.kl_by_entry(parts, order="nats").axes[0].get_xticklabels())
    assert nats == [f"$z_{{{k + 1}}}$" for k in parts.latents["z"].kl.argsort(descending=True).tolist()]


@pytest.mark.parametrize("name", [*evaluation_cases.BY_SVI, *evaluation_cases.CLOSED])
def test_every_declaration_has_an_order(name):
    fit, data = evaluation_cases.make(name)
    order = factor_order(fit)
    assert sorted(order.places) == [*range(len(order.names))] and order.names == tuple(RowDecoder(fit).names)
    assert bool(order.shares.isfinite().all())
    assert factor_order(fit, data).places == order.places, "the rows of the fit decide"


def test_a_path_follows_the_density_of_the_rows(fit):
    paths = FactorPaths(RowDecoder(fit))
    generator = torch.Generator().manual_seed(0)
    z = torch.randn(2000, 4, generator=generator)
    z[:, 1] = z[:, 0].square() + 0.3 * z[:, 1]
    z[:, 2] = -0.8 * z[:, 0] + 0.6 * z[:, 2]
    paths.draws = z
    places = torch.tensor([-1.5, 0.0, 1.5])
    path = paths.along(0, places)
    # Errors of the local regressions: below 0.05 at these places.
    assert torch.allclose(path[:, 0], places)
    assert torch.allclose(path[:, 1], places.square(), atol=0.25)
    assert torch.allclose(path[:, 2], -0.8 * places, atol=0.15)
    assert torch.allclose(path[:, 3], z[:, 3].mean(), atol=1e-6), "what does not depend on it stays"
    start = torch.tensor([0.5, 3.0, 1.0, -2.0])
    through = paths.along(0, torch.tensor([0.5, 1.5]), start)
    assert torch.allclose(through[0], start, atol=1e-5), "the path passes the row"
    assert torch.allclose(through[1, 1] - 3.0, torch.tensor(1.5**2 - 0.5**2), atol=0.25)
    assert torch.allclose(paths.quantiles(0, torch.tensor([0.5])), z[:, 0].median(), atol=0.01)


def test_paths_of_a_simplex_stay_in_it():
    fit, _ = evaluation_cases.make("simplex")
    paths = FactorPaths(RowDecoder(fit))
    for k in range(3):
        path = paths.along(k, paths.quantiles(k, torch.tensor([0.01, 0.5, 0.99])))
        assert torch.allclose(path.sum(1), torch.ones(3), atol=1e-5) and bool((path > 0).all())

"""Attributes that lie on a curve, in clusters, and in labels of some rows only: what is drawn stays on the data."""

from functools import cache

import pytest
import torch
from attribute_cases import factors_of

import pyro_lfm as lfm
from pyro_lfm import attributes


@cache
def rings():
    """Rows on two arcs of a ring, radius 2 or 4: the angle is a number, the radius a label, and latents are the plane."""
    noise = torch.Generator().manual_seed(0)
    angle = torch.rand(800, generator=noise, dtype=torch.float64) * 2 - 1
    far = torch.rand(800, generator=noise, dtype=torch.float64) > 0.5
    radius = 2 + 2 * far + 0.1 * torch.randn(800, generator=noise, dtype=torch.float64)
    z = torch.stack([radius * angle.cos(), radius * angle.sin()], 1)
    weight = torch.randn(6, 2, generator=noise, dtype=torch.float64)
    x = z @ weight.T + 0.02 * torch.randn(800, 6, generator=noise, dtype=torch.float64)
    model = lfm.Model(z=lfm.StandardNormal(2), x=lfm.Gaussian(6, mean=lfm.Linear())).double()
    fit = lfm.fit(model, x, lfm.EM(), seed=0, progress=False)
    place = ["far" if one else "near" for one in far.tolist()]
    labels = {"angle": angle.where(torch.arange(800) % 2 > 0, torch.nan), "place": place}
    return attributes.fit(fit, x, labels, seed=0), x, angle, far, weight


def polar(x, weight):
    """The radius and the angle of rows, whose mean the fit has added."""
    z = factors_of(x, weight)
    return z.norm(dim=1), torch.atan2(z[:, 1], z[:, 0])


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_a_curved_number_is_met_and_both_clusters_remain(share):
    A, _, angle, _, weight = rings()
    target = float(angle.quantile(share))
    radius, angles = polar(attributes.generate(A, {"angle": target}, 1000, seed=0)["x"], weight)
    assert ((angles - target).abs() < 0.15 * 2).double().mean() > 0.9
    # The rows have radii of 2 and 4 equally often, and so have the draws: 5 standard errors, and 0.05 for the density.
    assert (radius > 3).double().mean() == pytest.approx(0.5, abs=5 * 0.5 / 1000**0.5 + 0.05)
    # None lies between the rings: a straight line from one row to another would.
    assert ((radius - 3).abs() < 0.3).double().mean() < 0.02


def test_a_label_is_met_and_the_number_varies_as_in_the_data():
    A, _, angle, _, weight = rings()
    radius, angles = polar(attributes.generate(A, {"place": "far"}, 1000, seed=0)["x"], weight)
    assert (radius > 3).double().mean() > 0.97
    assert angles.var() > 0.8 * angle.var()


def test_both_are_met_together():
    A, _, angle, _, weight = rings()
    target = float(angle.quantile(0.9))
    radius, angles = polar(attributes.generate(A, {"angle": target, "place": "near"}, 500)["x"], weight)
    assert (radius < 3).double().mean() > 0.97 and ((angles - target).abs() < 0.3).double().mean() > 0.9


def test_an_edit_of_the_angle_stays_on_the_ring_of_its_row():
    A, x, _, far, weight = rings()
    radius, angles = polar(attributes.edit(A, x[:300], {"angle": 0.8})["x"], weight)
    assert ((angles - 0.8).abs() < 0.3).double().mean() > 0.9
    assert ((radius > 3) == far[:300]).double().mean() > 0.95


def test_an_edit_of_the_ring_keeps_the_angle():
    A, x, angle, _, weight = rings()
    radius, angles = polar(attributes.edit(A, x[:300], {"place": "near"})["x"], weight)
    assert (radius < 3).double().mean() > 0.95
    assert ((angles - angle[:300]).abs() < 0.3).double().mean() > 0.9


def test_readers_use_the_labels_that_there_are():
    A, *_ = rings()
    assert A.scores["angle"] > 0.9 and A.scores["place"] > 0.99
    assert [int(one.known.sum()) for one in A.labelled] == [400, 800]
    assert A.labels == {"place": ("far", "near")} and set(A.ranges) == {"angle"}


@pytest.mark.slow
def test_what_no_latent_holds_is_not_forced():
    A, x, *_ = rings()
    noise = torch.randn(800, generator=torch.Generator().manual_seed(9))
    blind = attributes.fit(A.fit, x, {"noise": noise}, seed=0)
    assert abs(blind.scores["noise"]) < 0.1
    latents, message = blind.draw_latents({"noise": 2.0}, 500)
    assert "hardly hold noise" in message
    # The draws are those of the density, not rows far out.
    codes = blind.space.codes(latents)
    assert (codes.var(0) - 1).abs().max() < 0.4

"""A learned plane keeps groups apart that any two factors mix, also for rows that are not arranged themselves."""

import explored
import numpy as np
import pytest
import torch
from sklearn.neighbors import KNeighborsClassifier

import pyro_lfm as lfm
from pyro_lfm.explorer import learned_plane as module
from pyro_lfm.explorer.learned_plane import learned_plane
from pyro_lfm.web.refusal import Refusal


def test_groups_of_many_dimensions_are_apart(monkeypatch):
    monkeypatch.setattr(module, "_ARRANGED", 150)
    rng = np.random.default_rng(0)
    groups = rng.integers(8, size=600)
    points = (4 * np.eye(8)[groups] + 0.5 * rng.normal(size=(600, 8))).astype(np.float32)
    places = learned_plane(points)
    assert places.shape == (600, 2) and places.dtype == np.float32
    # A neighbour in the plane is of the same group; by two factors alone six of the groups are mixed.
    assert KNeighborsClassifier(5).fit(places[::2], groups[::2]).score(places[1::2], groups[1::2]) > 0.95
    assert (
        KNeighborsClassifier(5).fit(points[::2, :2], groups[::2]).score(points[1::2, :2], groups[1::2]) < 0.6
    )
    assert np.array_equal(learned_plane(points), places)


def test_it_is_there_for_more_than_two_factors():
    fit, rows, _ = explored.linear(rows=30, entries=5)
    answers = explored.answers_of(fit, rows)
    assert answers.session.info()["learned"] is True
    assert len(answers.learned()) == 8 * 30 and answers.learned() == answers.learned()
    torch.manual_seed(0)
    model = lfm.Model(z=lfm.StandardNormal(2), x=lfm.Gaussian(3, mean=lfm.Linear()))
    small = lfm.fit(model, torch.randn(30, 3), lfm.EM(), seed=0, progress=False)
    two = explored.answers_of(small)
    assert two.session.info()["learned"] is False
    with pytest.raises(Refusal, match="a learned plane needs more than two factors"):
        two.learned()

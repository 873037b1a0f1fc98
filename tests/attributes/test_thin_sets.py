"""Rows on a thin set: decoder and encoder are inverse there, and new rows are rows near the request, moved to it."""

import math

import pytest
import torch

import pyro_lfm as lfm

CORRELATION = 0.8


@pytest.fixture(scope="module")
def known():
    """Two correlated numbers, and three that depend on nothing, seen through a linear map nearly without noise."""
    generator = torch.Generator().manual_seed(0)
    a, noise, rest = torch.randn(1500, 5, generator=generator).split([1, 1, 3], 1)
    b = CORRELATION * a + math.sqrt(1 - CORRELATION**2) * noise
    z = torch.cat([a, b, rest], 1)
    weight = torch.randn(5, 12, generator=generator)
    x = z @ weight + 0.01 * torch.randn(1500, 12, generator=generator)
    model = lfm.Model(
        z=lfm.StandardNormal(5), x=lfm.Gaussian(12, mean=lfm.Linear(), covariance=lfm.Isotropic())
    )
    fit = lfm.fit(model, x, lfm.EM(), seed=0, progress=False)
    attributes = lfm.attributes.fit(fit, x, {"a": a[:, 0], "b": b[:, 0]}, seed=0)
    return attributes, x, torch.linalg.pinv(weight)


def test_new_rows_have_what_is_asked_and_all_else_as_the_rows_near_it(known):
    attributes, _, inverse = known
    assert attributes._has_inverse
    z = lfm.attributes.generate(attributes, {"a": 1.0}, 500, seed=0)["x"] @ inverse
    a, b, rest = z[:, 0], z[:, 1], z[:, 2:]
    assert float((a - 1).abs().max()) < 0.1
    # Of 500 rows: standard errors 0.03 of the mean, 0.02 of the deviation 0.6; the rows are chosen about a, not at it.
    assert float(b.mean()) == pytest.approx(CORRELATION, abs=0.12)
    assert float(b.std()) == pytest.approx(0.6, abs=0.08)
    assert torch.allclose(rest.std(0), torch.ones(3), atol=0.15) and float(rest.mean(0).abs().max()) < 0.2


def test_an_edit_moves_one_number_and_holds_the_other(known):
    attributes, x, inverse = known
    before = x[:100] @ inverse
    after = lfm.attributes.edit(attributes, x[:100], {"a": 0.5})["x"] @ inverse
    assert float((after[:, 0] - 0.5).abs().max()) < 0.1
    assert float((after[:, 1] - before[:, 1]).abs().max()) < 0.15
    # Rows at the edge of the density move more: 0.4 at most here.
    assert float((after[:, 2:] - before[:, 2:]).abs().quantile(0.95)) < 0.2

"""The pictures of factor analysis draw what the tables hold."""

import pytest
import torch

import pyro_lfm as lfm


@pytest.fixture(scope="module")
def numbers():
    g = torch.Generator().manual_seed(0)
    rows = torch.randn(120, 1, generator=g) + torch.randn(120, 5, generator=g)
    return lfm.factor_analysis.number_of_factors(rows, largest=2, draws=20, folds=2)


def test_the_scree_shows_eigenvalues_and_held_out_likelihood(numbers):
    left, right = lfm.plots.scree(numbers).axes
    assert left.get_lines()[0].get_ydata() == pytest.approx(numbers.parallel.eigenvalues)
    assert left.get_lines()[1].get_ydata() == pytest.approx(numbers.parallel.quantile)
    best = numbers.suggested["held-out likelihood"]
    drawn = right.get_lines()[0].get_ydata()
    assert list(drawn) == pytest.approx(list(numbers.table["held_out"] - numbers.table["held_out"][best]))
    assert "parallel analysis: 1" in left.get_legend_handles_labels()[1][-1] and numbers.plot(title=None).axes

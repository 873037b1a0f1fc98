"""The patterns of gaps of exact inference: those of ``torch.unique``, computed once for data that fit in memory."""

import pytest
import torch

from pyro_lfm.exact import gap_patterns
from pyro_lfm.exact.linear import rows as rows_module
from pyro_lfm.exact.linear.expectation_maximisation import em
from pyro_lfm.exact.linear.linear_gaussian import LinearGaussian
from pyro_lfm.exact.linear.rows import Rows

NOISE = torch.Generator().manual_seed(0)


def _with_gaps(rows, columns):
    x = torch.randn(rows, columns, dtype=torch.float64, generator=NOISE)
    return x.masked_fill(torch.rand(rows, columns, generator=NOISE) < 0.2, torch.nan)


@pytest.mark.parametrize("columns", [1, 8, 62, 63])
def test_patterns_are_those_of_unique(columns):
    x = _with_gaps(50, columns)
    distinct, own = torch.unique(~x.isnan(), dim=0, return_inverse=True)
    assert torch.equal(gap_patterns.patterns(x).observed, distinct)
    assert torch.equal(gap_patterns.patterns(x).own, own)


def test_em_computes_the_patterns_of_small_data_once(monkeypatch):
    calls = []

    def counted(x):
        calls.append(len(x))
        return gap_patterns.patterns(x)

    monkeypatch.setattr(rows_module, "patterns", counted)
    x = _with_gaps(60, 4)
    start = LinearGaussian(torch.ones(4, 1), torch.zeros(4), torch.ones(4))
    kept, _ = em(Rows.of(x, block=20), start, iterations=5)
    assert calls == [20, 20, 20]
    monkeypatch.setattr(rows_module, "_KEPT", 10)
    read, _ = em(Rows.of(x, block=20), start, iterations=5)
    assert len(calls) > 6
    assert torch.equal(kept.weight, read.weight)

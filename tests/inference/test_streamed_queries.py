"""Queries of many rows: recorded functions, blocks that are joined, and memory that does not grow with the rows."""

import threading
from pathlib import Path

import pyro.distributions as dist
import pytest
import torch

import pyro_lfm as lfm
from pyro_lfm.distributions.joined_rows import JoinedRows
from pyro_lfm.distributions.normal import Normal
from pyro_lfm.inference import blocks
from pyro_lfm.inference.engines import tracing
from pyro_lfm.inference.engines.exits import record
from pyro_lfm.inference.engines.split_graph import SplitGraph
from pyro_lfm.inference.queries import imputation, reconstruction, served_rows


def autoencoder(guide, rows=60, columns=6, gaps=True):
    """A fit whose guide is declared, after one epoch, and its rows, of which some entries are missing."""
    torch.manual_seed(0)
    model = lfm.Model(z=lfm.StandardNormal(2), x=lfm.Gaussian(columns, mean=lfm.MLP(8)))
    x = torch.randn(rows, columns)
    if gaps:
        x[torch.rand_like(x) < 0.2] = torch.nan
    svi = lfm.SVI(lfm.Guide(model, z=guide), epochs=1, engine="eager")
    return lfm.fit(model, x, svi, seed=0, progress=False), x


GUIDES = {
    "diagonal": lfm.Gaussian(network=lfm.MLP(8)),
    "full": lfm.Gaussian(network=lfm.MLP(8), covariance=lfm.Full()),
    "low rank": lfm.Gaussian(network=lfm.MLP(8), covariance=lfm.LowRank(1)),
    "flow": lfm.Flow(network=lfm.MLP(8)) if hasattr(lfm, "Flow") else lfm.Laplace(scale=lfm.MLP(8)),
}


@pytest.mark.parametrize("name", GUIDES)
def test_a_posterior_in_blocks_is_that_of_all_rows(name, monkeypatch):
    """Also of a kind that cannot be joined, which is computed for all rows at once."""
    fit, x = autoencoder(GUIDES[name])
    whole = fit.posterior(x)
    monkeypatch.setattr(served_rows, "_ROWS", 7)
    joined = fit.posterior(x)
    assert joined.batch_shape == whole.batch_shape and joined.event_shape == whole.event_shape
    value = torch.randn(len(x), 2)
    assert torch.allclose(joined.log_prob(value), whole.log_prob(value), atol=1e-4)


def test_kinds_that_change_or_are_unknown_are_not_joined():
    joined = JoinedRows(4)
    assert joined.write(Normal(torch.zeros(2, 3), 1.0).to_event(1), 0)
    assert not joined.write(dist.Laplace(torch.zeros(2, 3), 1.0).to_event(1), 2)
    assert not JoinedRows(2).write(dist.Uniform(torch.zeros(2), 1.0), 0)
    assert not JoinedRows(2).write(dist.Categorical(torch.full((2, 3), 1 / 3)), 0)
    assert not JoinedRows(3).write(Normal(torch.zeros(5, 3), 1.0), 0)


@pytest.mark.parametrize("gaps", [False, True])
def test_replayed_queries_have_the_numbers_of_the_programs(gaps, monkeypatch):
    """What a block's draws have in common is computed once; random numbers and results are bit for bit those of eager."""
    fit, x = autoencoder(GUIDES["full"], gaps=gaps)
    monkeypatch.setattr(reconstruction, "_ROWS", 16)
    monkeypatch.setattr(imputation, "_ROWS", 16)
    once = []

    def queries():
        filled = fit.impute(x, draws=3, seed=1)
        return [fit.reconstruct(x, draws=3, seed=2), filled.values["x"], filled.drawn["x"]]

    eager = queries()
    monkeypatch.setattr(blocks, "RECORDING", -1.0)
    run = blocks.Replay._keep
    monkeypatch.setattr(blocks.Replay, "_keep", lambda self, inputs: once.append(1) or run(self, inputs))
    for replayed, by_programs in zip(queries(), eager, strict=True):
        assert torch.equal(replayed, by_programs)
    # Of 4 blocks the last, smaller one runs by the programs; the recording compares two more.
    assert len(once) == 4 * (1 + gaps)


def test_weights_in_small_parts_are_those_of_one_part(monkeypatch):
    """Draws are numbered along the first dimension, so that parts of a multiple of 16 numbers continue one stream."""
    fit, x = autoencoder(GUIDES["diagonal"], rows=32, gaps=False)
    programs = lfm.evaluate.log_likelihood(fit, x, draws=96, seed=3)
    monkeypatch.setattr(blocks, "RECORDING", -1.0)
    monkeypatch.setattr(blocks, "CACHED", 32 * 8 * 16)  # 16 draws
    parts = lfm.evaluate.log_likelihood(fit, x, draws=96, seed=3)
    for name in ("per_row", "standard_error", "pareto_k"):
        assert torch.allclose(getattr(parts, name), getattr(programs, name), atol=1e-5), name


def test_a_graph_is_split_where_random_numbers_begin():
    def function(x, shift):
        buffer = torch.zeros(3)
        buffer.add_(x)
        return [x.exp().sum() + (shift + torch.randn(3)) * buffer]

    x, shift = torch.arange(3.0), torch.ones(3)
    graph, external = record(function, [x, shift])
    split = SplitGraph(graph, [True, False] + [True] * len(external))
    kept = split.once(x, *external)
    for _ in range(2):  # what is changed in place is made anew
        torch.manual_seed(5)
        value = split.again(shift, *kept)[0]
        torch.manual_seed(5)
        assert torch.equal(value, function(x, shift)[0])
    assert "exp" in split.once.code and "exp" not in split.again.code


def test_a_graph_that_changes_an_input_is_refused():
    x = torch.arange(3.0)
    graph, external = record(lambda x: [x.add_(1.0) + torch.randn(3)], [x.clone()])
    with pytest.raises(tracing.NotRecordable, match="in place"):
        SplitGraph(graph, [True] + [True] * len(external))


class Peak:
    """The largest anonymous memory of this process within the context, above that at its start, in MiB."""

    def __enter__(self):
        self.before, self.above, self.ended = self.now(), 0.0, threading.Event()
        self.thread = threading.Thread(target=self.watch, daemon=True)
        self.thread.start()
        return self

    def now(self):
        return int(Path("/proc/self/status").read_text().partition("RssAnon:")[2].split()[0]) / 1024

    def watch(self):
        while not self.ended.wait(0.002):
            self.above = max(self.above, self.now() - self.before)

    def __exit__(self, *_):
        self.ended.set()
        self.thread.join()


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")
def test_a_posterior_of_many_rows_takes_the_memory_of_its_result():
    """The codes take 0.8 MiB; a hidden layer of all rows would take 153, before and after its activation."""
    torch.manual_seed(0)
    model = lfm.Model(z=lfm.StandardNormal(1), x=lfm.Gaussian(100, mean=lfm.Linear()))
    guide = lfm.Guide(model, z=lfm.Gaussian(network=lfm.MLP(400)))
    fit, rows = lfm.Fit.of(model, guide), torch.randn(100_000, 100)
    fit.posterior(rows[:5000])
    with Peak() as peak:
        mean = fit.posterior(rows).mean
    assert mean.shape == (100_000, 1) and peak.above < 100

"""Rows on the disk in training: each once an epoch, in an order of (seed, epoch), read ahead, whatever file they are in."""

import threading

import anndata
import h5py
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import torch
import zarr
from torch.distributions import constraints

import pyro_lfm as lfm
from pyro_lfm.data.feed import Feed
from pyro_lfm.data.readers import read
from pyro_lfm.data.row_order import chosen_order
from pyro_lfm.data.row_order.chosen_order import shuffled_rows
from pyro_lfm.data.row_order.shuffled_blocks import Blocks
from pyro_lfm.data.schema import Scale
from pyro_lfm.data.validation import validate
from pyro_lfm.inference.data_scale_warnings import warn_of_start
from tests.resuming import At, interrupt, same_fit

N, D = 1000, 4
ROWS = (np.arange(N * D).reshape(N, D) / 2**11).astype(np.float32)


def files(folder):
    """The rows in every kind of container that stays on the disk."""
    np.save(folder / "x.npy", ROWS)
    np.save(folder / "wide.npy", ROWS.astype(np.float64))
    frame = pd.DataFrame(ROWS, columns=list("abcd"))
    (folder / "parts").mkdir()
    frame[:700].to_parquet(folder / "parts" / "1.parquet", row_group_size=90)
    frame[700:].to_parquet(folder / "parts" / "2.parquet", row_group_size=33)
    zarr.open(folder / "x.zarr", mode="w", shape=ROWS.shape, dtype="f4", chunks=(30, 2))[:] = ROWS
    names = [pd.Index([f"{k}" for k in range(size)], dtype=object) for size in (N, D)]
    cells = anndata.AnnData(sp.csr_matrix(ROWS), pd.DataFrame(index=names[0]), pd.DataFrame(index=names[1]))
    cells.write_h5ad(folder / "sparse.h5ad")
    cells.X = ROWS
    cells.write_h5ad(folder / "dense.h5ad")
    with h5py.File(folder / "x.h5", "w") as file:
        file.create_dataset("x", data=ROWS, chunks=(64, 4), compression="gzip")
    both = [folder / "parts" / "1.parquet", folder / "parts" / "2.parquet"]
    opened = {"h5py": h5py.File(folder / "x.h5")["x"], "list of parquet": both}
    return opened | {
        name: folder / name for name in ("x.npy", "wide.npy", "parts", "x.zarr", "sparse.h5ad", "dense.h5ad")
    }


KINDS = ["h5py", "list of parquet", "x.npy", "wide.npy", "parts", "x.zarr", "sparse.h5ad", "dense.h5ad"]


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    return files(tmp_path_factory.mktemp("stored"))


def in_order(table, block=50, buffer=300):
    return shuffled_rows(table, torch.float32, block, buffer, 32)


def feed_of(table, *, size=32, block=50, buffer=300, drop_last=False, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return Feed(table, size, torch.float32, "cpu", generator, drop_last, in_order(table, block, buffer))


def epoch(feed, done=0):
    return [(index.clone(), rows["x"].clone()) for index, rows in feed.epoch(done)]


@pytest.mark.parametrize("kind", KINDS)
def test_each_row_once_an_epoch_with_its_own_values(kind, stored):
    table = read(stored[kind], ["x"])
    assert table.stored and in_order(table).blocks.windows > 2
    feed = feed_of(table)
    orders = []
    for _ in range(2):
        batches = epoch(feed)
        index = torch.cat([index for index, _ in batches])
        assert [len(index) for index, _ in batches] == [32] * 31 + [8]
        assert sorted(index.tolist()) == list(range(N))
        assert torch.equal(torch.cat([rows for _, rows in batches]), torch.from_numpy(ROWS)[index])
        orders.append(index)
    assert not torch.equal(*orders)
    # In an order of the seed and the epoch alone.
    again = feed_of(read(stored[kind], ["x"]))
    assert all(torch.equal(torch.cat([index for index, _ in epoch(again)]), order) for order in orders)
    assert not torch.equal(epoch(feed_of(table, seed=1))[0][0], orders[0][:32])


@pytest.mark.parametrize("done", [1, 9, 10, 30, 31])
@pytest.mark.parametrize("drop_last", [False, True])
def test_an_epoch_goes_on_at_the_same_batch(done, drop_last, stored):
    table = read(stored["x.npy"], ["x"])
    batches = epoch(feed_of(table, drop_last=drop_last))
    rest = epoch(feed_of(table, drop_last=drop_last), done)
    assert len(batches) == (31 if drop_last else 32) and len(rest) == len(batches) - done
    for (index, rows), (index_again, rows_again) in zip(batches[done:], rest, strict=True):
        assert torch.equal(index, index_again) and torch.equal(rows, rows_again)


@pytest.mark.parametrize("block", [None, 50])
@pytest.mark.parametrize("drop_last", [False, True])
@pytest.mark.parametrize("calls", [(40,), (1, 5, 0, 3, 40), (0, 0, 2, 40), (31, 40)])
def test_batches_taken_several_at_a_time_are_those_taken_one_by_one(calls, drop_last, block):
    """``calls`` are the most batches of each call; 0 stands for one batch in the memory of the feed."""
    generator = torch.Generator().manual_seed(1)
    weights = (torch.rand(N, generator=generator) > 0.02).double()
    rows = {"x": ROWS, "y": ROWS[:, :1].astype(np.float64) + 1, "count": np.arange(N)}
    table = read(rows, ["x", "y", "count"]).with_weights(weights)
    one_by_one = epoch(feed_of(table, block=block, drop_last=drop_last))
    batches, taken = feed_of(table, block=block, drop_last=drop_last).epoch(), []
    for most in [*calls, 40]:  # the last batch has another size
        if not most and batches.size:
            index, held = next(batches)
        elif n := min(most, batches.alike):
            held = {k: torch.full((n * batches.size, *s), torch.nan) for k, s in table.event_shapes.items()}
            index = batches.read(n, held)
            assert index.shape[0] == n
        else:
            continue
        index = index.flatten()
        assert torch.equal(held["y"], held["x"][:, :1] + 1) and torch.equal(held["count"].long(), index)
        taken.append((index.clone(), held["x"].clone()))
    assert batches.size == batches.alike == 0 and next(batches, None) is None
    for expected, got in zip(zip(*one_by_one, strict=True), zip(*taken, strict=True), strict=True):
        assert torch.equal(torch.cat(expected), torch.cat(got))


@pytest.mark.parametrize("kind", ["x.npy", "parts"])
def test_rows_of_weight_0_are_left_out(kind, stored):
    weights = torch.ones(N, dtype=torch.float64)
    weights[100:200] = weights[::7] = 0.0
    table = read(stored[kind], ["x"]).with_weights(weights)
    index = torch.cat([index for index, _ in epoch(feed_of(table))])
    assert sorted(index.tolist()) == table.counted.tolist()


def test_a_share_of_a_batch_is_read_where_batches_cross_windows(stored):
    table = read(stored["x.npy"], ["x"])
    whole, shared = (in_order(table).epoch(torch.Generator().manual_seed(0)) for _ in range(2))
    for start in range(0, N, 40):
        rows, own = {"x": torch.empty(40, D)}, {"x": torch.empty(15, D)}
        index = whole.read(start, start + 40, rows)
        assert torch.equal(shared.read(start, start + 40, own, slice(20, 35)), index)
        assert torch.equal(own["x"], rows["x"][20:35])
    whole.close(), shared.close()


def test_windows_are_even_and_hold_blocks_of_unequal_length():
    rng = np.random.default_rng(0)
    for lengths in ([7] * 40 + [3], rng.integers(1, 60, 50).tolist(), [500] + [5] * 30):
        edges = torch.tensor([0, *np.cumsum(lengths)])
        blocks = Blocks(edges, 90)
        for seed in range(20):
            drawn = blocks.epoch(torch.Generator().manual_seed(seed))
            windows = [drawn.window(k) for k in range(len(drawn.parts))]
            assert sorted(torch.cat([w.index for w in windows]).tolist()) == list(range(int(edges[-1])))
            assert max(len(w.index) for w in windows) <= blocks.most
            assert all(first < last for w in windows for first, last in w.spans)


def test_rows_that_one_buffer_holds_are_shuffled_as_rows_in_memory(stored):
    """So that a small file gives the fit of its array, number by number."""
    bounds = []
    for data in (ROWS, stored["x.npy"], stored["x.zarr"]):
        model, guide = declared()
        fit = lfm.fit(
            model,
            data,
            lfm.SVI(guide, epochs=1, batch_size=200, block=10, engine="eager"),
            seed=0,
            progress=False,
        )
        bounds.append(fit.history[-1]["bound"])
    assert bounds[0] == bounds[1] == bounds[2]


def test_chunks_of_files_are_read_whole(stored):
    edges = {kind: in_order(read(stored[kind], ["x"])).blocks.edges.tolist() for kind in KINDS}
    assert edges["x.npy"][1] == 50 and edges["x.zarr"][1] == 60 and edges["h5py"][1] == 64
    assert (
        edges["parts"][:3] == [0, 90, 180] and 700 in edges["parts"] and edges["parts"][-3:] == [898, 964, N]
    )


def declared(width=D):
    model = lfm.Model(z=lfm.StandardNormal(1), x=lfm.Gaussian(width, mean=lfm.Linear()))
    return model, lfm.Guide(model, z=lfm.Gaussian(network=lfm.MLP(4)))


def test_a_fit_stopped_inside_an_epoch_goes_on_bit_for_bit(tmp_path, stored, capsys):
    rows = np.load(stored["x.npy"], mmap_mode="r")

    def fitted(at, path=None, **changed):
        model, guide = declared()
        options = {"epochs": 2, "batch_size": 128, "block": 50, "buffer": 300, "engine": "eager", **changed}
        with pytest.MonkeyPatch.context() as patch:
            At(patch, at, interrupt)
            inference = lfm.SVI(guide, **options)
            return lfm.fit(model, rows, inference, seed=0, progress=False, checkpoint=path)

    assert fitted(11, tmp_path).interrupted == "SIGINT"
    with pytest.raises(lfm.CheckpointError, match="row_order was .*block= and buffer="):
        fitted(0, tmp_path, block=20)
    assert same_fit(fitted(0, tmp_path), fitted(0))


def test_the_reader_ends_with_the_fit_and_its_errors_are_in_words(tmp_path):
    np.save(tmp_path / "x.npy", ROWS)
    table = read(tmp_path / "x.npy", ["x"])
    before = threading.active_count()
    batches = feed_of(table).epoch()
    next(batches)
    assert threading.active_count() == before + 1
    batches.close()
    assert threading.active_count() == before

    def fail(start, stop, into):
        if stop > 400:
            raise OSError("disk on fire")
        return table.__class__.read_span(table, start, stop, into)

    table.read_span = fail
    with pytest.raises(lfm.DataError, match=r"rows [\d,]+ to [\d,]+ cannot be read: disk on fire"):
        epoch(feed_of(table))
    assert threading.active_count() == before


def sorted_file(path, mixed):
    rng = np.random.default_rng(0)
    label = np.repeat(np.arange(5), N // 5)
    rows = 3.0 * rng.normal(size=(5, D))[label] + rng.normal(size=(N, D))
    np.save(path, rows[rng.permutation(N)] if mixed else rows)
    return path


@pytest.mark.parametrize("mixed", [True, False])
def test_a_sorted_file_gets_a_warning_with_the_remedy(mixed, tmp_path, monkeypatch, recwarn):
    """Rows in random order get none: the correlation is 0 up to 0.02, and the limit 0.09."""
    monkeypatch.setattr(chosen_order, "_BLOCK", 50)
    path = sorted_file(tmp_path / "x.npy", mixed)
    monkeypatch.setattr("pyro_lfm.data.validation.ROWS_AT_ONCE", 50)
    table = read(path, ["x"])
    validate(table, {"x": ((D,), constraints.real)})
    assert table.likeness["x"] < 0.02 if mixed else table.likeness["x"] > 0.3
    model, guide = declared()
    fit = lfm.fit(model, path, lfm.SVI(guide, steps=1, batch_size=64, buffer=250), seed=0, progress=False)
    warned = [str(w.message) for w in recwarn if w.category is lfm.RowOrderWarning]
    assert len(warned) == (0 if mixed else 1) and fit.history
    if warned:
        assert "lfm.data.shuffle(path, out)" in warned[0] and "only 5 blocks of about 50 rows" in warned[0]


def test_wrong_blocks_are_refused():
    _, guide = declared()
    for name in ("block", "buffer"):
        with pytest.raises(lfm.DeclarationError, match=f"{name} must be"):
            lfm.SVI(guide, **{name: 0})


class Items(torch.utils.data.Dataset):
    """Rows one by one, with a transform that draws; row ``bad`` raises."""

    def __init__(self, bad=None, noise=0.0):
        self.bad, self.noise = bad, noise

    def __len__(self):
        return 200

    def __getitem__(self, k):
        if k == self.bad:
            raise KeyError("no such picture")
        return torch.from_numpy(ROWS[k]) + self.noise * torch.rand(())


def by_workers(dataset, workers, done=0):
    table = read(dataset, ["x"])
    rows = shuffled_rows(table, torch.float32, None, None, 32, workers)
    feed = Feed(table, 48, torch.float32, "cpu", torch.Generator().manual_seed(0), False, rows)
    state = torch.get_rng_state()
    batches = epoch(feed, done)
    assert not workers or torch.equal(torch.get_rng_state(), state), "the stream of this process has moved"
    return batches


def test_workers_read_the_items_of_a_dataset_ahead():
    without, whole, one = (by_workers(Items(), workers) for workers in (0, 2, 1))
    for batches in (whole, one):
        assert all(
            torch.equal(a[0], b[0]) and torch.equal(a[1], b[1]) for a, b in zip(batches, without, strict=True)
        )
    noisy = [by_workers(Items(noise=1.0), workers) for workers in (1, 2)]
    assert all(torch.equal(a[1], b[1]) for a, b in zip(*noisy, strict=True))
    assert all(
        torch.equal(a[1], b[1]) for a, b in zip(noisy[0][3:], by_workers(Items(noise=1.0), 1, 3), strict=True)
    )
    with pytest.raises(
        lfm.DataError, match="rows .* of the Dataset cannot be read: KeyError: 'no such picture'"
    ):
        by_workers(Items(bad=7), 1)
    with pytest.raises(lfm.DataError, match="workers are for items"):
        by_workers(ROWS, 1)


def test_more_rows_than_single_precision_counts():
    """Rows spread evenly over 39,062,500 are looked at before a fit: the last was one beyond the end."""
    count = 39_062_500
    table = read(torch.zeros(1, D).expand(count, D), ["x"])
    zeros = torch.zeros(D, dtype=torch.float64)
    table.scales["x"] = Scale(zeros, zeros + 1, zeros + 1, zeros)
    model, guide = declared()
    warn_of_start(model, guide, table)

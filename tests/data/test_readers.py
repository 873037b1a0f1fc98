"""Readers of every kind of data, what is checked in them, and the data sets."""

import builtins
import gzip
import struct
import sys

import cases
import numpy as np
import pandas as pd
import pytest
import scipy.sparse
import torch
from torch.distributions import constraints

import pyro_lfm as lfm

VALUES = np.arange(24.0).reshape(6, 4)


class Items(torch.utils.data.Dataset):
    """A map-style data set of items made from the rows of VALUES."""

    def __init__(self, item):
        self.item = item

    def __len__(self):
        return len(VALUES)

    def __getitem__(self, i):
        return self.item(VALUES[i])


KINDS = {
    "array": VALUES,
    "float32": VALUES.astype(np.float32),
    "integers": VALUES.astype(np.int64),
    "bytes": VALUES.astype(np.uint8),
    "big-endian": VALUES.astype(">f8"),
    "fortran": np.asfortranarray(VALUES),
    "reversed": VALUES[::-1].copy()[::-1],
    "read-only": np.broadcast_to(VALUES, VALUES.shape),
    "tensor": torch.from_numpy(VALUES),
    "list": VALUES.tolist(),
    "frame": pd.DataFrame(VALUES),
    "nullable frame": pd.DataFrame(VALUES).convert_dtypes(),
    "csr": scipy.sparse.csr_matrix(VALUES),
    "coo": scipy.sparse.coo_array(VALUES),
    "dataset of arrays": Items(lambda row: row),
    "dataset of pairs": Items(lambda row: (torch.from_numpy(row), 3)),
    "dataset of dicts": Items(lambda row: {"x": row, "label": 1}),
    "by name": {"x": VALUES},
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_data_reads_the_same(kind):
    table = lfm.data.read(KINDS[kind], ["x"])
    assert len(table) == 6 and table.shapes["x"] == (4,)
    index = torch.tensor([4, 0, 4])
    assert torch.equal(table.take(index, torch.float64)["x"], torch.from_numpy(VALUES[index.numpy()]))
    model = cases.plain()
    guide = cases.guide_for(model, cases.GUIDES["gaussian-diagonal"])
    fit = lfm.fit(model, KINDS[kind], lfm.SVI(guide, epochs=1, batch_size=4), seed=0, progress=False)
    assert fit.posterior(KINDS[kind]).mean.shape == (6, cases.K)


def test_missing_marks_of_every_kind():
    holed = VALUES.copy()
    holed[2, 1] = np.nan
    masked = np.ma.masked_array(VALUES, mask=np.isnan(holed))
    frame = pd.DataFrame(VALUES).convert_dtypes()
    frame.iloc[2, 1] = pd.NA
    for data in (holed, masked, frame, torch.from_numpy(holed)):
        taken = lfm.data.read(data, ["x"]).take(torch.arange(6), torch.float64)["x"]
        assert torch.equal(taken.isnan(), torch.from_numpy(np.isnan(holed)))


def test_a_labelled_data_set_stands_for_its_images():
    data = lfm.data.digits()
    assert torch.equal(lfm.data.read(data, ["x"]).take(torch.tensor([5]))["x"], data.x[5:6])


def test_a_series_is_a_column():
    series = pd.Series([0.0, 1.0, 2.0], name="label")
    table = lfm.data.read(series, ["x"])
    lfm.data.validate(table, {"x": ((), constraints.real)})
    assert table.take(torch.arange(3))["x"].tolist() == [0.0, 1.0, 2.0]


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (np.zeros((2, 2), complex), "x must hold real numbers; got dtype complex128"),
        (torch.zeros(2, 2, dtype=torch.complex64), "x must hold real numbers"),
        (torch.zeros(2, 2).to_sparse(), "dense tensor"),
        (pd.DataFrame({"a": ["u", "v"]}), r"column 'a'.*lfm\.Categorical\(C\)"),
        (Items(lambda row: {"y": row}), "without x"),
        (Items(lambda row: "row"), "x in row 0 must hold real numbers"),
        (torch.utils.data.ChainDataset([]), "map-style Dataset"),
        (np.zeros((3, 0)), "at least one entry per row"),
        (np.float64(3.0), "got a single number"),
    ],
)
def test_kinds_that_cannot_be_read(data, words):
    with pytest.raises((lfm.DataError, lfm.ShapeError), match=words):
        lfm.data.read(data, ["x"])


def test_datasets_must_have_rows_of_one_shape():
    class Growing(Items):
        def __getitem__(self, i):
            return np.zeros(i + 1)

    table = lfm.data.read(Growing(None), ["x"])
    with pytest.raises(lfm.ShapeError, match=r"\(1,\) as in row 0; got \(3,\) in row 2"):
        table.take(torch.tensor([0, 2]))


def test_labels_may_come_as_a_column_and_rows_may_lie_transposed():
    table = lfm.data.read(np.zeros((5, 1)), ["c"])
    lfm.data.validate(table, {"c": ((), constraints.integer_interval(0, 2))})
    assert table.take(torch.arange(2))["c"].shape == (2,)
    table = lfm.data.read(np.zeros((4, 9)), ["x"])
    with pytest.raises(lfm.ShapeError, match="x must have shape"):
        lfm.data.validate(table, {"x": ((7,), constraints.real)})


def test_rows_of_a_simplex():
    table = lfm.data.read([[0.5, 0.5], [float("nan"), 1.0], [0.5, 0.6]], ["x"])
    with pytest.raises(lfm.DataError, match="rows >= 0 that sum to 1.*row 2.*divide each row"):
        lfm.data.validate(table, {"x": ((2,), constraints.simplex)})


# Data sets -----------------------------------------------------------------------------------------------


def test_digits_ship_with_their_labels():
    data = lfm.data.digits()
    assert data.x.shape == (1797, 64) and 0 <= data.x.min() and data.x.max() == 1
    assert data.y.unique().tolist() == list(range(10)) and data.shape == (1, 8, 8) and len(data) == 1797
    train, test = data.split(0.25, seed=3)
    assert len(train) + len(test) == 1797
    rows = torch.cat([train.x, test.x])
    assert torch.equal(rows.sum(0), data.x.sum(0))
    with pytest.raises(lfm.DataError, match="leaves rows on both sides"):
        data.split(1.5)


def write_idx(path, array):
    head = bytes((0, 0, 8, array.ndim)) + struct.pack(f">{array.ndim}I", *array.shape)
    path.write_bytes(gzip.compress(head + array.astype(np.uint8).tobytes()))


@pytest.fixture
def folder(tmp_path):
    generator = np.random.default_rng(0)
    for part, n in (("train", 12), ("t10k", 5)):
        write_idx(tmp_path / f"{part}-images-idx3-ubyte.gz", generator.integers(0, 256, (n, 28, 28)))
        write_idx(tmp_path / f"{part}-labels-idx1-ubyte.gz", generator.integers(0, 10, n))
    return tmp_path


def test_fashion_mnist_is_read_from_a_folder(folder):
    train, test = lfm.data.fashion_mnist(folder), lfm.data.fashion_mnist(folder, train=False)
    assert train.x.shape == (12, 784) and test.x.shape == (5, 784) and train.shape == (1, 28, 28)
    assert train.x.max() <= 1 and train.y.dtype == torch.int64
    raw = gzip.decompress((folder / "train-images-idx3-ubyte.gz").read_bytes())[16:]
    assert torch.equal((train.x * 255).round().byte().flatten(), torch.tensor(list(raw), dtype=torch.uint8))


def test_broken_files_say_what_is_wrong(folder):
    images = folder / "train-images-idx3-ubyte.gz"
    whole = images.read_bytes()
    images.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(lfm.DataError, match="whole gzip file"):
        lfm.data.fashion_mnist(folder)
    images.write_bytes(gzip.compress(b"something else"))
    with pytest.raises(lfm.DataError, match="IDX magic number"):
        lfm.data.fashion_mnist(folder)
    images.write_bytes(gzip.compress(gzip.decompress(whole)[:-9]))
    with pytest.raises(lfm.DataError, match="must hold 9408 entries"):
        lfm.data.fashion_mnist(folder)
    write_idx(images, np.zeros((11, 28, 28)))
    with pytest.raises(lfm.DataError, match="a label per image; got 11 images and 12 labels"):
        lfm.data.fashion_mnist(folder)


def test_any_torchvision_data_set_through_the_adapter():
    torchvision = lfm.data.import_torchvision()
    fake = torchvision.datasets.FakeData(
        size=5, image_size=(3, 6, 7), transform=torchvision.transforms.ToTensor()
    )
    data = lfm.data.from_torchvision(fake)
    assert data.x.shape == (5, 126) and data.shape == (3, 6, 7)
    assert torch.equal(data.x[2].reshape(3, 6, 7), fake[2][0])
    plain = [(np.full((4, 4), 255, np.uint8), 1), (np.zeros((4, 4), np.uint8), 0)]
    assert lfm.data.from_torchvision(plain).x.tolist() == [[1.0] * 16, [0.0] * 16]


@pytest.mark.parametrize(
    ("items", "words"),
    [
        ([], "at least one item"),
        ([(np.zeros((2, 2)), "cat")], "an integer label"),
        ([(np.zeros(4), 0)], "must be an image"),
        ([(np.full((2, 2), 3.0), 0)], "lie between 0 and 1; got 3 to 3"),
        ([(np.zeros((2, 2)), 0), (np.zeros((3, 3)), 0)], "images of one size"),
    ],
)
def test_items_that_are_no_labelled_images(items, words):
    with pytest.raises((lfm.DataError, lfm.ShapeError), match=words):
        lfm.data.from_torchvision(items)


def test_the_guard_declares_operators_only_on_that_very_error(monkeypatch):
    """Both branches, on this machine's torchvision or in its absence: the import is what is replaced."""
    from pyro_lfm.data import datasets

    real, attempts = builtins.__import__, []

    def failing(message):
        def fake(name, *args, **kwargs):
            if name == "torchvision":
                attempts.append(name)
                if len(attempts) == 1:
                    raise RuntimeError(message)
            return real(name, *args, **kwargs)

        return fake

    monkeypatch.setattr(builtins, "__import__", failing("something else is broken"))
    with pytest.raises(RuntimeError, match="something else"):
        datasets.import_torchvision()
    assert len(attempts) == 1
    attempts.clear()
    half = {name: module for name, module in sys.modules.items() if name.partition(".")[0] == "torchvision"}
    monkeypatch.setattr(builtins, "__import__", failing("operator torchvision::nms does not exist"))
    try:
        assert datasets.import_torchvision().__name__ == "torchvision"
        assert len(attempts) >= 2
        assert torch.ops.torchvision.nms is not None
    finally:
        sys.modules.update(half)


def test_arrays_that_torch_cannot_view_are_fed_like_others():
    """A field of records has strides of no whole entries; others run backwards or have the other byte order."""
    from pyro_lfm.data.feed import Feed
    from pyro_lfm.data.readers import read

    plain = np.arange(12, dtype=np.float32).reshape(6, 2)
    records = np.zeros(6, dtype=[("flag", "u1"), ("x", "f4", (2,))])
    records["x"] = plain
    for data in (records["x"], plain[::-1], plain[:, ::-1], plain.astype(">f4"), plain.astype(np.float16)):
        table = read(data, ["x"])
        feed = Feed(table, 4, torch.float32, "cpu", torch.Generator().manual_seed(0))
        for index, rows in feed.epoch():
            assert torch.equal(rows["x"], torch.tensor(data[index.numpy()].astype(np.float32)))

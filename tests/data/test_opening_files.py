"""``lfm.data.open`` and paths straight into fits: every format gives the rows that were written, or an error in words."""

import gzip
import pickle

import anndata
import h5py
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import torch
import zarr
from PIL import Image

import pyro_lfm as lfm
from pyro_lfm.data.readers import read

ROWS = np.random.default_rng(0).normal(size=(40, 3)).round(3)
COUNTS = np.random.default_rng(1).poisson(1.0, (40, 5)).astype(np.float32)
PICKED = torch.tensor([7, 3, 3, 39, 8, 9])


def cells(x):
    """An AnnData whose index is of Python strings, which every version writes."""
    names = pd.Index([f"cell{i}" for i in range(len(COUNTS))], dtype=object)
    genes = pd.Index([f"gene{i}" for i in range(5)], dtype=object)
    return anndata.AnnData(x, obs=pd.DataFrame(index=names), var=pd.DataFrame(index=genes))


def written(kind, folder):
    """A file of ROWS, or of COUNTS for AnnData."""
    frame = pd.DataFrame(ROWS, columns=["a", "b", "c"])
    path = folder / f"rows{kind}"
    match kind:
        case ".npy":
            np.save(path, ROWS)
        case ".npz":
            np.savez(path, x=ROWS)
        case ".csv" | ".tsv":
            frame.to_csv(path, index=False, sep="," if kind == ".csv" else "\t")
        case ".csv.gz":
            path.write_bytes(gzip.compress(frame.to_csv(index=False, sep=";", decimal=",").encode("utf-16")))
        case ".parquet":
            frame.to_parquet(path)
        case ".zarr":
            zarr.open(path, mode="w", shape=ROWS.shape, dtype="f8", chunks=(7, 3))[:] = ROWS
        case ".h5ad":
            cells(sp.csr_matrix(COUNTS)).write_h5ad(path)
        case "dense.h5ad":
            cells(COUNTS).write_h5ad(path)
        case "columns.h5ad":
            cells(sp.csc_matrix(COUNTS)).write_h5ad(path)
        case "cells.zarr":
            cells(sp.csr_matrix(COUNTS)).write_zarr(path)
        case "dense.zarr":
            cells(COUNTS).write_zarr(path)
    return path


KINDS = [".npy", ".npz", ".csv", ".tsv", ".csv.gz", ".parquet", ".zarr"]
ANNDATA = [".h5ad", "dense.h5ad", "columns.h5ad", "cells.zarr", "dense.zarr"]


@pytest.mark.parametrize("kind", [*KINDS, *ANNDATA])
def test_rows_of_every_format_come_back(kind, tmp_path):
    path, truth = written(kind, tmp_path), COUNTS if kind in ANNDATA else ROWS
    for given in (path, str(path), lfm.data.open(path), {"x": path}):
        table = read(given, ["x"])
        assert len(table) == 40 and table.shapes["x"] == truth.shape[1:]
        torch.testing.assert_close(
            table.take(PICKED, torch.float64)["x"], torch.tensor(truth).double()[PICKED]
        )
        assert table.take(PICKED[:0])["x"].shape == (0, *truth.shape[1:])
    names = table.schema["x"].names
    assert names == {3: ("a", "b", "c"), 5: tuple(f"gene{i}" for i in range(5))}[truth.shape[1]] or kind in (
        ".npy", ".npz", ".zarr",
    )  # fmt: skip


@pytest.mark.parametrize("kind", [".npy", ".npz", ".zarr", ".h5ad", "dense.h5ad", "cells.zarr", "dense.zarr"])
def test_rows_stay_on_the_disk(kind, tmp_path):
    opened = lfm.data.open(written(kind, tmp_path))
    x = getattr(opened, "X", opened)
    assert isinstance(x, np.memmap | zarr.Array | h5py.Dataset) or hasattr(x, "to_memory")


def test_paths_go_straight_into_fits_and_queries(tmp_path):
    path = written(".csv", tmp_path)
    model = lfm.Model(z=lfm.StandardNormal(1), x=lfm.Gaussian(3, mean=lfm.Linear()))
    fit = lfm.fit(model, path, lfm.EM(iterations=5, tolerance=1.0), seed=0, progress=False)
    by_array = fit.log_likelihood(pd.DataFrame(ROWS, columns=["a", "b", "c"]))
    assert fit.schema["x"].names == ("a", "b", "c")
    torch.testing.assert_close(fit.log_likelihood(str(path)), by_array)
    gappy = pd.DataFrame(ROWS, columns=["c", "a", "b"]).mask(ROWS > 1)
    gappy.to_csv(tmp_path / "gappy.csv", index=False)
    filled = fit.impute(tmp_path / "gappy.csv", draws=2, seed=0).values["x"]
    assert filled.isfinite().all()


def test_several_arrays_have_names(tmp_path):
    np.savez_compressed(tmp_path / "a.npz", x=ROWS, y=ROWS[:, 0])
    group = zarr.open_group(tmp_path / "b.zarr", mode="w")
    group.create_array("x", data=ROWS)
    group.create_array("y", data=ROWS[:, 0])
    for name in ("a.npz", "b.zarr"):
        table = read(tmp_path / name, ["x", "y"])
        torch.testing.assert_close(table.take(PICKED, torch.float64)["y"], torch.tensor(ROWS[:, 0])[PICKED])
    np.save(tmp_path / "y.npy", ROWS[:, 0])
    assert len(read({"x": tmp_path / "b.zarr" / "x", "y": str(tmp_path / "y.npy")}, ["x", "y"])) == 40


def test_arrays_in_an_archive_are_mapped_in_any_layout(tmp_path):
    arrays = {
        "f": np.asfortranarray(ROWS),
        "i": np.arange(6, dtype=np.int16),
        "n": np.float32(3.0),
        "e": ROWS[:0],
    }
    np.savez(tmp_path / "a.npz", **arrays)
    opened = lfm.data.open(tmp_path / "a.npz")
    for name, array in arrays.items():
        np.testing.assert_array_equal(opened[name], array)
    assert isinstance(opened["f"], np.memmap)


def test_datasets_of_hdf5_are_rows_too(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["x"] = ROWS
        torch.testing.assert_close(
            read(file["x"], ["x"]).take(PICKED, torch.float64)["x"], torch.tensor(ROWS)[PICKED]
        )
        assert len(read(file, ["x"])) == 40
        file["group/x"] = ROWS
        with pytest.raises(lfm.DataError, match="choose one by its name"):
            read({"x": file["group"]}, ["x"])


# Folders of pictures ------------------------------------------------------------------------------------


def pictures(folder, sizes=((6, 8),), mode="L", ending="png"):
    folder.mkdir(exist_ok=True)
    rng = np.random.default_rng(0)
    for k in range(4):
        height, width = sizes[k % len(sizes)]
        shape = (height, width) if mode == "L" else (height, width, 3)
        Image.fromarray(rng.integers(0, 256, shape, dtype=np.uint8)).save(folder / f"p{k}.{ending}")
    return folder


def test_pictures_are_rows_in_zero_to_one(tmp_path):
    folder = pictures(tmp_path / "grey")
    opened = lfm.data.open(folder)
    assert opened.shape == (1, 6, 8) and opened.names == ("p0.png", "p1.png", "p2.png", "p3.png")
    truth = np.asarray(Image.open(folder / "p2.png"), np.float32) / 255
    np.testing.assert_allclose(opened[2][0], truth)
    table = read(opened, ["x"])
    torch.testing.assert_close(table.take(torch.tensor([2, 2]))["x"][1, 0], torch.tensor(truth))
    assert opened.x.shape == (4, 1, 6, 8) and len(opened[1:3]) == 2
    assert read(pickle.loads(pickle.dumps(opened)), ["x"]).shapes["x"] == (1, 6, 8)
    model = lfm.Model(z=lfm.StandardNormal(1), x=lfm.ContinuousBernoulli((1, 6, 8), logits=lfm.MLP(4)))
    svi = lfm.SVI(lfm.Guide(model, z=lfm.Gaussian()), steps=2, engine="eager")
    assert len(lfm.fit(model, folder, svi, seed=0, progress=False).history)


def test_pictures_are_resized_and_in_colour(tmp_path):
    folder = pictures(tmp_path / "colour", ((6, 8), (9, 9)), "RGB", "jpg")
    with pytest.raises(lfm.DataError, match=r"p0.jpg has \(6, 8\) and p1.jpg \(9, 9\).*size="):
        lfm.data.open(folder)
    assert lfm.data.open(folder, size=5).x.shape == (4, 3, 5, 5)
    grey = lfm.data.open(folder, size=(4, 3), colour=False).x
    assert grey.shape == (4, 1, 4, 3) and 0 <= grey.min() <= grey.max() <= 1
    # A picture of one colour keeps it, whatever the size.
    Image.new("RGB", (30, 20), (51, 102, 255)).save(folder / "p0.png")
    resized = lfm.data.open(folder, size=(7, 5))[1]
    np.testing.assert_allclose(
        resized, np.broadcast_to(np.array([0.2, 0.4, 1.0])[:, None, None], (3, 7, 5)), atol=1e-6
    )


def test_pictures_of_sixteen_bits_and_turned_ones(tmp_path):
    values = np.linspace(0, 65535, 24).astype(np.uint16).reshape(4, 6)
    (tmp_path / "deep").mkdir()
    Image.fromarray(values).save(tmp_path / "deep" / "a.png")
    np.testing.assert_allclose(lfm.data.open(tmp_path / "deep")[0][0], values / 65535, atol=1e-6)
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was held upright
    (tmp_path / "turned").mkdir()
    Image.new("L", (8, 6)).save(tmp_path / "turned" / "a.jpg", exif=exif)
    assert lfm.data.open(tmp_path / "turned").shape == (1, 8, 6)


def test_attributes_of_pictures(tmp_path):
    folder = pictures(tmp_path / "faces")
    (folder / "list.csv").write_text("file;glasses;age\np2;yes;3\np0;no;\np9;no;5\np1;yes;4\n")
    opened = lfm.data.open(folder)
    assert opened.attributes["glasses"].tolist()[:3] == ["no", "yes", "yes"]
    assert opened.attributes["age"].isna().tolist() == [True, False, False, True]
    assert list(opened.attributes.index) == list(opened.names)
    (tmp_path / "other.csv").write_text("glasses,age\nyes,1\nno,2\n")
    with pytest.raises(
        lfm.DataError, match="pictures, such as p0.png; its columns are glasses, which begins with .*"
    ):
        _ = lfm.data.open(folder, attributes=tmp_path / "other.csv").attributes
    with pytest.raises(lfm.DataError, match="there is no no.csv"):
        lfm.data.open(folder, attributes="no.csv")
    pictures(tmp_path / "kinds", ending="png")
    pictures(tmp_path / "kinds" / "cats")
    assert lfm.data.open(tmp_path / "kinds").attributes["folder"].unique().tolist() == ["cats", "."]


# What is refused ----------------------------------------------------------------------------------------


def test_broken_pictures_are_named(tmp_path):
    folder = pictures(tmp_path / "broken")
    whole = (folder / "p1.png").read_bytes()
    (folder / "p1.png").write_bytes(whole[: len(whole) // 2])
    opened = lfm.data.open(folder)
    with pytest.raises(lfm.DataError, match="p1.png cannot be read"):
        _ = opened.x
    (folder / "p1.png").write_bytes(b"no picture")
    with pytest.raises(lfm.DataError, match="p1.png cannot be read"):
        lfm.data.open(folder)
    (tmp_path / "empty").mkdir()
    with pytest.raises(lfm.DataError, match="no pictures: their names must end in .png"):
        lfm.data.open(tmp_path / "empty")


@pytest.mark.parametrize("kind", [".npy", ".npz", ".parquet", ".h5ad", ".zarr"])
@pytest.mark.parametrize(
    "content", [b"", b"something else", b"\x89HDF\r\n\x1a\n\0\0", b"PK\x03\x04\0", b"\x93NUMPY\1\0v\0"]
)
def test_wrong_contents_are_refused_with_the_file(kind, content, tmp_path):
    path = tmp_path / f"rows{kind}"
    path.write_bytes(content)
    with pytest.raises(lfm.DataError, match=f"rows{kind}"):
        lfm.data.open(path)


def test_pickled_objects_are_refused(tmp_path):
    np.save(tmp_path / "a.npy", np.array([{}], dtype=object), allow_pickle=True)
    np.savez(tmp_path / "a.npz", np.array([{}], dtype=object))
    for name in ("a.npy", "a.npz"):
        with pytest.raises(lfm.DataError, match=name):
            lfm.data.open(tmp_path / name)


def test_missing_files_and_unknown_endings(tmp_path, monkeypatch):
    (tmp_path / "wine.csv").write_text("a,b\n1,2\n")
    (tmp_path / "wine.xlsx").write_bytes(b"PK")
    for given, words in (
        ("wnie.csv", "did you mean .*wine.csv?"),
        ("zzzzzzzz.csv", "has wine.csv"),
        ("wine.xlsx", r"no known ending: give a file that ends in .npy, .npz, .csv"),
        ("nowhere/wine.csv", "no folder"),
    ):
        with pytest.raises(lfm.DataError, match=words):
            lfm.data.open(tmp_path / given)
    with pytest.raises(lfm.DataError, match="no path|no file"):
        lfm.data.open("a\0b.csv")
    with pytest.raises(lfm.DeclarationError, match="of a folder of pictures"):
        lfm.data.open(tmp_path / "wine.csv", size=3)
    (tmp_path / "folder.npy").mkdir()
    with pytest.raises(lfm.DataError, match="is a folder"):
        lfm.data.open(tmp_path / "folder.npy")
    monkeypatch.setattr("pyro_lfm.data.files.required_package.import_module", _absent)
    (tmp_path / "x.h5ad").write_bytes(b"")
    with pytest.raises(ImportError, match=r"needs anndata: pip install 'pyro_lfm\[data\]'"):
        lfm.data.open(tmp_path / "x.h5ad")


def _absent(name):
    raise ImportError(name)


def test_large_parquet_files_stay_on_the_disk(tmp_path, monkeypatch):
    """Beyond a size they are rows with the names of columns; with text in them, or for a mixed table, they are frames."""
    monkeypatch.setattr("pyro_lfm.data.files.data_formats.LARGEST_FRAME", 10)
    whole = pd.DataFrame({"a": range(40), "b": [True, False] * 20})
    gaps = pd.DataFrame({"a": pd.array([1, None, 4, 7] * 10, "Int64"), "b": ROWS[:, 0]})
    for name, frame in {"whole": whole, "gaps": gaps}.items():
        path = tmp_path / f"{name}.parquet"
        frame.to_parquet(path, row_group_size=7)
        rows = pickle.loads(pickle.dumps(lfm.data.open(path)))
        assert isinstance(rows, lfm.data.ParquetRows) and rows.starts == [0, 7, 14, 21, 28, 35]
        truth = torch.tensor(frame.to_numpy(dtype=float, na_value=np.nan))
        for table in (read(path, ["x"]), read(rows, ["x"])):
            taken = table.take(PICKED, None)["x"]
            assert taken.dtype == (torch.int64 if name == "whole" else torch.float64)
            torch.testing.assert_close(taken.double(), truth[PICKED], equal_nan=True)
            assert table.schema["x"].names == ("a", "b")
    assert len(lfm.heterogeneous(path).columns) == 2
    gaps.assign(b="text").to_parquet(path)
    assert isinstance(lfm.data.open(path), pd.DataFrame)
    with pytest.raises(
        lfm.DataError, match="must hold numbers, as its rows stay on the disk; got .*string in column 'b'"
    ):
        lfm.data.open([path, path])
    with pytest.raises(lfm.DataError, match="several files must all be .parquet; got .*x.npy"):
        np.save(tmp_path / "x.npy", ROWS)
        lfm.data.open([path, tmp_path / "x.npy"])


@pytest.mark.parametrize("size", ["8x8", (8,), (8, 8, 3)])
def test_a_size_of_pictures_is_refused_in_words(size, tmp_path):
    with pytest.raises(lfm.DataError, match=r"size must be one number of pixels, or \(height, width\); got"):
        lfm.data.open(pictures(tmp_path / "faces"), size=size)

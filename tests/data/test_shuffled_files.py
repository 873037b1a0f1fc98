"""``lfm.data.shuffle``: the same rows in random order in every format, with little memory, whole or not at all."""

import gzip
import itertools

import anndata
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import scipy.sparse as sp
import zarr

import pyro_lfm as lfm
from pyro_lfm.data.shuffled_files import shuffling

N = 500
NUMBERS = np.arange(3.0 * N).reshape(N, 3)


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch):
    """Many pieces and buckets for few rows."""
    monkeypatch.setattr(shuffling, "_BUCKET_BYTES", 2_000)
    for module in ("array_file", "parquet_tables", "csv_lines", "zarr_arrays", "cell_file"):
        monkeypatch.setattr(f"pyro_lfm.data.shuffled_files.{module}.PIECE_BYTES", 1_000)


def frame():
    return pd.DataFrame(
        {
            "number": np.arange(N),
            "text": [f'row {k}, "quoted"\nin two lines' for k in range(N)],
            "hole": np.where(np.arange(N) % 3, np.arange(N) / 7, np.nan),
        }
    )


def is_mixed(order):
    """Whether an order of 0 to N − 1 is no longer sorted: neighbours are far apart, as at random. False alarms: < 1e-9."""
    order = np.asarray(order)
    assert sorted(order.tolist()) == list(range(N))
    return N / 3 * 0.8 < np.abs(np.diff(order)).mean() < N / 3 * 1.2


def test_an_array(tmp_path):
    np.save(tmp_path / "x.npy", NUMBERS.astype(">f4"))
    out = lfm.data.shuffle(tmp_path / "x.npy", tmp_path / "y.npy", seed=3)
    mixed = np.load(out)
    assert mixed.dtype == np.dtype(">f4") and is_mixed((mixed[:, 0] / 3).round())
    assert (mixed[:, 1:] - mixed[:, :1] == [1, 2]).all()
    again = np.load(lfm.data.shuffle(tmp_path / "x.npy", tmp_path / "z.npy", seed=3))
    other = np.load(lfm.data.shuffle(tmp_path / "x.npy", tmp_path / "z.npy", seed=4))
    assert (mixed == again).all() and not (mixed == other).all()


def test_every_order_is_equally_likely(tmp_path, monkeypatch):
    """Counts of the 6 orders of 3 rows in 120 files; χ² with 5 degrees of freedom exceeds 26 once in 10,000."""
    monkeypatch.setattr(shuffling, "_BUCKET_BYTES", 16)  # two buckets of 24 bytes
    np.save(tmp_path / "x.npy", np.arange(3))
    counts = dict.fromkeys(itertools.permutations(range(3)), 0)
    for seed in range(120):
        counts[
            tuple(np.load(lfm.data.shuffle(tmp_path / "x.npy", tmp_path / "y.npy", seed=seed)).tolist())
        ] += 1
    assert sum((n - 20) ** 2 / 20 for n in counts.values()) < 26


@pytest.mark.parametrize(
    "ending, encoding, end",
    [
        (".csv", "utf-8", "\n"),
        (".csv", "utf-16", "\r\n"),
        (".csv.gz", "latin-1", "\n"),
        (".tsv", "utf-8-sig", "\r\n"),
    ],
)
def test_text_keeps_its_bytes(ending, encoding, end, tmp_path):
    separator = "\t" if ending == ".tsv" else ";"
    lines = [f'{k}{separator}"é {k}{end}{separator} ""x"""{separator}{k},5' for k in range(N)]
    text = f"a{separator}b{separator}c{end}" + end.join(lines)  # the last line has no end
    path, out = tmp_path / f"x{ending}", tmp_path / f"y{ending}"
    packed = (lambda b: gzip.compress(b)) if ending.endswith("gz") else bytes
    unpacked = gzip.decompress if ending.endswith("gz") else bytes
    path.write_bytes(packed(text.encode(encoding)))
    lfm.data.shuffle(path, out)
    mixed = unpacked(out.read_bytes()).decode(encoding)
    assert mixed.startswith(f"a{separator}b{separator}c{end}0"[:-1])
    assert is_mixed(lfm.data.open(out)["a"])
    head = len(f"a{separator}b{separator}c{end}")
    assert sorted(mixed[head:].split(f",5{end}")) == sorted((text[head:] + end).split(f",5{end}"))


def test_text_without_a_header(tmp_path):
    (tmp_path / "x.csv").write_text("".join(f"{k},{k}.5\n" for k in range(N)))
    out = lfm.data.shuffle(tmp_path / "x.csv", tmp_path / "y.csv")
    assert is_mixed(lfm.data.open(out).iloc[:, 0])


def test_parquet_with_columns_of_any_type(tmp_path):
    frame().to_parquet(tmp_path / "x.parquet", row_group_size=90, compression="zstd")
    out = lfm.data.shuffle(tmp_path / "x.parquet", tmp_path / "y.parquet")
    mixed = pd.read_parquet(out)
    assert is_mixed(mixed["number"])
    pd.testing.assert_frame_equal(mixed.sort_values("number").reset_index(drop=True), frame())
    assert pq.ParquetFile(out).metadata.row_group(0).column(0).compression == "ZSTD"


def test_a_folder_of_parquet_files(tmp_path):
    (tmp_path / "parts").mkdir()
    for k in range(5):
        frame()[100 * k : 100 * k + 100].reset_index(drop=True).to_parquet(
            tmp_path / "parts" / f"{k}.parquet"
        )
    out = lfm.data.shuffle(tmp_path / "parts", tmp_path / "y.parquet")
    assert is_mixed(pd.read_parquet(out)["number"])
    frame()[["text"]].to_parquet(tmp_path / "parts" / "9.parquet")
    with pytest.raises(lfm.DataError, match=r"9.parquet must have the columns of .*0.parquet"):
        lfm.data.shuffle(tmp_path / "parts", tmp_path / "z.parquet")


def test_zarr_arrays_stay_together(tmp_path):
    group = zarr.open_group(tmp_path / "x.zarr", mode="w")
    group.create_array("x", data=NUMBERS, chunks=(70, 3)).attrs["unit"] = "m"
    group.create_array("label", data=np.arange(N), chunks=(50,))
    out = lfm.data.shuffle(tmp_path / "x.zarr", tmp_path / "y.zarr")
    mixed = zarr.open(out, mode="r")
    assert is_mixed(mixed["label"][:]) and mixed["x"].attrs["unit"] == "m"
    assert (mixed["x"][:, 0] == 3 * mixed["label"][:]).all()
    single = zarr.open(tmp_path / "s.zarr", mode="w", shape=(N,), dtype="i8", chunks=(30,))
    single[:] = np.arange(N)
    assert is_mixed(zarr.open(lfm.data.shuffle(tmp_path / "s.zarr", tmp_path / "t.zarr"), mode="r")[:])


@pytest.mark.parametrize("kind", [np.asarray, sp.csr_matrix])
def test_cells_keep_their_annotations(kind, tmp_path):
    names = pd.Index([f"cell {k}" for k in range(N)], dtype=object)
    adata = anndata.AnnData(
        kind(NUMBERS),
        obs=pd.DataFrame({"k": np.arange(N), "type": pd.Categorical([2, 7] * (N // 2))}, index=names),
        var=pd.DataFrame(index=pd.Index(list("xyz"), dtype=object)),
        layers={"twice": kind(2 * NUMBERS)},
        obsm={"pca": NUMBERS[:, :2]},
        obsp={"near": sp.csr_matrix(np.diag(np.arange(N)))},
        uns={"note": "kept"},
    )
    adata.write_h5ad(tmp_path / "x.h5ad", compression="gzip")
    mixed = anndata.read_h5ad(lfm.data.shuffle(tmp_path / "x.h5ad", tmp_path / "y.h5ad"))
    k = mixed.obs["k"].to_numpy()
    dense = lambda x: x.toarray() if sp.issparse(x) else x  # noqa: E731
    assert is_mixed(k) and mixed.uns["note"] == "kept" and list(mixed.var_names) == list("xyz")
    assert (dense(mixed.X) == NUMBERS[k]).all() and (dense(mixed.layers["twice"]) == 2 * NUMBERS[k]).all()
    assert (mixed.obsm["pca"] == NUMBERS[k, :2]).all() and (mixed.obs_names == names[k]).all()
    assert (mixed.obsp["near"].diagonal() == k).all() and (
        mixed.obs["type"] == [[2, 7][j % 2] for j in k]
    ).all()
    assert sp.issparse(mixed.X) == (kind is sp.csr_matrix)


def test_refusals_leave_nothing_behind(tmp_path):
    np.save(tmp_path / "x.npy", NUMBERS)
    (tmp_path / "cut.parquet").write_bytes(b"PAR1 and no more")
    (tmp_path / "open.csv").write_text("a,b\n" + "1,2\n" * 600 + '"never closed,2\n' * 3)
    before = sorted(path.name for path in tmp_path.iterdir())
    for given, out, words in [
        ("x.npy", "y.csv", "out must end in .npy"),
        ("x.npy", "no/y.npy", "there is no folder"),
        ("none.npy", "y.npy", "there is no file"),
        ("cut.parquet", "y.parquet", "cannot be read as .parquet"),
        ("open.csv", "y.csv", "line 604: a quote does not end"),
    ]:
        with pytest.raises(lfm.DataError, match=words):
            lfm.data.shuffle(tmp_path / given, tmp_path / out)
    assert sorted(path.name for path in tmp_path.iterdir()) == before

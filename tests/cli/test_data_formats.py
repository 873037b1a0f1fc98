"""The formats that people have: semicolons and decimal commas, parquet, arrays; from init to a filled file."""

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from cell_cases import cells
from cli_run import HOLES, mixed_table

import pyro_lfm as lfm
from pyro_lfm.cli import main

pytest.importorskip("typer")
SHORT = ["--set", "inference.epochs=2"]


def test_semicolons_decimal_commas_and_latin_1_stay_as_they_are(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    frame = mixed_table().rename(columns={"kind": "Größe"})
    frame.to_csv("daten.csv", sep=";", decimal=",", index=False, encoding="latin-1")
    assert main(["init", "daten.csv"]) == 0
    assert main(["fit", "daten.toml", *SHORT]) == 0
    assert main(["impute", "runs/daten", "daten.csv", "--out", "voll.csv", "--refine", "2"]) == 0
    before, after = ((tmp_path / name).read_bytes().split(b"\n") for name in ("daten.csv", "voll.csv"))
    assert before[0] == after[0] and "Größe".encode("latin-1") in after[0]
    cells = [
        (a, b)
        for x, y in zip(before, after, strict=True)
        for a, b in zip(x.split(b";"), y.split(b";"), strict=True)
    ]
    assert sum(a != b for a, b in cells) == HOLES and all(a == b or not a for a, b in cells)


@pytest.mark.slow
def test_parquet_keeps_the_types_of_columns(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    frame = mixed_table().assign(kind=lambda f: f["kind"].astype("category"))
    frame.to_parquet("animals.parquet")
    assert main(["init", "animals.parquet"]) == 0 and main(["fit", "animals.toml", *SHORT]) == 0
    assert main(["impute", "runs/animals", "animals.parquet", "--out", "full.parquet", "--refine", "2"]) == 0
    full = pd.read_parquet("full.parquet")
    assert not full.isna().any().any() and (full.dtypes == pd.read_parquet("animals.parquet").dtypes).all()
    known = frame.notna()
    assert (full.astype(object)[known].fillna(0) == frame.astype(object)[known].fillna(0)).all().all()


def test_an_array_gets_factor_analysis_and_its_gaps_are_filled(tmp_path, monkeypatch):
    """x = z w + noise: the filled entries follow the others. 40 gaps; a false alarm needs an error of half the mean's."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    whole = rng.normal(size=(200, 1)) * [1.0, 200.0, 0.03, 5.0] + 0.1 * rng.normal(size=(200, 4)) * [
        1.0,
        200.0,
        0.03,
        5.0,
    ]
    rows = whole.copy()
    gaps = rng.permutation(800).reshape(200, 4) < 40
    rows[gaps] = np.nan
    np.save("rows.npy", rows)
    assert main(["init", "rows.npy"]) == 0
    assert type(lfm.declare("rows.toml").inference).__name__ == "EM"
    assert main(["fit", "rows.toml"]) == 0
    assert main(["impute", "runs/rows", "rows.npy", "--out", "full.npy", "--draws", "20"]) == 0
    full = np.load("full.npy")
    assert np.array_equal(full[~gaps], rows[~gaps])
    spread = np.nanstd(rows, 0)
    off = ((full - whole) / spread)[gaps]
    assert np.sqrt(np.mean(off**2)) < 0.5
    assert main(["fit", "rows.toml", "--resume"]) == 2  # an exact inference keeps no state
    assert main(["transform", "runs/rows", "rows.npy", "--out", "z.csv"]) == 0
    assert main(["sample", "runs/rows", "-n", "7", "--out", "new.npz"]) == 0
    assert np.load("new.npz")["x"].shape == (7, 4)


@pytest.mark.slow
def test_zeros_and_ones_and_arrays_by_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    np.savez("both.npz", pixels=rng.integers(0, 2, (50, 9)), labels=rng.integers(0, 3, 50))
    assert main(["init", "both.npz"]) == 0 and main(["fit", "both.toml", *SHORT]) == 0
    fit = lfm.load("runs/both")
    assert list(fit.model.observed) == ["pixels"]
    assert main(["evaluate", "runs/both", "both.npz", "--draws", "20"]) == 0


@pytest.mark.slow
def test_annotated_counts_get_their_factors_in_obsm(tmp_path, monkeypatch):
    anndata = pytest.importorskip("anndata")
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    # With pandas 3 anndata 0.12 writes names that are objects only.
    names = [pd.DataFrame(index=pd.Index([f"{k}" for k in range(n)], dtype=object)) for n in (40, 6)]
    counts = anndata.AnnData(rng.poisson(3.0, (40, 6)).astype(np.float32), obs=names[0], var=names[1])
    counts.write_h5ad("cells.h5ad")
    assert main(["init", "cells.h5ad"]) == 0 and main(["fit", "cells.toml"]) == 0
    assert main(["transform", "runs/cells", "cells.h5ad", "--out", "coded.h5ad"]) == 0
    coded = anndata.read_h5ad("coded.h5ad")
    assert coded.obsm["X_lfm"].shape == (40, 2) and np.array_equal(coded.X, counts.X)


def test_columns_go_to_the_variables_of_their_names(tmp_path, monkeypatch):
    """A declaration with a label and numbers: the label's column by its name, the rest to the other variable."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(rng.normal(size=(40, 3)), columns=["a", "b", "c"]).assign(arm=["left", "right"] * 20)
    frame[["c", "arm", "a", "b"]].to_csv("trial.csv", index=False)
    (tmp_path / "trial.toml").write_text(
        '[data]\nfile = "trial.csv"\n[model]\nz = "StandardNormal(1)"\nx = "Gaussian(3, mean=Linear())"\n'
        'arm = "Categorical(2, logits=Linear())"\n[guide]\nz = "Gaussian(network=MLP(4))"\n'
        '[inference]\ntype = "SVI"\nepochs = 1\n'
    )
    assert main(["fit", "trial.toml"]) == 0
    fit = lfm.load("runs/trial")
    assert fit.schema["x"].names == ("c", "a", "b") and set(fit.schema["arm"].labels) == {"left", "right"}
    frame.iloc[:5].to_csv("other_order.csv", index=False)
    assert main(["transform", "runs/trial", "other_order.csv", "--out", "z.csv"]) == 0
    expected = fit.posterior({"x": frame[["a", "b", "c"]].iloc[:5], "arm": frame["arm"].iloc[:5]}).mean
    assert np.allclose(pd.read_csv("z.csv").to_numpy(), expected.numpy(), atol=1e-6)
    assert main(["sample", "runs/trial", "-n", "4", "--out", "new.csv"]) == 0
    new = pd.read_csv("new.csv")
    assert list(new) == ["c", "a", "b", "arm"] and set(new["arm"]) <= {"left", "right"}


def test_init_chooses_the_kinds_that_a_table_in_python_has(tmp_path):
    """Flippers vary less, given the other columns, than counts can."""
    penguins = pytest.importorskip("palmerpenguins").load_penguins()
    penguins.to_csv(tmp_path / "penguins.csv", index=False)
    assert main(["init", str(tmp_path / "penguins.csv"), "--out", str(tmp_path / "penguins.toml")]) == 0
    written = lfm.declare(tmp_path / "penguins.toml").data["columns"]
    assert written == {column.name: column.kind for column in lfm.heterogeneous(penguins).columns}
    assert written["flipper_length_mm"] == "continuous"


def test_sparse_cells_of_a_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    cells(matrix=sp.csr_matrix).write_h5ad("cells.h5ad")
    assert (
        main(["init", "cells.h5ad"]) == 0 and "lfm.single_cell.fit" in (tmp_path / "cells.toml").read_text()
    )
    assert main(["fit", "cells.toml"]) == 0
    assert main(["transform", "runs/cells", "cells.h5ad", "--out", "z.csv"]) == 0

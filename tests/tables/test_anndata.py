"""``lfm.tables.anndata``: counts and covariates of cells, the files they stand in, other cells, and what is refused."""

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import torch
from cell_cases import BATCHES, cells, names

import pyro_lfm as lfm
from pyro_lfm.data.annotated_rows import annotated_rows
from pyro_lfm.tables.count_scan import scan_counts
from pyro_lfm.tables.gene_counts import GeneCounts


def fitted(adata, epochs=3, **options):
    """A small model fitted to the AnnData itself."""
    model = lfm.Model(z=lfm.StandardNormal(2), **lfm.tables.anndata(adata, network=lfm.MLP(8), **options))
    guide = lfm.Guide(model, z=lfm.Gaussian(network=lfm.MLP(8)))
    svi = lfm.SVI(guide, epochs=epochs, batch_size=20, learning_rate=0.01, engine="eager")
    return lfm.fit(model, adata, svi, seed=0, progress=False)


@pytest.fixture(scope="module")
def fit():
    return fitted(cells(), batch_key="batch", covariates=["mito"])


def test_factors_and_data():
    adata = cells()
    table = lfm.tables.anndata(adata, batch_key="batch", covariates="mito")
    assert list(table) == ["library", "batch", "mito", "counts"] == list(table.data)
    assert table.data["library"].tolist() == adata.X.sum(1).tolist()
    assert table.data["batch"].tolist() == [BATCHES.index(name) for name in adata.obs["batch"]]
    np.testing.assert_allclose(table.data["mito"], adata.obs["mito"], rtol=1e-6)
    assert table["counts"].given == ("z", "batch", "mito")
    assert "8 genes of adata.X" in str(table) and "3 categories: 'b1', 'b2', 'b3'" in str(table)
    model = lfm.Model(z=lfm.StandardNormal(2), **table)
    assert model.covariates == ["library", "batch", "mito"] and list(model.latents) == ["z"]


def test_the_means_are_shares_of_the_library_size():
    factor = GeneCounts(3, [0.5, 0.25, 0.25], logits=lfm.Linear(), exposure="l", given="z")
    model = lfm.Model(
        z=lfm.StandardNormal(2), l=lfm.Covariate(support=torch.distributions.constraints.positive), x=factor
    )
    z, library = torch.randn(5, 2), torch.tensor([1.0, 10.0, 50.0, 100.0, 1e4])
    distribution = model.factors["x"](z, library)
    torch.testing.assert_close(distribution.mean.sum(-1), library)
    # At f = 0 they are those of the background.
    for weight in model.factors["x"].parts["logits"].parameters():
        torch.nn.init.zeros_(weight)
    torch.testing.assert_close(model.factors["x"](z, library).mean[1], torch.tensor([5.0, 2.5, 2.5]))


def test_without_a_library_the_means_start_at_those_of_the_genes():
    adata = cells()
    table = lfm.tables.anndata(adata, library=False)
    assert list(table) == ["counts"]
    expected = (adata.X.sum(0) + 0.5) / adata.n_obs
    torch.testing.assert_close(table["counts"].log_background.exp(), torch.tensor(expected))
    fitted(adata, epochs=1, library=False)


def test_the_moments_of_a_scan():
    adata = cells()
    x = np.asarray(adata.X, dtype=float)
    scan = scan_counts(annotated_rows(adata), adata)
    np.testing.assert_allclose(scan.log_spread, np.log1p(x).std(0))
    expected = scan.background(shares=True) * x.sum(1, keepdims=True)
    moments = (expected**2).sum(0) / ((x - expected) ** 2 - expected).sum(0).clip(1e-12)
    np.testing.assert_allclose(scan.dispersion(shares=True), moments.clip(0.5, 20.0))


def test_the_dispersion_of_negative_binomial_counts_is_recovered():
    rng = np.random.default_rng(0)
    size = rng.uniform(200, 2000, (4000, 1))
    mean = size * np.full(10, 0.1)
    adata = ad.AnnData(rng.poisson(rng.gamma(4.0, mean / 4.0)).astype(float))
    found = scan_counts(annotated_rows(adata), adata).dispersion(shares=True)
    # Shares of a sum that is itself overdispersed vary by nine tenths of 1 / r; the standard error of r is about 3%.
    np.testing.assert_allclose(found, 4.0 / 0.9, rtol=0.12)


def test_a_fit_takes_the_anndata_itself(fit):
    adata = cells()
    by_rows = fit.posterior(lfm.tables.anndata(adata, batch_key="batch", covariates=["mito"]).data).mean
    assert torch.equal(fit.posterior(adata).mean, by_rows) and torch.equal(fit.posterior().mean, by_rows)
    torch.testing.assert_close(fit.posterior(adata[5:9]).mean, by_rows[5:9])
    again = fitted(adata, batch_key="batch", covariates=["mito"])
    assert [r["bound"] for r in again.history] == [r["bound"] for r in fit.history]


def test_another_fit_from_the_same_model_takes_validation_cells():
    adata = cells()
    model = lfm.Model(z=lfm.StandardNormal(2), **lfm.tables.anndata(adata, batch_key="batch"))
    guide = lfm.Guide(model, z=lfm.Gaussian(network=lfm.MLP(8)))
    svi = lfm.SVI(guide, epochs=1, engine="eager")
    done = lfm.fit(model, adata[:40], svi, validation=adata[40:], seed=0, progress=False)
    assert np.isfinite(done.history[-1]["validation_bound"])
    assert len(done.posterior().mean) == 40


@pytest.mark.parametrize("matrix", [np.asarray, sp.csr_matrix, sp.csc_matrix], ids=["dense", "csr", "csc"])
@pytest.mark.parametrize("place", ["memory", "layer", "file"])
def test_every_matrix_in_memory_and_in_a_file_gives_the_same_rows(matrix, place, tmp_path):
    adata, expected = cells(matrix=matrix), torch.tensor(cells().X)
    layer = None
    if place == "layer":
        adata.layers["raw"], adata.X, layer = adata.X, None, "raw"
    elif place == "file":
        adata.write_h5ad(tmp_path / "cells.h5ad")
        adata = ad.read_h5ad(tmp_path / "cells.h5ad", backed="r")
    table = lfm.tables.anndata(adata, layer=layer, batch_key="batch")
    rows = lfm.data.read(table.data, list(table.data))
    index = torch.tensor([7, 3, 3, 59, 0])
    assert torch.equal(rows.take(index)["counts"], expected[index])
    assert torch.equal(rows.take(torch.arange(60))["library"], expected.sum(1))
    part = adata[10:50:3, [4, 1, 0]]
    if place == "file":
        assert part.is_view and part.isbacked
    rows = lfm.data.read(lfm.tables.anndata(part, layer=layer).data, ["library", "counts"])
    assert torch.equal(rows.take(torch.arange(14))["counts"], expected[10:50:3][:, [4, 1, 0]])


def test_a_fit_to_a_file_is_the_fit_to_memory(tmp_path, fit):
    cells(matrix=sp.csr_matrix).write_h5ad(tmp_path / "cells.h5ad")
    backed = ad.read_h5ad(tmp_path / "cells.h5ad", backed="r")
    again = fitted(backed, batch_key="batch", covariates=["mito"])
    assert torch.equal(again.posterior(backed).mean, fit.posterior().mean)


def test_genes_of_other_cells_are_matched_by_name(fit):
    adata = cells()
    other = ad.AnnData(np.full((60, 1), 7.0), obs=adata.obs, var=pd.DataFrame(index=["unknown"]))
    shuffled = ad.concat([other, adata[:, ::-1]], axis=1)
    shuffled.obs = adata.obs
    torch.testing.assert_close(fit.posterior(shuffled).mean, fit.posterior(adata).mean)
    with pytest.raises(lfm.DataError, match="8 genes that were fitted.* 2 are lacking.*'gene2', 'gene5'"):
        fit.posterior(adata[:, [0, 1, 3, 4, 6, 7]])


def test_covariates_of_other_cells_are_read_by_their_labels(fit):
    adata = cells()
    expected = fit.posterior(adata).mean
    adata.obs["batch"] = adata.obs["batch"].astype(str)  # strings, and one batch alone
    torch.testing.assert_close(fit.posterior(adata[1::3]).mean, expected[1::3])
    adata.obs["batch"] = adata.obs["batch"].replace("b2", "b9")
    with pytest.raises(lfm.DataError, match="fitted, 'b1', 'b2', 'b3'; got 'b9'"):
        fit.posterior(adata)
    with pytest.raises(lfm.DataError, match="must have the column 'batch'"):
        fit.posterior(ad.AnnData(adata.X, var=adata.var))


def test_categories_that_no_cell_has_are_left_out():
    adata = cells()
    part = adata[adata.obs["batch"] != "b2"]
    table = lfm.tables.anndata(part, batch_key="batch")
    assert table.converter.covariates[0].levels == ("b1", "b3")
    full = adata.copy()
    full.obs["batch"] = full.obs["batch"].cat.add_categories(["b0"])
    assert lfm.tables.anndata(full, batch_key="batch").converter.covariates[0].levels == tuple(BATCHES)


@pytest.mark.parametrize(
    ("column", "levels"),
    [
        (np.arange(60) % 2, (0, 1)),
        (np.arange(60) % 2 == 0, (False, True)),
        (np.array(["y", "x"], dtype=object)[np.arange(60) % 2], ("x", "y")),
    ],
)
def test_batches_may_be_numbers_booleans_and_strings(column, levels):
    adata = cells()
    adata.obs["lane 1"] = column
    table = lfm.tables.anndata(adata, batch_key="lane 1")
    assert table.converter.covariates[0].levels == levels and "lane_1" in table


def test_a_saved_fit_reads_cells_by_gene_and_label(fit, tmp_path):
    adata = cells()
    fit.save(tmp_path / "run")
    loaded = lfm.load(tmp_path / "run")
    assert loaded.table.genes == tuple(adata.var_names)
    assert loaded.table.covariates == fit.table.covariates
    turned = adata[:, ::-1]
    torch.testing.assert_close(loaded.posterior(turned).mean, fit.posterior(adata).mean)
    with pytest.raises(lfm.DataError, match="are lacking"):
        loaded.posterior(adata[:, 1:])
    svi = lfm.SVI(loaded.guide, epochs=1, engine="eager")
    assert len(lfm.fit(loaded.model, adata, svi, seed=0, progress=False).history) == 1


def test_a_checkpoint_goes_on_with_the_anndata(tmp_path):
    adata = cells()
    model = lfm.Model(z=lfm.StandardNormal(2), **lfm.tables.anndata(adata, batch_key="batch"))

    def run(epochs):
        again = lfm.Model(**model.declared)
        guide = lfm.Guide(again, z=lfm.Gaussian(network=lfm.MLP(8)))
        svi = lfm.SVI(guide, epochs=epochs, batch_size=20, engine="eager")
        return lfm.fit(again, adata, svi, seed=0, progress=False, checkpoint=tmp_path / "run")

    run(1)
    assert [record["epoch"] for record in run(3).history] == [1, 2, 3]


def test_rows_come_back_as_genes_and_labels(fit):
    frame = fit.table.decode(fit.model.sample(4, seed=0), index=names("new", 4))
    assert list(frame.columns) == [*cells().var_names, "batch", "mito"]
    assert set(frame["batch"]) <= set(BATCHES) and list(frame.index) == list(names("new", 4))


def test_cells_and_genes_without_counts_are_named_and_fitted():
    adata = cells()
    adata.X[3] = 0.0
    adata.X[:, 2] = 0.0
    with pytest.warns(lfm.EmptyCountsWarning, match="1 cells have no counts.*1 genes have no counts"):
        table = lfm.tables.anndata(adata)
    assert "1 genes without counts, 1 cells without counts" in str(table)
    assert table.data["library"][3] == 1.0
    with pytest.warns(lfm.EmptyCountsWarning):
        done = fitted(adata, epochs=1)
    assert bool(done.posterior(adata).mean.isfinite().all())


def logarithms(adata):
    adata.layers["counts"] = adata.X.copy()
    adata.X = np.log1p(adata.X)
    return adata


def changed(entry):
    def change(adata):
        adata.X[4, 2] = entry
        return adata

    return change


def gap(adata):
    adata.obs["batch"] = adata.obs["batch"].where(np.arange(60) != 5)
    return adata


def constant(adata):
    adata.obs["batch"] = "one"
    return adata


def repeated(adata):
    adata.var.index = ["gene0"] * 2 + list(adata.var_names[2:])
    return adata


@pytest.mark.parametrize(
    ("change", "options", "words"),
    [
        (logarithms, {}, r"adata.X must hold counts.*logarithm.*adata.layers\['counts'\].*layer='counts'"),
        (changed(-1.0), {}, "a value below 0: -1 in cell 'cell4', gene 'gene2'"),
        (changed(0.5), {}, "looks normalised.*0.5 in cell 'cell4'"),
        (changed(np.nan), {}, "a missing value"),
        (changed(np.inf), {}, "an infinite value"),
        (gap, {"batch_key": "batch"}, r"missing in 1 of 60, the first 'cell5'.*notna\(\)"),
        (constant, {"batch_key": "batch"}, "must differ between cells; it is 'one'"),
        (repeated, {}, "'gene0' stands twice.*var_names_make_unique"),
        (lambda adata: adata, {"layer": "spliced"}, "got 'spliced': its layers are none"),
        (lambda adata: adata.X, {}, "must be an AnnData, or the path of an .h5ad file; got a ndarray"),
        (lambda adata: ad.AnnData(obs=adata.obs, var=adata.var), {}, "is empty"),
    ],
)
def test_what_cannot_be_read_is_refused_in_words(change, options, words):
    with pytest.raises(lfm.DataError, match=words):
        lfm.tables.anndata(change(cells()), **options)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"batch_key": "lane"}, "got 'lane': its columns are 'batch', 'kind', 'mito'"),
        ({"batch_key": "batch", "covariates": ["batch"]}, "each column once"),
    ],
)
def test_columns_that_do_not_exist_are_refused(options, words):
    with pytest.raises(lfm.DeclarationError, match=words):
        lfm.tables.anndata(cells(), **options)


def test_a_model_without_the_latent_says_so():
    with pytest.raises(lfm.DeclarationError, match="counts"):
        lfm.Model(w=lfm.StandardNormal(2), **lfm.tables.anndata(cells()))
    lfm.Model(w=lfm.StandardNormal(2), **lfm.tables.anndata(cells(), given="w"))

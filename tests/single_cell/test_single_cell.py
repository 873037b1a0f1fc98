"""What a fit says of cells: embeddings, normalised expression, differential expression."""

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import torch
from cell_cases import cells

import pyro_lfm as lfm
from pyro_lfm.single_cell.differential import Changes


@pytest.fixture(scope="module")
def adata():
    return cells(genes=16, matrix=sp.csr_matrix)


@pytest.fixture(scope="module")
def fit(adata):
    table = lfm.tables.anndata(adata, batch_key="batch", covariates=["mito"], network=lfm.MLP(16))
    model = lfm.Model(z=lfm.StandardNormal(2), **table)
    guide = lfm.Guide(model, z=lfm.Gaussian(network=lfm.MLP(16)))
    warm = lfm.ELBO(kl_weight=lfm.schedules.linear(until=0.5))
    svi = lfm.SVI(guide, objective=warm, epochs=80, batch_size=20, learning_rate=0.02, engine="eager")
    return lfm.fit(model, adata, svi, seed=0, progress=False)


def test_embed_writes_posterior_means(adata, fit):
    part = adata[7:30].copy()
    lfm.single_cell.embed(fit, part)
    torch.testing.assert_close(torch.tensor(part.obsm["X_lfm"]), fit.posterior(part).mean)
    lfm.single_cell.embed(fit, part, key="other")
    assert set(part.obsm) == {"X_lfm", "other"}


def test_embed_of_a_file_read_row_by_row(adata, fit, tmp_path):
    adata.write_h5ad(tmp_path / "cells.h5ad")
    backed = ad.read_h5ad(tmp_path / "cells.h5ad", backed="r")
    lfm.single_cell.embed(fit, backed)
    np.testing.assert_allclose(backed.obsm["X_lfm"], fit.posterior().mean, rtol=1e-5, atol=1e-6)


def test_a_path_is_read_and_nothing_is_written_to_it(adata, fit, tmp_path):
    path = tmp_path / "cells.h5ad"
    adata.write_h5ad(path)
    done = lfm.single_cell.fit(str(path), 2, batch_key="batch", epochs=1, seed=0, progress=False)
    assert done.posterior(path).mean.shape == (len(adata), 2)
    frames = [
        lfm.single_cell.normalised_expression(fit, each, draws=2, library="observed")
        for each in (path, adata)
    ]
    pd.testing.assert_frame_equal(*frames, check_index_type=False, check_column_type=False)
    changes = [
        lfm.single_cell.differential_expression(fit, each, "kind", "T", comparisons=20)
        for each in (path, adata)
    ]
    pd.testing.assert_frame_equal(*changes, check_index_type=False, check_column_type=False)
    with pytest.raises(
        lfm.DataError, match=r"writes to its obsm; got a path: adata = anndata.read_h5ad\('.*cells.h5ad"
    ):
        lfm.single_cell.embed(fit, path)


def decoded(fit, adata, batch, draws, seed):
    """The shares of the mean counts, averaged over draws, computed with the factor itself."""
    rows = fit.table.encode(adata)
    z = fit.sample_posterior(adata, draws, seed)["z"]
    of_batch = rows["batch"] if batch is None else torch.full((len(adata),), float(batch))
    ones = torch.ones(len(adata))
    with torch.no_grad():
        means = [fit.model.factors["counts"](each, of_batch, rows["mito"], ones).mean for each in z]
    return torch.stack(means).mean(0)


@pytest.mark.parametrize(("batch", "code"), [(None, None), ("b2", 1), ("b3", 2)])
def test_normalised_expression_is_decoded_under_a_batch(adata, fit, batch, code):
    given = {} if batch is None else {"batch": batch}
    frame = lfm.single_cell.normalised_expression(fit, adata, given=given, draws=4, seed=3)
    expected = 1e4 * decoded(fit, adata, code, 4, 3)
    np.testing.assert_allclose(frame.to_numpy(), expected, rtol=1e-4)
    assert list(frame.index) == list(adata.obs_names) and list(frame.columns) == list(adata.var_names)


def test_library_sizes_genes_and_averages_over_batches(adata, fit):
    def expression(**options):
        return lfm.single_cell.normalised_expression(fit, adata, draws=2, **options)

    whole, observed = expression(), expression(library="observed")
    np.testing.assert_allclose(observed.sum(axis=1), np.asarray(adata.X.sum(1)).ravel(), rtol=1e-4)
    pd.testing.assert_frame_equal(expression(genes=["gene5", "gene1"]), whole[["gene5", "gene1"]])
    both = expression(given={"batch": ["b1", "b3"]})
    each = [expression(given={"batch": name}) for name in ("b1", "b3")]
    np.testing.assert_allclose(both, sum(each) / 2, rtol=1e-5)


def test_the_first_three_genes_of_the_kinds_are_called(adata, fit):
    genes = lfm.single_cell.differential_expression(fit, adata, "kind", "T", "B", comparisons=200)
    assert set(genes.index[:3]) == {"gene0", "gene1", "gene2"}
    assert (genes["log_fold_change"].iloc[:3] > 1.0).all() and genes["differs"].iloc[:3].all()
    # In shares of the library size the other genes fall.
    assert (genes["log_fold_change"].iloc[3:] < 0.0).all()
    # Against itself a group differs in nothing.
    labels = np.where(np.arange(60) % 2, "odd", "even")
    assert not lfm.single_cell.differential_expression(fit, adata, labels, "odd", comparisons=200)[
        "differs"
    ].any()
    again = lfm.single_cell.differential_expression(fit, adata, "kind", "T", comparisons=200)
    pd.testing.assert_frame_equal(genes, again)


def test_the_expected_false_discovery_rate_of_known_probabilities():
    # Genes that change by 1 in 100, 95, 80 and no per cent of the comparisons.
    changed = torch.arange(100)[:, None] < torch.tensor([95, 100, 0, 80])
    changes = Changes(delta=0.5, offset=0.0)
    for part in (slice(0, 30), slice(30, 100)):
        changes.add(torch.where(changed[part], 2.0, 1.0), torch.ones(len(changed[part]), 4))
    frame = changes.frame(list("abcd"), fdr=0.05)
    assert list(frame.index) == ["b", "a", "d", "c"]
    np.testing.assert_allclose(frame["probability"], [1.0, 0.95, 0.8, 0.0])
    np.testing.assert_allclose(frame["expected_fdr"], [0.0, 0.025, 0.25 / 3, 1.25 / 4])
    assert frame["differs"].tolist() == [True, True, False, False]
    assert changes.frame(list("abcd"), fdr=0.1)["differs"].tolist() == [True, True, True, False]
    np.testing.assert_allclose(frame["log_fold_change"], [1.0, 0.95, 0.8, 0.0])


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (
            lambda fit, a: lfm.single_cell.normalised_expression(fit, a, given={"lane": "b1"}),
            "no covariate 'lane'",
        ),
        (lambda fit, a: lfm.single_cell.normalised_expression(fit, a, given={"batch": "b7"}), "got 'b7'"),
        (lambda fit, a: lfm.single_cell.normalised_expression(fit, a, library="median"), '"observed"; got'),
        (lambda fit, a: lfm.single_cell.normalised_expression(fit, a, genes=["x"]), "none called 'x'"),
        (lambda fit, a: lfm.single_cell.differential_expression(fit, a, "lane", "T"), "its columns are"),
        (
            lambda fit, a: lfm.single_cell.differential_expression(fit, a, "kind", "X"),
            "the labels are 'T', 'B'|'B', 'T'",
        ),
        (lambda fit, a: lfm.single_cell.differential_expression(fit, a, ["T"], "T"), "for each of 60 cells"),
        (
            lambda fit, a: lfm.single_cell.differential_expression(fit, a, "kind", "T", fdr=1.5),
            "fdr must be below 1",
        ),
        (lambda fit, a: lfm.single_cell.embed(fit, a[:, 1:]), "1 are lacking"),
    ],
)
def test_what_cannot_be_answered_is_refused_in_words(adata, fit, call, words):
    with pytest.raises(ValueError, match=words):
        call(fit, adata)


def test_a_fit_of_other_data_is_refused():
    model = lfm.Model(z=lfm.StandardNormal(1), x=lfm.Gaussian(8, mean=lfm.Linear()))
    other = lfm.fit(model, torch.randn(20, 8), lfm.EM(), seed=0, progress=False)
    with pytest.raises(lfm.DeclarationError, match="needs a fit of lfm.tables.anndata"):
        lfm.single_cell.embed(other, cells())


def test_the_one_call_is_the_declaration_in_its_docstring():
    adata = cells()
    one = lfm.single_cell.fit(adata, 2, batch_key="batch", epochs=2, seed=0, progress=False)
    table = lfm.tables.anndata(adata, batch_key="batch")
    model = lfm.Model(z=lfm.StandardNormal(2), **table)
    guide = lfm.Guide(model, z=lfm.Gaussian(network=lfm.MLP(128)))
    svi = lfm.SVI(guide, epochs=2, learning_rate=3e-3, schedule=lfm.schedules.cosine(1.0, 0.0))
    other = lfm.fit(model, table.data, svi, seed=0, progress=False)
    assert torch.equal(one.posterior().mean, other.posterior().mean)
    assert one.model.declared == other.model.declared

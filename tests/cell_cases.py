"""AnnData of simulated cells, shared by the tests of tables and of single_cell."""

import anndata as ad
import numpy as np
import pandas as pd

BATCHES = ["b1", "b2", "b3"]


def names(prefix, count):
    """Names as objects, which every version of AnnData writes to a file."""
    return pd.Index([f"{prefix}{k}" for k in range(count)], dtype=object)


def labels(categories, codes):
    """A categorical column, whose labels every version of AnnData writes to a file."""
    return pd.Categorical.from_codes(codes, categories=pd.Index(categories, dtype=object))


def cells(count=60, genes=8, seed=0, matrix=np.asarray):
    """Cells of three batches and two kinds, the counts in X; the kinds differ in the first three genes."""
    rng = np.random.default_rng(seed)
    kind = rng.integers(2, size=count)
    rates = np.full((count, genes), 12.0)
    rates[:, :3] *= np.where(kind, 3.0, 0.5)[:, None]
    counts = rng.poisson(rates * rng.gamma(5.0, 0.2, (count, 1))).astype(np.float32)
    counts[:, 0] += 1.0  # no cell without counts
    obs = pd.DataFrame(
        {
            "batch": labels(BATCHES, np.arange(count) % 3),
            "kind": labels(["B", "T"], kind),
            "mito": rng.uniform(size=count),
        },
        index=names("cell", count),
    )
    return ad.AnnData(matrix(counts), obs=obs, var=pd.DataFrame(index=names("gene", genes)))

"""One scan of the counts of an AnnData: what must be known of them before a model is declared, and that they are counts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pyro_lfm.data.annotated_rows import AnnotatedRows, annotated_rows
from pyro_lfm.errors import DataError

if TYPE_CHECKING:
    from anndata import AnnData

# Numbers in memory at once.
_NUMBERS = 2**22
# Rows by which another layer is judged to hold counts.
_FIRST = 200


# What is wrong with a value that is no count; the first that holds.
_FAULTS: dict[str, Callable[[float], bool]] = {
    "a missing value": np.isnan,
    "an infinite value": np.isinf,
    "a value that looks normalised, such as a logarithm": lambda value: value != np.floor(value),
    "a value below 0": lambda value: True,
}


@dataclass(frozen=True)
class CountScan:
    """Moments of the counts of N cells and D genes.

    Attributes:
        library: the sum of each cell, (N,).
        sums, squares, by_library: by gene, the sums over cells of x, of x² and of x times the library size, (D,).
        log_mean, log_spread: by gene, mean and standard deviation of ln(1 + x), (D,).
    """

    library: np.ndarray
    sums: np.ndarray
    squares: np.ndarray
    by_library: np.ndarray
    log_mean: np.ndarray
    log_spread: np.ndarray

    def background(self, shares: bool) -> np.ndarray:
        """The share of each gene in all counts, or its mean in a cell, as if half a count more had been seen of each."""
        sums = self.sums + 0.5
        return sums / (sums.sum() if shares else len(self.library))

    def dispersion(self, shares: bool) -> np.ndarray:
        """r of each gene by moments, at a background that is equal for all cells; between 0.5 and 20."""
        size = self.library if shares else np.ones_like(self.library)
        expected = self.background(shares)
        by_size = self.by_library if shares else self.sums
        excess = self.squares - 2 * expected * by_size + expected**2 * (size**2).sum() - expected * size.sum()
        return np.clip(expected**2 * (size**2).sum() / np.maximum(excess, 1e-12), 0.5, 20.0)


def scan_counts(rows: AnnotatedRows, adata: AnnData) -> CountScan:
    """Reads all rows once, block by block.

    Raises:
        DataError: an entry is no count; the message names a layer of ``adata`` that holds counts, if there is one.
    """
    genes = len(rows.names)
    library = np.zeros(len(rows))
    sums, squares, by_library, logs, log_squares = (np.zeros(genes) for _ in range(5))
    size = max(1, min(4096, _NUMBERS // genes))
    for start in range(0, len(rows), size):
        index = np.arange(start, min(start + size, len(rows)))
        block = rows.take(index).astype(np.float64)
        _check_counts(block, rows, start, adata)
        of_cells = library[index] = block.sum(1)
        log = np.log1p(block)
        sums += block.sum(0)
        squares += (block**2).sum(0)
        by_library += of_cells @ block
        logs += log.sum(0)
        log_squares += (log**2).sum(0)
    log_mean = logs / len(rows)
    log_spread = np.sqrt(np.maximum(log_squares / len(rows) - log_mean**2, 0.0))
    return CountScan(library, sums, squares, by_library, log_mean, log_spread)


def library_of(rows: AnnotatedRows, adata: AnnData) -> np.ndarray:
    """The sum of each cell, (N,), of rows that are checked to hold counts."""
    return scan_counts(rows, adata).library


def _check_counts(block: np.ndarray, rows: AnnotatedRows, start: int, adata: AnnData) -> None:
    bad = ~_are_counts(block)
    if not bad.any():
        return
    cell, gene = np.argwhere(bad)[0]
    value, row = block[cell, gene], start + cell
    what = next(words for words, holds in _FAULTS.items() if holds(value))
    raise DataError(
        f"{rows.place} must hold counts, whole numbers of at least 0; got {what}: {value:.6g} in cell "
        f"{adata.obs_names[row]!r}, gene {rows.names[gene]!r}: {_remedy(rows, adata)}"
    )


def _are_counts(block: np.ndarray) -> np.ndarray:
    with np.errstate(invalid="ignore"):
        return np.isfinite(block) & (block >= 0) & (block == np.floor(block))


def _remedy(rows: AnnotatedRows, adata: AnnData) -> str:
    """Where the counts are, if another matrix of the AnnData holds some."""
    for layer in [*adata.layers, None]:
        other = annotated_rows(adata, layer) if layer is not None or adata.X is not None else rows
        if other.place == rows.place:
            continue
        if _are_counts(other.take(np.arange(min(_FIRST, len(other)))).astype(np.float64)).all():
            return f"{other.place} holds counts; give layer={layer!r}"
    raw = getattr(adata, "raw", None)
    if raw is not None:
        return "give the raw counts, perhaps adata.raw.to_adata(), or a layer that holds them"
    return "give the raw counts, as before scanpy.pp.normalize_total and log1p, in X or in a layer"

"""Counts of single cells: a fit in one call, latent factors, normalised expression and differential expression.

The functions take a fit of this module, or of any model with the factors of ``lfm.tables.anndata``, and an AnnData.
"""

from pyro_lfm.single_cell.differential import differential_expression
from pyro_lfm.single_cell.embedding import embed
from pyro_lfm.single_cell.fitting_cells import fit
from pyro_lfm.single_cell.normalised import normalised_expression

__all__ = ["differential_expression", "embed", "fit", "normalised_expression"]

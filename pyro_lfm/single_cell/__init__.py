"""What a fit says of cells: their latent factors, normalised expression and differential expression.

Every function takes a fit of ``lfm.tables.anndata`` and an AnnData with its genes.
"""

from pyro_lfm.single_cell.differential import differential_expression
from pyro_lfm.single_cell.embedding import embed
from pyro_lfm.single_cell.normalised import normalised_expression

__all__ = ["differential_expression", "embed", "normalised_expression"]

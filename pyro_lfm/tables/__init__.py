"""Tables as observed factors: DataFrames with columns of several kinds, and AnnData with counts and covariates of cells."""

from pyro_lfm.tables.cell_table import Cells, anndata
from pyro_lfm.tables.mixed_table import Heterogeneous, heterogeneous

__all__ = ["Cells", "Heterogeneous", "anndata", "heterogeneous"]

"""Tables as observed factors: DataFrames with columns of several kinds, and AnnData with counts and covariates of cells.

``lfm.heterogeneous`` stands in the package itself, ``lfm.tables.anndata`` here.
"""

from pyro_lfm.tables.cell_table import Cells, anndata
from pyro_lfm.tables.mixed_table import Heterogeneous as Heterogeneous
from pyro_lfm.tables.mixed_table import heterogeneous as heterogeneous

__all__ = ["Cells", "anndata"]

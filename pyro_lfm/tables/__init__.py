"""DataFrames with columns of several kinds: a family for each column, and the rows as tensors and back."""

from pyro_lfm.tables.mixed_table import Heterogeneous, heterogeneous

__all__ = ["Heterogeneous", "heterogeneous"]

"""Tables of mixed columns: which distribution suits which column, and the way there and back."""

from pyro_lfm.tables.mixed_table import Heterogeneous, heterogeneous

__all__ = ["Heterogeneous", "heterogeneous"]

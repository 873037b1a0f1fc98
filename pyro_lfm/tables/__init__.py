"""Tables of mixed columns: which law suits which column, and the way there and back."""

from pyro_lfm.tables.heterogeneous import Heterogeneous, heterogeneous

__all__ = ["Heterogeneous", "heterogeneous"]

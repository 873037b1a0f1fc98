"""A fit as a page in the browser: ``explore`` serves it; extra ``app``."""

from pyro_lfm.explorer.exploring import explore
from pyro_lfm.explorer.opened_explorer import Explorer

__all__ = ["Explorer", "explore"]

"""Training under Lightning: ``lfm.lightning.Module`` is a model with its guide, ``lfm.lightning.DataModule`` its rows.

Both need the extra ``pyro_lfm[lightning]``. The namespace itself is imported without it, so that ``from pyro_lfm import *``
works in every environment.
"""

from typing import TYPE_CHECKING

import lazy_loader

if TYPE_CHECKING:
    from pyro_lfm.lightning.lightning_module import DataModule as DataModule
    from pyro_lfm.lightning.lightning_module import Module as Module

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__, submod_attrs={"lightning_module": ["DataModule", "Module"]}
)

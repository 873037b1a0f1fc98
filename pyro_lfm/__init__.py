"""Deep latent factor models, declared in a few lines and fitted by variational inference on Pyro.

Names are imported when they are first used, so that the command line answers without torch. They are listed in
``__init__.pyi``, where type checkers read them too.
"""

from importlib.metadata import version

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
__version__ = version("pyro_lfm")
del lazy_loader, version

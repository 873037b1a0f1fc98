"""A fit as a service over HTTP: ``app`` makes a FastAPI application of it, and ``run`` serves that. The extra is ``app``."""

from pyro_lfm.serving.application import app, run
from pyro_lfm.web.limits import Limits

__all__ = ["Limits", "app", "run"]

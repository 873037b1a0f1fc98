"""Inference: how a declared model is fitted to data."""

from pyro_lfm.inference.closed.em import EM
from pyro_lfm.inference.closed.variational_bayes import VariationalBayes
from pyro_lfm.inference.closed.variational_em import VariationalEM
from pyro_lfm.inference.fitted import Fit
from pyro_lfm.inference.fitting import fit
from pyro_lfm.inference.queries.imputation import Imputation
from pyro_lfm.inference.svi.checkpoint import Checkpoint
from pyro_lfm.inference.svi.svi import SVI
from pyro_lfm.inference.task import Inference

__all__ = [
    "EM",
    "SVI",
    "Checkpoint",
    "Fit",
    "Imputation",
    "Inference",
    "VariationalBayes",
    "VariationalEM",
    "fit",
]

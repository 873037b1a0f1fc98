"""Inference: how a declared model is fitted to data."""

from pyro_lfm.inference.em import EM
from pyro_lfm.inference.fit import fit
from pyro_lfm.inference.imputation import Imputation
from pyro_lfm.inference.result import Fit
from pyro_lfm.inference.svi import SVI
from pyro_lfm.inference.task import Inference
from pyro_lfm.inference.variational_bayes import VariationalBayes
from pyro_lfm.inference.variational_em import VariationalEM

__all__ = ["EM", "SVI", "Fit", "Imputation", "Inference", "VariationalBayes", "VariationalEM", "fit"]

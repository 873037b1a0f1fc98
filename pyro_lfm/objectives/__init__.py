"""Bounds on log p(x), how their gradients are taken, and what may be added to them."""

from pyro_lfm.objectives.bound import Bound
from pyro_lfm.objectives.elbo import ELBO
from pyro_lfm.objectives.importance import ImportanceWeightedELBO, RenyiELBO
from pyro_lfm.objectives.objective import Names, Objective
from pyro_lfm.objectives.penalties import MaximumMeanDiscrepancy, Penalised, Penalty, TotalCorrelation
from pyro_lfm.objectives.run import Run
from pyro_lfm.objectives.supervised import Supervised
from pyro_lfm.objectives.wake_sleep import ReweightedWakeSleep

__all__ = [
    "ELBO",
    "Bound",
    "ImportanceWeightedELBO",
    "MaximumMeanDiscrepancy",
    "Names",
    "Objective",
    "Penalised",
    "Penalty",
    "RenyiELBO",
    "ReweightedWakeSleep",
    "Run",
    "Supervised",
    "TotalCorrelation",
]

"""Bounds on log p(x), which ``lfm.SVI`` maximises, and penalties on them."""

from pyro_lfm.objectives.bound import Bound
from pyro_lfm.objectives.discrepancy import MaximumMeanDiscrepancy
from pyro_lfm.objectives.elbo import ELBO
from pyro_lfm.objectives.importance_weighted import ImportanceWeightedELBO, RenyiELBO
from pyro_lfm.objectives.objective import Names, Objective
from pyro_lfm.objectives.penalised import Penalised
from pyro_lfm.objectives.penalty import Penalty
from pyro_lfm.objectives.run import Run
from pyro_lfm.objectives.supervised import Supervised
from pyro_lfm.objectives.total_correlation import TotalCorrelation
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

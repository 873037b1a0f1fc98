"""Contract checks for parts of one's own: each lists the faults of a part in a ContractError, or is silent."""

from pyro_lfm.testing.contract import ContractError
from pyro_lfm.testing.factor_checks import check_factor, check_prior
from pyro_lfm.testing.guide_checks import check_guide
from pyro_lfm.testing.objective_checks import check_objective

__all__ = ["ContractError", "check_factor", "check_guide", "check_objective", "check_prior"]
